"""Whose the alarms of devices are: of the patient who wore the device when the alarm was raised.

Reference data say who that was. Of a device of which they say nothing for that time it is the patient of whom the
device had measured glucose last. Nobody else may see the alarm, whoever wears the device now.
"""

from collections.abc import Sequence

import polars as pl

from assets.stream.contract import Contract
from dashboard.directory import People

PATIENT = "patient_id"


def of_devices(contracts: Sequence[Contract]) -> list[str]:
    """The streams whose alarms are about devices."""
    return [each.stream for each in contracts if each.entity == "device_id"]


def with_patients(alarms: pl.DataFrame, contracts: Sequence[Contract], people: People) -> pl.DataFrame:
    """Alarms with `patient_id`, whose they are by reference data; null where these know nobody.

    Args:
        alarms: with `stream`, `entity` and `raised_at`.
        contracts: the streams that have alarms.
        people: who wore which device when.
    """
    is_of_device = pl.col("stream").is_in(of_devices(contracts))
    wearers = people.wearers_at(alarms["entity"], alarms["raised_at"]).alias("_wearer")
    whose = pl.when(is_of_device).then("_wearer").otherwise("entity").cast(pl.Int64).alias(PATIENT)
    return alarms.with_columns(wearers).with_columns(whose).drop("_wearer")


def with_measured(alarms: pl.DataFrame, measured: pl.DataFrame) -> pl.DataFrame:
    """The same where reference data know nobody: the patient of the device's last reading before the alarm.

    Args:
        alarms: as `with_patients` gives them.
        measured: `device_id`, `measured_at` and `patient_id` of readings of these devices, of whatever patient.
    """
    readings = measured.select(entity="device_id", _at="measured_at", _measured=PATIENT).sort("_at")
    found = alarms.sort("raised_at").join_asof(
        readings, left_on="raised_at", right_on="_at", by="entity", strategy="backward", check_sortedness=False
    )
    return found.with_columns(pl.coalesce(PATIENT, "_measured").alias(PATIENT)).drop("_at", "_measured")


def of_unknown(alarms: pl.DataFrame, contracts: Sequence[Contract]) -> pl.DataFrame:
    """The alarms of devices of which reference data know nobody who wore them then."""
    return alarms.filter(pl.col("stream").is_in(of_devices(contracts)), pl.col(PATIENT).is_null())
