"""What a source of batches declares, and how what it gives becomes rows of bronze. Pure: frames in, frames out.

A source may change at any time. A column that it gains is added to bronze; a value that does not fit its column costs
its row alone; a column that has another type as a whole costs the load.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import dataframely as dy
import msgspec
import polars as pl

from assets.stream.contract import utc
from resources.batch_source import Place
from resources.table import Table

GROUP = "clinical"

DEFECTS = "defects"
MANY = 10
"""So many values of another type, and more than half of a load's, are another type of the column and not bad rows."""
LOAD_COLUMNS = ("load_id", "load_number", "row_number", "loaded_at", "load_date", DEFECTS, "revision")

_COLUMNS: Mapping[pl.DataType, Callable[[], dy.Column]] = {
    pl.String(): lambda: dy.String(nullable=True),
    pl.Int64(): lambda: dy.Int64(nullable=True),
    pl.Float64(): lambda: dy.Float64(nullable=True, allow_nan=True, allow_inf=True),
    pl.Boolean(): lambda: dy.Bool(nullable=True),
    pl.Binary(): lambda: dy.Binary(nullable=True),
}
_OWN = re.compile(r"[^0-9a-z_]+")


class LoadRows(dy.Schema):
    """What every row of bronze says of its load. Key: load_number, row_number.

    `defects` holds, as JSON, the values that do not fit their columns. `revision` is the number of the run that wrote
    the row last; a rebuild of a load date gives its rows a new one.
    """

    load_id = dy.String(nullable=False)
    load_number = dy.Int64(nullable=False)
    row_number = dy.Int64(nullable=False)
    loaded_at = utc()
    load_date = dy.Date(nullable=False)
    defects = dy.String(nullable=True)
    revision = dy.Int64(nullable=False)


class QuarantineRows(dy.Schema):
    """A row of bronze that could not enter silver, with all reasons and the row as JSON.

    Key: load_number, row_number.
    """

    load_id = dy.String(nullable=False)
    load_number = dy.Int64(nullable=False)
    row_number = dy.Int64(nullable=False)
    reason = dy.String(nullable=False)
    body = dy.String(nullable=False)
    load_date = dy.Date(nullable=False)


class QuarantinedLoads(dy.Schema):
    """A load that was landed and could not enter bronze, with the reason. Key: source, load_id."""

    source = dy.String(nullable=False)
    load_id = dy.String(nullable=False)
    landed_as = dy.String(nullable=False)
    reason = dy.String(nullable=False)
    rows = dy.Int64(nullable=False)
    loaded_at = utc()
    load_date = dy.Date(nullable=False)


class StateRows(dy.Schema):
    """One load that was announced: the cursor that holds once bronze has it. Key: run_number.

    Bronze's log says which run it holds; the run before that one is `follows`, and so on. A row that this chain does
    not reach was announced by a run that was killed.
    """

    run_number = dy.Int64(nullable=False)
    follows = dy.Int64(nullable=True)
    load_id = dy.String(nullable=True)
    landed_as = dy.String(nullable=True)
    rows = dy.Int64(nullable=False)
    cursor = dy.Binary(nullable=True)
    loaded_at = utc()
    load_date = dy.Date(nullable=False)


REMEDY = (
    "Bring the declaration in assets/clinical back to these columns, or set the table aside: the next run makes it "
    "anew from bronze."
)
QUARANTINED_LOADS = Table("quarantine/clinical_loads", QuarantinedLoads)


@dataclass(frozen=True)
class Batch:
    """A source of batches and the tables that are made of it.

    Attributes:
        name: of the source and its tables.
        description: what one row is.
        setting: the field of the settings that says where the source is.
        place: what is read there.
        columns: the columns of the source that silver reads, by their types in bronze: String, Int64, Float64 or
            Boolean. Dates and instants are texts in ISO 8601 there.
        required: those without which a load makes no sense.
        rows: the contract of silver; it has the columns of `assets.clinical.tables.SilverRows`.
        key: what identifies a row of silver. Of several rows with one key the latest load's stands.
        read: makes columns of silver and `reason`, null for a good row, from rows of bronze.
        phi: whether it is data of patients.
        enrich: adds columns that follow from other rows; see `Enrichment`.
    """

    name: str
    description: str
    setting: str
    place: Place
    columns: Mapping[str, pl.DataType]
    required: tuple[str, ...]
    rows: type[dy.Schema]
    key: tuple[str, ...]
    read: Callable[[pl.DataFrame], pl.DataFrame]
    phi: bool = True
    enrich: "Enrichment | None" = None

    @property
    def bronze(self) -> Table:
        """The table of all rows that came, without columns that the declaration does not have."""
        return bronze_table(self)

    @property
    def silver(self) -> Table:
        """The table of good rows; by event date where rows have one."""
        by = ("event_date",) if "event_date" in self.rows.columns() else ()
        return Table(f"silver/{self.name}", self.rows, by, REMEDY)

    @property
    def quarantine(self) -> Table:
        """The table of rows that could not enter silver."""
        return Table(f"quarantine/{self.name}", QuarantineRows, ("load_date",), REMEDY)

    @property
    def state(self) -> Table:
        """The table of announced loads."""
        return Table(f"state/{self.name}", StateRows)

    @property
    def date_is_of_key(self) -> bool:
        """Whether rows with one key have one event date."""
        return "measured_at" in self.key


@dataclass(frozen=True)
class Enrichment:
    """Columns of silver that follow from other rows, of the same source and of one beside it.

    Attributes:
        beside: the source whose silver rows are looked at.
        days: on how many dates the columns of a row depend: its own and those before it.
        beside_days: the same for the rows beside it.
        columns: what is added.
        add: makes the columns. It is given rows of some dates and the dates before them, and rows of `beside`; and it
            returns as many rows as it was given.
    """

    beside: str
    days: int
    beside_days: int
    columns: tuple[str, ...]
    add: Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame]


def bronze_table(batch: Batch, undeclared: Mapping[str, pl.DataType] | None = None) -> Table:
    """The table of a source's rows, with columns that the declaration does not have."""
    columns = {**batch.columns, **(undeclared or {})}
    members: dict[str, object] = {name: _COLUMNS[type_]() for name, type_ in columns.items()}
    doc = f"{batch.description} As it came, with the load that it came with. Key: load_number, row_number."
    rows = type(f"Bronze_{batch.name}", (LoadRows,), {"__doc__": doc, "__module__": __name__} | members)
    return Table(f"bronze/{batch.name}", rows, ("load_date",))


@dataclass(frozen=True)
class Conformed:
    """A load in the columns of bronze.

    Attributes:
        rows: the declared columns, those that bronze had already, the new ones, and `DEFECTS`.
        added: the new ones, by type.
        defects: how many rows have values that do not fit.
        wrong: why the load cannot enter bronze, one clause a column; empty if it can.
    """

    rows: pl.DataFrame
    added: Mapping[str, pl.DataType] = field(default_factory=dict)
    defects: int = 0
    wrong: tuple[str, ...] = ()


def conform(batch: Batch, came: pl.DataFrame, undeclared: Mapping[str, pl.DataType]) -> Conformed:
    """Gives what came the columns of bronze.

    Args:
        batch: the declaration.
        came: what the source gave.
        undeclared: the columns that bronze has besides, by type.
    """
    came = came.rename(dict(zip(came.columns, _names(came.columns), strict=True)))
    known = {**batch.columns, **undeclared}
    arrived = {name: _stored(type_) for name, type_ in came.schema.items()}
    added = {name: type_ for name, type_ in arrived.items() if name not in known and type_ in _COLUMNS}
    fits = [_fit(came, name, type_) for name, type_ in {**known, **added}.items()]
    wrong = [each.wrong for each in fits if each.wrong]
    wrong += [f"column '{name}' is missing" for name in batch.required if name not in came.columns]
    rows = pl.DataFrame([each.values for each in fits])
    spoiled = [each for each in fits if each.spoiled is not None]
    defects = _defects(came, [(each.values.name, each.spoiled) for each in spoiled if each.spoiled is not None])
    return Conformed(rows.with_columns(defects), added, len(defects) - defects.null_count(), tuple(wrong))


@dataclass(frozen=True)
class _Fit:
    values: pl.Series
    spoiled: pl.Series | None = None
    wrong: str = ""


def _fit(came: pl.DataFrame, name: str, wanted: pl.DataType) -> _Fit:
    """A column in the type of bronze; values that do not fit are null, and `spoiled` says which ones."""
    if name not in came.columns:
        return _Fit(pl.Series(name, [None], wanted).new_from_index(0, came.height))
    values = came[name]
    has = values.dtype
    if has in (wanted, pl.Null):
        return _Fit(values.cast(wanted))
    if wanted == pl.String and has.is_temporal():
        return _Fit(_iso(values))
    if wanted == pl.Float64 and has == pl.Int64:
        return _Fit(values.cast(wanted))
    fitted = _cast(values, wanted)
    spoiled = values.is_not_null() & fitted.is_null()
    count, present = int(spoiled.sum()), len(values) - values.null_count()
    if count >= MANY and 2 * count > present:
        return _Fit(fitted, wrong=_changed(name, wanted, has))
    return _Fit(fitted, spoiled if count else None)


def _cast(values: pl.Series, wanted: pl.DataType) -> pl.Series:
    """The values that mean the same in the wanted type; the others are null."""
    has = values.dtype
    if has == pl.String and wanted in (pl.Int64, pl.Float64):
        found = values.str.strip_chars().cast(wanted, strict=False)
        return found.set(~found.is_finite().fill_null(True), None) if wanted == pl.Float64 else found
    if has == pl.Float64 and wanted == pl.Int64:
        is_whole = (values == values.round()) & (values.abs() <= 2**53)
        return values.set(~is_whole.fill_null(True), None).cast(pl.Int64)
    if has == pl.Int64 and wanted == pl.Boolean:
        return values.set(~values.is_in([0, 1]).fill_null(True), None).cast(pl.Boolean)
    if has == pl.String and wanted == pl.Boolean:
        return values.str.to_lowercase().replace_strict({"true": True, "false": False}, default=None).cast(pl.Boolean)
    return pl.Series(values.name, [None], wanted).new_from_index(0, len(values))


def _changed(name: str, wanted: pl.DataType, has: pl.DataType) -> str:
    return f"column '{name}' is {wanted} by its declaration and came as {has}"


def _defects(came: pl.DataFrame, spoiled: Sequence[tuple[str, pl.Series]]) -> pl.Series:
    if not spoiled:
        return pl.Series(DEFECTS, [None], pl.String).new_from_index(0, came.height)
    found: list[dict[str, object]] = [{} for _ in range(came.height)]
    for name, is_spoiled in spoiled:
        values = came[name]
        for place in is_spoiled.arg_true():
            found[place][name] = values[place]
    return pl.Series(DEFECTS, [msgspec.json.encode(each).decode() if each else None for each in found], pl.String)


def _stored(type_: pl.DataType) -> pl.DataType:
    return pl.String() if type_.is_temporal() else type_


def _iso(values: pl.Series) -> pl.Series:
    if values.dtype == pl.Date:
        return values.dt.to_string("%Y-%m-%d")
    return values.dt.convert_time_zone("UTC").dt.to_string("%Y-%m-%dT%H:%M:%S%.6f+00:00")


def _names(names: Sequence[str]) -> list[str]:
    """Names that every engine takes: lower case, no two alike, none of a load's own."""
    found: list[str] = []
    for name in names:
        plain = _OWN.sub("_", name.lower()).strip("_") or "column"
        plain = f"{plain}_of_source" if plain in LOAD_COLUMNS else plain
        number, unique = 1, plain
        while unique in found:
            number += 1
            unique = f"{plain}_{number}"
        found.append(unique)
    return found
