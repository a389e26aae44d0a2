"""Rows of the outbox: what waits, in which order, and what became of it; on SQLite and on MariaDB."""

from datetime import datetime, timedelta

import pytest

from assets.notifications.deciding import SUPPRESSED, WAITING, Decision
from resources.outbox import Outbox
from tests.notifications.values import NOW, transition
from tests.notifications.world import states


@pytest.fixture
def outbox(store) -> Outbox:
    return Outbox(store)


def add(outbox: Outbox, *given: Decision, now: datetime = NOW) -> None:
    outbox.take(given, outbox.position(), {}, now)


def decision(
    alarm: str = "a",
    index: int = 0,
    kind: str = "raised",
    channel: str = "A",
    who: int = 1,
    reason: str | None = None,
    **values,
) -> Decision:
    return Decision(transition(alarm, index, kind, **values), who, channel, SUPPRESSED if reason else WAITING, reason)


def waiting(outbox: Outbox, channel: str = "A", now: datetime = NOW, most: int = 200) -> list[tuple[str, int, bool]]:
    part = outbox.waiting(channel, now, most)
    return (
        []
        if part is None
        else sorted((row.transition.alarm_id, row.transition.index, row.is_told) for row in part.rows)
    )


def waiting_kinds(outbox: Outbox) -> list[tuple[str, int, str]]:
    part = outbox.waiting("A", NOW)
    assert part
    return [(row.transition.alarm_id, row.transition.index, row.transition.transition) for row in part.rows]


def ids(outbox: Outbox, channel: str = "A", now: datetime = NOW) -> list[int]:
    part = outbox.waiting(channel, now)
    assert part
    return [row.notification_id for row in part.rows if not row.is_told]


def test_the_most_severe_comes_first_with_all_that_waits_of_its_alarm(outbox):
    add(outbox, decision("old"), decision("a"), decision("a", 1, severity="urgent"), decision("b", channel="B"))
    assert waiting(outbox, most=1) == [("a", 0, False), ("a", 1, False)]
    assert waiting(outbox) == [("a", 0, False), ("a", 1, False), ("old", 0, False)]
    assert sorted(outbox.channels()) == [("A", 3, 3), ("B", 2, 1)]


def test_what_was_told_comes_along_only_where_something_new_happened(outbox):
    add(outbox, decision("a"), decision("b"))
    outbox.sent(ids(outbox), "m1", NOW)
    assert outbox.waiting("A", NOW) is None
    add(outbox, decision("a", 1))
    assert waiting(outbox) == [("a", 0, True), ("a", 1, False)]


def test_two_subscribers_of_one_channel_get_a_message_each(outbox):
    add(outbox, decision("a", who=1), decision("a", who=2), decision("b", who=1))
    part = outbox.waiting("A", NOW)
    assert part
    assert part.subscriber_id == 1
    assert waiting(outbox) == [("a", 0, False), ("b", 0, False)]
    outbox.sent(ids(outbox), "m1", NOW)
    assert waiting(outbox) == [("a", 0, False)]


def test_a_row_that_a_channel_refused_waits_unless_something_new_happens(outbox):
    add(outbox, decision("a"), decision("b"))
    [first, _] = ids(outbox)
    outbox.failed([first], "the server answered 400", NOW + timedelta(minutes=10))
    assert waiting(outbox) == [("b", 0, False)]
    assert waiting(outbox, now=NOW + timedelta(minutes=10)) == [("a", 0, False), ("b", 0, False)]
    add(outbox, decision("a", 1))
    assert ("a", 0, False) in waiting(outbox)
    [row] = outbox.log(10, failed=True).iter_rows(named=True)
    assert (row["state"], row["problem"], row["attempts"]) == ("failed", "the server answered 400", 1)


def test_after_a_day_it_is_given_up_until_somebody_retries(outbox):
    add(outbox, decision("a"), decision("b"), decision("c", channel="B"))
    [a, b] = ids(outbox)
    outbox.sent([b], "m1", NOW)
    assert outbox.give_up(NOW + timedelta(hours=23)) == {}
    later = NOW + timedelta(hours=24)
    # A process that was stopped for a day sends before it gives up.
    assert outbox.waiting("A", later) is None
    assert outbox.give_up(later) == {"A": 1, "B": 1}
    assert outbox.give_up(later + timedelta(seconds=1)) == {}
    assert outbox.summary(later + timedelta(hours=23)).counts["given_up"] == 2
    assert outbox.summary(later + timedelta(hours=25)).counts == {}
    assert outbox.channels() == []
    assert states(outbox)[0] == ("a", 0, "A", "given_up", "expired")
    assert outbox.retry([b], later) == 0
    assert outbox.retry([a], later) == 1
    assert waiting(outbox, now=later) == [("a", 0, False)]
    assert outbox.give_up(later + timedelta(hours=23)) == {}
    assert outbox.retry([], later) == 1
    assert outbox.give_up(later + timedelta(hours=24)) == {"A": 1, "B": 1}
    # It is no alarm of now.
    assert outbox.retry([], later + timedelta(hours=49)) == 0
    assert outbox.retry([a], later + timedelta(hours=49)) == 1


def test_what_was_held_back_in_quiet_hours_is_told_afterwards_where_it_lasts(outbox):
    add(outbox, decision("lasts", reason="quiet"), decision("lasts", 1, "reminded", reason="quiet"))
    add(outbox, decision("else", who=2, reason="quiet"), decision("other", reason="snoozed"))
    add(outbox, decision("over", reason="quiet"), decision("over", 1, "cleared", reason="quiet"))
    add(outbox, decision("told", reason="quiet"), decision("told", 1, severity="urgent"))
    add(outbox, decision("old", reason="quiet"), now=NOW - timedelta(hours=25))
    outbox.sent(ids(outbox), "m1", NOW)
    assert outbox.release("quiet", {1}, NOW) == 1
    assert waiting(outbox) == [("lasts", 1, False)]
    outbox.sent(ids(outbox), "m2", NOW)
    assert outbox.release("quiet", {1}, NOW) == 0
    assert outbox.release("quiet", {2}, NOW) == 1


def test_what_was_decided_otherwise_is_told_after_quiet_hours(outbox):
    add(outbox, decision("a", reason="quiet"), decision("a", 1, "cleared", reason="quiet"))
    add(outbox, decision("a", 1, "reminded", reason="quiet"))
    assert outbox.release("quiet", {1}, NOW) == 1
    assert [kind for *_, kind in waiting_kinds(outbox)] == ["reminded"]


def test_a_row_that_cannot_be_read_is_given_up_with_a_reason_and_stops_no_other(outbox, store):
    add(outbox, decision("a"), decision("b"), decision("c", reason="quiet"))
    store.execute("UPDATE notification SET details = '{' WHERE alarm_id IN ('a', 'c')")
    part = outbox.waiting("A", NOW)
    assert part
    assert [row.transition.alarm_id for row in part.rows] == ["b"]
    outbox.give_up_unreadable(part.unreadable, NOW)
    assert waiting(outbox) == [("b", 0, False)]
    assert states(outbox)[0] == ("a", 0, "A", "given_up", "unreadable")
    [row] = outbox.log(9, failed=True).iter_rows(named=True)
    assert row["problem"] == "its details are no transition of an alarm"
    assert outbox.release("quiet", {1}, NOW) == 1


def test_the_summary_has_what_people_must_know(outbox):
    add(outbox, decision("a", severity="urgent"), decision("b"), now=NOW - timedelta(seconds=90))
    add(outbox, decision("c", severity="urgent"), decision("d", reason="quiet"))
    found = outbox.summary(NOW)
    assert (found.oldest_urgent_s, found.waiting, found.failed_share) == (90.0, 3, 0.0)
    [a, b, c] = ids(outbox)
    outbox.sent([a, b], "m1", NOW)
    outbox.failed([c], "no answer", None)
    found = outbox.summary(NOW)
    assert found.counts == {"sent": 2, "failed": 1, "suppressed": 1}
    assert (found.oldest_urgent_s, found.waiting, round(found.failed_share, 2)) == (0.0, 1, 0.33)


def test_rows_expire_only_once_they_ended(outbox):
    add(outbox, decision("a"), decision("b"), decision("c", reason="quiet"))
    outbox.sent(ids(outbox)[:1], "m1", NOW)
    assert outbox.expire(NOW) == 0
    assert outbox.expire(NOW + timedelta(seconds=1)) == 2
    assert [each[0] for each in states(outbox)] == ["b"]


def test_a_name_of_any_letters_and_a_long_note_are_kept(outbox):
    note = "Größe ' \" \\ \t心電図 😀" * 200
    add(outbox, decision("a", channel="Night_Ward-3", note=note))
    [row] = outbox.waiting("Night_Ward-3", NOW).rows
    assert row.transition.note == note
    assert outbox.waiting("night_ward-3", NOW) is None
