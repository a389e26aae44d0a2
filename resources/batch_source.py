"""What a source of batches is: something that is asked now and then for what is new since a cursor.

Clients are in `batch_sql`, `batch_rest`, `batch_files`, `batch_cosmos` and `batch_json_lines`. Here is what they share:
the protocol, how rows of plain values become a frame, and how a watermark with an overlap reads each row once. What
becomes of the rows is up to `assets`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

import msgspec
import polars as pl

PIECE_ROWS = 50_000
"""How many rows of a source are in memory together."""
OVERLAP = timedelta(minutes=10)
"""How far before the newest row that was read the next pull begins: a transaction may commit rows that are older."""
MAX_AHEAD = timedelta(days=1)
"""How far a watermark may be ahead of the clock: databases write the time of any zone without naming it."""
MAX_SEEN = 1_000_000
"""How many rows a cursor remembers; more of them have one watermark, or none, than can be told apart."""
UNREADABLE = "unreadable"
"""The column that holds, as JSON text, what a source gave instead of a row."""

_Utc = pl.Datetime("us", "UTC")
_INT64 = range(-(2**63), 2**63)


class Pulled(NamedTuple):
    """Some new rows, and the cursor to go on with once they are stored.

    Attributes:
        rows: with the columns that the source has; none where only the cursor changed.
        cursor: tells `pull` where to go on.
    """

    rows: pl.DataFrame
    cursor: bytes


class BatchSource(Protocol):
    """A source that is asked for what is new."""

    def pull(self, since: bytes | None) -> Iterator[Pulled]:
        """What is new since a cursor, piece by piece; each row that does not change is given once.

        Args:
            since: the cursor of the last piece that was stored; None for all there is.

        Raises:
            BatchSourceError: the source cannot be read. Pieces that were handed out are good.
        """
        ...


class BatchSourceError(RuntimeError):
    """A source of batches cannot be read. What was handed out before is good; the next pull goes on behind it."""

    def __init__(self, source: str, tried: str, reason: str, step: str) -> None:
        super().__init__(
            f"{source}: {tried} failed: {reason.rstrip('. ')}. What was loaded before stays, and the next run goes on "
            f"from there. {step}"
        )


@dataclass(frozen=True)
class SqlTable:
    """A table of a database, read by a column that only grows where a row is new or changed.

    Attributes:
        table: its name.
        watermark: the column, best a time; rows without a value in it are read too. Of a number that grows, a row that
            is committed after one with a greater number is missed.
        schema: the database's schema, for databases that have some.
    """

    table: str
    watermark: str
    schema: str | None = None


@dataclass(frozen=True)
class RestPath:
    """A path of an API that answers with pages of JSON arrays.

    Attributes:
        path: below the API's address.
        watermark: the field by which the API's parameter ``since`` filters; text in ISO 8601.
    """

    path: str
    watermark: str


@dataclass(frozen=True)
class Documents:
    """A folder of files, on a disk or in Azure's blob storage."""


@dataclass(frozen=True)
class Items:
    """A container of Azure Cosmos DB, or a folder of files with a JSON object in each line."""


Place = SqlTable | RestPath | Documents | Items


def frame_of(rows: Sequence[Any]) -> pl.DataFrame:
    """Rows of plain values as a frame: String, Int64, Float64, Boolean, Binary, Date, or Datetime in UTC.

    A column whose values have several types becomes text, each value but dates as JSON; so do lists and objects. What
    is no object becomes a row with its JSON in the column `UNREADABLE`. A decimal becomes a Float64, and an integer
    beyond 64 bits text. Instants without a zone are UTC.

    Args:
        rows: mappings by column name; they need not have the same columns.
    """
    objects = [row if isinstance(row, Mapping) else {UNREADABLE: _json(row)} for row in rows]
    names = dict.fromkeys(name for row in objects for name in row)
    return pl.DataFrame([_column(str(name), [row.get(name) for row in objects]) for name in names])


def _column(name: str, values: list[Any]) -> pl.Series:
    kinds = {_kind(value) for value in values if value is not None}
    if kinds == {pl.Int64, pl.Float64}:
        kinds = {pl.Float64}
    if len(kinds) > 1 or pl.Object in kinds:
        texts = [None if value is None else _text(value) for value in values]
        return pl.Series(name, texts, pl.String)
    kind = kinds.pop() if kinds else pl.Null
    if kind == pl.Float64:
        values = [None if value is None else float(value) for value in values]
    if kind == _Utc:
        values = [None if value is None else _utc(value) for value in values]
    if kind == pl.Binary:
        values = [None if value is None else bytes(value) for value in values]
    return pl.Series(name, values, kind)


def _kind(value: Any) -> Any:
    match value:
        case bool():
            return pl.Boolean
        case int():
            return pl.Int64 if value in _INT64 else pl.Object
        case float() | Decimal():
            return pl.Float64
        case str():
            return pl.String
        case datetime():
            return _Utc
        case date():
            return pl.Date
        case bytes() | bytearray() | memoryview():
            return pl.Binary
    return pl.Object


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _text(value: Any) -> str:
    """A value among texts. MySQL gives a text for a date of zeros, and the dates beside it must stay readable."""
    if isinstance(value, datetime):
        return _utc(value).isoformat()
    return value.isoformat() if isinstance(value, date) else value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()


def digest(values: Iterable[Any]) -> str:
    """What tells one row from another: the same values, in the same order, give the same text."""
    plain = [value.isoformat() if isinstance(value, date | time) else value for value in values]
    text = msgspec.json.encode(plain, enc_hook=repr, order="deterministic")
    return hashlib.blake2b(text, digest_size=8).hexdigest()


@dataclass
class Watermark:
    """How far a source was read: the greatest watermark, and which rows of the overlap before it were read.

    Attributes:
        at: the greatest watermark; None before the first row.
        seen: digests of rows of the overlap and of rows without a watermark, each with its watermark.
        etag: what the server called its last answer, where that is asked for.
    """

    at: Any = None
    seen: dict[str, Any] = field(default_factory=dict)
    etag: str = ""

    @classmethod
    def of(cls, source: str, cursor: bytes | None) -> "Watermark":
        """The one that a cursor holds.

        Raises:
            BatchSourceError: it holds none.
        """
        if cursor is None:
            return cls()
        try:
            mark = msgspec.json.decode(cursor, type=_Stored)
        except msgspec.MsgspecError as error:
            raise BatchSourceError(
                source,
                "reading the cursor",
                f"it is none of this client ({error})",
                "Restore the table of states, or set the source up under another name to read everything again.",
            ) from None
        is_instant = mark.kind == "instant"
        return cls(_value(mark.at, is_instant), {key: _value(at, is_instant) for key, at in mark.seen}, mark.etag)

    def cursor(self) -> bytes:
        """The cursor that holds it."""
        is_instant = isinstance(self.at, datetime)
        seen = [(key, _plain(at)) for key, at in self.seen.items()]
        return msgspec.json.encode(_Stored(_plain(self.at), seen, self.etag, "instant" if is_instant else "plain"))

    def start(self) -> Any:
        """Where the next pull begins, this value included; None for the beginning."""
        return _before(self.at)

    def read(self, rows: Iterable[tuple[str, Any]]) -> None:
        """Notes digests and watermarks of rows that were read, in any order."""
        for key, at in rows:
            self.seen[key] = at
            if at is not None and (self.at is None or at > self.at):
                self.at = at

    def forget(self, source: str) -> None:
        """Forgets rows that the next pull does not read.

        Raises:
            BatchSourceError: too many are left.
        """
        start = self.start()
        self.seen = {key: at for key, at in self.seen.items() if at is None or at >= start}
        if len(self.seen) > MAX_SEEN:
            raise BatchSourceError(
                source,
                "telling new rows from those that were read",
                f"{len(self.seen):,} rows have the newest watermark or none, more than {MAX_SEEN:,}",
                "Name a column as the watermark that has a value in every row and grows with each change.",
            )


class _Stored(msgspec.Struct):
    at: str | int | float | None
    seen: list[tuple[str, str | int | float | None]]
    etag: str
    kind: str


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


def _value(value: Any, is_instant: bool) -> Any:
    return datetime.fromisoformat(value) if is_instant and value is not None else value


def trusted(value: Any, now: datetime) -> Any:
    """A watermark that may say how far a source was read; None for one that no later row would reach.

    Such are texts that are no instants, and instants of a clock that is ahead: behind them all rows would be taken for
    old ones.
    """
    if isinstance(value, date) and not isinstance(value, datetime):
        value = value.isoformat()
    if isinstance(value, datetime):
        return value if _utc(value) <= now + MAX_AHEAD else None
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            return None
        return value if _utc(at) <= now + MAX_AHEAD else None
    return float(value) if isinstance(value, Decimal) else value


def _before(at: Any) -> Any:
    """The watermark by the overlap earlier; a number or a text that is no instant stays as it is."""
    if isinstance(at, datetime):
        return at - OVERLAP
    if not isinstance(at, str):
        return at
    try:
        earlier = datetime.fromisoformat(at) - OVERLAP
    except ValueError:
        return at
    # In the form of the column, so that texts compare as instants do.
    text = earlier.isoformat(sep=at[10] if len(at) > 10 else " ")
    return text.replace("+00:00", "Z") if at.endswith("Z") else text


def one_line(error: BaseException, limit: int = 300) -> str:
    """An error's type and text in one line."""
    return f"{type(error).__name__} {' '.join(str(error).split())[:limit]}".strip()
