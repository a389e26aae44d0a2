"""Mistakes in the declaration of a stream are found when it is loaded."""

from dataclasses import replace
from datetime import timedelta

import dataframely as dy
import msgspec
import polars as pl
import pytest

from assets.glucose.assets import CONTRACT
from assets.stream.contract import ContractError, Rule, Window


class WithoutTime(msgspec.Struct):
    """A payload that says no time."""

    patient_id: int


class WithoutPosition(dy.Schema):
    """Rows that do not say where they come from."""

    patient_id = dy.Int64()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"payload": WithoutTime}, "the payload lacks timestamp"),
        ({"silver": WithoutPosition}, "silver lacks .*sequence_number"),
        ({"alerts": WithoutPosition}, "alerts lacks alert_id"),
        ({"keys": ("patient_id", "pump_id")}, "silver lacks pump_id"),
        ({"keys": ("device_id",)}, "the keys lack the entity patient_id"),
        ({"windows": (Window("mean", "insulin", timedelta(minutes=1)),)}, "a window lacks insulin"),
        (
            {"windows": (Window("mean", "range_flag", timedelta(minutes=1)),)},
            "a window lacks range_flag; .* never null",
        ),
        ({"rules": (Rule("far", "location", "above", 1.0, "urgent"),)}, "a rule lacks location; .* Float64"),
        ({"keys": ("patient_id", "location")}, "the never-null part of silver lacks location"),
        ({"rules": (Rule("high", "insulin", "above", 1.0, "urgent"),)}, "a rule lacks insulin"),
    ],
)
def test_a_contradiction_names_the_stream_the_mistake_and_the_remedy(change: dict[str, object], named: str) -> None:
    with pytest.raises(ContractError, match=f"Stream 'glucose_readings': {named}"):
        replace(CONTRACT, **change)  # type: ignore[arg-type]


def test_a_value_that_is_unknown_breaks_no_rule() -> None:
    rows = pl.DataFrame({"level": [1.0, None, 9.0]})
    assert Rule("low", "level", "below", 5.0, "urgent").is_broken(rows).to_list() == [True, False, False]
    assert Rule("high", "level", "above", 5.0, "urgent").is_broken(rows).to_list() == [False, False, True]
