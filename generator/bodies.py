"""How readings become bytes: JSON, and the timestamp formats of the payload contract."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Reading = dict[str, Any]
Variation = Callable[[Reading, Random], Reading]

SECOND_US = 1_000_000
UNITS: dict[int, Literal["s", "ms", "us"]] = {SECOND_US: "s", 1000: "ms", 1: "us"}


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


def array(members: Sequence[bytes]) -> bytes:
    return b"[" + b", ".join(members) + b"]"


def decode(body: bytes) -> list[Reading]:
    """The readings of a body of ours that was not spoiled."""
    value = json.loads(body)
    return value if isinstance(value, list) else [value]


def timestamps(measured_us: NDArray[np.int64], resolution_us: int) -> list[str]:
    """`2024-05-01 10:00:00` for whole seconds, otherwise ISO 8601 with a fraction and an offset."""
    times: NDArray[np.datetime64] = measured_us.astype("datetime64[us]")
    texts: list[str] = np.datetime_as_string(times, unit=UNITS[resolution_us]).tolist()
    if resolution_us == SECOND_US:
        return "\n".join(texts).replace("T", " ").split("\n") if texts else []
    return [text + "+00:00" for text in texts]


def instant(timestamp: str) -> datetime:
    at = datetime.fromisoformat(timestamp)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def other_timestamp(coarsest_us: int) -> Variation:
    """Writes the time in another valid format, rounded down no further than keeps a patient's readings apart."""

    def vary(reading: Reading, rng: Random) -> Reading:
        return reading | {"timestamp": rng.choice(_spellings(instant(reading["timestamp"]), coarsest_us))}

    return vary


def _spellings(at: datetime, coarsest_us: int) -> list[str | int]:
    offset = timezone(timedelta(hours=2))
    spellings: list[str | int] = [at.astimezone(offset).isoformat(), at.isoformat()]
    if coarsest_us >= 1000 or at.microsecond % 1000 == 0:
        spellings.append(int(at.timestamp()) * 1000 + at.microsecond // 1000)
    if coarsest_us >= SECOND_US or at.microsecond == 0:
        spellings.append(at.strftime("%Y-%m-%d %H:%M:%S"))
    return spellings
