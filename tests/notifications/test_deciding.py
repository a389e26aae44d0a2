"""Who is told of which transition."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from assets.notifications.deciding import GIVEN_UP, QUIET, SUPPRESSED, TOO_OLD, WAITING, decide
from assets.notifications.people import People, Subscriber, Subscription
from assets.notifications.transitions import URGENT
from tests.notifications.values import NOW, people_of, subscriber, subscription, transition


def told(people: People, *, was_told=None, now=NOW, **values) -> list[tuple[int, str]]:
    found = decide(transition(**values), people, was_told or {}, now)
    return [(each.subscriber_id, each.channel) for each in found if each.state == WAITING]


def one(
    scope: str = "patient:7", tier: int = 0, severity: str = "warning", told: str | None = None, **values
) -> People:
    return people_of([subscriber(1, **values)], [subscription(1, 1, scope, tier, severity, told)])


def test_subscribers_of_a_patient_and_of_the_patients_groups_are_told_by_each_of_their_channels():
    people = people_of(
        [subscriber(1), subscriber(2, "CA;CB"), subscriber(3), subscriber(4)],
        [
            subscription(1, 1, "patient:7"),
            subscription(2, 2, "group:icu"),
            subscription(3, 2, "group:elderly"),
            subscription(4, 3, "patient:8"),
            subscription(5, 5, "patient:7"),
        ],
    )
    assert told(people) == [(1, "C1"), (2, "CA"), (2, "CB")]
    assert told(people, patient_id=8) == [(3, "C3")]
    assert told(people, patient_id=None) == []


def test_an_alarm_of_a_device_is_one_of_the_patient_who_wears_it():
    worn = ({"device_id": 1007, "patient_id": 7}, {"device_id": 1008, "patient_id": None})
    people = people_of([subscriber(1)], [subscription(1, 1, "patient:7")], devices=worn)
    assert told(people, patient_id=None, device_id=1007) == [(1, "C1")]
    assert told(people, patient_id=None, device_id=1008) == []


@pytest.mark.parametrize("kind", ["raised", "worsened", "reminded", "escalated", "cleared"])
def test_by_default_these_are_told(kind):
    assert told(one(), kind=kind) == [(1, "C1")]


@pytest.mark.parametrize("kind", ["eased", "stale", "acknowledged", "snoozed", "commented", "closed", "updated"])
def test_by_default_others_are_not_told(kind):
    assert told(one(), kind=kind) == []


def test_a_subscription_may_name_the_transitions():
    assert told(one(told="acknowledged;raised"), kind="acknowledged") == [(1, "C1")]
    assert told(one(told="acknowledged;raised"), kind="cleared") == []


def test_what_is_less_severe_is_not_told_but_the_end_is_to_whom_the_beginning_was():
    people = one(severity="urgent")
    assert told(people, severity="warning") == []
    assert told(people, severity="urgent") == [(1, "C1")]
    assert told(people, severity="warning", kind="cleared") == []
    assert told(people, severity="warning", kind="cleared", was_told={1: 3}) == [(1, "C1")]
    assert told(people, severity="warning", kind="reminded", was_told={1: 3}) == []


def test_a_tier_is_told_once_the_alarm_was_escalated_to_it():
    people = one(tier=1)
    assert told(people) == []
    assert told(people, kind="escalated", tier=1) == [(1, "C1")]
    assert told(people, kind="cleared", tier=1) == [(1, "C1")]
    assert told(people, kind="escalated", tier=2) == [(1, "C1")]


@pytest.mark.parametrize(
    ("begin", "end", "utc_hour", "is_quiet"),
    [
        ("22:00", "06:30", 21, True),  # Lisbon's summer: an hour more
        ("22:00", "06:30", 20, False),
        ("22:00", "06:30", 5, True),
        ("22:00", "06:30", 6, False),
        ("13:00", "15:00", 12, True),
        ("13:00", "15:00", 14, False),
    ],
)
def test_quiet_hours_are_those_of_the_subscribers_clock_and_urgent_ones_pass(begin, end, utc_hour, is_quiet):
    people = one(quiet_from=begin, quiet_to=end, time_zone="Europe/Lisbon")
    now = NOW.replace(month=7, hour=utc_hour, minute=0)
    values: dict[str, Any] = {"at": now, "decided_at": now}
    [found] = decide(transition(**values), people, {}, now)
    assert (found.state, found.reason) == ((SUPPRESSED, QUIET) if is_quiet else (WAITING, None))
    assert told(people, now=now, severity="urgent", **values) == [(1, "C1")]


def test_the_end_of_what_was_told_as_urgent_is_told_in_quiet_hours_too():
    people = one(quiet_from="00:00", quiet_to="23:59", told="cleared;eased;closed")
    for kind in ("cleared", "closed"):
        assert told(people, severity="warning", kind=kind, was_told={1: URGENT}) == [(1, "C1")]
        assert told(people, severity="warning", kind=kind, was_told={1: URGENT - 1, 2: URGENT}) == []
    assert told(people, severity="warning", kind="eased", was_told={1: URGENT}) == []


def test_while_an_alarm_is_snoozed_nothing_is_told_of_it():
    [found] = decide(transition(kind="stale", state="snoozed"), one(told="stale"), {}, NOW)
    assert (found.state, found.reason) == (SUPPRESSED, "snoozed")
    assert told(one(told="snoozed"), kind="snoozed", state="snoozed") == [(1, "C1")]


def test_what_was_decided_a_day_ago_is_given_up():
    [found] = decide(transition(), one(), {}, NOW + timedelta(hours=24, seconds=1))
    assert (found.state, found.reason) == (GIVEN_UP, TOO_OLD)
    assert told(one(), now=NOW + timedelta(hours=24)) == [(1, "C1")]


class Counted(list[Subscription]):
    """Subscriptions that count how often they are gone through."""

    times = 0

    def __iter__(self) -> Iterator[Subscription]:
        self.times += 1
        return super().__iter__()


def test_who_is_still_subscribed_is_known_without_going_through_a_group_for_each_row():
    group = Counted(Subscription(number) for number in range(5_000))
    people = People(
        {number: Subscriber(number, channels=("A",)) for number in range(5_001)},
        of_patients={8: [Subscription(5_000)]},
        of_groups={"ward": group},
        groups={7: ("other", "ward"), 8: ("ward",)},
        patients={100: 7},
    )
    assert all(people.is_told(number, "A", transition()) for number in range(5_000))
    assert group.times == 1
    assert people.is_told(1, "A", transition(patient_id=None, device_id=100))
    assert people.is_told(5_000, "A", transition(patient_id=8))
    for number, channel, values in (
        (5_000, "A", {}),
        (5_001, "A", {}),
        (1, "B", {}),
        (1, "A", {"patient_id": 9}),
        (1, "A", {"patient_id": None}),
        (1, "A", {"patient_id": None, "device_id": 101}),
    ):
        assert not people.is_told(number, channel, transition(**values))
