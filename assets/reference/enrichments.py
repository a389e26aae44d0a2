"""What the streams take from reference data for each reading. Pure declarations and Polars."""

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assets.reference.cells import SEPARATOR
from assets.reference.tables import DEVICES, PATIENTS
from assets.stream.contract import Derived, Enrichment

SCALE_2_GROUP = "spo2_scale_2"
"""The group of patients of whom a clinician decided that an oxygen saturation of 88 to 92 % is right for them."""
_DAYS_OF_MONTH = 32


def completed_years(rows: pl.DataFrame) -> pl.Series:
    """The age in completed years, by `date_of_birth` and the date of `measured_at` in UTC.

    Who is born on 29 February is a year older on 1 March where there is no such day. Null where the date of birth is
    not known or lies after the reading.
    """
    born = rows["date_of_birth"]
    age = (_ordinal(rows["measured_at"].dt.date()) - _ordinal(born)) // (12 * _DAYS_OF_MONTH)
    is_unknown = pl.Series(age < 0) | born.is_null()
    return pl.Series(age).set(is_unknown, None) if is_unknown.any() else pl.Series(age)


def is_of_scale_2(rows: pl.DataFrame) -> pl.Series:
    """Whether a patient's groups have `SCALE_2_GROUP`; null where no group is known."""
    of_rows = SEPARATOR + rows["groups"] + SEPARATOR
    return of_rows.str.contains(f"{SEPARATOR}{SCALE_2_GROUP}{SEPARATOR}", literal=True)


def _ordinal(days: pl.Series) -> NDArray[np.int64]:
    """A number for each date that grows by the same with every year: months, and days as if each month had 32."""
    numbers = days.to_physical().fill_null(0).to_numpy().astype(np.int64)
    if len(numbers) and (span := np.arange(numbers.min(), numbers.max() + 1)).size <= numbers.size:
        # Of many readings each date comes often: taken apart once, a batch of 100,000 takes 0.5 ms instead of 5.
        ordinals: NDArray[np.int64] = _taken_apart(span)[numbers - span[0]]
        return ordinals
    return _taken_apart(numbers)


def _taken_apart(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    days = numbers.astype("M8[D]")
    months = days.astype("M8[M]")
    ordinals: NDArray[np.int64] = months.astype(np.int64) * _DAYS_OF_MONTH
    ordinals += (days - months.astype("M8[D]")).astype(np.int64)
    return ordinals


OF_DEVICE = Enrichment(DEVICES.table, "device_id", {"device_model": "model"})
OF_PATIENT = Enrichment(
    PATIENTS.table,
    "patient_id",
    {"age_years": Derived(("date_of_birth",), completed_years), "care_team": "care_team"},
)
OF_PATIENT_WITH_SCALE = replace(
    OF_PATIENT, columns={**OF_PATIENT.columns, "is_spo2_scale_2": Derived(("groups",), is_of_scale_2)}
)
"""The same for vital signs, of which a score is made."""
