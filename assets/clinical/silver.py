"""What rows of the clinical sources mean: their types, what they must hold, and what makes a reading an outlier.

Pure Polars. A function `read_…` is given rows of bronze and returns columns of silver with `reason`: all that is wrong
with a row, or null.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from assets.clinical.contract import DEFECTS
from assets.glucose.silver import MG_DL, MG_DL_PER_MMOL_L, MMOL_L, SPELLINGS
from assets.stream.contract import FUTURE_TOLERANCE, Utc
from assets.vitals.silver import FAHRENHEIT, in_celsius
from resources.batch_source import UNREADABLE

OUTLIER_DAYS = 30
"""On so many dates, its own and those before it, lie the readings that a reading is compared with."""
OUTLIER_Z = 3.5
MIN_READINGS = 5
"""The scatter of fewer readings says nothing."""
TELEMETRY_AGE = timedelta(hours=24)
"""What a device said longer ago says nothing of a reading."""

EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
PLAUSIBLE: Mapping[str, tuple[float, float]] = {
    "glucose": (10, 1500),  # mg/dL
    "heart_rate": (10, 350),  # beats a minute
    "systolic": (30, 350),  # mmHg
    "diastolic": (10, 250),  # mmHg
    "temperature": (20, 46),  # degrees Celsius
    "spo2": (20, 100),  # percent
}
"""What a reading of a kind can be; any value of another kind is taken."""

MISSING, BAD, FUTURE, IMPLAUSIBLE = "missing", "bad_value", "in_the_future", "implausible"

_INSTANT = r"^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)? ?(?:[Zz]|[+-]\d{2}:?\d{2})?)?$"
_ZONED = r"(?:[Zz]|[+-]\d{2}:?\d{2})$"


def instant(name: str) -> pl.Expr:
    """An instant of ISO 8601, or of a database's text, in UTC; null for what is none. Without a zone it is UTC."""
    text = pl.col(name).str.strip_chars()
    text = pl.when(text.str.contains(_INSTANT)).then(text)
    text = text.str.replace(r"^(.{10})$", "${1}T00:00:00").str.replace(r"^(.{10}) ", "${1}T").str.replace(" ", "")
    text = text.str.replace(r"^(.{13}:\d{2})(Z|z|[+-]|$)", "${1}:00${2}").str.replace("[Zz]$", "+00:00")
    text = pl.when(text.str.contains(_ZONED)).then(text).otherwise(text + "+00:00")
    found = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", time_zone="UTC", strict=False)
    return pl.when(found >= pl.lit(EARLIEST, Utc)).then(found).alias(name)


def day(name: str) -> pl.Expr:
    """A date, also of a text that has a time behind it or that is written as digits alone; null for what is none.

    One before 1900 is none: programs write 0001-01-01 where they know of no date.
    """
    text = pl.col(name).str.strip_chars()
    dashed = pl.when(text.str.contains(r"^\d{8}$")).then(text.str.replace(r"^(....)(..)(..)$", "${1}-${2}-${3}"))
    found = pl.coalesce(dashed, text.str.head(10)).str.to_date("%Y-%m-%d", strict=False)
    return pl.when(found >= EARLIEST.date()).then(found).alias(name)


def text(name: str) -> pl.Expr:
    """A text without blanks around it; null for an empty one."""
    found = pl.col(name).str.strip_chars()
    return pl.when(found != "").then(found).alias(name)


def reasons(*of: pl.Expr) -> pl.Expr:
    """All reasons of a row as one text, in order; null for a row without one."""
    found = pl.concat_str(of, separator=", ", ignore_nulls=True)
    return pl.when(found != "").then(found).alias("reason")


def unless_unreadable(reason: pl.Expr) -> pl.Expr:
    """A row that was no object has one reason: all its columns are missing."""
    return pl.when(pl.col(UNREADABLE).is_not_null()).then(pl.lit(UNREADABLE)).otherwise(reason).alias("reason")


def missing(name: str) -> pl.Expr:
    """The reason of a row without a value, unless it had one that does not fit its column."""
    return pl.when(pl.col(name).is_null() & ~_is_defect(name)).then(pl.lit(f"{MISSING}:{name}"))


def unfit(names: Sequence[str]) -> list[pl.Expr]:
    """The reasons of values that do not fit their columns."""
    return [pl.when(_is_defect(name)).then(pl.lit(f"{BAD}:{name}")) for name in names]


def not_read(name: str, parsed: str) -> pl.Expr:
    """The reason of a text that could not be read as what it should be."""
    return pl.when(pl.col(name).is_not_null() & pl.col(parsed).is_null()).then(pl.lit(f"{BAD}:{name}"))


def ahead(parsed: str) -> pl.Expr:
    """The reason of an instant that had not come when the row was loaded."""
    is_ahead = pl.col(parsed) > pl.col("loaded_at") + FUTURE_TOLERANCE
    return pl.when(is_ahead).then(pl.lit(f"{FUTURE}:{parsed}"))


def _is_defect(name: str) -> pl.Expr:
    return pl.col(DEFECTS).fill_null("").str.contains(f'"{name}":', literal=True)


def read_ehr(rows: pl.DataFrame) -> pl.DataFrame:
    """Readings of patients' records; glucose in mg/dL and temperatures in degrees Celsius, whatever unit they had."""
    low, high = (
        pl.col("kind").replace_strict({kind: float(bounds[end]) for kind, bounds in PLAUSIBLE.items()}, default=None)
        for end in (0, 1)
    )
    reading, kind, unit = pl.col("reading"), pl.col("kind"), pl.col("unit").str.to_lowercase()
    is_mmol = (kind == "glucose") & unit.is_in([each for each, meant in SPELLINGS.items() if meant == MMOL_L])
    is_fahrenheit = (kind == "temperature") & unit.is_in([*FAHRENHEIT])
    converted = rows.with_columns(
        instant("timestamp").alias("measured_at"),
        instant("updated_at").alias("updated"),
        text("kind").str.to_lowercase().fill_null("reading"),
        text("unit"),
        text("note"),
    ).with_columns(
        reading=pl.when(is_mmol)
        .then((reading * MG_DL_PER_MMOL_L).round())
        .when(is_fahrenheit)
        .then(in_celsius(reading))
        .otherwise(reading),
        unit=pl.when(is_mmol).then(pl.lit(MG_DL)).when(is_fahrenheit).then(pl.lit("°C")).otherwise("unit"),
    )
    return converted.with_columns(
        pl.col("measured_at").dt.date().alias("event_date"),
        pl.col("updated").alias("updated_at"),
        reasons(
            missing("patient_id"),
            missing("timestamp"),
            missing("reading"),
            *unfit(("patient_id", "timestamp", "reading", "device_id")),
            not_read("timestamp", "measured_at"),
            ahead("measured_at"),
            pl.when(~reading.is_finite() | ~reading.is_between(low, high)).then(pl.lit(f"{IMPLAUSIBLE}:reading")),
        ),
    )


def read_patients(rows: pl.DataFrame) -> pl.DataFrame:
    """Patients. A date of birth or a gender that cannot be read costs that value alone."""
    return rows.with_columns(
        text("full_name"),
        day("date_of_birth"),
        text("gender").str.to_lowercase(),
        instant("updated_at"),
        reasons(missing("patient_id"), *unfit(("patient_id",))),
    )


def read_encounters(rows: pl.DataFrame) -> pl.DataFrame:
    """Stays and visits."""
    return rows.with_columns(
        instant("admitted_at").alias("admitted"),
        instant("discharged_at").alias("discharged"),
        text("kind"),
        text("department"),
    ).with_columns(
        pl.col("admitted").alias("admitted_at"),
        pl.col("discharged").alias("discharged_at"),
        reasons(
            missing("encounter_id"),
            missing("patient_id"),
            missing("admitted_at"),
            *unfit(("encounter_id", "patient_id")),
            not_read("admitted_at", "admitted"),
            not_read("discharged_at", "discharged"),
            pl.when(pl.col("discharged") < pl.col("admitted")).then(pl.lit("discharged_before_admitted")),
        ),
    )


def read_medications(rows: pl.DataFrame) -> pl.DataFrame:
    """Drugs of patients. A date that cannot be read costs that value alone, but for the end of a drug."""
    return rows.with_columns(
        text("drug_name"), text("dose"), day("started_on"), day("ended_on").alias("ended")
    ).with_columns(
        pl.col("ended").alias("ended_on"),
        pl.col("drug_name").str.to_uppercase().str.replace_all(r"\s+", " ").alias("substance"),
        reasons(
            missing("medication_id"),
            missing("patient_id"),
            missing("drug_name"),
            *unfit(("medication_id", "patient_id", "drug_name")),
            not_read("ended_on", "ended"),
        ),
    )


def read_telemetry(rows: pl.DataFrame) -> pl.DataFrame:
    """What devices say of themselves."""
    battery = pl.col("battery_percent")
    return rows.with_columns(
        instant("recorded_at").alias("measured_at"), text("device_status"), text("firmware_version")
    ).with_columns(
        pl.col("measured_at").dt.date().alias("event_date"),
        unless_unreadable(
            reasons(
                missing("device_id"),
                missing("recorded_at"),
                *unfit(("device_id", "recorded_at", "battery_percent", "signal_dbm")),
                not_read("recorded_at", "measured_at"),
                ahead("measured_at"),
                pl.when(~battery.is_finite() | ~battery.is_between(0, 100)).then(
                    pl.lit(f"{IMPLAUSIBLE}:battery_percent")
                ),
            )
        ),
    )


def read_trials(rows: pl.DataFrame) -> pl.DataFrame:
    """Clinical trials."""
    negative = pl.min_horizontal("enrolled", "target_enrolment") < 0
    return rows.with_columns(
        text("trial_id"),
        *map(text, ("title", "condition", "phase", "status")),
        day("started_on"),
        instant("updated_at"),
        reasons(
            missing("trial_id"),
            *unfit(("trial_id", "enrolled", "target_enrolment")),
            pl.when(negative).then(pl.lit(f"{IMPLAUSIBLE}:enrolled")),
        ),
    )


def read_trial_logs(rows: pl.DataFrame) -> pl.DataFrame:
    """Entries of research logs."""
    return rows.with_columns(
        instant("logged_at").alias("logged"), *map(text, ("trial_id", "site", "kind", "message"))
    ).with_columns(
        pl.col("logged").alias("logged_at"),
        pl.col("logged").dt.date().alias("event_date"),
        reasons(
            missing("log_id"),
            missing("trial_id"),
            missing("logged_at"),
            *unfit(("log_id", "trial_id", "patient_id")),
            not_read("logged_at", "logged"),
            ahead("logged"),
        ),
    )


def read_documents(rows: pl.DataFrame) -> pl.DataFrame:
    """Documents and images. A damaged DICOM header costs its fields alone; an unreadable file is quarantined."""
    suffix = pl.col("path").str.extract(r"\.([A-Za-z0-9]{1,8})$").str.to_lowercase()
    of_path = pl.col("path").str.extract(r"patient-(\d{1,18})(?:[/_.-]|$)").cast(pl.Int64, strict=False)
    is_dicom = pl.col("is_dicom").fill_null(False)
    return rows.with_columns(
        instant("modified_at"),
        is_dicom,
        kind=pl.when(is_dicom).then(pl.lit("dicom")).otherwise(suffix.fill_null("other")),
        patient_id=pl.coalesce(pl.col("dicom_patient_id").cast(pl.Int64, strict=False), of_path),
        modality=text("dicom_modality"),
        body_part=text("dicom_body_part"),
        studied_on=day("dicom_study_date"),
        study_uid=text("dicom_study_uid"),
        instance_uid=text("dicom_instance_uid"),
        pixel_rows=pl.col("dicom_rows"),
        pixel_columns=pl.col("dicom_columns"),
    ).with_columns(
        reasons(
            missing("path"),
            pl.when(pl.col("sha256").is_null()).then(pl.coalesce(pl.col("problem"), pl.lit(f"{MISSING}:sha256"))),
            missing("size_bytes"),
            missing("modified_at"),
        )
    )


def read_device_events(rows: pl.DataFrame) -> pl.DataFrame:
    """Events and alerts of devices."""
    return rows.with_columns(
        instant("occurred_at").alias("occurred"),
        text("id").alias("event_id"),
        *map(text, ("kind", "severity", "message")),
    ).with_columns(
        pl.col("occurred").alias("occurred_at"),
        pl.col("occurred").dt.date().alias("event_date"),
        unless_unreadable(
            reasons(
                missing("id"),
                missing("device_id"),
                missing("occurred_at"),
                missing("kind"),
                *unfit(("id", "device_id", "occurred_at", "kind", "value", "patient_id")),
                not_read("occurred_at", "occurred"),
                ahead("occurred"),
            )
        ),
    )


def latest(rows: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Of several rows with one key, the one that came last; of one row that a rebuild made again, the new one.

    Args:
        rows: those of silver first, and then those that are new.
        key: what identifies a row.
    """
    return rows.sort("load_number", "row_number", maintain_order=True).unique(key, keep="last").sort(key)


def enrich_ehr(rows: pl.DataFrame, telemetry: pl.DataFrame) -> pl.DataFrame:
    """Adds what the device had said of itself, and how far each reading is from the patient's usual ones.

    Args:
        rows: readings, of all dates that matter.
        telemetry: one row a device and instant.

    Returns:
        As many rows, in the same order.
    """
    return rows.pipe(as_of, telemetry).pipe(with_outliers)


def as_of(rows: pl.DataFrame, telemetry: pl.DataFrame) -> pl.DataFrame:
    """Adds the last that a reading's device had said when the reading was taken, if that was not too long ago."""
    columns = ("device_status", "battery_percent", "signal_dbm", "firmware_version")
    said = telemetry.select("device_id", "measured_at", pl.col("measured_at").alias("telemetry_at"), *columns)
    place = pl.int_range(pl.len()).alias("place")
    joined = (
        rows.with_columns(place)
        .sort("measured_at")
        .join_asof(
            said.sort("measured_at"),
            on="measured_at",
            by="device_id",
            tolerance=TELEMETRY_AGE,
            check_sortedness=False,
            coalesce=True,
        )
        .sort("place")
    )
    age = (pl.col("measured_at") - pl.col("telemetry_at")).dt.total_microseconds() / 1e6
    return joined.with_columns(telemetry_age_s=age).drop("place")


def with_outliers(rows: pl.DataFrame) -> pl.DataFrame:
    """Adds the robust z-score of each reading, and whether it is an outlier.

    The score is 0.6745 (x - median) / MAD (Iglewicz and Hoaglin, 1993). Where more than half of the readings are equal,
    the MAD is 0, and the mean absolute deviation from the median is taken: (x - median) / (1.2533 mean). Where all are
    equal the score is 0.
    """
    group = ("patient_id", "kind")
    reading = pl.col("reading")
    deviation = (reading - reading.median()).abs()
    scale = (
        rows.select(*group, "event_date", "reading")
        .sort(*group, "event_date")
        .group_by_dynamic(
            "event_date",
            every="1d",
            period=f"{OUTLIER_DAYS}d",
            offset=f"-{OUTLIER_DAYS}d",
            closed="right",
            label="right",
            group_by=group,
        )
        .agg(median=reading.median(), mad=deviation.median(), mean_deviation=deviation.mean(), count=pl.len())
    )
    difference = reading - pl.col("median")
    z = (
        pl.when(pl.col("count") < MIN_READINGS)
        .then(None)
        .when(pl.col("mad") > 0)
        .then(0.6745 * difference / pl.col("mad"))
        .when(pl.col("mean_deviation") > 0)
        .then(difference / (1.253314 * pl.col("mean_deviation")))
        .otherwise(0.0)
    )
    joined = rows.join(scale, on=(*group, "event_date"), how="left", maintain_order="left", validate="m:1")
    return joined.with_columns(robust_z=z, is_outlier=(z.abs() > OUTLIER_Z).fill_null(False)).drop(
        "median", "mad", "mean_deviation", "count"
    )
