"""The board: what counts of readings and alarms, in whatever order they come."""

from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from assets.vitals.news2 import PARAMETERS
from dashboard.board import US_PER_MINUTE, Board, Pending, Value, microseconds, trend

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
US = microseconds(NOON)


def glucose(*rows: tuple[int, float, float]) -> pl.DataFrame:
    """Patients, minutes after noon, values."""
    return pl.DataFrame(
        {
            "patient_id": [patient for patient, _, _ in rows],
            "device_id": [100 + patient for patient, _, _ in rows],
            "measured_at": [NOON + timedelta(minutes=minute) for _, minute, _ in rows],
            "glucose_mg_dl": [float(value) for _, _, value in rows],
            "range_flag": pl.Series([None] * len(rows), dtype=pl.String),
        }
    ).with_columns(pl.col("measured_at").cast(pl.Datetime("us", "UTC")))


def devices(*rows: tuple[int, float, float]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "device_id": [device for device, _, _ in rows],
            "measured_at": [NOON + timedelta(minutes=minute) for _, minute, _ in rows],
            "battery_level": [float(level) for _, _, level in rows],
        }
    ).with_columns(pl.col("measured_at").cast(pl.Datetime("us", "UTC")))


def transition(index: int, kind: str = "raised", state: str = "unacknowledged", **more: Any) -> dict[str, Any]:
    return {
        "alarm_id": "a1",
        "index": index,
        "kind": kind,
        "stream": "glucose_readings",
        "entity": 1,
        "of_device": False,
        "cause": "glucose_low",
        "severity": "urgent",
        "state": state,
        "raised_at": US,
        "decided_at": US + index,
        "value": 50.0,
        "worst_value": 50.0,
        "tier": 0,
        "is_stale": False,
        "until": None,
        "actor": None,
        "action_id": None,
    } | more


def shown(board: Board, key: str = "1", *, named: bool = True) -> dict[str, Any]:
    [row] = [row for row in board.changed_since(0)[1] if row.key == key]
    return row.shown(named=named)


def test_of_readings_the_newest_counts_and_a_late_one_changes_nothing_but_the_trend() -> None:
    board = Board()
    board.take_glucose(glucose((1, 10, 90), (1, 0, 60)))
    board.take_glucose(glucose((1, 5, 75)))
    assert shown(board)["glucose"][:2] == [90.0, (US + 10 * US_PER_MINUTE) // 1000]


@pytest.mark.parametrize("values", [(52, 110), (110, 52)])
def test_of_readings_of_one_instant_the_lowest_counts(values: tuple[float, float]) -> None:
    board = Board()
    for value in values:
        board.take_glucose(glucose((1, 0, value)))
    assert shown(board)["glucose"][0] == 52.0


def test_a_battery_is_that_of_the_device_that_is_worn() -> None:
    board = Board()
    board.take_devices(devices((101, 0, 40)), {})
    board.take_glucose(glucose((1, 0, 90)))
    another = glucose((1, 5, 95)).with_columns(device_id=pl.lit(102, pl.Int64))
    board.take_glucose(another)
    assert "battery" not in shown(board)
    board.take_devices(devices((102, 6, 90)), {})
    assert shown(board)["battery"][0] == 90.0


def test_only_what_changed_is_told() -> None:
    board = Board()
    board.take_glucose(glucose((1, 0, 90), (2, 0, 100)))
    step, _ = board.changed_since(0)
    board.take_glucose(glucose((2, 1, 101)))
    assert [row.key for row in board.changed_since(step)[1]] == ["2"]


@pytest.mark.parametrize(
    ("slope", "steps"), [(0.0, 0), (0.9, 0), (1.0, 1), (-1.5, -1), (2.0, 2), (-2.5, -2), (3.0, 3), (-9.0, -3)]
)
def test_a_trend_has_the_steps_of_its_slope(slope: float, steps: int) -> None:
    recent = deque(Value(100 + slope * minute, minute * US_PER_MINUTE) for minute in (0, 5, 10))
    assert trend(recent) == steps


def test_a_trend_needs_three_readings_of_the_last_quarter_of_an_hour() -> None:
    assert trend(deque()) is None
    assert trend([Value(100, 0), Value(110, 5 * US_PER_MINUTE)]) is None
    assert trend([Value(100, minute * US_PER_MINUTE) for minute in (0, 20, 40)]) is None


def test_readings_each_second_leave_a_trend_over_minutes() -> None:
    board = Board()
    board.take_glucose(glucose(*((1, second / 60, 100 + second / 25) for second in range(900))))
    assert shown(board)["glucose"][3] == 2


def test_a_score_is_of_what_was_known_within_five_minutes() -> None:
    board = Board()
    board.take_vitals(vital(0, respiratory_rate_per_min=25.0, spo2_percent=91.0, systolic_mmhg=120.0))
    assert "news2" not in shown(board)
    board.take_vitals(vital(4, heart_rate_bpm=80.0, temperature_c=37.0))
    assert shown(board)["news2"][:2] == [6, "medium"]
    before = shown(board)["news2"]
    board.take_vitals(vital(9, heart_rate_bpm=140.0))
    assert shown(board)["news2"] == before
    assert shown(board)["heart_rate"][0] == 140.0


def test_a_score_follows_from_the_scale_of_the_patient() -> None:
    values = {"respiratory_rate_per_min": 16.0, "systolic_mmhg": 120.0, "heart_rate_bpm": 70.0, "temperature_c": 37.0}
    scores = []
    for board in (Board(), Board({1}.__contains__)):
        board.take_vitals(vital(0, spo2_percent=97.0, is_on_oxygen=True, **values))
        scores.append(shown(board)["news2"][0])
    assert scores == [2, 5]


def vital(minute: float, **values: Any) -> pl.DataFrame:
    """Some vital signs of patient 1."""
    row = {name: [values.get(name)] for name in PARAMETERS}
    at = pl.lit(NOON + timedelta(minutes=minute), pl.Datetime("us", "UTC"))
    return pl.DataFrame(row, schema=dict(PARAMETERS)).with_columns(patient_id=pl.lit(1, pl.Int64), measured_at=at)


@pytest.mark.parametrize("values", [(97.0, 71.0), (71.0, 97.0)])
def test_of_vital_signs_of_one_instant_the_worse_counts_as_for_rules(values: tuple[float, float]) -> None:
    board = Board()
    for value in values:
        board.take_vitals(vital(0, spo2_percent=value, heart_rate_bpm=value))
    assert (shown(board)["spo2"][0], shown(board)["heart_rate"][0]) == (71.0, 97.0)
    board.take_vitals(vital(1, spo2_percent=96.0))
    assert shown(board)["spo2"][0] == 96.0


def test_what_is_five_minutes_old_counts_in_no_score_as_for_rules() -> None:
    board = Board()
    board.take_vitals(vital(0, respiratory_rate_per_min=25.0, spo2_percent=91.0, systolic_mmhg=120.0))
    board.take_vitals(vital(5, heart_rate_bpm=80.0, temperature_c=37.0))
    assert "news2" not in shown(board)


def test_transitions_of_an_alarm_count_in_their_order_whatever_comes_first() -> None:
    rows = [transition(0), transition(1, "acknowledged", "acknowledged", actor="nora"), transition(2, "worsened")]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 2, 1]):
        board = Board()
        board.take_alarms([rows[place] for place in order], {})
        [alarm] = shown(board)["alarms"]
        assert (alarm["index"], alarm["state"], alarm["by"]) == (2, "unacknowledged", "")


def test_an_alarm_that_is_over_stays_over_when_its_beginning_comes_late() -> None:
    board = Board()
    board.take_alarms([transition(1, "cleared", "cleared"), transition(0)], {})
    assert board.alarms() == []


def test_an_alarm_that_its_table_has_no_more_ends_after_a_while_only() -> None:
    board = Board()
    board.take_alarms([transition(0)], {})
    board.keep_alarms("vitals", [], US + 10)
    board.keep_alarms("glucose_readings", [], US)
    assert len(board.alarms()) == 1
    board.keep_alarms("glucose_readings", [], US + 10)
    assert board.alarms() == []
    assert shown(board)["alarms"] == []
    # The session that told of it died, and the next one tells of it again.
    board.take_alarms([transition(0)], {})
    assert len(board.alarms()) == 1


def test_what_somebody_did_is_pending_until_its_transition_comes_or_time_is_over() -> None:
    board = Board()
    board.take_alarms([transition(0)], {})
    board.pend("a1", Pending("act-1", "acknowledge", "nora", US))
    assert shown(board)["alarms"][0]["pending"] == ["acknowledge", "nora"]
    assert shown(board, named=False)["alarms"][0]["pending"] == ["acknowledge", ""]
    board.take_alarms([transition(1, "acknowledged", "acknowledged", actor="nora", action_id="act-1")], {})
    assert shown(board)["alarms"][0]["pending"] is None
    board.pend("a1", Pending("act-2", "snooze", "nora", US))
    board.expire(US + 20, 10)
    assert shown(board)["alarms"][0]["pending"] is None


def test_an_action_that_was_refused_is_pending_no_more() -> None:
    board = Board()
    board.take_alarms([transition(0)], {})
    board.pend("a1", Pending("act-1", "acknowledge", "nora", US))
    refused = {"alarm_id": "a1", "index": -1, "kind": "refused", "action_id": "act-1", "entity": None}
    board.take_alarms([transition(0) | refused], {})
    assert shown(board)["alarms"][0]["pending"] is None


def test_what_a_table_says_again_is_no_change() -> None:
    board = Board()
    board.take_alarms([transition(0)], {})
    step, _ = board.changed_since(0)
    board.take_alarms([transition(0)], {})
    assert board.changed_since(step) == (step, [])


def test_an_alarm_goes_to_the_patient_of_the_device_once_that_is_known() -> None:
    board = Board()
    of_device = transition(0, stream="device_readings", entity=101, of_device=True, cause="battery_low")
    board.take_alarms([of_device], {})
    assert [alarm["id"] for alarm in shown(board, "d101")["alarms"]] == ["a1"]
    board.take_alarms([of_device], {101: 1})
    assert shown(board, "d101")["alarms"] == []
    assert [alarm["id"] for alarm in shown(board, "1")["alarms"]] == ["a1"]


def test_alarms_and_batteries_of_a_device_are_of_who_wears_it() -> None:
    board = Board()
    of_device: dict[str, Any] = {"stream": "device_readings", "entity": 101, "of_device": True, "cause": "battery_low"}
    board.take_devices(devices((101, 0, 40)), {})
    board.take_glucose(glucose((1, 0, 90)))
    board.take_alarms([transition(0, alarm_id="worn", **of_device)], {101: 1})
    board.take_alarms([transition(0, alarm_id="lost", **(of_device | {"entity": 999}))], {})
    assert shown(board)["battery"][0] == 40.0
    assert [alarm["id"] for alarm in shown(board)["alarms"]] == ["worn"]
    assert shown(board, "d999")["patient"] is None


def test_a_device_that_nobody_wears_leaves_the_ward_with_its_last_alarm() -> None:
    board = Board()
    of_device: dict[str, Any] = {"of_device": True, "entity": 9, "stream": "device_readings", "cause": "silence"}
    board.take_alarms([transition(0, **of_device)], {})
    board.take_glucose(glucose((1, 0, 100)))
    step, rows = board.changed_since(0)
    assert {row.key: row.is_shown for row in rows} == {"d9": True, "1": True}
    board.take_alarms([transition(1, "cleared", "cleared", **of_device)], {})
    # Those who watch are told that it is empty, before it is forgotten.
    board.expire(US, 0)
    _, rows = board.changed_since(step)
    assert [(row.key, row.is_shown) for row in rows] == [("d9", False)]
    board.expire(US, 0)
    assert [row.key for row in board.changed_since(0)[1]] == ["1"]
    board.take_alarms([transition(0, alarm_id="a2", **of_device)], {})
    assert {row.key for row in board.changed_since(step)[1]} == {"d9"}


def test_a_device_whose_next_alarm_has_just_ended_stays_until_that_was_told() -> None:
    board = Board()
    of_device: dict[str, Any] = {"of_device": True, "entity": 9, "stream": "device_readings", "cause": "silence"}
    for alarm_id in ("a1", "a2"):
        board.take_alarms([transition(0, alarm_id=alarm_id, **of_device)], {})
        board.take_alarms([transition(1, "cleared", "cleared", alarm_id=alarm_id, **of_device)], {})
        step, _ = board.changed_since(0)
        board.expire(US, 0)
        assert [row.key for row in board.changed_since(step - 1)[1]] == ["d9"]
