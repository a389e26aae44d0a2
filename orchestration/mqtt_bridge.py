"""The bridge from an MQTT broker to the streams' hubs.

```
 broker ─▶ session (QoS 1) ─▶ topic map: device, patient, kind ─▶ hubs of the streams ─▶ acknowledged
   ▲                                                                     │
   └── keeps what is not acknowledged, and sends it again ◀── away ──────┘
```

An event has the payload as it came, and all else as properties: bronze can be read again when an adapter is mended.
"""

import json
import threading
from collections.abc import Callable

from assets.adapters.formats import FORMATS
from orchestration.bridging import Bridged, BridgeError, Event, Outlets, StoppedWhileAwayError, streams_for
from orchestration.system import STREAMS
from orchestration.system import stream as stream_of
from resources.leases import LeaseError
from resources.mqtt import Message, Subscription
from resources.mqtt_topics import TopicMap, TopicMapError
from resources.settings import Settings

LOCK = "mqtt"
POLL_S = 0.5
STREAM_NAMES = tuple(name for each in STREAMS for name in (each.name, each.short))
FORMAT_NAMES = tuple(each.name for each in FORMATS)


def topic_map(settings: Settings) -> TopicMap:
    """The topics that the settings name.

    Raises:
        BridgeError: they cannot be read, or name streams or formats that there are not.
    """
    try:
        topics = TopicMap.of(settings.mqtt_topics)
        topics.check(dict.fromkeys((*STREAM_NAMES, *FORMAT_NAMES)))
    except TopicMapError as error:
        raise BridgeError(f"Setting PULSELAKE_MQTT_TOPICS: {error}. Nothing was read from the broker.") from None
    return topics


def run(
    settings: Settings,
    stop: threading.Event,
    *,
    advance: Callable[[Bridged], None] = lambda _: None,
    connected: Callable[[], None] = lambda: None,
) -> Bridged:
    """Takes messages from the broker to the hubs until it is asked to end.

    Args:
        settings: where broker and hubs are.
        stop: set when the process is asked to end.
        advance: told after each batch what was done so far.
        connected: called when the broker first took the subscriptions.

    Raises:
        BridgeError: no broker is set, or the topics cannot be read.
        LeaseError: another bridge of this home is at work.
        BrokerUnavailableError: the broker refuses this client.
    """
    if (broker := settings.mqtt_broker()) is None:
        raise BridgeError("No MQTT broker is set. Set PULSELAKE_MQTT_URL, such as mqtt://127.0.0.1:1883.")
    topics = topic_map(settings)
    lock = settings.lease(LOCK, "the MQTT bridge").active
    if not lock.take():
        raise LeaseError(f"Another MQTT bridge of {settings.root} is at work; this one did nothing. End the other.")
    folder = settings.root / "mqtt"
    known, named = folder / "session", f"{broker.client_id} {broker}"
    had_session = known.exists() and known.read_text() == named
    try:
        # The subscription is made before any hub is asked for: the broker keeps nothing for whom it does not know.
        with (
            Outlets(settings, folder / "too_large", stop) as outlets,
            Subscription(broker, topics.filters(), stop, had_session=had_session) as session,
        ):
            is_told = False
            while not stop.is_set():
                messages = session.take(POLL_S)
                if not is_told and session.is_connected:
                    is_told = True
                    folder.mkdir(parents=True, exist_ok=True)
                    known.write_text(named)
                    connected()
                if messages:
                    try:
                        outlets.publish([event_of(each, topics, broker.client_id) for each in messages])
                    except StoppedWhileAwayError:
                        break
                    session.acknowledge(messages)
                    outlets.done.messages += len(messages)
                    outlets.done.repeats += sum(each.is_repeat for each in messages)
                    advance(outlets.done)
            return outlets.done
    finally:
        lock.release()


def event_of(message: Message, topics: TopicMap, client_id: str) -> Event:
    """A message as an event."""
    found = topics.match(message.topic)
    said = {
        "mqtt-topic": message.topic,
        "mqtt-qos": str(message.qos),
        "mqtt-retain": str(message.is_retained).lower(),
        "mqtt-dup": str(message.is_repeat).lower(),
        "mqtt-client": client_id,
        "received": message.received_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    if message.packet_id:
        said["mqtt-packet-id"] = str(message.packet_id)
    if message.content_type:
        said["mqtt-content-type"] = message.content_type
    if message.user_properties:
        said["mqtt-user-properties"] = json.dumps(message.user_properties, ensure_ascii=False)
    if message.expires_s is not None:
        said["mqtt-expiry-s"] = str(message.expires_s)
    if found is None:
        return Event(message.payload, message.topic, said, streams_for(message.payload, said))
    said |= {"mqtt-device": found.device, "mqtt-kind": found.kind}
    if found.patient:
        said["binding"] = found.patient
    targets = found.route.targets
    if source := next((each for each in targets if each in FORMAT_NAMES), None):
        said["source"] = source
    streams = [stream_of(each).name for each in targets if each not in FORMAT_NAMES]
    key = found.device or found.patient or message.topic
    return Event(message.payload, key, said, streams or streams_for(message.payload, said))
