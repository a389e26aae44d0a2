"""The gold tables of the adverse event domain. Pure declarations; how they are computed is in `gold` and `signals`.

All counts are of reports, in their current version, and never of rows.
"""

import dataframely as dy

from assets.stream.contract import utc
from resources.table import Table


def _count() -> dy.Int64:
    return dy.Int64(nullable=False, min=0)


def _measure() -> dy.Float64:
    return dy.Float64(nullable=True)


class ReactionsByDrug(dy.Schema):
    """How many reports name a drug and a reaction. Key: drug_name, reactionmeddrapt.

    `suspect_…` counts only reports in which the drug is suspect (characterization 1). `death_count`: reports with
    seriousnessdeath.
    """

    drug_name = dy.String(nullable=False)
    reactionmeddrapt = dy.String(nullable=False)
    report_count = _count()
    serious_count = _count()
    death_count = _count()
    suspect_report_count = _count()
    suspect_serious_count = _count()
    suspect_death_count = _count()


class ReportsBySubstance(dy.Schema):
    """How many reports name a substance. Key: substance. `suspect_…` as in `ReactionsByDrug`."""

    substance = dy.String(nullable=False)
    report_count = _count()
    serious_count = _count()
    death_count = _count()
    suspect_report_count = _count()
    suspect_serious_count = _count()
    suspect_death_count = _count()


class ReactionsByAgeGroup(dy.Schema):
    """How many reports of an age group name a reaction. Key: reactionmeddrapt, age_group.

    Age groups are of completed years at onset: 0-1, 2-11, 12-17, 18-44, 45-64, 65-74, 75+, and unknown.
    """

    reactionmeddrapt = dy.String(nullable=False)
    age_group = dy.String(nullable=False)
    report_count = _count()
    serious_count = _count()
    death_count = _count()


class OverdoseTrend(dy.Schema):
    """How many reports of an overdose name a drug, by the month in which they were first received.

    Key: month (its first day), drug_name. A report is of an overdose if one of its reactions contains "overdose".
    """

    month = dy.Date(nullable=False)
    drug_name = dy.String(nullable=False)
    report_count = _count()
    suspect_report_count = _count()
    serious_count = _count()
    death_count = _count()


class SignalCounts(dy.Schema):
    """How many reports name a suspect substance and a reaction. Key: substance, reactionmeddrapt.

    Without a substance, a row counts all reports of the reaction; without a reaction, all of the suspect substance;
    without both, all reports. The counts of a substance are of reports in which it is suspect (characterization 1).
    """

    substance = dy.String(nullable=True)
    reactionmeddrapt = dy.String(nullable=True)
    report_count = _count()


class SafetySignals(dy.Schema):
    """How disproportionately a suspect substance is reported with a reaction. Key: substance, reactionmeddrapt.

    Counts of reports: `a` with both, `b` with the substance only, `c` with the reaction only, `d` with neither.
    `expected_count` is (a+b)(a+c)/N. A measure is null where a zero cell leaves it undefined. `chi_square` has Yates'
    correction. `is_prr_signal`: PRR >= 2, chi-square >= 4, a >= 3 (Evans et al. 2001); `is_ror_signal`: lower bound
    above 1; `is_ic_signal`: IC025 above 0 (Norén et al. 2013). `is_signal`: a >= 3, and each measure that is defined
    says so.
    """

    substance = dy.String(nullable=False)
    reactionmeddrapt = dy.String(nullable=False)
    a = _count()
    b = _count()
    c = _count()
    d = _count()
    expected_count = dy.Float64(nullable=False)
    prr = _measure()
    prr_lower = _measure()
    prr_upper = _measure()
    chi_square = _measure()
    ror = _measure()
    ror_lower = _measure()
    ror_upper = _measure()
    ic = dy.Float64(nullable=False)
    ic025 = dy.Float64(nullable=False)
    is_prr_signal = dy.Bool(nullable=False)
    is_ror_signal = dy.Bool(nullable=False)
    is_ic_signal = dy.Bool(nullable=False)
    is_signal = dy.Bool(nullable=False)


class PatientAdverseEventReport(dy.Schema):
    """One distinct combination of a reaction and a drug of a report in its current version.

    Key: safetyreportid, reactionmeddrapt, drug_name, drug_characterization, drug_indication. The first nine columns are
    those of the original platform's table. `receive_month` is the first day of the month of receivedate, else of the
    date that the report has.
    """

    safetyreportid = dy.String(nullable=False)
    transmissiondate_converted = dy.Date(nullable=True)
    patientonsetage = dy.Int64(nullable=True)
    patientsex = dy.Int64(nullable=True)
    reactionmeddrapt = dy.String(nullable=True)
    drug_name = dy.String(nullable=True)
    drug_characterization = dy.Int64(nullable=True)
    drug_indication = dy.String(nullable=True)
    is_overdose = dy.Bool(nullable=False)
    patientonsetageunit = dy.Int64(nullable=True)
    age_years = dy.Float64(nullable=True)
    serious = dy.Bool(nullable=True)
    safetyreportversion = dy.Int64(nullable=True)
    receive_month = dy.Date(nullable=False)


class SafetySignalChanges(dy.Schema):
    """A signal that was raised, that is gone, or that has returned. Key: alert_id.

    `change`: ``raised`` is published as an alert; ``gone`` is not; ``returned``, within 90 days of ``gone``, is not
    either. The measures are those of the moment. `alert_id` is made of rule, version, substance, reaction and `number`,
    which counts the changes of a pair from 0.
    """

    alert_id = dy.String(nullable=False)
    rule = dy.String(nullable=False)
    rule_version = dy.Int64(nullable=False)
    severity = dy.String(nullable=False)
    substance = dy.String(nullable=False)
    reactionmeddrapt = dy.String(nullable=False)
    number = _count()
    change = dy.String(nullable=False)
    changed_at = utc()
    report_count = _count()
    expected_count = _measure()
    prr = _measure()
    chi_square = _measure()
    ror_lower = _measure()
    ic025 = _measure()


REACTIONS_BY_DRUG = Table("gold/reactions_by_drug", ReactionsByDrug)
REPORTS_BY_SUBSTANCE = Table("gold/reports_by_substance", ReportsBySubstance)
REACTIONS_BY_AGE_GROUP = Table("gold/reactions_by_age_group", ReactionsByAgeGroup)
OVERDOSE_TREND = Table("gold/overdose_trend", OverdoseTrend)
SIGNAL_COUNTS = Table("gold/signal_counts", SignalCounts)
SAFETY_SIGNALS = Table("gold/safety_signals", SafetySignals)
PATIENT_ADVERSE_EVENT_REPORT = Table("gold/patient_adverse_event_report", PatientAdverseEventReport, ("receive_month",))
SAFETY_SIGNAL_CHANGES = Table("alerts/safety_signals", SafetySignalChanges)
