"""A small lake with readings and alarms, and what the store should make of them, worked out by plain Python."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from assets.stream.contract import Contract
from assets.sync.alarms import AlarmFeed
from assets.sync.feed import AnyFeed
from orchestration.system import ALARM_FEEDS, FEEDS
from resources.lake import Lake, LakeTable
from resources.store import Store
from tests.resources.lakes import row

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = NOON.date()
NEXT_DAY = DAY + timedelta(days=1)
GLUCOSE, DEVICES, VITALS, REPORTS = FEEDS
GLUCOSE_ALARMS, DEVICE_ALARMS, VITALS_ALARMS = ALARM_FEEDS
PLACES = (None, "Größe", "quote \" and ' and \\", "tab\there\nand line", "NULL", "\\N", "心電図 😀", "")
"""Texts that a careless way into a database changes."""


def silver(lake: Lake, feed: AnyFeed) -> LakeTable:
    return lake.table(feed.contract.tables.silver).create()


def readings(numbers: Iterable[int], day: date = DAY, value: float = 100.0) -> list[dict[str, Any]]:
    """Glucose readings by their numbers: alternating between two partitions of the hub."""
    return [
        row(
            NOON + timedelta(seconds=5 * number, microseconds=number),
            patient_id=number % 5,
            device_id=number % 5 + 1000,
            glucose_mg_dl=value + number / 7,
            range_flag="below" if number % 11 == 0 else None,
            location=PLACES[number % len(PLACES)],
            partition=number % 2,
            sequence_number=number // 2,
            event_date=(NOON + timedelta(seconds=5 * number)).date(),
            ingest_date=day,
        )
        for number in numbers
    ]


def frame(table: LakeTable, rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=table.table.schema)


def add(lake: Lake, feed: AnyFeed, rows: Sequence[dict[str, Any]]) -> None:
    table = silver(lake, feed)
    table.append(frame(table, rows), transactions={})


def replace_day(lake: Lake, contract: Contract, day: date, rows: Sequence[dict[str, Any]]) -> None:
    """Replaces the rows of a day as a rebuild does, by the marks that it leaves."""
    table, app_id = lake.table(contract.tables.silver), f"{contract.stream}/replaced"
    number = table.transactions([app_id]).get(app_id, 0) + 1
    marks = {app_id: number, f"{app_id}/{number}": day.toordinal()}
    table.replace([frame(table, rows)], f"ingest_date = '{day.isoformat()}'", transactions=marks)


def expected(rows: Iterable[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Rows of `GlucoseReadings`, in order."""
    return sorted(
        (
            each["patient_id"],
            each["device_id"],
            each["measured_at"].replace(tzinfo=None),
            each["glucose_mg_dl"],
            each["location"],
            each["range_flag"],
            each["ingest_date"],
        )
        for each in rows
    )


def stored(store: Store) -> list[tuple[Any, ...]]:
    """The same of what the store has."""
    columns = ["patient_id", "device_id", "timestamp", "glucose_level", "location", "range_flag", "ingest_date"]
    return sorted(each for rows in store.rows("GlucoseReadings", columns) for each in rows.iter_rows())


def numbers_of_rows(store: Store) -> dict[tuple[Any, ...], int]:
    """Which number the database gave each reading."""
    frames = store.rows("GlucoseReadings", ["patient_id", "device_id", "timestamp", "reading_id"])
    return {each[:3]: each[3] for rows in frames for each in rows.iter_rows()}


def transition(alarm: int, index: int, kind: str, fold: int, **values: Any) -> dict[str, Any]:
    """A row of the alarms of glucose; an alarm is raised by the reading of its number."""
    raised_at = NOON + timedelta(seconds=5 * alarm, microseconds=alarm)
    at = raised_at + timedelta(minutes=index)
    state = {"acknowledged": "acknowledged", "snoozed": "snoozed", "cleared": "cleared", "closed": "cleared"}
    plain = {
        "alarm_id": f"{alarm:016x}",
        "index": index,
        "kind": kind,
        "at": at,
        "decided_at": at,
        "stream": "glucose_readings",
        "entity": alarm % 5,
        "cause": "glucose_low",
        "severity": "warning",
        "state": state.get(kind, "unacknowledged"),
        "value": 60.0 + index,
        "threshold": 70.0,
        "worst_value": 60.0,
        "reading_count": index + 1,
        "tier": 0,
        "raised_at": raised_at,
        "measured_at": at,
        "is_late": False,
        "is_stale": False,
        "is_update": kind == "updated",
        "fold": fold,
        "hub_epoch": 0,
        "partition": 0,
        "sequence_number": alarm,
        "event_index": 0,
        "event_date": at.date(),
        "ingest_date": DAY,
    }
    return plain | values


def history(folds: Iterable[int], day: date = DAY) -> list[dict[str, Any]]:
    """What happens to alarms: at each step one is raised, the one before is acknowledged, the one before that ends.

    Between them are rows that are no transitions: what an open alarm has come to, and actions that name no alarm.
    """
    rows = []
    for fold in folds:
        rows.append(transition(fold, 0, "raised", fold, ingest_date=day))
        if fold > 1:
            actor = str(fold) if fold % 2 else "ward 3"
            known = {"actor": actor, "note": PLACES[fold % len(PLACES)], "ingest_date": day}
            rows.append(transition(fold - 1, 1, "acknowledged", fold, **known))
            rows.append(transition(fold - 1, 1, "updated", fold, reading_count=7, ingest_date=day))
        if fold > 2:
            kind = "closed" if fold % 7 == 0 else "cleared"
            rows.append(transition(fold - 2, 2, kind, fold, ingest_date=day))
        if fold % 5 == 0:
            nobody = {"entity": None, "cause": None, "severity": None, "state": None, "raised_at": None}
            rows.append(transition(0, -1, "refused", fold, **nobody, ingest_date=day))
    return rows


def add_alarms(lake: Lake, rows: Sequence[dict[str, Any]], feed: AlarmFeed = GLUCOSE_ALARMS) -> None:
    """Commits steps of the fold as a session does."""
    table = lake.table(feed.contract.tables["alarms"]).create()
    marks = {f"{feed.stream}/folds": max(each["fold"] for each in rows)}
    table.append(frame(table, rows), transactions=marks)


def expected_alarms(rows: Iterable[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Rows of `Alerts`, in order: of each alarm its last transition."""
    last: dict[str, dict[str, Any]] = {}
    for each in _transitions(rows):
        if each["alarm_id"] not in last or last[each["alarm_id"]]["index"] < each["index"]:
            last[each["alarm_id"]] = each
    names = {"unacknowledged": "open", "cleared": "cleared"}
    return sorted(
        (
            alarm_id,
            each["entity"],
            each["raised_at"].replace(tzinfo=None),
            "closed" if each["kind"] == "closed" else names.get(each["state"], each["state"]),
            each["index"],
            f"glucose low, {each['severity']}: {each['value']}, threshold 70.0, worst 60.0",
            each["ingest_date"],
        )
        for alarm_id, each in last.items()
    )


def expected_lifecycle(rows: Iterable[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Rows of `AlertLifecycle`, in order."""
    return sorted(
        (
            each["alarm_id"],
            each["index"],
            each["kind"],
            each["at"].replace(tzinfo=None),
            each.get("actor") or "",
            each.get("note") or "",
        )
        for each in _transitions(rows)
    )


def stored_alarms(store: Store) -> list[tuple[Any, ...]]:
    """The rows of `Alerts`."""
    columns = ["alert_id", "patient_id", "timestamp", "state", "transition_index", "message", "ingest_date"]
    return sorted(each for rows in store.rows("Alerts", columns) for each in rows.iter_rows())


def stored_lifecycle(store: Store) -> list[tuple[Any, ...]]:
    """The rows of `AlertLifecycle`."""
    columns = ["alert_id", "transition_index", "action_type", "action_timestamp", "actor", "action_note"]
    found = (each for rows in store.rows("AlertLifecycle", columns) for each in rows.iter_rows())
    return sorted((*each[:4], each[4] or "", each[5] or "") for each in found)


def _transitions(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in rows if not each["is_update"] and each["index"] >= 0]
