"""A hub that was recreated is accepted: sequence numbers begin anew, nothing is lost or doubled."""

from datetime import timedelta
from pathlib import Path

import pytest

from assets.glucose.assets import CONTRACT
from assets.stream.checks import evaluate
from assets.stream.rebuild import days_to_replay, rebuild
from assets.stream.session import HubRecreatedError
from assets.stream.store import StreamStore
from orchestration.backlog import backlog
from resources.event_source import HubState
from resources.lake import ConcurrentWriteError, Lake
from tests.stream.hubs import MemoryHub
from tests.stream.scenarios import NOON, body, hub_with, lake_in, reading, run_session, ticking, troubled_bodies
from tests.stream.tables import everything, rows

pytestmark = pytest.mark.slow


def recreated(bodies: list[bytes], identity: int = 2) -> MemoryHub:
    hub = hub_with(bodies)
    hub.identity = identity
    return hub


def accept(lake: Lake, hub: MemoryHub) -> int:
    store = StreamStore(CONTRACT, lake)
    store.look(hub.state().tails)
    return store.log.accept(hub.state())


def test_the_new_hub_is_read_from_its_beginning_and_the_old_rows_stay(tmp_path: Path) -> None:
    lake, first = lake_in(tmp_path), hub_with(troubled_bodies(60))
    run_session(lake, first)
    before = everything(lake)
    # The same readings once more, as of a hub that was copied, and new ones.
    second = recreated([*troubled_bodies(60), *troubled_bodies(40, seed=3)])
    with pytest.raises(HubRecreatedError, match="hubs accept"):
        run_session(lake, second, clock=ticking(NOON + timedelta(minutes=1)))
    assert accept(lake, second) == 1
    run_session(lake, second, clock=ticking(NOON + timedelta(minutes=2)))
    bronze = rows(lake, "bronze")
    assert bronze["hub_epoch"].value_counts().sort("hub_epoch")["count"].to_list() == [66, 110]
    assert bronze.select("hub_epoch", "partition", "sequence_number").is_unique().all()
    assert rows(lake, "silver").select("patient_id", "device_id", "measured_at").is_unique().all()
    for table, old in before.items():
        assert [row for row in everything(lake)[table] if row["hub_epoch"] == 0] == old
    findings = {each.name: each for each in evaluate(StreamStore(CONTRACT, lake), NOON.date(), NOON)}
    assert [name for name, each in findings.items() if not each.passed and each.is_error] == []


def test_a_day_with_two_hubs_is_rebuilt_and_replayed_as_it_was_streamed(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    run_session(lake, hub_with([*troubled_bodies(60), b"not json"]))
    second = recreated([b"not json", *troubled_bodies(80, seed=5)])
    accept(lake, second)
    run_session(lake, second, clock=ticking(NOON + timedelta(minutes=2)))
    streamed = everything(lake)
    rebuild(CONTRACT, lake, NOON.date())
    assert everything(lake) == streamed
    assert days_to_replay(CONTRACT, lake) == []
    run_session(lake, second, clock=ticking(NOON + timedelta(minutes=4)))
    assert everything(lake) == streamed


def test_what_the_old_hub_left_in_bronze_is_processed_before_and_after_the_new_one_is_accepted(tmp_path: Path) -> None:
    lake, first = lake_in(tmp_path), hub_with(troubled_bodies(60))
    run_session(lake, first)
    whole = everything(lake)
    crashed = lake_in(tmp_path / "crashed")
    store = StreamStore(CONTRACT, crashed)
    store.open([0, 1])
    store.commit_bronze(rows(lake, "bronze"), HubState(1, {}))
    accept(crashed, recreated([]))
    second = recreated([body(reading(5, 300))])
    run_session(crashed, second, clock=ticking(NOON + timedelta(minutes=2)))
    of_the_first = [row for row in everything(crashed)["silver"] if row["hub_epoch"] == 0]
    assert of_the_first == whole["silver"]
    assert rows(crashed, "silver").height == len(whole["silver"]) + 1


def test_what_the_old_hub_left_in_bronze_is_behind_until_a_session_has_processed_it(tmp_path: Path) -> None:
    lake, first = lake_in(tmp_path), hub_with(troubled_bodies(60))
    run_session(lake, first)
    crashed = lake_in(tmp_path / "crashed")
    store = StreamStore(CONTRACT, crashed)
    store.open([0, 1])
    store.commit_bronze(rows(lake, "bronze"), HubState(1, {}))
    second = recreated([])
    accept(crashed, second)
    assert backlog(CONTRACT, crashed, second).events == 66
    run_session(crashed, second, clock=ticking(NOON + timedelta(minutes=2)))
    assert backlog(CONTRACT, crashed, second).events == 0


def test_a_session_that_reads_the_old_hub_is_ended_by_the_acceptance(tmp_path: Path) -> None:
    lake, first = lake_in(tmp_path), hub_with(troubled_bodies(60), take=5)
    run_session(lake, first)
    first.send(troubled_bodies(20, seed=2), NOON)

    accepted: list[int] = []

    def accept_meanwhile() -> bool:
        if not accepted:
            accepted.append(accept(lake, recreated([])))
        return False

    with pytest.raises(ConcurrentWriteError):
        run_session(lake, first, clock=ticking(NOON + timedelta(minutes=2)), should_stop=accept_meanwhile)
    assert rows(lake, "bronze")["hub_epoch"].unique().to_list() == [0]


def test_three_hubs_in_a_row_keep_their_offsets_apart(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    for number in range(3):
        hub = recreated(troubled_bodies(30, seed=number), identity=number + 1)
        if number:
            assert accept(lake, hub) == number
        run_session(lake, hub, clock=ticking(NOON + timedelta(minutes=number)))
        assert run_session(lake, hub, clock=ticking(NOON + timedelta(minutes=number, seconds=30))).events == 0
    assert rows(lake, "bronze")["hub_epoch"].value_counts()["count"].to_list() == [33, 33, 33]
