"""How many messages a channel takes, and how long it is left alone after it failed. Pure: time is an argument."""

from dataclasses import dataclass
from typing import NamedTuple

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 120.0
LONGEST_RETRY_AFTER_S = 3600.0
"""A channel that asks for a longer pause is asked again nevertheless."""


class Pace(NamedTuple):
    """At most `burst` messages at once, and `per_second` on average. In any s seconds: burst + s · per_second."""

    burst: float
    per_second: float


@dataclass
class Bucket:
    """A token bucket: each message takes a token, and tokens come back at the pace.

    Attributes:
        pace: how many there are, and how fast they come back.
        tokens: how many were left at the instant `at`, in seconds on a clock that never goes back.
    """

    pace: Pace
    tokens: float
    at: float

    @classmethod
    def full(cls, pace: Pace, now: float) -> "Bucket":
        """One that no message has taken from yet."""
        return cls(pace, pace.burst, now)

    def wait_s(self, now: float, *, is_urgent: bool) -> float:
        """How long until a message may be sent. What is not urgent leaves the last token to what is."""
        # A burst of one token leaves nothing to be set aside.
        needed = 1.0 if is_urgent else min(2.0, self.pace.burst)
        return max(0.0, (needed - self._left(now)) / self.pace.per_second)

    def take(self, now: float) -> None:
        """Takes the token of a message that is being sent."""
        self.tokens, self.at = self._left(now) - 1.0, now

    def _left(self, now: float) -> float:
        return min(self.pace.burst, self.tokens + max(0.0, now - self.at) * self.pace.per_second)


def pause_s(failures: int, random: float, retry_after_s: float | None = None) -> float:
    """How long a channel is left alone.

    Args:
        failures: how often it failed one after the other, from 1.
        random: a number in [0, 1): channels that failed together are not asked again together.
        retry_after_s: what the channel asked for; never less than that, up to an hour.
    """
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20))
    own = longest * (0.5 + random / 2)
    return max(own, min(retry_after_s or 0.0, LONGEST_RETRY_AFTER_S))
