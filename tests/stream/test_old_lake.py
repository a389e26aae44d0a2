"""What version 0.1 wrote is continued, rebuilt, replayed and made anew by today's code; nothing is lost or doubled."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from assets.devices.assets import CONTRACT as DEVICES
from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.stream.contract import Contract
from assets.stream.rebuild import days_to_replay, rebuild
from assets.stream.rederive import derive, swap
from resources.lake import Lake
from tests.reference.values import load_devices
from tests.resources.old_lake import old_lake
from tests.stream import oracle
from tests.stream.hubs import MemoryHub, MemoryPublisher
from tests.stream.scenarios import NOON, body, reading, run_session, ticking
from tests.stream.tables import assert_exact, everything, rows

STREAMS = [(GLUCOSE, oracle.GLUCOSE), (DEVICES, oracle.DEVICES)]
LATER = NOON + timedelta(minutes=10)
POSITION = ["partition", "sequence_number"]


def hub_of(lake: Lake, contract: Contract) -> MemoryHub:
    """The hub that the lake was read from, with all its events."""
    hub = MemoryHub(contract.stream)
    for row in lake.table(contract.tables.bronze).scan().sort(POSITION).collect().iter_rows(named=True):
        sent = row["body_bytes"] if row["body_bytes"] is not None else row["body"].encode()
        hub.send([sent], row["received_at"], row["partition"])
    return hub


@pytest.mark.parametrize(("contract", "domain"), STREAMS, ids=["glucose", "devices"])
def test_a_session_goes_on_where_the_old_version_ended(
    tmp_path: Path, contract: Contract, domain: oracle.Domain
) -> None:
    lake = old_lake(tmp_path)
    hub, publisher = hub_of(lake, contract), MemoryPublisher()
    before = everything(lake, contract)
    assert run_session(lake, hub, contract=contract, clock=ticking(LATER), publisher=publisher).events == 0
    assert publisher.published == []
    assert everything(lake, contract) == before
    repeated = rows(lake, "bronze", contract)["body"].drop_nulls()[0].encode()
    hub.send([repeated], LATER)
    totals = run_session(lake, hub, contract=contract, clock=ticking(LATER + timedelta(minutes=1)))
    assert (totals.events, totals.silver) == (1, 0)
    old = rows(lake, "bronze", contract).filter(pl.col("hub_epoch").is_null())
    assert old.height == len(before["bronze"])
    assert not days_to_replay(contract, lake) or days_to_replay(contract, lake) == [NOON.date()]


def test_readings_that_come_after_say_what_reference_data_know_and_the_old_ones_nothing(tmp_path: Path) -> None:
    lake = old_lake(tmp_path)
    hub = hub_of(lake, GLUCOSE)
    before = rows(lake, "silver")
    load_devices(lake, {10: "One"})
    hub.send([body(reading(30, 47))], LATER)
    totals = run_session(lake, hub, clock=ticking(LATER))
    assert (totals.events, totals.silver) == (1, 1)
    after = rows(lake, "silver")
    assert after.filter(pl.col("device_model").is_null()).equals(before)
    assert after["device_model"].drop_nulls().to_list() == ["One"]
    rebuild(GLUCOSE, lake, NOON.date())
    assert rows(lake, "silver")["device_model"].drop_nulls().to_list() == ["One"]


def of_a_rebuild(contract: Contract, lake: Lake) -> None:
    rebuild(contract, lake, NOON.date())


def of_a_rederivation(contract: Contract, lake: Lake) -> None:
    derive(contract, lake)
    swap(contract, lake)


@pytest.mark.parametrize("make_anew", [of_a_rebuild, of_a_rederivation])
@pytest.mark.parametrize(("contract", "domain"), STREAMS, ids=["glucose", "devices"])
def test_a_day_that_is_made_anew_is_what_todays_rules_say(
    tmp_path: Path, contract: Contract, domain: oracle.Domain, make_anew: Callable[[Contract, Lake], None]
) -> None:
    lake = old_lake(tmp_path)
    hub = hub_of(lake, contract)
    make_anew(contract, lake)
    assert_exact(lake, hub, contract, domain)
    if contract is GLUCOSE:
        hub.send([body(reading(30, 47)), body(reading(30, 47)), body(reading(30, 90))], LATER)
    run_session(lake, hub, contract=contract, clock=ticking(LATER))
    assert_exact(lake, hub, contract, domain)
