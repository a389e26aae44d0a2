"""Tests that read the real clock see one date only: those that would run over midnight UTC wait for the next day."""

import time
from datetime import UTC, datetime, timedelta


def wait_out_midnight(seconds: float = 60) -> None:
    """Sleeps until the next day in UTC begins if less than that is left of this one."""
    now = datetime.now(UTC)
    tomorrow = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
    while (left := (tomorrow - datetime.now(UTC)).total_seconds()) < seconds and left > 0:
        time.sleep(left)
