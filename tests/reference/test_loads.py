"""Loads into a lake: what they add, and what holds afterwards."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from assets.reference.tables import DEVICES, PATIENTS, REFERENCES
from assets.reference_store import ChangedMeanwhileError, ReferenceClockError, held, is_empty, put
from orchestration.asking import analytics
from resources.lake import Lake
from resources.settings import Settings
from tests.reference.values import LONG_AGO, load_devices, load_patients

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path))


def models(lake: Lake, after: timedelta) -> dict[int, str]:
    return dict(held(lake, DEVICES, LONG_AGO + after).select("device_id", "model").iter_rows())


def test_a_load_adds_what_differs_and_a_second_one_nothing(lake: Lake) -> None:
    assert is_empty(lake, DEVICES)
    assert load_devices(lake, {1: "a", 2: "b"})[1:] == (2, 0, 0, 0)
    version = lake.table(DEVICES.table).version()
    assert load_devices(lake, {1: "a", 2: "b"}, known_at=LONG_AGO + DAY)[1:] == (0, 0, 0, 2)
    assert lake.table(DEVICES.table).version() == version
    changed = load_devices(lake, {1: "a", 2: "c", 3: "d"}, valid_from=LONG_AGO + DAY, changed_by="someone")
    assert changed[1:] == (1, 1, 0, 1)
    assert changed.rows["changed_by"].to_list() == ["someone", "someone"]
    assert models(lake, DAY - timedelta(seconds=1)) == {1: "a", 2: "b"}
    assert models(lake, DAY) == {1: "a", 2: "c", 3: "d"}
    assert not is_empty(lake, DEVICES)


def test_a_load_that_replaces_ends_what_it_does_not_have(lake: Lake) -> None:
    load_devices(lake, {1: "a", 2: "b"})
    ended = load_devices(lake, {2: "b"}, valid_from=LONG_AGO + DAY, replaces=True)
    assert ended[1:] == (0, 0, 1, 1)
    assert ended.rows.select("device_id", "model", "is_deleted").rows() == [(1, None, True)]
    assert (models(lake, timedelta(0)), models(lake, DAY)) == ({1: "a", 2: "b"}, {2: "b"})
    assert load_devices(lake, {2: "b"}, valid_from=LONG_AGO + DAY, replaces=True)[1:] == (0, 0, 0, 1)
    assert load_devices(lake, {1: "a", 2: "b"}, valid_from=LONG_AGO + 2 * DAY)[1:] == (1, 0, 0, 1)
    assert models(lake, 2 * DAY) == {1: "a", 2: "b"}


def put_device(lake: Lake, model: str, seen: datetime | None, clock: Callable[[], datetime]) -> None:
    schema = {name: DEVICES.table.schema[name] for name in DEVICES.cells}
    rows = pl.DataFrame([{"device_id": 1, "model": model}], schema=schema)
    put(lake, DEVICES, rows, valid_from=LONG_AGO + DAY, clock=clock, seen={1: seen})


def test_what_an_editor_has_not_seen_is_not_overwritten_even_if_it_comes_just_before_the_commit(lake: Lake) -> None:
    load_devices(lake, {1: "a", 2: "b"})
    [seen] = held(lake, DEVICES, LONG_AGO + DAY).filter(pl.col("device_id") == 1)["known_at"]

    def meanwhile() -> datetime:
        # The other one comes after the look at what holds, and before the commit.
        if models(lake, DAY)[1] == "a":
            load_devices(lake, {1: "other"}, known_at=LONG_AGO + DAY, changed_by="someone")
        return LONG_AGO + DAY

    with pytest.raises(ChangedMeanwhileError, match=r"devices: device_id 1 was changed by someone since"):
        put_device(lake, "mine", seen, meanwhile)
    assert models(lake, DAY) == {1: "other", 2: "b"}
    with pytest.raises(ChangedMeanwhileError):
        put_device(lake, "mine", None, lambda: LONG_AGO + DAY)
    [seen] = held(lake, DEVICES, LONG_AGO + DAY).filter(pl.col("device_id") == 1)["known_at"]
    put_device(lake, "mine", seen, lambda: LONG_AGO + DAY)
    assert models(lake, DAY) == {1: "mine", 2: "b"}
    load_devices(lake, {2: "b"}, valid_from=LONG_AGO + DAY, known_at=LONG_AGO + DAY, replaces=True)
    with pytest.raises(ChangedMeanwhileError):
        put_device(lake, "again", seen, lambda: LONG_AGO + DAY)
    assert models(lake, DAY) == {2: "b"}


def test_a_backdated_version_holds_until_the_next_and_a_correction_takes_the_place_of_one(lake: Lake) -> None:
    load_devices(lake, {1: "first"})
    load_devices(lake, {1: "third"}, valid_from=LONG_AGO + 4 * DAY)
    load_devices(lake, {1: "second"}, valid_from=LONG_AGO + 2 * DAY)
    load_devices(lake, {1: "corrected"}, valid_from=LONG_AGO)
    assert [models(lake, days * DAY)[1] for days in (0, 1, 2, 3, 4)] == [
        "corrected",
        "corrected",
        "second",
        "second",
        "third",
    ]


def test_knowledge_grows_also_where_the_clock_does_not(lake: Lake) -> None:
    load_devices(lake, {1: "a"})
    load_devices(lake, {1: "b"}, known_at=LONG_AGO - timedelta(minutes=1))
    load_devices(lake, {1: "c"}, known_at=LONG_AGO)
    known = lake.table(DEVICES.table).scan().collect().sort("known_at")
    assert known["model"].to_list() == ["a", "b", "c"]
    assert known["known_at"].n_unique() == 3
    with pytest.raises(ReferenceClockError, match="Nothing was written"):
        load_devices(lake, {1: "d"}, known_at=LONG_AGO - timedelta(hours=1))


def test_loads_at_once_add_each_thing_once(lake: Lake) -> None:
    load_devices(lake, {0: "a"})
    failures: list[Exception] = []

    def run(number: int) -> None:
        try:
            load_devices(lake, {0: "a", 100: "shared", number: "own"})
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    rows = lake.table(DEVICES.table).scan().collect()
    assert sorted(rows["device_id"]) == [0, 1, 2, 3, 4, 100]
    assert lake.table(DEVICES.table).transactions(["reference/devices/loads"]) == {"reference/devices/loads": 5}


def test_many_loads_leave_few_files(lake: Lake) -> None:
    for number in range(45):
        load_devices(lake, {number: "a"})
    table = lake.table(DEVICES.table)
    assert table.files().height < 30
    assert table.count() == 45


def test_sql_has_the_versions_and_what_holds_now(lake: Lake) -> None:
    asked = analytics(lake, Settings())
    for each in REFERENCES:
        assert asked.query(f"FROM {each.table.sql_name}").schema == each.table.schema
        assert asked.query(f"FROM reference.current_{each.short}").is_empty()
    load_patients(lake, {"patient_id": 1, "groups": "a;icu"}, {"patient_id": 2, "groups": "a"}, {"patient_id": 3})
    load_patients(lake, {"patient_id": 1, "groups": "icu"}, {"patient_id": 2}, valid_from=LONG_AGO + DAY, replaces=True)
    load_patients(lake, {"patient_id": 2, "groups": "later"}, valid_from=LONG_AGO + 36500 * DAY)
    asked = analytics(lake, Settings())
    assert asked.query("SELECT count(*) FROM reference.patients").item() == 7
    now = asked.query("SELECT patient_id, groups FROM reference.current_patients ORDER BY patient_id")
    assert now.rows() == [(1, "icu"), (2, None)]
    in_icu = "SELECT patient_id FROM reference.current_patients WHERE list_contains(string_split(groups, ';'), 'icu')"
    assert asked.query(in_icu).to_series().to_list() == [1]
    assert held(lake, PATIENTS, LONG_AGO)["groups"].to_list() == ["a;icu", "a", None]
    assert pl.Series(["valid_from", "known_at"]).is_in(asked.query("FROM reference.current_patients").columns).all()
