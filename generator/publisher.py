"""Sends events to a hub with the Event Hubs SDK, at a pace or as fast as it goes: the generator's clock and network.

Events of one key go to one partition, chosen here by a stable hash (CRC-32 modulo the partition count), in batches for
that partition. The SDK's own partition keys would allow one key per batch, so one send per patient and tick: 4,000
events a second where full batches reach 40,000. The partition may therefore be another than Azure would choose for the
key, but it is always the same one, and a key's events keep their order. Delivery is at least once.
"""

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from os import PathLike
from typing import Any, NamedTuple, Protocol
from zlib import crc32

from azure.eventhub import EventDataBatch
from azure.eventhub.amqp import AmqpAnnotatedMessage
from azure.eventhub.exceptions import AuthenticationError, EventHubError

from generator.events import RECORDED, Event

log = logging.getLogger(__name__)

TICK_SECONDS = 0.02
PROGRESS_SECONDS = 1.0
ATTEMPTS = 3
RETRY_SECONDS = 1.0


class Producer(Protocol):
    """What is used of an `azure.eventhub.EventHubProducerClient`."""

    def get_partition_ids(self) -> list[str]: ...

    def create_batch(self, *, partition_id: str) -> EventDataBatch: ...

    def send_batch(self, event_data_batch: EventDataBatch, /) -> None: ...


class Progress(NamedTuple):
    """What has been acknowledged so far."""

    events: int
    readings: int
    resent: int
    seconds: float


class TooLarge(NamedTuple):
    """An event that fits in no batch and was left out; `place` is its number, or file and line."""

    place: str
    size_bytes: int
    limit_bytes: int

    def __str__(self) -> str:
        return f"{self.place}: a body of {self.size_bytes:,} bytes does not fit in a batch of {self.limit_bytes:,}"


class Published(NamedTuple):
    """What a hub has acknowledged. `resent` events were sent again after an error; the hub may hold them twice."""

    events: int
    readings: int
    by_label: dict[str, int]
    seconds: float
    resent: int = 0
    too_large: tuple[TooLarge, ...] = ()


class PublishError(Exception):
    """A batch could not be sent; `published` is what had been acknowledged before."""

    def __init__(self, partition: str, attempts: int, published: Published) -> None:
        super().__init__(
            f"partition {partition} refused a batch {attempts} times; {published.events:,} events were sent before"
        )
        self.published = published


def publish(
    events: Iterable[Event],
    producer: Producer,
    *,
    rate: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Published:
    """Sends until the events end or `stop` is set. An event's own `due` decides when it goes, otherwise `rate`.

    The SDK tries again by itself before it raises; what it raises is logged, and the batch is sent again up to twice.
    """
    return _publish(events, _Sending(producer, progress, stop or threading.Event(), "event "), rate)


def publish_file(
    path: str | PathLike[str],
    producer: Producer,
    *,
    rate: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Published:
    """Sends each line of a file as a body, byte for byte without its line feed; an empty line is an empty body.

    A line that holds JSON with a patient_id or device_id goes to that id's partition, any other to the next in turn.
    Lines that are too large are logged, left out and listed in the result.
    """
    return _publish(recorded(path), _Sending(producer, progress, stop or threading.Event(), f"{path}:"), rate)


def recorded(path: str | PathLike[str]) -> Iterator[Event]:
    with open(path, "rb") as lines:
        for line in lines:
            body = line.removesuffix(b"\n")
            members = _members(body)
            yield Event(_key(members), body, RECORDED, readings=max(1, len(members)))


def partition_of(key: str, partitions: list[str]) -> str:
    return partitions[crc32(key.encode()) % len(partitions)]


def _publish(events: Iterable[Event], sending: "_Sending", rate: float | None) -> Published:
    if rate is not None and rate <= 0:
        raise ValueError(f"rate must be above zero: {rate}")
    for event in _paced(events, rate, sending):
        sending.add(event)
        if sending.stop.is_set():
            break
    sending.flush()
    return sending.published()


def _members(body: bytes) -> list[Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return []
    return value if isinstance(value, list) else [value]


def _key(members: list[Any]) -> str:
    first = members[0] if members and isinstance(members[0], dict) else {}
    ids = (first.get("patient_id"), first.get("device_id"))
    return next((str(value) for value in ids if type(value) in (int, str)), "")


def _paced(events: Iterable[Event], rate: float | None, sending: "_Sending") -> Iterator[Event]:
    """Hands on what is due; while an event waits, everything before it has been sent."""
    began, began_at = time.monotonic(), time.time()
    for number, event in enumerate(events):
        due = event.due - began_at if event.due is not None else number / rate if rate else 0.0
        if began + due > time.monotonic():
            sending.flush()
            while (wait := began + due - time.monotonic()) > 0:
                if sending.stop.wait(max(wait, TICK_SECONDS)):
                    return
        yield event


class _Sending:
    """One open batch per partition, and the count of what was acknowledged."""

    def __init__(
        self,
        producer: Producer,
        progress: Callable[[Progress], None] | None,
        stop: threading.Event,
        place: str,
    ) -> None:
        self.stop = stop
        self._place = place
        self._producer = producer
        self._progress = progress
        self._partitions = producer.get_partition_ids()
        self._turns = cycle(self._partitions)
        self._by_key: dict[str, str] = {}
        self._batches: dict[str, EventDataBatch] = {}
        self._open: dict[str, list[Event]] = {partition: [] for partition in self._partitions}
        self._began = self._reported = time.monotonic()
        self._number = self._readings = self._resent = 0
        self._labels: Counter[str] = Counter()
        self._too_large: list[TooLarge] = []

    def add(self, event: Event) -> None:
        self._number += 1
        partition = self._partition(event.key)
        # An annotated message costs the SDK a third less than an EventData around the same bytes.
        message = AmqpAnnotatedMessage(data_body=event.body)
        if not self._fits(partition, message):
            self._send(partition)
            if not self._fits(partition, message):
                self._leave_out(event, self._batches[partition].max_size_in_bytes)
                return
        self._open[partition].append(event)

    def flush(self) -> None:
        for partition in self._partitions:
            self._send(partition)

    def published(self) -> Published:
        return Published(
            self._labels.total(),
            self._readings,
            dict(self._labels),
            time.monotonic() - self._began,
            self._resent,
            tuple(self._too_large),
        )

    def _partition(self, key: str) -> str:
        if not key:
            return next(self._turns)
        if key not in self._by_key:
            self._by_key[key] = partition_of(key, self._partitions)
        return self._by_key[key]

    def _fits(self, partition: str, message: AmqpAnnotatedMessage) -> bool:
        batch = self._batches.get(partition)
        if batch is None:
            batch = self._batches[partition] = self._producer.create_batch(partition_id=partition)
        try:
            batch.add(message)
        except ValueError:
            return False
        return True

    def _leave_out(self, event: Event, limit_bytes: int) -> None:
        self._too_large.append(TooLarge(f"{self._place}{self._number}", len(event.body), limit_bytes))
        log.error("left out: %s", self._too_large[-1])

    def _send(self, partition: str) -> None:
        sent = self._open[partition]
        if not sent:
            return
        self._deliver(partition, self._batches[partition], len(sent))
        del self._batches[partition]
        self._open[partition] = []
        self._labels.update(event.label for event in sent)
        self._readings += sum(event.readings for event in sent)
        self._report()

    def _deliver(self, partition: str, batch: EventDataBatch, size: int) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._producer.send_batch(batch)
                return
            except AuthenticationError:
                raise
            except EventHubError as error:
                # The text alone: a record that holds the error would hold its dead sockets open.
                log.warning("partition %s, attempt %d of %d: %s", partition, attempt, ATTEMPTS, str(error))
                if attempt == ATTEMPTS or self.stop.wait(RETRY_SECONDS):
                    raise PublishError(partition, attempt, self.published()) from error
                self._resent += size

    def _report(self) -> None:
        now = time.monotonic()
        if self._progress is not None and now - self._reported >= PROGRESS_SECONDS:
            self._reported = now
            self._progress(Progress(self._labels.total(), self._readings, self._resent, now - self._began))
