"""The commands work with Kafka as they do with Event Hubs."""

from pathlib import Path
from typing import Any

import pytest

from orchestration.system import HUBS
from tests.orchestration.commands import CommandLine, command_line
from tests.services.kafka import Broker
from tests.stream.scenarios import body, reading
from tests.system_hubs import system_hubs

pytestmark = [pytest.mark.service, pytest.mark.slow]


def test_readings_are_published_drained_and_shown_and_a_new_topic_is_accepted(tmp_path: Path) -> None:
    command = command_line(tmp_path)
    (tmp_path / "one.ndjson").write_bytes(body(reading(0, 300)) + b"\n" + body(reading(5, 310)) + b"\n")
    with Broker() as broker:
        settings: dict[str, Any] = {
            "PULSELAKE_KAFKA_BOOTSTRAP": broker.cluster.bootstrap,
            "PULSELAKE_TRANSPORTS": ",".join(f"{name}=kafka" for name in HUBS),
        }
        missing = command.invoke("publish", "glucose", tmp_path / "one.ndjson", code=1, **settings)
        said = " ".join(missing.err.split())
        assert f"Kafka topic 'glucose_readings' at {broker.cluster.bootstrap}" in said
        for topic in system_hubs():
            broker.create(topic.removesuffix(":1"), 2)
        command.run("publish", "glucose", "one.ndjson", **settings)
        sent = command.invoke("generate", "--stream", "devices", "--backlog", "30", "--patients", "3", **settings)
        assert "Sending to Kafka topic 'device_readings' at" in sent.err
        drained = command.run("drain", **settings).out
        assert "glucose_readings: 2 events" in drained
        assert "device_readings: 30 events" in drained
        shown = command.invoke("status", **settings).out
        assert f"glucose_readings is read from Kafka topic 'glucose_readings' at {broker.cluster.bootstrap}" in shown
        broker.delete("glucose_readings")
        broker.create("glucose_readings", 2)
        command.invoke("publish", "glucose", tmp_path / "one.ndjson", **settings)
        refused = " ".join(command.invoke("drain", "glucose", code=1, **settings).err.split())
        assert "pulselake hubs accept glucose_readings" in refused
        accepted = " ".join(command.invoke("hubs", "accept", "glucose", **settings).out.split())
        assert "goes on with the new Kafka topic 'glucose_readings' at" in accepted
        assert "glucose_readings: 2 events" in command.invoke("drain", "glucose", **settings).out


def test_a_setting_that_is_missing_is_named(tmp_path: Path) -> None:
    command: CommandLine = command_line(tmp_path)
    refused = command.invoke("status", code=1, PULSELAKE_TRANSPORTS="alerts=kafka")
    assert "PULSELAKE_KAFKA_BOOTSTRAP must name the brokers" in " ".join(refused.err.split())
    refused = command.invoke("status", code=1, PULSELAKE_TRANSPORTS="x=kafka", PULSELAKE_KAFKA_BOOTSTRAP="127.0.0.1:1")
    assert "there is no stream 'x'" in " ".join(refused.err.split())
