"""What is exported as FHIR reads as the same readings again."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from assets.adapters import fhir
from assets.adapters.fhir_export import of_glucose, of_vitals
from assets.adapters.outcomes import Context, Reading, Skip
from orchestration.exporting import ExportError
from orchestration.fhir_exporting import export_fhir
from tests.resources.lakes import empty_lake, fill, row

AT = datetime(2026, 6, 1, 8, 0, 0, 250_000, tzinfo=UTC)
NOTHING = dict.fromkeys(
    [
        *("heart_rate_bpm", "respiratory_rate_per_min", "spo2_percent", "temperature_c", "glucose_mg_dl"),
        *("systolic_mmhg", "diastolic_mmhg", "device_id"),
    ]
)


def read(resource: dict[str, Any]) -> list[Reading]:
    found = [*fhir.adapt(json.loads(json.dumps(resource)), Context())]
    assert all(isinstance(each, Reading) for each in found), found
    return [each for each in found if isinstance(each, Reading)]


@pytest.mark.parametrize(
    ("value", "flag", "values"),
    [
        (112.0, None, {"glucose_level": 112.0, "unit": "mg/dL"}),
        (39.0, "below", {"glucose_level": 39.0, "unit": "mg/dL", "out_of_range": "below"}),
        (401.0, "above", {"glucose_level": 401.0, "unit": "mg/dL", "out_of_range": "above"}),
    ],
)
def test_a_glucose_reading_comes_back_as_it_was(value: float, flag: str | None, values: dict[str, Any]):
    given = {"patient_id": 7, "device_id": 1007, "measured_at": AT, "glucose_mg_dl": value, "range_flag": flag}
    [resource] = of_glucose(given)
    [found] = read(resource)
    assert (found.measured_at, found.values) == (AT, values)
    assert [each.value for each in (found.patient, found.device) if each] == ["Patient/7", "Device/1007"]
    assert [*of_glucose(given)] == [resource]


def test_each_vital_sign_comes_back_as_it_was():
    given = {
        "heart_rate_bpm": 71.5,
        "respiratory_rate_per_min": 14.0,
        "spo2_percent": 97.0,
        "temperature_c": 36.8,
        "systolic_mmhg": 121.0,
        "diastolic_mmhg": 79.0,
    }
    resources = [*of_vitals(NOTHING | {"patient_id": 7, "measured_at": AT} | given)]
    assert len({resource["id"] for resource in resources}) == len(resources) == 5
    assert not any("device" in resource for resource in resources)
    found = {name: value for resource in resources for each in read(resource) for name, value in each.values.items()}
    assert found == {
        "heart_rate": 71.5,
        "respiratory_rate": 14.0,
        "spo2": 97.0,
        "temperature": 36.8,
        "unit": "cel",
        "systolic_bp": 121.0,
        "diastolic_bp": 79.0,
    }


@pytest.mark.slow
def test_a_bundle_has_one_patient_and_lines_have_all(tmp_path: Path):
    analytics = empty_lake(tmp_path / "lake")
    readings = [row(AT + timedelta(minutes=number), patient_id=7 + number % 2) for number in range(10)]
    fill(analytics, "silver/glucose_readings", *readings)
    lines, bundle = tmp_path / "all.ndjson", tmp_path / "one.json"
    assert export_fhir(analytics, lines, None) == 10
    assert len([each for line in lines.read_text().splitlines() for each in read(json.loads(line))]) == 10
    assert export_fhir(analytics, bundle, 7) == 5
    found = [*fhir.adapt(json.loads(bundle.read_text()), Context())]
    assert found[0] == Skip("Patient")
    assert {each.patient.value for each in found[1:] if isinstance(each, Reading) and each.patient} == {"Patient/7"}
    with pytest.raises(ExportError, match="is there already"):
        export_fhir(analytics, bundle, 7)
    assert export_fhir(analytics, bundle, 8, force=True) == 5
    assert export_fhir(analytics, tmp_path / "none.json", 99) == 0
    assert len(json.loads((tmp_path / "none.json").read_text())["entry"]) == 1
