"""Sending to real servers: order, pace, pauses, merging, and channels that delay no other."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import orchestration.sending as sending_module
from assets.notifications.deciding import SUPPRESSED, WAITING, Decision
from assets.notifications.messages import Message, Texts, Waiting
from assets.notifications.pacing import Pace
from assets.notifying import Directory
from assets.reference.tables import PATIENTS, SUBSCRIPTIONS
from assets.reference_store import put
from orchestration.sending import Sending
from resources import notifier
from resources.notifier import Notifier
from resources.outbox import Outbox
from resources.store import Store
from tests.notifications.servers import Answer, Request, Sink, sink
from tests.notifications.values import rows, subscription
from tests.notifications.world import fresh, load, load_people, states

pytestmark = pytest.mark.slow

PATIENCE_S = 300.0
NAMES = ["A", "LATER", *(f"{kind}{number}" for kind in "DW" for number in range(100))]


@pytest.fixture
def store(template, tmp_path):
    file = tmp_path / "store.db"
    file.write_bytes(template.read_bytes())
    found = Store(f"sqlite:///{file}")
    yield found
    found.close()


@pytest.fixture
def server() -> Iterator[Sink]:
    with sink() as found:
        yield found


class Office:
    """An outbox with what sends it, and channels by name that lead to paths of a server."""

    def __init__(self, store, lake, server: Sink) -> None:
        self.outbox, self.server = Outbox(store), server
        self.secrets: dict[str, str] = {}
        load_people(lake, {1: ";".join(NAMES)})
        directory = Directory(lake)
        directory.people(datetime.now(UTC))
        self.sending = Sending(self.outbox, Notifier(self.secrets.get), directory, chance=lambda: 0.0)

    def add(self, *given: Decision) -> None:
        now = datetime.now(UTC)
        self.outbox.take(given, self.outbox.position(), {}, now)
        self.sending.added(given)

    def wait(self, is_so: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < end, states(self.outbox)
            time.sleep(0.01)

    def all_told(self) -> bool:
        return not self.outbox.channels()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        self.sending.refresh()
        thread = threading.Thread(target=self.sending.run)
        thread.start()
        try:
            yield
        finally:
            self.sending.stop.set()
            self.sending.wake()
            thread.join()


@pytest.fixture
def office(store, lake, server) -> Office:
    found = Office(store, lake, server)
    found.secrets["A"] = server.webhook("/a")
    return found


def waits(alarm: str, channel: str = "A", who: int = 1, index: int = 0, kind: str = "raised", **values) -> Decision:
    return Decision(fresh(alarm, index, kind, **values), who, channel, WAITING, None)


def told_by(requests: Iterable[Request]) -> list[tuple[str, int]]:
    return [(row["alarm_id"], row["index"]) for each in requests for row in each.json["notifications"]]


def test_what_waits_is_one_message_and_is_noted_with_it(office, server):
    office.add(waits("a"), waits("b", severity="urgent"), waits("a", index=1, kind="cleared"))
    with office.at_work():
        office.wait(office.all_told)
    [request] = server.requests
    assert request.json["title"] == "2 alarms, 1 URGENT"
    assert server.told() == [("b", 0), ("a", 0), ("a", 1)]
    assert {state for *_, state, _ in states(office.outbox)} == {"sent"}
    assert set(office.outbox.log(9, failed=False)["message_id"]) == {request.json["message_id"]}


def test_an_outage_is_survived_and_what_happened_meanwhile_is_merged(office, server):
    answers = iter([Answer(500), Answer(503), Answer(429, {"Retry-After": "1"})])
    server.answer = lambda _: next(answers, Answer())
    office.add(waits("a"))
    with office.at_work():
        office.wait(lambda: len(server.requests) == 3)
        office.add(waits("a", index=1, kind="cleared"))
        office.wait(office.all_told)
    times = [each.at for each in server.requests]
    assert times[3] - times[2] >= 1.0
    last = server.requests[-1].json
    assert [(row["alarm_id"], row["index"]) for row in last["notifications"]] == [("a", 0), ("a", 1)]
    assert last["title"].startswith("Over")
    assert office.outbox.log(9, failed=False)["attempts"].to_list() == [4, 1]


def test_dead_and_slow_servers_delay_no_other(office, server, monkeypatch):
    monkeypatch.setattr(notifier, "ANSWER_S", 20.0)
    release = threading.Event()

    def answer(request: Request) -> Answer | None:
        if request.path.startswith("/dead"):
            release.wait(15)
            return Answer(500)
        return Answer()

    with sink() as well:
        server.answer = answer
        office.secrets |= {f"D{number}": server.webhook(f"/dead{number}") for number in range(100)}
        office.secrets |= {f"W{number}": well.webhook(f"/well{number}") for number in range(100)}
        office.add(*(waits(f"a{number}", f"D{number}") for number in range(100)))
        with office.at_work():
            office.wait(lambda: len(server.to("/dead")) == sending_module.OF_SERVER)
            office.add(*(waits(f"a{number}", f"W{number}") for number in range(100)))
            office.wait(lambda: len(well.to("/well")) == 100)
            # Nobody else was answered meanwhile.
            assert len(server.to("/dead")) == sending_module.OF_SERVER
            release.set()


def test_a_text_that_is_refused_stops_only_itself(office, server):
    server.answer = lambda request: Answer(400 if b'"alarm_id":"a13"' in request.body else 200)
    office.add(*(waits(f"a{number}") for number in range(20)))
    with office.at_work():
        office.wait(lambda: sum(row[3] == "sent" for row in states(office.outbox)) == 19)
        office.wait(lambda: ("a13", 0, "A", "failed", None) in states(office.outbox))
    taken = [alarm for alarm, _ in told_by(each for each in server.requests if b'"a13"' not in each.body)]
    assert sorted(taken) == sorted(f"a{number}" for number in range(20) if number != 13)
    [row] = office.outbox.log(9, failed=True).iter_rows(named=True)
    assert row["problem"] == "the server answered 400"
    assert row["next_attempt_at"] > datetime.now(UTC).replace(tzinfo=None) + timedelta(minutes=5)


def test_a_flood_is_told_in_few_messages_at_the_channels_pace_the_urgent_ones_first(office, server, lake, monkeypatch):
    load_people(lake, {1: "A"}, range(800))
    office.sending.directory.people(datetime.now(UTC))
    pace = Pace(3, 8.0)
    monkeypatch.setitem(notifier.PACES, "webhook", pace)
    office.add(*(waits(f"w{number}", patient_id=number) for number in range(800)))
    office.add(*(waits(f"u{number}", severity="urgent", patient_id=number) for number in range(200)))
    with office.at_work():
        office.wait(office.all_told)
    told = server.told()
    assert len(told) == len(set(told)) == 1000
    assert [alarm[0] for alarm, _ in told] == ["u"] * 200 + ["w"] * 800
    times = [each.at for each in server.requests]
    assert len(times) < 30
    for place, begin in enumerate(times):
        for count, end in enumerate(times[place:], start=1):
            # As the server sees them; a little of the way differs.
            assert count <= pace.burst + (end - begin + 0.25) * pace.per_second


def test_what_is_urgent_does_not_wait_for_the_pace_of_what_is_not(office, server, monkeypatch):
    monkeypatch.setitem(notifier.PACES, "webhook", Pace(2, 0.02))
    office.add(waits("w1"))
    with office.at_work():
        office.wait(office.all_told)
        office.add(waits("w2"))
        time.sleep(0.5)
        office.add(waits("u", severity="urgent"))
        office.wait(office.all_told)
    assert server.told() == [("w1", 0), ("u", 0), ("w2", 0)]


def test_quiet_hours_that_began_meanwhile_hold_back_what_is_not_urgent(office, server, lake):
    now = datetime.now(UTC)
    begin, end = (f"{now + timedelta(hours=hours):%H:%M}" for hours in (-1, 1))
    load_people(lake, {1: "A"}, quiet_from=begin, quiet_to=end)
    office.sending.directory.people(now)
    office.add(waits("a"), waits("b", severity="urgent"), waits("b", index=1, kind="cleared"))
    with office.at_work():
        office.wait(office.all_told)
    # Nobody is woken by an alarm that is over and hears only that it began.
    assert server.told() == [("b", 0), ("b", 1)]
    assert states(office.outbox)[0] == ("a", 0, "A", SUPPRESSED, "quiet")


def test_whoever_was_removed_meanwhile_is_told_nothing_more(office, server, lake):
    office.add(waits("a"), waits("a", who=2), waits("b", "GONE"))
    with office.at_work():
        office.wait(office.all_told)
    assert server.told() == [("a", 0)]
    assert [row[3:] for row in states(office.outbox)] == [("sent", None), *[(SUPPRESSED, "unsubscribed")] * 2]


def test_whoever_is_not_subscribed_any_more_is_told_nothing_more_of_that_patient(office, server, lake):
    load(lake, PATIENTS, [{"patient_id": 8, "full_name": "P8", "groups": "icu"}])
    load(lake, SUBSCRIPTIONS, [subscription(2, 1, "group:icu")])
    now = datetime.now(UTC)
    nothing = rows(SUBSCRIPTIONS).select(list(SUBSCRIPTIONS.cells))
    put(lake, SUBSCRIPTIONS, nothing, valid_from=now, clock=lambda: now, ending=[1])
    office.sending.directory.people(datetime.now(UTC))
    office.add(waits("a"), waits("b", patient_id=8))
    with office.at_work():
        office.wait(office.all_told)
    assert server.told() == [("b", 0)]
    assert [row[3:] for row in states(office.outbox)] == [(SUPPRESSED, "unsubscribed"), ("sent", None)]


def test_what_cannot_be_made_a_message_is_noted_and_stops_only_itself(office, server, monkeypatch):
    compose = Texts.compose

    def failing(texts: Texts, rows: list[Waiting], *rest: Any) -> Message:
        if any(each.transition.alarm_id == "a3" for each in rows):
            raise ZeroDivisionError("of patient 7")
        return compose(texts, rows, *rest)

    monkeypatch.setattr(Texts, "compose", failing)
    office.add(*(waits(f"a{number}") for number in range(5)))
    with office.at_work():
        office.wait(lambda: sum(row[3] == "sent" for row in states(office.outbox)) == 4)
        office.wait(lambda: ("a3", 0, "A", "failed", None) in states(office.outbox))
    [row] = office.outbox.log(9, failed=True).iter_rows(named=True)
    assert row["problem"] == "it could not be sent: ZeroDivisionError"
    assert row["next_attempt_at"] > datetime.now(UTC).replace(tzinfo=None) + timedelta(minutes=5)


def test_a_row_that_cannot_be_read_is_given_up_and_the_operator_is_told(office, server, store, caplog):
    office.add(waits("a"), waits("b"))
    store.execute("UPDATE notification SET details = '{}' WHERE alarm_id = 'a'")
    with office.at_work():
        office.wait(office.all_told)
    assert server.told() == [("b", 0)]
    assert [row[3:] for row in states(office.outbox)] == [("given_up", "unreadable"), ("sent", None)]
    [told] = [each for each in caplog.records if each.name == "orchestration.sending"]
    assert told.getMessage() == "what waits cannot be read and is given up"


def test_an_address_that_fails_in_an_unknown_way_is_noted_by_the_type_of_the_error(office, server):
    address: str = server.webhook("/a")

    def secret(name: str) -> str:
        if name == "LATER":
            raise RuntimeError("the vault quoted canary")
        return address

    office.sending.notifier = Notifier(secret)
    office.add(waits("a", "LATER"), waits("b"))
    with office.at_work():
        office.wait(lambda: server.told() == [("b", 0)])
        office.wait(lambda: states(office.outbox)[0][3] == "failed")
    [row] = office.outbox.log(9, failed=True).iter_rows(named=True)
    assert row["problem"] == "no address: RuntimeError"


def test_a_channel_without_a_secret_is_told_and_sent_to_once_it_has_one(office, server, caplog):
    office.add(waits("a", "LATER"), waits("b"))
    with office.at_work():
        office.wait(lambda: server.told() == [("b", 0)])
        office.wait(lambda: states(office.outbox)[0][3] == "failed")
        office.secrets["LATER"] = server.webhook("/later")
        office.wait(office.all_told)
    [row] = [row for row in office.outbox.log(9, failed=False).iter_rows(named=True) if row["channel"] == "LATER"]
    assert row["state"] == "sent"
    told = [each for each in caplog.records if each.name == "orchestration.sending"]
    [warned] = [each for each in told if each.levelno == logging.WARNING]
    assert "There is no secret LATER" in warned.pulselake["problem"]
