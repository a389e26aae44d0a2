"""The client of databases with a real MariaDB: its types, its zero dates, and a server that is killed on the way."""

import gc
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from assets.clinical.sources import EHR
from resources.batch_source import BatchSourceError, SqlTable
from resources.batch_sql import SqlSource
from resources.lake import Lake
from tests.clinical.hospital import loader, silver
from tests.services.mariadb import MariaDb

pytestmark = pytest.mark.service

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
TABLE = """
    CREATE TABLE EHR (
        id BIGINT, patient_id INT, timestamp DATETIME(6), kind VARCHAR(40), reading DECIMAL(12, 4), unit VARCHAR(20),
        device_id BIGINT UNSIGNED, note TEXT, updated_at DATETIME NULL
    ) CHARACTER SET utf8mb4
"""
ROW = "INSERT INTO EHR VALUES (%s, 1, %s, 'glucose', %s, 'mg/dL', NULL, %s, %s)"


@pytest.fixture
def url(mariadb: MariaDb) -> str:
    found = mariadb.url().replace("mysql://", "mysql+pymysql://")
    execute(found, TABLE)
    return found


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def execute(url: str, statement: str, *rows: tuple[object, ...]) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        # As databases are that have such dates: newer ones refuse them.
        connection.exec_driver_sql("SET sql_mode = ''")
        for row in rows or [()]:
            connection.exec_driver_sql(statement, row)
    engine.dispose()


def source(url: str, piece_rows: int = 50_000) -> SqlSource:
    place = SqlTable("EHR", "updated_at", "dbo")
    return SqlSource("ehr", url, "PULSELAKE_EHR_URL", place, piece_rows=piece_rows, clock=lambda: NOON)


def loaded(lake: Lake, url: str) -> pl.DataFrame:
    """Silver after a load, by the time of the reading."""
    loader(lake).load(source(url))
    silver(lake, EHR).refresh()
    return lake.table(EHR.silver).scan().sort("measured_at").collect()


def test_rows_keep_their_values_and_what_is_new_or_changed_comes_once(lake, url):
    first = [
        (1, "2026-11-19 08:00:00.250000", "100.1250", "zażółć 補正済み 😀", "2026-11-19 08:00:00"),
        (2, "2026-11-19 09:00:00", "0.1000", None, "2026-11-19 09:00:00"),
        (3, "2026-11-19 10:00:00", "90", None, None),
    ]
    execute(url, ROW, *first)
    rows = loaded(lake, url)
    # 0.1 mg/dL is implausible, and in quarantine.
    assert rows["reading"].to_list() == [100.125, 90.0]
    assert rows["note"][0] == "zażółć 補正済み 😀"
    assert rows["measured_at"][0] == datetime(2026, 11, 19, 8, 0, 0, 250_000, tzinfo=UTC)
    execute(url, ROW, (4, "2026-11-19 11:00:00", "95", None, "2026-11-19 09:00:00"))
    execute(url, "UPDATE EHR SET reading = 101, updated_at = '2026-11-19 12:00:00' WHERE id = 1")
    assert loaded(lake, url)["reading"].to_list() == [101.0, 90.0, 95.0]
    bronze = lake.table(EHR.bronze)
    assert bronze.count() == 5
    loaded(lake, url)
    assert bronze.count() == 5


def test_zero_dates_cost_the_row_or_nothing_and_hide_no_other_row(lake, url):
    zero = "0000-00-00 00:00:00"
    execute(
        url,
        ROW,
        (1, "2026-11-19 08:00:00", "100", None, "2026-11-19 08:00:00"),
        (2, zero, "90", None, "2026-11-19 09:00:00"),
        (3, "2026-11-19 10:00:00", "95", None, zero),
    )
    assert loaded(lake, url)["reading"].to_list() == [100.0, 95.0]
    [reason] = lake.table(EHR.quarantine).scan().collect()["reason"]
    assert reason == "bad_value:timestamp"
    # A row without a time of change that comes later is found too, and those that were read come once.
    execute(url, ROW, (4, "2026-11-19 11:00:00", "97", None, zero))
    assert loaded(lake, url)["reading"].to_list() == [100.0, 95.0, 97.0]
    assert lake.table(EHR.bronze).count() == 4


# The driver's cursors complain when they are collected after their connection broke.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_server_that_is_killed_on_the_way_costs_the_rest_alone_and_the_next_run_catches_up(lake, mariadb, url):
    # More than what sockets hold, so that rows are on the server when it dies.
    execute(
        url,
        "INSERT INTO EHR SELECT seq, 1 + seq MOD 50, '2026-11-01' + INTERVAL seq SECOND, 'glucose', 100 + seq MOD 40, "
        "'mg/dL', NULL, REPEAT('x', 200), '2026-11-01' + INTERVAL seq SECOND FROM seq_1_to_100000",
    )
    commits = list[str]()

    def kill(step: str) -> None:
        commits.append(step)
        if commits.count("bronze") == 2:
            mariadb.kill()

    one = loader(lake)
    one.on_step = kill
    with pytest.raises(BatchSourceError, match="Check that the database runs") as failed:
        one.load(source(url, piece_rows=10_000))
    assert "root@127.0.0.1" in str(failed.value)
    del failed
    gc.collect()
    before = lake.table(EHR.bronze).count()
    assert 20_000 <= before < 100_000
    with pytest.raises(BatchSourceError, match="reading the table EHR"):
        loader(lake).load(source(url))
    mariadb.start()
    loader(lake).load(source(url))
    ids = lake.table(EHR.bronze).scan().select("id").collect()["id"]
    assert (len(ids), ids.n_unique()) == (100_000, 100_000)


def test_a_password_that_is_wrong_is_not_told(url):
    wrong = sa.make_url(url).set(password="secret-word").render_as_string(hide_password=False)
    with pytest.raises(BatchSourceError) as failed:
        list(source(wrong).pull(None))
    assert "Access denied" in str(failed.value)
    assert "secret-word" not in str(failed.value)
