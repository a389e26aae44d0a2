"""The four tables of a stream and how far each has come.

A commit of a micro-batch is four Delta commits, silver last. Each carries the offsets it reaches, so a crash between
two of them shows: bronze is ahead of silver, and what lies between is processed again from bronze. A table that had
no rows need not commit: whatever silver has reached, the tables before it have too.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property

import polars as pl

from assets.stream.contract import Contract
from assets.stream.known import Known
from assets.stream.process import ORDER, POSITIONS, Outcome
from resources.lake import Lake, LakeTable

CHUNK_READINGS, CHUNK_BYTES = 100_000, 64 << 20
"""How many readings, and bytes of bodies, are read back from bronze at once; never less than one micro-batch."""
CHUNK_ALERTS = 100_000
"""How many stored alerts are published at once; never less than those of one event."""

Offsets = dict[int, int]
"""For each partition the last sequence number that a table contains."""

_CREATED_AT = "created_at"
_COMMITS = "commits"
_PUBLISHED = "published/"
_EXPIRED = "expired/"
_REPLAY = "replay_due_from"


@dataclass(frozen=True)
class Events:
    """Events in processing order; see `Processor.process`."""

    positions: pl.DataFrame
    bodies: Sequence[bytes]


class StreamStore:
    """Reads and writes one stream's tables. One writer at a time; a second one is refused by the log."""

    def __init__(self, contract: Contract, lake: Lake) -> None:
        self.contract = contract
        self.bronze, self.quarantine, self.alerts, self.silver = (lake.table(table) for table in contract.tables)
        self._log: dict[str, dict[str, int]] = {}

    @cached_property
    def tables(self) -> tuple[LakeTable, ...]:
        """In the order in which they are committed."""
        return (self.bronze, self.quarantine, self.alerts, self.silver)

    def open(self, partitions: Iterable[int] | None = None) -> None:
        """Creates the tables where they are missing and reads how far each has come; by default in all partitions."""
        if partitions is None:
            highest = self.bronze.newest("partition")
            partitions = range(0 if highest is None else highest + 1)
        ids = [self._id(_CREATED_AT), self._id(_COMMITS)]
        for partition in partitions:
            ids += [self._id(f"{what}{partition}") for what in ("", _PUBLISHED, _EXPIRED)]
        self._log = {table.name: table.ensure().transactions(ids) for table in self.tables}

    def offsets(self, table: LakeTable) -> Offsets:
        """How far a table has come by its own log and, for those committed before it, by silver's."""
        own, silver = self._offsets(table), self._offsets(self.silver)
        if table is self.bronze:
            return own
        return {partition: max(own.get(partition, -1), silver.get(partition, -1)) for partition in own | silver}

    @property
    def hub_created_at_ms(self) -> int | None:
        """When the hub that bronze was read from was created; None before the first commit."""
        return self._log[self.bronze.name].get(self._id(_CREATED_AT))

    def known(self) -> Known:
        """What silver and alerts hold, as the state of a session."""
        return Known(self.contract, self.silver.scan, self.alerts.scan, self.silver.newest("measured_at"))

    def behind(self) -> Iterator[Events]:
        """Events that are in bronze but not in silver yet, in processing order."""
        bronze, silver = self.offsets(self.bronze), self.offsets(self.silver)
        missing = [
            (pl.col("partition") == partition) & (pl.col("sequence_number") > silver.get(partition, -1))
            for partition, last in bronze.items()
            if last > silver.get(partition, -1)
        ]
        if missing:
            yield from read_events(self.bronze.scan().filter(pl.any_horizontal(missing)))

    def is_behind(self) -> bool:
        """Whether bronze holds events that silver does not."""
        return self.offsets(self.bronze) != self.offsets(self.silver)

    def complete(self, day: date) -> pl.LazyFrame:
        """Bronze of an ingest date as far as silver has come; what a session adds meanwhile is not in it."""
        reached = (
            (pl.col("partition") == partition) & (pl.col("sequence_number") <= last)
            for partition, last in self.offsets(self.silver).items()
        )
        return self.bronze.scan().filter(pl.col("ingest_date") == day, pl.any_horizontal(pl.lit(False), *reached))

    def commit(
        self,
        outcomes: Sequence[Outcome],
        *,
        are_published: Callable[[], bool] = lambda: True,
        hub_created_at_ms: int | None = None,
    ) -> None:
        """Writes what micro-batches produced; rows that a table already contains are left out.

        Args:
            outcomes: of consecutive micro-batches.
            are_published: tells whether the alerts hub took these alerts and all before them; asked, and waited for,
                before alerts are stored.
            hub_created_at_ms: the identity of the hub, where the events come from it and not from bronze.
        """
        reached = _last_by_partition(pl.concat([outcome.bronze for outcome in outcomes]))
        offsets = {self._id(partition): last for partition, last in reached.items()}
        for table in self.tables:
            rows = self.beyond(table, pl.concat([_layer(outcome, table) for outcome in outcomes]))
            new = {app_id: last for app_id, last in offsets.items() if last > self._log[table.name].get(app_id, -1)}
            if not new or (rows.is_empty() and table not in (self.bronze, self.silver)):
                continue
            dates: list[date] = []
            if table is self.bronze and hub_created_at_ms is not None:
                new[self._id(_CREATED_AT)] = hub_created_at_ms
            if table is self.alerts:
                new |= self._published(reached, are_published=are_published())
            if table is self.silver:
                dates = rows["event_date"].unique().to_list()
                # A micro-batch whose commit was interrupted may come again, and is in silver whole or not at all.
                new |= self._duplicates([each for each in outcomes if self.beyond(table, each.bronze).height])
            # Every commit names this one, so that a second writer is noticed whatever partitions it reads.
            new[self._id(_COMMITS)] = self._log[table.name].get(self._id(_COMMITS), 0) + 1
            table.append(rows, transactions=new, expected=self._log[table.name], event_dates=dates)
            # A new dictionary: `offsets` may be asked from another thread.
            self._log[table.name] = self._log[table.name] | new

    def beyond(self, table: LakeTable, rows: pl.DataFrame) -> pl.DataFrame:
        """Those of the rows that the table does not contain yet."""
        offsets = self.offsets(table)
        last = pl.col("partition").replace_strict(offsets, default=-1, return_dtype=pl.Int64) if offsets else pl.lit(-1)
        return rows.filter(pl.col("sequence_number") > last)

    def _published(self, reached: Offsets, *, are_published: bool) -> dict[str, int]:
        """Marks up to where alerts are published, with a commit that reaches so far."""
        if not are_published:
            # All before it is, also events that raised nothing; what a replay lets them raise the replay publishes.
            reached = {} if self._withheld() else self._offsets(self.silver)
        return self._unmarked(self.alerts, _PUBLISHED, reached)

    def has_unpublished(self) -> bool:
        """Whether alerts are stored that the alerts hub did not take."""
        if not self._log:
            self.open()
        return bool(self._withheld())

    def unpublished(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """Stored alerts that the alerts hub did not take: a partition, and some of its alerts in order."""
        for partition, (after, last) in self._withheld().items():
            reached = after
            while reached < last:
                alerts = self._alerts_between(partition, reached, last)
                if alerts.is_empty():
                    break
                yield partition, alerts
                reached = alerts["sequence_number"][-1]

    def _alerts_between(self, partition: int, after: int, last: int) -> pl.DataFrame:
        """Alerts of whole events, as many as are published at once, or those of one event if they are more."""
        of_partition = self.alerts.scan().filter(pl.col("partition") == partition)
        number = pl.col("sequence_number")
        ahead = of_partition.filter(number > after, number <= last).select(number).sort(number)
        cut = ahead.slice(CHUNK_ALERTS, 1).collect()
        if cut.height:
            first, following = ahead.first().collect().item(), cut.item()
            last = following - 1 if following > first else first
        return of_partition.filter(number > after, number <= last).sort(number, "event_index").collect()

    def mark_published(self, reached: Offsets | None = None) -> None:
        """Notes up to where the alerts hub took what is stored; all of it by default."""
        self._mark(self.alerts, _PUBLISHED, self._offsets(self.alerts) if reached is None else reached)

    def _withheld(self) -> dict[int, tuple[int, int]]:
        """For each partition with alerts that the alerts hub did not take: behind and up to which event they are."""
        published = self._marks(self.alerts, _PUBLISHED)
        spans = {each: (published.get(each, -1), last) for each, last in self._offsets(self.alerts).items()}
        return {partition: (after, last) for partition, (after, last) in spans.items() if after < last}

    def expired(self) -> Offsets:
        """Up to where events are known that the hub removed before they were read."""
        return self._marks(self.bronze, _EXPIRED)

    def mark_expired(self, reached: Offsets) -> None:
        """Notes up to where such events were told of."""
        self._mark(self.bronze, _EXPIRED, reached)

    def _mark(self, table: LakeTable, kind: str, reached: Offsets) -> None:
        if new := self._unmarked(table, kind, reached):
            log = self._log[table.name]
            table.append(pl.DataFrame(schema=table.table.schema), transactions=new, expected=log)
            self._log[table.name] = log | new

    def _unmarked(self, table: LakeTable, kind: str, reached: Offsets) -> dict[str, int]:
        ids = {self._id(f"{kind}{partition}"): last for partition, last in reached.items()}
        return {app_id: last for app_id, last in ids.items() if last > self._log[table.name].get(app_id, -1)}

    def _marks(self, table: LakeTable, kind: str) -> Offsets:
        prefix = self._id(kind)
        log = self._log[table.name].items()
        return {int(app_id.removeprefix(prefix)): last for app_id, last in log if app_id.startswith(prefix)}

    def last_pulled_at(self) -> datetime | None:
        """An instant that no micro-batch in bronze is later than, by at most a millisecond."""
        newest: datetime | None = self.bronze.newest("pulled_at")
        return newest and newest + timedelta(milliseconds=1)

    def replace_day(
        self,
        table: LakeTable,
        day: date,
        frames: Iterable[pl.DataFrame],
        event_dates: Iterable[date],
        duplicates: int,
        *,
        is_newest: bool,
    ) -> int:
        """Replaces a table's rows of one ingest date; refused if a session moved the table's offsets meanwhile.

        Args:
            is_newest: whether the day had a writer when its rows were read; see `is_newest`.
        """
        # Only the newest day has a writer. Naming its offsets makes Delta refuse a session that commits at the same
        # moment; naming those of a table that moves on with a later day would set them back. The raised number of
        # commits ends a running session, which remembers the rows that are replaced here.
        fence = self._log[table.name] if is_newest else {}
        raised = {self._id(_COMMITS): fence.get(self._id(_COMMITS), 0) + 1} if is_newest else {}
        is_silver = table is self.silver
        return table.replace(
            frames,
            f"ingest_date = '{day.isoformat()}'",
            transactions=fence | raised | ({self._duplicates_id(day): duplicates} if is_silver else {}),
            expected={app_id: fence.get(app_id) for app_id in fence | raised},
            event_dates=event_dates if is_silver else (),
        )

    def is_newest(self, day: date) -> bool:
        """Whether sessions may still write to an ingest date."""
        return not any(later > day for later in self.bronze.dates("ingest_date"))

    def duplicates(self, day: date) -> int:
        """How many readings that came in on a day repeat earlier ones."""
        return self.silver.transactions([self._duplicates_id(day)]).get(self._duplicates_id(day), 0)

    @property
    def replay_due_from(self) -> date | None:
        """The first ingest date of a replay that was begun and not finished."""
        found = self.quarantine.transactions([self._id(_REPLAY)]).get(self._id(_REPLAY), 0)
        return date.fromordinal(found) if found else None

    def mark_replay(self, first: date | None) -> None:
        """Notes where a replay begins, None when it is finished: killed between two days it must be found again."""
        empty = pl.DataFrame(schema=self.quarantine.table.schema)
        self.quarantine.append(empty, transactions={self._id(_REPLAY): first.toordinal() if first else 0})

    def maintain(self, day: date) -> None:
        """Keeps files and logs of the tables few."""
        for table in self.tables:
            table.maintain([("ingest_date", "=", day.isoformat())])

    def _duplicates(self, outcomes: Sequence[Outcome]) -> dict[str, int]:
        dropped = pl.concat([outcome.duplicates for outcome in outcomes]).group_by("ingest_date").sum()
        log, counts = self._log[self.silver.name], {}
        for day, count in dropped.iter_rows():
            app_id = self._duplicates_id(day)
            if app_id not in log:
                log = log | self.silver.transactions([app_id])
            counts[app_id] = log.get(app_id, 0) + count
        self._log[self.silver.name] = log
        return counts

    def _offsets(self, table: LakeTable) -> Offsets:
        prefix = self._id("")
        found = ((app_id.removeprefix(prefix), last) for app_id, last in self._log[table.name].items())
        return {int(partition): last for partition, last in found if partition.isdigit()}

    def _id(self, what: int | str) -> str:
        return f"{self.contract.stream}/{what}"

    def _duplicates_id(self, day: date) -> str:
        return self._id(f"duplicates/{day.isoformat()}")


def read_events(bronze: pl.LazyFrame) -> Iterator[Events]:
    """Events of bronze in processing order, some whole micro-batches at a time."""
    size = pl.coalesce(pl.col("body").str.len_bytes(), pl.col("body_bytes").bin.size()).cast(pl.Int64)
    count = pl.col("reading_count").sum()
    batches = bronze.group_by("pulled_at").agg(count, size.sum().alias("bytes")).sort("pulled_at")
    for first, last in _chunks(batches.collect(engine="streaming")):
        rows = bronze.filter(pl.col("pulled_at").is_between(first, last)).sort(ORDER).collect()
        bodies = rows.select(pl.coalesce("body_bytes", pl.col("body").cast(pl.Binary))).to_series().to_list()
        yield Events(rows.select(POSITIONS.names()), bodies)


def _chunks(batches: pl.DataFrame) -> Iterator[tuple[datetime, datetime]]:
    held: list[datetime] = []
    readings = size = 0
    for pulled_at, count, bytes_ in batches.iter_rows():
        if held and (readings + count > CHUNK_READINGS or size + bytes_ > CHUNK_BYTES):
            yield held[0], held[-1]
            held, readings, size = [], 0, 0
        held.append(pulled_at)
        readings, size = readings + count, size + bytes_
    if held:
        yield held[0], held[-1]


def _layer(outcome: Outcome, table: LakeTable) -> pl.DataFrame:
    frame: pl.DataFrame = getattr(outcome, table.table.layer)
    return frame


def _last_by_partition(events: pl.DataFrame) -> Offsets:
    return dict(events.group_by("partition").agg(pl.col("sequence_number").max()).iter_rows())
