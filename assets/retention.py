"""Archives ingest dates whose time is over, and removes their rows from a stream's tables.

```
 the date's files ──▶ Parquet, manifest ──▶ read back ──▶ record "prepared" ──▶ removed ──▶ record "deleted"
 at one version       (`Archive.write`)     (`verify`)    (audit/retention)    one commit
```

A run that was killed anywhere is made up for by the next one: an archive of the same rows is used again, files that no
manifest names are removed, and a removal whose record is missing is recorded. What follows for others is in
`assets.archived`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

import polars as pl

from assets.archived import DELETED, PREPARED, RESTORED, ArchivedError, Record, add_record, archived, records
from assets.stream.contract import Contract
from assets.stream.log import REDERIVED, is_beyond
from assets.stream.store import StreamStore
from resources.archive import Archive, Archived, ArchiveError
from resources.checksum import Tally
from resources.lake import Lake, LakeTable, SchemaError
from resources.parts import Part

RESTORED_FOR = timedelta(days=14)
"""How long rows that were put back stay, whatever their age."""
UNFINISHED_FOR = timedelta(days=1)
"""An archive that no rows were deleted for is kept this long: another run may be about to use it."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Due:
    """Rows whose time is over."""

    table: LakeTable
    role: str
    day: date
    rows: int


@dataclass(frozen=True)
class Retired:
    """What was removed."""

    table: str
    day: date
    rows: int
    manifest: str | None


@dataclass
class _Seen:
    """What is recorded of rows besides their number and checksum."""

    readings: int | None = None
    event_dates: set[date] | None = field(default=None)

    def of(self, frames: Iterator[pl.DataFrame], role: str) -> Iterator[pl.DataFrame]:
        self.readings = 0 if role == "bronze" else None
        self.event_dates = set() if role in ("silver", "alerts") else None
        for rows in frames:
            if self.readings is not None:
                self.readings += int(rows["reading_count"].sum())
            if self.event_dates is not None:
                self.event_dates.update(rows["event_date"].unique())
            yield rows


class Retention:
    """Retention of one stream's tables.

    Args:
        contract: the stream.
        lake: where its tables are.
        archive: where rows go before they are removed; None removes them without an archive.
        keep_days: by layer, or by table where that differs; what is not named is kept.
        clock: tells the time.
    """

    def __init__(
        self,
        contract: Contract,
        lake: Lake,
        archive: Archive | None,
        keep_days: Mapping[str, int],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = StreamStore(contract, lake)
        # Of things with versions, an old row says what a new one replaces.
        self._needs_all_of_silver = bool(contract.versions)
        self._lake, self._archive, self._keep, self._now = lake, archive, keep_days, clock

    def due(self) -> list[Due]:
        """What is to be removed, the oldest dates first; never of the newest ingest date of the stream."""
        days = self._store.bronze.dates("ingest_date")
        found = []
        for role, table in self._store.tables.items():
            keep = self._keep.get(table.name, self._keep.get(table.table.layer))
            if keep is None or not days or (table.table.layer == "silver" and self._needs_all_of_silver):
                continue
            until = min(self._now().date() - timedelta(days=keep), days[-1] - timedelta(days=1))
            restored = self._restored(table.name)
            for day in table.dates("ingest_date"):
                if day <= until and day not in restored:
                    found.append(Due(table, role, day, table.part("ingest_date", day).rows))
        return sorted(found, key=lambda each: (each.day, each.table.name))

    def held(self, due: Due) -> str | None:
        """Why rows must stay for now; None if they may go."""
        store, stream = self._store, self._store.contract.stream
        store.look()
        if store.log.of("bronze").get(store.log.id(REDERIVED)):
            return f"`pulselake rederive {stream}` was begun and is not finished"
        if due.role in ("bronze", "quarantine") and store.replay_due_from:
            return f"`pulselake replay {stream}` was begun and is not finished"
        if due.role == "alerts" and store.has_unpublished():
            return "alerts wait for the alerts hub"
        if due.role == "bronze" and self._is_unprocessed(due.day):
            return f"events of this date are not processed yet (`pulselake drain {stream}`)"
        return None

    def retire(self, due: Due) -> Retired:
        """Archives the rows of one date that are not held, reads the archive back, and removes them.

        Raises:
            ArchiveError: the archive is not what was written; nothing was removed.
            ConcurrentWriteError: the rows changed meanwhile; nothing was removed. The next run archives them again.
        """
        part, seen = due.table.part("ingest_date", due.day), _Seen()
        if self._archive is None:
            kept = None
            rows, checksum = self._counted(due, part, seen)
        else:
            kept = self._archived(self._archive, due, part, seen)
            rows, checksum = kept.manifest.rows, kept.manifest.checksum
        record = Record(
            table_name=due.table.name,
            ingest_date=due.day,
            step=PREPARED,
            at=self._now(),
            delta_id=part.delta_id,
            delta_version=part.version,
            rows=rows,
            checksum=checksum,
            readings=seen.readings,
            archive=self._archive.root if self._archive else None,
            manifest=kept.path if kept else None,
            manifest_sha256=kept.sha256 if kept else None,
            event_dates=None if seen.event_dates is None else tuple(sorted(seen.event_dates)),
        )
        add_record(self._lake, record)
        fence = self._fence(due)
        marks = {app_id: version or 0 for app_id, version in fence.items()} | {_removed_id(due.day): part.version}
        due.table.remove(part, transactions=marks, expected=fence)
        add_record(self._lake, replace(record, step=DELETED, at=self._now()))
        return Retired(due.table.name, due.day, rows, record.manifest)

    def finish(self) -> int:
        """Records removals that a killed run did not record.

        Returns:
            How many there were.
        """
        missing = 0
        for table in self._store.tables.values():
            steps = records(self._lake, table.name)
            done = {each.what for each in steps if each.step == DELETED}
            open_ = {each.what: each for each in steps if each.step == PREPARED and each.what not in done}
            for record in open_.values():
                app_id = _removed_id(record.ingest_date)
                is_removed = table.transactions([app_id]).get(app_id) == record.delta_version
                if is_removed and table.id() == record.delta_id:
                    add_record(self._lake, replace(record, step=DELETED, at=self._now()))
                    missing += 1
        return missing

    def _archived(self, archive: Archive, due: Due, part: Part, seen: _Seen) -> Archived:
        name = due.table.name
        archive.sweep(name, due.day)
        earlier = archive.manifests(name, due.day)
        kept = self._same(archive, due, part, seen, earlier) if earlier else None
        if kept is None:
            kept = archive.write(name, part, self._now(), seen.of(part.frames(), due.role))
            archive.verify(kept)
        named = {each.manifest for each in records(self._lake, name) if each.step == DELETED}
        for each in earlier:
            is_unused = each.path not in named and each.manifest.archived_at < self._now() - UNFINISHED_FOR
            if each.path != kept.path and is_unused:
                archive.discard(each)
        return kept

    def _same(
        self, archive: Archive, due: Due, part: Part, seen: _Seen, earlier: Sequence[Archived]
    ) -> Archived | None:
        """An intact archive of the same rows, of a run that was killed or of rows that were put back since."""
        counted = self._counted(due, part, seen)
        columns = {each: str(type_) for each, type_ in part.schema.items()}
        for each in earlier:
            found = each.manifest
            if (found.rows, found.checksum) == counted and found.columns == columns:
                with suppress(ArchiveError):
                    archive.verify(each)
                    return each
        return None

    def _counted(self, due: Due, part: Part, seen: _Seen) -> tuple[int, str]:
        tally = Tally()
        for rows in seen.of(part.frames(), due.role):
            tally.add(rows)
        return tally.rows, tally.checksum

    def _fence(self, due: Due) -> dict[str, int | None]:
        """What another writer would move that needs these rows: Delta refuses whoever comes second."""
        ids = [_removed_id(due.day)]
        known = due.table.transactions(ids)
        fence: dict[str, int | None] = {app_id: known.get(app_id) for app_id in ids}
        if due.role == "bronze":
            app_id = self._store.log.id(REDERIVED)
            fence[app_id] = self._store.log.of("bronze").get(app_id)
        return fence

    def _is_unprocessed(self, day: date) -> bool:
        beyond = self._store.bronze.scan().filter(
            pl.col("ingest_date") == day, is_beyond(self._store.offsets("silver"))
        )
        return bool(beyond.select(pl.len()).collect(engine="streaming").item())

    def _restored(self, name: str) -> set[date]:
        steps = records(self._lake, name)
        return {each.ingest_date for each in steps if each.step == RESTORED and each.at > self._now() - RESTORED_FOR}


@dataclass(frozen=True)
class Verified:
    """What was found of one archive that rows were deleted for; `problem` is empty if it is intact."""

    record: Record
    problem: str


def verify(lake: Lake, archive: Archive) -> Iterator[Verified]:
    """Compares the archives of all deleted rows with their manifests, and these with what the lake recorded."""
    deleted = {each.manifest: each for each in records(lake) if each.step == DELETED and each.manifest}
    for record in deleted.values():
        try:
            archive.verify(_loaded(archive, record))
            problem = ""
        except ArchiveError as error:
            problem = str(error)
        yield Verified(record, problem)


def restore(lake: Lake, archive: Archive, table: LakeTable, day: date, now: datetime) -> Record:
    """Puts archived rows back where retention removed them; they stay for `RESTORED_FOR`.

    Raises:
        ArchivedError: there is nothing to put back, or the date has rows.
        ArchiveError: the archive is not what was recorded.
        SchemaError: the archive has columns that the contract does not have, or of another type.
    """
    steps = [each for each in records(lake, table.name) if each.ingest_date == day]
    deleted = [each for each in steps if each.step == DELETED and each.manifest]
    if not deleted:
        raise ArchivedError(f"{table.name}: no archive of {day} is recorded, so nothing was put back.")
    if day not in archived(lake, table):
        raise ArchivedError(f"{table.name}: {day} has rows, so nothing was put back.")
    record = deleted[-1]
    found = _loaded(archive, record)
    archive.verify(found)
    table.ensure()
    fits = (_fitting(table, rows) for rows in _read_by_another_thread(archive.frames(found)))
    table.replace(fits, f"ingest_date = '{day.isoformat()}'", event_dates=record.event_dates or ())
    done = replace(record, step=RESTORED, at=now)
    add_record(lake, done)
    return done


def check_names(keep_days: Mapping[str, int], tables: Sequence[str]) -> None:
    """Refuses settings for tables that are not there.

    Raises:
        ArchivedError: the message names them.
    """
    layers = {name.partition("/")[0] for name in tables}
    if unknown := sorted(keep_days.keys() - layers - {*tables}):
        raise ArchivedError(
            f"PULSELAKE_KEEP_DAYS names {', '.join(unknown)}, which is no layer or table that rows expire in; nothing "
            f"was done. There are {', '.join((*sorted(layers), *tables))}."
        )


def _loaded(archive: Archive, record: Record) -> Archived:
    assert record.manifest is not None
    found = archive.load(record.manifest)
    is_same = (found.manifest.rows, found.manifest.checksum) == (record.rows, record.checksum)
    if found.sha256 != record.manifest_sha256 or not is_same:
        raise ArchiveError(
            f"Archive {archive.root}: {record.manifest} is not the manifest that the lake recorded. Nothing was read "
            "from it. Restore the file from a copy, or find out who changed it."
        )
    return found


def _read_by_another_thread(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """While deltalake waits for rows, its own thread can open no file of a store."""
    with ThreadPoolExecutor(1) as reader:
        while (rows := reader.submit(next, frames, None).result()) is not None:
            yield rows


def _fitting(table: LakeTable, rows: pl.DataFrame) -> pl.DataFrame:
    schema = table.table.schema
    other = [name for name, type_ in rows.schema.items() if schema.get(name) != type_]
    if other:
        raise SchemaError(
            f"{table.name}: the archive has {', '.join(other)}, which the contract does not have with this type. "
            "Nothing was put back; read the Parquet files themselves, or bring the contract back to these columns."
        )
    absent = [pl.lit(None, schema[name]).alias(name) for name in schema if name not in rows.columns]
    return rows.with_columns(absent).select(schema.names())


def _removed_id(day: date) -> str:
    return f"retention/{day.isoformat()}"
