"""Records of alarms, and how they are kept: what is written of them gives them again, and places are used again."""

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from assets.alarms.given import FOREVER, NO_LIMIT, coded
from assets.alarms.records import ALARM, Names, Records, Rows, alarms_of, frame, no_alarm
from assets.alarms.tables import SEVERITIES, UPDATED, AlarmRows

SECOND = 1_000_000
NOON_US = 1_790_000_000 * SECOND


def random_alarms(count: int, names: Names) -> np.ndarray:
    """Alarms of which some have no deadline, no rule, or no value."""
    random = Random(3)
    alarms = no_alarm().repeat(count)
    for alarm in alarms:
        for name in ("entity", "index", "worsened_index", "reading_count", "tier", "hub_epoch", "partition"):
            alarm[name] = random.randrange(5)
        for name in ("raised_at", "measured_at", "told_at"):
            alarm[name] = NOON_US + random.randrange(10**9)
        for name in ("until", "clear_since", "due_at"):
            alarm[name] = random.choice([FOREVER, NOON_US + random.randrange(10**9)])
        for name in ("remind_every", "escalate_after"):
            alarm[name] = random.choice([NO_LIMIT, 60 * SECOND])
        for name in ("value", "threshold", "worst_value"):
            alarm[name] = random.choice([np.nan, 70.5])
        alarm["alarm_id"], alarm["clear_after"] = random.choice([0, 7, 2**64 - 1]), 600 * SECOND
        alarm["cause"], alarm["rule"] = names.number("low"), names.number(random.choice([None, "glucose_low"]))
        alarm["rule_version"] = random.choice([-1, 3])
        alarm["severity"], alarm["state"] = random.randrange(1, 4), random.randrange(3)
        alarm["is_open"], alarm["is_stale"] = True, random.random() < 0.5
    alarms["due_epoch"], alarms["due_partition"] = alarms["hub_epoch"], alarms["partition"]
    return alarms


def test_what_is_written_of_open_alarms_gives_them_again() -> None:
    names = Names()
    alarms = random_alarms(200, names)
    at = np.full(200, NOON_US)
    rows = frame(
        [Rows.of(UPDATED, alarms[:150], at[:150], at[:150]), Rows.of("raised", alarms[150:], at[150:], at[150:])],
        "s",
        names,
    )
    AlarmRows.validate(rows)
    again = alarms_of(rows, names)
    assert {
        name for name in ALARM.names or () if not np.array_equal(again[name], alarms[name], equal_nan=True)
    } == set()
    assert rows["severity"].to_list() == [SEVERITIES[each] for each in alarms["severity"]]


def test_an_alarm_without_what_may_be_missing_has_nulls() -> None:
    alarm = no_alarm()
    alarm["raised_at"] = alarm["measured_at"] = alarm["told_at"] = NOON_US
    [row] = frame([Rows.of("raised", alarm, np.array([NOON_US]), np.array([NOON_US]))], "s", Names()).iter_rows(
        named=True
    )
    missing = {name for name, value in row.items() if value is None}
    assert missing == {
        *("cause", "rule_id", "rule_version", "value", "threshold", "worst_value", "until", "clear_since", "due_at"),
        *("remind_every_s", "escalate_after_s", "action_id", "actor", "note"),
    }
    assert (row["state"], row["alarm_id"]) == ("unacknowledged", "0" * 16)


def test_places_are_used_again_and_begin_blank() -> None:
    blank = no_alarm()
    records = Records(blank)
    first = records.add(1000)
    records.all["tier"][first] = 7
    records.free(first[:500])
    again = records.add(500)
    assert {*again.tolist()} == {*first[:500].tolist()}
    assert (records.all["tier"][again] == 0).all()
    assert (records.all["tier"][first[500:]] == 7).all()


@given(st.lists(st.integers(0, 40) | st.integers(-(2**63), 2**63 - 1), min_size=0, max_size=60))
def test_entities_are_numbered_in_their_order(entities: list[int]) -> None:
    given_ = np.array(entities, np.int64)
    different, code = coded(given_)
    assert different.tolist() == sorted(set(entities))
    assert different[code].tolist() == entities
