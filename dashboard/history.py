"""What pages read of the lake: bounded in time, and of few patients or of few columns.

Silver is read for what must be fresh, gold for what is many. What is measured since an instant was received since a
little before it, so the ingest date says which files may hold it.
"""

from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta

import polars as pl

from assets.adverse_events.tables import (
    OVERDOSE_TREND,
    REACTIONS_BY_AGE_GROUP,
    REACTIONS_BY_DRUG,
    REPORTS_BY_SUBSTANCE,
    SAFETY_SIGNALS,
)
from assets.alarms.tables import CLEARED
from assets.clinical.sources import EHR_MEDICATIONS
from assets.devices.assets import CONTRACT as DEVICE_READINGS
from assets.devices.tables import DEVICE_HEALTH
from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.glucose.tables import GLUCOSE_DAILY, GLUCOSE_MOVING_AVERAGE
from assets.reference.tables import DEVICES, PATIENTS
from assets.reference_store import held
from assets.stream.contract import FUTURE_TOLERANCE, Contract
from assets.vitals.tables import NEWS2, VITALS_MINUTE
from dashboard.directory import People
from dashboard.wearing import of_devices, of_unknown, with_measured, with_patients
from resources.lake import Lake

GLUCOSE_COLUMNS = ("patient_id", "device_id", "measured_at", "event_date", "glucose_mg_dl", "range_flag", "received_at")
MEASURED_WITHIN = timedelta(days=14)
"""How long before an alarm of a device its last reading is looked for, where reference data do not say who wore it."""
SAID_WITHIN = timedelta(days=7)
"""How old a report of a device is at most to be shown as its last one."""


def _received_since(since: datetime) -> pl.Expr:
    return pl.col("ingest_date") >= (since - FUTURE_TOLERANCE).date()


def glucose(lake: Lake, patients: Collection[int], since: datetime, until: datetime) -> pl.DataFrame:
    """Readings of some patients, ordered by patient and time.

    Of several readings of one instant the lowest comes first.
    """
    readings = lake.table(GLUCOSE.tables.silver).scan()
    return (
        readings.filter(
            _received_since(since),
            pl.col("patient_id").is_in([*patients]),
            pl.col("measured_at").is_between(since, until),
        )
        .select(GLUCOSE_COLUMNS)
        .sort("patient_id", "measured_at", "glucose_mg_dl")
        .collect()
    )


def vitals(
    lake: Lake, patient_id: int, since: datetime, until: datetime, columns: Collection[str] | None = None
) -> pl.DataFrame:
    """The minutes of one patient in order; see `gold/vitals_minute`. All columns are read if none are chosen."""
    return _of_patient(lake.table(VITALS_MINUTE).scan(), patient_id, "minute_at", since, until, columns)


def news2(
    lake: Lake, patient_id: int, since: datetime, until: datetime, columns: Collection[str] | None = None
) -> pl.DataFrame:
    """The early warning scores of one patient in order; see `gold/news2`. All columns are read if none are chosen."""
    return _of_patient(lake.table(NEWS2).scan(), patient_id, "evaluated_at", since, until, columns)


def _of_patient(
    rows: pl.LazyFrame, patient_id: int, at: str, since: datetime, until: datetime, columns: Collection[str] | None
) -> pl.DataFrame:
    is_of = (pl.col("patient_id") == patient_id) & pl.col("event_date").is_between(since.date(), until.date())
    found = rows.filter(is_of, pl.col(at).is_between(since, until)).sort(at)
    return (found if columns is None else found.select([*columns])).collect()


ALARM_COLUMNS = (
    *("alarm_id", "index", "stream", "entity", "cause", "severity", "state", "kind", "at", "raised_at", "value"),
    *(
        "threshold",
        "worst_value",
        "reading_count",
        "tier",
        "rule_id",
        "rule_version",
        "until",
        "actor",
        "note",
        "is_stale",
    ),
)


def alarms(
    lake: Lake,
    contracts: Sequence[Contract],
    people: People,
    patient_id: int,
    devices: Collection[int],
    since: datetime,
) -> pl.DataFrame:
    """The alarms of a patient and of their devices to which something happened since an instant; the newest come first.

    Args:
        lake: where they are.
        contracts: the streams that have alarms.
        people: who wore which device when.
        patient_id, devices: whose; other devices that the patient wore before are looked at besides.
        since: open alarms are written again and again, so that these are found however old they are.

    Returns:
        The last row of each in the table of alarms, with `ended_at`, null while it is open, and `is_own`. An alarm of a
        device that was raised while somebody else wore it is theirs, and not `is_own`. It is among the rows only while
        it is open and the device is worn by the patient: what is wrong with it is of concern to who wears it now.
    """
    worn = {*devices} | people.ever_worn(patient_id)
    parts = [
        lake.table(each.tables["alarms"])
        .scan()
        .filter(
            _received_since(since),
            pl.col("entity").is_in([patient_id] if each.entity == "patient_id" else [*worn]),
            pl.col("index") >= 0,
        )
        .select(*ALARM_COLUMNS, "fold", "is_update")
        for each in contracts
    ]
    rows = pl.concat(pl.collect_all(parts)).sort("fold", "index", "is_update")
    last = rows.unique("alarm_id", keep="last", maintain_order=True)
    whose = with_wearers(lake, last, contracts, people)
    is_own = pl.col("patient_id").eq_missing(patient_id)
    worn_now = [device for device in worn if people.wearers.get(device) == patient_id]
    is_of_device = pl.col("stream").is_in(of_devices(contracts))
    is_of_concern = ~is_of_device | pl.col("entity").is_in(worn_now) | (is_own & pl.col("entity").is_in([*devices]))
    is_over = pl.col("state") == CLEARED
    rows = whose.filter(pl.when(is_over).then(is_own).otherwise(is_of_concern))
    ended_at = pl.when(is_over).then("at")
    return rows.select(*ALARM_COLUMNS, ended_at=ended_at, is_own=is_own).sort("raised_at", descending=True)


def with_wearers(lake: Lake, alarms: pl.DataFrame, contracts: Sequence[Contract], people: People) -> pl.DataFrame:
    """Alarms with `patient_id`, whose they are; see `dashboard.wearing`."""
    found = with_patients(alarms, contracts, people)
    unknown = of_unknown(found, contracts)
    if unknown.is_empty():
        return found
    # Other alarms may have been open for years.
    devices, raised = unknown["entity"].unique().to_list(), unknown["raised_at"].to_list()
    return with_measured(found, _measured(lake, devices, min(raised) - MEASURED_WITHIN, max(raised)))


def _measured(lake: Lake, devices: Collection[int], since: datetime, until: datetime) -> pl.DataFrame:
    """Of whom some devices measured glucose when."""
    is_of = pl.col("device_id").is_in([*devices]) & pl.col("measured_at").is_between(since, until)
    rows = lake.table(GLUCOSE.tables.silver).scan().filter(_received_since(since), is_of)
    return rows.select("device_id", "measured_at", "patient_id").collect()


def worn_devices(lake: Lake, patient_id: int, readings: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """The devices of a patient: those that measured, and those that reference data say are worn now.

    Args:
        lake: where reference data and reports of devices are.
        patient_id: whose.
        readings: of glucose, as `glucose` gives them.
        now: what is said of devices in the week before counts.

    Returns:
        `device_id`, `model`, `manufacturer`, `reading_count`, `last_reading_at`, `is_own`, and what the device said
        last: `reported_at`, `battery_level`, `firmware_version` and `connectivity_status`; in order. One that another
        patient wears now is not `is_own`: what it says, and its alarms, are the other one's.
    """
    measured = readings.group_by("device_id").agg(reading_count=pl.len(), last_reading_at=pl.col("measured_at").max())
    known, is_theirs = known_devices(lake, now), pl.col("patient_id") == patient_id
    worn = known.filter(is_theirs).select("device_id", "model", "manufacturer")
    of_others = known.filter(~is_theirs)["device_id"].to_list()
    found = worn.join(measured, on="device_id", how="full", coalesce=True).with_columns(
        is_own=~pl.col("device_id").is_in(of_others)
    )
    said = devices(lake, own_ids(found), now - SAID_WITHIN).group_by("device_id").last()
    return found.join(said.rename({"measured_at": "reported_at"}).drop("error_codes"), on="device_id", how="left").sort(
        "device_id"
    )


def own_ids(worn: pl.DataFrame) -> list[int]:
    """The devices of `worn_devices` that no other patient wears now."""
    return worn.filter("is_own")["device_id"].to_list()


def glucose_days(lake: Lake, patients: Collection[int] | None, since: date) -> pl.DataFrame:
    """Days of gold in order: `GlucoseDaily` with `two_day_mean_mg_dl`.

    Args:
        lake: where they are.
        patients: whose; None for all.
        since: the first date.
    """
    is_wanted = pl.col("event_date") >= since
    if patients is not None:
        is_wanted &= pl.col("patient_id").is_in([*patients])
    key = ["patient_id", "event_date"]
    days = lake.table(GLUCOSE_DAILY).scan().filter(is_wanted)
    averages = lake.table(GLUCOSE_MOVING_AVERAGE).scan().filter(is_wanted).select(*key, "two_day_mean_mg_dl")
    return days.join(averages, on=key, how="left").sort(key).collect()


def devices(lake: Lake, ids: Collection[int], since: datetime) -> pl.DataFrame:
    """What some devices said of themselves since an instant, ordered by device and time."""
    rows = lake.table(DEVICE_READINGS.tables.silver).scan()
    columns = ("device_id", "measured_at", "battery_level", "firmware_version", "connectivity_status", "error_codes")
    is_wanted = pl.col("device_id").is_in([*ids]) & (pl.col("measured_at") >= since)
    return rows.filter(_received_since(since), is_wanted).select(columns).sort("device_id", "measured_at").collect()


def device_health(lake: Lake, since: date) -> pl.DataFrame:
    """The days of all devices since a date; see `gold/device_health`."""
    rows = lake.table(DEVICE_HEALTH).scan()
    return rows.filter(pl.col("event_date") >= since).sort("device_id", "event_date").collect()


def firmware(lake: Lake, since: datetime) -> pl.DataFrame:
    """The newest firmware that each device told of since an instant: `device_id` and `firmware_version`."""
    rows = lake.table(DEVICE_READINGS.tables.silver).scan()
    return (
        rows.filter(_received_since(since))
        .select("device_id", "measured_at", "firmware_version")
        .drop_nulls("firmware_version")
        .group_by("device_id")
        .agg(pl.col("firmware_version").sort_by("measured_at").last())
        .sort("device_id")
        .collect()
    )


def known_devices(lake: Lake, at: datetime) -> pl.DataFrame:
    """The devices as reference data know them at an instant."""
    return held(lake, DEVICES, at)


def known_patients(lake: Lake, at: datetime) -> pl.DataFrame:
    """The patients as reference data know them at an instant."""
    return held(lake, PATIENTS, at)


def safety_signals(lake: Lake, drug: str | None = None) -> pl.DataFrame:
    """Pairs of a suspect substance and a reaction, the strongest first; see `gold/safety_signals`."""
    rows = lake.table(SAFETY_SIGNALS).scan()
    if drug is not None:
        rows = rows.filter(pl.col("substance") == drug)
    return rows.sort(
        ["is_signal", "ic025", "substance", "reactionmeddrapt"], descending=[True, True, False, False]
    ).collect()


def reactions(lake: Lake, drug: str | None, count: int) -> pl.DataFrame:
    """The reactions that most reports name, of one drug or of all, with `reports`, `serious` ones and `deaths`."""
    rows = lake.table(REACTIONS_BY_DRUG).scan()
    if drug is not None:
        rows = rows.filter(pl.col("drug_name") == drug)
    return (
        rows.group_by("drug_name", "reactionmeddrapt")
        .agg(
            reports=pl.col("report_count").sum(),
            serious=pl.col("serious_count").sum(),
            deaths=pl.col("death_count").sum(),
        )
        .sort(["reports", "drug_name", "reactionmeddrapt"], descending=[True, False, False])
        .head(count)
        .collect()
    )


def drugs(lake: Lake, count: int) -> list[str]:
    """The drugs that are named with most reactions, the first ones first."""
    rows = lake.table(REACTIONS_BY_DRUG).scan().group_by("drug_name").agg(pl.col("report_count").sum())
    return (
        rows.sort(["report_count", "drug_name"], descending=[True, False]).head(count).collect()["drug_name"].to_list()
    )


def taken_drugs(lake: Lake, patient_id: int, today: date) -> pl.DataFrame:
    """The drugs that a patient takes by the hospital's record, and how many safety reports name each substance.

    Args:
        lake: where both are.
        patient_id: the patient.
        today: a drug whose end is planned for a later date is still taken.

    Returns:
        `drug_name`, `substance`, `dose`, `started_on`, `report_count`, `serious_count` and `death_count`, by name. The
        counts are null where no report names the substance. They are of reports about anyone.
    """
    is_taken = pl.col("ended_on").is_null() | (pl.col("ended_on") > today)
    taken = lake.table(EHR_MEDICATIONS.silver).scan().filter(pl.col("patient_id") == patient_id, is_taken)
    counts = ("report_count", "serious_count", "death_count")
    reports = lake.table(REPORTS_BY_SUBSTANCE).scan().select("substance", *counts)
    found = taken.join(reports, on="substance", how="left")
    return (
        found.select("drug_name", "substance", "dose", "started_on", *counts).sort("drug_name", "started_on").collect()
    )


def age_groups(lake: Lake) -> pl.DataFrame:
    """How many reports name a reaction, by age group; see `gold/reactions_by_age_group`."""
    return lake.table(REACTIONS_BY_AGE_GROUP).scan().collect()


def overdoses(lake: Lake, drug: str | None = None) -> pl.DataFrame:
    """Reports of overdoses by month and drug, in order; see `gold/overdose_trend`."""
    rows = lake.table(OVERDOSE_TREND).scan()
    if drug is not None:
        rows = rows.filter(pl.col("drug_name") == drug)
    return rows.sort("month", "drug_name").collect()


def age_of(born: date | None, today: date) -> int | None:
    """Completed years; None where the birth is not known."""
    if born is None:
        return None
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))
