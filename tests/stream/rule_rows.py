"""Versions of rules as values, and which one holds, by the definition."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from assets.bitemporal import SAFETY_DELAY
from assets.reference.rules import RULES

Row = Mapping[str, Any]

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
SCHEMA = RULES.schema


def rule_row(rule_id: str, threshold: float, version: int, **more: Any) -> dict[str, Any]:
    """A version of a rule of the glucose stream."""
    given = {
        "stream": "glucose_readings",
        "cause": rule_id,
        "kind": "level",
        "column": "mean_10_min" if "average" in rule_id else "glucose_mg_dl",
        "comparison": "below" if "low" in rule_id else "above",
        "severity": "urgent" if "urgent" in rule_id else "warning",
        "scope": "all",
        "is_enabled": True,
        "is_deleted": False,
        "valid_from": LONG_AGO,
        "known_at": LONG_AGO,
    }
    row = dict.fromkeys(SCHEMA) | given | {"rule_id": rule_id, "threshold": threshold, "version": version} | more
    return {name: row[name] for name in SCHEMA}


def frame_of(rows: Iterable[Row]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=SCHEMA, orient="row")


def holding(
    rows: Sequence[Row], people: Sequence[Row], rule_id: str, patient: int, measured_at: datetime, pulled_at: datetime
) -> Row | None:
    """The version of a rule that holds for a reading; None where only the contract's does."""
    known_by = pulled_at - SAFETY_DELAY
    person = _last(each for each in people if each["patient_id"] == patient and _counts(each, measured_at, known_by))
    zone = ZoneInfo((person and person["time_zone"]) or "UTC")
    groups = ((person and person["groups"]) or "").split(";")
    things: dict[tuple[Any, ...], list[Row]] = {}
    for each in rows:
        if each["rule_id"] == rule_id and _counts(each, measured_at, known_by):
            things.setdefault((each["scope"], each["hours_from"], each["hours_to"]), []).append(each)
    scopes = ["all", *(f"group:{group}" for group in groups if group), f"patient:{patient}"]
    local = measured_at.astimezone(zone).strftime("%H:%M")
    applicable = [
        row
        for row in map(_last, things.values())
        if row is not None
        if row["scope"] in scopes and _is_within(row["hours_from"], row["hours_to"], local)
    ]
    return max(applicable, key=_precedence, default=None)


def _counts(row: Row, measured_at: datetime, known_by: datetime) -> bool:
    return bool(row["valid_from"] <= measured_at and row["known_at"] <= known_by)


def _last(versions: Iterable[Row]) -> Row | None:
    last = max(versions, key=lambda row: (row["valid_from"], row["known_at"], row.get("version", 0)), default=None)
    return None if last is None or last["is_deleted"] else last


def _is_within(begins: str | None, ends: str | None, local: str) -> bool:
    if begins is None or ends is None:
        return True
    return begins <= local < ends if begins < ends else local >= begins or local < ends


def _precedence(row: Row) -> tuple[Any, ...]:
    scope = ["all", "group", "patient"].index(row["scope"].partition(":")[0])
    return scope, row["hours_from"] is not None, row["valid_from"], row["known_at"], row["version"]
