"""NEWS2 against the published table: every boundary, both scales, every combination of what is unknown."""

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import polars as pl
import pytest

from assets.vitals import news2
from assets.vitals.news2 import COLUMNS, PARAMETERS, scored
from tests.stream.oracle import NEWS2_TABLE, news2_points

HEALTHY: dict[str, Any] = {
    "respiratory_rate_per_min": 16.0,
    "spo2_percent": 97.0,
    "is_on_oxygen": False,
    "systolic_mmhg": 120.0,
    "heart_rate_bpm": 70.0,
    "consciousness": "A",
    "temperature_c": 37.0,
}
SCHEMA = {**PARAMETERS, **{f"{name}_age_s": pl.Float64() for name in PARAMETERS}}
SCALE_2_ON_AIR = (("-83", 3), ("84-85", 2), ("86-87", 1), ("88-92", 0), ("93-", 0))
SCALE_2_ON_OXYGEN = (("-83", 3), ("84-85", 2), ("86-87", 1), ("88-92", 0), ("93-94", 1), ("95-96", 2), ("97-", 3))


def score(*patients: dict[str, Any], is_scale_2: bool = False) -> pl.DataFrame:
    rows = [{**HEALTHY, **patient} for patient in patients]
    return scored(pl.DataFrame(rows, schema=SCHEMA).with_columns(is_spo2_scale_2=pl.lit(is_scale_2)))


def boundaries() -> Iterator[tuple[str, float, int]]:
    """Both ends of each band, and what is just rounded to them or away from them."""
    for name, bands in NEWS2_TABLE.items():
        step = 0.1 if name == "temperature_c" else 1.0
        for band, points in bands:
            low, high = band.split("-")
            if low:
                yield from ((name, value, points) for value in (float(low), float(low) - step / 2))
            if high:
                yield from ((name, value, points) for value in (float(high), float(high) + step / 2 - 1e-6))


@pytest.mark.parametrize(("name", "value", "points"), [*boundaries()])
def test_every_boundary_of_the_table(name: str, value: float, points: int) -> None:
    row = score({name: value}).row(0, named=True)
    assert row[f"news2_{name}_points"] == points == news2_points(name, value)
    assert row["news2_score"] == points
    assert row["news2_risk"] == ("low-medium" if points == 3 else "low")


@pytest.mark.parametrize("name", NEWS2_TABLE)
def test_every_tenth_of_a_wide_range_has_the_points_of_the_table(name: str) -> None:
    first, last = {"temperature_c": (25, 45), "spo2_percent": (40, 100), "respiratory_rate_per_min": (2, 80)}.get(
        name, (20, 300)
    )
    values = [each / 20 for each in range(first * 20, last * 20 + 1)]
    found = score(*({name: value} for value in values))[f"news2_{name}_points"].to_list()
    assert found == [news2_points(name, value) for value in values]


@pytest.mark.parametrize(("on_oxygen", "bands"), [(False, SCALE_2_ON_AIR), (True, SCALE_2_ON_OXYGEN)])
def test_the_second_scale_of_saturation(on_oxygen: bool, bands: tuple[tuple[str, int], ...]) -> None:
    for band, points in bands:
        low, high = (int(each or other) for each, other in zip(band.split("-"), ("40", "100"), strict=True))
        for value in range(low, high + 1):
            row = score({"spo2_percent": float(value), "is_on_oxygen": on_oxygen}, is_scale_2=True).row(0, named=True)
            assert row["news2_spo2_percent_points"] == points, value
            assert row["news2_score"] == points + (2 if on_oxygen else 0)


@pytest.mark.parametrize(("state", "points"), [("A", 0), ("C", 3), ("V", 3), ("P", 3), ("U", 3), (None, 0)])
@pytest.mark.parametrize(("on_oxygen", "more"), [(None, 0), (False, 0), (True, 2)])
def test_air_and_an_alert_patient_are_assumed(
    state: str | None, points: int, on_oxygen: bool | None, more: int
) -> None:
    row = score({"consciousness": state, "is_on_oxygen": on_oxygen}).row(0, named=True)
    assert row["news2_score"] == points + more
    assert (row["news2_consciousness"], row["news2_is_on_oxygen"]) == (state or "A", on_oxygen or False)


def test_every_combination_of_what_is_unknown() -> None:
    needed = [name for name in PARAMETERS if name not in news2.ASSUMED]
    for unknown in product((False, True), repeat=len(PARAMETERS)):
        missing = {name for name, is_missing in zip(PARAMETERS, unknown, strict=True) if is_missing}
        worst = {"is_on_oxygen": True, "consciousness": "U", **dict.fromkeys(needed, 20.0)}
        row = score({name: None if name in missing else worst[name] for name in PARAMETERS}).row(0, named=True)
        if missing & {*needed}:
            assert row["news2_score"] is row["news2_risk"] is None, missing
        else:
            right = sum(news2_points(name, row[f"news2_{name}"]) or 0 for name in PARAMETERS)
            assert row["news2_score"] == right, missing


@pytest.mark.parametrize(
    ("patient", "total", "risk"),
    [
        ({}, 0, "low"),
        ({"systolic_mmhg": 100.0, "heart_rate_bpm": 111.0}, 4, "low"),
        ({"systolic_mmhg": 90.0}, 3, "low-medium"),
        ({"systolic_mmhg": 90.0, "heart_rate_bpm": 91.0}, 4, "low-medium"),
        ({"systolic_mmhg": 90.0, "heart_rate_bpm": 111.0}, 5, "medium"),
        ({"systolic_mmhg": 90.0, "heart_rate_bpm": 131.0}, 6, "medium"),
        ({"systolic_mmhg": 90.0, "heart_rate_bpm": 131.0, "spo2_percent": 95.0}, 7, "high"),
        ({"consciousness": "U", "is_on_oxygen": True, "systolic_mmhg": 80.0}, 8, "high"),
    ],
)
def test_the_risk_of_a_score(patient: dict[str, Any], total: int, risk: str) -> None:
    assert score(patient).select("news2_score", "news2_risk").row(0) == (total, risk)


@pytest.mark.parametrize(
    ("value", "scale", "right"), [(38.05, 10, 381), (39.049, 10, 390), (90.5, 1, 91), (91.4, 1, 91)]
)
def test_halves_are_rounded_up_as_they_are_written(value: float, scale: int, right: int) -> None:
    found = pl.DataFrame({"x": [value]}).select(news2.half_up(pl.col("x"), scale)).item()
    assert found == right


def test_every_written_half_is_rounded_up() -> None:
    tenths = [round(each / 100, 2) for each in range(2505, 4505, 10)]
    frame = pl.DataFrame({"x": tenths}).select(news2.half_up(pl.col("x"), 10))["x"]
    assert frame.to_list() == [math.floor(round(each * 100) / 10 + 0.5) for each in tenths]


def test_the_columns_are_those_that_are_declared() -> None:
    assert score({}).schema == pl.Schema(COLUMNS)
