"""What is said about events reaches the receiver by every transport, in the fast way of sending and in the SDK's."""

import json
from collections.abc import Iterator

import pytest

from resources.event_hubs import EventHubsNamespace
from resources.event_source import EventSource, Pulled
from resources.kafka import KafkaSource, publisher
from tests.emulator.hub import RunningHub
from tests.services.kafka import MockCluster

pytestmark = pytest.mark.service

SAID = [
    {"mqtt-topic": "health/ä/glucose", "received": "2026-06-01T08:00:00.000Z"},
    {},
    {"large": "x" * 70_000, "lone": "\ud800", "empty": ""},
    {"a": "b"},
]
BODIES = [b"1", b"", b"3" * 300_000, b"4"]


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    with RunningHub(["fast:1", "slow:1", "large:1"]) as hub:
        yield hub


def received(source: EventSource, count: int) -> list[tuple[bytes | None, str | None]]:
    found = Pulled.nothing(0)
    with source.receive({}) as receiver:
        while len(found.bodies) < count:
            for pulled in receiver.take(10):
                found.extend(pulled)
    return list(zip(found.bodies, found.properties, strict=True))


def check(found: list[tuple[bytes | None, str | None]]) -> None:
    assert [body for body, _ in found] == BODIES
    properties = [json.loads(said) if said else {} for _, said in found]
    expected = [{name: text.replace("\ud800", "?") for name, text in each.items()} for each in SAID]
    assert properties == expected


@pytest.mark.parametrize("fast", [True, False])
def test_an_event_hub_gives_them_back(hub: RunningHub, fast: bool):
    name = "fast" if fast else "slow"
    said = SAID if fast else [{n: text.replace("\ud800", "?") for n, text in each.items()} for each in SAID]
    with EventHubsNamespace(hub.connection_string, fast=fast).publisher(name) as sender:
        assert sender.publish(BODIES, ["k"] * 4, said) == []
    check(received(EventHubsNamespace(hub.connection_string).source(name), 4))


def test_what_is_said_counts_for_how_large_an_event_is(hub: RunningHub):
    with EventHubsNamespace(hub.connection_string).publisher("large") as sender:
        said = [{"a": "x" * 1_100_000}, {"a": "x" * 900_000}, {}]
        assert sender.publish([b"1", b"2", b"3"], ["k"] * 3, said) == [0]
    assert [body for body, _ in received(EventHubsNamespace(hub.connection_string).source("large"), 2)] == [b"2", b"3"]


def test_a_topic_gives_them_back():
    mock = MockCluster()
    mock.create("said")
    with publisher(mock.cluster, "said") as sender:
        assert sender.publish(BODIES, ["k"] * 4, SAID) == []
    check(received(KafkaSource(mock.cluster, "said"), 4))
