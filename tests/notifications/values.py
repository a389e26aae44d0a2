"""Transitions, people and what waits, as values."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from assets.notifications.people import People, people
from assets.notifications.transitions import Transition
from assets.reference.tables import DEVICES, PATIENTS, SUBSCRIBERS, SUBSCRIPTIONS, Reference

NOW = datetime(2026, 11, 23, 10, 2, tzinfo=UTC)


def transition(alarm: str = "a", index: int = 0, kind: str = "raised", **values: Any) -> Transition:
    """One transition of an alarm, a minute after the one before."""
    at = NOW + timedelta(minutes=index)
    plain: dict[str, Any] = {
        "at": at,
        "decided_at": at,
        "stream": "glucose_readings",
        "cause": "glucose_low",
        "severity": "warning",
        "state": "cleared" if kind == "cleared" else "unacknowledged",
        "patient_id": 7,
        "value": 65.0 - index,
        "threshold": 70.0,
        "raised_at": NOW,
        "measured_at": at,
    }
    return Transition(alarm_id=alarm, index=index, transition=kind, **plain | values)


def rows(reference: Reference, *given: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(given), schema=reference.table.schema)


def subscriber(number: int, channels: str | None = None, **values: Any) -> dict[str, Any]:
    return {
        "subscriber_id": number,
        "name": f"Person {number}",
        "type": "doctor",
        "channels": channels or f"C{number}",
    } | values


def subscription(
    number: int, who: int, scope: str, tier: int = 0, severity: str = "warning", told: str | None = None
) -> dict[str, Any]:
    return {
        "subscription_id": number,
        "subscriber_id": who,
        "scope": scope,
        "tier": tier,
        "minimum_severity": severity,
        "transitions": told,
    }


def people_of(
    subscribers: list[dict[str, Any]],
    subscriptions: list[dict[str, Any]],
    patients: tuple[dict[str, Any], ...] = ({"patient_id": 7, "groups": "elderly;icu"},),
    devices: tuple[dict[str, Any], ...] = (),
) -> People:
    return people(
        rows(SUBSCRIBERS, *subscribers),
        rows(SUBSCRIPTIONS, *subscriptions),
        rows(PATIENTS, *patients),
        rows(DEVICES, *devices),
    )
