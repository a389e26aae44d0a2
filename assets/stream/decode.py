"""From raw bodies to payload columns, or to a reason why not. Any bytes in, no exception out, no event left out.

msgspec decodes what is as the contract says; whatever it refuses is looked at again member by member, which is slow but
says what is wrong. What a value means (units, plausibility, time) belongs to the domain's `silver`.

A body is one JSON object, an array of objects, or JSON lines: objects separated by line breaks. Ordinary senders also
put a byte order mark in front, white space around or NULs behind, and pack the body with gzip; all of that is undone
here, while bronze keeps the body as it came.
"""

import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl

from assets.stream.contract import AdaptedReadings, ContractError, Int64
from assets.stream.regular import Member, RegularForm

TEXT = "_text"
"""Suffix of the second column of a payload field that may be a number or a text."""

NOT_JSON = "not_json"
NOT_AN_OBJECT = "not_an_object"
BAD_GZIP = "bad_gzip"
TOMBSTONE = "tombstone"
NOT_EXPLAINED = "not_explained"
"""In the place of a reason, where it was not looked for: the body may be of another system, and looking is slow."""
IMPLAUSIBLE = "implausible"
IMPLAUSIBLE_UNIT = "implausible_unit"
POSITION = {"event": pl.Int64, "event_index": pl.Int64}
SKIPPED = {"event": pl.Int64, "kind": pl.String}
COUNT = "reading_count"
INSTANT = "_instant"
"""The column for when a reading of another system was measured; null where its timestamp has to be read."""
MAX_UNPACKED_BYTES = 8 << 20
"""The largest body that gzip may hold: eight times the largest event of a hub."""
MAX_UNPACKED_RATIO, LEAST_ROOM_BYTES = 100, 16 << 10
"""How many times larger than its packed bytes a body may be, and what is allowed whatever the ratio.

JSON of readings shrinks to a tenth or a thirtieth. Without a bound, a micro-batch of a few small events would not fit
into memory, and its stream would stop for ever.
"""
PART = 20_000
"""Bodies decoded at a time: their objects fit into the processor's cache, which makes decoding a third faster."""


body_size = pl.coalesce(pl.col("body").str.len_bytes(), pl.col("body_bytes").bin.size()).cast(pl.Int64)
"""The bytes of a body as bronze and quarantine hold it; null where they hold none."""


def missing_field(name: str) -> str:
    """The quarantine reason for a required field that is absent or null."""
    return f"missing_field:{name}"


def bad_type(name: str) -> str:
    """The quarantine reason for a field whose value is not of the declared type."""
    return f"bad_type:{name}"


@dataclass(frozen=True)
class Decoded:
    """What a list of bodies holds.

    Attributes:
        readings: ``event`` (index of the body), ``event_index`` (position in an array body) and the payload's columns;
            ordered by both.
        rejects: ``event``, ``event_index``, ``reason``.
        reading_counts: for each body the number of its readings and rejects, at least 1.
        unknown_fields: how often each undeclared field was seen.
        bodies: what was decoded: ``body``, or ``body_bytes`` where it is no UTF-8.
        skipped: ``event`` and ``kind`` of records of other systems that are no readings; they are in the counts.
    """

    readings: pl.DataFrame
    rejects: pl.DataFrame
    reading_counts: pl.Series
    unknown_fields: Counter[str]
    bodies: pl.DataFrame
    skipped: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SKIPPED))


class _Field(NamedTuple):
    name: str
    type: Any
    is_required: bool
    dtypes: tuple[pl.DataType, ...]
    values: Callable[[list[Any]], list[Any]]

    @property
    def columns(self) -> list[tuple[str, pl.DataType]]:
        """Its columns: of a field that may be a number or a text, the second one is for texts."""
        return [*zip((self.name, self.name + TEXT), self.dtypes, strict=False)]

    @property
    def is_unread(self) -> bool:
        """Whether the field is known, and its values stay in bronze."""
        return not self.dtypes

    @property
    def is_nested(self) -> bool:
        """Whether its values are objects or lists."""
        return any(dtype.is_nested() for dtype in self.dtypes)


class _Reject(NamedTuple):
    reason: str


_NOT_EXPLAINED = [_Reject(NOT_EXPLAINED)]

Body = bytes | None
"""None is an event without a body, which Kafka calls a tombstone."""

_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_OPENS, _CLOSES = (b"{", b"["), (b"}", b"]")
_WHITE_SPACE = b" \t\n\r\v\f"
_REFUSALS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for a body that is not as declared."""

_BY_KIND: dict[type, pl.DataType] = {
    msgspec.inspect.IntType: pl.Int64(),
    msgspec.inspect.FloatType: pl.Float64(),
    msgspec.inspect.BoolType: pl.Boolean(),
    msgspec.inspect.StrType: pl.String(),
}
_PLACE = re.compile(r" - at `\$(?P<path>.*)`$")
_NUMBER_IN_LIST = re.compile(r"\[(\d+|\.\.\.)\]")
_AS_JSON = msgspec.json.Encoder().encode

_Part = tuple[pl.DataFrame, pl.DataFrame, pl.Series]
"""Readings, rejects and reading counts."""


class Decoder:
    """Decodes the bodies of one stream's events.

    A field of the payload is a number, a text, a truth value, or an object (a `msgspec.Struct`) or a list of these, in
    any depth. A field that is declared as `msgspec.Raw` is known, and not read.

    Raises:
        ContractError: the payload has a field that no column can hold.
    """

    regular_from = 1 << 19
    """Below so many bytes, looking for the regular form first saves nothing."""

    def __init__(self, payload: type[msgspec.Struct]) -> None:
        fields = msgspec.structs.fields(payload)
        _check(payload, fields)
        strict = msgspec.defstruct(payload.__name__, [], bases=(payload,), forbid_unknown_fields=True, gc=False)
        self._payload, self._declared = payload, strict
        # The types are made from the contract while it runs, so mypy cannot know them.
        self._all_declared = list[strict]  # type: ignore[valid-type]
        self._strict = msgspec.json.Decoder(strict | list[strict]).decode  # type: ignore[valid-type]
        self._lenient = msgspec.json.Decoder(payload | list[payload]).decode  # type: ignore[valid-type]
        first = [(f.name, msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for f in fields if f.required][:1]
        of_first = msgspec.defstruct("First", first, gc=False)
        self._first_of, self._lacks = msgspec.json.Decoder(of_first).decode, of_first() if first else None
        self._members = msgspec.json.Decoder(dict[str, msgspec.Raw] | list[dict[str, msgspec.Raw]]).decode
        self._fields = tuple(_Field(f.name, f.type, f.required, _dtypes(f), _reader(f.name)) for f in fields)
        self._names = frozenset(f.name for f in self._fields)
        self._unread = frozenset(f.name for f in self._fields if f.is_unread)
        self._regular = _regular_form(fields)
        self.schema = pl.Schema(POSITION | dict(_columns(fields)))

    def decode(self, bodies: Sequence[Body], *, is_explained: bool = True) -> Decoded:
        """Decodes bodies of one JSON object, of an array of objects, or of JSON lines each.

        Args:
            bodies: of events.
            is_explained: whether a body in which a field is missing or of another type is taken apart. If not, it has
                one reject, whose reason is `NOT_EXPLAINED`.
        """
        unknown: Counter[str] = Counter()
        columns = _texts_and_bytes(bodies)
        if not bodies or self._regular is None or columns["body"].str.len_bytes().sum() < self.regular_from:
            return Decoded(*self._any(bodies, unknown, is_explained), unknown, columns)
        regular = self._regular.read(columns["body"])
        counts = pl.Series(COUNT, np.bincount(regular["event"], minlength=len(bodies)), dtype=pl.Int64)
        others = (counts == 0).arg_true().cast(pl.Int64)
        if others.is_empty():
            return Decoded(regular, rejected([]), counts, unknown, columns)
        readings, rejects, other_counts = self._any([bodies[event] for event in others], unknown, is_explained)
        readings, rejects = (frame.with_columns(event=others[frame["event"]]) for frame in (readings, rejects))
        together = pl.concat([regular, readings]).sort("event", maintain_order=True)
        return Decoded(together, rejects, counts.scatter(others, other_counts), unknown, columns)

    def not_decoded(self, bodies: Sequence[Body]) -> Decoded:
        """Bodies as they are, for bronze, where decoding them failed; each counts as one reading."""
        nothing = pl.DataFrame(schema=self.schema)
        ones = _repeated(COUNT, 1, pl.Int64, len(bodies))
        return Decoded(nothing, rejected([]), ones, Counter(), _texts_and_bytes(bodies))

    def members(
        self, members: Sequence[tuple[int, int, Any]], unknown: Counter[str]
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The readings and the rejects of parsed objects.

        Args:
            members: for each the index of its event, its position in the event, and the object.
            unknown: to which undeclared fields are added.
        """
        with suppress(*_REFUSALS, UnicodeEncodeError, OverflowError):
            # Most often nothing is wrong with any of them.
            rows: list[Any] = msgspec.convert([member for _, _, member in members], self._all_declared)
            _AS_JSON(rows)  # refuses texts that are no Unicode
            places = ([event for event, _, _ in members], [index for _, index, _ in members])
            return self._frame(rows, *places), rejected([])
        rows = []
        events: list[int] = []
        indexes: list[int] = []
        rejects: list[tuple[int, int, str]] = []
        for event, index, member in members:
            row = self._member(member, unknown)
            if type(row) is _Reject:
                rejects.append((event, index, row.reason))
            else:
                rows.append(row)
                events.append(event)
                indexes.append(index)
        return self._frame(rows, events, indexes), rejected(rejects)

    def adapted(self, readings: AdaptedReadings) -> tuple[pl.DataFrame, list[tuple[int, int, str]]]:
        """The readings of other systems, with `INSTANT`, and the rejects among them: event, position and reason."""
        with suppress(UnicodeEncodeError):
            return self._adapted(readings), []
        wrong: dict[int, str] = {}
        for declared in self._fields:
            for place, value in enumerate(readings.fields.get(declared.name, ())):
                if not _is_unicode(value):
                    wrong.setdefault(place, bad_type(declared.name))
        rejects = [(readings.events[place], readings.indexes[place], reason) for place, reason in wrong.items()]
        kept = [place for place in range(len(readings.events)) if place not in wrong]
        fields = {name: [values[place] for place in kept] for name, values in readings.fields.items()}
        events, indexes = ([places[place] for place in kept] for places in readings[:2])
        return self._adapted(AdaptedReadings(events, indexes, readings.measured_at[kept], fields)), rejects

    def _adapted(self, readings: AdaptedReadings) -> pl.DataFrame:
        count = len(readings.events)
        columns = [
            pl.Series("event", readings.events, dtype=pl.Int64),
            pl.Series("event_index", readings.indexes, dtype=pl.Int64),
        ]
        for declared in self._fields:
            if (values := readings.fields.get(declared.name)) is not None:
                columns += _series(declared, values)
            else:
                columns += [_repeated(name, None, dtype, count) for name, dtype in declared.columns]
        return pl.DataFrame([*columns, readings.measured_at.alias(INSTANT)])

    def _any(self, bodies: Sequence[Body], unknown: Counter[str], is_explained: bool) -> _Part:
        """Decodes bodies of any form."""
        starts = range(0, max(1, len(bodies)), PART)
        parts = [self._part(bodies[start : start + PART], start, unknown, is_explained) for start in starts]
        readings, rejects, counts = zip(*parts, strict=True)
        return pl.concat(readings, rechunk=True), pl.concat(rejects), pl.concat(counts, rechunk=True)

    def _part(self, bodies: Sequence[Body], start: int, unknown: Counter[str], is_explained: bool) -> _Part:
        """Decodes bodies, the first of which is the event `start`."""
        values = self._values(bodies, unknown, is_explained)
        if list not in set(map(type, values)):
            ones = _repeated(COUNT, 1, pl.Int64, len(values))
            return self._frame(values, range(start, start + len(values)), None), rejected([]), ones
        rows: list[Any] = []
        events: list[int] = []
        indexes: list[int] = []
        rejects: list[tuple[int, int, str]] = []
        for event, value in enumerate(values, start):
            if value is _NOT_EXPLAINED:
                rejects.append((event, 0, NOT_EXPLAINED))
                continue
            if type(value) is not list:
                rows.append(value)
                events.append(event)
                indexes.append(0)
                continue
            for index, member in enumerate(value or [_Reject(NOT_AN_OBJECT)]):
                if type(member) is _Reject:
                    rejects.append((event, index, member.reason))
                else:
                    rows.append(member)
                    events.append(event)
                    indexes.append(index)
        counts = [max(1, len(value)) if type(value) is list else 1 for value in values]
        return self._frame(rows, events, indexes), rejected(rejects), pl.Series(COUNT, counts, dtype=pl.Int64)

    def _values(self, bodies: Sequence[Body], unknown: Counter[str], is_explained: bool) -> list[Any]:
        values: list[Any] = []
        remaining: Iterator[Any] = iter(bodies)
        while len(values) < len(bodies):
            try:
                # Several times faster than a loop in Python; what was decoded before an error stays in the list.
                values.extend(map(self._strict, remaining))
            except (*_REFUSALS, TypeError):  # a TypeError where there is no body
                values.append(self._explain(bodies[len(values)], unknown, is_explained))
                if not is_explained:
                    # Bodies of other systems come together, and each error costs as much as reading ten of the stream.
                    lacking = self._lacking(bodies, len(values))
                    values += [_NOT_EXPLAINED] * lacking
                    next(islice(remaining, lacking, lacking), None)
        return values

    def _lacking(self, bodies: Sequence[Body], start: int) -> int:
        """How many bodies from one on are objects without the first field that is required."""
        place = start
        if self._lacks is not None:
            with suppress(*_REFUSALS):
                while place < len(bodies) and self._first_of(bodies[place] or b"") == self._lacks:
                    place += 1
        return place - start

    def _explain(self, body: Body, unknown: Counter[str], is_explained: bool) -> Any:
        """What the strict decoder refused: a row where only undeclared fields were in the way, else its members."""
        if body is None:
            return [_Reject(TOMBSTONE)]
        document = document_of(body)
        if document is None:
            return [_Reject(BAD_GZIP)]
        if document is not body:
            with suppress(*_REFUSALS):
                return self._strict(document)
        try:
            return self._with_unknown(document, unknown)
        except msgspec.ValidationError:
            if not is_explained:
                return [_Reject(NOT_EXPLAINED)]
        except _REFUSALS:
            pass
        return list(self._examine(document, unknown))

    def _with_unknown(self, document: bytes, unknown: Counter[str]) -> Any:
        """The row of an object, or the rows of an array, in which nothing is wrong but undeclared fields."""
        rows = self._lenient(document)
        document.decode()  # msgspec looks at the encoding of declared fields only
        members = self._members(document)
        for names in members if isinstance(members, list) else [members]:
            unknown.update(name for name in names if name not in self._names)
        return rows

    def _examine(self, document: bytes, unknown: Counter[str]) -> Iterator[Any]:
        try:
            value = parsed(document)
        except (ValueError, RecursionError):
            yield from self._examine_lines(document, unknown)
            return
        for member in value if isinstance(value, list) and value else [value]:
            yield self._member(member, unknown)

    def _examine_lines(self, document: bytes, unknown: Counter[str]) -> list[Any]:
        """JSON lines, one damaged line of which spoils no other; or one reject for a document that is none."""
        lines = [line for each in document.split(b"\n") if (line := _trimmed(each))]
        members: list[Any] = []
        if len(lines) > 1 and all(line.startswith(b"{") for line in lines):
            members = [self._line(line, unknown) for line in lines]
        is_json = any(member != _Reject(NOT_JSON) for member in members)
        return members if is_json else [_Reject(NOT_JSON)]

    def _line(self, line: bytes, unknown: Counter[str]) -> Any:
        with suppress(*_REFUSALS):
            return self._strict(line)
        with suppress(*_REFUSALS):
            return self._with_unknown(line, unknown)
        try:
            return self._member(parsed(line), unknown)
        except (ValueError, RecursionError):
            return _Reject(NOT_JSON)

    def _member(self, member: Any, unknown: Counter[str]) -> Any:
        if not isinstance(member, dict):
            return _Reject(NOT_AN_OBJECT)
        try:
            # Most objects have nothing wrong, and are faster converted as a whole than value by value.
            row = msgspec.convert(member, self._declared)
            _AS_JSON(row)  # refuses texts that are no Unicode
        except (*_REFUSALS, UnicodeEncodeError, OverflowError):
            return self._examined(member, unknown)
        return row

    def _examined(self, member: dict[str, Any], unknown: Counter[str]) -> Any:
        """The row of an object with other fields than those that are declared; or what is wrong with it."""
        unknown_names = [name for name in member if name not in self._names]
        with suppress(*_REFUSALS, UnicodeEncodeError, OverflowError):
            given = {name: value for name, value in member.items() if value is not None and name not in self._unread}
            row = msgspec.convert(given, self._payload)
            _AS_JSON(row)  # refuses texts that are no Unicode
            unknown.update(unknown_names)
            return row
        values: dict[str, Any] = {}
        for declared in self._fields:
            value = member.get(declared.name)
            if value is None:
                if declared.is_required:
                    return _Reject(missing_field(declared.name))
                continue
            if declared.is_unread:
                continue
            try:
                values[declared.name] = converted = msgspec.convert(value, declared.type)
                if isinstance(value, str | dict | list):
                    _AS_JSON(converted)  # refuses texts that are no Unicode
            except (msgspec.ValidationError, UnicodeEncodeError, OverflowError, RecursionError) as error:
                return _Reject(bad_type(declared.name + _place_of(error)))
        unknown.update(unknown_names)
        return self._payload(**values)

    def _frame(self, rows: list[Any], events: Sequence[int], indexes: list[int] | None) -> pl.DataFrame:
        columns = [pl.Series("event", events, dtype=pl.Int64)]
        if indexes is None:
            columns.append(_repeated("event_index", 0, pl.Int64, len(rows)))
        else:
            columns.append(pl.Series("event_index", indexes, dtype=pl.Int64))
        for declared in self._fields:
            if not declared.is_unread:
                columns += _series(declared, declared.values(rows))
        return pl.DataFrame(columns)


def document_of(body: bytes) -> bytes | None:
    """The JSON in a body, the body itself where there is nothing around it; None where gzip cannot be unpacked."""
    if body.startswith(_GZIP_MAGIC):
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(body)) as packed:
                room = min(MAX_UNPACKED_BYTES, max(LEAST_ROOM_BYTES, MAX_UNPACKED_RATIO * len(body)))
                body = packed.read(room + 1)
        except (OSError, EOFError, zlib.error):
            return None
        if len(body) > room:
            return None
    if body[:1] in _OPENS and body[-1:] in _CLOSES:
        return body
    return _trimmed(body.removeprefix(_BYTE_ORDER_MARK))


def _trimmed(text: bytes) -> bytes:
    return text.lstrip(_WHITE_SPACE).rstrip(_WHITE_SPACE + b"\0")


def parsed(document: bytes) -> Any:
    """What a JSON text in UTF-8 holds.

    What msgspec reads means the same to Python, which is nine times as slow and reads more: numbers that no Float64
    holds, and halves of surrogate pairs.

    Raises:
        ValueError: it is none.
        RecursionError: it is nested too deeply.
    """
    try:
        return msgspec.json.decode(document)
    except _REFUSALS:
        return _PARSER.decode(document.decode())


def _texts_and_bytes(bodies: Sequence[Body]) -> pl.DataFrame:
    try:
        text = pl.Series("body", bodies, dtype=pl.Binary).cast(pl.String)
        return pl.DataFrame([text, _repeated("body_bytes", None, pl.Binary, len(bodies))])
    except pl.exceptions.ComputeError:
        texts = [body if body is not None and _is_utf_8(body) else None for body in bodies]
    binary = [body if text is None else None for body, text in zip(bodies, texts, strict=True)]
    return pl.DataFrame(
        [pl.Series("body", texts, dtype=pl.Binary).cast(pl.String), pl.Series("body_bytes", binary, dtype=pl.Binary)]
    )


def _is_unicode(value: Any) -> bool:
    """Whether a value is anything but a text with halves of surrogate pairs."""
    try:
        return not isinstance(value, str) or bool(value.encode() or True)
    except UnicodeEncodeError:
        return False


def _is_utf_8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _regular_form(fields: Sequence[msgspec.structs.FieldInfo]) -> RegularForm | None:
    """What reads the regular form, unless a field has constraints, a default or a name that only msgspec heeds."""
    plain = [msgspec.inspect.type_info(each) for each in (Int64, float, str, None)]
    required = [declared.required for declared in fields]
    is_plain = required[:1] == [True] and required == sorted(required, reverse=True)
    is_plain &= all(
        all(kind in plain for kind in _kinds(declared))
        and (declared.required or declared.default is None)
        and declared.encode_name == declared.name
        for declared in fields
    )
    members = (Member(declared.name, declared.required, dict(_columns([declared]))) for declared in fields)
    return RegularForm(members) if is_plain else None


def rejected(rows: Sequence[tuple[int, int, str]]) -> pl.DataFrame:
    """Rejects as a frame: index of the event, position in it and reason."""
    return pl.DataFrame(rows, schema=POSITION | {"reason": pl.String}, orient="row")


def _integer(digits: str) -> float:
    try:
        return int(digits)
    except ValueError:  # more digits than Python converts
        return float(digits)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_PARSER = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_integer)


def _reader(name: str) -> Callable[[list[Any]], list[Any]]:
    """Reads a field of all rows: with its name in the code, Python does so twice as fast as `operator.attrgetter`."""
    reader: Callable[[list[Any]], list[Any]] = eval(f"lambda rows: [row.{name} for row in rows]")
    return reader


def _check(payload: type[msgspec.Struct], fields: Sequence[msgspec.structs.FieldInfo]) -> None:
    """Refuses a field that one column, or a number's and a text's, cannot hold."""
    for declared in fields:
        kinds = [kind for kind in _kinds(declared) if not isinstance(kind, msgspec.inspect.NoneType)]
        if any(isinstance(kind, msgspec.inspect.RawType) for kind in kinds):
            if not declared.required:
                continue
            raise ContractError(
                f"Payload {payload.__name__}: the field {declared.name} is declared as {declared.type}, which is not "
                "read, so it cannot be required; give it the default `msgspec.Raw()`."
            )
        others = [kind for kind in kinds if not isinstance(kind, msgspec.inspect.StrType)]
        dtypes = [_dtype(kind) for kind in kinds]
        is_nested = any(dtype is not None and dtype.is_nested() for dtype in dtypes)
        if None in dtypes or not dtypes or len(others) > 1 or (is_nested and len(kinds) > 1):
            raise ContractError(
                f"Payload {payload.__name__}: the field {declared.name} is declared as {declared.type}, which no column"
                " holds, so no body of the stream can be decoded; declare it as a number, a bool, a str, one of the"
                " first two and str, or as a Struct or a list of these, in which integers are Int64. What is nested in"
                " a body stays in bronze if the field is not declared."
            )


def _kinds(declared: msgspec.structs.FieldInfo) -> Sequence[msgspec.inspect.Type]:
    return _alternatives(msgspec.inspect.type_info(declared.type))


def _alternatives(kind: msgspec.inspect.Type) -> Sequence[msgspec.inspect.Type]:
    return kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)


def _dtype(kind: msgspec.inspect.Type) -> pl.DataType | None:
    """The column type of a kind of value; None where there is none."""
    match kind:
        case msgspec.inspect.StructType():
            fields = {field.encode_name: _nested_dtype(field.type) for field in kind.fields}
            known = {name: dtype for name, dtype in fields.items() if dtype is not None}
            return pl.Struct(known) if known and len(known) == len(fields) else None
        case msgspec.inspect.ListType():
            item = _nested_dtype(kind.item_type)
            return None if item is None else pl.List(item)
        case _:
            return _BY_KIND.get(type(kind))


def _nested_dtype(kind: msgspec.inspect.Type) -> pl.DataType | None:
    """The same within an object or a list, where a value that may be a number or a text becomes a text.

    Integers must be bounded, as `Int64` is: what Polars reads them from is JSON.
    """
    kinds = [each for each in _alternatives(kind) if not isinstance(each, msgspec.inspect.NoneType)]
    if any(isinstance(each, msgspec.inspect.IntType) and None in (each.ge, each.le) for each in kinds):
        return None
    if len(kinds) == 1:
        return _dtype(kinds[0])
    return pl.String() if kinds and all(type(each) in _BY_KIND for each in kinds) else None


def _dtypes(declared: msgspec.structs.FieldInfo) -> tuple[pl.DataType, ...]:
    kinds = _kinds(declared)
    nested = (_dtype(kind) for kind in kinds if type(kind) not in _BY_KIND)
    scalars = (dtype for kind, dtype in _BY_KIND.items() if any(isinstance(each, kind) for each in kinds))
    return (*scalars, *(dtype for dtype in nested if dtype is not None))


def _columns(fields: Sequence[msgspec.structs.FieldInfo]) -> Iterator[tuple[str, pl.DataType]]:
    for declared in fields:
        if dtypes := _dtypes(declared):
            yield declared.name, dtypes[0]
        if len(dtypes) > 1:
            yield declared.name + TEXT, pl.String()


def _place_of(error: Exception) -> str:
    """Where in a field a value is wrong, as far as msgspec says so: names that are declared, and no value."""
    found = _PLACE.search(str(error))
    return _NUMBER_IN_LIST.sub("[]", found["path"]) if found else ""


def _series(declared: _Field, values: Sequence[Any] | pl.Series) -> list[pl.Series]:
    name, dtypes = declared.name, declared.dtypes
    if declared.is_nested:
        # Polars reads JSON several times faster than it walks through Python's objects.
        texts = [None if value is None else _AS_JSON(value).decode() for value in values]
        return [pl.Series(name, texts, dtype=pl.String).str.json_decode(dtypes[0])]
    if len(dtypes) == 1:
        return [pl.Series(name, values, dtype=dtypes[0])]
    # Most often all values are alike, and finding that out costs more than trying.
    with suppress(TypeError):
        if values and type(values[0]) is str:
            return [_repeated(name, None, dtypes[0], len(values)), pl.Series(name + TEXT, values, dtype=pl.String)]
        return [pl.Series(name, values, dtype=dtypes[0]), _repeated(name + TEXT, None, pl.String, len(values))]
    texts = [value if type(value) is str else None for value in values]
    numbers = [None if type(value) is str else value for value in values]
    return [pl.Series(name, numbers, dtype=dtypes[0]), pl.Series(name + TEXT, texts, dtype=pl.String)]


def _repeated(name: str, value: int | None, dtype: pl.DataType | type[pl.DataType], times: int) -> pl.Series:
    return pl.Series(name, [value], dtype=dtype).new_from_index(0, times)
