"""What a generator yields: a message for a hub, with the truth about it beside the body.

The truth never travels; it is there so that a test can compare what a pipeline did with what was meant.
"""

from typing import NamedTuple

CLEAN = "clean"
LATE = "late"
BACKFILL = "backfill"
REPEAT = "repeat"
CONFLICT = "conflict"
RECORDED = "recorded"
NO_OBJECT = "no object"


class Event(NamedTuple):
    """One message. `readings` counts what a pipeline has to account for (an unreadable body counts as one), of which
    `quarantined` are refused for `reason` and `duplicates` were sent before; the rest is accepted."""

    key: str
    """The partition key; empty: any partition will do."""
    body: bytes
    label: str = CLEAN
    """`clean`, `late`, `backfill`, `repeat`, `conflict`, `recorded`, `no object`, or a fault's name."""
    reason: str = ""
    readings: int = 1
    quarantined: int = 0
    duplicates: int = 0
    due: float | None = None
    """When it is to be sent, in seconds since 1970; None: whenever the publisher likes."""

    @property
    def accepted(self) -> int:
        return self.readings - self.quarantined - self.duplicates
