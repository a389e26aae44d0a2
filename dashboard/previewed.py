"""What a preview of a rule says, as values that the server has without what evaluates it."""

from dataclasses import dataclass
from datetime import datetime

import polars as pl


@dataclass(frozen=True)
class Preview:
    """What a change would have done.

    Attributes:
        since, until: what was evaluated.
        reading_count: how many readings were.
        by_patient: for each entity with another number of alarms `after` than `before`.
        before, after: alarms of the rule's cause by severity at their worst.
        cause: of the rule.
        notifications_before, notifications_after: for each subscriber and channel, as the outbox sends them.
    """

    since: datetime
    until: datetime
    reading_count: int
    cause: str
    by_patient: pl.DataFrame
    before: dict[str, int]
    after: dict[str, int]
    notifications_before: int
    notifications_after: int
