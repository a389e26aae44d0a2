"""The glucose domain in Dagster: its stream and its gold tables."""

from assets.glucose import gold, rules, silver
from assets.glucose.contract import STREAM, GlucoseAlerts, GlucosePayload, GlucoseReadings
from assets.glucose.tables import GLUCOSE_DAILY, GLUCOSE_MOVING_AVERAGE, PATIENT_COMPARISON
from assets.gold import DailyGold, DerivedGold
from assets.stream.contract import Contract

CONTRACT = Contract(
    stream=STREAM,
    payload=GlucosePayload,
    silver=GlucoseReadings,
    alerts=GlucoseAlerts,
    keys=("patient_id", "device_id"),
    entity="patient_id",
    values=("glucose_mg_dl",),
    clean=silver.clean,
    alert_payload=rules.alert_payload,
    windows=rules.WINDOWS,
    rules=rules.RULES,
)

GOLD = (
    DailyGold(GLUCOSE_DAILY, CONTRACT.tables.silver, lambda rows, _: gold.glucose_daily(rows)),
    DailyGold(GLUCOSE_MOVING_AVERAGE, CONTRACT.tables.silver, gold.glucose_moving_average, days_back=1),
    DerivedGold(PATIENT_COMPARISON, GLUCOSE_DAILY, gold.patient_comparison),
)
