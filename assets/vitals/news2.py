"""The National Early Warning Score 2 of the Royal College of Physicians (2017). Pure Polars.

A score needs respiration, oxygen saturation, systolic pressure, pulse and temperature. Air is assumed unless oxygen is
known, and an alert patient unless another state is known. It supports a judgement and replaces none.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import polars as pl


class Bands(NamedTuple):
    """The points of a parameter: `points[n]` up to and including `limits[n]`, the last of them above all limits."""

    limits: tuple[int, ...]
    points: tuple[int, ...]

    def of(self, value: pl.Expr) -> pl.Expr:
        """The points of a rounded value; null where it is unknown."""
        found: pl.Expr = pl.when(value.is_not_null()).then(pl.lit(self.points[-1], pl.Int64))
        for limit, points in zip(reversed(self.limits), self.points[-2::-1], strict=True):
            found = pl.when(value <= limit).then(pl.lit(points, pl.Int64)).otherwise(found)
        return found


RESPIRATION = Bands((8, 11, 20, 24), (3, 1, 0, 2, 3))
SPO2_SCALE_1 = Bands((91, 93, 95), (3, 2, 1, 0))
SPO2_SCALE_2_ON_AIR = Bands((83, 85, 87), (3, 2, 1, 0))
SPO2_SCALE_2_ON_OXYGEN = Bands((83, 85, 87, 92, 94, 96), (3, 2, 1, 0, 1, 2, 3))
SYSTOLIC = Bands((90, 100, 110, 219), (3, 2, 1, 0, 3))
PULSE = Bands((40, 50, 90, 110, 130), (3, 1, 0, 1, 2, 3))
TEMPERATURE_TENTHS = Bands((350, 360, 380, 390), (3, 1, 0, 1, 2))
ON_OXYGEN, NOT_ALERT = 2, 3

ASSUMED: Mapping[str, bool | str] = MappingProxyType({"is_on_oxygen": False, "consciousness": "A"})
"""What counts where nothing is known; everything else must be known."""
PARAMETERS: Mapping[str, pl.DataType] = MappingProxyType(
    {
        "respiratory_rate_per_min": pl.Float64(),
        "spo2_percent": pl.Float64(),
        "is_on_oxygen": pl.Boolean(),
        "systolic_mmhg": pl.Float64(),
        "heart_rate_bpm": pl.Float64(),
        "consciousness": pl.String(),
        "temperature_c": pl.Float64(),
    }
)
SCALE_2 = "is_spo2_scale_2"
"""Whether a patient's oxygen saturation should be 88 to 92 %, so that scale 2 counts; null is no."""
KNOWN = (SCALE_2, *(column for name in PARAMETERS for column in (name, f"{name}_age_s")))
"""What `scored` needs of each patient."""
COLUMNS: Mapping[str, pl.DataType] = MappingProxyType(
    {"news2_score": pl.Int64(), "news2_risk": pl.String()}
    | {
        f"news2_{name}{suffix}": each
        for name, dtype in PARAMETERS.items()
        for suffix, each in (("", dtype), ("_points", pl.Int64()), ("_age_s", pl.Float64()))
    }
)
"""What `scored` computes."""


def half_up(value: pl.Expr, scale: int = 1) -> pl.Expr:
    """The value in whole parts, halves rounded up; what binary fractions add to or take from a half does not count."""
    return ((value * scale).round(6) + 0.5).floor().cast(pl.Int64)


def points() -> dict[str, pl.Expr]:
    """The points of each parameter, by the name of its column."""
    on_oxygen = pl.col("is_on_oxygen").fill_null(bool(ASSUMED["is_on_oxygen"]))
    state = pl.col("consciousness").fill_null(str(ASSUMED["consciousness"]))
    spo2 = half_up(pl.col("spo2_percent"))
    scale_2 = pl.when(on_oxygen).then(SPO2_SCALE_2_ON_OXYGEN.of(spo2)).otherwise(SPO2_SCALE_2_ON_AIR.of(spo2))
    saturation = pl.when(SCALE_2).then(scale_2).otherwise(SPO2_SCALE_1.of(spo2))
    return {
        "respiratory_rate_per_min": RESPIRATION.of(half_up(pl.col("respiratory_rate_per_min"))),
        "spo2_percent": saturation,
        "is_on_oxygen": pl.when(on_oxygen).then(ON_OXYGEN).otherwise(0).cast(pl.Int64),
        "systolic_mmhg": SYSTOLIC.of(half_up(pl.col("systolic_mmhg"))),
        "heart_rate_bpm": PULSE.of(half_up(pl.col("heart_rate_bpm"))),
        "consciousness": pl.when(state == "A").then(0).otherwise(NOT_ALERT).cast(pl.Int64),
        "temperature_c": TEMPERATURE_TENTHS.of(half_up(pl.col("temperature_c"), 10)),
    }


def risk(score: pl.Expr, highest: pl.Expr) -> pl.Expr:
    """The clinical risk of a score, of which `highest` is the most that a single parameter adds."""
    return (
        pl.when(score >= 7)
        .then(pl.lit("high"))
        .when(score >= 5)
        .then(pl.lit("medium"))
        .when((score >= 0) & (highest == 3))
        .then(pl.lit("low-medium"))
        .when(score >= 0)
        .then(pl.lit("low"))
    )


def scored(known: pl.DataFrame) -> pl.DataFrame:
    """The score of each row, and what it is made of.

    Args:
        known: `KNOWN`: for each of `PARAMETERS` its value, null where it is unknown, and its age; and `SCALE_2`.

    Returns:
        `COLUMNS`; `news2_score` and `news2_risk` are null where a needed vital is unknown.
    """
    found = known.lazy().with_columns(**{_points(name): each for name, each in points().items()})
    each = [pl.col(_points(name)) for name in PARAMETERS]
    # A sum over columns takes a null for zero; here it makes the score unknown.
    score = pl.when(pl.all_horizontal(one.is_not_null() for one in each)).then(pl.sum_horizontal(each))
    return (
        found.with_columns(news2_score=score)
        .with_columns(news2_risk=risk(pl.col("news2_score"), pl.max_horizontal(each)))
        .select(
            "news2_score",
            "news2_risk",
            *(
                column
                for name in PARAMETERS
                for column in (
                    pl.col(name).fill_null(ASSUMED[name]).alias(f"news2_{name}")
                    if name in ASSUMED
                    else pl.col(name).alias(f"news2_{name}"),
                    pl.col(_points(name)),
                    pl.col(f"{name}_age_s").alias(f"news2_{name}_age_s"),
                )
            ),
        )
        .collect(engine="in-memory")
    )


def _points(name: str) -> str:
    return f"news2_{name}_points"
