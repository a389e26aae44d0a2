"""Transitions become rows of the outbox once, whether the hub, the table or both bring them, and whatever dies."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import assets.notifying as notifying
from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.notifications.messages import merged
from assets.notifying import Directory, Taking
from resources.event_source import Pulled
from resources.lake import Lake
from resources.outbox import Outbox
from resources.store import OvertakenError
from tests.notifications.world import events, fresh, load_people, record, states


@pytest.fixture
def outbox(store) -> Outbox:
    return Outbox(store)


def taking(lake: Lake, outbox: Outbox) -> Taking:
    found = Taking(lake, outbox, [GLUCOSE])
    found.begin()
    return found


def pulled(*bodies: bytes) -> list[Pulled]:
    nothing: list[str | None] = [None] * len(bodies)
    return [Pulled(0, list(range(len(bodies))), [0] * len(bodies), list(bodies), nothing, nothing, nothing)]


def by_table(found: Taking, now: datetime | None = None) -> int:
    at = now or datetime.now(UTC)
    return len(found.from_tables(Directory(found.lake).people(at), at))


def by_hub(found: Taking, *transitions) -> int:
    return len(
        found.from_hub(pulled(*events(transitions)), Directory(found.lake).people(datetime.now(UTC)), datetime.now(UTC))
    )


def test_what_the_hub_brought_is_not_taken_again_from_the_table(lake, outbox):
    load_people(lake, {1: "A;B"})
    found = taking(lake, outbox)
    by_table(found)
    raised, cleared = fresh("a"), fresh("a", 1, "cleared")
    assert by_hub(found, raised) == 2
    assert by_hub(found, raised) == 0
    record(lake, [raised], 1)
    record(lake, [cleared], 2)
    assert by_table(found) == 2
    assert by_hub(found, cleared) == 0
    wanted = [("a", index, channel, "waiting", None) for index in (0, 1) for channel in ("A", "B")]
    assert states(outbox) == wanted
    # Another process goes on from what the store says.
    assert by_table(taking(lake, outbox)) == 0
    assert states(outbox) == wanted


def test_what_a_session_decided_otherwise_after_a_crash_is_told_and_nothing_twice(lake, outbox):
    load_people(lake, {1: "A"})
    found = taking(lake, outbox)
    by_table(found)
    raised = fresh("a")
    # They were published, and the session died before it committed them.
    assert by_hub(found, raised, fresh("a", 1, "cleared"), fresh("a", 2, "raised")) == 3
    worse = fresh("a", 1, "worsened", severity="urgent")
    record(lake, [raised, worse], 1)
    assert by_table(found) == 1
    assert by_hub(found, worse) == 0
    assert by_table(taking(lake, outbox)) == 0
    # What is decided twice with another severity is another message.
    assert by_hub(found, fresh("b", severity="info")) == 1
    record(lake, [fresh("b", severity="urgent"), fresh("b", 1, "cleared", severity="urgent")], 2)
    assert by_table(found) == 2
    part = outbox.waiting("A", datetime.now(UTC))
    assert part
    assert [(entry.last.transition, entry.last.severity, entry.is_over) for entry in merged(part.rows)] == [
        ("worsened", "urgent", False),
        ("cleared", "urgent", True),
    ]


def test_an_alarm_that_is_over_once_more_after_a_crash_is_told_as_over_once_more(lake, outbox):
    load_people(lake, {1: "A"})
    found = taking(lake, outbox)
    by_table(found)
    raised, worsened, cleared = fresh("a"), fresh("a", 1, "worsened"), fresh("a", 2, "cleared")
    # They were published and told, and the session died before it committed them.
    assert by_hub(found, raised, worsened, cleared) == 3
    part = outbox.waiting("A", datetime.now(UTC))
    assert part
    outbox.sent([each.notification_id for each in part.rows], "m", datetime.now(UTC))
    urgent = fresh("a", 1, "worsened", severity="urgent")
    assert by_hub(found, urgent) == 1
    record(lake, [raised, urgent, cleared], 1)
    assert by_table(found) == 1
    assert by_hub(found, raised, urgent, cleared) == 0
    assert by_table(taking(lake, outbox)) == 0
    part = outbox.waiting("A", datetime.now(UTC))
    assert part
    [entry] = merged(part.rows)
    assert [(row.transition.transition, row.is_told) for row in entry.rows] == [
        ("raised", True),
        ("worsened", True),
        ("cleared", True),
        ("worsened", False),
        ("cleared", False),
    ]
    assert entry.is_over
    # So it is after another crash.
    assert by_hub(found, worsened, cleared) == 2
    assert by_hub(taking(lake, outbox), worsened, cleared) == 0
    assert outbox.log(10, failed=False).select("transition_index", "severity_rank", "decision").rows() == [
        (0, 2, 0),
        (1, 2, 0),
        (2, 2, 0),
        (1, 3, 0),
        (2, 2, 1),
        (1, 2, 1),
        (2, 2, 2),
    ]


def test_what_the_hub_brings_ahead_of_the_table_is_told_once(lake, outbox):
    load_people(lake, {1: "A"})
    found = taking(lake, outbox)
    by_table(found)
    raised, worsened, cleared = fresh("a"), fresh("a", 1, "worsened"), fresh("a", 2, "cleared")
    # A process that starts reads the hub from its end, and has what came before from the table.
    assert by_hub(found, cleared) == 1
    record(lake, [raised, worsened, cleared], 1)
    assert by_table(found) == 2
    assert by_hub(found, raised, worsened, cleared) == 0


def test_what_the_hub_never_brought_is_taken_from_the_table(lake, outbox, monkeypatch):
    monkeypatch.setattr(notifying, "CHUNK", 3)
    load_people(lake, {1: "A"})
    by_table(taking(lake, outbox))
    record(lake, [fresh(f"a{number}") for number in range(5)], 1)
    for step in range(2, 9):
        record(lake, [fresh(f"b{step}")], step)
    found = taking(lake, outbox)
    assert by_table(found) == 12
    assert by_table(found) == 0
    record(lake, [fresh("c")], 9)
    assert by_table(found) == 1
    assert len(states(outbox)) == 13


def test_a_crash_before_the_commit_takes_everything_again_and_after_it_nothing(lake, outbox, store):
    load_people(lake, {1: "A"})
    by_table(taking(lake, outbox))
    record(lake, [fresh("a"), fresh("b")], 1)
    slower, quicker = taking(lake, outbox), taking(lake, outbox)
    assert by_table(quicker) == 2
    with pytest.raises(OvertakenError):
        by_hub(slower, fresh("c"))
    slower.begin()
    assert by_table(slower) == 0
    assert by_hub(slower, fresh("c")) == 1
    assert [each[0] for each in states(outbox)] == ["a", "b", "c"]


def test_files_of_dates_that_are_taken_are_not_read_again(lake, outbox):
    load_people(lake, {1: "A"})
    found = taking(lake, outbox)
    by_table(found)
    # A step may have no transitions.
    record(lake, [], 1)
    assert by_table(found) == 0
    record(lake, [fresh("a", at=datetime.now(UTC) - timedelta(days=3))], 2)
    assert by_table(found) == 1
    record(lake, [fresh("b")], 3)
    assert by_table(found) == 1
    [old, _] = sorted(Path(lake.root).glob("alarms/glucose_readings/ingest_date=*"))
    shutil.rmtree(old)
    record(lake, [fresh("c")], 4)
    assert by_table(found) == 1


def test_nobody_is_told_of_what_happened_before_notifications_began(lake, outbox):
    load_people(lake, {1: "A"})
    record(lake, [fresh("old")], 1)
    found = taking(lake, outbox)
    assert by_table(found) == 0
    record(lake, [fresh("new")], 2)
    assert by_table(found) == 1
    assert [each[0] for each in states(outbox)] == ["new"]


def test_another_lake_begins_with_what_comes(lake, outbox, tmp_path):
    load_people(lake, {1: "A"})
    found = taking(lake, outbox)
    by_table(found)
    record(lake, [fresh("a")], 5)
    assert by_table(found) == 1
    other = Lake(str(tmp_path / "other"))
    load_people(other, {1: "A"})
    record(other, [fresh("b")], 9)
    moved = taking(other, outbox)
    assert by_table(moved) == 0
    record(other, [fresh("c")], 10)
    assert by_table(moved) == 1
    assert [each[0] for each in states(outbox)] == ["a", "c"]


def test_a_lake_that_was_restored_tells_nothing_again_and_goes_on_with_what_comes(lake, outbox):
    load_people(lake, {1: "A"})
    found = taking(lake, outbox)
    by_table(found)
    for step in (1, 2, 3):
        record(lake, [fresh(f"a{step}")], step)
    assert by_table(found) == 3
    # The log says an earlier step again, as that of a restored table does.
    record(lake, [fresh("a2")], 2)
    assert by_table(found) == 0
    record(lake, [fresh("b")], 3)
    assert by_table(found) == 1
    assert [each[0] for each in states(outbox)] == ["a1", "a2", "a3", "b"]


def test_an_alarm_that_was_told_at_night_and_eased_is_told_as_over_at_night(lake, outbox):
    load_people(lake, {1: "A"}, quiet_from="00:00", quiet_to="23:59")
    now = datetime.now(UTC).replace(hour=3)
    found, who = taking(lake, outbox), Directory(lake).people(now)
    at: dict[str, Any] = {"at": now, "decided_at": now}
    for begin in (fresh("a", severity="urgent", **at), fresh("b", **at)):
        found.from_hub(pulled(*events([begin])), who, now)
    for end in (fresh("a", 2, "cleared", **at), fresh("b", 1, "cleared", **at)):
        found.from_hub(pulled(*events([end])), who, now)
    assert states(outbox) == [
        ("a", 0, "A", "waiting", None),
        ("b", 0, "A", "suppressed", "quiet"),
        ("a", 2, "A", "waiting", None),
        ("b", 1, "A", "suppressed", "quiet"),
    ]


def test_bad_events_are_left_out(lake, outbox):
    load_people(lake, {1: "A"})
    found = taking(lake, outbox)
    good = events([fresh("a")])
    who = Directory(lake).people(datetime.now(UTC))
    assert len(found.from_hub(pulled(b"{", b"\xff", b"[]", b'{"alarm_id": 1}', *good), who, datetime.now(UTC))) == 1


def test_a_change_of_who_is_told_counts_at_the_next_look(lake, outbox):
    load_people(lake, {1: "A"})
    directory = Directory(lake)
    now = datetime.now(UTC)
    assert directory.people(now).subscribers.keys() == {1}
    load_people(lake, {1: "A", 2: "B"})
    assert directory.current.subscribers.keys() == {1}
    assert directory.people(now).subscribers.keys() == {1, 2}


def test_what_is_too_old_is_on_record_as_given_up(lake, outbox):
    load_people(lake, {1: "A"})
    found = taking(lake, outbox)
    by_table(found)
    record(lake, [fresh("a")], 1)
    assert by_table(found, datetime.now(UTC) + timedelta(hours=25)) == 1
    assert states(outbox) == [("a", 0, "A", "given_up", "too_old")]
