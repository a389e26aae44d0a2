"""Copies tables of a database into bronze, each row once, whatever is killed in between.

```
 person (database) ─▶ piece 1, piece 2, … ─▶ bronze/person     a commit each; in the same commit: copy:person = 2,
                                                               and the key behind which the next piece begins
                  at the end: count and checksum ─▶            copied:person = 2
```

A copy is complete once ``copied:`` has the number of ``copy:``. One that was killed goes on behind the last committed
piece, if the source and its columns are still the same; without a usable key it begins anew. Which tables of bronze are
copies stands in `state/copied_tables`.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, Self

import dataframely as dy
import msgspec
import polars as pl
import pyarrow as pa
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import DeltaError

from assets.stream.contract import utc
from resources.allocation import return_large_buffers
from resources.audit import audited, author, explained
from resources.background import ahead
from resources.checksum import Tally
from resources.copy_columns import copied_table
from resources.copy_source import CopyError, CopySource, Described, Key, Piece, TableName
from resources.lake import ConcurrentWriteError, Lake, LakeTable
from resources.schema import delta_schema
from resources.table import Table

NOTE = "pulselake.copy"
"""What commits of copies say of themselves, as JSON of `_Progress`."""
Outcome = Literal["copied", "empty", "kept", "failed", "stopped"]


class CopiedTableRows(dy.Schema):
    """A copy that was begun. The newest row of a table says what it holds. Key: table_name, begun_at.

    `source` is the database without a password, `source_table` the table there, `schema_json` its columns, as Delta
    writes a schema.
    """

    table_name = dy.String(primary_key=True)
    begun_at = utc()
    source = dy.String(nullable=False)
    source_table = dy.String(nullable=False)
    schema_json = dy.String(nullable=False)


COPIED_TABLES = Table(
    "state/copied_tables", CopiedTableRows, remedy="Set it aside; tables that are copied again get into a new one."
)


@dataclass(frozen=True)
class Copied:
    """What became of one table.

    Attributes:
        source_table: its name in the database.
        table: its name in the lake.
        outcome: ``copied``; ``empty`` for a table without rows; ``kept`` where a complete copy was there; ``failed``,
            with a reason; ``stopped`` where the caller asked for it.
        rows: of the copy.
        checksum: of its rows, see `resources.checksum`.
        reason: why it failed, or what is to be known of the copy.
    """

    source_table: str
    table: str
    outcome: Outcome
    rows: int = 0
    checksum: str = ""
    reason: str = ""


class _Progress(msgspec.Struct, frozen=True):
    """How far a copy is: what stands in each of its commits."""

    source: str
    table: str
    rows: int = 0
    checksum: str = Tally().checksum
    key: tuple[str, ...] = ()
    last: Key | None = None
    number: int = 0
    undated: dict[str, int] = {}

    def after(self, piece: Piece) -> "_Progress":
        """How far it is with one more piece."""
        tally = Tally(self.rows, int(self.checksum, 16))
        tally.add(piece.rows)
        undated = dict(Counter(self.undated) + piece.undated)
        return msgspec.structs.replace(
            self, rows=tally.rows, checksum=tally.checksum, last=piece.last, number=self.number + 1, undated=undated
        )

    @property
    def note(self) -> dict[str, str]:
        """What a commit says."""
        return {NOTE: msgspec.json.encode(self).decode()}


class _Ids(NamedTuple):
    """The app transactions of the last piece, and of the one with which the copy was complete."""

    copy: str
    done: str

    @classmethod
    def of(cls, table_name: str) -> Self:
        """Those of a table."""
        _, _, short = table_name.partition("/")
        return cls(f"copy:{short}", f"copied:{short}")


@dataclass
class Copier:
    """Copies tables of one database.

    Attributes:
        lake: where to.
        source: the database.
        taken: names of tables of the lake that no copy may have.
        prefix: what the names of copies begin with.
        again: whether complete copies are made anew.
        verify: whether the database is read a second time, by its plain driver, and compared.
        on_begin: told of a table and of about how many rows it has.
        on_rows: told of a table and of how many of its rows are committed.
        should_stop: asked between two pieces.
        clock: tells the time, UTC.
    """

    lake: Lake
    source: CopySource
    taken: Collection[str] = ()
    prefix: str = ""
    again: bool = False
    verify: bool = False
    on_begin: Callable[[str, int], None] = lambda table, rows: None
    on_rows: Callable[[str, int], None] = lambda table, rows: None
    should_stop: Callable[[], bool] = lambda: False
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _known: Mapping[str, Mapping[str, Any]] = field(init=False, default_factory=dict)
    _author: str = field(init=False, default="")

    def copy(self, tables: Sequence[TableName], parallel: int = 2) -> Iterator[Copied]:
        """Copies tables, some of them at the same time; one that fails stops no other.

        Returns:
            What became of each, as it ends.
        """
        return_large_buffers()
        registry = self.lake.table(COPIED_TABLES).ensure()
        with suppress(ConcurrentWriteError, DeltaError, OSError):
            # Each copy that is begun adds a file, and whoever opens SQL reads all of them.
            registry.maintain([])
        self._known = _begun(self.lake)
        # The threads do not know on whose behalf they work.
        self._author = author()
        shared = Counter(self._name(each).lower() for each in tables)
        with ThreadPoolExecutor(parallel, thread_name_prefix="copy") as pool:
            running = [pool.submit(self._audited, each, shared[self._name(each).lower()] > 1) for each in tables]
            for done in as_completed(running):
                yield done.result()

    def _name(self, table: TableName) -> str:
        """The name in the lake, which has letters, digits and underscores only, as names in SQL have."""
        return "bronze/" + re.sub(r"\W", "_", self.prefix + "_".join(filter(None, (table.schema, table.name))))

    def _audited(self, table: TableName, is_shared: bool) -> Copied:
        name = self._name(table)
        with audited(self.lake, "copy", name, source=f"{self.source.name} {table}", done_by=self._author) as entry:
            try:
                if is_shared:
                    raise CopyError(
                        f"another one of the tables would be {name} too, since the lake does not tell case and special "
                        f"characters apart; name one of them alone with --tables, and give it a --prefix"
                    )
                done = self._one(table, name)
            except BaseException as error:
                # Whatever a database, a driver or a store of files brings up: it is of this table. So is a panic of
                # Polars, deltalake or connectorx, which is no Exception, and of each a class of its own.
                if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                    raise
                done = Copied(str(table), name, "failed", reason=self.source.redacted(explained(error)))
            entry.rows_in = entry.rows_out = done.rows
            entry.checksum, entry.is_idle = done.checksum or None, done.outcome == "kept"
            entry.failure = {"failed": done.reason, "stopped": "it was stopped"}.get(done.outcome, "")
        return done

    def _one(self, source_table: TableName, name: str) -> Copied:
        if self.should_stop():
            return Copied(str(source_table), name, "stopped")
        known = self._refuse_others(source_table, name)
        ids = _Ids.of(name)
        stored = self.lake.table(copied_table(name, "", _schema(known["schema_json"]) if known else pl.Schema()))
        log = stored.transactions(ids)
        is_complete = ids.copy in log and log.get(ids.done) == log[ids.copy]
        if is_complete and not self.again:
            return Copied(str(source_table), name, "kept", stored.count(), reason="a complete copy was there already")
        described = self.source.describe(source_table)
        table = self.lake.table(copied_table(name, f"{source_table} of {self.source.name}", described.schema))
        begun = _Progress(self.source.name, str(source_table), key=described.key, number=log.get(ids.copy, 0))
        progress = None if is_complete else self._resumed(table, begun)
        progress = progress or self._begin(table, begun, ids, log.get(ids.copy))
        self.on_begin(name, described.rows)
        self.on_rows(name, progress.rows)
        # The database reads the next piece while this one is written.
        for piece in ahead(self.source.pieces(described, progress.last)):
            if self.should_stop():
                return Copied(str(source_table), name, "stopped", progress.rows)
            progress = self._commit(table, ids, piece.rows, progress, progress.after(piece))
            self.on_rows(name, piece.rows.height)
        return self._ended(table, described, ids, progress)

    def _commit(self, table: LakeTable, ids: "_Ids", rows: pl.DataFrame, old: _Progress, new: _Progress) -> _Progress:
        table.append_file(rows, transactions={ids.copy: new.number}, expected={ids.copy: old.number}, notes=new.note)
        return new

    def _ended(self, table: LakeTable, described: Described, ids: "_Ids", progress: _Progress) -> Copied:
        """Compares the copy with its source, and says in its log whether it is complete."""
        nothing = pl.DataFrame(schema=described.schema)
        if wrong := self._differences(table, described, progress):
            # Whoever copies it the next time begins anew: behind the last key there is nothing.
            spoilt = msgspec.structs.replace(progress, last=None, number=progress.number + 1)
            self._commit(table, ids, nothing, progress, spoilt)
            return Copied(progress.table, table.name, "failed", progress.rows, progress.checksum, wrong)
        done = progress.number + 1
        table.append_file(
            nothing,
            transactions={ids.copy: done, ids.done: done},
            expected={ids.copy: progress.number},
            notes=msgspec.structs.replace(progress, number=done).note,
        )
        with suppress(ConcurrentWriteError, DeltaError, OSError):
            # What is committed is copied, whatever becomes of old files.
            table.maintain()
        outcome: Outcome = "copied" if progress.rows else "empty"
        return Copied(progress.table, table.name, outcome, progress.rows, progress.checksum, _told(progress))

    def _refuse_others(self, source_table: TableName, name: str) -> Mapping[str, Any] | None:
        """What is known of a copy of this name.

        Raises:
            CopyError: the table of this name is no copy of this one.
        """
        advice = "nothing was copied; choose another name with --prefix"
        if name.lower() in {each.lower() for each in self.taken}:
            raise CopyError(f"{name} is a table of Pulselake's own; {advice}")
        if clash := [each for each in self._known if each != name and each.lower() == name.lower()]:
            raise CopyError(f"{clash[0]} is a copy already, and SQL does not tell case apart; {advice}")
        known = self._known.get(name)
        if known is None and self.lake.table(copied_table(name, "", pl.Schema())).exists():
            raise CopyError(f"{name} is there and is no copy; {advice}")
        if (
            known
            and not self.again
            and (known["source"], known["source_table"]) != (self.source.name, str(source_table))
        ):
            raise CopyError(
                f"{name} is a copy of {known['source_table']} of {known['source']}; {advice}, or replace it with "
                "--again"
            )
        return known

    def _resumed(self, table: LakeTable, begun: _Progress) -> _Progress | None:
        """How far a copy is that was begun; None if there is nothing to go on with, or if rows have another key now."""
        note = table.noted(NOTE)
        if note is None or not table.is_current():
            return None
        progress = msgspec.json.decode(note, type=_Progress)
        facts = [(each.source, each.table, each.key, each.number) for each in (progress, begun)]
        return progress if facts[0] == facts[1] and progress.last is not None else None

    def _begin(self, table: LakeTable, begun: _Progress, ids: "_Ids", number: int | None) -> _Progress:
        """Empties the table, or creates it."""
        row = {
            "table_name": table.name,
            "begun_at": self.clock(),
            "source": begun.source,
            "source_table": begun.table,
            "schema_json": delta_schema(table.table).to_json(),
        }
        registry = self.lake.table(COPIED_TABLES)
        registry.append(pl.DataFrame([row], schema=COPIED_TABLES.schema), transactions={})
        progress = msgspec.structs.replace(begun, number=begun.number + 1)
        table.create().replace(
            [],
            None,
            transactions={ids.copy: progress.number},
            expected={ids.copy: number},
            renew=True,
        )
        return progress

    def _differences(self, table: LakeTable, described: Described, progress: _Progress) -> str:
        """In what the copy differs from the source; empty if it does not."""
        stored = _tally(table.frames())
        if (stored.rows, stored.checksum) != (progress.rows, progress.checksum):
            return (
                f"{progress.rows:,} rows with checksum {progress.checksum} were read, and the lake holds "
                f"{stored.rows:,} with {stored.checksum}; copy it again"
            )
        if (count := self.source.count(described, progress.last)) != progress.rows:
            return (
                f"{progress.rows:,} rows were copied, and the source has {count:,} of them now: it was changed "
                "meanwhile; copy it again when it is quiet"
            )
        if self.verify:
            again = _tally(self.source.read_again(described, progress.last))
            if (again.rows, again.checksum) != (stored.rows, stored.checksum):
                return (
                    f"read a second time, the source has {again.rows:,} rows with checksum {again.checksum}, and the "
                    f"copy {stored.rows:,} with {stored.checksum}: it was changed meanwhile, or read wrongly; copy it "
                    "again when it is quiet"
                )
        return ""


def copied_tables(lake: Lake) -> list[Table]:
    """The copies in the lake, with the columns that they have; none where that cannot be looked up."""
    try:
        return [
            copied_table(name, f"{row['source_table']} of {row['source']}", _schema(row["schema_json"]))
            for name, row in sorted(_begun(lake).items())
        ]
    except (DeltaError, OSError):
        return []


def _begun(lake: Lake) -> dict[str, dict[str, Any]]:
    """The newest row of each copy."""
    rows = lake.table(COPIED_TABLES).scan().sort("begun_at").collect()
    return {row["table_name"]: row for row in rows.iter_rows(named=True)}


def _schema(columns: str) -> pl.Schema:
    return pl.DataFrame(pa.schema(DeltaSchema.from_json(columns).to_arrow()).empty_table()).schema


def _tally(frames: Iterable[pl.DataFrame]) -> Tally:
    tally = Tally()
    for rows in frames:
        tally.add(rows)
    return tally


def _told(progress: _Progress) -> str:
    counts = ", ".join(f"{name} {count:,}" for name, count in sorted(progress.undated.items()))
    return f"dates that the calendar does not have are null: {counts}" if counts else ""
