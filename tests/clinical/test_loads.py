"""From a database into landing and bronze: each row once, whatever is killed in between and however often it runs."""

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from assets.clinical.contract import QUARANTINED_LOADS
from assets.clinical.sources import EHR
from assets.clinical_loads import LoadError, undeclared_columns
from resources.batch_source import BatchSourceError
from resources.lake import ConcurrentWriteError, Lake
from resources.landing import Landing, LandingError
from tests.clinical.hospital import NOON, Database, loader, reading

# Each makes several tables of a lake, so all of them together take longer than a quick check may.
pytestmark = pytest.mark.slow

STEPS = ("landing", "state", "bronze")


class KilledError(Exception):
    """Stands for the end of the process: nothing behind it runs."""


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path)


def bronze(lake: Lake) -> pl.DataFrame:
    return lake.table(EHR.bronze).scan().sort("load_number", "row_number").collect()


def landed(lake: Lake) -> list[Path]:
    return sorted(Path(lake.root).glob("landing/ehr/**/*.parquet"))


def test_each_row_is_loaded_once_and_a_second_load_adds_nothing(lake, database):
    database.insert(*(reading(number) for number in range(50)))
    assert loader(lake).load(database.source()).rows == 50
    assert loader(lake).load(database.source()).rows == 0
    database.insert(reading(50))
    assert loader(lake).load(database.source()).rows == 1
    assert bronze(lake)["id"].to_list() == list(range(51))
    assert [pl.read_parquet(file).height for file in landed(lake)] == [50, 1]


def test_an_update_and_a_row_that_was_committed_late_are_loaded(lake, database):
    database.insert(*(reading(number) for number in range(10)))
    loader(lake).load(database.source())
    newest = reading(9)["updated_at"]
    database.execute("UPDATE EHR SET reading = 77, updated_at = ? WHERE id = 3", newest)
    late = f"{NOON - timedelta(days=10) + timedelta(hours=9) - timedelta(minutes=5):%Y-%m-%d %H:%M:%S}"
    database.insert(reading(10, updated_at=late), reading(11, updated_at=None))
    assert loader(lake).load(database.source()).rows == 3
    assert loader(lake).load(database.source()).rows == 0
    assert sorted(bronze(lake)["id"]) == [*range(4), 3, *range(4, 12)]


def test_a_watermark_of_a_wrong_clock_keeps_no_row_from_being_loaded(lake, database):
    database.insert(reading(0, updated_at="2099-01-01 00:00:00"), reading(1, updated_at="soon"), reading(2))
    loader(lake).load(database.source())
    database.insert(reading(3), reading(4, updated_at="2099-01-01 00:00:00"))
    assert loader(lake).load(database.source()).rows == 2
    assert sorted(bronze(lake)["id"]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("piece_rows", [1, 7, 1000])
@pytest.mark.parametrize("step", STEPS)
def test_a_load_that_is_killed_is_done_by_the_next_one(lake, database, step, piece_rows):
    database.insert(*(reading(number) for number in range(20)))
    seen = 0

    def kill(name: str) -> None:
        nonlocal seen
        seen += name == step
        if seen == min(3, -(-20 // piece_rows)) and name == step:
            raise KilledError

    killed = loader(lake)
    killed.on_step = kill
    with pytest.raises(KilledError):
        killed.load(database.source(piece_rows))
    files = landed(lake)
    before = [file.read_bytes() for file in files]
    loader(lake).load(database.source(piece_rows))
    found = bronze(lake)
    assert sorted(found["id"]) == list(range(20))
    assert not found.select("load_number", "row_number").is_duplicated().any()
    assert [file.read_bytes() for file in files] == before


def test_two_loads_at_once_do_not_both_commit(lake, database):
    database.insert(reading(0))
    loader(lake).load(database.source())
    database.insert(reading(1))
    other = loader(lake)
    slow = loader(lake)

    def load_first(step: str) -> None:
        if step == "bronze":
            other.load(database.source())

    slow.on_step = load_first
    with pytest.raises(ConcurrentWriteError, match="stands at"):
        slow.load(database.source())
    assert sorted(bronze(lake)["id"]) == [0, 1]


def test_a_landed_file_is_never_overwritten(lake):
    landing, rows = Landing(lake, "ehr"), pl.DataFrame({"a": [1]})
    path = landing.write(rows, "00000001-a", NOON.date())
    with pytest.raises(FileExistsError):
        landing.write(pl.DataFrame({"a": [2]}), "00000001-a", NOON.date())
    assert landing.read(path).equals(rows)
    assert [file.name for file in landed(lake)] == ["00000001-a.parquet"]
    with pytest.raises(LandingError, match=r"landing/ehr/none\.parquet .* cannot be read"):
        landing.read("landing/ehr/none.parquet")


def test_a_new_column_is_added_and_reported_and_old_rows_have_no_value_in_it(lake, database):
    database.insert(reading(0))
    loader(lake).load(database.source())
    database.execute("ALTER TABLE EHR ADD COLUMN Ward TEXT")
    database.insert(reading(1, Ward="north"))
    done = loader(lake).load(database.source())
    assert (done.added, done.undeclared) == (("ward",), ("ward",))
    rows = pl.scan_delta(lake.table(EHR.bronze).uri).sort("id").select("id", "ward").collect()
    # The row from before is another one by now: it has a column more.
    assert set(rows.iter_rows()) >= {(0, None), (1, "north")}
    assert loader(lake).load(database.source()).added == ()


def test_a_changed_type_quarantines_the_load_and_a_corrected_source_goes_on(lake, database):
    database.insert(reading(0))
    loader(lake).load(database.source())
    database.insert(*(reading(number, reading="high") for number in range(1, 21)))
    with pytest.raises(LoadError, match=r"'reading' is Float64 .* came as String") as refused:
        loader(lake).load(database.source())
    assert "landing/ehr/load_date=2026-11-20" in str(refused.value)
    assert "assets/clinical/sources.py" in str(refused.value)
    assert bronze(lake)["id"].to_list() == [0]
    [quarantined] = lake.table(QUARANTINED_LOADS).scan().collect().iter_rows(named=True)
    assert (quarantined["source"], quarantined["rows"]) == ("ehr", 20)
    assert pl.read_parquet(Path(lake.root) / quarantined["landed_as"])["reading"].unique().to_list() == ["high"]
    database.execute("UPDATE EHR SET reading = 120 WHERE reading = 'high'")
    assert loader(lake).load(database.source()).rows == 20
    assert sorted(bronze(lake)["id"]) == list(range(21))


def test_a_rebuild_of_a_past_date_changes_nothing_also_the_second_time(lake, database):
    database.insert(*(reading(number) for number in range(10)))
    day = NOON - timedelta(days=1)
    loader(lake, now=day).load(database.source(piece_rows=3))
    database.insert(reading(10))
    loader(lake).load(database.source())
    table, before = lake.table(EHR.bronze), bronze(lake)
    version = table.version()
    for _ in range(2):
        assert loader(lake).rebuild(day.date()).rows == 0
        assert table.version() == version
    assert bronze(lake).equals(before)


def test_a_rebuild_restores_rows_that_are_gone_from_what_was_landed(lake, database):
    database.insert(*(reading(number) for number in range(10)))
    loader(lake).load(database.source(piece_rows=3))
    before = bronze(lake)
    lake.table(EHR.bronze).replace([before.filter(pl.col("id") > 6)], "load_date = '2026-11-20'")
    assert loader(lake).rebuild(NOON.date()).rows == 10
    assert bronze(lake).drop("revision").equals(before.drop("revision"))
    # The cursor is the one from before.
    assert loader(lake).load(database.source()).rows == 0


def test_a_killed_load_is_in_no_rebuild(lake, database):
    database.insert(*(reading(number) for number in range(10)))
    killed = loader(lake)

    def kill(step: str) -> None:
        if step == "bronze":
            raise KilledError

    killed.on_step = kill
    with pytest.raises(KilledError):
        killed.load(database.source())
    loader(lake).load(database.source())
    assert len(landed(lake)) == 2
    before = bronze(lake)
    lake.table(EHR.bronze).replace([], "load_date = '2026-11-20'")
    loader(lake).rebuild(NOON.date())
    assert bronze(lake).drop("revision").equals(before.drop("revision"))


def test_a_state_that_is_gone_is_named_and_nothing_is_loaded_twice(lake, database):
    database.insert(reading(0))
    loader(lake).load(database.source())
    state = lake.table(EHR.state)
    state.replace([], None)
    with pytest.raises(LoadError, match="bronze holds run 1, and state/ehr has 0 rows"):
        loader(lake).load(database.source())
    assert bronze(lake).height == 1


def test_a_watermark_that_cannot_be_used_is_named(lake, database):
    database.insert(reading(0, updated_at=b"\x00\x01"))
    with pytest.raises(BatchSourceError, match="column updated_at is binary"):
        loader(lake).load(database.source())
    database.execute("ALTER TABLE EHR RENAME COLUMN updated_at TO changed")
    with pytest.raises(BatchSourceError, match="no such column: updated_at"):
        loader(lake).load(database.source())


def test_a_table_that_is_not_there_is_named_with_source_and_next_step(lake, database):
    database.execute("DROP TABLE EHR")
    with pytest.raises(BatchSourceError) as failed:
        loader(lake).load(database.source())
    for said in ("ehr:", "table EHR", "no such table", "PULSELAKE_EHR_URL", "pulselake hospital"):
        assert said in str(failed.value)
    assert undeclared_columns(lake, EHR) == {}
