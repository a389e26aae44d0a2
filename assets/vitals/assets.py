"""The vitals domain in Dagster: its stream and its gold tables."""

from assets.stream.contract import Contract
from assets.vitals import rules, silver
from assets.vitals.contract import HUB, STREAM, Vitals, VitalsAlerts, VitalsPayload

CONTRACT = Contract(
    stream=STREAM,
    hub=HUB,
    payload=VitalsPayload,
    silver=Vitals,
    alerts=VitalsAlerts,
    keys=("patient_id", "device_id"),
    entity="patient_id",
    values=(*silver.OBSERVATIONS, "is_sport_mode"),
    clean=silver.clean,
    alert_payload=rules.alert_payload,
    windows=rules.WINDOWS,
    scores=(rules.NEWS2,),
    rules=rules.RULES,
)
