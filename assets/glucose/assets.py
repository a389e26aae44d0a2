"""The glucose domain in Dagster: its stream and its gold tables."""

from assets.adapters.adaptation import adaptation
from assets.glucose import gold, rules, silver
from assets.glucose.contract import STREAM, ForeignGlucose, GlucoseAlerts, GlucosePayload, GlucoseReadings
from assets.glucose.slots import glucose_slots
from assets.glucose.tables import GLUCOSE_DAILY, GLUCOSE_MOVING_AVERAGE, PATIENT_COMPARISON, GlucoseSlots
from assets.gold import DailyGold, DerivedGold
from assets.reference.enrichments import OF_DEVICE, OF_PATIENT
from assets.reference.rules import BY_PATIENT
from assets.slots import Slots
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
    adaptation=adaptation(STREAM, ForeignGlucose),
    alert_payload=rules.alert_payload,
    windows=rules.WINDOWS,
    rules=rules.RULES,
    enrich=(OF_DEVICE, OF_PATIENT),
    rule_table=BY_PATIENT,
    alarms=rules.ALARMS,
    plausible={"glucose_mg_dl": (silver.LOWEST_MG_DL, silver.HIGHEST_MG_DL)},
)

SLOTS = Slots(CONTRACT.tables.silver, GlucoseSlots, glucose_slots, entity="patient_id")
GOLD = (
    DailyGold(GLUCOSE_DAILY, SLOTS, lambda slots, _: gold.glucose_daily_of(slots)),
    DailyGold(GLUCOSE_MOVING_AVERAGE, SLOTS, gold.glucose_moving_average_of, days_back=1),
    DerivedGold(PATIENT_COMPARISON, GLUCOSE_DAILY, gold.patient_comparison),
)
