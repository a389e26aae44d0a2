"""Sessions that read Kafka: real Delta tables hold every event once, whatever offsets and brokers do."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from assets.glucose.assets import CONTRACT
from assets.stream.checks import evaluate
from assets.stream.session import HubRecreatedError, Session, SessionLimits, Totals
from assets.stream.store import StreamStore
from orchestration.backlog import backlog
from resources import kafka_receiver
from resources.kafka import KafkaSource, publisher
from resources.kafka_look import TopicLook
from resources.lake import Lake
from resources.leases import Lease
from tests.midnight import wait_out_midnight
from tests.services.kafka import Broker, MockCluster, send, send_in_transactions
from tests.stream.feeding import feeding, wait_until
from tests.stream.hubs import MemoryPublisher
from tests.stream.scenarios import body, hub_with, lake_in, parts, reading, run_session, troubled_bodies
from tests.stream.tables import assert_exact, assert_follows_bronze, bronze_events, row_count, rows
from tests.stream.test_hand_over import Running, has_more, is_active

pytestmark = pytest.mark.service

DRAIN = SessionLimits(trigger_s=0.05, commit_interval_s=0.2, until_caught_up=True)
TOPICS = (f"sessions{number}" for number in count())


@pytest.fixture(autouse=True)
def one_date() -> None:
    """Counts of a day are compared."""
    wait_out_midnight()


@pytest.fixture(scope="module")
def mock_cluster() -> MockCluster:
    return MockCluster()


@pytest.fixture
def source(mock_cluster: MockCluster) -> KafkaSource:
    mock_cluster.create(name := next(TOPICS))
    return KafkaSource(mock_cluster.cluster, name)


def drain(lake: Lake, source: KafkaSource, **options) -> Totals:
    return Session(CONTRACT, lake, source, options.pop("publisher", MemoryPublisher()), limits=DRAIN, **options).run()


def recently() -> datetime:
    return datetime.now(UTC).replace(microsecond=0) - timedelta(hours=60)


def failed_checks(lake: Lake) -> list[str]:
    now = datetime.now(UTC)
    return [
        each.name
        for each in evaluate(StreamStore(CONTRACT, lake), now.date(), now)
        if not each.passed and each.is_error
    ]


def test_offsets_with_gaps_lose_nothing_and_count_nothing_as_lost(source: KafkaSource, tmp_path: Path) -> None:
    lake, bodies = lake_in(tmp_path), troubled_bodies(300, start=recently())
    held = set[tuple[int, int]]()
    for number, part in enumerate(parts(bodies, 110)):
        transactions = list(parts(part, 7))
        send_in_transactions(source.cluster, source.name, transactions, partition=number % 2)
        totals = drain(lake, source)
        assert (totals.events, totals.expired_events) == (len(part), 0)
    with source.receive({}) as receiver:
        while len(held) < len(bodies):
            held |= {(pulled.partition, each) for pulled in receiver.take(10) for each in pulled.sequence_numbers}
    span = sum(tail.last + 1 for tail in source.state().tails.values())
    assert span > len(held) + 20, "there are gaps"
    assert_exact(lake, source, held=held)
    assert Counter(bodies) == Counter(event.body for event in bronze_events(lake))
    assert failed_checks(lake) == []
    assert backlog(CONTRACT, lake, source).events == 0


def test_a_gap_in_a_hub_without_gaps_is_still_missing(tmp_path: Path) -> None:
    for number, is_gapless in enumerate((True, False)):
        lake, hub = lake_in(tmp_path / str(number)), hub_with(troubled_bodies(30), partitions=1)
        hub.is_gapless = is_gapless
        run_session(lake, hub)
        bronze = rows(lake, "bronze")
        table = lake.table(CONTRACT.tables.bronze)
        table.replace([], None)
        table.append(bronze.filter(sequence_number=5), transactions={})
        table.append(bronze.filter(sequence_number=9), transactions={})
        day = bronze["ingest_date"][0]
        found = {each.name: each for each in evaluate(StreamStore(CONTRACT, lake), day, datetime.now(UTC))}
        assert found["sequence_continuity"].counts == {"missing": 3 if is_gapless else 0, "doubled": 0}


def test_of_a_trimmed_log_what_is_gone_is_counted_once(
    source: KafkaSource, mock_cluster: MockCluster, tmp_path: Path
) -> None:
    lake = lake_in(tmp_path)
    mock_cluster.send(source.name, [body(reading(number)) for number in range(10)])
    assert drain(lake, source).events == 10
    large = [body(reading(number / 60, location="x" * 20_000)) for number in range(600)]
    mock_cluster.send(source.name, list(large))
    first = source.state().tails[0].first
    assert first > 20
    totals = [drain(lake, source) for _ in range(2)]
    assert [each.expired_events for each in totals] == [first - 10, 0]
    assert [each.events for each in totals] == [610 - first, 0]
    assert_follows_bronze(lake)
    assert failed_checks(lake) == []


def test_a_successor_counts_once_what_it_passed_over_while_it_waited(
    source: KafkaSource, mock_cluster: MockCluster, tmp_path: Path
) -> None:
    lake = lake_in(tmp_path)
    mock_cluster.send(source.name, [body(reading(number)) for number in range(10)])
    drain(lake, source)
    mock_cluster.send(source.name, [body(reading(number / 60, location="x" * 20_000)) for number in range(600)])
    first = source.state().tails[0].first
    at_work = Lease.of(Path(lake.root) / "leases", CONTRACT.stream, "works")
    assert at_work.active.take()
    successor = Running(lake, source, "waits", MemoryPublisher())
    wait_until(at_work.successor.is_held_elsewhere, "the successor's preparation")
    at_work.release()
    wait_until(lambda: row_count(lake, "bronze") == 620 - first, "everything")
    assert successor.end().expired_events == first - 10


def test_a_tombstone_is_quarantined_with_its_key_and_headers_kept(
    source: KafkaSource, mock_cluster: MockCluster, tmp_path: Path
) -> None:
    lake = lake_in(tmp_path)
    good = body(reading(0, timestamp=recently().isoformat()))
    mock_cluster.send(source.name, [None, good, b""], key=b"patient 1", headers=[("unit", b"mg/dl")])
    totals = drain(lake, source)
    assert (totals.events, totals.silver, totals.quarantine) == (3, 1, 2)
    bronze = rows(lake, "bronze")
    assert bronze["body"].to_list() == [None, good.decode(), ""]
    assert bronze["body_bytes"].to_list() == [None] * 3
    assert bronze["key"].to_list() == ["patient 1"] * 3
    assert bronze["properties"].to_list() == ['{"unit":"mg/dl"}'] * 3
    assert bronze["reading_count"].to_list() == [1, 1, 1]
    assert rows(lake, "quarantine")["reason"].to_list() == ["tombstone", "not_json"]
    assert_exact(lake, source)
    assert failed_checks(lake) == []


def test_partitions_that_are_added_while_a_session_runs_are_stored(
    source: KafkaSource, mock_cluster: MockCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, all_partitions = [1], TopicLook.partitions
    monkeypatch.setattr(TopicLook, "partitions", lambda look: all_partitions(look)[: told[0]])
    monkeypatch.setattr(kafka_receiver, "_LOOK_EVERY_S", 0.1)
    lake, bodies = lake_in(tmp_path), troubled_bodies(120, start=recently())
    session = Running(lake, source, "0", MemoryPublisher())
    for partition, part in enumerate(parts(bodies, 33)):
        told[0] = partition + 1
        mock_cluster.send(source.name, list(part), partition)
        wait_until(lambda: rows(lake, "bronze")["partition"].n_unique() == told[0], "the partition")
    wait_until(lambda: row_count(lake, "bronze") == len(bodies), "all partitions")
    session.end()
    assert_exact(lake, source)
    assert drain(lake, source).events == 0
    assert failed_checks(lake) == []


def test_sessions_hand_over_beside_each_other_without_losing_or_doubling_anything(
    source: KafkaSource, tmp_path: Path
) -> None:
    lake, alerts, sent = lake_in(tmp_path), MemoryPublisher(), list[bytes]()
    with feeding(publisher(source.cluster, source.name), sent):
        sessions = [Running(lake, source, "0", alerts)]
        wait_until(lambda: row_count(lake, "silver"), "the first commit")
        for number in range(1, 4):
            sessions.append(Running(lake, source, str(number), alerts))
            totals = sessions[-2].join()
            assert sessions[-2].session.is_handed_over
            assert totals.events > 0
            wait_until(partial(is_active, lake, str(number)), "the next session's turn")
            wait_until(partial(has_more, lake, row_count(lake, "silver")), "its first commit")
    wait_until(lambda: row_count(lake, "bronze") == len(sent), "the last events")
    sessions[-1].end()
    assert_exact(lake, source)
    assert len(alerts.published) == rows(lake, "alerts").height > 0


def test_a_topic_that_was_made_anew_is_refused_by_its_id_and_read_once_it_is_accepted(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    with Broker() as broker:
        broker.create("readings", 2)
        source = KafkaSource(broker.cluster, "readings")
        send(broker.cluster, "readings", [body(reading(number)) for number in range(5)])
        assert drain(lake, source).events == 5
        broker.delete("readings")
        broker.create("readings", 2)
        # Longer than the old one: only the id tells.
        send(broker.cluster, "readings", [body(reading(number)) for number in range(4, 12)])
        with pytest.raises(HubRecreatedError, match="its identity is"):
            drain(lake, source)
        store = StreamStore(CONTRACT, lake)
        store.look(source.state().tails)
        assert store.log.accept(source.state()) == 1
        totals = drain(lake, source)
        assert (totals.events, totals.silver, totals.duplicates) == (8, 7, 1)
        assert drain(lake, source).events == 0
    assert rows(lake, "bronze")["hub_epoch"].to_list() == [0] * 5 + [1] * 8
    assert failed_checks(lake) == []


def test_a_stream_may_move_from_event_hubs_to_kafka_and_its_old_gaps_are_still_found(
    source: KafkaSource, mock_cluster: MockCluster, tmp_path: Path
) -> None:
    lake = lake_in(tmp_path)
    run_session(lake, hub_with(troubled_bodies(30), partitions=1))
    mock_cluster.send(source.name, [body(reading(number)) for number in range(3)])
    with pytest.raises(HubRecreatedError):
        drain(lake, source)
    store = StreamStore(CONTRACT, lake)
    store.look(source.state().tails)
    store.log.accept(source.state())
    assert drain(lake, source).events == 3
    store.look()
    assert [store.log.has_gaps(epoch) for epoch in (0, 1)] == [False, True]
    assert store.log.hub_identity is None
