"""The bridge from MQTT with a real broker, the real local hub and real sessions: nothing lost, repeats are repeats."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from assets.devices.assets import CONTRACT as DEVICES
from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.reference.tables import IDENTITY
from assets.reference_store import put
from assets.stream.contract import Contract
from assets.stream.session import SessionLimits
from assets.vitals.assets import CONTRACT as VITALS
from orchestration.bridging import Bridged, BridgeError, Event, streams_for
from orchestration.mqtt_bridge import event_of, run
from orchestration.processes import free_port
from resources.lake import Lake
from resources.mqtt import Message
from resources.mqtt_broker import BrokerUnavailableError
from resources.mqtt_topics import TopicMap
from resources.settings import Settings
from resources.sources import namespace_of
from tests.adapters.samples_as_events import SAMPLES
from tests.adapters.world import identity_rows
from tests.emulator.hub import RunningHub
from tests.midnight import wait_out_midnight
from tests.orchestration.commands import command_line, end, read_until
from tests.orchestration.site import wait_until
from tests.services.kafka import Proxy
from tests.services.mosquitto import Mosquitto, Sender
from tests.stream.scenarios import run_session
from tests.stream.tables import rows

pytestmark = [
    pytest.mark.service,
    pytest.mark.slow,
    # A client of paho leaves its pair of sockets to the collector of garbage.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

PATIENT, DEVICE = 117, 9911
NOW = datetime.now(UTC).replace(microsecond=0)
HUBS = ["glucose_readings:4", "patient-data:4", "device_readings:4", "alerts:4", "alarms:4"]


def at(second: int) -> str:
    return (NOW - timedelta(hours=2) + timedelta(seconds=second)).isoformat()


def reading(number: int) -> str:
    return json.dumps({"glucose_level": 80 + number % 100, "timestamp": at(number)})


class Site:
    """A broker, a hub and a lake, and bridges between them."""

    def __init__(self, folder: Path, broker: Mosquitto, hub: RunningHub) -> None:
        self.folder, self.broker, self.hub = folder, broker, hub
        self.lake = Lake(str(folder / "home" / "lake"))
        put(self.lake, IDENTITY, identity_rows(), valid_from=NOW - timedelta(days=99), clock=lambda: NOW - timedelta(9))

    def settings(self, **changed: Any) -> Settings:
        return Settings(
            **{
                "home": self.folder / "home",
                "event_hubs": self.hub.connection_string,
                "mqtt_url": self.broker.url,
                **changed,
            }
        )

    @contextmanager
    def bridge(self, **changed: Any) -> Iterator["Running"]:
        running = Running(self.settings(**changed))
        try:
            yield running
        finally:
            running.end()

    def silver(self, contract: Contract = GLUCOSE) -> Any:
        """Silver after a session that read the hub to its end."""
        hub = namespace_of(self.settings()).source(self.settings().hub(contract.stream))
        limits = SessionLimits(until_caught_up=True)
        run_session(self.lake, hub, contract=contract, limits=limits, clock=lambda: datetime.now(UTC))
        return rows(self.lake, "silver", contract)

    def silver_of(self, count: int) -> Any:
        """Silver once it has so many rows; messages that come again are no measure of what is still to come."""
        deadline = time.monotonic() + 60
        while (silver := self.silver()).height < count and time.monotonic() < deadline:
            time.sleep(0.2)
        return silver


class Running:
    """A bridge on a thread."""

    def __init__(self, settings: Settings) -> None:
        self.stop, connected = threading.Event(), threading.Event()
        self.done: Bridged | None = None
        self.failure: Exception | None = None
        self.seen = Bridged()

        def work() -> None:
            try:
                self.done = run(settings, self.stop, connected=connected.set, advance=self._advance)
            except Exception as error:
                self.failure = error
                connected.set()

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()
        assert connected.wait(300), "the bridge did not connect"

    def _advance(self, done: Bridged) -> None:
        self.seen = done

    def wait_for(self, messages: int) -> None:
        wait_until(lambda: self.seen.messages >= messages, f"{messages} messages")

    def end(self) -> Bridged:
        self.stop.set()
        self._thread.join(300)
        assert not self._thread.is_alive()
        if self.failure is not None:
            raise self.failure
        assert self.done is not None
        return self.done


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    wait_out_midnight(90)
    with RunningHub(HUBS) as hub, Mosquitto(tmp_path / "broker") as broker:
        yield Site(tmp_path, broker, hub)


def test_messages_of_all_kinds_become_what_they_say(site: Site):
    with Sender(site.broker.port) as device:
        # Retained before anybody was subscribed: one with a time of its own, one without.
        device.send("health/dev-77/vitals", [json.dumps({"heart_rate": 61, "timestamp": at(0)})], is_retained=True)
        device.send("health/dev-77/glucose", ["142"], is_retained=True)
        with site.bridge() as bridge:
            device.send("health/dev-77/glucose", [reading(n) for n in range(300)])
            device.send("health/dev-77/heart_rate", ["72"])
            device.send("health/dev-77/battery", ["55"], qos=0)
            device.send("health/dev-77/status", ["online"])
            device.send("health/dev-88/glucose", [reading(0)])
            device.send("health/dev-77/glucose", [b"\x01\x02\xff", "{", "[1", "no", ""])
            device.send("health/dev-77/glucose", [reading(0)] * 3, ContentType="application/json")
            bridge.wait_for(2 + 300 + 1 + 1 + 1 + 1 + 5 + 3)
        done = bridge.end()
    assert (done.messages, done.too_large) == (314, 0)
    silver = site.silver()
    assert silver.height == 300
    assert {*silver["patient_id"]} == {PATIENT}
    assert {*silver["device_id"]} == {DEVICE}
    assert silver.sort("measured_at")["glucose_mg_dl"].to_list() == [80 + n % 100 for n in range(300)]
    assert rows(site.lake, "quarantine")["reason"].value_counts().sort("reason").rows() == [
        ("not_json", 4),
        ("retained_without_time", 1),
        ("unknown_device", 1),
    ]
    vitals = site.silver(VITALS)
    assert sorted(vitals["heart_rate_bpm"]) == [61, 72]
    devices = site.silver(DEVICES)
    assert devices["battery_level"].to_list() == [55]
    bronze = rows(site.lake, "bronze")
    assert bronze.height == 300 + 1 + 1 + 4 + 3
    said = json.loads(bronze["properties"][-1])
    assert (said["mqtt-topic"], said["mqtt-device"], said["mqtt-qos"]) == ("health/dev-77/glucose", "dev-77", "1")


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_nothing_is_lost_and_repeats_are_repeats_whatever_breaks(tmp_path: Path, version: str):
    wait_out_midnight(90)
    with (
        RunningHub(HUBS) as hub,
        Mosquitto(tmp_path / "broker", is_durable=True) as broker,
        Proxy(broker.port) as network,
    ):
        site, sent = Site(tmp_path, broker, hub), 0

        def send(count: int) -> None:
            nonlocal sent
            with Sender(broker.port) as device:
                device.send("health/dev-77/glucose", [reading(number) for number in range(sent, sent + count)])
            sent += count

        with site.bridge(mqtt_url=f"mqtt://127.0.0.1:{network.port}", mqtt_version=version) as bridge:
            send(100)
            # The network breaks while messages are under way, and more come meanwhile.
            network.cut()
            send(100)
            network.restore()
            bridge.wait_for(sent)
            # The hub dies: nothing is acknowledged, and the broker keeps what comes.
            hub.kill()
            send(100)
            time.sleep(1)
            hub.start()
            bridge.wait_for(sent)
            # The broker dies with messages that are on its disk only; while it delivers some it does not write them.
            hub.kill()
            network.cut()
            send(100)
            broker.wait_for_disk(reading(sent - 1))
            broker.kill()
            broker.start()
            network.restore()
            hub.start()
            send(100)
            bridge.wait_for(sent)
        # Nobody is connected: the session stays.
        send(100)
        with site.bridge(mqtt_version=version):
            silver = site.silver_of(sent)
        assert silver["measured_at"].n_unique() == silver.height == sent
        assert silver.sort("measured_at")["glucose_mg_dl"].to_list() == [80 + n % 100 for n in range(sent)]
        assert rows(site.lake, "quarantine").is_empty()


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_what_a_broker_cannot_have_kept_is_told(
    tmp_path: Path, hub_alone: RunningHub, caplog: pytest.LogCaptureFixture, version: str
):
    """It does not write to its disk what it has, so it forgets all when it dies."""
    lost, new = "the broker no longer has the session of this client", "the session is new"
    with Mosquitto(tmp_path / "broker") as broker:
        site = Site(tmp_path, broker, hub_alone)
        with caplog.at_level("INFO", "resources.mqtt"), site.bridge(mqtt_version=version):
            pass
        assert new in caplog.text
        with site.bridge(mqtt_version=version):
            assert lost not in caplog.text
            caplog.clear()
            broker.kill()
            broker.start()
            wait_until(lambda: lost in caplog.text, "the bridge to tell of the loss")
        caplog.clear()
        broker.kill()
        broker.start()
        # Also by a process that was not there when it had one.
        with site.bridge(mqtt_version=version):
            assert lost in caplog.text
        caplog.clear()
        with site.bridge(mqtt_version=version, mqtt_client_id="another"):
            assert lost not in caplog.text


def test_a_subscription_is_made_while_the_hub_is_away(tmp_path: Path):
    wait_out_midnight(90)
    with RunningHub(HUBS) as hub, Mosquitto(tmp_path / "broker") as broker:
        site = Site(tmp_path, broker, hub)
        hub.kill()
        with site.bridge() as bridge, Sender(broker.port) as device:
            device.send("health/dev-77/glucose", [reading(n) for n in range(10)])
            hub.start()
            bridge.wait_for(10)
        assert site.silver().height == 10


def test_a_bare_number_that_comes_again_counts_once(tmp_path: Path):
    """The hub has it, but the acknowledgement is lost with the network; the broker sends it again."""
    wait_out_midnight(90)
    with (
        RunningHub(HUBS) as hub,
        Mosquitto(tmp_path / "broker") as broker,
        Proxy(broker.port) as network,
    ):
        site = Site(tmp_path, broker, hub)
        with site.bridge(mqtt_url=f"mqtt://127.0.0.1:{network.port}") as bridge, Sender(broker.port) as device:
            device.send("health/dev-77/glucose", ["100"])
            bridge.wait_for(1)
            hub.kill()
            device.send("health/dev-77/glucose", ["101"])
            time.sleep(1)
            network.cut()
            hub.start()
            # It is published now, and cannot be acknowledged.
            bridge.wait_for(2)
            network.restore()
            bridge.wait_for(3)
        done = bridge.end()
        assert done.repeats == 1
        silver = site.silver()
        assert silver["glucose_mg_dl"].to_list() == [100, 101]
        assert rows(site.lake, "bronze").height == 3


def test_a_killed_bridge_loses_nothing(tmp_path: Path):
    wait_out_midnight(120)
    command = command_line(tmp_path)
    with RunningHub(HUBS) as hub, Mosquitto(tmp_path / "broker") as broker:
        site = Site(tmp_path, broker, hub)
        environment = {"EVENTHUB_CONNECTION_STRING": hub.connection_string, "PULSELAKE_MQTT_URL": broker.url}
        bridge = command.start("bridge", "mqtt", **environment)
        read_until(bridge.stderr, "Reading from MQTT broker")
        with Sender(broker.port) as device:
            device.send("health/dev-77/glucose", [reading(number) for number in range(2_000)])
            bridge.kill()
            bridge.communicate()
            device.send("health/dev-77/glucose", [reading(number) for number in range(2_000, 2_500)])
        # A second one beside it is refused.
        bridge = command.start("bridge", "mqtt", **environment)
        read_until(bridge.stderr, "Reading from MQTT broker")
        refused = command.run("bridge", "mqtt", code=1, **environment)
        assert "Another MQTT bridge" in refused.err
        silver = site.silver_of(2_500)
        finished = end(bridge)
        assert finished.code == 0
        assert "messages acknowledged" in finished.out
        assert silver["measured_at"].n_unique() == silver.height == 2_500


def test_a_message_that_no_hub_takes_is_kept_in_a_file(site: Site, caplog: pytest.LogCaptureFixture):
    large = json.dumps({"glucose_level": 100, "timestamp": at(0), "note": "x" * 1_200_000})
    with site.bridge() as bridge, Sender(site.broker.port) as device:
        device.send("health/dev-77/glucose", [reading(1), large, reading(2)])
        bridge.wait_for(3)
    assert bridge.end().too_large == 1
    [kept] = (tmp := site.folder / "home" / "mqtt" / "too_large").glob("*.bin")
    assert kept.read_text() == large
    assert "health/dev-77/glucose" in kept.with_suffix(".json").read_text()
    assert {each.name[0] for each in tmp.iterdir()} & {"."} == set()
    assert "dev-77" not in caplog.text
    assert site.silver().height == 2


def test_a_session_with_password_and_rights(tmp_path: Path, hub_alone: RunningHub):
    rights = ["user reader", "topic read health/#"]
    with Mosquitto(tmp_path / "broker", user="reader", password="x y", rights=rights) as broker:
        site = Site(tmp_path, broker, hub_alone)
        with site.bridge(mqtt_user="reader", mqtt_password="x y"):
            pass
        running = Running(site.settings(mqtt_user="reader", mqtt_password="secret-of-reader"))
        with pytest.raises(BrokerUnavailableError, match="refused the client 'pulselake'") as refused:
            running.end()
        assert "secret-of-reader" not in str(refused.value)
        assert "secret-of-reader" not in repr(site.settings(mqtt_password="secret-of-reader").mqtt_broker())


def test_tls_with_a_certificate_that_is_trusted_or_not(tmp_path: Path, hub_alone: RunningHub):
    certificate, key = self_signed(tmp_path)
    with Mosquitto(tmp_path / "broker", tls=(certificate, key)) as broker:
        site = Site(tmp_path, broker, hub_alone)
        url = f"mqtts://localhost:{broker.port}"
        with site.bridge(mqtt_url=url, mqtt_ca_file=str(certificate)):
            pass
        running = Running(site.settings(mqtt_url=url))
        with pytest.raises(BrokerUnavailableError, match="no certificate that is trusted"):
            running.end()
        running = Running(site.settings(mqtt_url=url, mqtt_ca_file=str(tmp_path / "none")))
        with pytest.raises(BrokerUnavailableError, match="PULSELAKE_MQTT_CA_FILE"):
            running.end()


def test_two_bridges_with_one_client_id_are_told_of(
    tmp_path: Path, hub_alone: RunningHub, caplog: pytest.LogCaptureFixture
):
    with Mosquitto(tmp_path / "broker") as broker:
        one, other = (Site(tmp_path / name, broker, hub_alone) for name in ("one", "two"))
        with one.bridge(), other.bridge():
            wait_until(lambda: "another client may have the id" in caplog.text, "the warning")


def test_a_message_on_which_an_adapter_fails_stops_no_other(monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr("orchestration.bridging.outcomes_of", fails)
    assert streams_for(b"{}", {}) == ["glucose_readings"]


def test_settings_that_cannot_be_are_told_of(tmp_path: Path):
    stop = threading.Event()
    with pytest.raises(BridgeError, match="PULSELAKE_MQTT_URL"):
        run(Settings(home=tmp_path), stop)
    for topics, told in (
        ("health/{ward}/x", "a level may be"),
        ("health/{device}=nothing", "neither a stream nor a format"),
        ("a/#/b", "must be the last level"),
    ):
        with pytest.raises(BridgeError, match=told):
            run(Settings(home=tmp_path, mqtt_url="mqtt://127.0.0.1:1", mqtt_topics=topics), stop)


def test_a_broker_that_is_away_is_waited_for_and_the_wait_ends(tmp_path: Path, hub_alone: RunningHub):
    settings = Settings(
        home=tmp_path, event_hubs=hub_alone.connection_string, mqtt_url=f"mqtt://127.0.0.1:{free_port()}"
    )
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    assert run(settings, stop).messages == 0


def test_a_message_goes_where_its_topic_or_its_content_says():
    topics = TopicMap.of("health/{device}/{kind}, hae/{patient}/#=health-auto-export, ward/+/bp=vitals+devices")
    sample = (SAMPLES / "health_auto_export.json").read_bytes()

    def event(topic: str, payload: bytes) -> Event:
        message = Message(topic, payload, 1, False, False, 5, NOW, "application/json", [("a", "b")], 60, 1)
        return event_of(message, topics, "me")

    phone = event("hae/hae-automation-1/x", sample)
    assert (phone.body, phone.key, [*phone.streams]) == (sample, "hae-automation-1", ["glucose_readings", "vitals"])
    assert phone.properties["binding"] == "hae-automation-1"
    assert phone.properties["source"] == "health-auto-export"
    assert json.loads(phone.properties["mqtt-user-properties"]) == [["a", "b"]]
    assert (phone.properties["mqtt-expiry-s"], phone.properties["mqtt-packet-id"]) == ("60", "5")
    assert [*event("ward/3/bp", b"?").streams] == ["vitals", "device_readings"]
    assert [*event("health/d/glucose", b"?").streams] == ["glucose_readings"]
    assert [*event("health/d/spo2", b"97").streams] == ["vitals"]
    assert [*event("health/d/status", b"online").streams] == ["device_readings"]
    own = json.dumps({"patient_id": 1, "heart_rate": 70, "timestamp": at(0)}).encode()
    assert [*event("other", own).streams] == ["vitals"]
    assert [*event("other", b"\xff").streams] == ["glucose_readings"]


@pytest.mark.parametrize(
    ("pattern", "topic", "said"),
    [
        ("health/{device}/{kind}", "health/a/b", ("a", "", "b")),
        ("health/{device}/{kind}", "health/a/b/c", None),
        ("health/{device}/#", "health/a", ("a", "", "")),
        ("health/{device}/#", "health/a/b/c", ("a", "", "")),
        ("{patient}/+/x.y", "p//x.y", ("", "p", "")),
        ("{patient}/+/x.y", "p//xzy", None),
        ("#", "$SYS/load", None),
        ("#", "a/b", ("", "", "")),
        ("+/{kind}", "$SYS/load", None),
        ("devices/{device}/messages/events/#", "devices/a%20b/messages/events/$.ct=json", ("a%20b", "", "")),
    ],
)
def test_what_a_topic_says(pattern: str, topic: str, said: tuple[str, str, str] | None):
    found = TopicMap.of(pattern).match(topic)
    assert (found and (found.device, found.patient, found.kind)) == said


@pytest.fixture(scope="module")
def hub_alone() -> Iterator[RunningHub]:
    with RunningHub(HUBS) as hub:
        yield hub


def self_signed(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return certificate, key
