"""What only Kafka has: gaps, trimmed logs, tombstones, headers, added partitions, brokers that come and go."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from confluent_kafka import Consumer

from resources import kafka, kafka_publisher, kafka_receiver
from resources.event_source import HubTakenOverError, HubUnavailableError, Pulled, Tail
from resources.kafka import KafkaSource, publisher
from resources.kafka_cluster import KafkaCluster
from resources.kafka_details import headers_text
from resources.kafka_look import TopicLook, identity_of
from resources.kafka_receiver import KafkaReceiver
from tests.resources.silent import SilentPeer
from tests.resources.test_event_sources import by_partition, numbered, take
from tests.services.kafka import MOCK_PARTITIONS, Broker, MockCluster, Proxy, free_port, send, send_in_transactions

pytestmark = pytest.mark.service

PATIENCE_S = 30
TOPICS = (f"kafka{number}" for number in count())


@pytest.fixture(scope="module")
def mock_cluster() -> MockCluster:
    return MockCluster()


@pytest.fixture
def topic(mock_cluster: MockCluster) -> str:
    mock_cluster.create(name := next(TOPICS))
    return name


@pytest.fixture
def source(mock_cluster: MockCluster, topic: str) -> KafkaSource:
    return KafkaSource(mock_cluster.cluster, topic)


@pytest.fixture
def network() -> Iterator[tuple[Broker, Proxy]]:
    """A broker that is reached through a network that can be cut."""
    with Proxy(port := free_port()) as proxy, Broker(port, advertised=proxy.port) as broker:
        yield broker, proxy


def taken_from(source: KafkaSource, count: int, after: dict[int, int] | None = None) -> list[Pulled]:
    with source.receive(after or {}) as receiver:
        return take(receiver, count)


def one(source: KafkaSource) -> Pulled:
    [pulled] = taken_from(source, 1)
    return pulled


def test_markers_of_transactions_are_gaps_and_not_the_newest_event(
    mock_cluster: MockCluster, topic: str, source: KafkaSource
) -> None:
    send_in_transactions(mock_cluster.cluster, topic, [[b"0", b"1"], [b"3"], [b"5"]])
    state = source.state()
    assert not state.is_gapless
    assert state.tails[0] == Tail(0, 5, given=6)
    taken = taken_from(source, 4)
    assert [number for pulled in taken for number in pulled.sequence_numbers] == [0, 1, 3, 5]
    assert not any(pulled.expired for pulled in taken)


def test_of_a_log_that_ends_in_many_markers_the_newest_event_is_found(
    mock_cluster: MockCluster, topic: str, source: KafkaSource
) -> None:
    send_in_transactions(mock_cluster.cluster, topic, [[b"0"], *[[] for _ in range(3)]])
    assert source.state().tails[0].last == 0


def test_a_look_ends_also_while_messages_come_without_a_pause(
    mock_cluster: MockCluster, topic: str, source: KafkaSource
) -> None:
    stop = threading.Event()

    def feed() -> None:
        with publisher(mock_cluster.cluster, topic) as sender:
            while not stop.wait(0.002):
                sender.publish([b"x"] * 4, ["a", "b", "c", "d"])

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        wait_for_tail(source)
        began = time.monotonic()
        states = [source.state() for _ in range(5)]
        assert time.monotonic() - began < 10
    finally:
        stop.set()
        thread.join()
    lasts = [sum(tail.last for tail in state.tails.values()) for state in states]
    assert lasts == sorted(set(lasts))


def wait_for_tail(source: KafkaSource) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while all(tail.last < 0 for tail in source.state().tails.values()):
        assert time.monotonic() < deadline


def trimmed(mock_cluster: MockCluster, topic: str) -> int:
    """Sends more than the cluster keeps, and tells where the log begins then."""
    mock_cluster.send(topic, [str(number).encode() + b" " * 20_000 for number in range(600)])
    first = KafkaSource(mock_cluster.cluster, topic).state().tails[0].first
    assert first > 100
    return first


def test_a_trimmed_log_goes_on_where_it_begins_and_tells_how_much_is_gone(
    mock_cluster: MockCluster, topic: str, source: KafkaSource
) -> None:
    first = trimmed(mock_cluster, topic)
    taken = taken_from(source, 600 - first, after={0: 3})
    numbers = [number for pulled in taken for number in pulled.sequence_numbers]
    assert numbers == list(range(first, 600))
    assert sum(pulled.expired for pulled in taken) == first - 4
    with source.receive({0: 3}) as receiver:
        assert receiver.wait_until_open(PATIENCE_S)
        receiver.gather(0.5)
        receiver.skip({0: first + 9})
        taken = take(receiver, 600 - first - 10)
        assert sum(pulled.expired for pulled in taken) == 0, "who skips knows of them"


def test_a_log_that_is_read_from_its_beginning_has_lost_nothing(
    mock_cluster: MockCluster, topic: str, source: KafkaSource
) -> None:
    first = trimmed(mock_cluster, topic)
    assert sum(pulled.expired for pulled in taken_from(source, 600 - first)) == 0


def test_a_log_that_ends_before_the_offset_is_another_one(
    mock_cluster: MockCluster, topic: str, source: KafkaSource
) -> None:
    mock_cluster.send(topic, numbered(5))  # type: ignore[arg-type]
    with source.receive({0: 99}) as receiver:
        with pytest.raises(HubUnavailableError, match="partition 0 ends at 4, but was read up to 99"):
            take(receiver, 1)


def test_a_message_without_a_body_is_told_apart_from_an_empty_one(
    mock_cluster: MockCluster, topic: str, source: KafkaSource
) -> None:
    mock_cluster.send(topic, [None, b"", b"body"], key=b"k")
    assert [body for pulled in taken_from(source, 3) for body in pulled.bodies] == [None, b"", b"body"]


@pytest.mark.parametrize(
    ("key", "text"),
    [(b"patient 7", "patient 7"), ("Ümeå".encode(), "Ümeå"), (b"\xff\x00", "base64:/wA="), (None, None), (b"", "")],
)
def test_a_key_is_text_and_marked_where_it_is_none(
    mock_cluster: MockCluster, topic: str, source: KafkaSource, key: bytes | None, text: str | None
) -> None:
    mock_cluster.send(topic, [b"body"], key=key)
    assert one(source).keys == [text]


def test_keys_of_text_beside_one_that_is_none_stay_as_they_are(
    mock_cluster: MockCluster, topic: str, source: KafkaSource
) -> None:
    for key in (b"a", b"\xff", None, b""):
        mock_cluster.send(topic, [b"body"], key=key)
    taken = taken_from(source, 4)
    assert [key for pulled in taken for key in pulled.keys] == ["a", "base64:/w==", None, ""]


def test_headers_are_json_text(mock_cluster: MockCluster, topic: str, source: KafkaSource) -> None:
    headers = [
        ("trace", b"1-2"),
        ("raw", b"\xff\x00"),
        ("none", None),
        ("hop", b"a"),
        ("hop", b"b"),
        ("ort", "Ü".encode()),
    ]
    mock_cluster.send(topic, [b"body"], headers=headers)
    [text] = one(source).properties
    assert text == headers_text(headers)
    assert json.loads(text) == {"trace": "1-2", "raw": {"base64": "/wA="}, "none": None, "hop": ["a", "b"], "ort": "Ü"}


def test_a_time_that_a_sender_makes_up_is_not_believed(
    mock_cluster: MockCluster, topic: str, source: KafkaSource
) -> None:
    mock_cluster.send(topic, [b"future"], timestamp=2**62)
    mock_cluster.send(topic, [b"past"], timestamp=1_700_000_000_000)
    times = [at for pulled in taken_from(source, 2) for at in pulled.enqueued_ms]
    assert abs(times[0] - time.time() * 1000) < 60_000
    assert times[1] == 1_700_000_000_000


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_batches_are_read(mock_cluster: MockCluster, topic: str, source: KafkaSource, codec: str) -> None:
    bodies = [str(number).encode() * 50 for number in range(500)]
    options: dict[str, Any] = {"compression.type": codec, "linger.ms": 50}
    mock_cluster.send(topic, list(bodies), **options)
    assert by_partition(taken_from(source, 500)) == {0: bodies}


def test_two_receivers_take_nothing_away_from_each_other(
    mock_cluster: MockCluster, topic: str, source: KafkaSource
) -> None:
    with source.receive({}) as one, source.receive({}) as other:
        for number in range(3):
            mock_cluster.send(topic, [str(number).encode()])
            for receiver in (one, other):
                assert [pulled.bodies for pulled in take(receiver, 1)] == [[str(number).encode()]]


def test_the_buffer_is_bounded_and_no_event_is_lost_by_that(
    mock_cluster: MockCluster, topic: str, source: KafkaSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_receiver, "MAX_BUFFERED_EVENTS", 100)
    monkeypatch.setattr(kafka_receiver, "_TAKEN_AT_ONCE", 50)
    mock_cluster.send(topic, numbered(2000))  # type: ignore[arg-type]
    with source.receive({}) as receiver:
        receiver.gather(PATIENCE_S)
        time.sleep(0.2)
        taken = receiver.take(1.0)
        assert 100 <= len(taken[0].bodies) <= 151
        taken += take(receiver, 2000 - len(taken[0].bodies))
    assert by_partition(taken) == {0: numbered(2000)}


def test_partitions_that_are_added_are_taken_up_from_their_beginning(
    mock_cluster: MockCluster, topic: str, source: KafkaSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster cannot add any, so two of its four are not told at first."""
    told, all_partitions = [2], TopicLook.partitions
    monkeypatch.setattr(TopicLook, "partitions", lambda look: all_partitions(look)[: told[0]])
    monkeypatch.setattr(kafka_receiver, "_LOOK_EVERY_S", 0.1)
    for partition in range(MOCK_PARTITIONS):
        mock_cluster.send(topic, numbered(10), partition)  # type: ignore[arg-type]
    with source.receive({}) as receiver:
        assert set(by_partition(take(receiver, 20))) == {0, 1}
        told[0] = MOCK_PARTITIONS
        assert by_partition(take(receiver, 20)) == {2: numbered(10), 3: numbered(10)}
        mock_cluster.send(topic, [b"more"], 3)
        assert by_partition(take(receiver, 1)) == {3: [b"more"]}


def test_an_outage_that_ends_soon_is_bridged(network: tuple[Broker, Proxy]) -> None:
    broker, proxy = network
    broker.create("bridged", 2)
    source = KafkaSource(broker.cluster, "bridged")
    with source.receive({}) as receiver, publisher(broker.cluster, "bridged") as sender:
        assert sender.publish([b"before"], ["k"]) == []
        assert by_partition(take(receiver, 1)).popitem()[1] == [b"before"]
        proxy.cut()
        assert receiver.take(3.0) == []
        proxy.restore()
        publish_again(sender, b"after")
        assert by_partition(take(receiver, 1)).popitem()[1] == [b"after"]


def publish_again(sender: kafka_publisher.KafkaPublisher, body: bytes) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            assert sender.publish([body], ["k"]) == []
            return
        except HubUnavailableError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_an_outage_that_lasts_ends_receiving_with_its_cause(
    network: tuple[Broker, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, proxy = network
    monkeypatch.setattr(kafka_receiver, "GIVE_UP_AFTER_S", 2.0)
    broker.create("away", 1)
    with KafkaSource(broker.cluster, "away").receive({}) as receiver:
        assert receiver.wait_until_open(PATIENCE_S)
        proxy.cut()
        with pytest.raises(HubUnavailableError, match=r"'away' at 127.0.0.1:\d+: receiving stopped: .*next session"):
            take(receiver, 1)


def test_a_broker_that_was_killed_and_lost_its_topic_is_noticed_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_receiver, "_LOOK_EVERY_S", 0.2)
    with Broker() as broker:
        broker.create("killed", 1)
        send(broker.cluster, "killed", [b"1", b"2"])
        with KafkaSource(broker.cluster, "killed").receive({}) as receiver:
            take(receiver, 2)
            broker.kill()
            broker.start()
            broker.create("killed", 1)
            with pytest.raises(HubUnavailableError, match="another one of this name") as failed:
                take(receiver, 1)
    assert not isinstance(failed.value, HubTakenOverError)


def test_while_the_brokers_are_away_publishing_fails_at_once_and_later_goes_on(
    network: tuple[Broker, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, proxy = network
    monkeypatch.setattr(kafka_publisher, "PUBLISH_TIMEOUT_S", 2.0)
    broker.create("alerts", 2)
    with publisher(broker.cluster, "alerts") as sender:
        assert sender.publish([b"1"], ["k"]) == []
        proxy.cut()
        for longest_s in (5.0, 0.5, 0.5):
            began = time.monotonic()
            with pytest.raises(HubUnavailableError, match=r"Kafka topic 'alerts' at .*nothing was lost"):
                sender.publish([b"lost", b"lost too"], ["k", "k"])
            assert time.monotonic() - began < longest_s
        proxy.restore()
        publish_again(sender, b"2")
    arrived = taken_from(KafkaSource(broker.cluster, "alerts"), 2)
    assert [bodies[-1] for bodies in by_partition(arrived).values()] == [b"2"]


def receive(cluster: KafkaCluster) -> None:
    with KafkaSource(cluster, "silent").receive({}) as receiver:
        take(receiver, 1)


def publish(cluster: KafkaCluster) -> None:
    with publisher(cluster, "silent") as sender:
        sender.publish([b"lost"], [""])


@pytest.mark.parametrize("deed", [lambda cluster: KafkaSource(cluster, "silent").state(), receive, publish])
def test_brokers_that_are_silent_end_every_wait_with_a_message(
    deed: Callable[[KafkaCluster], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "STATE_TIMEOUT_S", 1.0)
    monkeypatch.setattr(kafka, "OPEN_TIMEOUT_S", 1.0)
    monkeypatch.setattr(kafka_publisher, "OPEN_TIMEOUT_S", 1.0)
    with SilentPeer() as peer:
        began = time.monotonic()
        with pytest.raises(HubUnavailableError, match=r"Kafka topic 'silent' at 127.0.0.1:\d+: .* failed after"):
            deed(KafkaCluster(f"127.0.0.1:{peer.port}"))
        assert time.monotonic() - began < 6


def test_a_broker_that_is_not_there_is_told_with_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "STATE_TIMEOUT_S", 1.0)
    with pytest.raises(HubUnavailableError, match=r"[Cc]onnect"):
        KafkaSource(KafkaCluster("127.0.0.1:1"), "nowhere").state()


def test_the_number_of_a_topic_is_positive_and_none_for_a_broker_without_ids() -> None:
    assert identity_of("AAAAAAAAAAAAAAAAAAAAAA") is None
    found = {identity_of(f"topic{number}") for number in range(100)}
    assert len(found) == 100
    assert all(number is not None and 0 <= number < 2**63 for number in found)


def test_only_committed_messages_are_read_and_no_group_is_committed(source: KafkaSource) -> None:
    options = source.cluster.consumer()
    assert options["isolation.level"] == "read_committed"
    assert options["enable.auto.commit"] is False
    assert options["allow.auto.create.topics"] is False


SECRET = "not-to-be-shown"


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        (KafkaCluster("b:9092"), {"security.protocol": "PLAINTEXT"}),
        (KafkaCluster("b:9092", ca_file="/ca.pem"), {"security.protocol": "SSL", "ssl.ca.location": "/ca.pem"}),
        (
            KafkaCluster("b:9092", mechanism="SCRAM-SHA-512", user="u", password=SECRET),
            {
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": "u",
                "sasl.password": SECRET,
            },
        ),
        (
            KafkaCluster("b:9092", "SASL_PLAINTEXT", user="u", password=SECRET),
            {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.password": SECRET},
        ),
    ],
)
def test_how_brokers_are_signed_in_to(cluster: KafkaCluster, expected: dict[str, str]) -> None:
    client = cluster.client()
    assert client.items() >= expected.items()
    assert SECRET not in repr(cluster)
    if not cluster.ca_file:
        Consumer(cluster.consumer()).close()


def test_a_certificate_file_that_is_missing_is_named() -> None:
    source = KafkaSource(KafkaCluster("127.0.0.1:1", user="u", password=SECRET, ca_file="/no/such/ca.pem"), "topic")
    with pytest.raises(HubUnavailableError, match=r"ssl.ca.location") as failed:
        source.state()
    assert SECRET not in str(failed.value)


def test_a_receiver_that_failed_closes_in_time(mock_cluster: MockCluster, source: KafkaSource) -> None:
    receiver = KafkaReceiver(mock_cluster.cluster, source.address, {0: 99}, None)
    with receiver, pytest.raises(HubUnavailableError):
        take(receiver, 1)
    assert not any(thread.is_alive() for thread in receiver._threads)
