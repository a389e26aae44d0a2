"""How each patient is now: the newest readings, their trend, the early warning score and open alarms.

No IO and no clock. Threads that read hubs bring rows, the one that sends to browsers asks what has changed. Whatever
comes twice or late changes nothing: of a measurement the newest counts, of an alarm the transition with the greatest
index.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

import polars as pl

from assets.alarms.tables import CLEARED, RANKS, SNOOZED, UNACKNOWLEDGED
from assets.vitals import news2
from assets.vitals.rules import HIGHER_IS_WORSE, KNOWN_FOR

US_PER_S, US_PER_MINUTE = 1_000_000, 60_000_000
TREND_US = 15 * US_PER_MINUTE
"""Over which time the trend is taken, as the rate of rules is."""
TREND_READINGS, TREND_SPACING_US = 3, 30 * US_PER_S
"""How many readings a trend needs, and how far apart those are that are kept for it."""
STEPS = (1.0, 2.0, 3.0)
"""From which slope on, in mg/dL a minute, a trend is one, two or three steps: as monitors draw their arrows."""
FORGOTTEN_US = 10 * US_PER_MINUTE
"""For how long alarms that are over are remembered, so that what comes late of them does not open them again."""
LIVE_VITALS = ("heart_rate_bpm", "spo2_percent")


class Value(NamedTuple):
    """A measurement and its time in microseconds since 1970."""

    value: float
    at: int


class Score(NamedTuple):
    """An early warning score, and when it was true."""

    score: int
    risk: str
    at: int


class Pending(NamedTuple):
    """What somebody did to an alarm and no session has taken up yet."""

    action_id: str
    action: str
    by: str
    at: int


@dataclass(frozen=True)
class Alarm:
    """An alarm as it stands.

    Attributes:
        index: of its newest transition.
        key: of the row of the board that it is shown in.
        acted_by: who acknowledged or snoozed it last.
        worsened_index: of the transition by which it was raised or became worse.
        raised_at, until, at: in microseconds; `at` of the newest transition.
    """

    alarm_id: str
    index: int
    key: str
    stream: str
    entity: int
    cause: str
    severity: str
    state: str
    raised_at: int
    at: int
    value: float | None = None
    worst_value: float | None = None
    tier: int = 0
    is_stale: bool = False
    until: int | None = None
    acted_by: str = ""
    worsened_index: int = 0
    pending: Pending | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is not over."""
        return self.state != CLEARED


@dataclass
class Row:
    """One line of the board: a patient, or a device that nobody wears as far as is known.

    Attributes:
        key: the patient's id, or `d` and the device's.
        patient_id: None of a device.
        changed: the number of the board's step that changed it last.
        glucose: the newest value; `flag` is below or above where it was outside of the sensor's range.
        recent: readings of the trend, oldest first.
        known: by column of vital signs the newest value that the score may count.
    """

    key: str
    patient_id: int | None
    changed: int = 0
    glucose: Value | None = None
    flag: str | None = None
    device_id: int | None = None
    recent: deque[Value] = field(default_factory=lambda: deque(maxlen=40))
    known: dict[str, tuple[Any, int]] = field(default_factory=dict)
    score: Score | None = None
    battery: Value | None = None
    alarms: dict[str, Alarm] = field(default_factory=dict)

    @property
    def is_shown(self) -> bool:
        """Whether it has a place on the ward: that of a device only while an alarm of it is open."""
        return self.patient_id is not None or bool(self.alarms)

    def shown(self, *, named: bool) -> dict[str, Any]:
        """What browsers get; times in milliseconds.

        Args:
            named: whether it may say who acted.
        """
        found: dict[str, Any] = {"key": self.key, "patient": self.patient_id, "alarms": []}
        if self.glucose is not None:
            found["glucose"] = [self.glucose.value, _ms(self.glucose.at), self.flag, trend(self.recent)]
        for name, column in (("heart_rate", LIVE_VITALS[0]), ("spo2", LIVE_VITALS[1])):
            if column in self.known:
                value, at = self.known[column]
                found[name] = [value, _ms(at)]
        if self.score is not None:
            found["news2"] = [self.score.score, self.score.risk, _ms(self.score.at)]
        if self.battery is not None:
            found["battery"] = [self.battery.value, _ms(self.battery.at)]
        for alarm in sorted(self.alarms.values(), key=lambda each: (-RANKS[each.severity], each.raised_at)):
            found["alarms"].append(
                {
                    "id": alarm.alarm_id,
                    "index": alarm.index,
                    "cause": alarm.cause,
                    "severity": alarm.severity,
                    "state": alarm.state,
                    "since": _ms(alarm.raised_at),
                    "until": None if alarm.until is None else _ms(alarm.until),
                    "tier": alarm.tier,
                    "stale": alarm.is_stale,
                    "value": alarm.value,
                    "worst": alarm.worst_value,
                    "by": alarm.acted_by if named else "",
                    "pending": None
                    if alarm.pending is None
                    else [alarm.pending.action, alarm.pending.by if named else ""],
                }
            )
        return found


class Board:
    """All rows. It may be used by several threads.

    Args:
        is_on_scale_2: whether NEWS2 judges a patient's oxygen saturation by its second scale.
    """

    def __init__(self, is_on_scale_2: Callable[[int], bool] = lambda _: False) -> None:
        self._is_on_scale_2 = is_on_scale_2
        self._lock = threading.RLock()
        self._rows: dict[str, Row] = {}
        self._alarms: dict[str, Alarm] = {}
        self._over: dict[str, int] = {}
        self._by_device: dict[int, str] = {}
        self._batteries: dict[int, Value] = {}
        self._empty: dict[str, int] = {}
        self._step = 0

    # ------------------------------------------------------------------ what comes in

    def take_glucose(self, rows: pl.DataFrame) -> None:
        """Takes readings in.

        Args:
            rows: `patient_id`, `device_id`, `measured_at`, `glucose_mg_dl` and `range_flag`.
        """
        columns = ("patient_id", "device_id", pl.col("measured_at").dt.epoch("us"), "glucose_mg_dl", "range_flag")
        with self._lock:
            for patient_id, device_id, at, value, flag in rows.select(columns).sort("measured_at").iter_rows():
                row = self._row(patient_id)
                _keep(row.recent, Value(value, at))
                # Of several readings of one instant the lowest counts: a low must not be hidden.
                if row.glucose is None or (at, -value) >= (row.glucose.at, -row.glucose.value):
                    row.glucose, row.flag = Value(value, at), flag
                    self._wear(row, device_id)
                self._change(row)

    def take_vitals(self, rows: pl.DataFrame) -> None:
        """Takes vital signs in, and makes the scores of their patients anew.

        Args:
            rows: `patient_id`, `measured_at` and the columns of `news2.PARAMETERS`.
        """
        names = [*news2.PARAMETERS]
        columns = [pl.col("patient_id"), pl.col("measured_at").dt.epoch("us"), *map(pl.col, names)]
        with self._lock:
            touched: dict[str, Row] = {}
            for patient_id, at, *values in rows.select(columns).sort("measured_at").iter_rows():
                row = self._row(patient_id)
                for name, value in zip(names, values, strict=True):
                    if value is not None and _counts(name, value, at, row.known.get(name)):
                        row.known[name] = (value, at)
                touched[row.key] = row
                self._change(row)
            self._score(list(touched.values()))

    def _score(self, rows: Sequence[Row]) -> None:
        """Makes the scores of rows anew, each as of its newest vital sign."""
        if not rows:
            return
        newest = [max(at for _, at in row.known.values()) if row.known else 0 for row in rows]
        scales = [row.patient_id is not None and self._is_on_scale_2(row.patient_id) for row in rows]
        columns: dict[str, pl.Series] = {news2.SCALE_2: pl.Series(scales, dtype=pl.Boolean)}
        for name, dtype in news2.PARAMETERS.items():
            values: list[Any] = []
            ages: list[float | None] = []
            for row, now in zip(rows, newest, strict=True):
                value, at = row.known.get(name, (None, 0))
                is_known = value is not None and now - at < KNOWN_FOR.total_seconds() * US_PER_S
                values.append(value if is_known else None)
                ages.append((now - at) / US_PER_S if is_known else None)
            columns[name] = pl.Series(values, dtype=dtype)
            columns[f"{name}_age_s"] = pl.Series(ages, dtype=pl.Float64)
        found = news2.scored(pl.DataFrame(columns)).select("news2_score", "news2_risk")
        for row, now, (score, risk) in zip(rows, newest, found.iter_rows(), strict=True):
            if score is not None:
                row.score = Score(score, risk, now)

    def take_devices(self, rows: pl.DataFrame, wearers: Mapping[int, int]) -> None:
        """Takes what devices say of their batteries.

        Args:
            rows: `device_id`, `measured_at` and `battery_level`.
            wearers: who wears which device, by reference data.
        """
        columns = ("device_id", pl.col("measured_at").dt.epoch("us"), "battery_level")
        with self._lock:
            for device_id, at, level in rows.select(columns).sort("measured_at").iter_rows():
                if (before := self._batteries.get(device_id)) is not None and at < before.at:
                    continue
                self._batteries[device_id] = Value(level, at)
                key = self._key_of_device(device_id, wearers)
                row = self._rows.get(key)
                # A patient's battery is that of what measures glucose, where that is known.
                if row is not None and row.patient_id is not None and row.device_id in (None, device_id):
                    row.battery = Value(level, at)
                    self._change(row)

    def take_alarms(self, rows: Iterable[Mapping[str, Any]], wearers: Mapping[int, int]) -> None:
        """Takes transitions of alarms, or alarms as their table has them.

        Args:
            rows: as the table of alarms has them, with `of_device` beside; instants in microseconds.
            wearers: who wears which device, by reference data.
        """
        with self._lock:
            for row in rows:
                self._take_alarm(row, wearers)

    def keep_alarms(self, stream: str, open_ids: Iterable[str], before: int) -> None:
        """Ends alarms of a stream that its table does not have any more: what told of their end did not come.

        Args:
            stream: the stream.
            open_ids: its alarms that are open.
            before: only alarms of which nothing was heard since this instant, in microseconds.
        """
        still_open = {*open_ids}
        with self._lock:
            for alarm in [*self._alarms.values()]:
                if alarm.stream == stream and alarm.alarm_id not in still_open and alarm.at < before:
                    # It may come again: a session that died after it told of an alarm tells of it once more.
                    self._remove(alarm)

    def pend(self, alarm_id: str, pending: Pending | None) -> None:
        """Notes what somebody did and no session has taken up yet; None forgets it."""
        with self._lock:
            if (alarm := self._alarms.get(alarm_id)) is not None and alarm.pending != pending:
                self._put(replace(alarm, pending=pending))

    def expire(self, now: int, after: int) -> None:
        """Forgets what nobody took up in time, alarms that are over for long, and devices whose alarms are all over.

        Args:
            now: in microseconds.
            after: how long an action may be pending, in microseconds.
        """
        with self._lock:
            for alarm in [*self._alarms.values()]:
                if alarm.pending is not None and alarm.pending.at < now - after:
                    self._put(replace(alarm, pending=None))
            self._over = {alarm_id: at for alarm_id, at in self._over.items() if at > now - FORGOTTEN_US}
            # Browsers were told of what is empty since the last time.
            empty = {key: row.changed for key, row in self._rows.items() if not row.is_shown}
            for key in (each for each, changed in empty.items() if self._empty.get(each) == changed):
                del self._rows[key]
            self._empty = empty

    # ------------------------------------------------------------------ what is asked

    def changed_since(self, step: int) -> tuple[int, list[Row]]:
        """The number of the last step, and the rows that were changed after another one."""
        with self._lock:
            return self._step, [row for row in self._rows.values() if row.changed > step]

    def encoded(self, rows: Sequence[Row], encode: Any, *, named: bool) -> list[tuple[int, bytes]]:
        """For each row its step and what browsers get of it, as one moment has them."""
        with self._lock:
            return [(row.changed, encode(row.shown(named=named))) for row in rows]

    def alarm(self, alarm_id: str) -> Alarm | None:
        """An open alarm by its id."""
        return self._alarms.get(alarm_id)

    def alarms(self) -> list[Alarm]:
        """All open alarms."""
        with self._lock:
            return [*self._alarms.values()]

    def patient_of(self, alarm: Alarm) -> int | None:
        """The patient whom an alarm is about; None where that is not known."""
        row = self._rows.get(alarm.key)
        return None if row is None else row.patient_id

    # ------------------------------------------------------------------

    def _row(self, patient_id: int) -> Row:
        return self._rows.setdefault(str(patient_id), Row(str(patient_id), patient_id))

    def _change(self, row: Row) -> None:
        self._step += 1
        row.changed = self._step

    def _wear(self, row: Row, device_id: int | None) -> None:
        if device_id is None or device_id == row.device_id:
            return
        row.device_id = device_id
        self._by_device[device_id] = row.key
        row.battery = self._batteries.get(device_id)

    def _key_of_device(self, device_id: int, wearers: Mapping[int, int]) -> str:
        wearer = wearers.get(device_id)
        return self._by_device.get(device_id, f"d{device_id}") if wearer is None else str(wearer)

    def _take_alarm(self, row: Mapping[str, Any], wearers: Mapping[int, int]) -> None:
        alarm_id, index = row["alarm_id"], row["index"]
        known = self._alarms.get(alarm_id)
        if index < 0:  # no transition, but an action that was refused
            if known is not None and known.pending is not None and known.pending.action_id == row["action_id"]:
                self._put(replace(known, pending=None))
            return
        if alarm_id in self._over or (known is not None and index < known.index):
            return
        entity, kind = row["entity"], row["kind"]
        key = self._key_of_device(entity, wearers) if row["of_device"] else str(entity)
        if known is None:
            known = Alarm(alarm_id, index, key, row["stream"], entity, row["cause"], row["severity"], "", 0, 0)
        elif known.key != key:  # who wears the device was not known, or is another one now
            self._remove(known)
        pending = known.pending
        if pending is not None and pending.action_id == row["action_id"]:
            pending = None
        is_worse = kind in ("raised", "worsened")
        worsened = row.get("worsened_index")
        alarm = replace(
            known,
            key=key,
            index=index,
            severity=row["severity"],
            state=row["state"],
            raised_at=row["raised_at"],
            at=row["decided_at"],
            value=row["value"],
            worst_value=row["worst_value"],
            tier=row["tier"],
            is_stale=row["is_stale"],
            until=row["until"] if row["state"] == SNOOZED else None,
            acted_by="" if row["state"] == UNACKNOWLEDGED else row["actor"] or known.acted_by,
            worsened_index=index if is_worse else known.worsened_index if worsened is None else worsened,
            pending=pending,
        )
        if alarm.is_open:
            # Tables are read again and again; what they say once more is sent to nobody.
            if alarm != self._alarms.get(alarm_id):
                self._put(alarm)
        else:
            self._end(alarm, alarm.at)

    def _put(self, alarm: Alarm) -> None:
        self._alarms[alarm.alarm_id] = alarm
        patient_id = None if alarm.key.startswith("d") else int(alarm.key)
        row = self._rows.setdefault(alarm.key, Row(alarm.key, patient_id))
        row.alarms[alarm.alarm_id] = alarm
        self._change(row)

    def _end(self, alarm: Alarm, at: int) -> None:
        self._over[alarm.alarm_id] = at
        self._remove(alarm)

    def _remove(self, alarm: Alarm) -> None:
        self._alarms.pop(alarm.alarm_id, None)
        row = self._rows.get(alarm.key)
        if row is not None and row.alarms.pop(alarm.alarm_id, None) is not None:
            self._change(row)


def trend(recent: Sequence[Value]) -> int | None:
    """The direction of glucose in steps from -3 to 3; None where there are too few readings.

    It is the least-squares slope over the 15 minutes up to the newest reading, in steps of 1 mg/dL a minute.
    """
    if not recent:
        return None
    points = [(each.at / US_PER_MINUTE, each.value) for each in recent if each.at > recent[-1].at - TREND_US]
    if len(points) < TREND_READINGS:
        return None
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    if not spread:
        return None
    slope = sum((x - middle_x) * (y - middle_y) for x, y in points) / spread
    steps = sum(abs(slope) >= step for step in STEPS)
    return steps if slope > 0 else -steps


def microseconds(instant: datetime) -> int:
    """An instant in microseconds since 1970."""
    return round(instant.timestamp() * US_PER_S)


def _keep(recent: deque[Value], value: Value) -> None:
    """Keeps a reading for the trend; of readings close to each other the newest one."""
    if not recent or value.at > recent[-1].at:
        if len(recent) > 1 and value.at - recent[-2].at < TREND_SPACING_US:
            recent.pop()
        recent.append(value)


def _counts(name: str, value: Any, at: int, known: tuple[Any, int] | None) -> bool:
    """Whether a vital sign takes the place of the one that is known: of one instant the worse counts, as for rules."""
    if known is None or at != known[1]:
        return known is None or at > known[1]
    return bool(value > known[0] if name in HIGHER_IS_WORSE else value < known[0])


def _ms(at: int) -> int:
    return at // 1000
