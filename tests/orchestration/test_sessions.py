"""Whether a run is due, as values."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestration.sessions import LAST_RETRY_AFTER, Runs, decide

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


@pytest.mark.parametrize(("failures", "pause_s"), [(1, 5), (2, 10), (3, 20), (6, 160)])
def test_each_failure_in_a_row_doubles_the_pause(failures, pause_s):
    waiting = decide(7, "events behind", failed(failures, pause_s - 1), NOW)
    assert not waiting.start
    assert f"the last {failures} run(s) failed" in waiting.reason
    assert "12:00:01 UTC" in waiting.reason
    assert decide(7, "events behind", failed(failures, pause_s), NOW).start


@pytest.mark.parametrize("failures", [7, 10, 1_000])
def test_the_pause_has_an_upper_limit(failures):
    assert decide(7, "events behind", failed(failures, LAST_RETRY_AFTER.total_seconds()), NOW).start


def test_a_failure_long_ago_delays_nothing():
    assert decide(7, "events behind", failed(1, 86_400), NOW).start
