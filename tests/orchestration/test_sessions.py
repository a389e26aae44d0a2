"""Whether a run is due, as values."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestration.sessions import LAST_RETRY_AFTER, Decision, Runs, SessionRun, Shift, decide, decide_session

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def failed(times: int, seconds_ago: float) -> Runs:
    return Runs(failures=times, failed_at=NOW - timedelta(seconds=seconds_ago))


def test_nothing_due_starts_nothing():
    decision = decide(0, "events behind", Runs(), NOW)
    assert not decision.start
    assert decision.reason == "0 events behind: nothing to do."


def test_a_negative_backlog_starts_nothing():
    assert not decide(-3, "events behind", Runs(), NOW).start


def test_a_backlog_starts_a_run():
    decision = decide(1_234, "events behind", Runs(), NOW)
    assert decision.start
    assert decision.reason == "1,234 events behind."


def test_a_run_in_flight_is_named_with_the_backlog():
    decision = decide(7, "events behind", Runs(in_flight=["0123456789abcdef"]), NOW)
    assert not decision.start
    assert decision.reason == "7 events behind; run 01234567 is at work."


def test_a_run_in_flight_counts_more_than_earlier_failures():
    runs = Runs(in_flight=["0123456789abcdef"], failures=3, failed_at=NOW - timedelta(days=1))
    assert not decide(7, "events behind", runs, NOW).start


@pytest.mark.parametrize(("failures", "pause_s"), [(2, 5), (3, 10), (4, 20), (7, 160)])
def test_each_failure_in_a_row_doubles_the_pause(failures, pause_s):
    waiting = decide(7, "events behind", failed(failures, pause_s - 1), NOW)
    assert not waiting.start
    assert f"the last {failures} run(s) failed" in waiting.reason
    assert "12:00:01 UTC" in waiting.reason
    assert decide(7, "events behind", failed(failures, pause_s), NOW).start


@pytest.mark.parametrize("failures", [8, 10, 1_000])
def test_the_pause_has_an_upper_limit(failures):
    assert decide(7, "events behind", failed(failures, LAST_RETRY_AFTER.total_seconds()), NOW).start


def test_after_one_failure_a_run_is_started_at_once():
    assert decide(7, "events behind", failed(1, 0.1), NOW).start


def test_a_failure_long_ago_delays_nothing():
    assert decide(7, "events behind", failed(1, 86_400), NOW).start


AN_HOUR, NOBODY, NO_FAILURE = timedelta(hours=1), Shift(), Runs()
OLD, NEW = "01d01d01d01d01d0", "9e39e39e39e39e39"


def session(run_id: str, seconds_ago: float, *, is_started: bool = True) -> SessionRun:
    return SessionRun(run_id, is_started, NOW - timedelta(seconds=seconds_ago))


def decided(
    *in_flight: SessionRun,
    shift: Shift = NOBODY,
    due: int = 7,
    runs: Runs = NO_FAILURE,
    stands: bool = True,
) -> Decision:
    return decide_session(due, "events behind", in_flight, shift, runs, NOW, succeed_after=AN_HOUR, stands=stands)


def test_a_stream_without_a_session_gets_one_also_while_nothing_comes():
    assert decided(due=0) == Decision(True, "0 events behind; no session is at work.")


def test_with_an_idle_timeout_only_events_start_a_session():
    assert decided(due=0, stands=False) == Decision(False, "0 events behind: nothing to do.")
    assert decided(due=1, stands=False).start


@pytest.mark.parametrize("coming", [session(NEW, 3), session(NEW, 3600, is_started=False)], ids=["starts", "is queued"])
def test_a_session_that_is_about_to_start_is_waited_for(coming):
    assert decided(coming) == Decision(False, "7 events behind; run 9e39e39e is about to start.")


def test_a_run_whose_process_is_gone_is_not_waited_for():
    assert decided(session(NEW, 61)).start
    # It was killed: its lock is free, and Dagster has not noticed yet.
    assert decided(session(OLD, 3), shift=Shift(OLD)).start


def test_a_session_at_work_is_left_alone_for_its_time():
    decision = decided(session(OLD, 3599), shift=Shift(OLD, is_active=True))
    assert decision == Decision(False, "7 events behind; run 01d01d01 is at work since 11:00:01 UTC.")


def test_a_session_that_has_worked_for_its_time_gets_one_successor():
    shift = Shift(OLD, is_active=True)
    old = session(OLD, 3600)
    assert decided(old, shift=shift, due=0, stands=False).start
    assert not decided(old, session(NEW, 5), shift=shift).start
    assert not decided(old, session(NEW, 90), shift=replace(shift, has_successor=True)).start
    # The successor has died while it prepared.
    assert not decided(old, session(NEW, 299), shift=shift).start
    assert decided(old, session(NEW, 301), shift=shift).start


def test_whoever_else_is_at_work_is_left_alone():
    assert decided(shift=Shift("drain 4711", is_active=True)).reason == "7 events behind; 'drain 4711' is at work."


def test_failures_delay_a_session_and_a_successor():
    assert not decided(runs=failed(3, 5)).start
    assert not decided(session(OLD, 3600), shift=Shift(OLD, is_active=True), runs=failed(3, 5)).start
