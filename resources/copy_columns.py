"""What a column of a database becomes in the lake, and how values that were read become a frame of such columns.

Whole numbers become Int64, texts String, and so on: the types that all tables of the lake have, and decimals. Values
that no such type holds, as times of the day or numbers of more than 38 digits, become text. Instants without a zone are
UTC.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Literal

import dataframely as dy
import polars as pl

from resources.table import Table

INSTANT = pl.Datetime("us", "UTC")
MAX_DIGITS = 38
"""Of a decimal in Delta."""
NO_DATE = -9_000_000_000_000_000_000
"""What a SELECT gives for a date that the calendar does not have, as MySQL's 0000-00-00."""
_DAYS_TO_1970 = 719_528
FIRST_DAY = 366
"""The first of January of the year 1, in days since the year 0; the calendar has no year before."""
EXACT_FLOATS = 2**53
"""Up to here each whole number is a float."""
# By default Python computes with 28 digits, and refuses longer ones.
_DIGITS = Context(prec=2 * MAX_DIGITS)
_TEXT_OF_INSTANT = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?)?")

Form = Literal["plain", "days", "micros", "decimal", "flag"]
"""How a SELECT gives the values: as they are, as days since the year 0, as microseconds since 1970, as text, as 0 or 1.

The last four are read alike by every driver.
"""
_FIRST: dict[Form, int] = {"days": FIRST_DAY, "micros": (FIRST_DAY - _DAYS_TO_1970) * 86_400_000_000}
_READ_AS: dict[Form, pl.DataType] = {
    "days": pl.Int64(),
    "micros": pl.Int64(),
    "decimal": pl.String(),
    "flag": pl.Int64(),
}


@dataclass(frozen=True)
class CopyColumn:
    """A column.

    Attributes:
        name: as the database has it.
        type: in the lake.
        select: the expression that reads it.
        form: how that gives the values.
        can_be_key: whether rows can be read in its order from a value on.
    """

    name: str
    type: pl.DataType
    select: str
    form: Form = "plain"
    can_be_key: bool = False

    @property
    def read_as(self) -> pl.DataType:
        """The type in which values are read."""
        return _READ_AS.get(self.form, self.type)

    def _of_lake(self) -> pl.Expr:
        read = pl.col(self.name).cast(self.read_as)
        match self.form:
            case "days":
                return (self._known(read) - _DAYS_TO_1970).cast(pl.Int32).cast(pl.Date)
            case "micros":
                return self._known(read).cast(INSTANT)
            case _:
                return read.cast(self.type)

    def _known(self, read: pl.Expr) -> pl.Expr:
        return pl.when(read >= _FIRST[self.form]).then(read)


def conformed(rows: pl.DataFrame, columns: Sequence[CopyColumn]) -> tuple[pl.DataFrame, Counter[str]]:
    """Rows that were read, as the lake has them.

    Returns:
        The rows, and for each column how many dates the calendar does not have; they are null.
    """
    undated = {each.name: int((rows[each.name] < _FIRST[each.form]).sum()) for each in columns if each.form in _FIRST}
    found = rows.select(each._of_lake().alias(each.name) for each in columns)
    return found, Counter({name: count for name, count in undated.items() if count})


def frame_of(rows: Sequence[Sequence[Any]], columns: Sequence[CopyColumn]) -> pl.DataFrame:
    """Rows of a driver as a frame, with the types in which they are read.

    Raises:
        ValueError, TypeError: a value does not fit its column; the message names the column and no value.
    """
    values = zip(*rows, strict=True) if rows else ([] for _ in columns)
    return pl.DataFrame([series(each.name, found, each.read_as) for each, found in zip(columns, values, strict=True)])


def series(name: str, values: Sequence[Any], type_: pl.DataType) -> pl.Series:
    """Values of a driver as a column; none is changed.

    Raises:
        ValueError: a value does not fit.
    """
    convert = _converter(type_)
    try:
        plain = [None if value is None else convert(value) for value in values]
        return pl.Series(name, plain, type_, strict=True)
    except (ValueError, TypeError, OverflowError, InvalidOperation, pl.exceptions.PolarsError):
        raise ValueError(f"column '{name}' has values that are no {type_}") from None


def _converter(type_: pl.DataType) -> Any:
    if isinstance(type_, pl.Decimal):
        unit = Decimal(1).scaleb(-type_.scale)
        return lambda value: _decimal(value, unit)
    return {
        pl.Boolean: _boolean,
        pl.Int64: _whole,
        pl.Float64: _float,
        pl.String: _text,
        pl.Binary: _binary,
        pl.Date: _date,
        pl.Datetime: _instant,
    }[type(type_)]


def _boolean(value: Any) -> bool:
    if value in (0, 1):
        return bool(value)
    raise ValueError


def _whole(value: Any) -> int:
    if isinstance(value, int) or (isinstance(value, Decimal) and value == int(value)):
        return int(value)
    raise ValueError


def _float(value: Any) -> float:
    if isinstance(value, float) or (isinstance(value, int) and abs(value) <= EXACT_FLOATS):
        return float(value)
    raise ValueError


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        raise ValueError
    return value if isinstance(value, str) else str(value)


def _binary(value: Any) -> bytes:
    # bytes(3) would be three zeros.
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else str(value).encode()


def _decimal(value: Any, unit: Decimal) -> Decimal:
    # A float has few decimal places in its shortest text, and many in its value.
    found = value if isinstance(value, Decimal) else Decimal(repr(value) if isinstance(value, float) else str(value))
    if not found.is_finite() or found != found.quantize(unit, context=_DIGITS):
        raise ValueError
    return found


def _date(value: Any) -> date:
    if isinstance(value, str):
        found = date.fromisoformat(value)
        if found.isoformat() != value:
            raise ValueError
        return found
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise ValueError


def _instant(value: Any) -> datetime:
    if isinstance(value, str):
        if not _TEXT_OF_INSTANT.fullmatch(value):
            raise ValueError
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise ValueError
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_COLUMNS: dict[type, type[dy.Column]] = {
    pl.Boolean: dy.Bool,
    pl.Int64: dy.Int64,
    pl.Float64: dy.Float64,
    pl.String: dy.String,
    pl.Binary: dy.Binary,
    pl.Date: dy.Date,
}


def copied_table(name: str, origin: str, schema: pl.Schema) -> Table:
    """The table of the lake that holds a copy, with columns of any name.

    Args:
        name: ``bronze/<table>``.
        origin: what it is a copy of.
        schema: its columns.
    """
    members: dict[str, object] = {
        "__doc__": f"A copy of {origin}, row by row.",
        "__module__": __name__,
        # A column may be called as a method of the class is.
        **{f"column_{number}": _declared(type_, column) for number, (column, type_) in enumerate(schema.items())},
    }
    remedy = "Copy it anew: `pulselake copy --again`."
    return Table(name, type(re.sub(r"\W", "_", name), (dy.Schema,), members), remedy=remedy)


def _declared(type_: pl.DataType, name: str) -> dy.Column:
    if isinstance(type_, pl.Decimal):
        return dy.Decimal(type_.precision, type_.scale, nullable=True, alias=name)
    if isinstance(type_, pl.Datetime):
        return dy.Datetime(nullable=True, time_unit="us", time_zone="UTC", alias=name)
    if isinstance(type_, pl.Float64):
        return dy.Float64(nullable=True, allow_nan=True, allow_inf=True, alias=name)
    return _COLUMNS[type(type_)](nullable=True, alias=name)
