"""What a check finds, and how far back the checks of a session look."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

RECENT = timedelta(minutes=30)
"""Some sessions long: one that was killed is made up for."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    table: str
    name: str
    passed: bool
    counts: Mapping[str, float] = field(default_factory=dict)
    is_error: bool = True
