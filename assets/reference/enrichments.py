"""What the streams take from reference data for each reading. Pure declarations and Polars."""

import polars as pl

from assets.reference.tables import DEVICES, PATIENTS
from assets.stream.contract import Derived, Enrichment


def completed_years(rows: pl.DataFrame) -> pl.Series:
    """The age in completed years, by `date_of_birth` and the date of `measured_at` in UTC.

    Who is born on 29 February is a year older on 1 March where there is no such day. Null where the date of birth is
    not known or lies after the reading.
    """
    age = (_ordinal(rows["measured_at"].dt.date()) - _ordinal(rows["date_of_birth"])) // 10_000
    return age.set((age < 0).fill_null(False), None).cast(pl.Int64)


def _ordinal(days: pl.Series) -> pl.Series:
    """Year, month and day as one number: of two such numbers the difference has the completed years in front."""
    return days.dt.year() * 10_000 + days.dt.month().cast(pl.Int32) * 100 + days.dt.day().cast(pl.Int32)


OF_DEVICE = Enrichment(DEVICES.table, "device_id", {"device_model": "model"})
OF_PATIENT = Enrichment(
    PATIENTS.table,
    "patient_id",
    {"age_years": Derived(("date_of_birth",), completed_years), "care_team": "care_team"},
)
