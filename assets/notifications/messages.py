"""What waits for a subscriber as one message: transitions of an alarm merged, and alarms of many as a list. Pure.

```
 rows of a channel, by alarm     7: raised 10:02, cleared 10:09    8: raised 10:03, worsened 10:04    9: raised 10:05
                                      └── one line: it is over         └── one line: it is urgent
 message                         the most severe first, as many lines as it holds; the others wait for the next one
```
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from jinja2 import Environment, StrictUndefined

from assets.notifications.people import DEFAULT_LANGUAGE, Subscriber
from assets.notifications.transitions import OVER, Transition

TREND_WITHIN = timedelta(minutes=30)
"""How far apart two values may be to say which way it goes."""
HISTORY = 4
"""How many transitions of an alarm a message names."""
_MG_DL = frozenset({"glucose_low", "glucose_high", "vitals_glucose_high"})
_RISING, _FAST = 1.0, 2.0
"""From so many mg/dL a minute on an arrow is oblique, and straight up, as monitors of glucose have it."""

T = TypeVar("T")


class Waiting(NamedTuple):
    """One row of the outbox that is to be told.

    Attributes:
        notification_id: of the row.
        transition: what is told.
        is_told: whether it was told before; then it only says what came before.
    """

    notification_id: int
    transition: Transition
    is_told: bool = False


@dataclass(frozen=True)
class Entry:
    """All that is to be told of one alarm.

    Attributes:
        rows: in the order of the alarm's transitions.
    """

    rows: tuple[Waiting, ...]

    @property
    def last(self) -> Transition:
        """What holds now."""
        return self.rows[-1].transition

    @property
    def is_over(self) -> bool:
        """Whether the alarm has ended, so that nobody has to hurry."""
        return self.last.transition in OVER

    @property
    def order(self) -> tuple[bool, int, datetime]:
        """Sorts entries: what is open before what is over, the most severe first, then by time."""
        return self.is_over, -self.last.rank, self.last.at

    @property
    def trend(self) -> str:
        """An arrow where two values of glucose are known that tell it; else an empty text."""
        known = [each.transition for each in self.rows if each.transition.value is not None]
        if len(known) < 2 or known[-1].cause not in _MG_DL:
            return ""
        first, last = known[-2], known[-1]
        if first.measured_at is None or last.measured_at is None:
            return ""
        apart = last.measured_at - first.measured_at
        if not timedelta() < apart <= TREND_WITHIN:
            return ""
        slope = ((last.value or 0.0) - (first.value or 0.0)) / (apart.total_seconds() / 60)
        steep = "↑" if slope > 0 else "↓"
        return "→" if abs(slope) < _RISING else ("↗" if slope > 0 else "↘") if abs(slope) < _FAST else steep


class Message(NamedTuple):
    """What is sent.

    Attributes:
        title, body: plain text.
        entries: what it tells.
    """

    title: str
    body: str
    entries: tuple[Entry, ...]

    @property
    def rows(self) -> list[Waiting]:
        """The rows of the outbox that it tells."""
        return [row for entry in self.entries for row in entry.rows if not row.is_told]

    @property
    def rank(self) -> int:
        """Of its most severe entry."""
        return max((entry.last.rank for entry in self.entries), default=0)


class TextsError(ValueError):
    """A file of texts cannot be used."""


class Texts:
    """The words of one language: a Jinja template with the macros `title`, `one`, `line` and `test`.

    Args:
        source: the template's text.
    """

    def __init__(self, source: str) -> None:
        environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
        macros: Any = environment.from_string(source).module
        for name in ("title", "one", "line", "test"):
            if not hasattr(macros, name):
                raise TextsError(f"A file of texts has no macro '{name}'; nothing can be told in its language. Add it.")
        self._macros = macros

    def compose(self, rows: Iterable[Waiting], subscriber: Subscriber, now: datetime, limit: int, page: str) -> Message:
        """A message with as many alarms as it holds, at least one.

        Args:
            rows: what waits for the subscriber; all rows of each alarm.
            subscriber: whose time zone counts.
            now: says how old a reading is.
            limit: how many characters a body may have.
            page: where alarms can be looked at; a link is left out where it is empty.
        """
        entries = merged(rows)
        views = [self._view(entry, subscriber, now, page) for entry in entries]
        if len(entries) == 1:
            return Message(self._told("title", views), _cut(self._told("one", views[0]), limit), tuple(entries))
        lines, length = list[str](), 0
        for view in views:
            line = _cut(self._told("line", view), limit)
            length += len(line) + 1
            if lines and length > limit:
                break
            lines.append(line)
        told = len(lines)
        return Message(self._told("title", views[:told]), "\n".join(lines), tuple(entries[:told]))

    def test(self, subscriber: Subscriber) -> Message:
        """A message that tells of nothing but that the channel works."""
        title, _, body = self._told("test", subscriber.name).partition("\n")
        return Message(title, body.strip(), ())

    def _view(self, entry: Entry, subscriber: Subscriber, now: datetime, page: str) -> dict[str, Any]:
        """What a template may say of an alarm. Times are of the subscriber's clock, with other days' dates."""
        last, today = entry.last, now.astimezone(subscriber.zone).date()

        def clock(at: datetime | None) -> str:
            local = at.astimezone(subscriber.zone) if at else None
            return "" if local is None else f"{local:%H:%M}" if local.date() == today else f"{local:%Y-%m-%d %H:%M}"

        return {
            "alarm_id": last.alarm_id,
            "cause": last.cause or "",
            "severity": last.severity or "",
            "transition": last.transition,
            "patient": last.patient_id,
            "device": last.device_id,
            "value": _number(last.value),
            "worst": _number(last.worst_value),
            "threshold": _number(last.threshold),
            "trend": entry.trend,
            "tier": last.tier,
            "is_over": entry.is_over,
            "is_stale": last.is_stale,
            "at": clock(last.at),
            "date": f"{today}" if last.at.astimezone(subscriber.zone).date() == today else "",
            "measured": clock(last.measured_at),
            "minutes": None if last.measured_at is None else max(0, (now - last.measured_at) // timedelta(minutes=1)),
            "history": [(row.transition.transition, clock(row.transition.at)) for row in _shortened(entry.rows)],
            "actor": last.actor or "",
            "note": last.note or "",
            "link": f"{page.rstrip('/')}/alarms/{last.alarm_id}" if page else "",
        }

    def _told(self, macro: str, argument: Any) -> str:
        lines = str(getattr(self._macros, macro)(argument)).splitlines()
        return "\n".join(line.strip() for line in lines if line.strip())


def merged(rows: Iterable[Waiting]) -> list[Entry]:
    """One entry for each alarm, in the order in which they are told."""
    by_alarm: dict[str, list[Waiting]] = {}
    for row in rows:
        by_alarm.setdefault(row.transition.alarm_id, []).append(row)
    entries = [
        Entry(tuple(in_order(found, lambda each: (each.transition.index, each.notification_id))))
        for found in by_alarm.values()
    ]
    return sorted(entries, key=lambda entry: entry.order)


def in_order(rows: Iterable[T], place: Callable[[T], tuple[int, int]]) -> list[T]:
    """Rows of one alarm in the order of its transitions.

    A transition that has the number of another one was decided after a crash. It and those that came after it stand
    behind all that came before it, whatever their numbers: what was decided first does not hold any more.

    Args:
        rows: of one alarm.
        place: the number of the transition, and that of the row.
    """
    decided, seen, ordered = 0, set[int](), list[tuple[int, int, int, T]]()
    for row in sorted(rows, key=lambda each: place(each)[1]):
        index, number = place(row)
        if index in seen:
            decided, seen = decided + 1, set()
        seen.add(index)
        ordered.append((decided, index, number, row))
    return [row for *_, row in sorted(ordered, key=lambda each: each[:3])]


def language_of(wanted: str, there: Sequence[str]) -> str:
    """The language that a subscriber is written to in: the one that is wanted, without its region, or English."""
    known = {each.lower(): each for each in there}
    for name in (wanted.lower(), wanted.lower().partition("-")[0]):
        if name in known:
            return known[name]
    return DEFAULT_LANGUAGE


def _shortened(rows: Sequence[Waiting]) -> Sequence[Waiting]:
    """How an alarm began and what happened last: one that lasts is reminded of many times."""
    return rows if len(rows) <= HISTORY else (rows[0], *rows[1 - HISTORY :])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}".removesuffix(".0")


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
