"""The reports: every file runs on an empty and on a filled lake and fits a Delta table."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from resources.analytics import QueryError
from resources.reports import Report, build_report, report_table, reports, write_report
from tests.resources.lakes import NOON, day, empty_lake, filled_lake
from tests.resources.numbers import age

FOLDER = Path(__file__).parents[2] / "sql" / "reports"
REPORTS = {report.name: report for report in reports(FOLDER)}


@pytest.fixture(scope="module")
def analytics(tmp_path_factory):
    return filled_lake(tmp_path_factory.mktemp("lake"))


def rows(analytics, name: str, *columns: str) -> list[tuple[object, ...]]:
    return build_report(analytics, REPORTS[name]).select(columns).rows()


def test_the_reports_there_are():
    assert list(REPORTS) == [
        "alerts_by_rule_and_day",
        "arrival_delay",
        "data_quality",
        "device_attention",
        "glucose_control_ranking",
        "patient_day_overview",
        "quarantine_by_reason",
    ]


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_a_report_says_what_it_answers_and_its_grain(report):
    assert "?" in report.description
    assert "Grain: " in report.description


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_an_empty_lake_gives_an_empty_report_of_the_same_columns(report, analytics, tmp_path):
    nothing = empty_lake(tmp_path)
    empty, full = build_report(nothing, report), build_report(analytics, report)
    assert empty.is_empty()
    assert full.height > 0
    assert empty.schema == full.schema == report_table(nothing, report).schema


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_a_report_can_be_written_to_the_lake(report, analytics):
    table = report_table(analytics, report)
    found = build_report(analytics, report)
    handle = analytics.lake.table(table).ensure()
    handle.append(found, transactions={})
    assert table.name == f"gold/report_{report.name}"
    assert table.description == report.description
    assert handle.scan().collect().height == found.height


def test_a_report_that_is_written_again_and_again_stays_small(tmp_path):
    analytics = filled_lake(tmp_path)
    folder = tmp_path / "gold" / "report_quarantine_by_reason"
    found = []
    for _ in range(6):
        assert write_report(analytics.lake, analytics.tables, REPORTS["quarantine_by_reason"]) == 2
        found.append((len(list(folder.glob("*.parquet"))), len(list(folder.glob("_delta_log/*.json")))))
        age(analytics.lake.table(report_table(analytics, REPORTS["quarantine_by_reason"])), hours=1)
    assert max(data for data, _ in found) <= 4
    assert found[-1] == found[-2]


def test_alerts_by_rule_and_day(analytics):
    assert build_report(analytics, REPORTS["alerts_by_rule_and_day"]).rows() == [
        ("glucose_readings", day(23), "glucose_high", "warning", 2, 1),
        ("glucose_readings", day(23), "glucose_urgent_low", "urgent", 1, 1),
    ]


def test_arrival_delay(analytics):
    columns = ("stream", "event_date", "reading_count", "delay_p50_seconds", "delay_max_seconds", "late_percent")
    assert rows(analytics, "arrival_delay", *columns)[2:] == [
        ("glucose_readings", day(23), 5, 2.0, 2.0, 0.0),
        ("glucose_readings", day(24), 1, 660.0, 660.0, 100.0),
    ]


def test_data_quality_accounts_for_every_reading(analytics):
    columns = (
        "event_count",
        "reading_count",
        "silver_count",
        "quarantined_count",
        "duplicate_count",
        "quarantined_percent",
    )
    found = build_report(analytics, REPORTS["data_quality"]).filter(stream="glucose_readings", ingest_date=day(23))
    assert found.select(columns).rows() == [(2, 9, 5, 3, 1, pytest.approx(100 / 3))]


def test_device_attention_judges_the_newest_day(analytics):
    columns = (
        "device_id",
        "event_date",
        "is_quiet",
        "has_low_battery",
        "has_errors",
        "has_bad_connection",
        "has_silent_gaps",
    )
    assert rows(analytics, "device_attention", *columns) == [
        (10, day(24), False, True, True, False, False),
        (30, day(23), True, False, False, False, False),
    ]


def test_glucose_control_ranking(analytics):
    columns = ("rank", "patient_id", "tir_percent", "is_tir_on_target", "is_tbr_on_target", "is_tar_on_target")
    assert rows(analytics, "glucose_control_ranking", *columns) == [
        (1, 2, 100.0, True, True, True),
        (2, 1, 60.0, False, False, False),
    ]


def test_patient_day_overview_counts_alerts_by_rule(analytics):
    columns = (
        "patient_id",
        "event_date",
        "reading_count",
        "tir_percent",
        "alert_count",
        "urgent_alert_count",
        "glucose_high_count",
    )
    assert rows(analytics, "patient_day_overview", *columns) == [
        (1, day(23), 5, 60.0, 3, 1, 2),
        (2, day(24), 1, 100.0, 0, 0, 0),
    ]


def test_quarantine_by_reason(analytics):
    received = NOON + timedelta(seconds=2)
    assert build_report(analytics, REPORTS["quarantine_by_reason"]).rows() == [
        ("glucose_readings", day(23), "bad_timestamp", 1, received, received),
        ("glucose_readings", day(23), "not_json", 2, received, received),
    ]


def test_a_type_that_delta_cannot_hold_is_named(analytics):
    report = Report(
        "sums", "How many?", "SELECT sum(reading_count) AS total, 1.5 AS half FROM bronze.glucose_readings;"
    )
    for build in (build_report, report_table):
        with pytest.raises(QueryError, match=r"sums: .*total.*half.*CAST"):
            build(analytics, report)


def test_a_file_without_a_comment_is_refused(tmp_path):
    (tmp_path / "mute.sql").write_text("SELECT 1;\n")
    with pytest.raises(ValueError, match=r"mute\.sql: begin with a comment"):
        reports(tmp_path)


def test_a_report_s_columns_keep_every_type(analytics):
    report = Report(
        "types",
        "Which?",
        "SELECT 'a' AS s, 1::BIGINT AS i, 1.5::DOUBLE AS f, true AS b, DATE '2026-11-23' AS d, now() AS t",
    )
    assert list(report_table(analytics, report).schema.values()) == [
        pl.String(),
        pl.Int64(),
        pl.Float64(),
        pl.Boolean(),
        pl.Date(),
        pl.Datetime("us", "UTC"),
    ]
    assert build_report(analytics, report)["t"].item() > datetime(2026, 1, 1, tzinfo=UTC)
