"""From bronze to silver and gold: what changed is made anew, and a second time nothing is."""

import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from assets.clinical.sources import EHR, GOLD, TELEMETRY, Derived
from assets.clinical.sources import source as of
from assets.clinical_layers import Gold
from resources.batch_source import Pulled, SqlTable, frame_of
from resources.batch_sql import SqlSource
from resources.lake import Lake
from tests.clinical.hospital import NOON, Database, loader, reading, silver

# Each makes several tables of a lake, so all of them together take longer than a quick check may.
pytestmark = pytest.mark.slow

BY_NAME = {each.table.name.removeprefix("gold/"): each for each in GOLD}


class KilledError(Exception):
    """Stands for the end of the process: nothing behind it runs."""


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path)


def told(device: int, at: str, status: str = "online", **more: Any) -> dict[str, Any]:
    return {
        "device_id": device,
        "recorded_at": at,
        "received_at": at,
        "device_status": status,
        "battery_percent": 80.0,
        "signal_dbm": -60.0,
        "firmware_version": "1.0",
    } | more


def rows(lake: Lake, name: str = "ehr") -> pl.DataFrame:
    table = lake.table(of(name).silver)
    return table.scan().sort(of(name).key).collect()


def refresh(lake: Lake, database: Database, now: Any = NOON) -> None:
    loader(lake, database.batch, now).load(database.source())
    silver(lake, database.batch).refresh()


def test_of_several_rows_with_one_key_the_latest_load_stands(lake, database):
    database.insert(*(reading(number) for number in range(10)))
    refresh(lake, database)
    database.execute("UPDATE EHR SET reading = 150, updated_at = '2026-11-19 00:00:00' WHERE id = 3")
    database.insert(reading(50, patient_id=reading(4)["patient_id"], timestamp=reading(4)["timestamp"], reading=160))
    refresh(lake, database)
    found = rows(lake)
    assert found.height == 10
    assert found.filter(pl.col("reading") >= 150)["reading"].to_list() == [150.0, 160.0]


def test_bronze_is_silver_and_quarantine_and_what_was_superseded(lake, database):
    database.insert(*(reading(number) for number in range(20)))
    database.insert(
        reading(20, reading=None),
        reading(21, reading="n/a"),
        reading(22, timestamp="yesterday"),
        reading(23, reading=99_999),
        reading(24, patient_id=reading(0)["patient_id"], timestamp=reading(0)["timestamp"]),
    )
    refresh(lake, database)
    quarantine = lake.table(EHR.quarantine).scan().sort("row_number").collect()
    assert sorted(quarantine["reason"]) == [
        "bad_value:reading",
        "bad_value:timestamp",
        "implausible:reading",
        "missing:reading",
    ]
    assert rows(lake).height == 20
    bodies = {row["id"]: row for row in map(msgspec.json.decode, quarantine["body"])}
    assert bodies[21]["reading"] == "n/a"
    assert bodies[22]["timestamp"] == "yesterday"


def test_an_invalid_correction_takes_no_good_reading_away(lake, database):
    database.insert(reading(0))
    refresh(lake, database)
    database.execute("UPDATE EHR SET reading = NULL, updated_at = '2026-11-19 00:00:00' WHERE id = 0")
    refresh(lake, database)
    assert rows(lake)["reading"].to_list() == [100.0]
    assert lake.table(EHR.quarantine).count() == 1


def test_a_refresh_without_new_rows_writes_nothing(lake, database):
    database.insert(*(reading(number) for number in range(10)))
    refresh(lake, database)
    before = rows(lake)
    assert not silver(lake).is_due()
    done = silver(lake).refresh()
    assert (done.read, done.dates) == (0, 0)
    assert rows(lake).equals(before)


def test_readings_know_what_their_device_had_said_also_if_it_comes_later(lake, database):
    telemetry = Telemetry(database, lake)
    database.insert(reading(0, device_id=1001, timestamp="2026-11-15 00:30:00"))
    telemetry.load(told(1001, "2026-11-14T23:00:00+00:00", "poor_connection"))
    refresh(lake, database)
    assert rows(lake).select("device_status", "telemetry_age_s").row(0) == ("poor_connection", 5400.0)
    telemetry.load(told(1001, "2026-11-15T00:30:00+00:00"), told(1001, "2026-11-15T00:30:01+00:00", "offline"))
    assert silver(lake).is_due()
    silver(lake).refresh()
    assert rows(lake).select("device_status", "telemetry_age_s").row(0) == ("online", 0.0)
    assert rows(lake).height == 1


class Telemetry:
    """Rows of telemetry by the table of the same name: where they come from changes nothing behind bronze."""

    def __init__(self, database: Database, lake: Lake) -> None:
        self._database, self._lake = database, lake

    def load(self, *told: dict[str, Any]) -> None:
        self._database.insert(*told, table="telemetry")
        place = SqlTable("telemetry", "received_at")
        source = SqlSource("telemetry", self._database.url, "X", place, clock=lambda: NOON)
        loader(self._lake, TELEMETRY).load(source)
        silver(self._lake, TELEMETRY).refresh()


def test_a_late_reading_changes_what_is_an_outlier_on_later_dates(lake, database):
    # Five readings a day apart, of which the last one is far from the others only once there are enough of them.
    for number, value in enumerate((100.0, 101.0, 99.0, 200.0)):
        database.insert(reading(number, patient_id=1, timestamp=f"2026-11-{10 + number} 08:00:00", reading=value))
    refresh(lake, database)
    assert rows(lake)["robust_z"].null_count() == 4
    database.insert(reading(9, patient_id=1, timestamp="2026-11-05 08:00:00", reading=100.0))
    refresh(lake, database)
    found = rows(lake)
    assert found["is_outlier"].to_list() == [False, False, False, False, True]
    assert found["robust_z"].drop_nulls().to_list() == [pytest.approx(67.45)]


class Given:
    """A source that gives some rows."""

    def __init__(self, *given: dict[str, Any]) -> None:
        self._rows = frame_of(given)

    def pull(self, since: bytes | None) -> Iterator[Pulled]:
        yield Pulled(self._rows, b"")


def trial_entry(number: int, day: int, **more: Any) -> dict[str, Any]:
    entry = {"log_id": number, "trial_id": "T", "patient_id": 1, "logged_at": f"2026-11-{day} 08:00:00"}
    return entry | {"kind": "visit"} | more


def encounter(number: int, **more: Any) -> dict[str, Any]:
    return {"encounter_id": number, "patient_id": 1, "admitted_at": "2026-11-10", "department": "A"} | more


SPOILED = {
    "ehr": ([reading(0), reading(1)], [reading(0, reading=150.0), reading(2), reading(60)], "reading"),
    "trial_logs": (
        [trial_entry(0, 10), trial_entry(1, 11)],
        [trial_entry(0, 12), trial_entry(2, 11), trial_entry(3, 13)],
        "trial_id",
    ),
    "ehr_encounters": (
        [encounter(0), encounter(1)],
        [encounter(0, department="B"), encounter(2), encounter(3)],
        "patient_id",
    ),
}
"""By source: the rows of a load, those of the next one, and the column by which a row of that is spoiled."""


@pytest.mark.parametrize("name", SPOILED)
def test_a_rebuild_takes_out_of_silver_what_bronze_does_not_give_any_more(lake, tmp_path, name):
    first, second, column = SPOILED[name]
    batch = of(name)
    for back, given in ((1, first), (0, second)):
        loader(lake, batch, NOON - timedelta(days=back)).load(Given(*given))
        silver(lake, batch).refresh()
    gold = [each for each in GOLD if batch in each.sources]
    for each in gold:
        Gold(lake, each).refresh()
    assert sorted(rows(lake, name)["load_number"]) == [1, 2, 2, 2]
    # The second load is landed anew: the row that corrects another one is bad, and the last one is not there.
    [file] = Path(lake.root).glob(f"landing/{name}/load_date={NOON.date()}/*.parquet")
    landed = pl.read_parquet(file)
    bad = landed.head(1).with_columns(pl.lit(None, landed.schema[column]).alias(column))
    bad.vstack(landed.slice(1, 1)).write_parquet(file)
    versions = set[int | None]()
    for _ in range(2):
        loader(lake, batch).rebuild(NOON.date())
        silver(lake, batch).refresh()
        for each in gold:
            Gold(lake, each).refresh()
        versions.add(lake.table(batch.bronze).version())
    found = rows(lake, name)
    assert sorted(found["load_number"]) == [1, 1, 2]
    assert (lake.table(batch.quarantine).count(), len(versions)) == (1, 1)
    # Silver and gold are what they are when they are made anew.
    shutil.copytree(lake.root, tmp_path / "anew", ignore=shutil.ignore_patterns("silver", "quarantine", "gold"))
    anew = Lake(str(tmp_path / "anew"))
    silver(anew, batch).refresh()
    assert found.drop("revision").equals(rows(anew, name).drop("revision"))
    for each in gold:
        Gold(anew, each).refresh()
        assert stored(lake, each).equals(stored(anew, each)), each.table.name


def stored(lake: Lake, derived: Derived) -> pl.DataFrame:
    return lake.table(derived.table).scan().collect().sort(pl.all())


def everything(lake: Lake) -> dict[str, pl.DataFrame]:
    found = {"silver": rows(lake).drop("revision"), "quarantine": lake.table(EHR.quarantine).scan().collect()}
    for name in ("patient_monitoring", "patient_monitoring_by_kind"):
        table = lake.table(BY_NAME[name].table)
        found[name] = table.scan().collect().sort(pl.all())
    return found


def test_loads_in_any_pieces_and_orders_come_to_the_same(tmp_path):
    found = []
    for way, cuts in enumerate(((9,), (3, 9), tuple(range(1, 10)))):
        lake, database = Lake(str(tmp_path / f"lake{way}")), Database(_folder(tmp_path / str(way)))
        begun = 0
        for cut in cuts:
            database.insert(*(reading(number) for number in range(begun, cut)))
            refresh(lake, database)
            begun = cut
        for name in ("patient_monitoring", "patient_monitoring_by_kind"):
            Gold(lake, BY_NAME[name]).refresh()
        drop = ("load_number", "row_number", "load_id")
        found.append({name: frame.drop(drop, strict=False) for name, frame in everything(lake).items()})
    assert all(each["silver"].equals(found[0]["silver"]) for each in found)
    assert all(each["patient_monitoring"].equals(found[0]["patient_monitoring"]) for each in found)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("kill_at", [1, 2, 3])
def test_a_refresh_that_is_killed_is_done_by_the_next_one(lake, database, tmp_path, kill_at):
    lines = [*(reading(number) for number in range(40)), reading(41, reading=None)]
    database.insert(*lines)
    loader(lake).load(database.source())
    killed, steps = silver(lake), 0

    def kill(_: str) -> None:
        nonlocal steps
        steps += 1
        if steps == kill_at:
            raise KilledError

    killed.on_step = kill
    with pytest.raises(KilledError):
        killed.refresh()
    # Gold of what silver has so far must not hide what comes.
    for name in ("patient_monitoring", "patient_monitoring_by_kind"):
        Gold(lake, BY_NAME[name]).refresh()
    silver(lake).refresh()
    for name in ("patient_monitoring", "patient_monitoring_by_kind"):
        Gold(lake, BY_NAME[name]).refresh()
    whole = Lake(str(tmp_path / "whole"))
    loader(whole).load(database.source())
    silver(whole).refresh()
    for name in ("patient_monitoring", "patient_monitoring_by_kind"):
        Gold(whole, BY_NAME[name]).refresh()
    for name, frame in everything(whole).items():
        assert everything(lake)[name].drop("load_id", strict=False).equals(frame.drop("load_id", strict=False)), name


def test_gold_makes_just_the_dates_that_changed_and_a_backfill_changes_nothing(lake, database):
    database.insert(*(reading(number) for number in range(48)))
    refresh(lake, database)
    gold = Gold(lake, BY_NAME["patient_monitoring"])
    assert gold.pending() == {date(2026, 11, 10), date(2026, 11, 11), date(2026, 11, 12)}
    gold.refresh()
    assert gold.pending() == set()
    before = everything(lake)["patient_monitoring"]
    for _ in range(2):
        gold.refresh([date(2026, 11, 11)])
        assert everything(lake)["patient_monitoring"].equals(before)
    database.insert(reading(60, timestamp="2026-11-18 08:00:00"))
    refresh(lake, database)
    assert gold.pending() == {date(2026, 11, 18)}


def test_gold_has_the_figures_of_its_day(lake, database):
    values = (100.0, 110.0, 90.0, 100.0, 400.0)
    database.insert(
        *(
            reading(number, patient_id=7, timestamp=f"2026-11-12 0{number}:00:00", reading=value)
            for number, value in enumerate(values)
        ),
        reading(9, patient_id=7, timestamp="2026-11-12 09:00:00", kind="heart_rate", reading=70.0),
    )
    refresh(lake, database)
    Gold(lake, BY_NAME["patient_monitoring"]).refresh()
    Gold(lake, BY_NAME["patient_monitoring_by_kind"]).refresh()
    [row] = lake.table(BY_NAME["patient_monitoring"].table).scan().collect().iter_rows(named=True)
    assert row == {
        "patient_id": 7,
        "event_date": date(2026, 11, 12),
        "avg_reading": pytest.approx(145.0),
        "min_reading": 70.0,
        "max_reading": 400.0,
        "event_count": 6,
        "outlier_count": 1,
        "kind_count": 2,
    }
    by_kind = lake.table(BY_NAME["patient_monitoring_by_kind"].table).scan().sort("kind").collect()
    assert by_kind["avg_reading"].to_list() == [160.0, 70.0]


def test_a_row_whose_date_was_corrected_leaves_the_old_date(lake, tmp_path):
    logs = of("trial_logs")
    database = Database(tmp_path, logs)
    row = {"log_id": 1, "trial_id": "T", "logged_at": "2026-11-18 08:00:00", "kind": "adverse", "site": "Łódź"}
    database.insert(row, table="ResearchLogs")
    refresh(lake, database)
    database.execute("UPDATE ResearchLogs SET logged_at = '2026-11-19 08:00:00'")
    refresh(lake, database)
    assert rows(lake, "trial_logs")["event_date"].to_list() == [date(2026, 11, 19)]


def test_trials_are_summed_up_with_their_logs(lake, tmp_path):
    for name, table, added in (
        ("trials", "ClinicalTrials", {"trial_id": "T", "enrolled": 30, "target_enrolment": 120}),
        ("trial_logs", "ResearchLogs", {"log_id": 1, "trial_id": "T", "logged_at": "2026-11-18", "kind": "Adverse"}),
    ):
        database = Database(tmp_path, of(name))
        database.insert(added, table=table)
        refresh(lake, database)
    Gold(lake, BY_NAME["trial_summary"]).refresh()
    [row] = lake.table(BY_NAME["trial_summary"].table).scan().collect().iter_rows(named=True)
    assert (row["enrolled_share"], row["log_count"], row["adverse_log_count"]) == (0.25, 1, 1)
