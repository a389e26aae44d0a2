"""Reports by date: which dates are built again, and what is left of a build that ended early."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from assets.glucose.assets import CONTRACT
from assets.stream.layers import layers
from resources.analytics import Analytics, QueryError
from resources.lake import ConcurrentWriteError
from resources.reports import Report, build_report, report_table, stored_reports, write_report
from resources.stale_dates import look
from tests.resources.lakes import NOON, SILVER, TABLES, UNIONS, day, empty_lake, fill, frame, row
from tests.resources.numbers import age

pytestmark = pytest.mark.slow

DAILY = (
    "SELECT stream, event_date, count(*)::BIGINT AS readings, max(received_at)::TIMESTAMPTZ AS last "
    "FROM silver.all_streams GROUP BY ALL"
)
INGESTED = "SELECT stream, ingest_date, count(*)::BIGINT AS readings FROM silver.all_streams GROUP BY ALL"


def by_event_date(sql: str = DAILY) -> Report:
    return Report("daily", "How many? Built by event_date.", sql)


def by_ingest_date(sql: str = INGESTED) -> Report:
    return Report("ingested", "How many? Built by ingest_date.", sql)


def read(analytics: Analytics, *days: int, stream: str = "glucose_readings", received: int | None = None) -> None:
    """One reading of each of some days of November, all received on one day or on their own."""
    rows = [row(NOON + timedelta(days=of - 23)) for of in days]
    if received is not None:
        at = NOON + timedelta(days=received - 23)
        rows = [each | {"received_at": at, "ingest_date": at.date()} for each in rows]
    fill(analytics, f"silver/{stream}", *rows)


def stored(analytics: Analytics, report: Report) -> pl.DataFrame:
    [table] = stored_reports(analytics.lake, [report])
    return analytics.lake.table(table).scan().collect()


def assert_is_whole(analytics: Analytics, report: Report) -> None:
    """What was built date by date is what the statement says of the whole lake."""
    expected = build_report(analytics, report)
    found = stored(analytics, report).select(expected.columns)
    assert found.sort(found.columns).equals(expected.sort(expected.columns))


@pytest.fixture
def analytics(tmp_path: Path) -> Analytics:
    return empty_lake(tmp_path)


@pytest.mark.parametrize("report", [by_event_date(), by_ingest_date()], ids=["event_date", "ingest_date"])
def test_only_dates_that_changed_are_built_again(analytics, report):
    read(analytics, 20, 21, 22)
    assert write_report(analytics, report).dates == 3
    assert write_report(analytics, report).dates == 0
    read(analytics, 21)
    read(analytics, 23, stream="device_readings")
    assert write_report(analytics, report).dates == 2
    assert_is_whole(analytics, report)


def test_a_late_reading_builds_the_date_on_which_it_was_measured(analytics):
    read(analytics, 20, 21, 22)
    write_report(analytics, by_event_date())
    read(analytics, 20, received=22)
    assert write_report(analytics, by_event_date()).dates == 1
    assert_is_whole(analytics, by_event_date())


def test_rows_that_are_gone_leave_the_report(analytics):
    read(analytics, 20, 21)
    for report in (by_event_date(), by_ingest_date()):
        write_report(analytics, report)
    analytics.lake.table(SILVER).replace([], "ingest_date = '2026-11-20'", event_dates=[day(20)])
    for report, column in ((by_event_date(), "event_date"), (by_ingest_date(), "ingest_date")):
        assert write_report(analytics, report).dates == 1
        assert stored(analytics, report)[column].to_list() == [day(21)]


def test_a_build_that_ends_early_begins_with_the_newest_and_goes_on(analytics):
    read(analytics, 18, 19, 20, 21, 22)
    written = write_report(analytics, by_event_date(), budget_s=0)
    assert (written.dates, written.dates_left) == (2, 3)
    assert min(stored(analytics, by_event_date())["event_date"]) == day(21)
    read(analytics, 22)
    again = write_report(analytics, by_event_date(), budget_s=0)
    assert (again.dates, again.dates_left) == (1, 3)
    assert write_report(analytics, by_event_date()).dates_left == 0
    assert_is_whole(analytics, by_event_date())


def test_another_statement_builds_all_dates_again_piece_by_piece(analytics):
    read(analytics, 20, 21, 22)
    write_report(analytics, by_event_date())
    other = by_event_date(DAILY.replace("count(*)", "10 * count(*)"))
    assert write_report(analytics, other, budget_s=0).dates_left == 2
    assert sorted(stored(analytics, other)["readings"]) == [1, 1, 10]
    write_report(analytics, other)
    assert_is_whole(analytics, other)


def test_a_statement_with_other_columns_makes_the_table_anew(analytics):
    read(analytics, 20, 21, 22)
    write_report(analytics, by_event_date())
    other = by_event_date("SELECT event_date, 'x' AS readings FROM silver.all_streams")
    assert write_report(analytics, other, budget_s=0).dates_left == 2
    assert stored(analytics, other).rows() == [(day(22), "x")]
    write_report(analytics, other)
    assert_is_whole(analytics, other)


def test_a_changed_comment_builds_nothing(analytics):
    read(analytics, 20)
    write_report(analytics, by_event_date())
    assert write_report(analytics, by_event_date(f"-- Another comment.\n{DAILY}\n")).dates == 0


def test_a_stream_that_is_added_builds_the_dates_that_it_has(analytics):
    read(analytics, 20, 21)
    read(analytics, 21, 22, stream="device_readings")
    [of_both] = [view for view in analytics.views if view.name == "silver/all_streams"]
    [one] = [view for view in layers([CONTRACT]) if view.name == of_both.name]
    alone = Analytics(analytics.lake, analytics.tables, [one])
    write_report(alone, by_event_date())
    assert write_report(analytics, by_event_date()).dates == 2
    assert_is_whole(analytics, by_event_date())


@pytest.mark.parametrize("report", [by_event_date(), by_ingest_date()], ids=["event_date", "ingest_date"])
def test_all_dates_are_built_again_where_a_log_no_longer_tells_which_changed(analytics, report):
    read(analytics, 20, 21)
    write_report(analytics, report)
    for of in (22, 23, 24):
        read(analytics, of)
    silver = analytics.lake.table(SILVER)
    age(silver, hours=5)
    silver.maintain()
    assert write_report(analytics, report).dates == 5
    assert_is_whole(analytics, report)


def test_nothing_is_forgotten_while_the_statement_fails(analytics):
    read(analytics, 20)
    write_report(analytics, by_event_date())
    read(analytics, 21)
    with pytest.raises(QueryError):
        write_report(analytics, by_event_date(DAILY.replace("count(*)", "nope")))
    assert write_report(analytics, by_event_date()).dates == 2
    assert_is_whole(analytics, by_event_date())


def test_a_date_that_fails_keeps_no_other_from_being_built(analytics):
    read(analytics, 18, 19, 20, 21, 22)
    failing = by_event_date(
        "SELECT event_date, CASE WHEN event_date = '2026-11-20' THEN error('boom') ELSE 'x' END AS found "
        "FROM silver.all_streams"
    )
    with pytest.raises(QueryError, match="boom"):
        write_report(analytics, failing)
    assert sorted(stored(analytics, failing)["event_date"]) == [day(18), day(19), day(21), day(22)]


def test_two_builds_at_once_cannot_both_commit(analytics):
    read(analytics, 20)
    write_report(analytics, by_event_date())
    read(analytics, 21)
    target = analytics.lake.table(report_table(by_event_date(), build_report(analytics, by_event_date()).schema))
    earlier = look(target, [analytics.lake.table(SILVER)], "event_date", "another statement")
    write_report(analytics, by_event_date())
    noted = earlier.after(())
    with pytest.raises(ConcurrentWriteError):
        target.append(pl.DataFrame(schema=target.table.schema), transactions=noted, expected=earlier.known)


def test_a_source_without_the_date_is_refused(analytics):
    with pytest.raises(QueryError, match=r"built by event_date, but gold\.patient_comparison has no such column"):
        write_report(analytics, by_event_date("SELECT event_date FROM gold.patient_comparison, silver.all_streams"))


@pytest.mark.parametrize("selected", ["patient_id", "event_date + 1 AS event_date"])
def test_rows_of_other_dates_are_refused(analytics, selected):
    read(analytics, 20)
    with pytest.raises(QueryError, match="each row must have the event_date of the rows that it is made of"):
        write_report(analytics, by_event_date(f"SELECT {selected} FROM silver.glucose_readings"))


def test_a_report_on_an_empty_lake_has_its_columns(analytics):
    assert write_report(analytics, by_event_date()).rows == 0
    assert stored(analytics, by_event_date()).columns == ["stream", "event_date", "readings", "last"]


def test_a_report_that_was_built_as_a_whole_before_is_built_by_date(analytics):
    read(analytics, 20, 21)
    whole = Report("daily", "How many?", "SELECT 1::BIGINT AS other")
    write_report(analytics, whole)
    assert write_report(analytics, by_event_date()).dates == 2
    assert_is_whole(analytics, by_event_date())
    assert write_report(analytics, by_event_date()).dates == 0


def test_the_newest_dates_are_read_only(analytics):
    read(analytics, 1, 22, 23)
    newest = Report("few", "Which? Reads the newest 2 dates.", "SELECT event_date FROM silver.glucose_readings")
    assert sorted(build_report(analytics, newest)["event_date"]) == [day(22), day(23)]


def test_dead_clocks_cost_their_own_date(analytics):
    read(analytics, 22, 23)
    write_report(analytics, by_event_date())
    silver = analytics.lake.table(SILVER)
    old = row(NOON.replace(year=2001), received_at=NOON)
    silver.append(frame(SILVER, old), transactions={}, event_dates=[date(2001, 11, 23)])
    assert write_report(analytics, by_event_date()).dates == 1
    assert_is_whole(analytics, by_event_date())


def test_views_of_all_streams_have_the_engine_s_columns_only(analytics):
    assert [view.name for view in layers([])] == []
    for view in UNIONS:
        found = analytics.query(f"FROM {view.sql_name}")
        assert found.columns[0] == "stream"
        assert not {"patient_id", "device_id", "glucose_mg_dl"} & {*found.columns}
        assert {table.name for table in view.tables} <= {*TABLES}


def test_a_table_that_was_removed_and_made_again_builds_all_dates(analytics):
    read(analytics, 20, 21)
    write_report(analytics, by_event_date())
    analytics.lake.below("silver").remove()
    read(analytics, 21, 22)
    assert write_report(analytics, by_event_date()).dates == 3
    assert_is_whole(analytics, by_event_date())
