"""Sends events to a hub at a pace or as fast as it goes: the generator's clock, and its count of what was sent.

How events get into the hub is the publisher's matter. Delivery is at least once: what a hub did not acknowledge is sent
again.
"""

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from generator.events import NO_OBJECT, RECORDED, Event
from resources.event_source import HubUnavailableError, Publisher
from resources.records import records as elements

log = logging.getLogger(__name__)

TICK_SECONDS = 0.02
PROGRESS_SECONDS = 1.0
GIVE_UP_AFTER_SECONDS = 30.0
RETRY_SECONDS = 1.0
# Events that are due wait for others until there are so many.
BUFFERED_EVENTS, BUFFERED_BYTES = 5000, 1 << 20
KEYS = ("patient_id", "device_id", "safetyreportid")
"""The fields of a recorded body that may name its partition, the first one first."""


class Progress(NamedTuple):
    """What has been acknowledged so far."""

    events: int
    readings: int
    resent: int
    seconds: float


class TooLarge(NamedTuple):
    """An event that the hub does not take and that was left out; `place` is its number, or file and line."""

    place: str
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.place}: a body of {self.size_bytes:,} bytes is larger than the hub accepts"


class Published(NamedTuple):
    """What a hub has acknowledged. `resent` events were sent again after an error; the hub may hold them twice."""

    events: int
    readings: int
    by_label: dict[str, int]
    seconds: float
    resent: int = 0
    too_large: tuple[TooLarge, ...] = ()


class PublishError(Exception):
    """Events could not be sent; `published` is what had been acknowledged before."""

    def __init__(self, attempts: int, published: Published, reason: Exception) -> None:
        super().__init__(
            f"Sending stopped after {attempts} attempts; {published.events:,} events were sent before, the others were "
            f"not. {reason}"
        )
        self.published = published


def publish(
    events: Iterable[Event],
    publisher: Publisher,
    *,
    rate: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Published:
    """Sends until the events end or `stop` is set. An event's own `due` decides when it goes, otherwise `rate`.

    Raises:
        HubUnavailableError: the hub was away at the beginning.
        PublishError: the hub went away for longer than `GIVE_UP_AFTER_SECONDS`, or when `stop` was set.
    """
    return _publish(events, _Sending(publisher, progress, stop or threading.Event(), "event "), rate)


def publish_file(
    path: str | PathLike[str],
    publisher: Publisher,
    *,
    records: str | None = None,
    rate: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Published:
    """Sends each line of a file as a body, byte for byte without its line feed; an empty line is an empty body.

    A file whose name ends in ``.bin`` is one body as it stands. A body that holds JSON with one of the ids in
    `KEYS` goes to that id's partition, any other to the next in turn. Bodies that are too large are logged, left out
    and listed in the result.

    Args:
        records: the file, ``.json`` or ``.zip``, is no lines: it has a list of this name, see `resources.records`. Each
            element is a body.

    Raises:
        HubUnavailableError, PublishError: see `publish`.
        RecordsError: there is no such list; nothing was sent.
    """
    sending = _Sending(publisher, progress, stop or threading.Event(), f"{path}:")
    return _publish(recorded(path, records), sending, rate)


def recorded(path: str | PathLike[str], records: str | None = None) -> Iterator[Event]:
    """The bodies in a file as events."""
    if records is not None:
        for body in elements(path, records):
            event = _recorded(body)
            yield event if body.startswith(b"{") else event._replace(label=NO_OBJECT)
        return
    if Path(path).suffix == ".bin":
        yield _recorded(Path(path).read_bytes())
        return
    with open(path, "rb") as lines:
        for line in lines:
            yield _recorded(line.removesuffix(b"\n"))


def _recorded(body: bytes) -> Event:
    members = _members(body)
    return Event(_key(members), body, RECORDED, readings=max(1, len(members)))


def _publish(events: Iterable[Event], sending: "_Sending", rate: float | None) -> Published:
    if rate is not None and rate <= 0:
        raise ValueError(f"rate must be above zero: {rate}")
    sending.check()
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
    ids = (first.get(name) for name in KEYS)
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
    """The events that were not sent yet, and the count of what was acknowledged."""

    def __init__(
        self,
        publisher: Publisher,
        progress: Callable[[Progress], None] | None,
        stop: threading.Event,
        place: str,
    ) -> None:
        self.stop = stop
        self._place = place
        self._publisher = publisher
        self._progress = progress
        self._buffered: list[Event] = []
        self._buffered_bytes = 0
        self._began = self._reported = time.monotonic()
        self._number = self._readings = self._resent = 0
        self._labels: Counter[str] = Counter()
        self._too_large: list[TooLarge] = []

    def check(self) -> None:
        """Makes sure that the hub can be reached: who begins need not wait for one that is away."""
        self._publisher.publish([], [])

    def add(self, event: Event) -> None:
        self._buffered.append(event)
        self._buffered_bytes += len(event.body)
        if len(self._buffered) >= BUFFERED_EVENTS or self._buffered_bytes >= BUFFERED_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self._buffered:
            return
        sent, self._buffered, self._buffered_bytes = self._buffered, [], 0
        refused = set(self._deliver(sent))
        for at, event in enumerate(sent):
            self._number += 1
            if at in refused:
                self._leave_out(event)
            else:
                self._labels[event.label] += 1
                self._readings += event.readings
        self._report()

    def published(self) -> Published:
        return Published(
            self._labels.total(),
            self._readings,
            dict(self._labels),
            time.monotonic() - self._began,
            self._resent,
            tuple(self._too_large),
        )

    def _leave_out(self, event: Event) -> None:
        self._too_large.append(TooLarge(f"{self._place}{self._number}", len(event.body)))
        log.error("left out: %s", self._too_large[-1])

    def _deliver(self, events: list[Event]) -> list[int]:
        bodies, keys = [event.body for event in events], [event.key for event in events]
        began, attempt = time.monotonic(), 0
        while True:
            attempt += 1
            try:
                return self._publisher.publish(bodies, keys)
            except HubUnavailableError as error:
                log.warning("attempt %d: %s", attempt, error)
                is_over = time.monotonic() - began > GIVE_UP_AFTER_SECONDS
                if is_over or self.stop.wait(RETRY_SECONDS):
                    raise PublishError(attempt, self.published(), error) from error
                self._resent += len(events)

    def _report(self) -> None:
        now = time.monotonic()
        if self._progress is not None and now - self._reported >= PROGRESS_SECONDS:
            self._reported = now
            self._progress(Progress(self._labels.total(), self._readings, self._resent, now - self._began))
