"""The lake: Delta tables in a local folder or on ADLS Gen2, written exactly once.

Every write carries the offsets it reaches as Delta app transactions, so rows and offsets are one commit. Delta accepts
a replayed transaction, hence the caller compares `offsets()` with what it is about to write; a second writer that
opened the same version is refused by Delta itself. What the rows mean belongs to `assets`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from resources.copies import Copies, remove_folder
from resources.maintenance import (
    APPEND_ONLY,
    CONFIGURATION,
    HOOKS,
    clean_up,
    compact_around,
    data_files,
    row_properties,
    sweep,
)
from resources.parts import Part, part_of
from resources.schema import Difference, arrow_schema, delta_schema, difference, remedy
from resources.table import Table
from resources.whole_files import add_file

EVENT_DATES = "event_dates"
# The name says how long a slot is: whoever reads it with slots of another length must not take it for theirs.
EVENT_SLOTS = "event_slots_of_15_min"
# A commit that touches more slots names its dates only: its metadata is read with the log.
_MAX_SLOTS = 500
_SWEPT = "maintenance/swept_on"
_BATCH_ROWS = 16_384
# How often the columns of a table are compared again, when other writers commit at the same moment.
_ATTEMPTS = 10


class ConcurrentWriteError(RuntimeError):
    """Another writer moved the table since its offsets were read; nothing was written."""


class OvertakenError(ConcurrentWriteError):
    """Another writer committed between the comparison and the commit; nothing was written."""


class SchemaError(ValueError):
    """Columns or types differ: of a frame and its contract, or of a table and its contract. Nothing was written."""


@dataclass(frozen=True)
class Touch:
    """What a commit says that it touches.

    Attributes:
        version: of the commit.
        slots: the event dates, each with its slots by number (see `assets.day`); None where it may be any of them.
    """

    version: int
    slots: Mapping[date, Collection[int] | None]


@dataclass(frozen=True)
class Lake:
    """The root of all tables.

    Attributes:
        root: a folder or an ``abfss://container@account.dfs.core.windows.net/path`` URI.
        storage_options: what deltalake and Polars need to open it; empty for a folder.
        token: gives a bearer token for each opening, where there is no key among the options.
    """

    root: str
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: Callable[[], str] | None = field(default=None, repr=False)

    def table(self, table: Table) -> "LakeTable":
        """The handle of a table, which need not exist yet."""
        return LakeTable(table, f"{self.root.rstrip('/')}/{table.name}", self)

    def below(self, folder: str) -> "Lake":
        """The lake in a folder of this one."""
        return replace(self, root=f"{self.root.rstrip('/')}/{folder}")

    def remove(self) -> None:
        """Removes all tables of the lake."""
        remove_folder(self.root, self.options())

    def options(self) -> dict[str, str]:
        """The storage options of an opening, with a token that is valid now."""
        return {**self.storage_options, **({"bearer_token": self.token()} if self.token else {})}

    def polars_options(self) -> dict[str, Any]:
        """The same for Polars, which names retries in another way and wants numbers."""
        options: dict[str, Any] = self.options()
        if retries := options.pop("max_retries", None):
            options["max_retries"] = int(retries)
        if wait := options.pop("retry_timeout", None):
            options["retry_timeout_ms"] = int(wait.removesuffix("s")) * 1_000
        return options


@dataclass(frozen=True)
class Snapshot:
    """A table at one version: what is asked of it is of the same commit.

    Attributes:
        table: the table.
        delta: the handle at that version.
    """

    table: "LakeTable"
    delta: DeltaTable = field(repr=False)

    @property
    def id(self) -> str:
        """Delta's id of the table."""
        return str(self.delta.metadata().id)

    @property
    def version(self) -> int:
        """The version."""
        return self.delta.version()

    def transactions(self, app_ids: Iterable[str]) -> dict[str, int]:
        """The newest version of each app transaction that the log knows."""
        found = {app_id: self.delta.transaction_version(app_id) for app_id in app_ids}
        return {app_id: version for app_id, version in found.items() if version is not None}

    @cached_property
    def files(self) -> pl.DataFrame:
        """One row a file: `path`, the partition columns, `num_records` and more."""
        return _files(self.delta)

    def scan(self, paths: Collection[str] | None = None) -> pl.LazyFrame:
        """The rows, or those of some files only.

        Raises:
            SchemaError: as for `LakeTable.scan`.
        """
        if paths is None:
            return self.table.rows_of(self.delta)
        self.table.refuse_retyped(self.delta)
        [partition] = self.table.table.partition_by
        schema = self.table.table.schema
        stored = pl.Schema({name: type_ for name, type_ in schema.items() if name != partition})
        options = self.table.lake.polars_options() or None
        parts = [
            pl.scan_parquet(
                [f"{self.table.uri.rstrip('/')}/{unquote(path)}" for path in sorted(of_value)],
                schema=stored,
                missing_columns="insert",
                extra_columns="ignore",
                hive_partitioning=False,
                storage_options=options,
            ).with_columns(pl.lit(value, schema[partition]).alias(partition))
            for value, of_value in self.files.filter(pl.col("path").is_in([*paths]))
            .group_by(partition, maintain_order=True)
            .agg("path")
            .iter_rows()
        ]
        return pl.concat(parts).select(schema.names()) if parts else pl.LazyFrame(schema=schema)


@dataclass
class LakeTable:
    """One Delta table. It keeps no state: each call sees the newest version."""

    table: Table
    uri: str
    lake: Lake = field(repr=False)

    @cached_property
    def _schema(self) -> pl.Schema:
        return self.table.schema

    @cached_property
    def _required(self) -> list[str]:
        return self.table.required

    @property
    def name(self) -> str:
        """``<layer>/<table>``."""
        return self.table.name

    def exists(self) -> bool:
        """Whether the table was created."""
        return DeltaTable.is_deltatable(self.uri, storage_options=self.lake.options())

    def delta(self, version: int | None = None) -> DeltaTable:
        """A fresh handle at the newest or the given version.

        Raises:
            TableNotFoundError: the table was not created yet.
        """
        kind = DeltaTable if "://" in self.uri else _LocalDeltaTable
        return kind(self.uri, version=version, storage_options=self.lake.options())

    def create(self) -> "LakeTable":
        """Creates the table, empty, if it is not there; one that is there is not looked at."""
        self._opened()
        return self

    def ensure(self) -> "LakeTable":
        """Creates the table if it is not there, and adds nullable columns that its contract gained.

        Whoever writes calls it once before. Several processes may do so at once.

        Raises:
            SchemaError: the table differs from its contract in another way; it stays as it is.
        """
        for _ in range(_ATTEMPTS):
            delta = self._opened()
            found = difference(delta, self.table)
            if not found:
                self._refuse_nulls(delta)
                return self
            if not found.only_adds or {each.name for each in found.missing} & {*self._required}:
                raise self._other_columns(found)
            try:
                delta.alter.add_columns(list(found.missing), post_commithook_properties=HOOKS)
            except CommitFailedError:
                continue
        raise ConcurrentWriteError(
            f"{self.name}: other writers were faster {_ATTEMPTS} times, so {found}. Nothing was changed; try again."
        )

    def is_current(self) -> bool:
        """Whether the table has the columns of its contract, or was not created yet."""
        try:
            return not difference(self.delta(), self.table)
        except TableNotFoundError:
            return True

    def renew(
        self,
        *,
        transactions: Mapping[str, int],
        expected: Mapping[str, int | None],
        event_dates: Iterable[date] = (),
    ) -> None:
        """Gives a table the columns of its contract; for tables whose rows are made anew from others afterwards.

        Rows stay, with nulls, where columns were only added. Otherwise all rows go.

        Args:
            transactions, expected, event_dates: as for `replace`; they are part of the same commit.

        Raises:
            ConcurrentWriteError: as for `append`.
        """
        delta = self.delta()
        self._compare(delta, expected)
        if (found := difference(delta, self.table)).only_adds:
            with self._refused():
                delta.alter.add_columns(
                    list(found.missing),
                    commit_properties=_commit(transactions, event_dates),
                    post_commithook_properties=HOOKS,
                )
            return
        self.replace([], None, transactions=transactions, expected=expected, event_dates=event_dates, renew=True)

    def scan(self, version: int | None = None) -> pl.LazyFrame:
        """The table's rows at its newest or the given version; an empty frame where it was not created yet.

        Columns that the version does not have yet are null; those that the contract does not have are left out.

        Raises:
            SchemaError: a column has another type than in the contract.
        """
        try:
            return self.rows_of(self.delta(version))
        except TableNotFoundError:
            return pl.LazyFrame(schema=self._schema)

    def snapshot(self) -> Snapshot | None:
        """The table at its newest version; None where it was not created yet."""
        try:
            return Snapshot(self, self.delta())
        except TableNotFoundError:
            return None

    def rows_of(self, delta: DeltaTable) -> pl.LazyFrame:
        """The rows of an opened version; see `scan`.

        Raises:
            SchemaError: a column has another type than in the contract.
        """
        found = self.refuse_retyped(delta)
        absent = [pl.lit(None, self._schema[each.name]).alias(each.name) for each in found.missing]
        rows = pl.scan_delta(delta, storage_options=self.lake.polars_options() or None)
        return rows.with_columns(absent).select(self._schema.names())

    def refuse_retyped(self, delta: DeltaTable) -> Difference:
        """How an opened version differs from the contract.

        Raises:
            SchemaError: a column has another type.
        """
        found = difference(delta, self.table)
        if found.retyped:
            raise SchemaError(f"{self.name}: {_types(found)}; the table was not read. {remedy(self.table)}")
        return found

    def dates(self, column: str, version: int | None = None) -> list[date]:
        """The dates of a partition column that have rows, in order; the log alone is read."""
        try:
            partitions = self.delta(version).partitions()
        except TableNotFoundError:
            return []
        return sorted({date.fromisoformat(partition[column]) for partition in partitions})

    def newest(self, column: str, where: pl.Expr | None = None) -> Any:
        """The greatest value of a column by the statistics of its files, so that no rows are read.

        Statistics cut instants to milliseconds.

        Args:
            column: no partition column, and one that holds a value in every row.
            where: over partition columns; only rows that meet it count.

        Returns:
            None where there are no rows.
        """
        try:
            delta = self.delta()
        except TableNotFoundError:
            return None
        where = pl.lit(True) if where is None else where
        files = _files(delta).filter(where)
        statistics = files.get_column(f"max.{column}", default=None)
        if files.height and (statistics is None or statistics.null_count()):
            rows = self.scan(delta.version()).filter(where)
            return rows.select(pl.col(column).max()).collect(engine="streaming").item()
        return None if statistics is None else statistics.max()

    def files(self, version: int | None = None) -> pl.DataFrame:
        """One row a file of the newest or the given version: the partition columns, ``min.<column>`` and more."""
        return _files(self.delta(version))

    def count(self) -> int:
        """How many rows the table has, by the statistics of its files; its contract is not looked at."""
        try:
            return int(data_files(self.delta())["num_records"].sum())
        except TableNotFoundError:
            return 0

    def id(self) -> str | None:
        """Delta's id of the table: another one once it was removed and created again; None where it does not exist."""
        try:
            return str(self.delta().metadata().id)
        except TableNotFoundError:
            return None

    def version(self) -> int | None:
        """The newest version, None where the table was not created yet."""
        try:
            return self.delta().version()
        except TableNotFoundError:
            return None

    def written_at(self) -> datetime:
        """When the newest commit was made.

        Raises:
            TableNotFoundError: the table was not created yet.
        """
        [commit] = self.delta().history(1)
        return datetime.fromtimestamp(commit["timestamp"] / 1000, UTC)

    def transactions(self, app_ids: Iterable[str]) -> dict[str, int]:
        """The newest version of each app transaction that the table's log knows."""
        try:
            delta = self.delta()
        except TableNotFoundError:
            return {}
        found = {app_id: delta.transaction_version(app_id) for app_id in app_ids}
        return {app_id: version for app_id, version in found.items() if version is not None}

    def append(
        self,
        frame: pl.DataFrame,
        *,
        transactions: Mapping[str, int],
        expected: Mapping[str, int] | None = None,
        event_dates: Iterable[date] = (),
        event_slots: Mapping[date, Collection[int]] | None = None,
    ) -> int:
        """Appends rows and sets app transactions in one commit.

        Args:
            frame: rows of exactly the table's schema; it may be empty, then only the transactions are committed.
            transactions: app id to version, for instance ``{"glucose_readings/0": 41}``.
            expected: what the table's log must hold for each app id now; an absent id must be unknown to the log.
            event_dates: the dates that the rows touch, for those who derive tables by event date.
            event_slots: the slots of these dates that the rows touch; all of them where it is left out.

        Returns:
            The number of rows written.

        Raises:
            SchemaError: the frame's columns or types differ from the contract's, or the table's do.
            ConcurrentWriteError: the log holds other versions than expected, or another writer was faster.
        """
        self._check(frame)
        properties = _commit(transactions, event_dates, event_slots)
        compared = None if expected is None else {app_id: expected.get(app_id) for app_id in transactions}
        for _ in range(_ATTEMPTS if compared else 0):
            # Delta also refuses an append because rows of another partition were replaced at this moment. If the log
            # still holds what is expected, the rows are new.
            with suppress(OvertakenError):
                return self._append(frame, compared, properties)
        return self._append(frame, compared, properties)

    def _append(
        self, frame: pl.DataFrame, expected: Mapping[str, int | None] | None, properties: CommitProperties
    ) -> int:
        delta = self.delta()
        if found := difference(delta, self.table):
            raise self._other_columns(found)
        self._compare(delta, expected or {})
        self._write(
            delta,
            # deltalake copies each batch that it is given: small ones stay in the processor's cache.
            frame.to_arrow(compat_level=pl.CompatLevel.oldest()).to_reader(max_chunksize=_BATCH_ROWS),
            mode="append",
            commit_properties=properties,
        )
        return frame.height

    def replace(
        self,
        frames: Iterable[pl.DataFrame],
        predicate: str | None,
        *,
        transactions: Mapping[str, int] | None = None,
        expected: Mapping[str, int | None] | None = None,
        event_dates: Iterable[date] = (),
        renew: bool = False,
    ) -> int:
        """Replaces the rows that the predicate selects, in one commit.

        The frames are never in memory together, but deltalake takes them faster than it writes them: of 3 GB it held a
        third to a half.

        Args:
            frames: the new rows, piece by piece; all must satisfy the predicate.
            predicate: over partition columns, for instance ``ingest_date = '2026-11-23'``; None selects all rows.
            transactions: app transactions to set in the same commit.
            expected: what the table's log must hold for these app ids now; None for unknown to the log.
            event_dates: the dates that the old and the new rows touch.
            renew: gives the table the columns of its contract in the same commit; only where all rows are replaced.

        Returns:
            The number of rows written.

        Raises:
            SchemaError: a frame's columns or types differ from the contract's, or the table's do and `renew` is not
                set; the old rows stay.
            ConcurrentWriteError: as for `append`.
            Exception: whatever the frames raise; the old rows stay.
        """
        written = 0
        failures: list[BaseException] = []

        def batches() -> Iterator[pa.RecordBatch]:
            nonlocal written
            try:
                for frame in frames:
                    self._check(frame)
                    written += frame.height
                    yield from frame.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches()
            except BaseException as failure:
                failures.append(failure)
                raise

        delta = self.delta()
        if (found := difference(delta, self.table)) and not (renew and predicate is None):
            raise self._other_columns(found)
        self._compare(delta, expected or {})
        try:
            self._write(
                delta,
                pa.RecordBatchReader.from_batches(arrow_schema(self._schema), batches()),
                mode="overwrite",
                schema_mode="overwrite" if found else None,
                partition_by=list(self.table.partition_by),
                predicate=predicate,
                commit_properties=_commit(transactions or {}, event_dates),
            )
        except Exception:
            # deltalake makes another error of what happens in the frames, an interruption among them.
            if failures:
                raise failures[0] from None
            raise
        return written

    def copies_for(self, other: "LakeTable") -> Copies:
        """Copies of this table's files in the folder of another table, for `adopt`."""
        return Copies(self.uri, other.uri, self.lake.options())

    def adopt(
        self,
        other: "LakeTable",
        copies: Copies,
        *,
        transactions: Mapping[str, int],
        expected: Mapping[str, int | None],
        event_dates: Iterable[date] = (),
        partition: tuple[str, str] | None = None,
    ) -> None:
        """Puts the rows and the columns of another table of the same store in the place of its own, in one commit.

        The other table's files are copied, so it can be removed afterwards. Whoever reads sees all the old rows or all
        the new ones.

        Args:
            other: the table to take the rows from.
            copies: of its files, made by `other.copies_for`; what is not copied yet is copied now.
            transactions, expected, event_dates: as for `replace`.
            partition: the partition column and value whose rows are replaced, and of which all new rows are; by default
                all rows are replaced.

        Raises:
            SchemaError: the other table does not have the columns of the contract; the old rows stay.
            ConcurrentWriteError: as for `append`; the old rows stay.
        """
        delta, source = self.create().delta(), other.delta()
        if found := difference(source, self.table):
            raise self._other_columns(found)
        files = copies.of(source)
        self._compare(delta, expected)
        with self._refused():
            delta.create_write_transaction(
                files,
                "overwrite",
                source.schema(),
                list(self.table.partition_by),
                [(partition[0], "=", partition[1])] if partition else None,
                commit_properties=_commit(transactions, event_dates),
                post_commithook_properties=HOOKS,
            )

    def part(self, column: str, day: date) -> Part:
        """The rows of one date of a partition column as they stand now, with the columns that the table has.

        Raises:
            TableNotFoundError: the table was not created yet.
        """
        options = self.lake.options()
        return part_of(self.delta(), column, day, options)

    def remove(
        self, part: Part, *, transactions: Mapping[str, int], expected: Mapping[str, int | None] | None = None
    ) -> None:
        """Removes the rows of a date in one commit. Appends of others go on; the contract is not looked at.

        Args:
            part: the rows, as `part` gave them.
            transactions, expected: as for `replace`.

        Raises:
            ConcurrentWriteError: the date has other rows by now, or as for `append`; nothing was removed.
        """
        delta = self.delta()
        self._compare(delta, expected or {})
        if not part.is_in(delta):
            raise ConcurrentWriteError(
                f"{self.name}: the rows of {part.column} {part.day} are not those of version {part.version} any more. "
                "Nothing was removed; try again."
            )
        with self._refused():
            delta.create_write_transaction(
                [*part.removals()],
                "append",
                delta.schema(),
                delta.metadata().partition_columns,
                commit_properties=_commit(transactions, ()),
                post_commithook_properties=HOOKS,
            )

    def drop(self, predicate: str) -> None:
        """Removes whole partitions in one commit; appends to others go on.

        Args:
            predicate: over partition columns.

        Raises:
            ConcurrentWriteError: another writer was faster; nothing was removed.
        """
        with self._refused():
            self.delta().delete(predicate, post_commithook_properties=HOOKS)

    def distinct(self, column: str) -> list[Any]:
        """The values of a column of the table as it stands, whatever its contract says of the others."""
        try:
            delta = self.delta()
        except TableNotFoundError:
            return []
        rows = pl.scan_delta(delta, storage_options=self.lake.polars_options() or None)
        return rows.select(pl.col(column).unique()).collect(engine="streaming").to_series().sort().to_list()

    def touched_since(self, version: int | None) -> dict[date, int] | None:
        """The event dates that commits after `version` name, each with the last commit that names it.

        Returns:
            None where the log does not reach back that far, or `version` is None.
        """
        delta = self.delta()
        newest = delta.version()
        if version is None or version > newest:
            return None
        reaches, touches = self.touches_since(version)
        if reaches > version:
            return None
        return {day: touch.version for touch in touches for day in touch.slots}

    def touches_since(self, version: int) -> tuple[int, list[Touch]]:
        """What commits after `version` touch, in order, as far back as the log reaches.

        Returns:
            The version after which all commits are known, and what they touch.
        """
        delta = self.delta()
        newest = delta.version()
        commits = delta.history(newest - version) if newest > version else []
        known = sorted(commits, key=lambda each: each["version"])
        return newest - len(commits), [Touch(each["version"], _touched(each)) for each in known]

    def append_file(
        self,
        frame: pl.DataFrame,
        *,
        transactions: Mapping[str, int],
        expected: Mapping[str, int | None],
        notes: Mapping[str, str],
    ) -> None:
        """Appends many rows as one file, to a table without partitions.

        Args:
            frame: rows of exactly the table's schema; without any, the commit adds no file.
            transactions: as for `append`.
            expected: as for `replace`.
            notes: what the commit says besides; see `noted`.

        Raises:
            SchemaError, ConcurrentWriteError: as for `append`.
        """
        self._check(frame)
        delta = self.delta()
        if found := difference(delta, self.table):
            raise self._other_columns(found)
        self._compare(delta, expected)
        with self._refused():
            delta.create_write_transaction(
                [add_file(frame, self.uri, self.lake.options())] if frame.height else [],
                "append",
                delta.schema(),
                [],
                commit_properties=_commit(transactions, (), notes=notes),
                post_commithook_properties=HOOKS,
            )

    def noted(self, name: str) -> str | None:
        """The newest note of a name, as far as the log reaches; `maintain` removes entries of the log."""
        try:
            commits = self.delta().history()
        except TableNotFoundError:
            return None
        return next((commit[name] for commit in commits if name in commit), None)

    def frames(self) -> Iterator[pl.DataFrame]:
        """All rows, a file at a time, of a table without partitions whose files have the columns of its contract."""
        for uri in self.delta().file_uris():
            options = self.lake.polars_options() or None
            rows = pl.scan_parquet(uri, hive_partitioning=False, glob=False, storage_options=options)
            yield rows.select(self._schema.names()).collect()

    def maintain(
        self, compact: list[tuple[str, str, str]] | None = None, *, small_files: int = 20, today: date | None = None
    ) -> None:
        """Keeps the number of files and of log entries bounded: compact, checkpoint, expire the log, vacuum.

        The first one of a day also sweeps: it lists all files and deletes those that no log names, which a killed
        writer left or whose removal was forgotten while no one maintained.

        Args:
            compact: the partition to compact, for instance ``[("ingest_date", "=", "2026-11-23")]``; none if None. The
                one before it is compacted too: its last writer may have been killed. An empty list for a table without
                partitions.
            small_files: compact a partition only when it has more small files than this.
            today: default is the date in UTC.
        """
        if compact is not None:
            compact_around(self.delta(), compact, small_files)
        delta, number = self.delta(), (today or datetime.now(UTC).date()).toordinal()
        clean_up(delta)
        if (delta.transaction_version(_SWEPT) or 0) < number:
            sweep(delta, self.lake.options())
            delta = self.delta()
            # The table's own columns: also one whose contract changed is kept small.
            nothing = pa.schema(delta.schema().to_arrow()).empty_table()
            self._write(delta, nothing, mode="append", commit_properties=_commit({_SWEPT: number}, ()))

    def _opened(self) -> DeltaTable:
        try:
            return self.delta()
        except TableNotFoundError:
            try:
                self._create()
            except DeltaError:
                # `ignore` looks before it commits: another writer may have created the table in between.
                if not self.exists():
                    raise
            return self.delta()

    def _create(self) -> None:
        DeltaTable.create(
            self.uri,
            schema=delta_schema(self.table),
            mode="ignore",
            partition_by=list(self.table.partition_by),
            configuration={**CONFIGURATION, **(APPEND_ONLY if self.table.is_append_only else {})},
            storage_options=self.lake.options(),
            description=self.table.description,
            # Otherwise whoever is slower commits its metadata behind the other's: the table gets another id.
            commit_properties=CommitProperties(max_commit_retries=0),
        )

    def _other_columns(self, found: Difference) -> SchemaError:
        return SchemaError(f"{self.name}: {found}; nothing was written. {remedy(self.table)}")

    def _refuse_nulls(self, delta: DeltaTable) -> None:
        """A column that must hold a value in every row may have been nullable once."""
        files = data_files(delta)
        names = [name for name in self._required if name not in self.table.partition_by]
        counts = {name: files.get_column(f"null_count.{name}", default=None) for name in names}
        unknown = [name for name, nulls in counts.items() if files.height and (nulls is None or nulls.null_count())]
        found = {name: int(nulls.sum()) for name, nulls in counts.items() if nulls is not None and name not in unknown}
        if unknown:
            found |= self.scan(delta.version()).select(pl.col(unknown).null_count()).collect().row(0, named=True)
        if empty := [f"'{name}' has {count:,}" for name, count in found.items() if count]:
            raise SchemaError(
                f"{self.name}: the contract wants a value in every row, but column {', column '.join(empty)} rows "
                f"without one in the table; nothing was written. {remedy(self.table)}"
            )

    def _compare(self, delta: DeltaTable, expected: Mapping[str, int | None]) -> None:
        for app_id, version in expected.items():
            if (found := delta.transaction_version(app_id)) != version:
                raise ConcurrentWriteError(
                    f"{self.name}: '{app_id}' stands at {found}, not at {version}: another session writes this stream. "
                    "Nothing was written; end one of the two, the other goes on from the log."
                )

    def _write(self, delta: DeltaTable, rows: Any, **options: Any) -> None:
        with self._refused():
            # The handle that was compared is the one that commits: Delta refuses it if another writer came between.
            properties = row_properties(delta_schema(self.table))
            write_deltalake(delta, rows, post_commithook_properties=HOOKS, writer_properties=properties, **options)

    @contextmanager
    def _refused(self) -> Iterator[None]:
        try:
            yield
        except CommitFailedError as error:
            raise OvertakenError(
                f"{self.name}: another writer was faster ({error}). Nothing was written; try again."
            ) from error
        except DeltaError as error:
            if not str(error).startswith("Invalid table version"):
                raise
            raise OvertakenError(
                f"{self.name}: the commit took longer than the log is kept, so what others wrote meanwhile is not "
                "known. Nothing was written; try again."
            ) from error

    def _check(self, frame: pl.DataFrame) -> None:
        if frame.schema != self._schema:
            raise SchemaError(
                f"{self.name}: the rows have {dict(frame.schema)} but the contract has {dict(self._schema)}; "
                "nothing was written. Make the transformation return the contract's columns, in order."
            )
        if empty := [name for name in self._required if frame[name].null_count()]:
            raise SchemaError(
                f"{self.name}: rows without a value in {', '.join(empty)}; nothing was written. "
                "Quarantine such rows before they get here."
            )


class _LocalDeltaTable(DeltaTable):
    """Names files as the file system does: deltalake percent-encodes their folder, and Polars takes names literally."""

    def file_uris(self, *arguments: Any, **options: Any) -> list[str]:
        return [unquote(uri) for uri in super().file_uris(*arguments, **options)]


def _files(delta: DeltaTable) -> pl.DataFrame:
    return data_files(delta).rename(lambda name: name.removeprefix("partition."))


def _commit(
    transactions: Mapping[str, int],
    event_dates: Iterable[date],
    event_slots: Mapping[date, Collection[int]] | None = None,
    notes: Mapping[str, str] | None = None,
) -> CommitProperties:
    days, slots = sorted({day.isoformat() for day in event_dates}), event_slots or {}
    metadata = dict(notes or {})
    if days:
        metadata[EVENT_DATES] = ",".join(days)
    if slots and sum(map(len, slots.values())) <= _MAX_SLOTS:
        metadata[EVENT_SLOTS] = ",".join(
            f"{day.isoformat()}/{'+'.join(map(str, sorted(of_day)))}" for day, of_day in sorted(slots.items())
        )
    return CommitProperties(
        app_transactions=[Transaction(app_id, version) for app_id, version in transactions.items()],
        custom_metadata=metadata or None,
    )


def _touched(commit: Mapping[str, Any]) -> dict[date, Collection[int] | None]:
    named: dict[str, Collection[int]] = {}
    for each in filter(None, commit.get(EVENT_SLOTS, "").split(",")):
        day, _, slots = each.partition("/")
        named[day] = frozenset(map(int, slots.split("+")))
    days = filter(None, commit.get(EVENT_DATES, "").split(","))
    return {date.fromisoformat(day): named.get(day) for day in days}


def _types(found: Difference) -> str:
    return str(Difference((), (), found.retyped, None))
