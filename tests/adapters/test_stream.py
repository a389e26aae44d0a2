"""Foreign bodies beside the stream's own: in sessions, in rebuilds, and after ids became known."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assets.adapters.files import Part
from assets.adapters.formats import declared
from assets.devices.assets import CONTRACT as DEVICES
from assets.glucose.assets import CONTRACT
from assets.reference.tables import IDENTITY
from assets.reference_store import put
from assets.stream.checks import evaluate
from assets.stream.contract import Adapted, AdaptedReadings, Contract, Utc
from assets.stream.rebuild import rebuild, replay
from assets.stream.rederive import derive, swap
from assets.stream.store import StreamStore
from assets.vitals.assets import CONTRACT as VITALS
from orchestration.asking import analytics
from resources.lake import Lake
from resources.settings import Settings
from tests.adapters.samples_as_events import BINDINGS, SAMPLES
from tests.adapters.world import identity_rows, load_identity
from tests.stream.hubs import MemoryHub
from tests.stream.scenarios import AT_THE_END, NOON, body, lake_in, reading, run_session, ticking
from tests.stream.tables import everything, rows

pytestmark = pytest.mark.slow

TODAY = NOON.date()
FORMATS = {
    "nightscout_entries.json": "nightscout",
    "dexcom_clarity_en.csv": "clarity",
    "libreview_de.csv": "libreview",
    "apple_export.xml": "apple-health",
    "nightscout_devicestatus.json": "nightscout",
}


def imported(name: str) -> bytes:
    """A sample as `pulselake import` publishes it."""
    content = (SAMPLES / name).read_text(encoding="utf-8-sig")
    [of] = declared(FORMATS[name])
    part = Part(of, content if of.is_text else json.loads(content), 0)
    return part.event({"binding": BINDINGS[name]}, "file")


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def mixed_hub(*, take: int = 1_000_000) -> MemoryHub:
    """Readings of devices between bodies of other systems, of which several came twice."""
    own = [body(reading(minute, 90 + minute)) for minute in range(20)]
    foreign = [
        sample("dexcom_v3_egvs.json"),
        imported("nightscout_entries.json"),
        sample("cloudevents_batch.json"),
        b"not json",
        imported("dexcom_clarity_en.csv"),
        sample("fhir_bundle.json"),
        imported("libreview_de.csv"),
        sample("eventgrid_telemetry.json"),
        sample("dexcom_v3_egvs.json"),
    ]
    hub = MemoryHub(take=take)
    for number, some in enumerate([*own[:5], *foreign, *own[5:], *foreign[:2]]):
        hub.send([some], NOON - timedelta(minutes=20) + timedelta(seconds=number), number % 2)
    return hub


def known(folder: Path) -> Lake:
    lake = lake_in(folder)
    load_identity(lake)
    return lake


def balance(lake: Lake, contract: Contract = CONTRACT) -> dict[str, Any]:
    [found] = [each for each in evaluate(StreamStore(contract, lake), TODAY, NOON) if each.name == "counts_reconcile"]
    assert found.passed, found.counts
    return dict(found.counts)


def test_foreign_bodies_come_in_beside_the_streams_own_and_each_record_is_accounted_for(tmp_path: Path):
    lake, hub = known(tmp_path), mixed_hub()
    totals = run_session(lake, hub)
    counts = balance(lake)
    assert counts["skipped"] == totals.skipped == sum(totals.skipped_kinds.values()) > 0
    assert totals.skipped_kinds["calibration"] == 3
    assert totals.skipped_kinds["other_stream:vitals"] > 0
    silver = rows(lake, "silver")
    assert {"nightscout", "dexcom", "abbott", "azure-iot", "fhir", None} == {*silver["record_system"]}
    # What came twice stands once.
    assert silver.select("patient_id", "device_id", "measured_at").is_duplicated().sum() == 0
    assert totals.duplicates == counts["duplicates"] > 9
    # Bronze has the bodies as they came.
    sent = {text.decode() for _, text in [*hub.partitions[0], *hub.partitions[1]]}
    assert {*rows(lake, "bronze")["body"]} == sent
    # Alerts are raised on foreign readings too.
    assert {103, 101} <= {*rows(lake, "alerts")["patient_id"]}


def test_small_micro_batches_restarts_and_rebuilds_give_the_same_rows(tmp_path: Path):
    at_once, in_steps = known(tmp_path / "one"), known(tmp_path / "two")
    run_session(at_once, mixed_hub(), limits=AT_THE_END)
    hub = mixed_hub(take=1)
    for _ in range(3):
        run_session(in_steps, hub, limits=replace(AT_THE_END, max_duration_s=0))
    run_session(in_steps, hub, clock=ticking(NOON + timedelta(minutes=1)))
    key = ["patient_id", "device_id", "measured_at", "glucose_mg_dl", "range_flag", "record_id"]
    assert rows(at_once, "silver").select(key).sort(key).equals(rows(in_steps, "silver").select(key).sort(key))
    for lake in (at_once, in_steps):
        before, counts = everything(lake), balance(lake)
        rebuilt = rebuild(CONTRACT, lake, TODAY)
        assert rebuilt.before == rebuilt.after
        assert everything(lake) == before
        assert balance(lake) == counts


def test_tables_that_are_derived_anew_are_the_same(tmp_path: Path):
    lake = known(tmp_path)
    run_session(lake, mixed_hub())
    before, counts = everything(lake), balance(lake)
    derive(CONTRACT, lake)
    swap(CONTRACT, lake)
    assert everything(lake) == before
    assert balance(lake) == counts


@pytest.mark.parametrize("contract", [VITALS, DEVICES], ids=lambda contract: contract.stream)
def test_other_streams_take_their_records_of_the_same_bodies(contract: Contract, tmp_path: Path):
    lake, hub = known(tmp_path), MemoryHub(name=contract.stream)
    names = ("apple_export.xml", "nightscout_devicestatus.json")
    hub.send([*map(imported, names), sample("iot_central.json")], NOON - timedelta(minutes=1))
    totals = run_session(lake, hub, contract=contract)
    assert balance(lake, contract)["skipped"] == totals.skipped
    silver = rows(lake, "silver", contract)
    assert {*silver["record_system"]} == ({"apple", "azure-iot"} if contract is VITALS else {"nightscout", "azure-iot"})
    if contract is DEVICES:
        assert silver["firmware_version"].null_count() == silver.height == 4
    before = everything(lake, contract)
    rebuild(contract, lake, TODAY)
    assert everything(lake, contract) == before


def test_an_unknown_id_waits_in_quarantine_and_a_replay_lets_it_in(tmp_path: Path):
    lake, hub = lake_in(tmp_path), MemoryHub()
    hub.send([sample("dexcom_v3_egvs.json"), body(reading(0, 100))], NOON - timedelta(minutes=1))
    run_session(lake, hub)
    assert rows(lake, "quarantine")["reason"].value_counts(sort=True).rows() == [
        ("unknown_patient", 8),
        ("bad_type:unit", 1),
        ("missing_field:value", 1),
    ]
    assert replay(CONTRACT, lake) == []
    load_identity(lake, loaded_at=NOON + timedelta(hours=1))
    [changed] = replay(CONTRACT, lake)
    assert (changed.before["silver"], changed.after["silver"]) == (1, 9)
    assert changed.new_alerts > 0
    assert {*rows(lake, "quarantine")["reason"]} == {"bad_type:unit", "missing_field:value"}
    balance(lake)
    assert replay(CONTRACT, lake) == []


def test_a_device_belongs_to_whom_it_was_assigned_when_it_measured(tmp_path: Path):
    lake, hub = lake_in(tmp_path), MemoryHub()
    of_device = identity_rows().filter(system="azure-iot", foreign_id="cgm-0001")
    at = datetime.fromisoformat("2026-06-01T09:03:00+00:00")
    load_identity(lake, of_device)
    put(lake, IDENTITY, of_device.with_columns(patient_of_device=pl.lit(7, pl.Int64)), valid_from=at, clock=lambda: at)
    hub.send([sample("eventgrid_telemetry.json")], NOON - timedelta(minutes=1))
    run_session(lake, hub)
    found = rows(lake, "silver").sort("measured_at").select("patient_id", "device_id").rows()
    assert found == [(115, 9901), (7, 9901), (7, 9901)]


def test_a_failing_adapter_costs_its_own_event_only(tmp_path: Path):
    def fails_on_dexcom(events, identities):
        assert all(b"recordType" not in (body or b"") for body in events.bodies)
        nothing = AdaptedReadings([], [], pl.Series([], dtype=Utc), {})
        return Adapted([1] * len(events.numbers), nothing, [], [], [(event, "seen") for event in events.numbers])

    adaptation = CONTRACT.adaptation
    assert adaptation is not None
    contract = replace(CONTRACT, adaptation=replace(adaptation, adapt=fails_on_dexcom))
    lake, hub = lake_in(tmp_path), MemoryHub()
    hub.send([b"x", sample("dexcom_v3_egvs.json"), body(reading(0, 100)), b"not json"], NOON - timedelta(minutes=1))
    totals = run_session(lake, hub, contract=contract)
    assert rows(lake, "quarantine")["reason"].to_list() == ["failed:AssertionError"]
    assert (totals.silver, totals.skipped_kinds) == (1, {"seen": 2})


def test_which_devices_are_not_known_can_be_asked_as_the_docs_say(tmp_path: Path):
    text = (Path(__file__).parents[2] / "docs/reasons.md").read_text().split("### Which ids are not known")[1]
    query = text.split('pulselake sql "')[1].split('"\n```')[0]
    lake = known(tmp_path)
    entries = [{"sgv": 100, "date": 1780301700000 + n, "device": name} for n, name in enumerate(["new", "meter-x1"])]
    attributes = {"specversion": "1.0", "type": "pulselake.record", "source": "x", "id": "1", "binding": "ns-site-a"}
    hub = MemoryHub()
    hub.send([json.dumps(attributes | {"format": "nightscout", "data": entries}).encode()], NOON)
    run_session(lake, hub)
    assert analytics(lake, Settings()).query(query).rows() == [("new",)]
