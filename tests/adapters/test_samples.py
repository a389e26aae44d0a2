"""Every sample of every format ends as EXPECTED.md says."""

from datetime import datetime
from pathlib import Path

import pytest

from resources.lake import Lake
from tests.adapters.samples_as_events import SAMPLES, events_of, expected_of, sample_names
from tests.adapters.world import becomes, lake_in


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return lake_in(tmp_path_factory.mktemp("lake"))


def test_there_is_an_expectation_for_each_sample():
    assert {*sample_names()} == {path.name for path in Path(SAMPLES).iterdir()} - {"EXPECTED.md", "identity.csv"}


@pytest.mark.parametrize("name", sample_names())
def test_a_sample_becomes_what_is_expected(name: str, lake: Lake):
    found, expected = becomes(lake, events_of(name)), expected_of(name)
    assert [_without_glucose(each) for each in found] == [_without_glucose(each) for each in expected]
    # EXPECTED.md has converted values as they are; silver has whole mg/dL.
    assert [_glucose(each) for each in found] == pytest.approx([_glucose(each) for each in expected], abs=0.5, rel=0)


def _without_glucose(outcome: str) -> tuple[object, ...]:
    """An outcome without a value of glucose; fields of vital signs in any order."""
    kind, *rest = outcome.split()
    match kind, rest:
        case "V", [patient, at, *fields]:
            return (
                kind,
                patient,
                datetime.fromisoformat(at),
                *sorted(zip(fields[::2], map(_value, fields[1::2]), strict=True)),
            )
        case "G", [patient, device, at, _, *flag]:
            return (kind, patient, device, datetime.fromisoformat(at), *flag)
        case "D", [device, at, level]:
            return (kind, device, datetime.fromisoformat(at), level)
    return (kind, *rest)


def _glucose(outcome: str) -> float:
    return float(outcome.split()[4]) if outcome.startswith("G ") else 0.0


def _value(text: str) -> object:
    return text if text in ("true", "false") else float(text)
