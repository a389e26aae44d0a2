"""SQL over the lake: what is seen, what is refused, and what a query sees while others write."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from time import monotonic

import dataframely as dy
import polars as pl
import pyarrow as pa
import pytest

from resources import scans
from resources.analytics import Analytics, QueryError, TooSlowError, UnreadableTableError
from resources.lake import Lake
from resources.scans import Dates
from resources.table import Table
from tests.resources.lakes import SILVER, TABLES, day, empty_lake, fill, filled_lake, frame, row

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def analytics(tmp_path_factory: pytest.TempPathFactory) -> Analytics:
    return filled_lake(tmp_path_factory.mktemp("lake"))


def values(analytics: Analytics, sql: str) -> list[tuple[object, ...]]:
    return analytics.query(sql).rows()


def test_tables_are_named_by_layer(analytics):
    assert values(analytics, "SELECT count(*) FROM silver.glucose_readings") == [(6,)]
    assert values(
        analytics, "SELECT count(*) FROM gold.glucose_daily JOIN gold.patient_comparison USING (patient_id)"
    ) == [(2,)]


def test_rows_come_back_as_they_were_written(analytics):
    expected = analytics.lake.table(SILVER).scan().sort("measured_at").collect()
    assert analytics.query("FROM silver.glucose_readings ORDER BY measured_at").equals(expected)


def test_a_table_that_was_not_created_is_empty_and_has_its_columns(tmp_path):
    found = empty_lake(tmp_path).query("FROM bronze.device_readings")
    assert found.is_empty()
    assert found.schema == TABLES["bronze/device_readings"].schema


def test_only_the_files_that_a_filter_selects_are_read(tmp_path):
    analytics = filled_lake(tmp_path)
    for file in (tmp_path / "silver" / "glucose_readings" / "ingest_date=2026-11-23").iterdir():
        file.unlink()
    assert values(analytics, "SELECT patient_id FROM silver.glucose_readings WHERE ingest_date = '2026-11-24'") == [
        (2,)
    ]


def test_only_the_wanted_columns_are_read(analytics):
    plan = str(values(analytics, "EXPLAIN SELECT glucose_mg_dl FROM silver.glucose_readings")[0][1])
    assert "Projections: glucose_mg_dl" in plan
    assert "location" not in plan


def test_a_table_that_no_one_reads_is_not_opened(tmp_path):
    analytics = filled_lake(tmp_path)
    for entry in (tmp_path / "silver" / "glucose_readings" / "_delta_log").iterdir():
        entry.write_text("broken")
    assert values(analytics, "SELECT count(*) FROM gold.glucose_daily") == [(2,)]
    with pytest.raises(QueryError, match="Arrow source failed"):
        analytics.query("SELECT count(*) FROM silver.glucose_readings")


def test_instants_are_utc_whatever_the_machine_says(analytics, monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    assert values(analytics, "SELECT current_setting('TimeZone')") == [("UTC",)]
    assert values(analytics, "SELECT CAST(min(measured_at) AS VARCHAR) FROM silver.glucose_readings") == [
        ("2026-11-23 12:00:00+00",)
    ]


def test_show_tables_lists_every_layer(analytics):
    found = values(analytics, "show tables;")
    assert ("silver", "glucose_readings") in found
    assert len(found) == len(analytics.names())


def test_the_catalog_shows_the_tables_and_nothing_else(analytics):
    named = "SELECT table_schema || '/' || table_name FROM information_schema.tables ORDER BY 1"
    assert [name for (name,) in values(analytics, named)] == sorted(each.name for each in analytics.names())


@pytest.mark.parametrize(
    "sql",
    [
        "DESCRIBE silver.glucose_readings",
        "SUMMARIZE gold.glucose_daily",
        "FROM gold.glucose_daily SELECT event_date",
        "WITH days AS (FROM gold.glucose_daily) SELECT count(*) FROM days",
        "VALUES (1), (2)",
        "PIVOT gold.glucose_daily ON event_date USING max(mean_mg_dl) GROUP BY patient_id",
        "EXPLAIN ANALYZE SELECT count(*) FROM gold.glucose_daily",
        "-- a comment\nSELECT 'create' /* insert */;",
    ],
)
def test_what_reads_is_run(analytics, sql):
    assert analytics.query(sql).height > 0


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO silver.glucose_readings VALUES (1)",
        "UPDATE silver.glucose_readings SET patient_id = 1",
        "DELETE FROM silver.glucose_readings",
        "CREATE TABLE mine AS SELECT 1",
        "CREATE TABLE mine AS PIVOT gold.glucose_daily ON event_date USING count(*)",
        "EXPLAIN ANALYZE CREATE TABLE mine AS SELECT 1",
        "/* x */ EXPLAIN (FORMAT json) CREATE TABLE mine AS SELECT 1",
        "DROP VIEW silver.glucose_readings",
        "ALTER VIEW silver.glucose_readings RENAME TO mine",
        "ATTACH ':memory:' AS other",
        "COPY (SELECT 1) TO 'mine.csv'",
        "EXPORT DATABASE 'mine'",
        "INSTALL httpfs",
        "LOAD json",
        "SET threads = 1",
        "RESET threads",
        "PRAGMA enable_profiling",
        "CALL pragma_version()",
        "BEGIN",
        "CHECKPOINT",
        "VACUUM",
        "USE silver",
    ],
)
def test_what_could_change_something_is_refused_with_a_way_out(analytics, sql):
    with pytest.raises(QueryError, match=r"is refused: the lake is read only here\. Use SELECT"):
        analytics.query(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM read_parquet('https://example.com/x.parquet')",
    ],
)
def test_files_and_network_are_closed(analytics, tmp_path, sql):
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    with pytest.raises(QueryError) as refused:
        analytics.query(sql.format(file=secret, folder=tmp_path))
    assert "disabled by configuration" in str(refused.value) or "does not exist" in str(refused.value)


def test_python_variables_are_closed(analytics):
    secret = pl.DataFrame({"a": [1]})
    with pytest.raises(QueryError, match="secret does not exist"):
        analytics.query("SELECT * FROM secret")
    assert secret.height == 1


def test_the_connection_itself_is_locked(analytics):
    with analytics.connection() as connection:
        for setting in ("enable_external_access = true", "lock_configuration = false", "memory_limit = '10GB'"):
            with pytest.raises(Exception, match="configuration has been locked"):
                connection.execute(f"SET {setting}")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT i, hash(i) FROM range(20000000) t(i) ORDER BY 2",
        "SELECT hash(i) AS h, count(*) FROM range(20000000) t(i) GROUP BY h",
        "SELECT count(*) FROM range(9000000) a(i) JOIN (SELECT hash(i) AS h FROM range(9000000) t(i)) b ON a.i = b.h",
    ],
    ids=["sort", "group", "join"],
)
def test_a_query_beyond_its_memory_says_what_to_do_and_leaves_nothing_on_disk(analytics, tmp_path, monkeypatch, sql):
    monkeypatch.chdir(tmp_path)
    small = Analytics(analytics.lake, analytics.tables, memory_limit="100MB")
    with pytest.raises(QueryError, match=r"needs more than 100MB, and nothing is written to disk\. Read fewer days"):
        small.query(sql)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM range(1000000000000)",
        "SELECT i FROM range(1000000000000) t(i)",
        "SELECT count(*) FROM silver.glucose_readings, range(1000000000000)",
    ],
    ids=["aggregate", "rows", "scan"],
)
def test_a_query_beyond_its_time_is_ended_and_says_what_to_do(analytics, sql):
    short = replace(analytics, timeout_s=0.5)
    began = monotonic()
    with pytest.raises(TooSlowError, match=r"takes longer than 0\.5 s\. Read fewer days .* PULSELAKE_SQL_TIMEOUT_S"):
        short.query(sql)
    assert monotonic() - began < 10
    assert short.query("SELECT 1 AS one").item() == 1


def test_a_scan_that_finds_nothing_is_ended_between_groups_of_partitions(analytics, monkeypatch):
    monkeypatch.setattr(scans, "GROUP_ROWS", 1)
    checked: list[int] = []

    def check() -> None:
        checked.append(len(checked))
        if len(checked) == 3:
            raise TimeoutError("over")

    source = scans.TableSource(analytics.lake.table(SILVER), None, check)
    with pytest.raises(OSError, match="over"):
        pa.RecordBatchReader.from_stream(source).read_all()


def test_groups_of_partitions_have_all_rows(analytics, monkeypatch):
    monkeypatch.setattr(scans, "GROUP_ROWS", 1)
    assert values(analytics, "SELECT count(*), count(DISTINCT ingest_date) FROM silver.glucose_readings") == [(6, 2)]


def test_only_some_dates_can_be_seen(analytics):
    count = "SELECT count(*) FROM silver.glucose_readings"
    for column in ("event_date", "ingest_date"):
        seen = replace(analytics, dates=Dates(column, frozenset({day(24)})))
        assert values(seen, count) == [(1,)]
        assert values(seen, "SELECT count(*) FROM gold.patient_comparison") == [(2,)]
        assert values(replace(analytics, dates=Dates(column, frozenset())), count) == [(0,)]


def test_all_streams_are_one_view(analytics):
    assert values(analytics, "SELECT stream, count(*) FROM silver.all_streams GROUP BY stream ORDER BY stream") == [
        ("device_readings", 4),
        ("glucose_readings", 6),
    ]
    assert values(analytics, "SELECT DISTINCT entity_id FROM alerts.all_streams WHERE stream = 'glucose_readings'") == [
        ("1",)
    ]


def test_one_statement_at_a_time(analytics):
    with pytest.raises(QueryError, match="these are 2"):
        analytics.query("SELECT 1; DROP VIEW silver.glucose_readings")
    with pytest.raises(QueryError, match="these are 0"):
        analytics.query("-- nothing")


def test_an_unknown_table_is_answered_with_those_there_are(analytics):
    with pytest.raises(QueryError, match=r"(?s)glucose_reading does not exist.*Tables: .*silver\.glucose_readings"):
        analytics.query("FROM silver.glucose_reading")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT nope FROM gold.glucose_daily", "Candidate bindings"),
        ("SELECT error('boom')", "boom"),
        ("SELECT CASE WHEN i = 150000 THEN error('late boom') END FROM range(200000) t(i)", "late boom"),
    ],
)
def test_an_error_is_duckdb_s_own(analytics, sql, message):
    with pytest.raises(QueryError, match=message):
        analytics.query(sql)


def test_every_type_of_duckdb_can_be_read(analytics):
    found = analytics.query(
        "SELECT 1::HUGEINT AS huge, INTERVAL 1 DAY AS span, [1, 2] AS list, {'a': 1} AS struct, "
        "'a'::ENUM('a') AS kind, NULL AS nothing, 1.5::DECIMAL(9, 2) AS exact, '\\xFF'::BLOB AS bytes, "
        "'101'::BIT AS bits, 2 AS list, 3 AS list_1"
    )
    assert found.row(0)[:6] == (1, "1 day", "[1,2]", '{"a":1}', "a", None)
    assert found.row(0)[7:] == (b"\xff", "101", 2, 3)
    assert found.columns == [
        "huge",
        "span",
        "list",
        "struct",
        "kind",
        "nothing",
        "exact",
        "bytes",
        "bits",
        "list_1",
        "list_1_1",
    ]


def test_a_sum_of_integers_is_an_integer(analytics):
    total = analytics.query("SELECT sum(reading_count) AS total FROM bronze.glucose_readings")
    assert total.schema == {"total": pl.Int128}
    assert total.item() == 9


def test_a_query_sees_what_was_written_before_it(tmp_path):
    analytics = empty_lake(tmp_path)
    fill(analytics, "silver/glucose_readings", row())
    assert values(analytics, "SELECT count(*) FROM silver.glucose_readings") == [(1,)]
    fill(analytics, "silver/glucose_readings", row())
    assert values(analytics, "SELECT count(*) FROM silver.glucose_readings") == [(2,)]


def test_one_connection_keeps_one_version(tmp_path):
    analytics = empty_lake(tmp_path)
    fill(analytics, "silver/glucose_readings", row())
    with analytics.connection() as connection:
        count = "SELECT count(*) FROM silver.glucose_readings"
        before = connection.execute(count).fetchall()
        fill(analytics, "silver/glucose_readings", row())
        assert connection.execute(count).fetchall() == before


WRITER = """
import sys
from resources.lake import Lake
from tests.resources.lakes import SILVER, frame, row
table = Lake(sys.argv[1]).table(SILVER)
rows = frame(SILVER, *[row(sequence_number=n) for n in range(10)])
for batch in range(30):
    table.append(rows, transactions={"writer": batch})
"""


@pytest.mark.service
def test_queries_see_whole_commits_while_another_process_appends(tmp_path):
    lake = Lake(str(tmp_path))
    lake.table(SILVER).ensure()
    analytics = Analytics(lake, [SILVER])
    counts = (
        "SELECT (SELECT count(*) FROM silver.glucose_readings), (SELECT count(patient_id) FROM silver.glucose_readings)"
    )
    seen: list[int] = []
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT) as writer:
        while writer.poll() is None:
            [(first, second)] = analytics.query(counts).rows()
            assert first == second
            seen.append(first)
    seen.append(analytics.query(counts).item(0, 0))
    assert writer.returncode == 0
    assert seen == sorted(seen)
    assert {count % 10 for count in seen} == {0}
    assert seen[-1] == 300


class OlderRows(dy.Schema):
    """Readings as a version before wrote them: columns are missing, and one is more."""

    patient_id = dy.Int64()
    glucose_mg_dl = dy.Float64()
    colour = dy.String(nullable=True)
    event_date = dy.Date()
    ingest_date = dy.Date()


OLDER = Table(SILVER.name, OlderRows, SILVER.partition_by)
RETYPED = Table(
    SILVER.name,
    type("Retyped", (dy.Schema,), {**OlderRows.columns(), "patient_id": dy.String(), "__module__": __name__}),
    SILVER.partition_by,
)


def test_a_table_of_an_older_version_is_read_with_nulls_where_it_lacks_a_column(tmp_path):
    analytics = empty_lake(tmp_path)
    old = frame(OLDER, row() | {"colour": "red"})
    analytics.lake.table(OLDER).ensure().append(old, transactions={})
    [found] = analytics.query("FROM silver.glucose_readings").to_dicts()
    assert (found["patient_id"], found["glucose_mg_dl"], found["measured_at"], found["location"]) == (
        1,
        100,
        None,
        None,
    )
    assert "colour" not in found
    assert values(analytics, "SELECT count(*) FROM silver.glucose_readings WHERE measured_at IS NULL") == [(1,)]


def test_a_table_with_a_column_of_another_type_is_refused_and_the_others_are_read(tmp_path):
    analytics = empty_lake(tmp_path)
    analytics.lake.table(RETYPED).ensure()
    with pytest.raises(
        UnreadableTableError, match=r"^silver/glucose_readings: column 'patient_id' is string .* long in"
    ):
        analytics.query("SELECT count(*) FROM silver.glucose_readings")
    assert values(analytics, "SELECT count(*) FROM gold.glucose_daily") == [(0,)]
    assert ("silver", "glucose_readings") in values(analytics, "SHOW TABLES")


@pytest.mark.parametrize("left", [0, 100, 0.5])
def test_a_damaged_file_is_an_error_and_never_fewer_rows(tmp_path, left):
    analytics = empty_lake(tmp_path)
    table = analytics.lake.table(SILVER).ensure()
    table.append(frame(SILVER, *(row(patient_id=number) for number in range(50))), transactions={})
    [file] = table.delta().file_uris()
    data = Path(file).read_bytes()
    Path(file).write_bytes(data[: int(len(data) * left) if left < 1 else left])
    for statement in ("SELECT count(patient_id) FROM silver.glucose_readings", "FROM silver.glucose_readings"):
        with pytest.raises(UnreadableTableError, match=r"^silver/glucose_readings: one of its data files is damaged"):
            analytics.query(statement)
    assert values(analytics, "SELECT count(*) FROM gold.glucose_daily") == [(0,)]


def test_a_frame_of_the_helpers_is_the_table_s():
    assert frame(SILVER, row()).schema == SILVER.schema
