"""Polls of openFDA: what is sent once, what is found again, and where a poll goes on."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from orchestration.polled import POLLED, PolledReports
from orchestration.polling import Poll, Polled, PollError, decide_poll
from orchestration.sessions import Runs
from resources.event_source import HubUnavailableError
from resources.lake import Lake
from resources.openfda import ATTEMPTS, OpenFda
from tests.resources.fda import FakeFda, refuses, report
from tests.stream.hubs import MemoryPublisher

pytestmark = pytest.mark.slow

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
TODAY = NOW.date()
DAILY = refuses(429, "OVER_RATE_LIMIT", "You have used the requests of a day")


class Killed(BaseException):
    """The process ends here."""


_KILLED = Killed()


class MortalPublisher(MemoryPublisher):
    """Dies, or takes something too large, after it has taken some events."""

    def __init__(
        self, *, lives_for: int = 1_000_000, largest: int = 1_000_000, error: BaseException | None = None
    ) -> None:
        super().__init__()
        self.lives_for, self.largest, self.error = lives_for, largest, error or Killed()

    def publish(self, bodies: Sequence[bytes], keys: Sequence[str]) -> list[int]:
        refused = [number for number, body in enumerate(bodies) if len(body) > self.largest]
        taken = [number for number in range(len(bodies)) if number not in refused]
        super().publish([bodies[number] for number in taken], [keys[number] for number in taken])
        if len(self.published) >= self.lives_for:
            raise self.error
        return refused


@pytest.fixture
def server() -> Iterator[FakeFda]:
    """Eight reports, one of each of the last eight days."""
    with FakeFda(report(number, TODAY - timedelta(number)) for number in range(8)) as server:
        server.updated = TODAY.isoformat()
        yield server


class Site:
    """A lake and a server that are polled again and again."""

    def __init__(self, folder: Path, server: FakeFda) -> None:
        self.lake, self.server = Lake(str(folder)), server
        self.sent: list[bytes] = []
        self.progress: list[str] = []

    @property
    def polled(self) -> PolledReports:
        return PolledReports(self.lake)

    def poll(self, publisher: MemoryPublisher | None = None, now: datetime = NOW, **dates: date) -> Polled:
        publisher = publisher or MemoryPublisher()
        before = len(publisher.published)
        api = OpenFda(self.server.url, limit=3, sleep=lambda _: None)
        try:
            with api:
                return Poll(self.polled, api, publisher, now, self.progress.append).run(**dates)
        finally:
            self.sent += [body for _, body in publisher.published[before:]]

    def ids(self) -> list[str]:
        return sorted(json.loads(body)["safetyreportid"] for body in self.sent)

    def rows(self) -> list[dict[str, object]]:
        return self.lake.table(POLLED).scan().collect().to_dicts()


@pytest.fixture
def site(tmp_path: Path, server: FakeFda) -> Site:
    return Site(tmp_path, server)


ALL = [str(number) for number in range(8)]


def test_the_first_poll_sends_everything_once_with_the_id_as_partition_key(site):
    publisher = MemoryPublisher()
    done = site.poll(publisher)
    assert site.ids() == ALL
    # Each is found by both dates.
    assert (done.reports, done.sent, done.known, done.too_large) == (16, 8, 8, 0)
    assert done.until == TODAY
    assert sorted(key for key, _ in publisher.published) == ALL
    assert [json.loads(body) for body in site.sent if b'"0"' in body] == [site.server.reports[0]]
    assert {row["safetyreportid"] for row in site.rows()} == set(ALL)
    assert site.progress[-1].startswith("openFDA, receiptdate 2026-11-")


def test_a_second_poll_sends_nothing(site):
    site.poll()
    done = site.poll()
    assert (done.sent, done.known, done.reports) == (0, 16, 16)
    assert site.ids() == ALL


@pytest.mark.parametrize("change", [{"safetyreportversion": "2"}, {"receiptdate": "20261119"}])
def test_a_changed_version_is_sent_once(site, change):
    site.poll()
    site.server.reports[3] |= change
    assert site.poll().sent == 1
    assert site.poll().sent == 0
    assert json.loads(site.sent[-1]) == site.server.reports[3]


def test_a_follow_up_of_an_old_report_is_found_by_its_receipt_date(site):
    site.poll()
    site.server.reports.append(report(99, date(2010, 1, 1), receiptdate="20261119", safetyreportversion="5"))
    assert site.poll().sent == 1
    assert site.ids() == [*ALL, "99"]


def test_reports_of_the_week_before_the_last_poll_are_looked_for_again(site):
    site.poll()
    site.server.reports += [report(91, TODAY - timedelta(7)), report(92, TODAY - timedelta(8))]
    done = site.poll(now=NOW + timedelta(days=1))
    assert done.first == TODAY - timedelta(7)
    assert site.ids() == [*ALL, "91"]


@pytest.mark.parametrize("lives_for", range(1, 9))
def test_a_killed_poll_goes_on_and_sends_at_most_one_page_twice(site, lives_for):
    with pytest.raises(Killed):
        site.poll(MortalPublisher(lives_for=lives_for))
    killed_after = len(site.sent)
    assert site.poll().until == TODAY
    assert sorted(set(site.ids())) == ALL
    assert killed_after >= lives_for
    assert len(site.sent) <= 8 + 3
    assert site.poll().sent == 0


def test_a_hub_that_goes_away_ends_the_poll_and_the_next_one_goes_on(site):
    with pytest.raises(PollError, match=r"3 reports were sent before.* the hub is away") as raised:
        site.poll(MortalPublisher(lives_for=5, error=HubUnavailableError("the hub is away")))
    assert raised.value.polled.sent == 3
    site.poll()
    assert sorted(set(site.ids())) == ALL
    assert len(site.sent) <= 8 + 3


def test_an_api_that_fails_ends_the_poll_and_keeps_what_was_sent(site):
    site.server.fail(None, None, *[refuses(500, "X", "down")] * ATTEMPTS)
    with pytest.raises(PollError, match=r"after 1 pages; 3 reports were sent .* status 500: down"):
        site.poll(since=TODAY - timedelta(7))
    assert len(site.rows()) == 3
    assert site.polled.ended_at() is None
    site.poll()
    assert site.ids() == ALL


def test_the_limit_of_a_day_ends_a_poll_politely(site):
    site.server.fail(None, None, DAILY)
    done = site.poll(since=TODAY - timedelta(7))
    assert "no more requests for now" in done.ended_early
    assert done.sent == 3
    assert site.polled.ended_at() == NOW
    assert not site.poll().ended_early
    assert site.ids() == ALL


def test_a_poll_of_years_that_ends_early_is_marked_week_by_week(site):
    first = TODAY - timedelta(40)
    site.server.reports = [report(number, first + timedelta(number)) for number in range(40)]
    # A week has three pages by each of the two dates.
    site.server.fail(*[None] * 15, DAILY)
    ended = site.poll(since=first)
    assert ended.until == first + timedelta(13)
    asked = len(site.server.asked)
    assert site.poll().first == ended.until - timedelta(7)
    assert site.server.queries[asked + 1]["search"].startswith(f"receivedate:[{ended.until - timedelta(7):%Y%m%d}")
    assert sorted(map(int, site.ids())) == [*range(40)]


def test_years_without_a_report_take_few_requests(site):
    site.server.reports = [report(1, date(2010, 1, 1)), report(2, date(2018, 1, 1)), report(3, TODAY)]
    assert site.poll(since=date(2010, 1, 1)).sent == 3
    assert len(site.server.asked) < 100


def test_a_poll_that_begins_behind_a_gap_leaves_the_mark_before_it(site):
    site.poll(until=TODAY - timedelta(5))
    mark = site.polled.polled_until()
    site.poll(since=TODAY - timedelta(1))
    assert site.polled.polled_until() == mark == TODAY - timedelta(5)
    site.poll()
    assert len(site.ids()) == 8


def test_what_is_loaded_months_later_is_not_behind_the_mark(site):
    site.server.reports = [report(1, date(2026, 9, 30))]
    assert site.poll().until == date(2026, 9, 30)
    site.server.reports.append(report(2, date(2026, 10, 1)))
    assert site.poll().sent == 1


def test_the_first_poll_begins_thirty_days_before_the_newest_report(site):
    newest = date(2026, 9, 30)
    site.server.reports = [report(days, newest - timedelta(days)) for days in (0, 30, 31)]
    assert site.poll().first == newest - timedelta(30)
    assert site.ids() == ["0", "30"]


def test_dates_may_be_chosen(site):
    done = site.poll(since=TODAY - timedelta(5), until=TODAY - timedelta(4))
    assert (done.first, done.last) == (TODAY - timedelta(5), TODAY - timedelta(4))
    assert site.ids() == ["4", "5"]
    # An earlier poll does not put the mark back.
    site.poll(since=TODAY - timedelta(7), until=TODAY - timedelta(6))
    assert site.polled.polled_until() == TODAY - timedelta(4)


def test_while_nothing_is_loaded_one_request_is_enough(site):
    site.server.updated = "2026-11-19"
    assert not site.poll().is_unchanged
    asked = len(site.server.asked)
    done = site.poll()
    assert done.is_unchanged
    assert len(site.server.asked) == asked + 1
    assert site.poll(since=TODAY).reports
    site.server.updated = TODAY.isoformat()
    site.server.reports.append(report(99, TODAY))
    assert site.poll().sent == 1
    # Today more may be loaded.
    assert not site.poll().is_unchanged


def test_what_the_hub_does_not_take_is_counted_and_tried_again(site):
    site.server.reports[2]["patient"] = "x" * 2000
    done = site.poll(MortalPublisher(largest=1000))
    # It is new by both of its dates.
    assert (done.sent, done.too_large) == (7, 2)
    assert site.poll().sent == 1
    assert site.ids() == ALL


def test_reports_without_an_id_and_no_reports_are_sent_once_too(site):
    day = f"{TODAY:%Y%m%d}"
    lost = [{"receivedate": day, "receiptdate": day, "n": 1}, {"receivedate": day, "receiptdate": day, "n": 2}]
    numbered = {"safetyreportid": 7001, "receivedate": day, "receiptdate": day, "safetyreportversion": None}
    site.server.reports = [*lost, numbered, numbered, 5, "text", None]
    done = site.poll(since=date(2026, 11, 1))
    assert sorted(site.sent) == sorted(
        [*(json.dumps(each, separators=(",", ":")).encode() for each in (*lost, numbered)), b"5", b'"text"', b"null"]
    )
    assert done.sent == 6
    assert site.poll(since=date(2026, 11, 1)).sent == 0


def test_nothing_to_poll(site):
    site.server.reports = []
    done = site.poll()
    assert (done.pages, done.until, done.first) == (0, None, TODAY - timedelta(30))
    assert site.polled.ended_at() == NOW


def test_the_files_of_the_table_stay_few(site):
    site.server.reports = [report(number, TODAY) for number in range(75)]
    site.poll()
    assert len(site.rows()) == 75
    assert site.lake.table(POLLED).files().height < 20


def test_when_a_poll_is_due():
    every = timedelta(hours=1)
    assert decide_poll(None, every, Runs(), NOW).start
    assert decide_poll(NOW - every, every, Runs(), NOW).start
    early = decide_poll(NOW - every + timedelta(minutes=1), every, Runs(), NOW)
    assert not early.start
    assert early.reason == "The last poll was at 11:01:00 UTC; the next one is due at 12:01:00."
    assert not decide_poll(None, every, Runs(["run"]), NOW).start
    assert not decide_poll(None, every, Runs(failures=3, failed_at=NOW), NOW).start
