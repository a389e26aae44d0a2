"""A real hub, the real SDK and real Delta tables: what was sent stands once in every table, whatever happens."""

import json
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from assets.devices.assets import CONTRACT as DEVICES
from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.stream.contract import Contract
from assets.stream.session import HubRecreatedError, Session, SessionLimits, Totals
from generator.streams import device_events
from resources.event_hubs import EventHubsNamespace, EventHubsSource
from resources.event_source import HubUnavailableError
from resources.lake import ConcurrentWriteError, Lake
from tests.emulator.hub import RunningHub
from tests.midnight import wait_out_midnight
from tests.stream import oracle
from tests.stream.hubs import MemoryPublisher
from tests.stream.scenarios import body, lake_in, parts, reading, shuffled, troubled_bodies
from tests.stream.tables import assert_exact, bronze_events, everything, rows

pytestmark = pytest.mark.service

DRAIN = SessionLimits(trigger_s=0.05, commit_interval_s=0.2, until_caught_up=True)
NAMES = ("glucose:4", "devices:2", "sequence:2", "alerts_of:1", "alerts:3", "rivals:2", "unfinished:2", "stopped:1")


@pytest.fixture(autouse=True)
def one_date() -> None:
    """A session ends at midnight, whether it has caught up or not."""
    wait_out_midnight()


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    with RunningHub(NAMES) as running:
        yield running


def source_of(hub: RunningHub, name: str) -> EventHubsSource:
    return EventHubsNamespace(hub.connection_string).source(name)


def send(hub: RunningHub, name: str, bodies: Sequence[bytes]) -> None:
    with EventHubsNamespace(hub.connection_string).publisher(name) as publisher:
        publisher.publish(bodies, [str(number % 7) for number in range(len(bodies))])


def drain(lake: Lake, source: EventHubsSource, contract: Contract = GLUCOSE, **options) -> Totals:
    return Session(contract, lake, source, options.pop("publisher", MemoryPublisher()), limits=DRAIN, **options).run()


def recently() -> datetime:
    return datetime.now(UTC).replace(microsecond=0) - timedelta(hours=60)


def sent_and_stored(lake: Lake, bodies: Sequence[bytes], contract: Contract = GLUCOSE) -> bool:
    return Counter(bodies) == Counter(event.body for event in bronze_events(lake, contract))


def test_every_glucose_event_lands_once_in_every_table(hub: RunningHub, tmp_path: Path) -> None:
    lake, bodies = lake_in(tmp_path), troubled_bodies(3000, start=recently() - timedelta(days=3))
    send(hub, "glucose", bodies)
    totals = drain(lake, source_of(hub, "glucose"))
    truth = assert_exact(lake, source_of(hub, "glucose"))
    assert sent_and_stored(lake, bodies)
    assert min(len(truth.silver), len(truth.alerts)) > 1000
    assert min(len(truth.quarantine), sum(truth.duplicates.values())) > 100
    counts = totals.silver, totals.quarantine, totals.alerts, totals.duplicates
    assert counts == (*map(len, (truth.silver, truth.quarantine, truth.alerts)), sum(truth.duplicates.values()))


def test_every_device_event_lands_once_in_every_table(hub: RunningHub, tmp_path: Path) -> None:
    events = device_events(
        start=recently(), spacing=timedelta(minutes=5), count=1000, faults=0.2, repeats=0.1, late=0.1
    )
    bodies = shuffled(event.body for event in events)
    send(hub, "devices", bodies)
    lake, source = lake_in(tmp_path), source_of(hub, "devices")
    drain(lake, source, DEVICES)
    truth = assert_exact(lake, source, DEVICES, oracle.DEVICES)
    assert sent_and_stored(lake, bodies, DEVICES)
    assert min(len(truth.silver), len(truth.quarantine), sum(truth.duplicates.values())) > 20


def test_each_session_goes_on_where_the_one_before_it_ended(hub: RunningHub, tmp_path: Path) -> None:
    lake, source, bodies = lake_in(tmp_path), source_of(hub, "sequence"), troubled_bodies(400, start=recently())
    pulled = []
    with EventHubsNamespace(hub.connection_string).publisher("sequence") as publisher:
        for part in parts(bodies, 200):
            publisher.publish(part, [str(number) for number in range(len(part))])
            pulled.append(drain(lake, source).events)
    assert pulled == [len(part) for part in parts(bodies, 200)]
    assert_exact(lake, source)


def test_the_alerts_hub_has_what_the_alerts_table_has(hub: RunningHub, tmp_path: Path) -> None:
    lake, source = lake_in(tmp_path), source_of(hub, "alerts_of")
    at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    send(
        hub,
        "alerts_of",
        [body(reading(value=300, patient=number, timestamp=at, location="Ümeå")) for number in range(20)],
    )
    with EventHubsNamespace(hub.connection_string).publisher("alerts") as publisher:
        drain(lake, source, publisher=publisher)
    alerts = source_of(hub, "alerts")
    with alerts.receive({}) as receiver:
        published: list[dict[str, object]] = []
        while len(published) < 60:
            taken = receiver.take(timeout=10)
            assert taken, f"{len(published)} alerts of 60"
            published += [json.loads(each or b"") for pulled in taken for each in pulled.bodies]
    stored = rows(lake, "alerts")
    assert Counter(str(alert["alert_id"]) for alert in published) == Counter(stored["alert_id"])
    one = next(alert for alert in published if (alert["patient_id"], alert["rule"]) == (7, "glucose_average_high"))
    row = stored.filter(alert_id=one["alert_id"]).row(0, named=True)
    assert one == {
        "alert_id": row["alert_id"],
        "rule": "glucose_average_high",
        "severity": "warning",
        "patient_id": 7,
        "glucose_level": 300.0,
        "value": 300.0,
        "mean_10_min": 300.0,
        "threshold": 105.0,
        "timestamp": row["measured_at"].isoformat(),
        "location": "Ümeå",
        "received_at": row["received_at"].isoformat(timespec="milliseconds"),
        "age_s": one["age_s"],
        "is_late": False,
        "is_revision": False,
    }
    assert isinstance(one["age_s"], float)
    assert 0 <= one["age_s"] < 120


def test_two_sessions_that_do_not_know_of_each_other_lose_and_double_nothing(hub: RunningHub, tmp_path: Path) -> None:
    lake, source, bodies = lake_in(tmp_path), source_of(hub, "rivals"), troubled_bodies(1500, start=recently())
    has_committed, stop, failures = threading.Event(), threading.Event(), []
    endless = SessionLimits(trigger_s=0.02, commit_interval_s=0, idle_timeout_s=60)

    def first_session() -> None:
        try:
            Session(
                GLUCOSE,
                lake,
                source,
                MemoryPublisher(),
                limits=endless,
                on_progress=lambda _: has_committed.set(),
                should_stop=stop.is_set,
            ).run()
        except (HubUnavailableError, ConcurrentWriteError) as error:
            failures.append(error)

    first = threading.Thread(target=first_session)
    send(hub, "rivals", bodies[:1000])
    first.start()
    assert has_committed.wait(300)
    send(hub, "rivals", bodies[1000:1200])
    try:
        drain(lake, source)
    except ConcurrentWriteError as error:
        failures.append(error)
    # The first one takes its connections back; where the other has written, its next commit is refused.
    send(hub, "rivals", bodies[1200:])
    stop.set()
    first.join(300)
    assert not first.is_alive()
    drain(lake, source)
    assert_exact(lake, source)


def test_a_session_that_is_asked_to_stop_commits_what_it_pulled(hub: RunningHub, tmp_path: Path) -> None:
    lake, source = lake_in(tmp_path), source_of(hub, "stopped")
    send(hub, "stopped", troubled_bodies(100, start=recently()))
    limits = SessionLimits(trigger_s=0.02, commit_interval_s=3600, idle_timeout_s=3600)
    publisher = MemoryPublisher()
    totals = Session(
        GLUCOSE, lake, source, publisher, limits=limits, should_stop=lambda: bool(publisher.published)
    ).run()
    assert totals.events > 0
    assert totals.commits == 1
    drain(lake, source)
    assert_exact(lake, source)


def test_a_hub_that_goes_away_ends_the_session_with_everything_it_pulled_committed(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    publisher = MemoryPublisher()
    with RunningHub(("glucose:2",)) as hub:
        send(hub, "glucose", [body(reading(value=300, timestamp=recently().isoformat()))])
        source = source_of(hub, "glucose")
        session = Session(
            GLUCOSE,
            lake,
            source,
            publisher,
            limits=SessionLimits(trigger_s=0.02, commit_interval_s=3600, idle_timeout_s=3600),
            should_stop=lambda: bool(publisher.published) and hub.kill() is not None,
        )
        session.run()
        with pytest.raises(HubUnavailableError, match="pulselake hub"):
            drain(lake, source)
        hub.start()
        drain(lake, source)
        assert_exact(lake, source)


@pytest.mark.parametrize("grown_to", [0, 500], ids=["empty", "longer"])
def test_a_hub_that_was_recreated_is_refused_and_the_tables_stay(tmp_path: Path, grown_to: int) -> None:
    lake, data = lake_in(tmp_path), tmp_path / "hub"
    data.mkdir()
    with RunningHub(("glucose:2",), data=data) as hub:
        send(hub, "glucose", troubled_bodies(100, start=recently()))
        drain(lake, source_of(hub, "glucose"))
        before = everything(lake)
        hub.stop()
        shutil.rmtree(data)
        data.mkdir()
        hub.start()
        if grown_to:
            send(hub, "glucose", troubled_bodies(1000, start=recently())[:grown_to])
        with pytest.raises(HubRecreatedError, match="hubs accept"):
            drain(lake, source_of(hub, "glucose"))
    assert everything(lake) == before
