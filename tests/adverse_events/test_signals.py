"""Measures of disproportionality are those of a plain computation, with every kind of zero cell."""

import math
from itertools import product

import polars as pl
import pytest

from assets.adverse_events.signals import disproportionality, safety_signals

Cells = tuple[int, int, int, int]
CELLS: list[Cells] = [
    *product((0, 1, 3, 40), (0, 2, 900), (0, 5, 700), (0, 90, 100_000)),
    (25, 75, 3000, 996_900),
    (3, 1, 1, 3_000_000_000),
    (2_000_000, 3_000_000, 4_000_000, 20_000_000),
]


def measures(a: int, b: int, c: int, d: int) -> dict[str, float | None]:
    """The definitions, written down for one pair."""
    n = a + b + c + d
    found: dict[str, float | None] = dict.fromkeys(
        ("prr", "prr_lower", "prr_upper", "chi_square", "ror", "ror_lower", "ror_upper")
    )
    if a and c:
        prr = (a / (a + b)) / (c / (c + d))
        error = math.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d))
        found |= {"prr": prr, "prr_lower": prr * math.exp(-1.96 * error), "prr_upper": prr * math.exp(1.96 * error)}
    if a and b and c and d:
        ror = (a * d) / (b * c)
        error = math.sqrt(1 / a + 1 / b + 1 / c + 1 / d)
        found |= {"ror": ror, "ror_lower": ror * math.exp(-1.96 * error), "ror_upper": ror * math.exp(1.96 * error)}
    if margins := (a + b) * (c + d) * (a + c) * (b + d):
        found["chi_square"] = n * max(0.0, abs(a * d - b * c) - n / 2) ** 2 / margins
    expected = (a + b) * (a + c) / n
    ic = math.log2((a + 0.5) / (expected + 0.5))
    return found | {"expected_count": expected, "ic": ic, "ic025": ic - 3.3 / (a + 0.5) ** 0.5 - 2 / (a + 0.5) ** 1.5}


@pytest.mark.parametrize("cells", [cells for cells in CELLS if sum(cells)])
def test_measures_are_those_of_the_definitions(cells: Cells) -> None:
    a, b, c, d = cells
    frame = pl.LazyFrame({"substance": "S", "reactionmeddrapt": "R", "a_": a, "b_": b, "c_": c, "d_": d})
    [row] = disproportionality(frame).collect().to_dicts()
    expected = measures(*cells)
    for name, value in expected.items():
        assert (row[name] is None) == (value is None), name
        assert value is None or row[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
    is_prr = expected["prr"] is not None and expected["prr"] >= 2 and (expected["chi_square"] or 0) >= 4 and a >= 3
    assert row["is_prr_signal"] == is_prr
    assert row["is_ror_signal"] == (expected["ror_lower"] is not None and expected["ror_lower"] > 1)
    assert row["is_ic_signal"] == ((expected["ic025"] or 0) > 0)


def test_a_published_example_is_found_again() -> None:
    """Evans et al. 2001, table 2: rifabutin and uveitis, PRR 586."""
    frame = pl.LazyFrame(
        {"substance": "RIFABUTIN", "reactionmeddrapt": "Uveitis", "a_": 41, "b_": 14, "c_": 754, "d_": 591_958}
    )
    [row] = disproportionality(frame).collect().to_dicts()
    assert round(row["prr"]) == 586
    assert row["is_signal"]


def test_a_reaction_that_no_other_substance_has_is_judged_by_the_measure_that_is_defined() -> None:
    frame = pl.LazyFrame({"substance": "S", "reactionmeddrapt": "R", "a_": 5, "b_": 5, "c_": 0, "d_": 990})
    [row] = disproportionality(frame).collect().to_dicts()
    assert (row["prr"], row["ror"]) == (None, None)
    assert not row["is_prr_signal"]
    assert not row["is_ror_signal"]
    assert row["is_ic_signal"]
    assert row["is_signal"]


def test_no_count_gives_no_signal() -> None:
    schema = {"substance": pl.String, "reactionmeddrapt": pl.String, "report_count": pl.Int64}
    assert safety_signals(pl.LazyFrame(schema=schema)).is_empty()
