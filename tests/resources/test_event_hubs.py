"""Event Hubs by the real SDK against a real hub: order, positions, outages, rivals and sizes."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count, pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from azure.eventhub import EventData
from azure.eventhub._pyamqp import client
from azure.eventhub.amqp import AmqpAnnotatedMessage, AmqpMessageProperties

from resources import event_hubs, event_hubs_publisher, event_hubs_receiver, sdk
from resources.event_hubs import EventHubsNamespace, EventHubsSource
from resources.event_hubs_publisher import partition_of
from resources.event_hubs_receiver import EventHubsReceiver, body_of
from resources.event_source import HubUnavailableError, Pulled, Tail
from resources.sdk import fall_back
from resources.transfers import TransferReader
from tests.emulator.clients import producer
from tests.emulator.hub import RunningHub

pytestmark = [
    pytest.mark.service,
    # The SDK leaves the sockets of connections that failed to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

NAMES = (
    "order:3",
    "state:3",
    "positions:1",
    "kinds:1",
    "large_fast:2",
    "large_sdk:2",
    "refusing_fast:2",
    "refusing_sdk:2",
    "largest:1",
    "turns:3",
    "threads:2",
    "details:1",
    "keyed:1",
    "newer:1",
    "changed:2",
    "otherwise:1",
    "keys:4",
    "stolen:2",
    "full:2",
    "empty:2",
    "window:1",
    "unreadable:1",
)
PATIENCE_S = 30


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    with RunningHub(NAMES) as running:
        yield running


@pytest.fixture(params=[True, False], ids=["past the sdk", "by the sdk"])
def fast(request: pytest.FixtureRequest) -> bool:
    """Whether regular events may be read and sent past the SDK."""
    return bool(request.param)


def namespace(hub: RunningHub, fast: bool = True) -> EventHubsNamespace:
    return EventHubsNamespace(hub.connection_string, fast=fast)


def source(hub: RunningHub, name: str, fast: bool = True) -> EventHubsSource:
    return namespace(hub, fast).source(name)


def publish(hub: RunningHub, name: str, bodies: Sequence[bytes], keys: Sequence[str] = (), fast: bool = True) -> None:
    with namespace(hub, fast).publisher(name) as publisher:
        assert publisher.publish(bodies, keys or [str(number) for number in range(len(bodies))]) == []


def fresh(hub: RunningHub, name: str) -> bool:
    """Whether nothing was sent to a hub yet."""
    return source(hub, name).state().tails[0].last < 0


def take(receiver: EventHubsReceiver, count: int) -> list[Pulled]:
    """Takes until there are that many events."""
    taken: list[Pulled] = []
    while sum(len(pulled.bodies) for pulled in taken) < count:
        new = receiver.take(PATIENCE_S)
        assert new, f"{taken} and no more"
        taken += new
    return taken


def by_partition(taken: Sequence[Pulled]) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {}
    for pulled in taken:
        found.setdefault(pulled.partition, []).extend(body or b"" for body in pulled.bodies)
    return found


def numbered(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


def test_each_partition_is_received_in_order_and_completely(hub: RunningHub, fast: bool) -> None:
    if fresh(hub, "order"):
        publish(hub, "order", numbered(10_000))
    with source(hub, "order", fast).receive({}) as receiver:
        taken = take(receiver, 10_000)
    assert sorted(int(body) for bodies in by_partition(taken).values() for body in bodies) == list(range(10_000))
    for partition, bodies in by_partition(taken).items():
        own = [pulled for pulled in taken if pulled.partition == partition]
        assert [number for pulled in own for number in pulled.sequence_numbers] == list(range(len(bodies)))
        times = [at for pulled in own for at in pulled.enqueued_ms]
        assert all(earlier <= later for earlier, later in pairwise(times))
    assert all(len(pulled.bodies) == len(pulled.sequence_numbers) == len(pulled.enqueued_ms) for pulled in taken)


def test_the_state_of_a_hub_is_its_identity_and_what_each_partition_holds(hub: RunningHub) -> None:
    assert source(hub, "state").state().tails == {0: Tail(0, -1), 1: Tail(0, -1), 2: Tail(0, -1)}
    with producer(hub.connection_string, "state") as sender:
        sender.send_batch([EventData("x")] * 5, partition_id="1")
    first, second = source(hub, "state").state(), source(hub, "state").state()
    assert first.tails[1] == Tail(0, 4)
    assert first == second
    assert (first.identity or 0) > 1_700_000_000_000


@pytest.mark.parametrize(("after", "expected"), [(None, 10), (-1, 10), (0, 9), (6, 3)])
def test_receiving_starts_behind_the_given_sequence_number(
    hub: RunningHub, after: int | None, expected: int, fast: bool
) -> None:
    if fresh(hub, "positions"):
        publish(hub, "positions", numbered(10))
    with source(hub, "positions", fast).receive({} if after is None else {0: after}) as receiver:
        taken = by_partition(take(receiver, expected))
    assert taken == {0: numbered(10)[-expected:]}


def test_more_events_than_the_sessions_window_are_received(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    monkeypatch.setattr(client, "INCOMING_WINDOW", 50)
    monkeypatch.setattr(event_hubs_receiver, "PREFETCH", 30)
    if fresh(hub, "window"):
        publish(hub, "window", numbered(2000))
    with source(hub, "window", fast).receive({}) as receiver:
        assert by_partition(take(receiver, 2000)) == {0: numbered(2000)}


def test_nothing_new_is_an_empty_answer(hub: RunningHub) -> None:
    with source(hub, "empty").receive({}) as receiver:
        assert receiver.take(0.01) == []


def test_bodies_in_parts_and_of_other_kinds_arrive_as_bytes(hub: RunningHub, fast: bool) -> None:
    if fresh(hub, "kinds"):
        with producer(hub.connection_string, "kinds") as sender:
            sender.send_batch([EventData(body) for body in ([b"two ", b"parts"], b"", "täxt", b"\xff\x00")])
    with source(hub, "kinds", fast).receive({}) as receiver:
        taken = by_partition(take(receiver, 4))
    assert taken == {0: [b"two parts", b"", "täxt".encode(), b"\xff\x00"]}


@pytest.mark.parametrize(
    ("sections", "body"),
    [
        ({"data": [b"a", b"b"]}, b"ab"),
        ({"value": b"text"}, b"text"),
        ({"value": {b"key": 1}}, b"{b'key': 1}"),
        ({"sequence": [1, 2]}, b"[1, 2]"),
        ({}, b""),
    ],
)
def test_a_body_of_any_amqp_type_is_bytes(sections: dict[str, Any], body: bytes) -> None:
    assert body_of(SimpleNamespace(**{"data": None, "value": None, "sequence": None} | sections)) == body


def details(pulled: Sequence[Pulled]) -> list[tuple[bytes | None, str | None, Any, Any]]:
    """Body, key, properties and annotations of each event, the JSON texts read."""
    found = []
    for each in pulled:
        assert {len(values) for values in each[1:7]} == {len(each.bodies)}
        rows = zip(each.bodies, each.keys, each.properties, each.annotations, strict=True)
        found += [(body, key, _read(properties), _read(annotations)) for body, key, properties, annotations in rows]
    return found


def _read(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def event(body: bytes) -> EventData:
    """An event with properties of its own and of AMQP."""
    sent = EventData(body)
    sent.properties = {"schema": "v2", "retries": 3, "ratio": 0.5, "is_test": False, b"raw": b"\xff\xfe", "none": None}
    sent.content_type, sent.message_id, sent.correlation_id = "application/json", "message 1", "täxt"
    return sent


def test_what_an_event_brings_besides_its_body_arrives(hub: RunningHub, fast: bool) -> None:
    if fresh(hub, "details"):
        at = datetime(2024, 5, 1, 12, 30, 0, 123_000, UTC)
        with producer(hub.connection_string, "details") as sender:
            sender.send_batch([EventData(b"plain")])
            sender.send_batch([EventData(b"keyed"), event(b"keyed and described")], partition_key="patient 7")
            sender.send_batch([event(b"described")])
            sender.send_batch([EventData(b"keyed again")], partition_key="ключ")
            annotated = AmqpAnnotatedMessage(data_body=b"annotated")
            annotated.annotations = {
                "iothub-connection-device-id": "device 1",
                "iothub-enqueuedtime": at,
                "n": [1, "a"],
            }
            annotated.properties = AmqpMessageProperties(  # type: ignore[no-untyped-call]
                creation_time=int(at.timestamp() * 1000), content_encoding="gzip", subject="readings"
            )
            sender.send_event(annotated)
    with source(hub, "details", fast).receive({}) as receiver:
        taken = take(receiver, 6)
    described = {
        "schema": "v2",
        "retries": 3,
        "ratio": 0.5,
        "is_test": False,
        "raw": "//4=",
        "none": None,
        "amqp": {"content-type": "application/json", "message-id": "message 1", "correlation-id": "täxt"},
    }
    moment = "2024-05-01T12:30:00.123+00:00"
    assert details(taken) == [
        (b"plain", None, None, None),
        (b"keyed", "patient 7", None, None),
        (b"keyed and described", "patient 7", described, None),
        (b"described", None, described, None),
        (b"keyed again", "ключ", None, None),
        (
            b"annotated",
            None,
            {"amqp": {"content-encoding": "gzip", "creation-time": moment, "subject": "readings"}},
            {"iothub-connection-device-id": "device 1", "iothub-enqueuedtime": moment, "n": [1, "a"]},
        ),
    ]
    texts = [text for pulled in taken for text in (*pulled.properties, *pulled.annotations) if text]
    assert texts == [
        json.dumps(json.loads(text), ensure_ascii=False, sort_keys=True, separators=(",", ":")) for text in texts
    ]


def test_events_with_a_partition_key_need_no_help_of_the_sdk(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with producer(hub.connection_string, "keyed") as sender:
        sender.send_batch([EventData(b"one"), EventData(b"two")], partition_key="patient 7")
    monkeypatch.setattr(event_hubs_receiver, "body_of", lambda _: 1 / 0)
    with source(hub, "keyed").receive({}) as receiver:
        assert details(take(receiver, 2)) == [(b"one", "patient 7", None, None), (b"two", "patient 7", None, None)]


def test_another_release_of_the_sdk_is_not_bypassed(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fall_back.cache_clear()
    monkeypatch.setattr(sdk, "TESTED_VERSION", "5.0.0")
    monkeypatch.setattr(event_hubs_publisher, "_filled", lambda *_: 1 / 0)
    monkeypatch.setattr(event_hubs_receiver, "FrameBuffer", lambda *_: 1 / 0)
    publish(hub, "newer", numbered(10))
    with source(hub, "newer").receive({}) as receiver:
        assert sorted(by_partition(take(receiver, 10))[0]) == sorted(numbered(10))
    [record] = [record for record in caplog.records if record.name == "resources.sdk"]
    assert "was not tested, 5.0.0 was" in record.message


def broken_reader(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Lets reading past the SDK fail after so many reads."""
    reads = count()
    read = TransferReader.read

    def fails(self: TransferReader, data: memoryview, most: int) -> tuple[Pulled, int]:
        if next(reads) >= after:
            raise AttributeError("a counter has another name")
        return read(self, data, most)

    monkeypatch.setattr(TransferReader, "read", fails)


def without_attribute(monkeypatch: pytest.MonkeyPatch, _: int) -> None:
    """Takes something away that is expected inside the SDK."""
    monkeypatch.setattr(event_hubs_receiver, "FrameBuffer", lambda sock, begun: sock.no_such_attribute)


@pytest.mark.parametrize("breaks", [broken_reader, without_attribute])
@pytest.mark.parametrize("after", [0, 4])
def test_what_does_not_fit_inside_the_sdk_ends_bypassing_it_and_loses_nothing(
    hub: RunningHub,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    breaks: Callable[[pytest.MonkeyPatch, int], None],
    after: int,
) -> None:
    if fresh(hub, "changed"):
        publish(hub, "changed", numbered(20_000))
    fall_back.cache_clear()
    breaks(monkeypatch, after)
    with source(hub, "changed").receive({}) as receiver:
        numbers = [(p.partition, number) for p in take(receiver, 20_000) for number in p.sequence_numbers]
    assert len(numbers) == len(set(numbers)) == 20_000
    assert [record.name for record in caplog.records].count("resources.sdk") == 1


def test_a_batch_that_is_made_otherwise_is_filled_by_the_sdk(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise AttributeError("no _message")

    fall_back.cache_clear()
    monkeypatch.setattr(event_hubs_publisher, "_filled", fails)
    publish(hub, "otherwise", numbered(10))
    assert source(hub, "otherwise").state().tails == {0: Tail(0, 9)}
    assert "a batch is made in another way (no _message)" in caplog.text


@pytest.mark.parametrize(
    ("told", "tail"),
    [
        ({"first": 0, "last": -1, "is_empty": True}, Tail(0, -1)),
        ({"first": 0, "last": 41, "is_empty": True}, Tail(0, 41)),
        ({"first": 42, "last": 41, "is_empty": True}, Tail(42, 41)),
        ({"first": 42, "last": -1, "is_empty": True}, Tail(42, 41)),
        ({"first": -1, "last": 41, "is_empty": True}, Tail(-1, 41)),
        ({"first": 3, "last": 41, "is_empty": False}, Tail(3, 41)),
    ],
)
def test_an_empty_partition_ends_where_its_numbers_went_on(told: dict[str, Any], tail: Tail) -> None:
    properties = {
        "beginning_sequence_number": told["first"],
        "last_enqueued_sequence_number": told["last"],
        "is_empty": told["is_empty"],
    }
    assert event_hubs._tail(properties) == tail


def test_an_event_that_cannot_be_read_ends_receiving_and_is_not_passed_over(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(hub, "unreadable", [b"one"])
    monkeypatch.setattr(event_hubs_receiver, "GIVE_UP_AFTER_S", 1.0)
    monkeypatch.setattr(event_hubs_receiver, "body_of", lambda _: 1 / 0)
    with (
        source(hub, "unreadable", fast=False).receive({}) as receiver,
        pytest.raises(HubUnavailableError, match=r"cannot be read \(ZeroDivisionError\)"),
    ):
        take(receiver, 1)


def test_large_and_small_bodies_are_published_whole(hub: RunningHub, fast: bool) -> None:
    name = f"large_{'fast' if fast else 'sdk'}"
    sizes = [0, 1, 255, 256, 400_000, 700_000, 1_000_000, 3, 400_000, 65_536]
    bodies = [bytes([number]) * size for number, size in enumerate(sizes)]
    publish(hub, name, bodies, ["one key"] * len(bodies), fast)
    with source(hub, name, fast).receive({}) as receiver:
        taken = by_partition(take(receiver, len(bodies)))
    assert list(taken.values()) == [bodies]


def test_what_the_hub_cannot_hold_is_told_by_index_and_all_else_is_sent(hub: RunningHub, fast: bool) -> None:
    name = f"refusing_{'fast' if fast else 'sdk'}"
    large = b"x" * 3_000_000
    with namespace(hub, fast).publisher(name) as publisher:
        assert publisher.publish([b"0", large, b"2", b"3", large], ["a", "a", "a", "b", ""]) == [1, 4]
        assert publisher.publish([large], ["a"]) == [0]
    with source(hub, name).receive({}) as receiver:
        taken = by_partition(take(receiver, 3))
    assert sorted(body for bodies in taken.values() for body in bodies) == [b"0", b"2", b"3"]


def test_an_event_of_just_the_size_that_the_hub_takes_is_sent_and_one_byte_more_is_not(hub: RunningHub) -> None:
    with producer(hub.connection_string, "largest") as client:
        batch = client.create_batch()
        limit = batch.max_size_in_bytes - batch.size_in_bytes - event_hubs_publisher._OVERHEAD_BYTES
    with namespace(hub).publisher("largest") as publisher:
        assert publisher.publish([b"x" * limit, b"x" * (limit + 1)], ["", ""]) == [1]
    with source(hub, "largest").receive({}) as receiver:
        assert by_partition(take(receiver, 1)) == {0: [b"x" * limit]}


def test_events_without_a_key_take_the_partitions_in_turn(hub: RunningHub) -> None:
    with namespace(hub).publisher("turns") as publisher:
        publisher.publish(numbered(4), [""] * 4)
        publisher.publish(numbered(5), [""] * 5)
    tails = source(hub, "turns").state().tails
    assert tails == {0: Tail(0, 2), 1: Tail(0, 2), 2: Tail(0, 2)}


def test_threads_may_publish_at_once(hub: RunningHub) -> None:
    with namespace(hub).publisher("threads") as publisher, ThreadPoolExecutor(4) as pool:

        def send(thread: int) -> None:
            for number in range(25):
                publisher.publish([f"{thread}:{number}".encode()] * 2, [str(thread), "other"])

        list(pool.map(send, range(4)))
    with source(hub, "threads").receive({}) as receiver:
        taken = by_partition(take(receiver, 200))
    for thread in range(4):
        home = int(partition_of(str(thread), ["0", "1"]))
        own = [int(body.split(b":")[1]) for body in taken[home] if body.startswith(b"%d:" % thread)]
        assert own == sorted(own)
        assert set(own) == set(range(25))


def test_events_of_one_key_stay_in_one_partition_and_in_order(hub: RunningHub) -> None:
    keys = [f"patient {number % 13}" for number in range(2000)]
    bodies = [f"{key}:{number}".encode() for number, key in enumerate(keys)]
    with namespace(hub).publisher("keys") as publisher:
        for first in range(0, 2000, 500):
            publisher.publish(bodies[first : first + 500], keys[first : first + 500])
        publisher.publish([], [])
    with source(hub, "keys").receive({}) as receiver:
        taken = by_partition(take(receiver, 2000))
    places: dict[bytes, set[int]] = {}
    for partition, found in taken.items():
        for body in found:
            places.setdefault(body.partition(b":")[0], set()).add(partition)
    assert {len(partitions) for partitions in places.values()} == {1}
    assert len(taken) > 1
    for key in places:
        own = [
            int(body.partition(b":")[2]) for found in taken.values() for body in found if body.startswith(key + b":")
        ]
        assert own == sorted(own)


def test_an_unknown_hub_is_named_with_what_to_do(hub: RunningHub) -> None:
    message = r"'nowhere'.*pulselake hub.*EVENTHUB_CONNECTION_STRING"
    with pytest.raises(HubUnavailableError, match=message):
        source(hub, "nowhere").state()
    with pytest.raises(HubUnavailableError, match=message):
        with namespace(hub).publisher("nowhere") as publisher:
            publisher.publish([b"{}"], ["1"])


def test_a_hub_that_cannot_be_reached_is_named_with_what_to_do() -> None:
    nowhere = "Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=x;SharedAccessKey=y;UseDevelopmentEmulator=true"
    with pytest.raises(HubUnavailableError, match=r"'glucose_readings'.*pulselake hub"):
        EventHubsNamespace(nowhere).source("glucose_readings").state()


def test_without_any_address_the_settings_to_make_are_named() -> None:
    with pytest.raises(HubUnavailableError, match=r"EVENTHUB_CONNECTION_STRING.*pulselake hub"):
        EventHubsNamespace().source("glucose_readings").state()


def test_the_receiver_that_comes_last_takes_over_and_the_one_before_it_ends(hub: RunningHub) -> None:
    publish(hub, "stolen", numbered(20))
    hubs = source(hub, "stolen")
    with hubs.receive({}) as first:
        take(first, 20)
        with hubs.receive({}) as second:
            take(second, 20)
            first._thread.join(PATIENCE_S)
            with pytest.raises(HubUnavailableError, match=r"another session of this stream.*What was pulled is kept"):
                first.take(0)
            publish(hub, "stolen", numbered(5))
            assert sum(len(bodies) for bodies in by_partition(take(second, 5)).values()) == 5


def test_a_short_outage_is_bridged_without_losing_or_doubling_an_event(fast: bool) -> None:
    with RunningHub(("hub:2",)) as hub:
        publish(hub, "hub", numbered(500))
        with source(hub, "hub", fast).receive({}) as receiver:
            taken = take(receiver, 500)
            for outage in range(2):
                hub.kill()
                hub.start()
                publish(hub, "hub", [f"{outage}:{number}".encode() for number in range(300)])
                taken += take(receiver, 300)
            numbers = [(pulled.partition, number) for pulled in taken for number in pulled.sequence_numbers]
            tails = source(hub, "hub").state().tails
    assert sorted(numbers) == [(partition, n) for partition, tail in tails.items() for n in range(tail.last + 1)]
    assert len(set(numbers)) == 1100


def test_what_arrived_before_an_outage_is_handed_out_before_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_hubs_receiver, "GIVE_UP_AFTER_S", 0)
    with RunningHub(("hub:1",)) as hub:
        publish(hub, "hub", numbered(50))
        with source(hub, "hub").receive({}) as receiver:
            arrived = threading.Event()
            while not arrived.is_set():
                with receiver._changed:
                    receiver._changed.wait_for(lambda: len(receiver._consumers[0].pulled.bodies) == 50, PATIENCE_S)
                    arrived.set()
            hub.kill()
            receiver._thread.join(PATIENCE_S)
            assert by_partition(receiver.take(0)) == {0: numbered(50)}
            with pytest.raises(HubUnavailableError, match="receiving stopped"):
                receiver.take(0)


@pytest.mark.parametrize(("limit", "value"), [("MAX_BUFFERED_EVENTS", 1000), ("MAX_BUFFERED_BYTES", 20_000)])
def test_a_backlog_waits_in_the_hub_and_not_in_memory(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, fast: bool
) -> None:
    monkeypatch.setattr(event_hubs_receiver, limit, value)
    monkeypatch.setattr(event_hubs_receiver, "PREFETCH", 300)
    if fresh(hub, "full"):
        publish(hub, "full", [str(number).encode().rjust(20) for number in range(20_000)])
    with source(hub, "full", fast).receive({}) as receiver:
        receiver.gather(PATIENCE_S)
        assert receiver._is_full()
        most = 0
        numbers: list[tuple[int, int]] = []
        while len(numbers) < 20_000:
            taken = receiver.take(PATIENCE_S)
            most = max(most, sum(len(pulled.bodies) for pulled in taken))
            numbers += [(pulled.partition, number) for pulled in taken for number in pulled.sequence_numbers]
        assert len(set(numbers)) == len(numbers) == 20_000
    assert most < 10_000, "a poll may exceed the limit by what the sockets hold"
