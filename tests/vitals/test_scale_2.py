"""The second scale of oxygen saturation, for patients of whom reference data say that 88 to 92 % are right for them."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from assets.vitals.assets import CONTRACT
from assets.vitals.gold import news2_evaluations
from tests.reference.values import load_patients
from tests.stream.scenarios import NOON, hub_with, lake_in, run_session
from tests.stream.tables import rows

TARGET, OTHER = 1, 2


def body(patient: int, **values: Any) -> bytes:
    well = {"respiratory_rate": 16, "systolic_bp": 120, "heart_rate": 70, "temperature": 37.0}
    at = (NOON - timedelta(hours=1)).isoformat()
    return msgspec.json.encode({"patient_id": patient, "device_id": patient, "timestamp": at} | well | values)


@pytest.mark.parametrize(
    ("values", "of_target", "of_other"),
    [
        # COPD on air: 90 % is as it should be, and 3 points for anybody else.
        ({"spo2": 90}, 0, 3),
        # Too much oxygen: 97 % are 3 points on top of the 2 of the oxygen itself.
        ({"spo2": 97, "on_oxygen": True}, 5, 2),
        ({"spo2": 97}, 0, 0),
        ({"spo2": 83}, 3, 3),
    ],
)
def test_a_score_follows_from_the_scale_of_the_patient(
    tmp_path: Path, values: dict[str, Any], of_target: int, of_other: int
) -> None:
    lake = lake_in(tmp_path)
    load_patients(lake, {"patient_id": TARGET, "groups": "copd;spo2_scale_2"}, {"patient_id": OTHER, "groups": "copd"})
    run_session(lake, hub_with([body(TARGET, **values), body(OTHER, **values)]), contract=CONTRACT)
    silver = rows(lake, "silver", CONTRACT)
    assert dict(silver.select("patient_id", "is_spo2_scale_2").iter_rows()) == {TARGET: True, OTHER: False}
    found = news2_evaluations(silver, [NOON.date()]).select("patient_id", "news2_score")
    scores: dict[int, int] = dict(found.iter_rows())
    assert scores == {TARGET: of_target, OTHER: of_other}
    alerts = rows(lake, "alerts", CONTRACT)
    medium = alerts.filter(rule="news2_medium")["patient_id"].to_list()
    assert medium == [patient for patient, score in scores.items() if score >= 5]
