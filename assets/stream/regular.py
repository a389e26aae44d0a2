"""Reads the regular form of a payload without a Python object: in a backlog decoding is half of what a batch costs.

Regular is a body of one JSON object or an array of objects, each with the declared fields in their order, of which only
the last may be absent, at most a space behind colons and commas, numbers that are not negative, have no exponent and no
more digits than are read exactly, texts without escapes. A regular expression is exact about that, so what it matches
has one meaning; what it does not match is decoded as if this module were not there.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import polars as pl

PART = 10_000
"""Bodies matched at a time, and on a thread of their own."""

_BETWEEN = "},"
_COUNT, _OPENS, _CLOSES = "__count", "__opens", "__closes"
"""No names of fields."""

_VALUES: Mapping[pl.DataType, str] = {
    pl.Int64(): r"(?<{}>0|[1-9][0-9]{{0,17}})",
    pl.Float64(): r"(?<{}>(?:0|[1-9][0-9]{{0,14}})(?:\.[0-9]{{1,15}})?)",
    pl.String(): r'"(?<{}>[^"\\\x00-\x1f]*)"',
}


class Member(NamedTuple):
    """A field of a payload: its name, whether it must be there, and the column of each type that its value may have."""

    name: str
    is_required: bool
    columns: Mapping[str, pl.DataType]


class RegularForm:
    """The regular form of a payload with these fields, the first of which must be there."""

    def __init__(self, members: Iterable[Member]) -> None:
        first, *others = members
        pattern = ""
        # From the end: where each byte allows one way on only, the expression is matched in one pass, twice as fast.
        for member in reversed(others):
            pattern = f", ?{_pattern(member)}{pattern}"
            pattern = pattern if member.is_required else f"(?:{pattern})?"
        pattern = rf"\{{{_pattern(first)}{pattern}"
        columns = {name: dtype for member in (first, *others) for name, dtype in member.columns.items()}
        self._object = pl.col("body").str.extract_groups(rf"^{pattern}\}}$")
        # What stands between the ends of objects in an array.
        self._piece = pl.col("body").str.extract_groups(rf"^(?<{_OPENS}>\[)? ?{pattern}(?<{_CLOSES}>\}}\])?$")
        self._is_matched = pl.any_horizontal(pl.col(*first.columns).is_not_null())
        self._columns = [
            pl.col("event", "event_index").cast(pl.Int64),
            *(pl.col(name).cast(dtype) for name, dtype in columns.items()),
        ]

    def read(self, bodies: pl.Series) -> pl.DataFrame:
        """The readings of those bodies, named ``body``, that have the regular form.

        Returns:
            ``event`` (index of the body), ``event_index`` and the payload's columns; ordered by both.
        """
        texts = bodies.to_frame().with_row_index("event")
        is_array = bodies.str.starts_with("[")
        objects, arrays = self._objects, self._arrays
        if not is_array.any():
            return _read(objects, texts)
        if is_array.all():
            return _read(arrays, texts)
        read = [_read(objects, texts.filter(~is_array)), _read(arrays, texts.filter(is_array))]
        return pl.concat(read).sort("event", maintain_order=True)

    def _objects(self, texts: pl.LazyFrame) -> pl.LazyFrame:
        matched = texts.select("event", self._object, event_index=0).unnest("body").filter(self._is_matched)
        return matched.select(self._columns)

    def _arrays(self, texts: pl.LazyFrame) -> pl.LazyFrame:
        pieces = pl.col("body").str.split(_BETWEEN)
        place, count = pl.col("event_index"), pl.col(_COUNT)
        matched = (
            texts.select("event", pieces, pieces.list.len().alias(_COUNT))
            .with_columns(event_index=pl.int_ranges(count))
            .explode("body", "event_index")
            .select("event", "event_index", _COUNT, self._piece)
            .unnest("body")
        )
        is_right = (
            self._is_matched
            & (pl.col(_OPENS).is_not_null() == (place == 0))
            & (pl.col(_CLOSES).is_not_null() == (place == count - 1))
        )
        return matched.filter(is_right.all().over("event")).select(self._columns)


def _read(read: Callable[[pl.LazyFrame], pl.LazyFrame], texts: pl.DataFrame) -> pl.DataFrame:
    parts = (texts.slice(start, PART).lazy() for start in range(0, texts.height, PART))
    return pl.concat(pl.collect_all(map(read, parts)), rechunk=True)


def _pattern(member: Member) -> str:
    values = "|".join(_VALUES[dtype].format(column) for column, dtype in member.columns.items())
    return f'"{re.escape(member.name)}": ?(?:{values})'
