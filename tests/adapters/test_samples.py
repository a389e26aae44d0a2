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
    assert [_comparable(each) for each in found] == [_comparable(each) for each in expected]


def _comparable(outcome: str) -> tuple[object, ...]:
    """Fields of vital signs in any order; glucose as whole mg/dL, to which silver rounds what was converted."""
    kind, *rest = outcome.split()
    if kind == "V":
        patient, at, *fields = rest
        return (
            kind,
            patient,
            datetime.fromisoformat(at),
            *sorted(zip(fields[::2], map(_value, fields[1::2]), strict=True)),
        )
    if kind == "G":
        patient, device, at, value, *flag = rest
        return (kind, patient, device, datetime.fromisoformat(at), Whole(float(value)), *flag)
    if kind == "D":
        device, at, level = rest
        return (kind, device, datetime.fromisoformat(at), level)
    return (kind, *rest)


def _value(text: str) -> object:
    return text if text in ("true", "false") else float(text)


class Whole(float):
    """Equal to another value if both can be the same whole number."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(self - other) <= 0.5

    __hash__ = None  # type: ignore[assignment]
