"""The adverse event domain in Dagster: its stream and its gold tables."""

from datetime import timedelta

from assets.adverse_events import gold, rules, signal_alerts, signals, silver
from assets.adverse_events.contract import (
    DRUGS,
    REACTIONS,
    SILVER,
    STREAM,
    AdverseEventAlerts,
    AdverseEventPayload,
    SafetyReports,
)
from assets.adverse_events.tables import (
    OVERDOSE_TREND,
    PATIENT_ADVERSE_EVENT_REPORT,
    REACTIONS_BY_AGE_GROUP,
    REACTIONS_BY_DRUG,
    REPORTS_BY_SUBSTANCE,
    SAFETY_SIGNAL_CHANGES,
    SAFETY_SIGNALS,
    SIGNAL_COUNTS,
)
from assets.gold import DerivedGold
from assets.gold_alerts import GoldAlerts
from assets.stream.contract import Contract
from assets.versioned import CountedGold, CurrentGold
from resources.table import View

CONTRACT = Contract(
    stream=STREAM,
    payload=AdverseEventPayload,
    silver=SafetyReports,
    alerts=AdverseEventAlerts,
    keys=("safetyreportid", "safetyreportversion"),
    entity="safetyreportid",
    values=("content",),
    clean=silver.clean,
    alert_payload=rules.alert_payload,
    rules=rules.RULES,
    silver_name=SILVER,
    children=(DRUGS, REACTIONS),
    versions=("safetyreportversion", "measured_at"),
    # openFDA loads reports every few months.
    max_silence=timedelta(days=120),
)

REPORT_COUNTS = ("report_count", "serious_count", "death_count")
GOLD = (
    CurrentGold(CONTRACT, PATIENT_ADVERSE_EVENT_REPORT, gold.patient_adverse_event_report, month=gold.RECEIVE_MONTH),
    CountedGold(
        CONTRACT,
        REACTIONS_BY_DRUG,
        gold.reactions_by_drug,
        counts=(*REPORT_COUNTS, *(f"suspect_{name}" for name in REPORT_COUNTS)),
    ),
    CountedGold(
        CONTRACT,
        REPORTS_BY_SUBSTANCE,
        gold.reports_by_substance,
        counts=(*REPORT_COUNTS, *(f"suspect_{name}" for name in REPORT_COUNTS)),
    ),
    CountedGold(CONTRACT, REACTIONS_BY_AGE_GROUP, gold.reactions_by_age_group, counts=REPORT_COUNTS),
    CountedGold(CONTRACT, OVERDOSE_TREND, gold.overdose_trend, counts=(*REPORT_COUNTS, "suspect_report_count")),
    CountedGold(CONTRACT, SIGNAL_COUNTS, gold.signal_counts, counts=("report_count",)),
    DerivedGold(SAFETY_SIGNALS, SIGNAL_COUNTS, signals.safety_signals),
)
VIEWS = (
    CONTRACT.versions_view("safety_report_versions"),
    View(
        "gold/serious_patient_adverse_event_report",
        "One row of gold.patient_adverse_event_report of a serious report: what the original platform kept.",
        [PATIENT_ADVERSE_EVENT_REPORT],
        f"SELECT * EXCLUDE (serious) FROM {PATIENT_ADVERSE_EVENT_REPORT.sql_name} WHERE serious",
    ),
)
SIGNAL_ALERTS = GoldAlerts(SAFETY_SIGNAL_CHANGES, SAFETY_SIGNALS, signal_alerts.changes, signal_alerts.events)
