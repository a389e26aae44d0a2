"""Rules of a contract on what several readings say, through a processor, against a plain evaluation and in any cuts."""

import json
import operator
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from assets.glucose.assets import CONTRACT
from assets.stream.contract import Contract, Rule
from assets.stream.spans import Forecast
from assets.vitals.assets import CONTRACT as VITALS
from tests.stream.batches import as_rows, flat, micro_batches, process
from tests.stream.plain_spans import Reading, plain
from tests.stream.scenarios import NOON, PLAIN

COMPARE = {"below": operator.lt, "at_least": operator.ge, "above": operator.gt}
GLUCOSE_RULES = (
    Rule("falls", "glucose_rate_15_min", "below", -1.0, "warning"),
    Rule("stays_low", "glucose_sustained_low_15_min", "below", 90.0, "urgent"),
    Rule("stays_high", "glucose_sustained_high_30_min", "above", 110.0, "warning"),
    Rule("often_high", "glucose_high_3_of_4", "at_least", 120.0, "warning"),
    Rule("will_be_low", "glucose_forecast_20_min", "below", 85.0, "warning"),
    Rule("will_be_high", "glucose_forecast_ar2_30_min", "above", 100.0, "warning"),
)
VITALS_RULES = (
    Rule("desaturated", "spo2_sustained_low_1_min", "below", 92.0, "urgent"),
    Rule("races", "heart_rate_sustained_high_3_min", "above", 95.0, "warning"),
    Rule("rises", "heart_rate_rate_5_min", "above", 0.5, "warning"),
    Rule("often_low", "systolic_low_2_of_3", "below", 100.0, "warning"),
)


def glucose(random: Random) -> list[bytes]:
    """Readings of two patients in the order in which they arrive, some of them late."""
    sent, level = [], {1: 90.0, 2: 110.0}
    for number in range(60):
        for patient in (1, 2):
            level[patient] += random.gauss(0, 6)
            at = NOON - timedelta(hours=5) + timedelta(minutes=5 * number, seconds=random.choice((0, 0, 3)))
            member = {"patient_id": patient, "device_id": 1, "glucose_level": round(level[patient], 1)}
            sent.append((number + random.choice((0, 0, 0, 4)), member | {"timestamp": at.strftime(PLAIN)}))
    return [json.dumps(member).encode() for _, member in sorted(sent, key=lambda each: each[0])]


def vitals(random: Random) -> list[bytes]:
    """The same of vital signs, of which each reading has some."""
    sent = []
    for number in range(150):
        at = NOON - timedelta(hours=1) + timedelta(seconds=number * 10)
        signs = {"spo2": random.choice((88, 90, 91, 91, 97)), "pulse": 90 + number % 40, "systolic_bp": 95 + number % 9}
        some = {name: signs[name] for name in signs if random.random() < (0.1 if name == "systolic_bp" else 0.7)}
        member = {"patient_id": 1, "device_id": number % 2, "timestamp": at.strftime(PLAIN), "temperature": 37} | some
        sent.append((number + random.choice((0, 0, 0, 6)), member))
    return [json.dumps(member).encode() for _, member in sorted(sent, key=lambda each: each[0])]


def plainly(contract: Contract, silver: Sequence[dict[str, Any]], batch_of: dict[int, int]) -> dict[Any, set[float]]:
    """The patient, instant and rule of each alert, and the values that it may say."""
    found: dict[Any, set[float]] = defaultdict(set)
    for row in silver:
        for rule in contract.rules:
            span = contract.spans[rule.column]
            known = [
                Reading(each["measured_at"], each[span.column])
                for each in silver
                if each["patient_id"] == row["patient_id"]
                and batch_of[each["sequence_number"]] <= batch_of[row["sequence_number"]]
            ]
            own = Reading(row["measured_at"], row[span.column])
            value, is_beyond = plain(span, own, known, contract.plausible[span.column]), COMPARE[rule.comparison]
            if value is None or own.value is None or not is_beyond(value, rule.threshold):
                continue
            if not (isinstance(span, Forecast) and is_beyond(own.value, rule.threshold)):
                found[row["patient_id"], row["measured_at"], rule.id].add(value)
    return found


@pytest.mark.parametrize(
    ("contract", "rules", "feed"), [(CONTRACT, GLUCOSE_RULES, glucose), (VITALS, VITALS_RULES, vitals)]
)
def test_rules_of_a_contract_raise_the_alerts_of_a_plain_evaluation_in_any_cuts(
    contract: Contract, rules: tuple[Rule, ...], feed: Any
) -> None:
    contract, random = replace(contract, rules=rules), Random(5)
    bodies = feed(random)
    cuts = [0, *sorted(random.sample(range(1, len(bodies)), 9)), len(bodies)]
    events = micro_batches(*(bodies[first:last] for first, last in pairwise(cuts)))
    outcome = process(events, contract)
    batch_of = {event.sequence_number: number for number, some in enumerate(events) for event in some}
    right = plainly(contract, outcome.silver.to_dicts(), batch_of)
    columns = {rule.id: rule.column for rule in rules}
    found = {}
    for row in outcome.alerts.to_dicts():
        told = {name: row[name] for name in contract.spans if row[name] is not None}
        assert told.keys() == {columns[row["rule"]]}
        found[row["patient_id"], row["measured_at"], row["rule"]] = told.popitem()[1]
    assert {rule for _, _, rule in found} == columns.keys()
    assert found.keys() == right.keys()
    assert all(any(value == pytest.approx(each, abs=2e-6) for each in right[key]) for key, value in found.items())
    for again in ([flat(events)], [flat(events[:4]), flat(events[4:])]):
        assert as_rows(process(again, contract)) == as_rows(outcome)


def test_a_published_alert_says_what_broke_the_rule() -> None:
    contract = replace(CONTRACT, rules=(*CONTRACT.rules, *GLUCOSE_RULES))
    alerts = process([micro_batches(glucose(Random(5)))[0]], contract).alerts
    columns = {rule.id: rule.column for rule in contract.rules}
    for row, told in zip(alerts.to_dicts(), contract.alert_payload(alerts).to_dicts(), strict=True):
        assert told["value"] == row[columns[row["rule"]]]
    assert {*alerts["rule"]} >= {"glucose_high", "glucose_average_high", "falls", "will_be_low"}
    contract = replace(VITALS, rules=VITALS_RULES)
    alerts = process([micro_batches(vitals(Random(5)))[0]], contract).alerts
    columns = {rule.id: rule.column for rule in VITALS_RULES}
    for row, told in zip(alerts.to_dicts(), contract.alert_payload(alerts).to_dicts(), strict=True):
        assert told["value"] == row[columns[row["rule"]]]
    assert alerts.height
