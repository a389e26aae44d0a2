"""What the bridges from brokers share: to which streams' hubs a message goes, and how it gets there for certain.

A bridge takes messages that another system keeps until they are acknowledged, and acknowledges each only when every hub
that it goes to has it. While a hub is away nothing is acknowledged, so that nothing is lost and nothing piles up here.
What a hub got twice counts once.
"""

import hashlib
import logging
import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from assets.adapters.bodies import outcomes_of, streams_of
from assets.adapters.outcomes import DEVICES, GLUCOSE
from assets.adapters.telemetry import streams_of_words
from resources import sources
from resources.event_source import HubUnavailableError, SendingPublisher
from resources.logs import tell
from resources.settings import Settings

_log = logging.getLogger(__name__)

AGAIN_AFTER_S, AGAIN_AT_LEAST_EVERY_S = 0.5, 10.0


class BridgeError(ValueError):
    """A bridge cannot start; the message says what to set."""


class Event(NamedTuple):
    """A message as an event of hubs.

    Attributes:
        body: its bytes, as they came.
        key: events of one key stay in order.
        properties: what was said about it.
        streams: whose hubs it goes to.
    """

    body: bytes
    key: str
    properties: Mapping[str, str]
    streams: Sequence[str]


class StoppedWhileAwayError(Exception):
    """The process was asked to end while a hub was away; what it could not publish is not acknowledged."""


def streams_for(body: bytes, properties: Mapping[str, str]) -> list[str]:
    """The streams that a message has something for, by what it holds.

    What has no reading, such as the state of a connection, goes to the devices' stream, which counts it as skipped.
    What nobody can read goes to glucose, where it is quarantined.
    """
    said = msgspec.json.encode(dict(properties)).decode()
    try:
        outcomes = outcomes_of(body, said, None, lambda *_: "UTC")
    except Exception as error:
        # The message must pass all the same, or it would stop all others: its stream quarantines it.
        tell(_log, "an adapter failed with a message", logging.ERROR, failure=type(error).__name__)
        return [GLUCOSE]
    if outcomes is None:
        return _of_own_words(body)
    return sorted(streams_of(outcomes)) or [DEVICES]


def _of_own_words(body: bytes) -> list[str]:
    try:
        value = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        return [GLUCOSE]
    first = value[0] if isinstance(value, list) and value else value
    return sorted(streams_of_words(first)) if isinstance(first, dict) else [GLUCOSE]


@dataclass
class Bridged:
    """What a bridge did so far.

    Attributes:
        messages: how many were acknowledged.
        by_stream: how many events each stream's hub got.
        repeats: messages of which the broker said that it may have sent them before.
        too_large: messages that no hub takes; they are in files.
        outages: how often a hub did not take a batch.
    """

    messages: int = 0
    by_stream: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    too_large: int = 0
    outages: int = 0


class Outlets:
    """The hubs of the streams, opened when they are needed: `with Outlets(settings, folder, stop) as outlets: …`.

    Args:
        settings: where the hubs are.
        too_large: the folder for messages that no hub takes; it is made when there is one.
        stop: set when the process is asked to end.
    """

    def __init__(self, settings: Settings, too_large: Path, stop: threading.Event) -> None:
        self._settings, self._folder, self._stop = settings, too_large, stop
        self._stack = ExitStack()
        self._publishers: dict[str, SendingPublisher] = {}
        self.done = Bridged()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def publish(self, events: Sequence[Event]) -> None:
        """Publishes events and returns when every hub has its own; a hub that is away is waited for.

        Raises:
            StoppedWhileAwayError: the process was asked to end meanwhile; some hubs may have some of them.
        """
        too_large: set[int] = set()
        for stream in sorted({stream for event in events for stream in event.streams}):
            chosen = [number for number, event in enumerate(events) if stream in event.streams]
            refused = self._patiently(stream, [events[number] for number in chosen])
            too_large |= {chosen[place] for place in refused}
            self.done.by_stream[stream] += len(chosen) - len(refused)
        for number in sorted(too_large):
            self._keep(events[number])

    def _patiently(self, stream: str, events: Sequence[Event]) -> list[int]:
        pause_s = AGAIN_AFTER_S
        is_told = False
        while True:
            try:
                found = self._publisher(stream).publish(
                    [event.body for event in events],
                    [event.key for event in events],
                    [event.properties for event in events],
                )
            except HubUnavailableError as error:
                self.done.outages += 1
                if not is_told:
                    what = "the hub is away; messages stay where they are"
                    tell(_log, what, logging.WARNING, stream=stream, why=str(error))
                    is_told = True
                if self._stop.wait(pause_s):
                    raise StoppedWhileAwayError(stream) from error
                pause_s = min(2 * pause_s, AGAIN_AT_LEAST_EVERY_S)
            else:
                if is_told:
                    tell(_log, "the hub is back", logging.WARNING, stream=stream)
                return found

    def _publisher(self, stream: str) -> SendingPublisher:
        if stream not in self._publishers:
            self._publishers[stream] = self._stack.enter_context(sources.publisher(self._settings, stream))
        return self._publishers[stream]

    def _keep(self, event: Event) -> None:
        """Writes a message that no hub takes to a file of its own, with what was said about it beside."""
        self._folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(event.body).hexdigest()[:32]
        for suffix, content in ((".json", msgspec.json.encode(dict(event.properties))), (".bin", event.body)):
            draft = self._folder / f".{name}{suffix}"
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._folder / f"{name}{suffix}")
        self.done.too_large += 1
        tell(
            _log,
            "a message is larger than a hub takes; it is kept in a file",
            logging.ERROR,
            bytes=len(event.body),
            folder=str(self._folder),
        )


def log_away(why: str) -> None:
    """Tells that the source of a bridge is away; what it has stays there."""
    tell(_log, "the source is away", logging.WARNING, why=why)


def log_expired(messages: int) -> None:
    """Tells that the source removed messages before they were read."""
    tell(_log, "messages had expired in the source before they were read; they are lost", logging.ERROR, count=messages)
