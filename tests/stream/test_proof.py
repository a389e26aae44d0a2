"""A contract's mistakes are found when its stream is made, not by the first alert."""

from dataclasses import replace
from typing import Any

import dataframely as dy
import msgspec
import pytest

from assets.devices.assets import CONTRACT as DEVICES
from assets.glucose.assets import CONTRACT
from assets.glucose.contract import GlucoseAlerts, GlucosePayload
from assets.stream.contract import ContractError, Rule
from assets.stream.proof import prove
from assets.vitals.assets import CONTRACT as VITALS
from assets.vitals.contract import VitalsAlerts
from orchestration.system import STREAMS, Stream


def test_the_contracts_of_the_system_are_proved() -> None:
    prove(CONTRACT)
    prove(DEVICES)
    prove(VITALS)


def test_no_two_streams_have_a_rule_of_the_same_id() -> None:
    ids = [rule.id for stream in STREAMS for rule in stream.contract.rules]
    assert len(ids) == len(set(ids))


def without(rows: type[dy.Schema], *names: str) -> type[dy.Schema]:
    columns: dict[str, Any] = {name: column for name, column in rows.columns().items() if name not in names}
    return type(f"Other{rows.__name__}", (dy.Schema,), columns | {"__doc__": rows.__doc__})


class Surplus(GlucoseAlerts):
    """Alerts with a column that nobody fills."""

    nobody = dy.String(nullable=True)


class Timeless(msgspec.Struct):
    """A payload that says no time."""

    patient_id: int
    device_id: int
    glucose_level: float


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "a payload of the alert with a wrong name": (
        {"alert_payload": lambda alerts: alerts.select("patient")},
        "alert_payload",
    ),
    "alerts without a window's column": (
        {"alerts": without(GlucoseAlerts, "mean_10_min")},
        "windows, rules or columns of alerts",
    ),
    "alerts with a column that nobody fills": ({"alerts": Surplus}, "windows, rules or columns of alerts"),
    "a clean function that forgets a column": (
        {"clean": lambda decoded: CONTRACT.clean(decoded).drop("glucose_mg_dl")},
        "payload or clean",
    ),
    "a clean function that always fails": ({"clean": lambda decoded: decoded.select("no_such")}, "payload or clean"),
    "a payload without a time": ({"payload": Timeless}, "payload or clean"),
}


@pytest.mark.parametrize(("change", "named"), CHANGES.values(), ids=CHANGES)
def test_a_mistake_names_the_stream_and_the_part_to_mend(change: dict[str, Any], named: str) -> None:
    contract = replace(CONTRACT, **change)
    with pytest.raises(ContractError, match=rf"(?s)Stream 'glucose_readings': .*Mend the contract's {named}"):
        Stream("glucose", contract, ())


@pytest.mark.parametrize("threshold", [-5.0, 0.0, 1e8])
@pytest.mark.parametrize("column", ["glucose_mg_dl", "mean_10_min"])
def test_any_threshold_can_be_proved(threshold: float, column: str) -> None:
    rules = (Rule("up", column, "above", threshold, "warning"), Rule("down", column, "below", threshold, "urgent"))
    prove(replace(CONTRACT, rules=rules))


@pytest.mark.parametrize("column", CONTRACT.spans)
def test_rules_on_what_several_readings_say_can_be_proved(column: str) -> None:
    comparisons = CONTRACT.comparisons_of(column)
    rules = tuple(Rule(each, column, each, 70.0, "warning") for each in comparisons)
    prove(replace(CONTRACT, rules=rules))
    with pytest.raises(ContractError, match="windows, rules or columns of alerts"):
        prove(replace(CONTRACT, rules=rules, alerts=without(GlucoseAlerts, column)))


def test_a_score_whose_columns_alerts_lack_is_found() -> None:
    contract = replace(VITALS, alerts=without(VitalsAlerts, "news2_score"))
    with pytest.raises(ContractError, match=r"Stream 'vitals': .*windows, rules or columns of alerts"):
        prove(contract)


def test_a_score_that_fails_is_found() -> None:
    score = replace(VITALS.scores[0], compute=lambda rows: rows.select("no_such"))
    with pytest.raises(ContractError, match=r"Stream 'vitals': .*windows, rules or columns of alerts"):
        prove(replace(VITALS, scores=(score,)))


def test_optional_fields_of_any_type_may_be_there() -> None:
    payload = msgspec.defstruct(
        "Wide", [("note", str | None, None), ("count", int | None, None)], bases=(GlucosePayload,)
    )
    prove(replace(CONTRACT, payload=payload))
