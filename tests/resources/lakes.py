"""A small lake with the tables that the reports read."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from assets.adverse_events import tables as adverse_events
from assets.adverse_events.assets import GOLD as ADVERSE_EVENTS_GOLD
from assets.adverse_events.signal_alerts import changes
from assets.adverse_events.signals import safety_signals
from assets.alarms.measures import ALARMS
from assets.archived import RETENTION
from assets.clinical import tables as clinical
from assets.clinical.sources import EHR, LOADS
from assets.devices import tables as devices
from assets.devices.assets import CONTRACT as DEVICES
from assets.devices.contract import DeviceAlerts, DeviceReadings
from assets.devices.gold import device_health
from assets.glucose import tables as glucose
from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.glucose.contract import GlucoseAlerts, GlucoseReadings
from assets.glucose.gold import glucose_daily, patient_comparison
from assets.reference.tables import PATIENTS, SUBSCRIPTIONS
from assets.stream.contract import BronzeRows, QuarantineRows
from assets.stream.layers import layers
from assets.vitals import tables as vitals
from assets.vitals.assets import CONTRACT as VITALS
from assets.vitals.contract import Vitals, VitalsAlerts
from assets.vitals.gold import news2_evaluations, vitals_daily
from resources.analytics import Analytics
from resources.audit import AUDIT, audited
from resources.lake import Lake
from resources.table import Table

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ROWS = {
    "bronze": (BronzeRows,) * 3,
    "quarantine": (QuarantineRows,) * 3,
    "alerts": (GlucoseAlerts, DeviceAlerts, VitalsAlerts),
    "silver": (GlucoseReadings, DeviceReadings, Vitals),
}
STREAMS = ("glucose_readings", "device_readings", "vitals")
TABLES = {
    f"{layer}/{stream}": Table(f"{layer}/{stream}", rows, ("ingest_date",))
    for layer, pair in ROWS.items()
    for stream, rows in zip(STREAMS, pair, strict=True)
}
SILVER = TABLES["silver/glucose_readings"]
UNIONS = layers([GLUCOSE, DEVICES, VITALS])
CLINICAL = (*LOADS.tables, clinical.DEVICE_PERFORMANCE, clinical.PATIENT_MONITORING_BY_KIND)
ADVERSE_EVENTS = (*(gold.table for gold in ADVERSE_EVENTS_GOLD), adverse_events.SAFETY_SIGNAL_CHANGES)


def empty_lake(folder: Path) -> Analytics:
    gold = (*glucose.GOLD, *devices.GOLD, *vitals.GOLD, *ADVERSE_EVENTS)
    of_people = (PATIENTS, SUBSCRIPTIONS)
    tables = (*TABLES.values(), *gold, ALARMS, *(each.table for each in of_people), RETENTION, AUDIT, *CLINICAL)
    return Analytics(Lake(str(folder)), tables, (*UNIONS, *(each.current for each in of_people), LOADS))


def row(at: datetime = NOON, **values: Any) -> dict[str, Any]:
    """A row of any stream table; what is not said has a plain value."""
    received = values.pop("received_at", at + timedelta(seconds=2))
    plain = {
        "patient_id": 1,
        "device_id": 10,
        "measured_at": at,
        "received_at": received,
        "pulled_at": received,
        "glucose_mg_dl": 100.0,
        "battery_level": 80.0,
        "firmware_version": "1.2.3",
        "connectivity_status": "Connected",
        "error_codes": "",
        "partition": 0,
        "sequence_number": 0,
        "event_index": 0,
        "reading_count": 1,
        "rule_version": 1,
        "threshold": 115.0,
        "event_date": at.date(),
        "ingest_date": received.date(),
    }
    return plain | values


def frame(table: Table, *rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([{name: row.get(name) for name in table.schema} for row in rows], schema=table.schema)


def fill(analytics: Analytics, name: str, *rows: dict[str, Any]) -> pl.DataFrame:
    table = TABLES[name]
    written = frame(table, *rows)
    dates = written["event_date"].unique().to_list() if "event_date" in table.schema else []
    analytics.lake.table(table).ensure().append(written, transactions={}, event_dates=dates)
    return written


def filled_lake(folder: Path) -> Analytics:
    """Patient 1 has five readings on the 23rd, patient 2 one on the 24th; device 10 is low, 20 well, 30 quiet."""
    analytics = empty_lake(folder)
    levels = [50.0, 100.0, 120.0, 180.0, 300.0]
    minutes = [timedelta(minutes=5 * step) for step in range(len(levels))]
    fill(analytics, "bronze/glucose_readings", row(reading_count=7), row(sequence_number=1, reading_count=2))
    readings = fill(
        analytics,
        "silver/glucose_readings",
        *[row(NOON + after, glucose_mg_dl=level) for after, level in zip(minutes, levels, strict=True)],
        row(NOON + timedelta(days=1), patient_id=2, device_id=20, received_at=NOON + timedelta(days=1, minutes=11)),
    )
    fill(
        analytics,
        "quarantine/glucose_readings",
        row(reason="not_json", body="{'patient_id': 7}"),
        row(reason="not_json", body="\x1b[2J"),
        row(reason="bad_timestamp", body="{}"),
    )
    fill(
        analytics,
        "alerts/glucose_readings",
        row(alert_id="a", rule="glucose_high", severity="warning"),
        row(alert_id="b", rule="glucose_high", severity="warning"),
        row(alert_id="c", rule="glucose_urgent_low", severity="urgent"),
    )
    reports = fill(
        analytics,
        "silver/device_readings",
        row(NOON, battery_level=30.0),
        row(NOON + timedelta(days=1), battery_level=12.0, error_codes="Err1"),
        row(NOON + timedelta(days=1), device_id=20),
        row(NOON - timedelta(hours=1), device_id=30),
    )
    # Of vitals there is gold only, so that what is counted over all streams stays small.
    signs = frame(
        TABLES["silver/vitals"],
        *[
            row(NOON + after, heart_rate_bpm=131.0, spo2_percent=spo2, systolic_mmhg=120.0, temperature_c=37.0)
            | {"respiratory_rate_per_min": 21.0}
            for after, spo2 in zip(minutes, (98.0, 95.0, 93.0, 91.0, 97.0), strict=True)
        ],
    )
    daily = glucose_daily(readings)
    for table, rows in (
        (glucose.GLUCOSE_DAILY, daily),
        (glucose.PATIENT_COMPARISON, patient_comparison(daily)),
        (devices.DEVICE_HEALTH, device_health(reports)),
        (vitals.VITALS_DAILY, vitals_daily(signs)),
        (vitals.NEWS2, news2_evaluations(signs, [day(23)])),
        (ALARMS, alarms()),
        *people(),
        *adverse_events_gold(),
    ):
        analytics.lake.table(table).ensure().append(rows, transactions={})
    for table, rows in clinical_rows():
        analytics.lake.table(table).ensure().append(rows, transactions={})
    with audited(analytics.lake, "clinical silver", "silver/ehr", source="bronze/ehr") as entry:
        entry.rows_in, entry.rows_out, entry.rows_rejected = 3, 2, 1
    return analytics


def alarm(
    at: datetime, entity: int = 1, ended_after: timedelta | None = timedelta(minutes=20), **more: Any
) -> pl.DataFrame:
    """A row of `gold/alarms`, of a low glucose value; open without an end."""
    plain: dict[str, Any] = {
        "alarm_id": f"{entity}-{at.isoformat()}-{more.get('cause')}-{more.get('state')}",
        "stream": "glucose_readings",
        "entity": entity,
        "entity_key": "patient_id",
        "cause": "glucose_low",
        "severity": "warning",
        "worst_severity": "warning",
        "rule_id": "glucose_low",
        "raised_at": at,
        "decided_at": at + timedelta(seconds=2),
        "worst_value": 60.0,
        "reading_count": 1,
        "snooze_count": 0,
        "reminder_count": 0,
        "highest_tier": 0,
        "cleared_at": None if ended_after is None else at + ended_after,
        "ended": "open" if ended_after is None else "cleared",
        "duration_s": None if ended_after is None else ended_after.total_seconds(),
        "state": "open" if ended_after is None else "cleared",
        "is_late": False,
        "transition_count": 2,
        "event_date": at.date(),
        "is_open": ended_after is None,
    }
    return frame(ALARMS, plain | more)


def alarms() -> pl.DataFrame:
    """On the 23rd patient 1 has three alarms within 9 minutes, and ten others one each; one stands since 2020."""
    rows = [
        alarm(NOON + timedelta(minutes=minutes), acknowledge_s=60.0 * minutes, ended_after=MINUTE)
        for minutes in (0, 4, 9)
    ]
    rows += [
        alarm(NOON + timedelta(seconds=number), number, severity="urgent", worst_severity="urgent")
        for number in range(2, 12)
    ]
    rows.append(alarm(NOON + timedelta(hours=3), state="missed", is_late=True, transition_count=0))
    rows.append(alarm(NOON + timedelta(hours=5), state="retracted", ended_after=timedelta(hours=25), highest_tier=1))
    rows.append(
        alarm(datetime(2020, 1, 1, tzinfo=UTC), 2, ended_after=None, cause="glucose_high", rule_id="glucose_high")
    )
    return pl.concat(rows)


def people() -> Iterator[tuple[Table, pl.DataFrame]]:
    """North cares for patients 1 to 11. Subscriber 5 is told of all, 6 of patient 1, 7 of urgent alarms, 8 later."""
    long_ago = {"valid_from": datetime(2020, 1, 1, tzinfo=UTC), "known_at": datetime(2020, 1, 1, tzinfo=UTC)}
    long_ago_of: dict[str, Any] = {**long_ago, "is_deleted": False}
    patients = [{"patient_id": each, "care_team": "North", "groups": "icu;night"} for each in range(1, 12)]
    yield PATIENTS.table, frame(PATIENTS.table, *(each | long_ago_of for each in patients))
    told = [
        (5, "group:icu", 0, "info"),
        (6, "patient:1", 0, "info"),
        (7, "group:icu", 0, "urgent"),
        (8, "group:icu", 1, "info"),
    ]
    subscriptions = [
        {"subscription_id": of, "subscriber_id": of, "scope": scope, "tier": tier, "minimum_severity": least}
        for of, scope, tier, least in told
    ]
    yield SUBSCRIPTIONS.table, frame(SUBSCRIPTIONS.table, *(each | long_ago_of for each in subscriptions))


def adverse_events_gold() -> Iterator[tuple[Table, pl.DataFrame]]:
    """Rash is reported with ALPHA much more often than with others, nausea as often."""
    counts = {"A|Rash": 20, "A|Nausea": 10, "A|": 100, "|Rash": 30, "|Nausea": 100, "|": 1000}
    keys = [[part or None for part in key.split("|")] for key in counts]
    counted = pl.DataFrame(
        [[substance and "ALPHA", term, count] for (substance, term), count in zip(keys, counts.values(), strict=True)],
        schema=adverse_events.SIGNAL_COUNTS.schema,
        orient="row",
    )
    yield adverse_events.SIGNAL_COUNTS, counted
    signals = safety_signals(counted.lazy())
    yield adverse_events.SAFETY_SIGNALS, signals
    yield (
        adverse_events.SAFETY_SIGNAL_CHANGES,
        changes(signals.lazy(), pl.DataFrame(schema=adverse_events.SAFETY_SIGNAL_CHANGES.schema), NOON),
    )
    by_drug = [("Alpha", "Rash", 25, 10, 1, 20, 10, 1), ("Alpha", "Nausea", 12, 0, 0, 10, 0, 0)]
    by_age = [("Rash", "18-44", 10, 5, 0), ("Rash", "75+", 10, 5, 1), ("Nausea", "75+", 30, 0, 0)]
    by_age.append(("Rash", "unknown", 5, 0, 0))
    trend = [(date(2026, month, 1), "Alpha", count, count, 1, 0) for month, count in ((8, 3), (9, 5), (11, 4))]
    for table, rows in (
        (adverse_events.REACTIONS_BY_DRUG, by_drug),
        (adverse_events.REACTIONS_BY_AGE_GROUP, by_age),
        (adverse_events.OVERDOSE_TREND, trend),
    ):
        yield table, pl.DataFrame(rows, schema=table.schema, orient="row")


def clinical_rows() -> Iterator[tuple[Table, pl.DataFrame]]:
    """A load with a row that is quarantined, one that was killed, and what gold has of them."""
    loaded = {"loaded_at": NOON, "load_date": NOON.date(), "rows": 3}
    runs = [
        loaded | {"run_number": 1, "load_id": "first", "landed_as": "landing/ehr/first.parquet"},
        loaded | {"run_number": 2, "follows": 1, "load_id": "killed", "landed_as": "landing/ehr/killed.parquet"},
        loaded | {"run_number": 3, "follows": 1, "load_id": "third", "landed_as": "landing/ehr/third.parquet"},
    ]
    yield EHR.state, frame(EHR.state, *runs)
    bad = {"load_number": 3, "row_number": 2, "load_id": "third", "reason": "missing:reading", "body": "{}"}
    yield EHR.quarantine, frame(EHR.quarantine, loaded | bad)
    counts = {"event_count": 2, "outlier_count": 1, "alert_count": 1, "error_count": 0, "telemetry_count": 12}
    figures = {"avg_reading": 100.0, "min_reading": 90.0, "max_reading": 110.0, "kind": "glucose"}
    told = {"offline_count": 3, "battery_min_percent": 40.0, "battery_last_percent": 45.0, "signal_mean_dbm": -60.0}
    of_day = row(last_seen_at=NOON) | counts | figures | told
    for table in (clinical.DEVICE_PERFORMANCE, clinical.PATIENT_MONITORING_BY_KIND):
        yield table, frame(table, of_day)


def day(of_november: int) -> date:
    return date(2026, 11, of_november)
