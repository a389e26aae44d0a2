"""The tables of a stream: what is read from them and committed to them, and in which order.

To commit micro-batches is to make one Delta commit for each table, silver's last. Each Delta commit carries the offsets
that it reaches (`log`). So a crash between two of them can be seen: bronze is ahead of silver, and the next session
processes the events in between from bronze. Quarantine and alerts make no commit where they have no new rows, since
silver's offsets count for them too.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple

import polars as pl

from assets.alarms.episodes import Episodes
from assets.alarms.given import ANY, NEVER, Place, Seen
from assets.alarms.tables import WATCHED_FOR
from assets.day import slot
from assets.stream.alarming import Alarming, Folded, furthest, measurements
from assets.stream.alarming import stored as stored_rows
from assets.stream.alerting import Alerting
from assets.stream.cleaning import POSITIONS
from assets.stream.contract import Alarms, Contract, Output
from assets.stream.decode import Body, body_size
from assets.stream.enrichment import References
from assets.stream.known import Known
from assets.stream.log import (
    ACTIONS,
    EXPIRED,
    FOLDS,
    REPLACED,
    REPLAY,
    SILENT,
    SNAPSHOT,
    TOLD,
    HubPartition,
    Offsets,
    StreamLog,
    hub_epoch,
    is_beyond,
    is_in,
)
from assets.stream.process import ORDER, Outcome
from assets.stream.waiting import WaitingAlerts
from resources.copies import Copies
from resources.event_source import HubState
from resources.lake import ConcurrentWriteError, Lake, LakeTable

_ATTEMPTS = 10
SEEN_BEFORE = timedelta(minutes=10)
"""How much further back than a silence who was seen is looked for at a start."""
CHUNK_READINGS, CHUNK_BYTES = 100_000, 64 << 20
"""How many readings, and bytes of bodies, are read back from bronze at once; never less than one micro-batch."""


@dataclass(frozen=True)
class Events:
    """Events in processing order; see `Processor.process`."""

    positions: pl.DataFrame
    bodies: Sequence[Body]


class Delivery(NamedTuple):
    """What hubs did: whether that of alerts took all of them, how many it will never take, and the last step told."""

    is_published: bool
    set_aside: int = 0
    told: int = 0


class Remembered(NamedTuple):
    """What a session knows of what the tables hold, up to which offsets, and how often rows were replaced by then."""

    known: Known
    reached: Offsets
    replacements: int


class StreamStore:
    """Reads and writes one stream's tables. One writer at a time; a second one is refused by the log.

    Args:
        contract: the stream.
        lake: where its tables are.
        derived: where the tables but bronze are, if not in the same lake.
    """

    def __init__(self, contract: Contract, lake: Lake, derived: Lake | None = None) -> None:
        self.contract = contract
        self.log = StreamLog(contract, lake, derived)
        self.waiting = WaitingAlerts(self.log)
        self.bronze, self.silver = self.log.tables["bronze"], self.log.tables["silver"]
        self.quarantine, self.alerts = self.log.tables["quarantine"], self.log.tables["alerts"]

    @property
    def tables(self) -> Mapping[str, LakeTable]:
        """By role, in the order in which they are committed."""
        return self.log.tables

    def open(self, partitions: Iterable[int] | None = None) -> None:
        """Creates the tables where they are missing and reads how far each has come; by default in all partitions.

        Raises:
            SchemaError: a table has columns that the contract does not allow for.
        """
        for table in self.tables.values():
            table.ensure()
        self.look(partitions)

    def look(self, partitions: Iterable[int] | None = None, roles: Collection[str] | None = None) -> None:
        """Reads how far each table has come, or those of some roles. It creates no table."""
        # Rows of bronze may be gone that silver still has.
        highest = [table.newest("partition") for table in (self.bronze, self.silver)]
        known = range(max((each + 1 for each in highest if each is not None), default=0))
        self.log.read(known if partitions is None else {*known, *partitions}, roles)

    def offsets(self, role: str) -> Offsets:
        """How far a table has come by its own log and, for those committed before it, by silver's."""
        return self.log.offsets(role)

    def of_hub(self, offsets: Offsets) -> dict[int, int]:
        """Those offsets that belong to the hub that the stream is read from now, by partition."""
        return {each.number: last for each, last in offsets.items() if each.epoch == self.log.epoch}

    def of_stream(self, partitions: Mapping[int, int]) -> Offsets:
        """Sequence numbers of the hub that the stream is read from now, as offsets."""
        return {HubPartition(self.log.epoch, number): last for number, last in partitions.items()}

    def remembered(self, reach: timedelta = timedelta(0)) -> "Remembered":
        """What a session must know of what the tables hold, as far as silver has come by the log that was read last.

        Args:
            reach: how far back from a reading its windows are likely to look.
        """
        reached, newest = self.offsets("silver"), self.silver.newest("measured_at")
        known = Known(self.contract, self.silver.scan, self.alerts.scan, newest, ~is_beyond(reached), reach)
        return Remembered(known, reached, self.log.replacements)

    def refreshed(self, before: "Remembered", reach: timedelta = timedelta(0)) -> "Remembered":
        """The same with what another session has committed since; read anew where rows were replaced."""
        if self.log.replacements != before.replacements:
            return self.remembered(reach)
        reached = self.offsets("silver")
        if reached != before.reached:
            is_new = between(before.reached, reached)
            before.known.add(*(self.tables[role].scan().filter(is_new).collect() for role in ("silver", "alerts")))
            before.known.mark_stored()
        return Remembered(before.known, reached, before.replacements)

    def behind(self) -> Iterator[Events]:
        """Events that are in bronze but not in silver yet, in processing order."""
        if self.is_behind():
            missing = between(self.offsets("silver"), self.offsets("bronze"))
            yield from read_events(self.bronze.scan().filter(missing))

    def is_behind(self) -> bool:
        """Whether bronze holds events that silver does not."""
        return self.offsets("bronze") != self.offsets("silver")

    def older_events_behind(self) -> int:
        """How many events of earlier hubs bronze holds that silver does not, at most."""
        silver = self.offsets("silver")
        older = ((at, last) for at, last in self.offsets("bronze").items() if at.epoch < self.log.epoch)
        return sum(max(0, last - silver.get(at, -1)) for at, last in older)

    def complete(self, day: date) -> pl.LazyFrame:
        """Bronze of an ingest date as far as silver has come; what a session adds meanwhile is not in it."""
        return self.bronze.scan().filter(pl.col("ingest_date") == day, between({}, self.offsets("silver")))

    def commit(
        self,
        outcomes: Sequence[Outcome],
        *,
        delivery: Callable[[], Delivery] = lambda: Delivery(is_published=True),
        hub: HubState | None = None,
    ) -> None:
        """Writes what micro-batches produced; rows that a table already contains are left out.

        Args:
            outcomes: of consecutive micro-batches.
            delivery: tells what the alerts hub did with these alerts; asked, and waited for, before they are stored.
            hub: where the events come from, if not from bronze.
        """
        reached = _last_by_partition(pl.concat([outcome.bronze for outcome in outcomes]))
        for output in self.contract.outputs:
            rows = pl.concat([outcome.rows[output.role] for outcome in outcomes])
            marks: dict[str, int] = {}
            if output.role == "alerts" and rows.height:
                marks = self._delivered(reached, rows["ingest_date"][-1], delivery())
            if output.role == "alarms":
                self._append_alarms([each.alarms for each in outcomes if each.alarms is not None], reached, delivery)
                continue
            if output.role == "silver":
                # A micro-batch may come again after an interrupted commit. Silver has all of it or nothing.
                marks = self._counted([each for each in outcomes if self.beyond("silver", each.bronze).height])
            self._append(output, rows, reached, marks, hub)

    def _append_alarms(self, folded: Sequence[Folded], reached: Offsets, delivery: Callable[[], Delivery]) -> None:
        """Writes what happened to alarms; steps that the table has are left out, since a commit may be tried again."""
        log, stored = self.log, self.log.step(FOLDS)
        new = [each.after(stored) for each in folded if each.fold > stored or each.actions]
        rows = stored_rows(new, self.contract.stream)
        snapshots = [each.snapshot for each in new if each.snapshot is not None]
        actions = {at: last for each in new for at, last in each.actions.items()}
        silent = furthest(each.silent for each in new)
        for each in new:
            # What the reader of actions knows of this log; whoever reads it anew does not ask for it.
            known = log.numbered(ACTIONS, dict(each.actions_before))
            log.note("alarms", {app_id: last for app_id, last in known.items() if app_id not in log.of("alarms")})
        if rows.is_empty() and not snapshots and not actions:
            return
        steps = {FOLDS: max(stored, *(each.fold for each in new))}
        steps |= {SNAPSHOT: snapshots[-1]} if snapshots else {}
        steps |= {TOLD: max(log.step(TOLD), min(delivery().told, steps[FOLDS]))}
        marks = {log.id(name): step for name, step in steps.items()} | log.numbered(ACTIONS, actions)
        marks |= log.reaching("alarms", silent, SILENT)
        marks |= log.reaching("alarms", reached) | log.next_commit("alarms")
        self.alarms.append(rows, transactions=marks, expected=log.of("alarms"))
        log.note("alarms", marks)

    @property
    def alarms(self) -> LakeTable:
        """What happened to alarms; only of streams that have some."""
        return self.log.tables["alarms"]

    def open_alarms(self, references: References | None = None) -> Alarming | None:
        """The alarms that are open, as the table was when its log was read last; None if the stream has none.

        Args:
            references: where rules are data, after which time an entity is silent follows from them.
        """
        alarms = self.contract.alarms
        if alarms is None:
            return None
        log = self.log
        episodes = Episodes(self.contract.stream, log.step(FOLDS))
        episodes.restore(self.alarms.scan().filter(pl.col("fold") >= log.step(SNAPSHOT)).collect())
        if (oldest := episodes.oldest) is not None:
            acted = self.alarms.scan().filter(~pl.col("is_update"), pl.col("ingest_date") >= oldest.date())
            episodes.know(acted.select(pl.col("action_id").drop_nulls()).collect().to_series())
        episodes.watch(self._seen(alarms, references))
        return Alarming(self.contract, episodes, self.offsets("alarms") if self.is_behind() else None)

    def _seen(self, alarms: Alarms, references: References | None) -> Iterator[Seen]:
        """Who was seen lately, by silver as far as it has come."""
        newest = self.silver.newest("received_at")
        if newest is None:
            return
        contract, received = self.contract, pl.col("received_at")
        alerting = Alerting(contract, references)
        limits = alerting.limits
        longest = max((each.after for each in limits.silences if each is not None), default=0)
        reach = min(timedelta(microseconds=longest), WATCHED_FOR) + SEEN_BEFORE
        max_age = timedelta(microseconds=int(limits.max_ages.max())) if contract.rules else alarms.max_age
        is_fresh = received - pl.col("measured_at") <= max_age
        order = ["received_at", "partition", "sequence_number", "event_index"]
        place = [pl.col(name).fill_null(0).sort_by(order) for name in Place._fields]
        fresh = [each.filter(is_fresh.sort_by(order)).last() for each in place]
        of_place = zip(Place._fields, fresh, place, strict=True)
        measured_at = pl.col("measured_at").sort_by(order)
        of_contact = pl.coalesce(measured_at.filter(is_fresh.sort_by(order)).last(), measured_at.first())
        time, measured = pl.min_horizontal("measured_at", "received_at"), measurements(contract)
        has_value = {ANY: is_fresh} | {name: is_fresh & pl.col(name).is_not_null() for name in measured}
        seen = (
            self.silver.scan()
            .filter(received > newest - reach, ~is_beyond(self.offsets("silver")))
            .group_by(contract.entity)
            .agg(
                pl.coalesce(received.filter(is_fresh).max(), received.min()),
                *(pl.coalesce(last, each.first()).alias(name) for name, last, each in of_place),
                *(time.filter(has).max().to_physical().alias(f"newest of {name}") for name, has in has_value.items()),
                of_contact.alias("measured_at"),
            )
            .collect()
        )
        held = alerting.silences(seen.with_columns(pulled_at="received_at"))
        told = self.log.marks("alarms", SILENT)
        rows = seen.drop("measured_at").with_columns(received.to_physical()).iter_rows()
        for (entity, received_at, *numbers), silence in zip(rows, held, strict=True):
            at, times = Place(*numbers[: len(Place._fields)]), numbers[len(Place._fields) :]
            until = told.get(HubPartition(at.hub_epoch, at.partition), NEVER)
            is_told = silence is not None and received_at + silence.after <= until
            known = {name: each for name, each in zip(has_value, times, strict=True) if each is not None}
            yield Seen(entity, known, received_at, at, silence, is_told)

    def commit_bronze(self, bronze: pl.DataFrame, hub: HubState | None) -> None:
        """Writes events that could not be processed: a later session processes them from bronze."""
        output = self.contract.outputs[0]
        self._append(output, bronze, _last_by_partition(bronze), {}, hub)

    def _append(
        self, output: Output, rows: pl.DataFrame, reached: Offsets, marks: Mapping[str, int], hub: HubState | None
    ) -> None:
        log, role = self.log, output.role
        rows = self.beyond(role, rows)
        new = log.reaching(role, reached)
        if not new or (rows.is_empty() and not output.is_every_commit):
            return
        if role == "bronze" and hub is not None:
            new |= log.of_hub(hub, log.epoch)
        new |= dict(marks) | log.next_commit(role)
        slots = _event_slots(rows) if output.names_event_dates else {}
        self.tables[role].append(rows, transactions=new, expected=log.of(role), event_dates=slots, event_slots=slots)
        log.note(role, new)

    def beyond(self, role: str, rows: pl.DataFrame) -> pl.DataFrame:
        """Those of the rows that a table does not contain yet."""
        return rows.filter(is_beyond(self.offsets(role)))

    def _delivered(self, reached: Offsets, day: date, delivery: Delivery) -> dict[str, int]:
        marks = self.waiting.passed(reached, are_published=delivery.is_published)
        if delivery.set_aside:
            marks |= self._raised_count("alerts", self.log.set_aside_id(day), delivery.set_aside)
        return marks

    def has_unpublished(self) -> bool:
        """Whether alerts are stored that the alerts hub did not take."""
        if not self.log.is_read:
            self.look()
        return bool(self.waiting)

    def expired(self) -> Offsets:
        """The last event of each partition that the hub is known to have removed before it was read."""
        return self.log.marks("bronze", EXPIRED)

    def mark_expired(self, reached: Offsets) -> None:
        """Notes up to which event such events were reported."""
        self.log.set("bronze", self.log.reaching("bronze", reached, EXPIRED))

    def last_pulled_at(self) -> datetime | None:
        """An instant that no micro-batch in bronze is later than, by at most a millisecond."""
        newest: datetime | None = self.bronze.newest("pulled_at")
        return newest and newest + timedelta(milliseconds=1)

    def replace_day(
        self,
        role: str,
        day: date,
        rows: LakeTable,
        copies: Copies,
        event_dates: Iterable[date],
        duplicates: int,
        skipped: int,
        *,
        is_newest: bool,
    ) -> None:
        """Replaces a table's rows of one ingest date; refused if a session moved the table's offsets meanwhile.

        Args:
            role, day: which rows.
            rows: the table that holds the new ones, and no others.
            copies: of its files.
            event_dates: of the old rows and of the new ones.
            duplicates: how many readings of the day were dropped as repeats.
            skipped: how many records of other systems are no readings.
            is_newest: whether the day had a writer when its rows were read; see `is_newest`.
        """
        # Only the newest day has a writer. Naming its offsets makes Delta refuse a session that commits at the same
        # moment; naming those of a table that moves on with a later day would set them back. The raised number of
        # commits ends a session that does not know of turns, and remembers the rows that are replaced here.
        fence = self.log.of(role) if is_newest else {}
        raised = self.log.next_commit(role) if is_newest else {}
        marks: dict[str, int] = {}
        if role == "silver":
            marks = self.log.next_replacement(day) | {
                self.log.duplicates_id(day): duplicates,
                self.log.skipped_id(day): skipped,
            }
        elif role == "alerts":
            # Whoever reads both tables notices by it that alerts follow silver.
            marks = {self.log.id(REPLACED): self.log.replacements}
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self.tables[role].adopt(
                    rows,
                    copies,
                    partition=("ingest_date", day.isoformat()),
                    transactions=fence | raised | marks,
                    expected={app_id: fence.get(app_id) for app_id in fence | raised},
                    event_dates=event_dates if self._names_event_dates(role) else (),
                )
                if role == "silver":
                    self.log.note(role, marks)
                return
            except ConcurrentWriteError:
                # A session that writes to a later day does not mind, but it may be faster.
                if is_newest or attempt == _ATTEMPTS:
                    raise

    def _names_event_dates(self, role: str) -> bool:
        return any(output.names_event_dates for output in self.contract.outputs if output.role == role)

    def is_newest(self, day: date) -> bool:
        """Whether sessions may still write to an ingest date."""
        return not any(later > day for later in self.bronze.dates("ingest_date"))

    def duplicates(self, day: date) -> int:
        """How many readings that came in on a day repeat earlier ones."""
        return self._count("silver", self.log.duplicates_id(day))

    def skipped(self, day: date) -> int:
        """How many records that came in on a day are no readings."""
        return self._count("silver", self.log.skipped_id(day))

    def set_aside(self, day: date) -> int:
        """How many alerts of a day the alerts hub will never take, for instance since they are too large."""
        return self._count("alerts", self.log.set_aside_id(day))

    @property
    def replay_due_from(self) -> date | None:
        """The first ingest date of a replay that was begun and not finished."""
        found = self._count("quarantine", self.log.id(REPLAY))
        return date.fromordinal(found) if found else None

    def mark_replay(self, first: date | None) -> None:
        """Notes the day from which a replay is due, None when it is finished: a killed replay must be found again."""
        empty = pl.DataFrame(schema=self.quarantine.table.schema)
        self.quarantine.append(empty, transactions={self.log.id(REPLAY): first.toordinal() if first else 0})

    def maintain(self, day: date) -> None:
        """Keeps the files and log entries of the tables few; see `LakeTable.maintain`."""
        for table in self.tables.values():
            if table.exists():
                table.maintain([("ingest_date", "=", day.isoformat())])
        if "alarms" in self.tables and self.alarms.exists():
            self._drop_old_updates(day)

    def _drop_old_updates(self, day: date) -> None:
        """Removes what open alarms came to on earlier days, as far as no start reads it any more."""
        needed = self.alarms.scan().filter(pl.col("fold") >= self.log.step(SNAPSHOT))
        first = needed.select(pl.col("ingest_date").min()).collect().item() or day
        kept_from = min(first, day - timedelta(days=1))
        files = self.alarms.files()
        is_old = pl.col("is_update") & (pl.col("ingest_date") < kept_from)
        if files.height and not files.filter(is_old).is_empty():
            self.alarms.drop(f"is_update = true AND ingest_date < '{kept_from.isoformat()}'")

    def _counted(self, outcomes: Sequence[Outcome]) -> dict[str, int]:
        """The counts in silver's log of what has no row in any table, raised by those of micro-batches."""
        if not outcomes:
            return {}
        counts: dict[str, int] = {}
        for frames, id_of in (
            ([outcome.duplicates for outcome in outcomes], self.log.duplicates_id),
            ([outcome.skipped for outcome in outcomes], self.log.skipped_id),
        ):
            for day, count in pl.concat(frames).group_by("ingest_date").sum().iter_rows():
                counts |= self._raised_count("silver", id_of(day), count)
        return counts

    def _raised_count(self, role: str, app_id: str, count: int) -> dict[str, int]:
        """A count in a table's log, raised; what is known of the log then contains it, so that a commit compares it."""
        if app_id not in self.log.of(role):
            self.log.note(role, self.tables[role].transactions([app_id]))
        return {app_id: self.log.of(role).get(app_id, 0) + count}

    def _count(self, role: str, app_id: str) -> int:
        return self.tables[role].transactions([app_id]).get(app_id, 0)


def read_events(bronze: pl.LazyFrame) -> Iterator[Events]:
    """Events of bronze in processing order, some whole micro-batches at a time."""
    count = pl.col("reading_count").sum()
    batches = bronze.group_by("pulled_at").agg(count, body_size.sum().alias("bytes")).sort("pulled_at")
    for first, last in _chunks(batches.collect(engine="streaming")):
        yield events_of(bronze.filter(pl.col("pulled_at").is_between(first, last)))


def events_of(bronze: pl.LazyFrame) -> Events:
    """Events of bronze in processing order, all at once."""
    rows = bronze.with_columns(hub_epoch).sort(ORDER).collect()
    bodies = rows.select(pl.coalesce("body_bytes", pl.col("body").cast(pl.Binary))).to_series().to_list()
    return Events(rows.select(POSITIONS.names()), bodies)


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


def between(after: Offsets, to: Offsets) -> pl.Expr:
    """Whether a row's event lies behind the first offsets and not behind the second ones."""
    spans = ((partition, after.get(partition, -1), last) for partition, last in to.items())
    return pl.any_horizontal(
        pl.lit(False), *(is_in(partition, after=first, to=last) for partition, first, last in spans if last > first)
    )


def _last_by_partition(events: pl.DataFrame) -> Offsets:
    last = events.group_by(hub_epoch, "partition").agg(pl.col("sequence_number").max())
    return {HubPartition(epoch, number): sequence for epoch, number, sequence in last.iter_rows()}


def _event_slots(rows: pl.DataFrame) -> dict[date, list[int]]:
    """The slots in which rows were measured, by event date."""
    return dict(rows.select("event_date", slot()).unique().group_by("event_date").agg("slot").iter_rows())
