"""The vitals domain in Dagster: its stream and its gold tables."""

from assets.adapters.adaptation import adaptation
from assets.gold import DailyGold
from assets.reference.enrichments import OF_DEVICE, OF_PATIENT_WITH_SCALE
from assets.reference.rules import BY_PATIENT
from assets.slots import Slots
from assets.stream.contract import Contract
from assets.vitals import gold, rules, silver
from assets.vitals.contract import STREAM, ForeignVitals, Vitals, VitalsAlerts, VitalsPayload
from assets.vitals.slots import vitals_slots
from assets.vitals.tables import NEWS2, VITALS_DAILY, VITALS_MINUTE, VitalsSlots

CONTRACT = Contract(
    stream=STREAM,
    payload=VitalsPayload,
    silver=Vitals,
    alerts=VitalsAlerts,
    keys=("patient_id", "device_id"),
    entity="patient_id",
    values=(*silver.OBSERVATIONS, "is_sport_mode"),
    clean=silver.clean,
    adaptation=adaptation(STREAM, ForeignVitals),
    alert_payload=rules.alert_payload,
    windows=rules.WINDOWS,
    scores=(rules.NEWS2,),
    rules=rules.RULES,
    enrich=(OF_DEVICE, OF_PATIENT_WITH_SCALE),
    rule_table=BY_PATIENT,
    alarms=rules.ALARMS,
    plausible={column: (low, high) for column, low, high in silver.PLAUSIBLE.values()}
    | {"news2_score": (0, rules.HIGHEST_NEWS2)},
)

SLOTS = Slots(CONTRACT.tables.silver, VitalsSlots, vitals_slots, entity="patient_id")
GOLD = (
    DailyGold(VITALS_MINUTE, SLOTS, lambda slots, _: gold.vitals_minute_of(slots)),
    DailyGold(VITALS_DAILY, SLOTS, lambda slots, _: gold.vitals_daily_of(slots)),
    DailyGold(NEWS2, SLOTS, gold.news2_of, days_back=1, of_days_back=gold.LAST_MINUTES),
)
