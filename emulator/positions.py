"""Where a reader starts: the selector filter of its link, turned into a place in the log."""

import re

from emulator.codec import Described
from emulator.frames import AmqpError
from emulator.log import Cursor, PartitionLog
from emulator.record import Damage

_SELECTOR = re.compile(
    r"\s*amqp\.annotation\.x-opt-(offset|sequence-number|enqueued-?time(?:-?utc)?)\s*(>=|>)\s*'(@latest|-?\d{1,18})'\s*",
    re.IGNORECASE,
)


def start_cursor(log: PartitionLog, source_filter: object) -> Cursor:
    """The beginning without a filter; also for what retention has dropped."""
    if not isinstance(source_filter, dict) or not source_filter:
        return log.begin()
    selector = next(iter(source_filter.values()))
    if isinstance(selector, Described):
        selector = selector.value
    match = _SELECTOR.fullmatch(selector) if isinstance(selector, str) else None
    if match is None:
        raise AmqpError("amqp:invalid-field", f"The selector {selector!r} is not supported.")
    kind, operator, value = match[1].lower(), match[2], match[3].lower()
    if value == "@latest":
        return log.end()
    try:
        return _cursor_at(log, kind, int(value), 0 if operator == ">=" else 1)
    except Damage as damage:
        raise AmqpError("amqp:internal-error", str(damage)) from damage


def _cursor_at(log: PartitionLog, kind: str, value: int, exclusive: int) -> Cursor:
    if kind == "offset":
        _refuse_beyond("offset", value, log.tail.last_offset, log.tail.next_offset - exclusive)
        return log.from_offset(value + exclusive)
    if kind == "sequence-number":
        _refuse_beyond("sequence number", value, log.last_sequence, log.tail.next_sequence - exclusive)
        return log.from_sequence(value + exclusive)
    return log.from_time(value + exclusive)


def _refuse_beyond(what: str, value: int, last: int, highest: int) -> None:
    """A position that was never written means another hub, or a lost log: waiting for it would be silence."""
    if value > max(highest, 0):
        raise AmqpError(
            "com.microsoft:argument-out-of-range",
            f"The supplied {what} '{value}' is invalid. The last {what} in the system is '{last}'",
        )
