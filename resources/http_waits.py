"""How long a server that takes no more requests wants to be left alone."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx


def retry_after(response: httpx.Response) -> float | None:
    """What the header Retry-After says, in seconds or as an instant; None where it says nothing that can be read."""
    return seconds_of(response.headers.get("Retry-After", ""))


def seconds_of(header: str) -> float | None:
    """The same of the header's text."""
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
