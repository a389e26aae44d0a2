"""One transition of an alarm, as the hub `alarms`, the table of alarms and the outbox have it. Pure declarations."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec

from assets.reference.tables import SEVERITIES

RANKS: Mapping[str, int] = {name: rank for rank, name in enumerate(SEVERITIES, start=1)}
"""Severities by their rank; what has none has rank 0."""
URGENT = RANKS["urgent"]
OVER = frozenset({"cleared", "closed", "retracted"})
"""The transitions that end an alarm."""
SNOOZED = "snoozed"
"""The state of an alarm that somebody wants to be told of later, and the transition to it."""


Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class Transition(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What happened to an alarm. Key: alarm_id, index. The columns are those of `alarms/<stream>`.

    `transition` is the kind. Whom it is about is in `patient_id` or `device_id`; both are null for other streams.
    """

    alarm_id: str
    index: int
    transition: str
    at: Instant
    decided_at: Instant
    stream: str
    cause: str | None = None
    severity: str | None = None
    state: str | None = None
    patient_id: int | None = None
    device_id: int | None = None
    value: float | None = None
    threshold: float | None = None
    worst_value: float | None = None
    reading_count: int = 0
    tier: int = 0
    raised_at: Instant | None = None
    measured_at: Instant | None = None
    is_stale: bool = False
    actor: str | None = None
    note: str | None = None

    @property
    def rank(self) -> int:
        """The rank of its severity."""
        return RANKS.get(self.severity or "", 0)


NAMES = tuple(Transition.__struct_fields__)
_decoder, _encoder = msgspec.json.Decoder(Transition), msgspec.json.Encoder()


class UnreadableError(ValueError):
    """An event is no transition of an alarm."""


def decoded(body: bytes) -> Transition:
    """The transition in an event of the hub, or in a row of the outbox.

    Raises:
        UnreadableError: it is none; the message does not quote it.
    """
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableError(type(error).__name__) from None


def encoded(transition: Transition) -> str:
    """The text that `decoded` reads."""
    return _encoder.encode(transition).decode()


def of_row(row: Mapping[str, Any], entity: str) -> Transition:
    """The transition in a row of the table of alarms.

    Args:
        row: its columns.
        entity: what the stream calls its entities, such as `patient_id`.
    """
    values = {name: row[name] for name in NAMES if row.get(name) is not None}
    about = {entity: row["entity"]} if entity in NAMES else {}
    return Transition(**values | about | {"transition": row["kind"]})
