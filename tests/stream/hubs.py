"""A hub without a network, for tests that need hundreds of sessions; what real hubs do is tested with real ones."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from resources.event_source import HubState, HubUnavailableError, Pulled, Tail

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MemoryHub:
    """Partitions as lists. A receiver hands out at most `take` events of a partition at a time."""

    def __init__(self, name: str = "glucose_readings", partitions: int = 2, take: int = 1_000_000) -> None:
        self.name = name
        self.identity: int | None = 1
        self.is_gapless = True
        self.take = take
        self.takes = 0
        self.partitions: dict[int, list[tuple[int, bytes]]] = {partition: [] for partition in range(partitions)}
        self.firsts = dict.fromkeys(self.partitions, 0)
        self.fails_after: int | None = None

    def send(self, bodies: Sequence[bytes], at: datetime, partition: int = 0) -> None:
        self.partitions[partition] += [((at - EPOCH) // timedelta(milliseconds=1), body) for body in bodies]

    def expire(self, partition: int, first: int) -> None:
        """What retention does: the oldest events go, sequence numbers stay."""
        self.firsts[partition] = first

    def state(self) -> HubState:
        tails = {number: Tail(self.firsts[number], len(events) - 1) for number, events in self.partitions.items()}
        return HubState(self.identity, tails, self.is_gapless)

    @contextmanager
    def receive(self, after: Mapping[int, int]) -> Iterator["MemoryReceiver"]:
        yield MemoryReceiver(self, dict(after))


class MemoryReceiver:
    def __init__(self, hub: MemoryHub, after: dict[int, int]) -> None:
        self._hub, self._after = hub, after
        self.takes = 0

    def take(self, timeout: float) -> list[Pulled]:
        if self._hub.fails_after is not None and self.takes >= self._hub.fails_after:
            raise HubUnavailableError("the hub went away")
        self.takes += 1
        self._hub.takes += 1
        pulled = []
        for partition, events in self._hub.partitions.items():
            first = max(self._after.get(partition, -1) + 1, self._hub.firsts[partition])
            new = events[first : first + self._hub.take]
            if new:
                self._after[partition] = first + len(new) - 1
                numbers = list(range(first, first + len(new)))
                at = [each[0] for each in new]
                bodies: list[bytes | None] = [each[1] for each in new]
                nothing: list[str | None] = [None] * len(new)
                pulled.append(Pulled(partition, numbers, at, bodies, nothing, nothing, nothing))
        return pulled

    def wait_until_open(self, timeout: float) -> bool:
        return True

    def skip(self, reached: Mapping[int, int]) -> None:
        self._after |= {partition: max(last, self._after.get(partition, -1)) for partition, last in reached.items()}

    def gather(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))


class MemoryPublisher:
    """Keeps what is published, in order."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []

    def publish(self, bodies: Sequence[bytes], keys: Sequence[str]) -> list[int]:
        self.published += zip(keys, bodies, strict=True)
        return []
