"""Transitions of alarms as rows of the store."""

from datetime import date, datetime
from typing import Any

import polars as pl

from assets.sync.alarms import alert_lifecycle, alerts
from resources.store_tables import AlertLifecycle, Alerts, Base, polars_schema
from tests.store.values import GLUCOSE_ALARMS, transition

SCHEMA = GLUCOSE_ALARMS.contract.tables["alarms"].schema


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA)


def last(kind: str, **values: Any) -> dict[str, Any]:
    """The row of an alarm of which a transition is the last one."""
    [row] = alerts(frame(transition(7, 3, kind, 9, **values)), "patient_id").iter_rows(named=True)
    return row


def test_an_alarm_is_as_its_last_transition_says():
    assert last("eased", entity=7) == {
        "severity": "warning",
        "state": "open",
        "stream": "glucose_readings",
        "is_late": False,
        "transition_index": 3,
        "ingest_date": date(2026, 11, 23),
        "alert_id": "0000000000000007",
        "patient_id": 7,
        "device_id": None,
        "alert_type": "glucose_low",
        "message": "glucose low, warning: 63.0, threshold 70.0, worst 60.0",
        "timestamp": datetime(2026, 11, 23, 12, 0, 35, 7),
    }


def test_the_state_says_how_an_alarm_ended():
    assert last("raised")["state"] == last("stale")["state"] == "open"
    assert last("acknowledged")["state"] == "acknowledged"
    assert last("escalated", state="snoozed")["state"] == "snoozed"
    assert last("cleared")["state"] == "cleared"
    assert last("closed")["state"] == "closed"


def test_what_an_alarm_is_about_goes_into_the_column_of_its_stream():
    rows = frame(transition(1, 0, "raised", 1, entity=1009, value=None, worst_value=None))
    found = alerts(rows, "device_id")
    assert found.select("patient_id", "device_id", "message").rows() == [
        (None, 1009, "glucose low, warning, threshold 70.0")
    ]


def test_each_transition_is_a_row_and_an_actor_who_subscribes_is_named():
    found = alert_lifecycle(
        frame(
            transition(1, 0, "raised", 1),
            transition(2, 1, "acknowledged", 2, actor="12", note="on my way"),
            transition(3, 1, "acknowledged", 3, actor="ward 3"),
        )
    )
    assert found.select("transition_index", "action_by_user_id", "action_type", "action_note", "actor").rows() == [
        (0, None, "raised", None, None),
        (1, 12, "acknowledged", "on my way", "12"),
        (1, None, "acknowledged", None, "ward 3"),
    ]


def test_rows_have_the_types_of_the_tables():
    rows = frame(transition(1, 0, "raised", 1), transition(1, 1, "cleared", 2))
    for made, table in ((alerts(rows.tail(1), "patient_id"), Alerts), (alert_lifecycle(rows), AlertLifecycle)):
        schema = polars_schema(Base.metadata.tables[table.__tablename__])
        assert dict(made.schema).items() <= dict(schema).items()
        given = {"lifecycle_id", "reading_id", "sync_generation"}
        assert {*schema} - {*made.columns} <= given
