"""How fast the MQTT bridge takes messages to the local hub, beside a bare client of paho that acknowledges at once."""

import threading
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.report import Figures, say, show
from orchestration.bridging import Bridged
from orchestration.mqtt_bridge import run as bridge
from resources.mqtt import IN_FLIGHT
from resources.settings import Settings
from tests.emulator.hub import RunningHub
from tests.services.mosquitto import Mosquitto, Sender

ROUNDS = 3
MESSAGES, QUICK_MESSAGES = 40_000, 4_000
TOPIC = "health/dev-1/glucose"
PATIENCE_S = 300.0
MAPS = {"bridge": "health/{device}/{kind}", "bridge_named": "health/{device}/glucose=glucose_readings"}
NAMES = {
    "paho": "paho alone",
    "bridge": "bridge; messages tell their stream",
    "bridge_named": "bridge; the topic names the stream",
}


def run(*, quick: bool = False, rounds: int = ROUNDS) -> Figures:
    """Rounds of a backlog of quality of service 1 that a broker kept for a client, and a client that takes it."""
    messages = QUICK_MESSAGES if quick else MESSAGES
    rounds = 1 if quick else rounds
    measured: dict[str, list[float]] = {who: [] for who in NAMES}
    with TemporaryDirectory(prefix="bench-") as folder, Mosquitto(Path(folder) / "broker") as broker:
        for number in range(rounds):
            for who, name in NAMES.items():
                measured[who].append(_rate(who, broker, messages, Path(folder) / f"{who}-{number}"))
                say(f"  {name}: {measured[who][-1]:,.0f} messages/s")
    rates = {who: median(each) for who, each in measured.items()}
    rows = [[NAMES[who], f"{rate:,.0f}", f"{rate / rates['paho']:.2f}"] for who, rate in rates.items()]
    show("MQTT, quality of service 1", ("", "messages/s", "to paho alone"), rows)
    return {"messages": messages, "messages_s": rates, "rounds": measured}


def _rate(who: str, broker: Mosquitto, messages: int, home: Path) -> float:
    client_id = f"{who}-{home.name}"
    with _bare(broker, client_id):
        pass  # From now on the broker keeps what comes.
    with Sender(broker.port) as device:
        device.send(
            TOPIC, [f'{{"glucose_level": {80 + n % 90}, "timestamp": {1_780_000_000 + n}}}' for n in range(messages)]
        )
    began = time.monotonic()
    if who == "paho":
        with _bare(broker, client_id) as taken:
            _wait(lambda: len(taken) >= messages)
            return messages / (time.monotonic() - began)
    with RunningHub(["glucose_readings:4", "device_readings:4", "patient-data:4"]) as hub:
        settings = Settings(
            home=home,
            event_hubs=hub.connection_string,
            mqtt_url=broker.url,
            mqtt_client_id=client_id,
            mqtt_topics=MAPS[who],
        )
        stop, started = threading.Event(), threading.Event()
        at = [0.0]

        def advance(done: Bridged) -> None:
            # Connecting to the hub takes a second, which is no part of the rate.
            if not started.is_set():
                started.set()
                at[0], at[1:] = time.monotonic(), [done.messages]
            if done.messages >= messages:
                stop.set()

        bridge(settings, stop, advance=advance)
        return (messages - at[1]) / (time.monotonic() - at[0])


class _bare:
    """A session of paho with what the bridge asks for, which acknowledges at once."""

    def __init__(self, broker: Mosquitto, client_id: str) -> None:
        self._taken: list[int] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval, properties.ReceiveMaximum = 3600, IN_FLIGHT
        subscribed = threading.Event()
        self._client.on_message = lambda _client, _data, message: self._taken.append(message.mid)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", broker.port, clean_start=False, properties=properties)
        self._client.loop_start()
        self._client.subscribe("health/+/+", 1)
        assert subscribed.wait(PATIENCE_S)

    def __enter__(self) -> list[int]:
        return self._taken

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def _wait(is_done: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_done():
        if time.monotonic() > deadline:
            raise TimeoutError("the messages did not come")
        time.sleep(0.005)
