"""What a quarter of an hour of silver readings comes to, in numbers that can be added up to days. Pure Polars.

All sums are of integers: values in millionths of a mg/dL, durations in microseconds. So a day comes out the same to the
last bit, whichever slots were summed up when, and in whatever order the readings came.
"""

import polars as pl

from assets.day import limbs, millionths, slot
from assets.glucose.tables import SHARES, GlucoseSlots

TARGET_RANGE_MG_DL = (70, 180)
"""Both ends are in range: Battelino et al. 2019, doi:10.2337/dci19-0028."""
LONGEST_STAND_US = 15 * 60 * 1_000_000
"""How long a reading may stand: monitors measure at least every 15 minutes."""
NEAR_US, NEAR_MG_DL = 60 * 1_000_000, 10
"""How close two readings of a device are that may be one sample which came by two ways."""

_SLOT = ("patient_id", "event_date", "slot")
_DEVICE = (*_SLOT, "device_id")
_glucose, _at, _stand_us = pl.col("glucose_mg_dl"), pl.col("measured_at"), pl.col("stand_us")


def conditions(value: pl.Expr) -> dict[str, pl.Expr]:
    """Whether a value in mg/dL counts for each of the consensus shares."""
    low, high = TARGET_RANGE_MG_DL
    by_name = (value.is_between(low, high), value < low, value < 54, value > high, value > 250)
    return dict(zip(SHARES, by_name, strict=True))


def is_near(from_at: pl.Expr, from_mg_dl: pl.Expr, at: pl.Expr, mg_dl: pl.Expr) -> pl.Expr:
    """Whether a reading is a near-duplicate of the one before it of the same device."""
    since = at.dt.epoch("us") - from_at.dt.epoch("us")
    return (since <= NEAR_US) & ((mg_dl - from_mg_dl).abs() <= NEAR_MG_DL)


def is_same(*columns: str) -> pl.Expr:
    """Whether a row has the same values in some columns as the row above; null in the first row."""
    return pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in columns)


def glucose_slots(silver: pl.LazyFrame | pl.DataFrame) -> pl.DataFrame:
    """Sums up the readings of each patient, device and slot.

    Args:
        silver: rows of `silver/glucose_readings`: all of the slots wanted.

    Returns:
        Rows of `GlucoseSlots`, sorted by key.
    """
    columns = ("patient_id", "device_id", "event_date", "measured_at", "glucose_mg_dl")
    # Silver lies nearly in the order of time. One key after the other costs a fifth of sorting by all keys at once.
    rows = silver.lazy().select(*columns).with_columns(slot()).collect().sort("measured_at", "glucose_mg_dl")
    rows = rows.sort("patient_id", maintain_order=True)
    by_time = _by_time(rows).collect(engine="in-memory")
    rows = rows.sort("device_id", maintain_order=True)
    by_device = _by_device(rows).collect(engine="in-memory").lazy()
    return GlucoseSlots.validate(
        by_device.with_columns(is_first=is_same(*_SLOT).not_().fill_null(True))
        .join(by_time.lazy(), on=_SLOT, how="left", maintain_order="left")
        # One of the patient's devices, the first, carries what is the patient's.
        .with_columns(pl.when("is_first").then(pl.col("^standing_.*$")))
        .select(GlucoseSlots.column_names())
        .collect(engine="in-memory")
    )


def _by_device(rows: pl.DataFrame) -> pl.LazyFrame:
    """The sums of each device, from rows in the order of device, patient and time."""
    is_repeat = is_same(*_DEVICE) & is_near(_at.shift(1), _glucose.shift(1), _at, _glucose)
    return (
        rows.lazy()
        .with_columns(is_repeat=is_repeat, value=millionths("glucose_mg_dl"))
        .group_by(_DEVICE, maintain_order=True)
        .agg(
            pl.len().cast(pl.Int64).alias("reading_count"),
            pl.col("value").sum().alias("sum_millionths"),
            *limbs(pl.col("value") * pl.col("value"), "square_sum"),
            _glucose.min().alias("min_mg_dl"),
            _glucose.max().alias("max_mg_dl"),
            *(each.sum().cast(pl.Int64).alias(f"{name}_count") for name, each in conditions(_glucose).items()),
            pl.col("is_repeat").sum().cast(pl.Int64).alias("near_duplicate_count"),
            _at.first().alias("first_at"),
            _glucose.first().alias("first_mg_dl"),
            _at.last().alias("last_at"),
            _glucose.last().alias("last_mg_dl"),
        )
        .sort(_DEVICE)
    )


def _by_time(rows: pl.DataFrame) -> pl.LazyFrame:
    """How long readings stand, but for the last one of the slot: it stands until a reading of a later slot.

    Args:
        rows: in the order of patient and time.
    """
    since_us = _at.dt.epoch("us").diff()
    return (
        rows.lazy()
        .select(*_SLOT, "measured_at", "glucose_mg_dl")
        .filter(is_same(*_SLOT, "measured_at").not_().fill_null(True))
        .with_columns(since_us=pl.when(is_same(*_SLOT)).then(since_us))
        # Where no reading of the slot follows, there is no time since the one before, so this is null.
        .with_columns(stand_us=pl.col("since_us").shift(-1).clip(upper_bound=LONGEST_STAND_US))
        .with_columns(value=millionths("glucose_mg_dl"))
        .group_by(_SLOT, maintain_order=True)
        .agg(
            _at.first().alias("standing_first_at"),
            _at.last().alias("standing_last_at"),
            _glucose.last().alias("standing_last_mg_dl"),
            pl.col("since_us").last().alias("standing_last_gap_us"),
            _stand_us.sum().alias("standing_us"),
            (pl.col("value") * _stand_us).sum().alias("standing_sum"),
            *(_stand_us.filter(each).sum().alias(f"standing_{name}_us") for name, each in conditions(_glucose).items()),
        )
    )
