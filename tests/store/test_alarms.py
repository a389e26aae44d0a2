"""Transitions of alarms as rows of the store."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from assets.sync.alarms import alert_lifecycle, alerts
from resources.store_tables import AlertLifecycle, Alerts, Base, polars_schema

RAISED_AT = datetime(2026, 11, 23, 10, 2, tzinfo=UTC)
ENTITIES = {"glucose_readings": "patient_id", "device_readings": "device_id", "adverse_events": "safetyreportid"}
SCHEMA = {
    "alarm_id": pl.String(),
    "index": pl.Int64(),
    "kind": pl.String(),
    "at": pl.Datetime("us", "UTC"),
    "decided_at": pl.Datetime("us", "UTC"),
    "stream": pl.String(),
    "entity": pl.String(),
    "cause": pl.String(),
    "severity": pl.String(),
    "rule_id": pl.String(),
    "rule_version": pl.Int64(),
    "value": pl.Float64(),
    "threshold": pl.Float64(),
    "worst_value": pl.Float64(),
    "reading_count": pl.Int64(),
    "actor": pl.String(),
    "note": pl.String(),
    "is_late": pl.Boolean(),
    "event_date": pl.Date(),
    "ingest_date": pl.Date(),
}


def transitions(*kinds: str, alarm: str = "a", **values: Any) -> pl.DataFrame:
    """The transitions of an alarm, a minute apart, from the last to the first."""
    plain = {
        "alarm_id": alarm,
        "stream": "glucose_readings",
        "entity": "7",
        "cause": "glucose_low",
        "severity": "warning",
        "threshold": 70.0,
        "is_late": False,
        "ingest_date": RAISED_AT.date(),
    }
    rows = [
        plain
        | {
            "index": index,
            "kind": kind,
            "at": RAISED_AT + timedelta(minutes=index),
            "value": 65.0 - index,
            "worst_value": 65.0 - index,
        }
        | values
        for index, kind in enumerate(kinds)
    ]
    return pl.DataFrame(rows[::-1], schema=SCHEMA)


def states(*kinds: str) -> str:
    [state] = alerts(transitions(*kinds), ENTITIES)["state"]
    return str(state)


def test_an_alarm_is_one_row_however_many_transitions_it_has():
    [row] = alerts(transitions("raised", "worsened", "eased"), ENTITIES).iter_rows(named=True)
    assert row == {
        "severity": "warning",
        "state": "open",
        "stream": "glucose_readings",
        "is_late": False,
        "transition_index": 2,
        "ingest_date": date(2026, 11, 23),
        "alert_id": "a",
        "patient_id": 7,
        "device_id": None,
        "reading_id": None,
        "alert_type": "glucose_low",
        "message": "glucose low, warning: 65.0, threshold 70.0, worst 63.0",
        "timestamp": datetime(2026, 11, 23, 10, 2),
    }


def test_the_state_is_that_of_the_last_transition_that_changes_it():
    assert states("raised") == "open"
    assert states("raised", "acknowledged", "eased", "stale") == "acknowledged"
    assert states("raised", "acknowledged", "worsened") == "open"
    assert states("raised", "snoozed", "escalated") == "snoozed"
    assert states("raised", "snoozed", "reminded") == "open"
    assert states("raised", "acknowledged", "cleared") == "cleared"
    assert states("raised", "retracted") == "retracted"
    assert states("missed") == "missed"


def test_what_an_alarm_is_about_goes_into_the_column_of_its_stream():
    device = transitions("raised", alarm="d", stream="device_readings", entity="1009")
    report = transitions("raised", alarm="r", stream="adverse_events", entity="US-1", value=None, worst_value=None)
    rows = alerts(pl.concat([device, report]), ENTITIES).sort("alert_id")
    assert rows.select("patient_id", "device_id").rows() == [(None, 1009), (None, None)]
    assert rows["message"][1] == "glucose low, warning, threshold 70.0"


def test_each_transition_is_a_row_and_an_actor_who_subscribes_is_named():
    found = alert_lifecycle(
        pl.concat(
            [
                transitions("raised"),
                transitions("acknowledged", alarm="b", actor="12", note="on my way"),
                transitions("acknowledged", alarm="c", actor="ward 3"),
            ]
        )
    ).sort("alert_id")
    assert found.select("alert_id", "action_by_user_id", "action_type", "action_note", "actor").rows() == [
        ("a", None, "raised", None, None),
        ("b", 12, "acknowledged", "on my way", "12"),
        ("c", None, "acknowledged", None, "ward 3"),
    ]


def test_rows_have_the_types_of_the_tables():
    rows = transitions("raised", "cleared")
    for made, table in ((alerts(rows, ENTITIES), Alerts), (alert_lifecycle(rows), AlertLifecycle)):
        schema = polars_schema(Base.metadata.tables[table.__tablename__])
        assert dict(made.schema).items() <= dict(schema).items()
        given = {"lifecycle_id", "sync_generation"}
        assert {*schema} - {*made.columns} <= given
