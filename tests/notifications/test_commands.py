"""The commands `pulselake notify …`, and the standing process with a real hub, a real store and a real server."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from assets.notifications.deciding import FAILED, WAITING, Decision
from assets.reference.tables import SUBSCRIBERS
from orchestration.cli import app
from orchestration.notifying import Worker
from orchestration.oltp import open_store
from resources.event_hubs import EventHubsNamespace
from resources.lake import Lake
from resources.notifier import Notifier
from resources.outbox import Outbox
from resources.settings import Settings
from resources.store import Store
from tests.emulator.hub import RunningHub
from tests.notifications.servers import Answer, Sink, sink
from tests.notifications.world import events, fresh, load_people, record, states

CANARY = "canary-4711"
PATIENCE_S = 300.0


@pytest.fixture
def server() -> Iterator[Sink]:
    with sink() as found:
        yield found


@pytest.fixture
def lake(tmp_path, template, monkeypatch, server) -> Lake:
    """That of a home with a store, in which two people can be told."""
    monkeypatch.setenv("PULSELAKE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "oltp.db").write_bytes(template.read_bytes())
    monkeypatch.setenv("NIGHT_WARD", server.webhook("/night", CANARY))
    (tmp_path / ".env").write_text(f"DAY_WARD={server.webhook('/day', CANARY)}\n")
    found = Lake(str(tmp_path / "lake"))
    load_people(found, {1: "NIGHT_WARD;DAY_WARD", 2: "NOBODY"})
    return found


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["notify", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    assert CANARY not in result.output
    return " ".join(result.output.split())


def outbox() -> Outbox:
    return Outbox(open_store(Settings()))


def add(*given: Decision) -> None:
    outbox().take(given, outbox().position(), {}, datetime.now(UTC))


def test_a_test_goes_to_each_channel_of_a_subscriber(lake, server):
    told = run("test", "1")
    assert "NIGHT_WARD: sent" in told
    assert "DAY_WARD: sent" in told
    assert [each.json["title"] for each in server.requests] == ["Test of Pulselake"] * 2
    assert "NOBODY: not sent: There is no secret NOBODY" in run("test", "2", code=1)
    server.answer = lambda _: Answer(401)
    assert "NIGHT_WARD: not sent: the server answered 401" in run("test", "1", code=1)


def test_a_subscriber_who_is_not_there_is_told(lake):
    assert "Subscriber 9 is not in reference.subscribers; nothing was sent" in run("test", "9", code=1)


def test_the_log_and_a_retry(lake):
    add(
        Decision(fresh("8a83f1"), 1, "NIGHT_WARD", WAITING, None), Decision(fresh("77"), 1, "NIGHT_WARD", WAITING, None)
    )
    part = outbox().waiting("NIGHT_WARD", datetime.now(UTC))
    assert part
    outbox().failed([part.rows[0].notification_id], "the server answered 500", None)
    told = run("log")
    assert "8a83f1" in told
    assert "Of the last 24 hours: 1 failed, 1 waiting. 2 wait." in told
    failed = run("log", "--failed")
    assert "the server answered 500" in failed
    assert "77" not in failed.partition("Of the last")[0]
    assert "1 notifications are tried again" in run("retry")
    assert "failed" not in run("log").partition("Of the last")[2]
    assert FAILED not in {state for *_, state, _ in states(outbox())}


def test_the_log_shows_what_cannot_be_read_too(lake):
    add(Decision(fresh("8a83f1"), 1, "NIGHT_WARD", WAITING, None))
    store = open_store(Settings())
    store.execute("UPDATE notification SET details = '{'")
    store.close()
    assert "8a83f1 raised warning NIGHT_WARD: waiting" in run("log")
    run("run", "--once")
    assert "given up (unreadable)" in run("log", "--failed")


def test_once_sends_what_waits_and_is_refused_while_another_process_is_at_work(lake, server):
    run("run", "--once")
    record(lake, [fresh("a")], 1)
    run("run", "--once")
    assert sorted(request.path for request in server.requests) == ["/day", "/night"]
    lease = Settings().lease("notify", "notify 7")
    assert lease.active.take()
    assert "Another process sends notifications already" in run("run", "--once", code=1)
    lease.release()


def test_once_gives_up_what_waited_for_a_day_and_sends_what_did_not(lake, server):
    now = datetime.now(UTC)
    for alarm, added_at in (("old", now - timedelta(hours=25)), ("new", now - timedelta(hours=23))):
        waits = Decision(fresh(alarm), 1, "NIGHT_WARD", WAITING, None)
        outbox().take([waits], outbox().position(), {}, added_at)
    run("run", "--once")
    assert server.told() == [("new", 0)]
    assert states(outbox()) == [("old", 0, "NIGHT_WARD", "given_up", "expired"), ("new", 0, "NIGHT_WARD", "sent", None)]


def test_somebody_hears_of_what_is_too_old_when_it_is_taken(lake, caplog):
    run("run", "--once")
    record(lake, [fresh("old", decided_at=datetime.now(UTC) - timedelta(hours=25))], 1)
    run("run", "--once")
    told = [each for each in caplog.records if each.getMessage() == "nobody was told within a day"]
    assert [each.pulselake["notifications"] for each in told] == [1, 1, 1]


def test_what_lasts_is_told_when_quiet_hours_end(lake, server):
    load_people(lake, {1: "NIGHT_WARD"}, quiet_from="00:00", quiet_to="23:59")
    run("run", "--once")
    record(lake, [fresh("lasts"), fresh("over"), fresh("over", 1, "cleared")], 1)
    run("run", "--once")
    assert {row[3:] for row in states(outbox()) if row[2] == "NIGHT_WARD"} == {("suppressed", "quiet")}
    load_people(lake, {1: "NIGHT_WARD"})
    run("run", "--once")
    assert server.told() == [("lasts", 0)]


def test_a_table_that_cannot_be_read_stops_only_itself(lake, server, tmp_path, caplog):
    store = open_store(Settings())
    worker = Worker(lake, Outbox(store), Notifier({"NIGHT_WARD": server.webhook("/night")}.get))
    broken = tmp_path / "lake/alarms/device_readings/_delta_log"
    broken.mkdir(parents=True)
    (broken / f"{0:020}.json").write_text("{")
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        wait_until(worker.outbox.position)
        known = lake.table(SUBSCRIBERS.table)
        (tmp_path / f"lake/{SUBSCRIBERS.table.name}/_delta_log/{(known.version() or 0) + 1:020}.json").write_text("{")
        wait_until(lambda: "reference data" in unread(caplog))
        record(lake, [fresh("a")], 1)
        wait_until(lambda: server.told("/night") == [("a", 0)])
    finally:
        worker.stop.set()
        thread.join()
    store.close()
    assert unread(caplog) == {"reference data", "alarms/device_readings"}


def unread(caplog: pytest.LogCaptureFixture) -> set[str]:
    found = [each for each in caplog.records if each.getMessage() == "the lake is not followed"]
    return {each.__dict__["pulselake"]["table"] for each in found}


@pytest.mark.service
def test_the_hub_is_quicker_than_the_table_and_both_tell_once(lake, server, tmp_path):
    with RunningHub(("alarms:2",)) as hub:
        namespace = EventHubsNamespace(hub.connection_string)
        store = Store(f"sqlite:///{tmp_path / 'oltp.db'}")
        secrets = {"NIGHT_WARD": server.webhook("/night")}
        worker = Worker(lake, Outbox(store), Notifier(secrets.get), namespace.source("alarms"))
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            listener = worker.listener
            assert listener
            wait_until(lambda: listener.is_open.is_set() and worker.outbox.position())
            given = [fresh(f"a{number}", severity="urgent", patient_id=7) for number in range(20)]
            with namespace.publisher("alarms") as publisher:
                publisher.publish(events(given), [each.alarm_id for each in given])
                # No table has them.
                wait_until(lambda: len(set(server.told("/night"))) == 20)
                hub.restart()
                record(lake, [*given, fresh("b")], 1)
                wait_until(lambda: ("b", 0) in server.told("/night"))
        finally:
            worker.stop.set()
            thread.join()
        store.close()
    told = server.told("/night")
    assert len(told) == len(set(told)) == 21


def wait_until(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)
