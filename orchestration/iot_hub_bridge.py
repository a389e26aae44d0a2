"""The bridge from the built-in endpoint of an IoT Hub to the streams' hubs.

All devices of an IoT Hub come by one endpoint, whatever they measure, while a stream has a hub of its own. The bridge
reads the endpoint once and publishes each message to the streams that it has something for. What the IoT Hub stamped is
passed on as properties, over what the device says under the same names. How far it has read is in the lake.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.core.exceptions import AzureError
from deltalake.exceptions import DeltaError

from orchestration.bridge_offsets import BridgeOffsets
from orchestration.bridging import (
    AGAIN_AFTER_S,
    AGAIN_AT_LEAST_EVERY_S,
    Bridged,
    BridgeError,
    Event,
    Outlets,
    StoppedWhileAwayError,
    log_away,
    log_expired,
    streams_for,
)
from orchestration.system import open_lake
from resources.event_hubs import EventHubsSource
from resources.event_source import HubTakenOverError, HubUnavailableError, Pulled
from resources.leases import LeaseError
from resources.settings import Settings
from resources.sources import iot_hub_of

LOCK = "iothub"
TAKE_S, COMMIT_EVERY_S = 0.5, 2.0
READ_WELL_S = 60.0
"""What ends after so long is another outage than the one before."""
DEVICE_ID, ENQUEUED = "iothub-connection-device-id", "iothub-enqueuedtime"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def run(
    settings: Settings,
    stop: threading.Event,
    *,
    advance: Callable[[Bridged], None] = lambda _: None,
    connected: Callable[[], None] = lambda: None,
) -> Bridged:
    """Takes messages from the endpoint to the hubs until it is asked to end.

    Args:
        settings: where the IoT Hub, the hubs and the lake are.
        stop: set when the process is asked to end.
        advance: told after each batch what was done so far.
        connected: called when the endpoint is first read.

    Raises:
        BridgeError: no IoT Hub is set.
        LeaseError: another bridge of this home is at work.
        HubTakenOverError: another reader of the consumer group took the place of this one.
        LakeUnavailableError: the lake cannot be opened.
    """
    if (source := iot_hub_of(settings)) is None:
        raise BridgeError(
            "No IoT Hub is set. Set PULSELAKE_IOT_HUB to the 'Event Hub-compatible endpoint' of its built-in endpoints."
        )
    lock = settings.lease(LOCK, "the IoT Hub bridge").active
    if not lock.take():
        raise LeaseError(f"Another IoT Hub bridge of {settings.root} is at work; this one did nothing. End the other.")
    try:
        with Outlets(settings, settings.root / "iothub" / "too_large", stop) as outlets:
            bridge = _Bridge(settings, source, outlets, stop, advance, connected)
            bridge.keep_on()
            return outlets.done
    finally:
        lock.release()


class _Bridge:
    def __init__(
        self,
        settings: Settings,
        source: EventHubsSource,
        outlets: Outlets,
        stop: threading.Event,
        advance: Callable[[Bridged], None],
        connected: Callable[[], None],
    ) -> None:
        self._lake, self._source, self._outlets, self._stop = open_lake(settings), source, outlets, stop
        self._advance, self._connected = advance, connected

    def keep_on(self) -> None:
        """Reads until it is asked to end, again and again where the endpoint is away."""
        pause_s, is_told = AGAIN_AFTER_S, False
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._read()
            except HubTakenOverError:
                raise
            except (OSError, AzureError, DeltaError) as error:
                if time.monotonic() - began > READ_WELL_S:
                    pause_s, is_told = AGAIN_AFTER_S, False
                # The endpoint, or the lake that has the marks.
                if not is_told:
                    log_away(str(error) if isinstance(error, HubUnavailableError) else type(error).__name__)
                    is_told = True
                self._stop.wait(pause_s)
                pause_s = min(2 * pause_s, AGAIN_AT_LEAST_EVERY_S)
            except StoppedWhileAwayError:
                return

    def _read(self) -> None:
        state = self._source.state()
        offsets = BridgeOffsets(self._lake, LOCK, state.identity)
        offsets.open(len(state.tails), datetime.now(UTC))
        after = offsets.read(list(state.tails))
        lost = sum(max(0, tail.first - after[number] - 1) for number, tail in state.tails.items() if number in after)
        if lost:
            log_expired(lost)
        reached: dict[int, int] = {}
        committed_at = time.monotonic()
        with self._source.receive(after) as receiver:
            self._connected()
            self._connected = lambda: None
            try:
                while not self._stop.is_set():
                    for pulled in receiver.take(TAKE_S):
                        self._pass_on(pulled)
                        reached[pulled.partition] = pulled.sequence_numbers[-1]
                    if reached and time.monotonic() - committed_at >= COMMIT_EVERY_S:
                        offsets.write(reached)
                        reached, committed_at = {}, time.monotonic()
            finally:
                # What is published already need not be read again.
                if reached:
                    offsets.write(reached)

    def _pass_on(self, pulled: Pulled) -> None:
        events = [
            event_of(body or b"", properties, annotations, enqueued_ms)
            for body, properties, annotations, enqueued_ms in zip(
                pulled.bodies, pulled.properties, pulled.annotations, pulled.enqueued_ms, strict=True
            )
        ]
        self._outlets.publish(events)
        self._outlets.done.messages += len(events)
        self._advance(self._outlets.done)


def event_of(body: bytes, properties: str | None, annotations: str | None, enqueued_ms: int) -> Event:
    """A message of an IoT Hub as an event.

    Args:
        body: its bytes.
        properties: JSON text of what the device said about it.
        annotations: JSON text of what the IoT Hub stamped.
        enqueued_ms: when the endpoint got it, epoch milliseconds; for messages without the IoT Hub's own time.
    """
    of_device, stamped = _texts(properties), _texts(annotations)
    # Only the hub may say these: a device could give itself the name of another one.
    said = {name: text for name, text in of_device.items() if not _is_stamp(name)}
    said |= {name: text for name, text in stamped.items() if _is_stamp(name)}
    at = _EPOCH + timedelta(milliseconds=enqueued_ms)
    said.setdefault(ENQUEUED, at.isoformat(timespec="milliseconds").replace("+00:00", "Z"))
    # Without a stamp the body must say which device it is; the marker has adapters look at it all the same.
    said.setdefault(DEVICE_ID, "")
    return Event(body, said[DEVICE_ID], said, streams_for(body, said))


def _is_stamp(name: str) -> bool:
    return name in _STAMPS or name.startswith("iothub-connection-")


_STAMPS = (ENQUEUED, "iothub-message-source", "iothub-interface-id", "dt-dataschema", "dt-subject")


def _texts(members: str | None) -> Mapping[str, str]:
    """The members of a JSON object as texts; objects stay JSON."""
    found: dict[str, Any] = json.loads(members) if members else {}
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in found.items()
    }
