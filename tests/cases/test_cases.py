"""Inputs from other people's trouble, sent by the SDK through a real hub: stored, refused or alerted as is right.

The files in `inputs` are made up after public bug reports; no line is anybody's.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from azure.eventhub import EventData

from assets.devices.assets import CONTRACT as DEVICES
from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.glucose.assets import GOLD
from assets.glucose.tables import GLUCOSE_DAILY, PATIENT_COMPARISON
from assets.gold import DailyGold, pieces
from assets.gold_alarms import AlarmGold
from assets.stream.checks import evaluate
from assets.stream.contract import Contract
from assets.stream.rebuild import rebuild
from assets.stream.session import Session, SessionLimits, Totals
from assets.stream.store import StreamStore
from generator.publisher import publish_file
from resources.event_hubs import EventHubsNamespace
from resources.event_hubs_publisher import EventHubsPublisher
from resources.event_hubs_receiver import EventHubsReceiver
from resources.event_source import HubState, Tail
from resources.lake import Lake
from tests.emulator.hub import RunningHub
from tests.midnight import wait_out_midnight
from tests.stream.hubs import MemoryPublisher
from tests.stream.tables import everything, rows

pytestmark = pytest.mark.service

INPUTS = Path(__file__).parent / "inputs"
DRAIN = SessionLimits(trigger_s=0.05, commit_interval_s=0.2, until_caught_up=True)
HUBS = 24


@dataclass
class CaseHub:
    """A hub of one partition that only one test sends to, with a publisher that stays connected.

    Receiving is real. The tail is counted here, because each look at it by the SDK takes most of a second and a session
    that ends when it has caught up looks three times.
    """

    namespace: EventHubsNamespace
    name: str
    publisher: EventHubsPublisher
    identity: int | None
    sent: int = 0

    def send(self, *bodies: bytes) -> None:
        assert self.publisher.publish(bodies, ["1"] * len(bodies)) == []
        self.sent += len(bodies)

    def state(self) -> HubState:
        return HubState(self.identity, {0: Tail(0, self.sent - 1)})

    def receive(self, after: Mapping[int, int]) -> AbstractContextManager[EventHubsReceiver]:
        return self.namespace.source(self.name).receive(after)


@dataclass
class Place:
    """A stream with a hub and a lake of its own."""

    hub: CaseHub
    lake: Lake
    contract: Contract
    alerts: MemoryPublisher

    def publish(self, *files: str) -> "Place":
        for file in files:
            published = publish_file(INPUTS / file, self.hub.publisher)
            assert published.too_large == ()
            self.hub.sent += published.events
        return self

    def send(self, *bodies: bytes) -> "Place":
        self.hub.send(*bodies)
        return self

    def drain(self) -> Totals:
        return Session(self.contract, self.lake, self.hub, self.alerts, limits=DRAIN).run()

    def rows(self, layer: str) -> pl.DataFrame:
        return rows(self.lake, layer, self.contract)

    def reasons(self) -> Counter[str]:
        return Counter(self.rows("quarantine")["reason"])

    def raised(self) -> Counter[str]:
        return Counter(self.rows("alerts")["rule"])

    def gold(self) -> pl.DataFrame:
        for gold in GOLD:
            if isinstance(gold, DailyGold):
                for piece in pieces(gold.pending(self.lake)):
                    gold.refresh(self.lake, piece)
            else:
                gold.refresh(self.lake)
        return self.lake.table(GLUCOSE_DAILY).scan().collect()

    def assert_rebuilds(self) -> None:
        streamed = everything(self.lake, self.contract)
        for day in self.lake.table(self.contract.tables.bronze).dates("ingest_date"):
            rebuild(self.contract, self.lake, day)
        assert everything(self.lake, self.contract) == streamed

    def assert_reconciles(self) -> None:
        today = datetime.now(UTC)
        findings = evaluate(StreamStore(self.contract, self.lake), self._day(), today)
        assert [each.name for each in findings if not each.passed and each.is_error] == []

    def _day(self) -> date:
        return self.lake.table(self.contract.tables.bronze).dates("ingest_date")[-1]


@pytest.fixture(autouse=True)
def one_date() -> None:
    """Today is the same date when the test ends."""
    wait_out_midnight()


@pytest.fixture(scope="module")
def hubs() -> Iterator[Iterator[CaseHub]]:
    """Hubs that nobody has used; all publishers connect at the same time."""
    names = [f"case_{number}" for number in range(HUBS)]
    with RunningHub([f"{name}:1" for name in names]) as hub, ExitStack() as stack:
        namespace = EventHubsNamespace(hub.connection_string)
        publishers = [stack.enter_context(namespace.publisher(name)) for name in names]
        with ThreadPoolExecutor(HUBS) as threads:
            states = list(threads.map(lambda name: namespace.source(name).state(), names))
        assert {tuple(state.tails.items()) for state in states} == {((0, Tail(0, -1)),)}
        made = zip(names, publishers, states, strict=True)
        yield (CaseHub(namespace, name, publisher, state.identity) for name, publisher, state in made)


@pytest.fixture
def glucose(hubs: Iterator[CaseHub], tmp_path: Path) -> Place:
    return Place(next(hubs), Lake(str(tmp_path / "lake")), GLUCOSE, MemoryPublisher())


@pytest.fixture
def devices(glucose: Place) -> Place:
    return replace(glucose, contract=DEVICES)


@pytest.mark.parametrize("file", ["a-text-microseconds", "d-control-whole-milliseconds"])
def test_01_the_newest_reading_that_comes_again_in_the_next_session_is_a_duplicate(glucose: Place, file: str) -> None:
    path = f"01-repeat-of-the-newest-reading/{file}.ndjson"
    first = glucose.publish(path).drain()
    assert (first.silver, first.duplicates) == (1, 0)
    again = glucose.publish(path).drain()
    assert (again.silver, again.alerts, again.duplicates) == (0, 0, 1)
    body = json.loads((INPUTS / path).read_bytes().splitlines()[0]) | {"glucose_level": 100}
    assert glucose.send(json.dumps(body).encode()).drain().quarantine == 1
    assert glucose.reasons() == {"conflicting_duplicate": 1}
    assert len(glucose.alerts.published) == glucose.rows("alerts").height
    glucose.assert_reconciles()
    glucose.assert_rebuilds()


def test_01_devices_too(devices: Place) -> None:
    path = "01-repeat-of-the-newest-reading/e-devices-microseconds.ndjson"
    assert devices.publish(path).drain().silver == 1
    again = devices.publish(path).drain()
    assert (again.silver, again.duplicates) == (0, 1)
    devices.assert_rebuilds()


def test_02_a_digit_of_another_script_costs_its_own_line_only(glucose: Place) -> None:
    glucose.publish("02-digits-of-another-script/a-one-odd-digit-in-the-hours.ndjson").drain()
    assert glucose.reasons() == {"bad_timestamp": 1}
    assert glucose.publish("02-digits-of-another-script/f-good-afterwards.ndjson").drain().silver == 1
    glucose.assert_rebuilds()


def test_02_and_so_it_does_in_a_firmware_version(devices: Place) -> None:
    devices.publish("02-digits-of-another-script/e-devices-firmware.ndjson").drain()
    assert devices.reasons() == {"bad_type:firmware_version": 1}
    assert devices.rows("silver").height == 1


@pytest.mark.parametrize("step", [1, 10], ids=["every day", "every tenth day"])
def test_04_a_life_of_daily_readings_in_one_event(glucose: Place, step: int) -> None:
    oldest, now = datetime(1999, 12, 31, 12, tzinfo=UTC), datetime.now(UTC).replace(microsecond=0)
    days = [oldest + timedelta(days=number) for number in range(0, (now - oldest).days, step)]
    current = [_reading(now - timedelta(minutes=minutes), 100 + minutes) for minutes in range(5)]
    glucose.send(*map(_body, current)).drain()
    totals = glucose.send(json.dumps([_reading(at, 100) for at in days]).encode(), _body(_reading(now, 50, 2))).drain()
    since_2010 = sum(at >= datetime(2010, 1, 1, tzinfo=UTC) for at in days)
    assert totals.silver == since_2010 + 1
    assert glucose.reasons() == {"bad_timestamp": len(days) - since_2010}
    assert glucose.rows("alerts").filter(pl.col("patient_id") == 2).height == 2
    daily = GOLD[0]
    assert isinstance(daily, DailyGold)
    due = pieces(daily.pending(glucose.lake))
    assert due[0][0] == now.date()
    for piece in due[:3]:
        daily.refresh(glucose.lake, piece)
    made = glucose.lake.table(GLUCOSE_DAILY).scan().collect()
    assert now.date() in made["event_date"]
    left = pieces(daily.pending(glucose.lake))
    assert sum(map(len, left)) == sum(map(len, due[3:]))


def test_05_two_units_give_one_answer(glucose: Place) -> None:
    glucose.publish("05-two-units-one-answer/a-mmol.ndjson", "05-two-units-one-answer/b-the-same-in-mg.ndjson").drain()
    day = glucose.gold()
    assert day.height == 2
    for name, seventh in {"tir": 2, "tbr_below_70": 2, "tar_above_180": 3, "tar_above_250": 1}.items():
        assert day[f"{name}_percent"].to_list() == pytest.approx([100 * seventh / 7] * 2)
    assert glucose.raised()["glucose_urgent_high"] == 2


def test_06_codes_of_sensors_are_no_readings(glucose: Place) -> None:
    glucose.publish("06-sensor-codes/codes.ndjson").drain()
    assert glucose.rows("silver").height == 8
    assert glucose.reasons() == {"sensor_code": 9}
    alerts = glucose.rows("alerts").filter(pl.col("rule").is_in(["glucose_low", "glucose_urgent_low"]))
    by_value = alerts.group_by("glucose_mg_dl").agg(pl.col("rule").sort()).sort("glucose_mg_dl")
    both = ["glucose_low", "glucose_urgent_low"]
    assert dict(by_value.iter_rows()).items() >= dict.fromkeys([38.0, 39.0, 40.0, 53.0], both).items()


def test_07_a_value_without_its_unit_is_refused_and_units_are_understood_as_people_spell_them(glucose: Place) -> None:
    assert glucose.publish("07-units/a-no-unit.ndjson").drain().silver == 0
    assert set(glucose.reasons()) == {"implausible_unit"}
    assert glucose.publish("07-units/b-spelling.ndjson").drain().silver == 7


def test_08_the_hour_that_comes_twice_hides_no_low(glucose: Place) -> None:
    local = "08-the-hour-that-comes-twice/local-time-without-zone.ndjson"
    totals = glucose.publish(local).drain()
    assert totals.silver + totals.quarantine + totals.duplicates == 24
    urgent = glucose.rows("alerts").filter(pl.col("rule") == "glucose_urgent_low")
    assert urgent.filter(pl.col("glucose_mg_dl") == 48).height == 1
    glucose.assert_rebuilds()


def test_08_with_offsets_every_reading_has_its_time(glucose: Place) -> None:
    totals = glucose.publish("08-the-hour-that-comes-twice/the-same-with-offsets.ndjson").drain()
    assert (totals.silver, totals.alerts) == (24, 10)


def test_09_a_revised_value_that_is_low_reaches_somebody(glucose: Place) -> None:
    glucose.publish("09-a-revised-value-is-low/a-first.ndjson").drain()
    glucose.publish("09-a-revised-value-is-low/b-revised.ndjson").drain()
    assert sorted(glucose.rows("silver")["glucose_mg_dl"]) == [92, 93, 95]
    revised = glucose.rows("alerts").select("rule", "glucose_mg_dl", "is_revision").rows()
    assert revised == [("glucose_low", 47.0, True), ("glucose_urgent_low", 47.0, True)]
    assert [json.loads(body)["is_revision"] for _, body in glucose.alerts.published] == [True, True]
    glucose.assert_reconciles()
    glucose.assert_rebuilds()


def test_10_words_for_beyond_the_range(glucose: Place) -> None:
    glucose.publish("10-words/words.ndjson").drain()
    assert Counter(glucose.rows("silver")["range_flag"]) == {"below": 6, "above": 4}
    assert glucose.reasons() == {"bad_type:glucose_level": 4}


def test_14_time_in_range_is_time(glucose: Place) -> None:
    glucose.publish("14-time-in-range/six-hours-calm-one-hour-high.ndjson").drain()
    day = glucose.gold().row(0, named=True)
    assert day["tir_time_percent"] == pytest.approx(85.7, abs=0.05)
    assert day["mean_time_mg_dl"] == pytest.approx(134, abs=0.5)
    assert day["tir_percent"] == pytest.approx(28.6, abs=0.05)
    assert day["mean_mg_dl"] == pytest.approx(191, abs=0.5)
    ranked = glucose.lake.table(PATIENT_COMPARISON).scan().collect().row(0, named=True)
    assert ranked["tir_time_percent"] == pytest.approx(85.7, abs=0.05)


def test_15_instants_that_are_no_time(glucose: Place) -> None:
    glucose.publish("15-instants-that-are-no-time/odd.ndjson").drain()
    known = glucose.rows("silver")["measured_at"]
    assert known.is_between(datetime(2010, 1, 1, tzinfo=UTC), datetime.now(UTC)).all()
    assert set(glucose.reasons()) <= {"bad_timestamp", "in_the_future"}
    glucose.assert_reconciles()


UNDERSTOOD = {
    "01-two-lines": 2,
    "02-two-objects-no-break": 2,
    "03-trailing-nul": 1,
    "05-json-in-a-string": 1,
    "07-gzip": 1,
    "12-records-envelope": 2,
    "13-cloud-event": 1,
    "14-routed-iot-message": 1,
    "17-crlf-around": 1,
}
"""Readings in the bodies that ordinary senders make."""


def test_19_bodies_that_are_not_one_json_document(glucose: Place) -> None:
    files = sorted((INPUTS / "19-bodies").iterdir())
    glucose.publish(*(f"19-bodies/{file.name}" for file in files)).drain()
    bronze = glucose.rows("bronze")
    stored = bronze.select(pl.coalesce("body_bytes", pl.col("body").cast(pl.Binary))).to_series().to_list()
    assert stored == [file.read_bytes() for file in files]
    named = dict(enumerate(file.stem for file in files))
    good = Counter(named[number] for number in glucose.rows("silver")["sequence_number"])
    refused = Counter(named[number] for number in glucose.rows("quarantine")["sequence_number"])
    # Some of the bodies hold the same reading as others: the first one stands.
    assert set(good) <= set(UNDERSTOOD)
    assert set(refused) == set(named.values()) - set(UNDERSTOOD)
    readings = dict(zip(bronze["sequence_number"], bronze["reading_count"], strict=True))
    assert {name: readings[number] for number, name in named.items() if name in UNDERSTOOD} == UNDERSTOOD
    glucose.assert_reconciles()
    glucose.assert_rebuilds()


def test_22_a_plateau_raises_an_alert_with_every_reading_as_before(glucose: Place) -> None:
    glucose.publish("22-an-alarm-with-every-reading/plateau.ndjson").drain()
    assert glucose.rows("alerts").height == 48


def test_22_a_plateau_of_long_ago_is_one_alarm_that_was_missed(glucose: Place) -> None:
    glucose.publish("22-an-alarm-with-every-reading/plateau.ndjson").drain()
    assert glucose.lake.table(GLUCOSE.tables["alarms"]).scan().filter(cause="glucose_high").collect().is_empty()
    gold = AlarmGold(GLUCOSE)
    gold.refresh(glucose.lake)
    [alarm] = glucose.lake.table(gold.table).scan().filter(stream=GLUCOSE.stream).collect().to_dicts()
    assert (alarm["state"], alarm["cause"], alarm["entity"]) == ("missed", "glucose_high", 211)


def test_identity_that_stands_only_beside_the_body_is_kept(glucose: Place) -> None:
    event = EventData(b'{"glucose_level": 90}')
    event.properties = {"patient": "7", "site": "Ümeå"}
    event.raw_amqp_message.annotations = {"iothub-connection-device-id": "meter-12"}
    with glucose.hub.namespace.producer(glucose.hub.name) as producer:
        producer.send_batch([event], partition_id="0")
    glucose.hub.sent += 1
    glucose.drain()
    row = glucose.rows("bronze").row(0, named=True)
    assert json.loads(row["properties"])["site"] == "Ümeå"
    assert json.loads(row["annotations"]) == {"iothub-connection-device-id": "meter-12"}
    assert row["hub_epoch"] == 0


def _reading(at: datetime, value: float, patient: int = 1) -> dict[str, Any]:
    return {"patient_id": patient, "device_id": 11, "glucose_level": value, "timestamp": at.isoformat()}


def _body(reading: dict[str, Any]) -> bytes:
    return json.dumps(reading).encode()
