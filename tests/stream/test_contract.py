"""Mistakes in the declaration of a stream are found when it is loaded."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

import dataframely as dy
import polars as pl
import pytest

from assets.glucose.assets import CONTRACT
from assets.stream.contract import ContractError, Last, Rule, Score, Window
from assets.stream.spans import MINUTE, Forecast, Nth, Rate, Sustained


class WithoutPosition(dy.Schema):
    """Rows that do not say where they come from."""

    patient_id = dy.Int64()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"silver": WithoutPosition}, "silver lacks .*sequence_number"),
        ({"alerts": WithoutPosition}, "alerts lacks alert_id"),
        ({"keys": ("patient_id", "pump_id")}, "silver lacks pump_id"),
        ({"keys": ("device_id",)}, "the keys lack the entity patient_id"),
        ({"windows": (Window("mean", "insulin", timedelta(minutes=1)),)}, "a window lacks insulin"),
        (
            {"windows": (Window("mean", "range_flag", timedelta(minutes=1)),)},
            "a window lacks range_flag; .* Float64",
        ),
        ({"rules": (Rule("far", "location", "above", 1.0, "urgent"),)}, "a rule lacks location; .* Float64"),
        ({"keys": ("location",), "entity": "location"}, "the never-null part of silver lacks location"),
        ({"windows": (Last("last", "insulin", timedelta(minutes=1)),)}, "a window lacks insulin; carry"),
        ({"windows": (Last("last", "partition", timedelta(minutes=1)),)}, "a window lacks partition; carry"),
        ({"rules": (Rule("a", "glucose_mg_dl", "above", 1.0, "urgent", unless="location"),)}, "a rule lacks location"),
        (
            {
                "windows": (Last("place", "location", timedelta(minutes=1)),),
                "rules": (Rule("a", "place", "above", 1.0, "urgent"),),
            },
            "a rule lacks place; .* a window or a score",
        ),
        ({"rules": (Rule("high", "insulin", "above", 1.0, "urgent"),)}, "a rule lacks insulin"),
        ({"windows": (Rate("rate", "insulin"),)}, "a window lacks insulin; .* Float64"),
        ({"windows": (Rate("rate", "glucose_mg_dl", at_least=1),), "rules": ()}, "window rate: at_least is 1, .* 2"),
        ({"windows": (Rate("rate", "glucose_mg_dl", 0 * MINUTE),), "rules": ()}, "window rate: it looks back 0 min; "),
        (
            {"windows": (Sustained("low", "glucose_mg_dl", 359 * MINUTE),), "rules": ()},
            "window low: it looks back 374 ",
        ),
        (
            {"windows": (Sustained("low", "glucose_mg_dl", 0 * MINUTE),), "rules": ()},
            "window low: length or gap is not",
        ),
        (
            {"windows": (Nth("n", "glucose_mg_dl", 4, 3, MINUTE),), "rules": ()},
            "window n: it asks for 4 of 3 readings;",
        ),
        (
            {"windows": (Forecast("x", "glucose_mg_dl", "ar2", 12 * MINUTE, 60 * MINUTE),), "rules": ()},
            "window x: .* steps of 5 minutes",
        ),
        (
            {"windows": (Forecast("x", "glucose_mg_dl", "linear", 0 * MINUTE, 15 * MINUTE),), "rules": ()},
            "window x: its horizon is not positive",
        ),
        (
            {"rules": (Rule("a", "glucose_low_3_of_4", "above", 1.0, "urgent"),)},
            "rule a: glucose_low_3_of_4 cannot be above a threshold; compare below or at_most",
        ),
    ],
)
def test_a_contradiction_names_the_stream_the_mistake_and_the_remedy(change: dict[str, object], named: str) -> None:
    with pytest.raises(ContractError, match=f"Stream 'glucose_readings': {named}"):
        replace(CONTRACT, **change)  # type: ignore[arg-type]


def test_a_value_that_is_unknown_breaks_no_rule() -> None:
    rows = pl.DataFrame({"level": [1.0, None, 9.0]})
    assert Rule("low", "level", "below", 5.0, "urgent").is_broken(rows).to_list() == [True, False, False]
    assert Rule("high", "level", "above", 5.0, "urgent").is_broken(rows).to_list() == [False, False, True]


@pytest.mark.parametrize(
    ("comparison", "broken"),
    [
        ("above", [False, False, True]),
        ("at_least", [False, True, True]),
        ("below", [True, False, False]),
        ("at_most", [True, True, False]),
    ],
)
def test_a_threshold_is_included_or_not(
    comparison: Literal["above", "below", "at_least", "at_most"], broken: list[bool]
) -> None:
    assert (
        Rule("a", "level", comparison, 5.0, "urgent").is_broken(pl.DataFrame({"level": [4, 5, 6]})).to_list() == broken
    )


def test_a_rule_is_not_broken_where_its_exception_is_true() -> None:
    rows = pl.DataFrame({"level": [9, 9, 9, None], "is_excused": [True, False, None, False]})
    rule = Rule("high", "level", "above", 5.0, "warning", unless="is_excused")
    assert rule.is_broken(rows).to_list() == [False, True, True, False]


def test_a_forecast_is_broken_only_while_the_present_is_not_beyond() -> None:
    rows = pl.DataFrame({"level": [80.0, 69.0, 70.0, None], "expected": [60.0, 60.0, 60.0, 60.0]})
    rule = Rule("low", "expected", "below", 70.0, "warning")
    assert rule.is_broken(rows, present="level").to_list() == [True, False, True, True]
    thresholds = pl.Series([70.0, 69.0, 71.0, 60.0])
    assert rule.is_broken(rows, thresholds, "level").to_list() == [True, True, False, False]


def test_windows_say_of_what_kind_a_rule_is_and_where_its_threshold_lies() -> None:
    kinds = {name: CONTRACT.kind_of(name) for name in ("glucose_mg_dl", "mean_10_min", *CONTRACT.spans)}
    assert kinds["glucose_mg_dl"] == "level"
    assert kinds["mean_10_min"] == "window"
    assert {*kinds.values()} == {"level", "window", "rate", "sustained", "count", "forecast"}
    assert CONTRACT.plausible_of("glucose_forecast_20_min") == CONTRACT.plausible_of("glucose_mg_dl") == (20, 1000)
    assert CONTRACT.plausible_of("glucose_rate_15_min") == (-980 / 15, 980 / 15)
    assert CONTRACT.reach == 10 * MINUTE
    assert CONTRACT.reach_of(("glucose_mg_dl", "glucose_sustained_low_15_min")) == 30 * MINUTE


def test_what_windows_and_scores_add_to_readings_can_be_compared() -> None:
    score = Score({"twice": pl.Float64()}, lambda rows: rows.select(twice=pl.col("last") * 2))
    windows = (Last("last", "glucose_mg_dl", timedelta(minutes=1)), Last("place", "location", timedelta(minutes=1)))
    rules = tuple(Rule(name, name, "above", 1.0, "urgent") for name in ("last", "last_age_s", "twice"))
    contract = replace(CONTRACT, windows=windows, scores=(score,), rules=rules)
    numbers = dict.fromkeys(("last", "last_age_s", "place_age_s", "twice"), pl.Float64())
    assert dict(contract.derived) == numbers | {"place": pl.String()}
    assert contract.reach == timedelta(minutes=1)


@pytest.mark.parametrize(
    ("compute", "told"),
    [
        (lambda rows: rows.select(other=1.0), "computes no twice"),
        (lambda rows: rows.select(twice=pl.lit("2")), "other types"),
        (lambda rows: rows.select(twice=pl.col("level") * 2.0).head(1), "other rows"),
    ],
)
def test_a_score_has_the_columns_that_it_declares(compute: Any, told: str) -> None:
    with pytest.raises(ContractError, match=told):
        Score({"twice": pl.Float64()}, compute).of(pl.DataFrame({"level": [1.0, 2.0]}))
