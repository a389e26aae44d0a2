"""The adverse event stream's payload and tables. Pure declarations.

Fields have the names of the openFDA API, which are those of the ICH E2B message, except where the original platform's
table had others (`drug_name`, `drug_characterization`, `drug_indication`).
"""

import dataframely as dy
import msgspec

from assets.stream.contract import Child, Int64, utc

STREAM = "adverse_events"
SILVER = "safety_reports"
NUMBER = Int64 | float | str | None
"""A number, which openFDA writes as a text."""


class Death(msgspec.Struct, gc=False):
    """That the patient died, and when."""

    patientdeathdate: NUMBER = None


class Reaction(msgspec.Struct, gc=False):
    """One reaction, as a MedDRA preferred term."""

    reactionmeddrapt: str | None = None
    reactionoutcome: NUMBER = None


class ActiveSubstance(msgspec.Struct, gc=False):
    """The active substance of a product, as FDA assigned it."""

    activesubstancename: str | None = None


class Harmonised(msgspec.Struct, gc=False):
    """What openFDA adds to a product that it recognises."""

    generic_name: list[str | None] | None = None


class Drug(msgspec.Struct, gc=False):
    """One product that the patient took."""

    medicinalproduct: str | None = None
    drugcharacterization: NUMBER = None
    drugindication: str | None = None
    drugauthorizationnumb: NUMBER = None
    drugadministrationroute: NUMBER = None
    activesubstance: ActiveSubstance | None = None
    openfda: Harmonised | None = None


class Patient(msgspec.Struct, gc=False):
    """The patient, with what happened and what was taken."""

    patientonsetage: NUMBER = None
    patientonsetageunit: NUMBER = None
    patientsex: NUMBER = None
    patientdeath: Death | None = None
    reaction: list[Reaction] | None = None
    drug: list[Drug] | None = None


class PrimarySource(msgspec.Struct, gc=False):
    """Who reported."""

    reportercountry: str | None = None
    qualification: NUMBER = None


class AdverseEventPayload(msgspec.Struct, gc=False):
    """One safety report. Dates are texts of eight, six or four digits: a day, a month or a year."""

    safetyreportid: Int64 | str
    patient: Patient
    safetyreportversion: Int64 | str | None = None
    transmissiondate: Int64 | str | None = None
    receivedate: Int64 | str | None = None
    receiptdate: Int64 | str | None = None
    serious: Int64 | str | None = None
    seriousnessdeath: Int64 | str | None = None
    seriousnesslifethreatening: Int64 | str | None = None
    seriousnesshospitalization: Int64 | str | None = None
    seriousnessdisabling: Int64 | str | None = None
    seriousnesscongenitalanomali: Int64 | str | None = None
    seriousnessother: Int64 | str | None = None
    companynumb: str | None = None
    occurcountry: str | None = None
    primarysourcecountry: str | None = None
    primarysource: PrimarySource | None = None
    transmissiondateformat: msgspec.Raw = msgspec.Raw()
    receivedateformat: msgspec.Raw = msgspec.Raw()
    receiptdateformat: msgspec.Raw = msgspec.Raw()
    reporttype: msgspec.Raw = msgspec.Raw()
    fulfillexpeditecriteria: msgspec.Raw = msgspec.Raw()
    duplicate: msgspec.Raw = msgspec.Raw()
    reportduplicate: msgspec.Raw = msgspec.Raw()
    authoritynumb: msgspec.Raw = msgspec.Raw()
    sender: msgspec.Raw = msgspec.Raw()
    receiver: msgspec.Raw = msgspec.Raw()


def _flag() -> dy.Bool:
    return dy.Bool(nullable=False)


class SafetyReports(dy.Schema):
    """One version of one report. Key: safetyreportid, safetyreportversion, receiptdate.

    Of several versions the one with the highest number is current, and of these the one that was received last; the
    view `silver.safety_report_versions` says which. `measured_at` is the start of the first date that the report has of
    receiptdate, receivedate and transmissiondate. `age_years` is the age at onset in years of 365.25 days; null where
    age or unit is unknown. `content` is a digest of what is reported, by which repeats are told from corrections.
    """

    safetyreportid = dy.String(nullable=False)
    safetyreportversion = dy.Int64(nullable=True)
    measured_at = utc()
    receiptdate = dy.Date(nullable=True)
    receivedate = dy.Date(nullable=True)
    transmissiondate = dy.Date(nullable=True)
    serious = dy.Bool(nullable=True)
    seriousnessdeath = _flag()
    seriousnesslifethreatening = _flag()
    seriousnesshospitalization = _flag()
    seriousnessdisabling = _flag()
    seriousnesscongenitalanomali = _flag()
    seriousnessother = _flag()
    patientonsetage = dy.Int64(nullable=True)
    patientonsetageunit = dy.Int64(nullable=True)
    age_years = dy.Float64(nullable=True)
    patientsex = dy.Int64(nullable=True)
    companynumb = dy.String(nullable=True)
    occurcountry = dy.String(nullable=True)
    primarysourcecountry = dy.String(nullable=True)
    reportercountry = dy.String(nullable=True)
    qualification = dy.Int64(nullable=True)
    drug_count = dy.Int64(nullable=False)
    reaction_count = dy.Int64(nullable=False)
    content = dy.String(nullable=False)
    received_at = utc()
    partition = dy.Int64(nullable=False)
    sequence_number = dy.Int64(nullable=False)
    event_index = dy.Int64(nullable=False)
    event_date = dy.Date(nullable=False)
    ingest_date = dy.Date(nullable=False)
    hub_epoch = dy.Int64(nullable=True)


class ReportDrugs(dy.Schema):
    """One drug of one version of a report. Key: that of the event (hub_epoch, partition, sequence_number, event_index)
    and drug_number.

    `drug_name` is as given; `substance` is the active substance, else openFDA's generic name, else the name, in upper
    case and without a final full stop. `drug_characterization`: 1 suspect, 2 concomitant, 3 interacting.
    """

    safetyreportid = dy.String(nullable=False)
    safetyreportversion = dy.Int64(nullable=True)
    drug_number = dy.Int64(nullable=False)
    drug_name = dy.String(nullable=True)
    substance = dy.String(nullable=True)
    drug_characterization = dy.Int64(nullable=True)
    drug_indication = dy.String(nullable=True)
    drugauthorizationnumb = dy.String(nullable=True)
    drugadministrationroute = dy.String(nullable=True)
    received_at = utc()
    partition = dy.Int64(nullable=False)
    sequence_number = dy.Int64(nullable=False)
    event_index = dy.Int64(nullable=False)
    event_date = dy.Date(nullable=False)
    ingest_date = dy.Date(nullable=False)
    hub_epoch = dy.Int64(nullable=True)


class ReportReactions(dy.Schema):
    """One reaction of one version of a report. Key: that of the event (hub_epoch, partition, sequence_number,
    event_index) and reaction_number.

    `reactionmeddrapt` is a MedDRA preferred term as given; `is_overdose` says whether it contains "overdose".
    """

    safetyreportid = dy.String(nullable=False)
    safetyreportversion = dy.Int64(nullable=True)
    reaction_number = dy.Int64(nullable=False)
    reactionmeddrapt = dy.String(nullable=True)
    reactionoutcome = dy.Int64(nullable=True)
    is_overdose = _flag()
    received_at = utc()
    partition = dy.Int64(nullable=False)
    sequence_number = dy.Int64(nullable=False)
    event_index = dy.Int64(nullable=False)
    event_date = dy.Date(nullable=False)
    ingest_date = dy.Date(nullable=False)
    hub_epoch = dy.Int64(nullable=True)


class AdverseEventAlerts(dy.Schema):
    """One rule broken by one report: none is defined. Signals over many reports are in `alerts/safety_signals`.

    Key: alert_id.
    """

    alert_id = dy.String(nullable=False)
    rule = dy.String(nullable=False)
    rule_version = dy.Int64(nullable=False)
    severity = dy.String(nullable=False)
    safetyreportid = dy.String(nullable=False)
    measured_at = utc()
    threshold = dy.Float64(nullable=False)
    received_at = utc()
    partition = dy.Int64(nullable=False)
    sequence_number = dy.Int64(nullable=False)
    event_index = dy.Int64(nullable=False)
    event_date = dy.Date(nullable=False)
    ingest_date = dy.Date(nullable=False)
    hub_epoch = dy.Int64(nullable=True)
    is_revision = dy.Bool(nullable=True)


DRUGS = Child("drugs", "report_drugs", ReportDrugs, column="drugs", place="drug_number", count="drug_count")
REACTIONS = Child(
    "reactions",
    "report_reactions",
    ReportReactions,
    column="reactions",
    place="reaction_number",
    count="reaction_count",
)
