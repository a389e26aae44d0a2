"""Versions of things in two times: from when a version holds in the world, and since when it is known here.

Rows are only ever added. A version of a key has a `valid_from` and a `known_at`; a later `known_at` with the same
`valid_from` corrects it, and `is_deleted` ends the thing. At an instant t, by what is known at k, that version holds
which has the greatest `valid_from` up to t among those known by k; of equal ones the one that was known last. Pure.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

VALID_FROM, KNOWN_AT, IS_DELETED, CHANGED_BY = "valid_from", "known_at", "is_deleted", "changed_by"
VERSION_COLUMNS: Final = (VALID_FROM, KNOWN_AT, IS_DELETED, CHANGED_BY)
"""What every version says of itself."""

SAFETY_DELAY: Final = timedelta(seconds=10)
"""How long after `known_at` a version counts for readings that are pulled. A session looks for new versions every few
seconds; by then it has surely found one, so that it decides as a rebuild does, which finds all of them."""

_KEPT_STATES = 4
_DENSE = 4
"""How many numbers there may be for each key so that keys are looked up by position."""

Int64s = NDArray[np.int64]
S = TypeVar("S")


def holding(
    versions: pl.DataFrame, key: str | Sequence[str], at: datetime, known_by: datetime | None = None
) -> pl.DataFrame:
    """The version of each key that holds at an instant, by what is known then; ordered by the key.

    Args:
        versions: rows with the key and `VERSION_COLUMNS`.
        key: the column, or the columns, that tell things apart.
        at: the instant.
        known_by: only versions known up to this instant count; all if None.
    """
    return standing(versions, key, at, known_by).filter(~pl.col(IS_DELETED))


def standing(
    versions: pl.DataFrame, key: str | Sequence[str], at: datetime, known_by: datetime | None = None
) -> pl.DataFrame:
    """The same with those that say that their thing has ended."""
    is_known = pl.lit(True) if known_by is None else pl.col(KNOWN_AT) <= known_by
    keys = [key] if isinstance(key, str) else [*key]
    counted = versions.filter(pl.col(VALID_FROM) <= at, is_known).sort(*keys, VALID_FROM, KNOWN_AT)
    return counted.unique(subset=keys, keep="last", maintain_order=True)


class ByKnowledge(Generic[S]):
    """What is known at different moments, made once for each of them.

    Args:
        known_at: when each version became known, in order.
        make: what follows from the first so many versions, at least one.
    """

    def __init__(self, known_at: pl.Series, make: Callable[[int], S]) -> None:
        self._known_at, self._make = microseconds(known_at), make
        self._made: dict[int, S] = {}

    def prepare(self) -> None:
        """Does ahead what the newest knowledge needs, and that before the last load."""
        newest = len(self._known_at)
        if newest:
            before = int(np.searchsorted(self._known_at, self._known_at[-1], side="left"))
            for count in {before, newest} - {0}:
                self._of(count)

    def groups(self, known_by: pl.Series) -> Iterator[tuple[S, NDArray[np.intp] | slice]]:
        """The places of those that know the same, and what follows from it; those that know nothing are left out.

        Args:
            known_by: up to when versions are known, UTC.
        """
        counts = np.searchsorted(self._known_at, microseconds(known_by), side="right")
        # What is pulled together knows the same.
        if len(counts) and (counts == counts[0]).all():
            if counts[0]:
                yield self._of(int(counts[0])), slice(None)
            return
        for count in sorted(set(counts.tolist()) - {0}):
            yield self._of(count), np.flatnonzero(counts == count)

    def _of(self, count: int) -> S:
        """Loads follow each other in time, and so do look-ups."""
        if count not in self._made:
            if len(self._made) >= _KEPT_STATES:
                self._made.pop(next(iter(self._made)))
            self._made[count] = self._make(count)
        return self._made[count]


class AsOf:
    """Finds for many readings at once which version of a thing holds, in memory.

    Args:
        versions: all rows of a table, with `VERSION_COLUMNS`.
        key: the column that tells things apart, an Int64.
    """

    def __init__(self, versions: pl.DataFrame, key: str) -> None:
        self.versions = versions.sort(KNOWN_AT)
        self._known = ByKnowledge(self.versions[KNOWN_AT], lambda count: Snapshot(self.versions.head(count), key))

    def prepare(self) -> None:
        """Does ahead what look-ups with the newest knowledge, and with that before the last load, need."""
        self._known.prepare()

    def rows_of(self, keys: pl.Series, at: pl.Series, known_by: pl.Series) -> pl.Series:
        """The row of `versions` that holds for each key, instant and knowledge; null where none does.

        Args:
            keys: Int64; a null has no version.
            at: for each key the instant, UTC.
            known_by: for each key up to when versions are known, UTC.
        """
        numbers, times = (keys.fill_null(0) if keys.has_nulls() else keys).to_numpy(), microseconds(at)
        found: Int64s = np.full(len(numbers), -1, dtype=np.int64)
        for snapshot, places in self._known.groups(known_by):
            found[places] = snapshot.rows_of(numbers[places], times[places])
        has_none = found < 0
        if keys.has_nulls():
            has_none |= keys.is_null().to_numpy()
        rows = pl.Series(found)
        return rows.set(pl.Series(has_none), None) if has_none.any() else rows


class AsOfTexts:
    """Finds which version of a thing holds that several texts together name.

    A thing of which nothing is known that holds, by what was known then, is looked up by all that is known now; and for
    an instant before its first version by that one. So what becomes known late is found, once it is looked up again.

    Args:
        versions: all rows of a table, with `VERSION_COLUMNS`; at least one.
        keys: the columns that tell things apart, Strings.
    """

    def __init__(self, versions: pl.DataFrame, keys: Sequence[str]) -> None:
        things = versions.group_by(*keys, maintain_order=True).agg(pl.col(VALID_FROM).min()).with_row_index("_thing")
        numbered = things.select("_thing", *keys).iter_rows()
        self._numbers: dict[tuple[str, ...], int] = {tuple(row): number for number, *row in numbered}
        self._first_from = things[VALID_FROM]
        of_things = versions.join(things.select(pl.col("_thing").cast(pl.Int64), *keys), on=list(keys), how="left")
        self._as_of = AsOf(of_things, "_thing")
        self.versions = self._as_of.versions
        self._newest = self.versions[KNOWN_AT].max()

    def prepare(self) -> None:
        """Does ahead what look-ups with the newest knowledge need."""
        self._as_of.prepare()

    def rows_of(self, keys: Sequence[tuple[str, ...] | None], at: pl.Series, known_by: pl.Series) -> pl.Series:
        """The row of `versions` that holds for each key, instant and knowledge; null where none does.

        Args:
            keys: one text for each column; None has no version.
            at: for each key the instant, UTC.
            known_by: for each key up to when versions are known, UTC.
        """
        numbers = pl.Series([None if each is None else self._numbers.get(each) for each in keys], dtype=pl.Int64)
        found = self._as_of.rows_of(numbers, at, known_by)
        again = (found.is_null() & numbers.is_not_null()).arg_true()
        if again.is_empty():
            return found
        first = self._first_from.gather(numbers[again])
        late = at[again].zip_with(at[again] >= first, first)
        newest = pl.Series([self._newest], dtype=known_by.dtype).new_from_index(0, len(again))
        return found.scatter(again, self._as_of.rows_of(numbers[again], late, newest))


class Snapshot:
    """The versions that were known at one moment, ordered by key and `valid_from`.

    ```
    keys     7           8      9               one entry a key
    begins   0           2      3        6      where the versions of a key begin; the last entry is their number
    from     Jan   Mar   Jan    Feb Mar Apr     when each version begins to hold
    rows     4     0     1      ...             where it is among all versions; -1 where it ends the thing
    ```
    """

    def __init__(self, known: pl.DataFrame, key: str) -> None:
        place = pl.int_range(pl.len(), dtype=pl.Int64).alias("_place")
        ordered = (
            known.select(key, VALID_FROM, KNOWN_AT, IS_DELETED, place)
            .sort(key, VALID_FROM, KNOWN_AT, "_place")
            .unique(subset=[key, VALID_FROM], keep="last", maintain_order=True)
        )
        self._keys, begins = np.unique(ordered[key].to_numpy(), return_index=True)
        self._begins: Int64s = np.append(begins, ordered.height).astype(np.int64)
        self._from = microseconds(ordered[VALID_FROM])
        self._rows = ordered.select(pl.when(~pl.col(IS_DELETED)).then("_place").otherwise(-1)).to_series().to_numpy()
        # Each step of the search halves what is left, so this many find the place among the versions of any key.
        self._steps = int(np.diff(self._begins).max()).bit_length()
        self._place_of = _positions(self._keys)

    def rows_of(self, numbers: Int64s, times: Int64s) -> Int64s:
        """The row of the version that holds for each key and instant; -1 where none does."""
        places, is_known = self._places(numbers)
        newest = self._begins[places + 1] - 1
        rows = np.where(is_known, self._rows[newest], -1)
        # Most readings are newer than every version of their key.
        older = np.flatnonzero(is_known & (self._from[newest] > times))
        if len(older):
            rows[older] = self._older(places[older], times[older])
        return rows

    def _older(self, places: Int64s, times: Int64s) -> Int64s:
        """The same for keys, by their places, whose newest version does not hold yet."""
        first = low = self._begins[places]
        # The first version that does not hold yet lies in [low, high].
        high = self._begins[places + 1] - 1
        for _ in range(self._steps):
            middle = (low + high) >> 1
            holds = (self._from[middle] <= times) & (middle < high)
            low, high = np.where(holds, middle + 1, low), np.where(holds, high, middle)
        return np.where(low > first, self._rows[low - 1], -1)

    def _places(self, numbers: Int64s) -> tuple[Int64s, NDArray[np.bool_]]:
        """Which key each number is, and whether it is one."""
        if self._place_of is None:
            places = np.minimum(np.searchsorted(self._keys, numbers), len(self._keys) - 1)
            return places, self._keys[places] == numbers
        least = self._keys[0]
        is_within = (numbers >= least) & (numbers <= self._keys[-1])
        places = self._place_of[np.where(is_within, numbers, least) - least]
        return np.maximum(places, 0), is_within & (places >= 0)


def _positions(keys: Int64s) -> Int64s | None:
    """For each number from the least key to the greatest which key it is, -1 if none; None where keys lie far apart."""
    span = int(keys[-1]) - int(keys[0]) + 1
    if span > _DENSE * len(keys):
        return None
    positions: Int64s = np.full(span, -1, dtype=np.int64)
    positions[keys - keys[0]] = np.arange(len(keys))
    return positions


def microseconds(instants: pl.Series) -> Int64s:
    """Instants as numbers."""
    numbers: Int64s = instants.to_physical().to_numpy()
    return numbers
