"""The client of databases over the protocol of SQL Server, with the real driver; SQLite is in test_loads."""

from collections.abc import Iterator
from datetime import UTC, datetime

import polars as pl
import pytest

from assets.clinical.contract import conform
from assets.clinical.sources import EHR
from resources import batch_sql
from resources.batch_source import BatchSourceError, SqlTable
from resources.batch_sql import SqlSource
from tests.resources.silent import SilentPeer
from tests.services.tds import TdsServer

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
PLACE = SqlTable("EHR", "updated_at", "dbo")


@pytest.fixture
def server() -> Iterator[TdsServer]:
    with TdsServer() as started:
        started.database.execute(
            "CREATE TABLE dbo.EHR AS SELECT i::BIGINT AS id, (i % 3)::INT AS patient_id, "
            "TIMESTAMP '2026-11-19 00:00:00' + to_minutes(i) AS timestamp, 'glucose' AS kind, "
            "(100 + i / 10)::DECIMAL(10, 2) AS reading, CASE WHEN i % 5 > 0 THEN 'zażółć ' || i END AS note, "
            "TIMESTAMP '2026-11-19 00:00:00' + to_minutes(i) AS updated_at FROM range(60) rows(i)"
        )
        yield started


def source(url: str, **options: int) -> SqlSource:
    return SqlSource("ehr", url, "PULSELAKE_EHR_URL", PLACE, clock=lambda: NOON, **options)


def pull(asked: SqlSource, since: bytes | None = None) -> tuple[pl.DataFrame, bytes | None]:
    frames = []
    for pulled in asked.pull(since):
        frames.append(pulled.rows)
        since = pulled.cursor
    return pl.concat(frames) if frames else pl.DataFrame({"id": []}), since


@pytest.mark.service
def test_a_table_of_sql_server_is_read_by_its_watermark(server):
    asked = source(server.url, piece_rows=25)
    rows, cursor = pull(asked)
    assert rows["id"].to_list() == list(range(60))
    found = conform(EHR, rows, {})
    assert found.wrong == ()
    assert found.defects == 0
    assert found.rows["reading"][7] == pytest.approx(100.7)
    assert found.rows["timestamp"][1] == "2026-11-19T00:01:00.000000+00:00"
    assert found.rows["note"][:2].to_list() == [None, "zażółć 1"]
    with server.lock:
        server.database.execute(
            "INSERT INTO dbo.EHR VALUES (60, 1, '2026-11-19 01:00:00', 'glucose', 90, NULL, '2026-11-19 01:00:00')"
        )
        server.database.execute("UPDATE dbo.EHR SET reading = 1, updated_at = '2026-11-19 02:00:00' WHERE id = 5")
    rows, cursor = pull(asked, cursor)
    assert sorted(rows["id"]) == [5, 60]
    assert pull(asked, cursor)[0].height == 0


@pytest.mark.service
def test_a_table_that_is_not_there_is_named_without_the_password(server):
    server.database.execute("DROP TABLE dbo.EHR")
    with pytest.raises(BatchSourceError) as failed:
        pull(source(server.url))
    assert "table EHR of mssql+pymssql://sa:***@127.0.0.1" in str(failed.value)
    assert "secret-word" not in str(failed.value)


def test_a_server_that_is_silent_ends_the_wait(monkeypatch):
    monkeypatch.setitem(batch_sql.TIMEOUTS, "pymysql", {"connect_timeout": 1, "read_timeout": 1})
    with SilentPeer() as peer:
        url = f"mysql+pymysql://reader:secret-word@127.0.0.1:{peer.port}/hospital"
        with pytest.raises(BatchSourceError, match=r"ehr: .*PULSELAKE_EHR_URL") as failed:
            pull(source(url))
    assert "secret-word" not in str(failed.value)


def test_a_driver_that_is_not_there_is_named():
    with pytest.raises(BatchSourceError, match=r"driver is not installed .*oracledb.*pymssql for SQL Server"):
        pull(source("oracle://x/y"))


@pytest.mark.parametrize("url", ["no url", "mssql+nodriver://x/y"])
def test_a_url_that_is_none_is_named(url):
    with pytest.raises(BatchSourceError, match="Set PULSELAKE_EHR_URL to a URL of SQLAlchemy"):
        pull(source(url))
