"""Loads sources of batches: source ─▶ landing ─▶ bronze, each row once, whatever is killed in between.

```
 landing/ehr/…/00000007-….parquet     what came, as it came
 state/ehr                            run 7, follows run 6, with the cursor behind it
 bronze/ehr                           the rows, and in the same commit: this table holds run 7
```

At the start bronze's log says which run it holds; that run's row of the state has the cursor. A run that was killed
before its commit to bronze left a file and a row of the state that nothing refers to, and its rows are pulled again.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple
from uuid import uuid4

import polars as pl
import pyarrow as pa
from deltalake.exceptions import DeltaError, TableNotFoundError

from assets.clinical.contract import (
    DEFECTS,
    LOAD_COLUMNS,
    QUARANTINED_LOADS,
    Batch,
    Conformed,
    bronze_table,
    conform,
)
from resources.audit import audited
from resources.batch_source import BatchSource
from resources.checksum import Tally
from resources.lake import ConcurrentWriteError, Lake, LakeTable
from resources.landing import Landing

RUN = "run"
"""The app transaction of bronze: the run that it holds."""
MAINTAINED_EVERY = 10
"""How many commits there are between two times at which a table's files are made fewer."""


class LoadError(RuntimeError):
    """A load did not enter bronze."""


@dataclass(frozen=True)
class Loaded:
    """What a load, or a rebuild of a load date, did.

    Attributes:
        loads: how many pieces there were.
        rows: how many rows were added to bronze, or replaced.
        defects: how many of them have a value that does not fit its column.
        added: columns that bronze gained.
        undeclared: all columns of bronze that the declaration does not have.
    """

    loads: int = 0
    rows: int = 0
    defects: int = 0
    added: tuple[str, ...] = ()
    undeclared: tuple[str, ...] = ()


class _Announced(NamedTuple):
    """A row of the state."""

    run_number: int
    follows: int | None
    load_id: str | None
    landed_as: str | None
    rows: int
    cursor: bytes | None
    loaded_at: datetime
    load_date: date


@dataclass
class Loader:
    """Loads one source, for one process at a time; a second one is refused by Delta.

    Attributes:
        lake: where the tables are.
        batch: the declaration.
        clock: tells the time, UTC.
        on_step: called before each commit with what comes next; for tests that stop there.
    """

    lake: Lake
    batch: Batch
    clock: Callable[[], datetime]
    on_step: Callable[[str], None] = lambda _: None
    _landing: Landing = field(init=False)

    def __post_init__(self) -> None:
        self._landing = Landing(self.lake, self.batch.name)

    def load(self, source: BatchSource) -> Loaded:
        """Loads all that is new.

        Raises:
            BatchSourceError: the source cannot be read; what came before that is in bronze.
            LoadError: a load does not fit; it is landed and noted in `quarantine/clinical_loads`.
            ConcurrentWriteError: another process loads this source.
        """
        name = self.batch.bronze.name
        with audited(self.lake, "clinical load", name, source=self.batch.name) as entry:
            run, done, read, tally = self._run(), Loaded(), 0, Tally()
            try:
                for pulled in source.pull(self._cursor(run)):
                    read += pulled.rows.height
                    done, run = self._store(pulled.rows, pulled.cursor, run, done, tally)
            finally:
                # Of a load that was refused, no row is in bronze.
                entry.rows_in, entry.rows_out, entry.rows_rejected = read, done.rows, read - done.rows
                entry.checksum = tally.checksum
            return self._with_undeclared(done)

    def rebuild(self, day: date) -> Loaded:
        """Makes the rows of a load date again from its landed files, for a declaration that changed.

        Rows that would be the same are not written.

        Raises:
            LoadError: a landed file does not fit; bronze keeps the rows it has.
            LandingError: one cannot be read.
        """
        with audited(self.lake, "clinical rebuild", self.batch.bronze.name, source="landing") as entry:
            done = self._rebuilt(day)
            entry.rows_in = entry.rows_out = done.rows
            return done

    def _rebuilt(self, day: date) -> Loaded:
        run = self._run()
        announced = [row for row in self._chain(run) if row.load_date == day and row.landed_as]
        if not announced or run is None:
            return self._with_undeclared(Loaded())
        undeclared = self._undeclared()
        made = list[tuple[_Announced, Conformed]]()
        for row in announced:
            conformed = conform(self.batch, self._landing.read(row.landed_as or ""), undeclared)
            if conformed.wrong:
                raise LoadError(self._refusal(conformed, row.landed_as or "", "bronze keeps the rows of this date"))
            undeclared.update(conformed.added)
            made.append((row, conformed))
        number = self._next_number()
        table = bronze_table(self.batch, undeclared)
        rows = pl.concat([self._rows(each.rows, row, number) for row, each in made], how="diagonal")
        absent = [pl.lit(None, type_).alias(name) for name, type_ in table.schema.items() if name not in rows.columns]
        rows = rows.with_columns(absent).select(table.schema.names())
        bronze = self.lake.table(table)
        done = Loaded(len(made), rows.height, rows.height - rows[DEFECTS].null_count())
        if _same(bronze.scan().filter(pl.col("load_date") == day).collect(), rows):
            return self._with_undeclared(Loaded())
        cursor = self._cursor(run)
        self._announce(number, run, None, None, 0, cursor)
        bronze.ensure()
        self.on_step("bronze")
        bronze.replace([rows], f"load_date = '{day}'", transactions={RUN: number}, expected={RUN: run})
        return self._with_undeclared(done)

    def _store(
        self, rows: pl.DataFrame, cursor: bytes, run: int | None, done: Loaded, tally: Tally
    ) -> tuple[Loaded, int]:
        number, now = self._next_number(), self.clock()
        load_id, undeclared = f"{number:08}-{uuid4().hex[:8]}", self._undeclared()
        path, conformed = None, None
        if rows.height:
            self.on_step("landing")
            path = self._landing.write(rows, load_id, now.date())
            conformed = conform(self.batch, rows, undeclared)
            if conformed.wrong:
                raise self._quarantined(conformed, load_id, path, rows.height, now)
        self.on_step("state")
        announced = self._announce(number, run, load_id, path, rows.height, cursor, now)
        added = conformed.added if conformed else {}
        table = bronze_table(self.batch, {**undeclared, **added})
        bronze = self.lake.table(table).ensure()
        new = pl.DataFrame(schema=table.schema)
        if conformed:
            new = self._rows(conformed.rows, announced, number).select(table.schema.names())
        self.on_step("bronze")
        bronze.append(new, transactions={RUN: number}, expected={} if run is None else {RUN: run})
        tally.add(new)
        if number % MAINTAINED_EVERY == 0:
            self._maintain(bronze, now)
        return Loaded(
            done.loads + 1,
            done.rows + new.height,
            done.defects + (conformed.defects if conformed else 0),
            (*done.added, *added),
        ), number

    def _rows(self, conformed: pl.DataFrame, announced: _Announced, revision: int) -> pl.DataFrame:
        """Rows with what is known of their load."""
        at = pl.lit(announced.loaded_at, pl.Datetime("us", "UTC"))
        return conformed.with_columns(
            load_id=pl.lit(announced.load_id, pl.String),
            load_number=pl.lit(announced.run_number, pl.Int64),
            row_number=pl.int_range(pl.len(), dtype=pl.Int64),
            loaded_at=at,
            load_date=pl.lit(announced.load_date, pl.Date),
            revision=pl.lit(revision, pl.Int64),
        )

    def _announce(
        self,
        number: int,
        follows: int | None,
        load_id: str | None,
        path: str | None,
        rows: int,
        cursor: bytes | None,
        now: datetime | None = None,
    ) -> _Announced:
        now = now or self.clock()
        row = _Announced(number, follows, load_id, path, rows, cursor, now, now.date())
        state = self.lake.table(self.batch.state).ensure()
        state.append(pl.DataFrame([row._asdict()], schema=self.batch.state.schema), transactions={})
        return row

    def _quarantined(self, conformed: Conformed, load_id: str, path: str, rows: int, now: datetime) -> LoadError:
        reason = "; ".join(conformed.wrong)
        row = {
            "source": self.batch.name,
            "load_id": load_id,
            "landed_as": path,
            "reason": reason,
            "rows": rows,
            "loaded_at": now,
            "load_date": now.date(),
        }
        table = self.lake.table(QUARANTINED_LOADS).ensure()
        table.append(pl.DataFrame([row], schema=QUARANTINED_LOADS.schema), transactions={})
        return LoadError(self._refusal(conformed, path, "none of it entered bronze, and the next run pulls it again"))

    def _refusal(self, conformed: Conformed, path: str, outcome: str) -> str:
        return (
            f"{self.batch.name}: the load {path} has other columns than it should: {'; '.join(conformed.wrong)}. It is "
            f"landed; {outcome}. Have the source corrected, or declare the new type in assets/clinical/sources.py and "
            "set bronze, silver and state of this source aside, so that everything is loaded again."
        )

    def _run(self) -> int | None:
        """The run that bronze holds; None for a source that was never loaded."""
        return self.lake.table(self.batch.bronze).transactions([RUN]).get(RUN)

    def _states(self) -> dict[int, _Announced]:
        rows = self.lake.table(self.batch.state).scan().collect()
        return {row["run_number"]: _Announced(**row) for row in rows.iter_rows(named=True)}

    def _cursor(self, run: int | None) -> bytes | None:
        if run is None:
            return None
        found = self.lake.table(self.batch.state).scan().filter(pl.col("run_number") == run).collect()
        if found.height != 1:
            raise LoadError(
                f"{self.batch.name}: bronze holds run {run}, and {self.batch.state.name} has {found.height} rows of "
                "it, so the cursor is not known and nothing was loaded. Restore that table from a copy of the lake, or "
                "set bronze, silver and state of this source aside, so that everything is loaded again."
            )
        cursor: bytes | None = found["cursor"].item()
        return cursor

    def _chain(self, run: int | None) -> list[_Announced]:
        """The runs that bronze holds, the oldest first."""
        states, chain = self._states(), list[_Announced]()
        while run is not None and (row := states.get(run)):
            chain.append(row)
            run = row.follows
        return chain[::-1]

    def _next_number(self) -> int:
        newest = self.lake.table(self.batch.state).newest("run_number")
        return 1 if newest is None else int(newest) + 1

    def _undeclared(self) -> dict[str, pl.DataType]:
        """The columns of bronze that the declaration does not have."""
        return undeclared_columns(self.lake, self.batch)

    def _with_undeclared(self, done: Loaded) -> Loaded:
        return Loaded(done.loads, done.rows, done.defects, done.added, tuple(sorted(self._undeclared())))

    def _maintain(self, bronze: LakeTable, now: datetime) -> None:
        # What is stored is loaded, however many files it has.
        with suppress(ConcurrentWriteError, DeltaError, OSError):
            bronze.maintain([("load_date", "=", now.date().isoformat())], today=now.date())
            self.lake.table(self.batch.state).maintain([], today=now.date())


def undeclared_columns(lake: Lake, batch: Batch) -> dict[str, pl.DataType]:
    """The columns that a source's bronze has and its declaration has not."""
    try:
        delta = lake.table(batch.bronze).delta()
    except TableNotFoundError:
        return {}
    schema = pl.DataFrame(pa.schema(delta.schema().to_arrow()).empty_table()).schema
    own = {*batch.columns, *LOAD_COLUMNS}
    return {name: type_ for name, type_ in schema.items() if name not in own}


def _same(stored: pl.DataFrame, made: pl.DataFrame) -> bool:
    order = ["load_number", "row_number"]
    if set(stored.columns) != set(made.columns) or stored.height != made.height:
        return False
    columns = [name for name in made.columns if name != "revision"]
    return stored.select(columns).sort(order).equals(made.select(columns).sort(order))
