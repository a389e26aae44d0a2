"""What reference data say of readings, as of the time at which each was measured, by what was known when it was pulled.

```
 lake: reference/… ── every few seconds, on a thread of its own ──▶ References ─▶ Enriching: rows ─▶ rows and columns
```

Which versions count depends on `measured_at` and `pulled_at` alone, both of which bronze keeps or yields. So a session,
one after a restart and a rebuild give the same values, provided that a session knows a version within `SAFETY_DELAY`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from threading import Event, Thread
from time import monotonic, sleep
from typing import Generic, TypeVar

import polars as pl
from deltalake.exceptions import TableNotFoundError

from assets.bitemporal import IS_DELETED, KNOWN_AT, SAFETY_DELAY, VALID_FROM, AsOf, AsOfTexts
from assets.stream.contract import Contract, ContractError, Enrichment, RuleTable
from assets.stream.rulebook import READ_COLUMNS, Rulebook, RuleVersions
from resources.lake import Lake, LakeTable

REFRESH_EVERY_S = 3.0
"""How often a session looks for new versions. A look, and the load's commit, must end within `SAFETY_DELAY` too."""
FIRST_READ_S, _AGAIN_AFTER_S = 5.0, 0.5
"""For how long a table that cannot be read at a session's start is tried again."""
REFERENCE_MISSING = "reference_missing"
"""Whether a reference table has no version for a reading; a column while a micro-batch is processed."""

K = TypeVar("K")
Failed = Callable[[str, str], None]
"""Told the name of a table that could not be read, and the type of the error."""


Key = tuple[str, str]
"""The name of a table, and the column by which things are found there."""


def key_of(enrichment: Enrichment) -> Key:
    """What an enrichment looks things up in."""
    return enrichment.table.name, enrichment.key


class References:
    """The reference tables that a contract enriches its readings from, and its rules that are data, in memory.

    Args:
        contract: the stream.
        lake: where the tables are.
    """

    def __init__(self, contract: Contract, lake: Lake) -> None:
        self._contract = contract
        columns: dict[Key, set[str]] = {}
        for each in contract.enrich:
            columns.setdefault(key_of(each), set()).update(each.sources)
        tables = {key_of(each): lake.table(each.table) for each in contract.enrich}
        if (of := contract.rule_table) is not None:
            subjects = of.subjects.name, of.key
            columns.setdefault(subjects, set()).update((of.time_zone, of.groups))
            tables[subjects] = lake.table(of.subjects)
        self._tables = {
            key: _Known(table, _columns_of(key[1], columns[key]), partial(_as_of, key[1]))
            for key, table in tables.items()
        }
        self._rules: _Known[RuleVersions] | None = None
        self._subjects: _Known[AsOf] | None = None
        if of is not None:
            self._rules = _Known(lake.table(of.table), READ_COLUMNS, partial(_rule_versions, contract, of))
            self._subjects = self._tables[of.subjects.name, of.key]
        self._identities: _Known[AsOfTexts] | None = None
        if (adaptation := contract.adaptation) is not None:
            names = adaptation.table.schema.names()
            make = partial(_as_of_texts, adaptation.keys)
            self._identities = _Known(lake.table(adaptation.table), names, make)
        self._made_of: tuple[RuleVersions | None, AsOf | None] = (None, None)
        self.rulebook: Rulebook | None = None
        """Which version of each rule holds; None where only the contract's rules do."""

    def refresh(self) -> None:
        """Reads the tables that have changed.

        Raises:
            SchemaError: one does not fit its contract.
            Exception: whatever storage raises.
        """
        for refresh in self._each().values():
            refresh()

    @property
    def reach(self) -> timedelta:
        """How far back from a reading its windows look, by the rules that are known now."""
        rules = self._contract.rules if self.rulebook is None else self.rulebook.rules
        return self._contract.reach_of({rule.column for rule in rules})

    def versions(self) -> Mapping[Key, AsOf]:
        """What is known now, by table and key; without tables that have no rows."""
        return {key: table.known for key, table in self._tables.items() if table.known is not None}

    @property
    def identities(self) -> AsOfTexts | None:
        """The ids of other systems that are known now; None where there are none."""
        return None if self._identities is None else self._identities.known

    @contextmanager
    def kept_fresh(self, failed: Failed) -> Iterator[None]:
        """Reads the tables, and reads them again whenever they change until the block ends.

        A table that cannot be read stays as it was known, since readings must not wait for it.

        Args:
            failed: told of it, once until the table can be read again.
        """
        if not self._each():
            yield
            return
        told: set[str] = set()
        self._try(failed, told)
        # Without what is known of rules and patients a session would decide otherwise than the one before it.
        end = monotonic() + FIRST_READ_S
        while told and monotonic() < end:
            sleep(_AGAIN_AFTER_S)
            self._try(failed, told)
        is_over = Event()

        def run() -> None:
            while not is_over.wait(REFRESH_EVERY_S):
                self._try(failed, told)

        thread = Thread(target=run, name="reference", daemon=True)
        thread.start()
        try:
            yield
        finally:
            # A look that hangs keeps no one: the thread ends with the process.
            is_over.set()

    def _try(self, failed: Failed, told: set[str]) -> None:
        for (name, _), refresh in self._each().items():
            try:
                refresh()
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # a panic of deltalake or Polars is no Exception
                if name not in told:
                    failed(name, type(error).__name__)
                told.add(name)
            else:
                told.discard(name)

    def _each(self) -> Mapping[Key, Callable[[], None]]:
        """How each table is read again. Rules come last, since they look up subjects."""
        each = {key: table.refresh for key, table in self._tables.items()}
        if self._identities is not None:
            each[self._identities.name, ""] = self._identities.refresh
        return each if self._rules is None else each | {(self._rules.name, ""): self._refresh_rules}

    def _refresh_rules(self) -> None:
        if self._rules is None or self._subjects is None:
            return
        self._rules.refresh()
        made_of = self._rules.known, self._subjects.known
        if all(new is old for new, old in zip(made_of, self._made_of, strict=True)):
            return
        rules, subjects = made_of
        # Only now, and at once: a micro-batch may be processed at this moment.
        self.rulebook = None if rules is None else Rulebook(rules, subjects)
        self._made_of = made_of


class _Known(Generic[K]):
    """A table as it was last read, with the columns that are wanted: the others may be addresses of patients.

    Args:
        table: the table.
        columns: what is read of it.
        make: what is kept of its rows; None if they say nothing.
    """

    def __init__(self, table: LakeTable, columns: Sequence[str], make: Callable[[pl.DataFrame], K | None]) -> None:
        self._table, self._columns, self._make = table, list(columns), make
        self._read: tuple[str, int] | None = None
        self.name = table.table.name
        self.known: K | None = None

    def refresh(self) -> None:
        try:
            delta = self._table.delta()
        except TableNotFoundError:
            self.known, self._read = None, None
            return
        newest = str(delta.metadata().id), delta.version()
        if newest == self._read:
            return
        known = self._make(self._table.scan(delta.version()).select(self._columns).collect())
        # Only now, and at once: a micro-batch may be processed at this moment.
        self.known, self._read = known, newest


def _columns_of(key: str, columns: set[str]) -> list[str]:
    return [key, VALID_FROM, KNOWN_AT, IS_DELETED, *sorted(columns - {key})]


def _as_of(key: str, rows: pl.DataFrame) -> AsOf | None:
    if rows.is_empty():
        return None
    as_of = AsOf(rows, key)
    as_of.prepare()
    return as_of


def _as_of_texts(keys: Sequence[str], rows: pl.DataFrame) -> AsOfTexts | None:
    if rows.is_empty():
        return None
    as_of = AsOfTexts(rows, keys)
    as_of.prepare()
    return as_of


def _rule_versions(contract: Contract, table: RuleTable, rows: pl.DataFrame) -> RuleVersions | None:
    versions = RuleVersions(contract, table, rows)
    if versions.is_empty:
        return None
    versions.known.prepare()
    return versions


class Enriching:
    """Adds the columns that a contract takes from reference tables.

    Args:
        contract: the stream.
        references: the tables; without them all columns are null.
    """

    def __init__(self, contract: Contract, references: References | None) -> None:
        self._enrich, self._references = contract.enrich, references
        self._schema = contract.enriched

    def enriched(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Readings with the columns of the contract, and with `REFERENCE_MISSING` where a table is there.

        Args:
            rows: cleaned readings, with the keys, `measured_at` and `pulled_at`.

        Raises:
            ContractError: a column that is computed has another type than silver's.
        """
        if not self._enrich:
            return rows
        versions = {} if self._references is None else self._references.versions()
        columns: list[pl.Series] = []
        missing: pl.Series | None = None
        for each in self._enrich:
            if (as_of := versions.get(key_of(each))) is None:
                columns += [_nulls(name, self._schema[name], rows.height) for name in each.columns]
                continue
            known_by = rows["pulled_at"] - SAFETY_DELAY
            found = as_of.rows_of(rows[each.key], rows["measured_at"], known_by)
            columns += self._columns(each, as_of, found, rows)
            if found.has_nulls():
                lacks = found.is_null() & rows[each.key].is_not_null()
                missing = lacks if missing is None else missing | lacks
        return rows.hstack(columns if missing is None else [*columns, missing.alias(REFERENCE_MISSING)])

    def _columns(self, each: Enrichment, as_of: AsOf, found: pl.Series, rows: pl.DataFrame) -> Iterator[pl.Series]:
        for name, source in each.columns.items():
            if isinstance(source, str):
                yield as_of.versions[source].gather(found).alias(name)
                continue
            given = [as_of.versions[column].gather(found) for column in source.columns]
            computed = source.compute(pl.DataFrame([*given, rows["measured_at"]]))
            if computed.dtype != self._schema[name] or len(computed) != rows.height:
                raise ContractError(f"{name} is computed as {computed.dtype}, or of other rows, and not as silver's")
            yield computed.alias(name)


def prove_enriched(contract: Contract, row: pl.DataFrame) -> pl.DataFrame:
    """A cleaned reading with the columns of the contract, of made-up versions.

    Raises:
        ContractError: a column that is computed has another type than silver's.
    """
    enriching = Enriching(contract, None)
    for each in contract.enrich:
        versions = pl.DataFrame({name: [None] for name in each.table.schema}, schema=each.table.schema)
        list(enriching._columns(each, AsOf(versions, each.key), pl.Series([0]), row))
    return enriching.enriched(row)


def missing_in(rows: pl.DataFrame) -> int:
    """For how many enriched readings a reference table has no version."""
    return int(rows[REFERENCE_MISSING].sum()) if REFERENCE_MISSING in rows.columns else 0


def _nulls(name: str, dtype: pl.DataType, count: int) -> pl.Series:
    return pl.Series(name, [None], dtype).new_from_index(0, count)
