"""The reports: every file runs on an empty and on a filled lake and fits a Delta table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from assets.alarms.measures import ALARMS
from assets.archived import Record, add_record
from resources.analytics import Analytics, QueryError
from resources.lake import ConcurrentWriteError, Lake
from resources.reports import Report, build_report, reason, report_table, reports, stored_reports, write_report
from tests.resources.lakes import NOON, alarm, day, empty_lake, filled_lake
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
        "adverse_event_age_groups",
        "adverse_event_overdose_trend",
        "adverse_event_reactions_by_drug",
        "adverse_event_signals",
        "alarm_floods",
        "alarm_performance",
        "alarms_by_patient_and_day",
        "alarms_by_rule",
        "alarms_chattering",
        "alarms_standing",
        "alerts_by_rule_and_day",
        "arrival_delay",
        "clinical_dashboard",
        "clinical_devices",
        "clinical_loads",
        "data_quality",
        "device_attention",
        "glucose_control_ranking",
        "ingest_lag",
        "load_compliance",
        "patient_day_overview",
        "quarantine_by_reason",
        "vitals_day_overview",
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
    assert empty.schema == full.schema == report_table(report, full.schema).schema


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_a_report_can_be_written_to_the_lake(report, analytics):
    found = build_report(analytics, report)
    table = report_table(report, found.schema)
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
        assert write_report(analytics, REPORTS["quarantine_by_reason"]).rows == 2
        found.append((len(list(folder.glob("*.parquet"))), len(list(folder.glob("_delta_log/*.json")))))
        age(analytics.lake.table(report_table(REPORTS["quarantine_by_reason"], pl.Schema())), hours=1)
    assert max(data for data, _ in found) <= 4
    assert found[-1] == found[-2]


def test_adverse_event_reactions_by_drug(analytics):
    columns = ("drug_name", "rank", "reactionmeddrapt", "suspect_report_count", "serious_percent", "report_count")
    assert rows(analytics, "adverse_event_reactions_by_drug", *columns) == [
        ("Alpha", 1, "Rash", 20, 50.0, 25),
        ("Alpha", 2, "Nausea", 10, 0.0, 12),
    ]


def test_adverse_event_age_groups(analytics):
    columns = ("reactionmeddrapt", "age_group", "report_count", "share_percent", "rank")
    assert rows(analytics, "adverse_event_age_groups", *columns) == [
        ("Nausea", "75+", 30, 75.0, 1),
        ("Rash", "18-44", 10, 100.0, 1),
        ("Rash", "75+", 10, 25.0, 2),
        ("Rash", "unknown", 5, 100.0, None),
    ]


def test_adverse_event_overdose_trend(analytics):
    columns = ("month", "report_count", "change_to_month_before")
    months = rows(analytics, "adverse_event_overdose_trend", *columns)
    assert [each[1:] for each in months] == [(3, 3), (5, 2), (4, 4)]


def test_adverse_event_signals(analytics):
    columns = ("substance", "reactionmeddrapt", "report_count", "expected_count", "b", "c", "d", "raised_at")
    assert rows(analytics, "adverse_event_signals", *columns) == [("ALPHA", "Rash", 20, 3.0, 80, 10, 890, NOON)]


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


def test_ingest_lag(analytics):
    columns = ("stream", "ingest_date", "event_count", "wait_p50_seconds", "wait_max_seconds")
    found = rows(analytics, "ingest_lag", *columns)
    assert found == [("glucose_readings", day(23), 2, 0.0, 0.0)]


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


def test_data_quality_counts_what_retention_removed_and_what_was_put_back_once(tmp_path):
    counts = ("event_count", "reading_count", "silver_count", "quarantined_count", "duplicate_count")
    analytics, stream = filled_lake(tmp_path), "glucose_readings"
    record = Record(f"bronze/{stream}", day(21), "deleted", NOON, "id", 1, rows=4, checksum="", readings=9)
    for each in (
        record,
        replace(record, table_name=f"silver/{stream}", rows=6, readings=None),
        replace(record, table_name=f"quarantine/{stream}", rows=2, readings=None),
        replace(record, table_name=f"alerts/{stream}", rows=7, readings=None),
        replace(record, ingest_date=day(23), rows=100, readings=100),
    ):
        add_record(analytics.lake, each)
    found = build_report(analytics, REPORTS["data_quality"]).filter(stream=stream)
    assert found.select("ingest_date", *counts).head(2).rows() == [(day(21), 4, 9, 6, 2, 1), (day(23), 2, 9, 5, 3, 1)]


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


def test_vitals_day_overview_says_for_how_long_a_patient_was_at_risk(analytics):
    columns = ("patient_id", "event_date", "reading_count", "scored_minutes", "news2_max", "news2_last")
    assert rows(analytics, "vitals_day_overview", *columns) == [(1, day(23), 5, 5, 8, 5)]
    risk = ("medium_risk_minutes", "high_risk_minutes", "spo2_percent_min", "alert_count")
    assert rows(analytics, "vitals_day_overview", *risk) == [(5, 2, 91.0, 0)]


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
    with pytest.raises(QueryError, match=r"total.*half.*CAST"):
        build_report(analytics, report)


def test_a_file_that_is_wrong_stops_its_own_report_only(tmp_path):
    (tmp_path / "mute.sql").write_text("SELECT 1;\n")
    (tmp_path / "of-another-code.sql").write_bytes("-- Wie süß?\nSELECT 1 AS one;\n".encode("latin-1"))
    (tmp_path / "sound.sql").write_text("-- How many?\nSELECT 1::BIGINT AS one;\n")
    mute, coded, sound = reports(tmp_path)
    analytics = empty_lake(tmp_path / "lake")
    with pytest.raises(QueryError, match=r"mute\.sql: begin with a comment"):
        build_report(analytics, mute)
    with pytest.raises(QueryError, match=r"of-another-code\.sql cannot be read as UTF-8"):
        build_report(analytics, coded)
    assert build_report(analytics, sound).rows() == [(1,)]


def report(sql: str) -> Report:
    return Report("changing", "How many?", sql)


def stored(lake: Lake) -> pl.DataFrame:
    [table] = stored_reports(lake, [report("")])
    return Analytics(lake, [table]).query("FROM gold.report_changing")


def test_a_report_s_table_follows_its_statement(tmp_path):
    lake = Lake(str(tmp_path))
    for sql, columns, rows in (
        ("SELECT 100::BIGINT AS a", {"a": pl.Int64}, [(100,)]),
        ("SELECT 100.5::DOUBLE AS a", {"a": pl.Float64}, [(100.5,)]),
        ("SELECT 1.5::DOUBLE AS a, 'x' AS b", {"a": pl.Float64, "b": pl.String}, [(1.5, "x")]),
        ("SELECT 'y' AS b, 2.5::DOUBLE AS a", {"a": pl.Float64, "b": pl.String}, [(2.5, "y")]),
        ("SELECT 3::BIGINT AS c WHERE false", {"c": pl.Int64}, []),
    ):
        assert write_report(Analytics(lake, []), report(sql)).rows == len(rows)
        found = stored(lake)
        assert found.select(sorted(found.columns)).rows() == rows
        assert pl.Schema({name: found.schema[name] for name in sorted(found.columns)}) == pl.Schema(columns)


def test_a_report_that_fails_keeps_the_rows_it_had(tmp_path):
    lake = Lake(str(tmp_path))
    write_report(Analytics(lake, []), report("SELECT 1::BIGINT AS a"))
    for wrong in ("SELECT 1.5::DOUBLE AS a, nope", "SELECT error('late')", "SELECT 1.5 AS a"):
        with pytest.raises(QueryError):
            write_report(Analytics(lake, []), report(wrong))
    assert stored(lake).rows() == [(1,)]


def test_reports_that_were_never_built_or_cannot_be_opened_are_no_tables(tmp_path):
    lake = Lake(str(tmp_path))
    assert stored_reports(lake, [report("")]) == []
    write_report(Analytics(lake, []), report("SELECT 1::BIGINT AS a"))
    for entry in (tmp_path / "gold" / "report_changing" / "_delta_log").iterdir():
        entry.write_text("broken")
    assert stored_reports(lake, [report("")]) == []


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT nope", 'Binder Error: Referenced column "nope" was not found'),
        ("SELEC 1", "syntax error"),
        ("FROM silver.nope", "does not exist"),
        ("SELECT ('Zoë ' || i)::BIGINT AS a FROM range(2) t(i)", "while it ran (ConversionException)"),
        ("SELECT error('Zoë ' || i) AS a FROM range(2) t(i)", "while it ran (InvalidInputException)"),
    ],
)
def test_why_a_report_failed_is_said_without_what_stands_in_a_row(tmp_path, sql, expected):
    with pytest.raises(QueryError) as failed:
        build_report(Analytics(Lake(str(tmp_path)), []), report(sql))
    assert expected in reason(failed.value)
    assert "Zoë" not in reason(failed.value)


def test_errors_of_writing_are_said_and_unknown_ones_named():
    assert reason(ConcurrentWriteError("gold/report_x: another\n writer")) == "gold/report_x: another writer"
    assert reason(RuntimeError("Zoë is 12")) == "RuntimeError"


def test_a_report_s_columns_keep_every_type(analytics):
    report = Report(
        "types",
        "Which?",
        "SELECT 'a' AS s, 1::BIGINT AS i, 1.5::DOUBLE AS f, true AS b, DATE '2026-11-23' AS d, now() AS t",
    )
    found = build_report(analytics, report)
    assert list(report_table(report, found.schema).schema.values()) == [
        pl.String(),
        pl.Int64(),
        pl.Float64(),
        pl.Boolean(),
        pl.Date(),
        pl.Datetime("us", "UTC"),
    ]
    assert found["t"].item() > datetime(2026, 1, 1, tzinfo=UTC)


def test_clinical_loads_are_those_that_bronze_has(analytics):
    found = rows(analytics, "clinical_loads", "source", "load_id", "row_count", "quarantined_count", "reasons")
    assert found == [("ehr", "first", 3, 0, None), ("ehr", "third", 3, 1, "missing:reading")]


def test_the_clinical_dashboard_and_devices_have_shares(analytics):
    assert rows(analytics, "clinical_dashboard", "reading_count", "outlier_percent") == [(2, 50.0)]
    assert rows(analytics, "clinical_devices", "offline_percent", "battery_last_percent") == [(25.0, 45.0)]


def test_alarm_performance_counts_alarms_what_was_missed_and_what_never_was(analytics):
    report = build_report(analytics, REPORTS["alarm_performance"])
    [found] = report.filter(pl.col("event_date") == day(23)).rows(named=True)
    assert (found["alarm_count"], found["entity_count"], found["missed_count"], found["retracted_count"]) == (
        14,
        11,
        1,
        1,
    )
    assert (found["peak_in_10_min"], found["chattering_count"], found["standing_24_h_count"]) == (13, 1, 1)
    assert (found["acknowledge_p50_s"], found["escalated_count"], found["alert_count"]) == (240.0, 1, 3)
    assert found["alerts_per_alarm"] == pytest.approx(3 / 14)
    assert found["urgent_percent"] == pytest.approx(100 * 10 / 14)
    assert found["missed_percent"] == pytest.approx(100 / 15)
    assert found["flood_percent"] == pytest.approx(100 / 144)


def test_a_day_on_which_everything_was_missed_has_a_row(tmp_path):
    analytics = empty_lake(tmp_path)
    late = alarm(NOON, state="missed", is_late=True)
    analytics.lake.table(ALARMS).ensure().append(late, transactions={}, event_dates=[day(23)])
    [found] = build_report(analytics, REPORTS["alarm_performance"]).rows(named=True)
    assert (found["alarm_count"], found["missed_count"], found["missed_percent"]) == (0, 1, 100.0)
    assert found["alerts_per_alarm"] is None


def test_alarms_by_patient_and_day_leave_missed_ones_apart(analytics):
    columns = ("entity", "event_date", "alarm_count", "urgent_count", "missed_count", "retracted_count", "open_count")
    found = rows(analytics, "alarms_by_patient_and_day", *columns)
    assert (1, day(23), 4, 0, 1, 1, 0) in found
    assert (2, day(23), 1, 1, 0, 0, 0) in found
    assert (2, datetime(2020, 1, 1, tzinfo=UTC).date(), 1, 0, 0, 0, 1) in found


def test_three_alarms_of_a_patient_within_ten_minutes_chatter(analytics):
    columns = ("entity", "cause", "alarm_count", "chattering_count", "most_in_10_min", "first_at")
    last = NOON + timedelta(minutes=9)
    assert rows(analytics, "alarms_chattering", *columns) == [(1, "glucose_low", 4, 1, 3, last)]


def test_an_alarm_that_is_open_for_more_than_a_day_stands(analytics):
    assert rows(analytics, "alarms_standing", "entity", "cause") == [(2, "glucose_high")]


def test_rules_are_ranked_by_the_alarms_of_the_newest_dates(analytics):
    columns = ("rank", "rule_id", "alarm_count", "share_percent", "entity_count")
    assert rows(analytics, "alarms_by_rule", *columns) == [(1, "glucose_low", 14, 100.0, 11)]


def test_a_flood_is_of_all_of_a_care_team_or_of_a_subscriber(analytics):
    found = rows(analytics, "alarm_floods", "audience", "name", "period_begins_at", "alarm_count")
    # Subscriber 6 is told of one patient, 7 of the ten urgent alarms, and 8 only of what nobody reacted to.
    assert found == [("all", "all", NOON, 13), ("care_team", "North", NOON, 13), ("subscriber", "5", NOON, 13)]
