"""Open alarms as records of one array, and the rows that their table gets of them.

Most of what happens to alarms happens to many at once, so it is computed for many at once. A row is a copy of a record
at the time of a transition. What happens, and when, is in `assets.alarms.episodes`.
"""

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple, get_args

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from assets.alarms.given import FOREVER, NEVER, NO_LIMIT, Bools, Int64s, Place, microseconds
from assets.alarms.tables import (
    ACKNOWLEDGED,
    CLEARED,
    RANKS,
    SEVERITIES,
    SNOOZED,
    UNACKNOWLEDGED,
    UPDATED,
    AlarmRows,
    Kind,
)

Array = NDArray[Any]

LATE_AFTER = timedelta(hours=2)
"""How long after it happened a transition is decided to be called late, as alerts are."""
SCHEMA = pl.Schema({name: column.dtype for name, column in AlarmRows.columns().items()})
KINDS: tuple[str, ...] = get_args(Kind)
STATES = (UNACKNOWLEDGED, ACKNOWLEDGED, SNOOZED, CLEARED)
NUMBERS = {name: number for number, name in enumerate(STATES)}
"""The numbers of states in records."""
NO_ALARM = 0
"""The place of a record that stands for no alarm: any severity is above its own, and nothing else happens to it."""

ALARM = np.dtype(
    [
        ("alarm_id", np.uint64),
        *((name, np.int64) for name in ("entity", "raised_at", "told_at", "measured_at")),
        *((name, np.int64) for name in ("until", "clear_since", "due_at")),
        *((name, np.int64) for name in ("clear_after", "remind_every", "escalate_after")),
        *((name, np.int64) for name in ("index", "worsened_index", "reading_count", "tier", "rule_version")),
        *((name, np.int64) for name in (*Place._fields, "due_epoch", "due_partition")),
        *((name, np.float64) for name in ("value", "threshold", "worst_value")),
        *((name, np.int32) for name in ("cause", "rule")),
        *((name, np.int8) for name in ("severity", "state")),
        *((name, np.bool_) for name in ("is_open", "is_stale", "is_changed")),
    ]
)
"""One alarm, with the names of its table; all times are in microseconds.

An instant that does not come is `FOREVER`, a duration that does not end `NO_LIMIT`, a value that is not there NaN, and
such a version -1. `cause` and `rule` are numbers of `Names`, and `alarm_id` is the number of its digits. Deadlines pass
with events of the partition `due_partition` in `due_epoch`.
"""

BLANK = np.zeros(1, ALARM)
"""An alarm of which nothing is known yet."""
for _names, _value in (
    (("raised_at", "told_at", "measured_at"), NEVER),
    (("until", "clear_since", "due_at"), FOREVER),
    (("remind_every", "escalate_after"), NO_LIMIT),
    (("index", "worsened_index", "rule_version", "partition", "sequence_number", "event_index"), -1),
    (("value", "threshold", "worst_value"), np.nan),
):
    for _name in _names:
        BLANK[_name] = _value

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_ID_BYTES = 8
_INSTANTS = ("raised_at", "measured_at", "told_at")
_INSTANTS_OR_NONE = ("until", "clear_since", "due_at")
_DURATIONS = ("clear_after", "remind_every", "escalate_after")
_COUNTS = ("entity", "index", "worsened_index", "reading_count", "tier", *Place._fields)
_VALUES = ("value", "threshold", "worst_value")
_INSTANT = pa.timestamp("us", "UTC")
_LEAST = 64
"""For how many records there is always room."""


class Records:
    """Records in places that are used again once they are free.

    Args:
        blank: one record, as each one begins.
    """

    def __init__(self, blank: Array) -> None:
        self._blank = blank
        self.all = blank.repeat(_LEAST)
        self._free = [*range(len(self.all) - 1, -1, -1)]

    def add(self, count: int) -> Int64s:
        """The places of new records."""
        while len(self._free) < count:
            size = len(self.all)
            self.all = np.concatenate([self.all, self._blank.repeat(size)])
            self._free = [*range(2 * size - 1, size - 1, -1), *self._free]
        taken = np.array([self._free.pop() for _ in range(count)], np.int64)
        put(self.all, taken, self._blank)
        return taken

    def free(self, places: Int64s) -> None:
        """Lets others use some places."""
        put(self.all, places, self._blank)
        self._free += places.tolist()

    def is_sparse(self, count: int) -> bool:
        """Whether so few records are in use that they should be packed."""
        return len(self.all) > max(_LEAST, 4 * count)

    def pack(self, places: Int64s) -> None:
        """Gives memory back: the records in use, at some places, are moved to the first ones, in this order."""
        kept, size = self.all.take(places), _LEAST
        while size < 2 * len(kept):
            size *= 2
        self.all = self._blank.repeat(size)
        put(self.all, np.arange(len(kept)), kept)
        self._free = [*range(size - 1, len(kept) - 1, -1)]


def joined(parts: Sequence[Array]) -> Array:
    """Records of one kind, those of the first part first."""
    return np.concatenate([_whole(part) for part in parts]).view(parts[0].dtype)


def put(records: Array, places: Array, values: Array) -> None:
    """Sets some records."""
    _whole(records)[places] = _whole(values)


def _whole(records: Array) -> Array:
    """Records without their fields: field by field copies take several times as long."""
    return records.view(f"V{records.dtype.itemsize}")


def no_alarms() -> Records:
    """Records of alarms, of which the first one is `NO_ALARM`."""
    records = Records(BLANK)
    records.add(1)
    records.all["clear_after"][NO_ALARM] = FOREVER
    return records


def no_alarm() -> Array:
    """A record that is not among the others."""
    return BLANK.copy()


class Names:
    """Texts that many records have; 0 is the number of none.

    Attributes:
        texts: by their numbers.
    """

    def __init__(self) -> None:
        self.texts: list[str | None] = [None]
        self._numbers: dict[str | None, int] = {None: 0}

    def number(self, text: str | None) -> int:
        """The number of a text, from now on if it has none."""
        if (number := self._numbers.get(text)) is None:
            number = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return number

    def numbers(self, texts: Sequence[str | None]) -> Int64s:
        """The numbers of some texts."""
        return np.array([self.number(text) for text in texts], np.int64)


class Told(NamedTuple):
    """What a person did, and said about it."""

    action_id: str | None = None
    actor: str | None = None
    note: str | None = None


NOTHING = Told()


class Rows(NamedTuple):
    """Copies of records, to be rows.

    Attributes:
        kinds: what happened to the alarms, by its number among `KINDS`.
        alarms: how they stood then.
        at, decided_at: when, for each.
        told: what is said of all of them.
        fold, now: the number and the time of the step.
    """

    kinds: NDArray[np.int8]
    alarms: Array
    at: Int64s
    decided_at: Int64s
    told: Told = NOTHING
    fold: int = 0
    now: int = 0

    @classmethod
    def of(cls, kind: str, alarms: Array, at: Int64s, decided_at: Int64s, told: Told = NOTHING) -> "Rows":
        """Rows of one kind."""
        return cls(np.full(len(alarms), KINDS.index(kind), np.int8), alarms, at, decided_at, told)

    def filter(self, which: Bools) -> "Rows":
        """Some of them."""
        return self._replace(
            kinds=self.kinds[which], alarms=self.alarms[which], at=self.at[which], decided_at=self.decided_at[which]
        )


def frame(rows: Sequence[Rows], stream: str, names: Names) -> pl.DataFrame:
    """Rows of the table of alarms."""
    if not rows:
        return pl.DataFrame(schema=SCHEMA)
    counts = np.array([len(each.alarms) for each in rows])
    alarms = joined([each.alarms for each in rows])
    at, decided_at = np.concatenate([each.at for each in rows]), np.concatenate([each.decided_at for each in rows])
    which = np.repeat(np.arange(len(rows)), counts)
    kinds = np.concatenate([each.kinds for each in rows])
    # Array by array: series and expressions cost more than a step that decides little.
    columns = {
        **{name: _array(alarms[name]) for name in _COUNTS},
        **{name: _array(alarms[name], _INSTANT) for name in _INSTANTS},
        **{name: _array(alarms[name], _INSTANT, none=FOREVER) for name in _INSTANTS_OR_NONE},
        **{f"{name}_s": _array(alarms[name] // _SECOND, none=NO_LIMIT) for name in _DURATIONS},
        **{name: _array(alarms[name], none=np.nan) for name in _VALUES},
        "alarm_id": _ids(alarms["alarm_id"]),
        "kind": _texts(KINDS, kinds),
        "at": _array(at, _INSTANT),
        "decided_at": _array(decided_at, _INSTANT),
        "cause": _texts(names.texts, alarms["cause"]),
        "rule_id": _texts(names.texts, alarms["rule"]),
        "rule_version": _array(alarms["rule_version"], none=-1),
        "severity": _texts(SEVERITIES, alarms["severity"]),
        "state": _texts(STATES, alarms["state"]),
        "stream": _texts([stream], np.zeros_like(which)),
        "is_stale": _array(alarms["is_stale"]),
        "is_late": _array(decided_at - at > microseconds(LATE_AFTER)),
        "is_update": _array(kinds == KINDS.index(UPDATED)),
        "fold": _array(np.array([each.fold for each in rows])[which]),
        "event_date": _array((at // _DAY).astype(np.int32), pa.date32()),
        "ingest_date": _array(np.array([each.now // _DAY for each in rows], np.int32)[which], pa.date32()),
        **{name: _texts([each.told[place] for each in rows], which) for place, name in enumerate(Told._fields)},
    }
    return pl.DataFrame(pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA], [*SCHEMA]))


def alarms_of(rows: pl.DataFrame, names: Names) -> Array:
    """Open alarms by rows of their table."""
    alarms = BLANK.repeat(rows.height)
    for name in (*_COUNTS, "rule_version"):
        alarms[name] = rows[name].fill_null(-1).to_numpy()
    for name in (*_VALUES, *_INSTANTS, "is_stale"):
        alarms[name] = rows[name].to_physical().to_numpy()
    for name in _INSTANTS_OR_NONE:
        alarms[name] = rows[name].to_physical().fill_null(FOREVER).to_numpy()
    for name in _DURATIONS:
        seconds = rows[f"{name}_s"]
        alarms[name] = np.where(seconds.is_null(), BLANK[name], seconds.fill_null(0) * _SECOND)
    alarms["cause"], alarms["rule"] = (names.numbers(rows[name].to_list()) for name in ("cause", "rule_id"))
    alarms["alarm_id"] = np.array([int(each, 16) for each in rows["alarm_id"]], np.uint64)
    alarms["severity"] = [RANKS[each] for each in rows["severity"]]
    alarms["state"] = [NUMBERS[each] for each in rows["state"]]
    alarms["due_epoch"], alarms["due_partition"] = alarms["hub_epoch"], alarms["partition"]
    alarms["is_open"] = True
    return alarms


def of_unknown(alarm_id: str, rows: Rows, stream: str, names: Names) -> pl.DataFrame:
    """The row of an action on an alarm that nobody knows."""
    unknown = ("entity", "cause", "severity", "state", *_INSTANTS)
    nothing = [pl.lit(None, SCHEMA[name]).alias(name) for name in unknown]
    return frame([rows], stream, names).with_columns(pl.lit(alarm_id).alias("alarm_id"), *nothing)


def _ids(numbers: Array) -> pa.StringArray:
    """The hexadecimal digits of each number."""
    digits = numbers.astype(">u8").tobytes().hex().encode()
    ends = np.arange(len(numbers) + 1, dtype=np.int32) * 2 * _ID_BYTES
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(ends), pa.py_buffer(digits))


def _array(values: Array, dtype: pa.DataType | None = None, none: float | None = None) -> pa.Array:
    """A column in which the value `none`, which may be NaN, is null; of a type, where one is given, by its numbers."""
    is_none = None if none is None else np.isnan(values) if none != none else values == none
    found = pa.array(np.ascontiguousarray(values), mask=is_none)
    return found if dtype is None else found.view(dtype)


def _texts(texts: Sequence[str | None], numbers: Array) -> pa.Array:
    """A column of few different texts."""
    return pa.array(texts, pa.string()).take(pa.array(np.ascontiguousarray(numbers)))


def alarm_id_of(stream: str, entity: int, cause: str, raised_at: int) -> str:
    """The same wherever and whenever an alarm is raised: 16 hexadecimal digits of BLAKE2b.

    Args:
        stream, entity, cause: what it is about.
        raised_at: microseconds since 1970, UTC.
    """
    text = f"{stream}|{entity}|{cause}|{raised_at}"
    return hashlib.blake2b(text.encode(), digest_size=_ID_BYTES).hexdigest()
