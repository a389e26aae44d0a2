"""The fold by itself, with readings as arrays: many of one entity, entities that are gone, and marks of silence."""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from assets.alarms import decisions
from assets.alarms.episodes import Episodes, Step
from assets.alarms.given import ANY, NO_LIMIT, Judged, Readings, Silence, Versions, microseconds
from assets.stream.alarming import Folded
from assets.stream.log import HubPartition

NOON = 1_790_000_000_000_000
SECOND, MINUTE, DAY = (microseconds(timedelta(**each)) for each in ({"seconds": 1}, {"minutes": 1}, {"days": 1}))
SILENT_AFTER = 30 * MINUTE
VERSIONS = Versions(
    ["low"], np.array([0]), np.array([1]), np.array([70.0]), np.array([0]), np.array([NO_LIMIT]), np.array([NO_LIMIT])
)
"""One rule, by which an alarm is over as soon as its reading is clear."""


def readings(entities: Sequence[int], at: Sequence[int], values: Sequence[float]) -> Readings:
    """Readings that arrive as they are measured; below 70 they break the rule, and below 50 an urgent one."""
    different, code = np.unique(entities, return_inverse=True)
    count, value, times = len(code), np.array(values, float), np.array(at, np.int64)
    numbers, all_of_them = np.arange(count), np.ones(count, bool)
    nothing = np.zeros(count, np.int64)
    severity = np.where(value < 50, 3, np.where(value < 70, 2, 0)).astype(np.int8)
    return Readings(
        entities=different,
        code=code,
        measured_at=times,
        received_at=times,
        order=numbers,
        hub_epoch=nothing,
        partition=nothing,
        sequence_number=numbers,
        event_index=nothing,
        is_fresh=all_of_them,
        is_accepted=all_of_them,
        is_new=all_of_them,
        has_value={ANY: all_of_them},
        causes=[Judged("low", True, severity, severity, all_of_them, value, nothing, (ANY,))],
        versions=VERSIONS,
        silences=[Silence(SILENT_AFTER, 2, "silence", 1, 30.0)],
        silent_after=np.array([SILENT_AFTER]),
        silence=nothing,
    )


def folded(episodes: Episodes, some: Readings) -> Step:
    """A step with some readings; then the clock says what the last one says."""
    last = int(some.received_at.max())
    return episodes.step(some, [], {(0, 0): last}, last)


@pytest.mark.parametrize("few", [0, decisions.FEW], ids=["in rounds", "one after another"])
def test_an_entity_that_flaps_has_an_alarm_for_each_time(monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(decisions, "FEW", few)
    count = 3000
    values = [69.0, 40.0, 60.0, 90.0] * (count // 4)
    rows = folded(Episodes("s"), readings([7] * count, range(NOON, NOON + count * MINUTE, MINUTE), values)).rows
    assert rows["kind"].to_list() == ["raised", "worsened", "eased", "cleared"] * (count // 4)
    assert rows["index"].to_list() == [0, 1, 2, 3] * (count // 4)
    assert rows["worst_value"].to_list() == [69.0, 40.0, 40.0, 40.0] * (count // 4)
    assert rows["reading_count"].to_list() == [1, 2, 3, 3] * (count // 4)
    assert rows["alarm_id"].n_unique() == count // 4


def test_an_alarm_that_is_raised_again_by_a_reading_of_the_same_instant_goes_on_counting() -> None:
    episodes = Episodes("s")
    rows = [folded(episodes, readings([7] * 5, [NOON] * 5, [60, 90, 60, 90, 60])).rows]
    rows.append(folded(episodes, readings([7] * 2, [NOON] * 2, [90, 60])).rows)
    found = pl.concat(rows)
    assert found["kind"].to_list() == ["raised", "cleared", "raised", "cleared", "raised", "cleared", "raised"]
    assert found["index"].to_list() == [*range(7)]
    assert found["reading_count"].to_list() == [1] * 7
    assert found["alarm_id"].n_unique() == 1


def test_of_alarms_that_ended_at_one_instant_the_last_one_goes_on_counting_after_a_restart() -> None:
    before = Episodes("s")
    rows = [folded(before, readings([7] * 3, [NOON - each * MINUTE for each in (3, 2, 1)], [60, 40, 60])).rows]
    # The older alarm ends, and another one is raised and ends.
    rows.append(folded(before, readings([7] * 3, [NOON] * 3, [90, 60, 90])).rows)
    after = Episodes("s", before.fold)
    after.restore(pl.concat(rows))
    again = readings([7], [NOON], [60])
    found, wanted = folded(after, again).rows, folded(before, again).rows
    assert found.select("alarm_id", "index", "kind").rows() == wanted.select("alarm_id", "index", "kind").rows()
    assert wanted["index"].to_list() == [2]


def test_each_gap_of_an_entity_parts_its_readings() -> None:
    at = [NOON + minute * MINUTE for hour in range(200) for minute in (60 * hour, 60 * hour + 1)]
    rows = folded(Episodes("s"), readings([7] * len(at), at, [60.0] * len(at))).rows
    assert rows.group_by("cause", "kind").len().sort("cause", "kind").rows() == [
        ("low", "raised", 1),
        ("low", "stale", 199),
        ("silence", "cleared", 199),
        ("silence", "raised", 199),
    ]
    silent = rows.filter(pl.col("cause") == "silence", pl.col("kind") == "raised")["at"].to_physical()
    assert silent.to_list() == [NOON + (60 * hour + 31) * MINUTE for hour in range(199)]


def test_memory_of_entities_that_are_gone_is_given_back_and_the_others_go_on() -> None:
    episodes, many = Episodes("s"), 5000
    folded(episodes, readings(range(many), [NOON] * many, [60.0] * many))
    late = NOON + 5 * DAY
    folded(episodes, readings([3, many], [late] * 2, [60.0, 60.0]))
    size = len(episodes._alarms.all), len(episodes._entities.all)
    step = episodes.tick(NOON + 8 * DAY)
    assert step.rows.filter(pl.col("kind") == "cleared").height == 2 * (many - 1)
    kept = episodes.open
    assert sorted(kept["entity"].tolist()) == [3, 3, many, many]
    assert len(episodes._alarms.all) < size[0] // 10
    assert len(episodes._entities.all) < size[1] // 10
    rows = folded(episodes, readings([3, many], [NOON + 8 * DAY + MINUTE] * 2, [90.0, 40.0])).rows
    assert rows.select("entity", "cause", "kind", "index").sort("entity", "cause").rows() == [
        (3, "low", "cleared", 3),
        (3, "silence", "cleared", 1),
        (many, "low", "worsened", 2),
        (many, "silence", "cleared", 1),
    ]


def test_of_several_deadlines_of_a_partition_that_passed_the_latest_counts() -> None:
    steps = [
        Step(pl.DataFrame(), [], 1, False, {(0, 1): 20, (0, 0): 5}),
        Step(pl.DataFrame(), [], 2, False, {(0, 1): 10}),
    ]
    assert Folded.of(steps, 0).silent == {HubPartition(0, 1): 20, HubPartition(0, 0): 5}
