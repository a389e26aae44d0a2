"""What reference data say of readings: in sessions, after restarts, and where days are made anew."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import dataframely as dy
import polars as pl
import pytest

from assets.bitemporal import SAFETY_DELAY
from assets.devices.assets import CONTRACT as DEVICE_STREAM
from assets.glucose.assets import CONTRACT
from assets.reference.enrichments import OF_DEVICE
from assets.reference.tables import DEVICES, PATIENTS
from assets.stream import enrichment
from assets.stream.contract import Contract, ContractError, Derived, Enrichment
from assets.stream.enrichment import References, key_of
from assets.stream.observer import Observer
from assets.stream.proof import prove
from assets.stream.rebuild import rebuild
from assets.stream.rederive import derive, swap
from assets.stream.session import SessionLimits
from assets.vitals.assets import CONTRACT as VITALS
from resources.lake import Lake, SchemaError
from resources.table import Table
from tests.reference.values import LONG_AGO, load_devices, load_patients
from tests.stream.feeding import wait_until
from tests.stream.hubs import MemoryHub, MemoryPublisher
from tests.stream.scenarios import NOON, body, hub_with, lake_in, reading, run_session, ticking
from tests.stream.tables import assert_exact, everything, rows

pytestmark = pytest.mark.slow

ELEVEN = (NOON - timedelta(hours=1)).isoformat()
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
COLUMNS = ["device_model", "age_years", "care_team"]
NOTHING = (None, None, None)


def told(lake: Lake, layer: str = "silver", contract: Contract = CONTRACT) -> list[tuple[Any, ...]]:
    return rows(lake, layer, contract).select(*COLUMNS).rows()


def fill(lake: Lake) -> None:
    load_devices(lake, {10: "One"})
    load_patients(lake, {"patient_id": 1, "date_of_birth": date(1980, 11, 24), "care_team": "north"})


def test_silver_and_alerts_say_what_reference_data_know(tmp_path: Path) -> None:
    lake, publisher = lake_in(tmp_path), MemoryPublisher()
    fill(lake)
    hub = hub_with([body(reading(0, 300)), body(reading(0, 40)), body(reading(1, 100, patient=2, device=11))])
    totals = run_session(lake, hub, publisher=publisher)
    assert told(lake) == [("One", 45, "north"), NOTHING]
    # A second value of one instant, which is a revision, too.
    assert set(told(lake, "alerts")) == {("One", 45, "north")}
    assert rows(lake, "alerts")["is_revision"].unique().sort().to_list() == [False, True]
    assert (totals.silver, totals.reference_missing) == (2, 1)
    assert totals.counts()["reference_missing"] == 1


def test_without_reference_tables_columns_are_null_and_nothing_is_missing(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(0, 300))])
    assert run_session(lake, hub).reference_missing == 0
    assert told(lake) == [NOTHING]
    assert_exact(lake, hub)
    assert not lake.table(DEVICES.table).exists()


def test_one_table_may_be_there_without_the_other(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    load_devices(lake, {10: "One"})
    assert run_session(lake, hub_with([body(reading(0, 300))])).reference_missing == 0
    assert told(lake) == [("One", None, None)]


def test_a_reading_without_a_device_misses_none(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    fill(lake)
    signs = {"patient_id": 1, "timestamp": ELEVEN, "heart_rate": 70}
    hub = hub_with([body(signs), body(signs | {"device_id": 10, "heart_rate": 71})])
    assert run_session(lake, hub, contract=VITALS).reference_missing == 0
    assert told(lake, contract=VITALS) == [(None, 45, "north"), ("One", 45, "north")]


def test_a_devices_own_reports_have_its_model(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    fill(lake)
    report = {"battery_level": 50, "firmware_version": "1.2.3", "connectivity_status": "Connected", "error_codes": ""}
    reports = [body({"device_id": number, "timestamp": ELEVEN} | report) for number in (10, 11)]
    assert run_session(lake, hub_with(reports), contract=DEVICE_STREAM).reference_missing == 1
    assert rows(lake, "silver", DEVICE_STREAM)["device_model"].to_list() == ["One", None]


Load = tuple[datetime, datetime, Mapping[int, str]]
"""From when versions hold, when they are known, and the models of devices."""


def plainly(loads: Sequence[Load], device: int, measured_at: datetime, pulled_at: datetime) -> str | None:
    """The model that a reading says, by the definition."""
    known_by = pulled_at - SAFETY_DELAY
    counted = [
        (valid_from, known_at, models[device])
        for valid_from, known_at, models in loads
        if device in models and valid_from <= measured_at and known_at <= known_by
    ]
    return max(counted)[2] if counted else None


def of_a_rebuild(lake: Lake) -> None:
    rebuild(CONTRACT, lake, NOON.date())


def of_a_rederivation(lake: Lake) -> None:
    derive(CONTRACT, lake)
    swap(CONTRACT, lake)


@pytest.mark.parametrize("make_anew", [of_a_rebuild, of_a_rederivation])
@pytest.mark.parametrize("seed", range(3))
def test_sessions_restarts_and_days_made_anew_agree_whatever_becomes_known_when(
    tmp_path: Path, seed: int, make_anew: Any
) -> None:
    lake, hub, random = lake_in(tmp_path), MemoryHub(take=3), Random(seed)
    loads: list[Load] = []
    for number in range(6):
        now = NOON + number * MINUTE
        # Known shortly before a session, so that it counts for the later ones of its micro-batches only; backdated,
        # of the future, or a correction of an earlier version.
        models = {device: f"{number} {device}" for device in random.sample(range(10, 14), 3)}
        valid_from = NOON + random.choice([-60, -45, -30, -10, 5]) * MINUTE
        loads.append((valid_from, now, models))
        load_devices(lake, models, valid_from=valid_from, known_at=now)
        for minutes in random.sample(range(-30, 60), 12):
            hub.send([body(reading(minutes, 100, device=random.randrange(10, 14)))], now, random.randrange(2))
        run_session(lake, hub, clock=ticking(now + 4 * SECOND, step=3 * SECOND))
    streamed = everything(lake)
    pulled = {(row["partition"], row["sequence_number"]): row["pulled_at"] for row in streamed["bronze"]}
    for row in streamed["silver"]:
        at = pulled[row["partition"], row["sequence_number"]]
        assert row["device_model"] == plainly(loads, row["device_id"], row["measured_at"], at)
    assert len({row["device_model"] for row in streamed["silver"]}) > 8
    # What is known later changes nothing that was decided.
    load_devices(lake, dict.fromkeys(range(10, 14), "later"), known_at=NOON + timedelta(hours=1))
    make_anew(lake)
    assert everything(lake) == streamed


def test_a_version_counts_only_once_every_session_must_know_it(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub()
    load_devices(lake, {10: "One"}, known_at=NOON)
    for number, after in enumerate((SAFETY_DELAY - SECOND, SAFETY_DELAY)):
        hub.send([body(reading(number))], NOON)
        run_session(lake, hub, clock=ticking(NOON + after, step=timedelta(0)))
    assert rows(lake, "silver")["device_model"].to_list() == [None, "One"]


def test_a_version_that_is_loaded_while_a_session_runs_reaches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrichment, "REFRESH_EVERY_S", 0.01)
    lake, hub, stop = lake_in(tmp_path), hub_with([body(reading(0))]), threading.Event()
    clock = ticking(NOON, step=timedelta(milliseconds=20))
    session = threading.Thread(target=run_session, args=(lake, hub), kwargs=_until(stop, clock))
    session.start()
    try:
        wait_until(lambda: lake.table(CONTRACT.tables.silver).count(), "the first reading is not stored")
        load_devices(lake, {10: "One"}, valid_from=LONG_AGO, known_at=NOON - SAFETY_DELAY)
        numbers = iter(range(1, 100_000))

        def is_known() -> bool:
            hub.send([body(reading(next(numbers) / 100))], NOON)
            return bool(rows(lake, "silver")["device_model"].drop_nulls().len())

        wait_until(is_known, "the version does not reach the session")
    finally:
        stop.set()
        session.join()
    assert rows(lake, "silver")["device_model"][0] is None


def _until(stop: threading.Event, clock: Any) -> dict[str, Any]:
    limits = SessionLimits(trigger_s=0.01, commit_interval_s=0)
    return {"limits": limits, "should_stop": stop.is_set, "clock": clock}


class Listening(Observer):
    """Keeps what it is told of reference data."""

    def __init__(self) -> None:
        super().__init__(CONTRACT.stream)
        self.failures: list[tuple[str, str]] = []

    def reference_failed(self, table: str, failure: str) -> None:
        self.failures.append((table, failure))


def test_a_table_that_cannot_be_read_holds_up_no_session_but_a_rebuild(tmp_path: Path) -> None:
    class OtherDevices(dy.Schema):
        """Another type."""

        device_id = dy.String(nullable=False)

    lake, observer = lake_in(tmp_path), Listening()
    lake.table(Table(DEVICES.table.name, OtherDevices)).ensure()
    load_patients(lake, {"patient_id": 1, "care_team": "north"})
    totals = run_session(lake, hub_with([body(reading(0))]), observer=observer)
    assert (totals.silver, totals.reference_missing) == (1, 0)
    assert told(lake) == [(None, None, "north")]
    assert observer.failures == [("reference/devices", "SchemaError")]
    with pytest.raises(SchemaError, match="reference/devices"):
        rebuild(CONTRACT, lake, NOON.date())
    assert told(lake) == [(None, None, "north")]


def test_a_table_is_read_again_only_when_it_has_changed(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    references = References(CONTRACT, lake)
    references.refresh()
    assert references.versions() == {}
    load_devices(lake, {10: "One"})
    references.refresh()
    first = references.versions()[key_of(OF_DEVICE)]
    references.refresh()
    assert references.versions()[key_of(OF_DEVICE)] is first
    load_devices(lake, {10: "Two"})
    references.refresh()
    assert references.versions()[key_of(OF_DEVICE)].versions["model"].to_list() == ["One", "Two"]
    lake.table(DEVICES.table).lake.remove()
    references.refresh()
    assert references.versions() == {}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (Enrichment(DEVICES.table, "device_id", {"colour": "model"}), "colour is no column of silver; declare it"),
        (
            Enrichment(DEVICES.table, "device_id", {"device_model": "colour"}),
            "colour is no column of refer",
        ),
        (Enrichment(DEVICES.table, "location", {"device_model": "model"}), "location is no Int64 of silver"),
        (Enrichment(CONTRACT.tables.silver, "device_id", {"age_years": "location"}), "age_years has another type"),
        (Enrichment(DEVICES.table, "device_id", {"glucose_mg_dl": "model"}), "glucose_mg_dl is a key, a value, the"),
        (Enrichment(DEVICES.table, "device_id", {"hub_epoch": "patient_id"}), "hub_epoch is a key, a value, the"),
        (Enrichment(DEVICES.table, "device_id", {"range_flag": "model"}), None),
        (Enrichment(CONTRACT.tables.alerts, "sequence_number", {"care_team": "rule"}), None),
    ],
)
def test_a_mistake_in_a_declaration_is_found_when_it_is_made(changed: Enrichment, message: str | None) -> None:
    if message is None:
        with pytest.raises(ContractError, match="or taken from another table already"):
            replace(CONTRACT, enrich=(changed, changed))
        replace(CONTRACT, enrich=(changed,))
        return
    with pytest.raises(ContractError, match=rf"Stream 'glucose_readings': enrich: {message}"):
        replace(CONTRACT, enrich=(changed,))


@pytest.mark.parametrize(
    "compute",
    [
        lambda rows: rows["purchase_date"].dt.year(),
        lambda rows: rows["model"].str.len_bytes(),
        lambda rows: pl.Series([1, 2, 3]),
    ],
)
def test_a_computed_column_is_proved(compute: Any) -> None:
    wrong = Enrichment(DEVICES.table, "device_id", {"age_years": Derived(("purchase_date",), compute)})
    others = Enrichment(PATIENTS.table, "patient_id", {"care_team": "care_team"})
    with pytest.raises(ContractError, match=r"a synthetic reading fails with .* Mend the contract's enrich"):
        prove(replace(CONTRACT, enrich=(OF_DEVICE, wrong, others)))
