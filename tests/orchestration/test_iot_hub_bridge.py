"""The bridge from an IoT Hub's built-in endpoint, for which the local hub stands in, with the annotations of one."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.eventhub.amqp import AmqpAnnotatedMessage

from assets.devices.assets import CONTRACT as DEVICES
from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.stream.contract import Contract
from assets.stream.session import SessionLimits
from assets.vitals.assets import CONTRACT as VITALS
from orchestration.bridging import Bridged, BridgeError
from orchestration.iot_hub_bridge import event_of, run
from resources.settings import Settings
from resources.sources import namespace_of
from resources.storage import lake_of
from tests.adapters.samples_as_events import SAMPLES, expected_of
from tests.adapters.world import load_identity
from tests.emulator.clients import producer
from tests.emulator.hub import RunningHub
from tests.midnight import wait_out_midnight
from tests.orchestration.commands import command_line, end, read_until
from tests.orchestration.site import wait_until
from tests.stream.scenarios import run_session
from tests.stream.tables import rows

HUBS = ["glucose_readings:2", "patient-data:2", "device_readings:2", "alerts:2", "alarms:2", "endpoint:2"]


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    wait_out_midnight(90)
    with RunningHub(HUBS) as hub:
        yield hub


def settings_of(folder: Path, hub: RunningHub) -> Settings:
    endpoint = f"{hub.connection_string};EntityPath=endpoint"
    return Settings(home=folder / "home", event_hubs=hub.connection_string, iot_hub=endpoint)


def messages() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SAMPLES / "iothub_builtin.ndjson").read_text().splitlines()]


def send(hub: RunningHub, sent: list[dict[str, Any]]) -> None:
    with producer(hub.connection_string, "endpoint") as client:
        batch = client.create_batch(partition_id="0")
        for message in sent:
            annotated = AmqpAnnotatedMessage(data_body=message["body"].encode())
            own = {name: text for name, text in message["annotations"].items() if not name.startswith("x-opt-")}
            annotated.annotations = own
            annotated.application_properties = message["application_properties"]
            batch.add(annotated)
        client.send_batch(batch)


def bridged(settings: Settings, until: int) -> Bridged:
    """A bridge until it has passed on so many messages; of 0, until it has looked."""
    stop = threading.Event()

    def advance(done: Bridged) -> None:
        if done.messages >= until:
            stop.set()

    def looked() -> None:
        if not until:
            threading.Timer(2.0, stop.set).start()

    return run(settings, stop, advance=advance, connected=looked)


def session(settings: Settings, contract: Contract) -> None:
    source = namespace_of(settings).source(settings.hub(contract.stream))
    limits = SessionLimits(until_caught_up=True)
    run_session(lake_of(settings), source, contract=contract, limits=limits, clock=lambda: datetime.now(UTC))


@pytest.mark.service
@pytest.mark.slow
def test_messages_become_what_they_say_and_none_is_read_twice(tmp_path: Path, hub: RunningHub):
    settings = settings_of(tmp_path, hub)
    load_identity(lake_of(settings))
    send(hub, messages())
    assert bridged(settings, 14).messages == 14
    assert bridged(settings, 0).messages == 0
    found: Counter[str] = Counter()
    for contract, letter in ((GLUCOSE, "G"), (VITALS, "V"), (DEVICES, "D")):
        session(settings, contract)
        for row in rows(lake_of(settings), "silver", contract).to_dicts():
            whose = row["device_id"] if letter == "D" else row["patient_id"]
            found[f"{letter} {whose} {row['measured_at'].isoformat().replace('+00:00', 'Z')}"] += 1
        for reason in rows(lake_of(settings), "quarantine", contract)["reason"]:
            found[f"Q {reason}"] += 1
    expected: Counter[str] = Counter()
    for each in expected_of("iothub_builtin.ndjson"):
        words = each.split()
        if words[0] in "VD":
            expected[
                f"{words[0]} {words[1]} {datetime.fromisoformat(words[2]).isoformat().replace('+00:00', 'Z')}"
            ] += 1
        elif words[0] == "G":
            expected[f"G {words[1]} {datetime.fromisoformat(words[3]).isoformat().replace('+00:00', 'Z')}"] += 1
        elif words[0] == "Q":
            expected[each] += 1
    assert found == expected
    # What is no telemetry is not lost, either.
    assert rows(lake_of(settings), "bronze", DEVICES).height == 3


@pytest.mark.service
@pytest.mark.slow
def test_a_killed_bridge_loses_nothing_and_doubles_nothing(tmp_path: Path, hub: RunningHub):
    settings, command = settings_of(tmp_path, hub), command_line(tmp_path)
    load_identity(lake_of(settings))
    [first] = messages()[:1]
    began = datetime(2026, 6, 2, tzinfo=UTC)

    def readings(start: int, count: int) -> list[dict[str, Any]]:
        return [
            first
            | {"body": json.dumps({"glucose_level": 100, "timestamp": (began + timedelta(minutes=n)).isoformat()})}
            for n in range(start, start + count)
        ]

    environment = {
        "EVENTHUB_CONNECTION_STRING": hub.connection_string,
        "PULSELAKE_IOT_HUB": f"{hub.connection_string};EntityPath=endpoint",
    }
    send(hub, readings(0, 1_000))
    bridge = command.start("bridge", "iothub", **environment)
    read_until(bridge.stderr, "Reading from the IoT Hub")
    source = namespace_of(settings).source("glucose_readings")
    wait_until(lambda: any(tail.last >= 0 for tail in source.state().tails.values()), "the first events")
    bridge.kill()
    bridge.communicate()
    send(hub, readings(1_000, 500))
    bridge = command.start("bridge", "iothub", **environment)
    deadline = time.monotonic() + 60
    height = 0
    while height < 1_500 and time.monotonic() < deadline:
        session(settings, GLUCOSE)
        height = rows(lake_of(settings), "silver").height
    assert end(bridge).code == 0
    silver = rows(lake_of(settings), "silver")
    assert silver["measured_at"].n_unique() == silver.height == 1_500


def test_a_device_cannot_give_itself_the_name_of_another():
    stamped = {"iothub-connection-device-id": "mine", "iothub-enqueuedtime": "2026-06-01T08:00:00Z"}
    claimed = {"iothub-connection-device-id": "yours", "iothub-message-source": "twinChangeEvents", "a": 1}
    event = event_of(b"{}", json.dumps(claimed), json.dumps(stamped), 0)
    assert event.properties["iothub-connection-device-id"] == event.key == "mine"
    assert "iothub-message-source" not in event.properties
    assert event.properties["a"] == "1"
    unstamped = event_of(b"{}", json.dumps(claimed), None, 1_780_000_000_000)
    assert unstamped.properties["iothub-connection-device-id"] == ""
    assert unstamped.properties["iothub-enqueuedtime"] == "2026-05-28T20:26:40.000Z"


def test_settings_that_cannot_be_are_told_of(tmp_path: Path):
    with pytest.raises(BridgeError, match="PULSELAKE_IOT_HUB"):
        run(Settings(home=tmp_path), threading.Event())
    with pytest.raises(ValueError, match="Event Hub-compatible endpoint"):
        Settings(home=tmp_path, iot_hub="HostName=x.azure-devices.net;SharedAccessKey=secret")
