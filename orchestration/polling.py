"""Polls openFDA for drug-event reports and sends those that are new to the hub of adverse events.

What was sent is in the lake (`orchestration.polled`), so a poll that was killed goes on where it was. A page is
published before it is stored: after a crash it is sent a second time, and the stream drops the repeats.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import polars as pl

from orchestration.polled import ENDED_AT, LOADED, POLLED_UNTIL, PolledReports
from orchestration.sessions import Decision, Runs, decide
from orchestration.system import open_lake
from resources import sources
from resources.event_source import HubUnavailableError, Publisher
from resources.leases import LeaseError
from resources.openfda import Field, OpenFda, OpenFdaError, OpenFdaLimitError, received_on
from resources.settings import Settings

STREAM, LOCK = "adverse_events", "openfda"
FIELDS: tuple[Field, ...] = ("receivedate", "receiptdate")
"""New reports, and then newer versions of old ones: those have an old `receivedate`."""
OVERLAP, FIRST_DAYS = timedelta(days=7), timedelta(days=30)
WINDOW, LONGEST_WINDOW = timedelta(days=7), timedelta(days=364)
_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Polled:
    """What a poll did.

    Attributes:
        first, last: the dates that it was to look at.
        pages, reports: what it read.
        sent: how many reports the hub has taken.
        known: how many were sent before.
        too_large: how many are larger than the hub takes.
        until: the newest date on which FDA received a report that was read, now or earlier.
        ended_early: why it ended before it had read everything; empty if it did not.
        is_unchanged: whether it read nothing because openFDA has loaded nothing since the last poll.
    """

    first: date
    last: date
    pages: int = 0
    reports: int = 0
    sent: int = 0
    known: int = 0
    too_large: int = 0
    until: date | None = None
    ended_early: str = ""
    is_unchanged: bool = False


class PollError(RuntimeError):
    """A poll failed; `polled` is what it did before, which is kept."""

    def __init__(self, polled: Polled, reason: Exception) -> None:
        super().__init__(
            f"The poll of openFDA ended after {polled.pages:,} pages; {polled.sent:,} reports were sent before, and "
            f"the next poll sends the others. {reason}"
        )
        self.polled = polled


def poll(
    settings: Settings,
    *,
    since: date | None = None,
    until: date | None = None,
    progress: Callable[[str], None] = lambda _: None,
    name: str = "",
) -> Polled:
    """Sends what openFDA has new to the hub of adverse events.

    Args:
        settings: where the API, the hub and the lake are.
        since, until: the first and the last date to look at; `Poll.run` says what they are by default.
        progress: is told after each page how far the poll has come.
        name: of this process, for another poll that is refused.

    Raises:
        LeaseError: another poll is at work.
        HubUnavailableError, LakeUnavailableError: before anything was asked.
        PollError: the API or the hub failed later.
    """
    lock = settings.lease(LOCK, name or f"process {os.getpid()}").active
    if not lock.take():
        raise LeaseError(
            f"'{lock.last_holder()}' polls openFDA at this moment. This poll did nothing; try again when it has ended."
        )
    try:
        polled = PolledReports(open_lake(settings))
        with (
            OpenFda(settings.openfda_url, settings.openfda_api_key) as api,
            sources.publisher(settings, STREAM) as publisher,
        ):
            publisher.publish([], [])
            return Poll(polled, api, publisher, datetime.now(UTC), progress).run(since, until)
    finally:
        lock.release()


class Poll:
    """One poll, for whoever holds the lock of polls.

    Args:
        polled: what was sent before.
        api, publisher: where reports come from and go to.
        now: the time of day.
        progress: is told after each page how far the poll has come.
    """

    def __init__(
        self,
        polled: PolledReports,
        api: OpenFda,
        publisher: Publisher,
        now: datetime,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._polled, self._api, self._publisher, self._now, self._progress = polled, api, publisher, now, progress
        self._done = Polled(now.date(), now.date())

    def run(self, since: date | None = None, until: date | None = None) -> Polled:
        """Reads from a week before the newest report that was read before up to today, week by week.

        The first poll begins 30 days before the newest report that openFDA has: openFDA loads reports months after FDA
        received them. If it has loaded nothing since a poll that read everything, nothing is read.

        Args:
            since, until: other dates to begin and to end with.

        Raises:
            PollError: the API or the hub failed.
        """
        self._polled.open()
        today, mark = self._now.date(), self._polled.polled_until()
        self._done = replace(self._done, first=since or today, last=until or today, until=mark)
        marks = {ENDED_AT: int(self._now.timestamp())}
        is_usual = since is None and until is None
        try:
            latest = self._api.latest(today)
            if is_usual and latest.updated and latest.updated == self._polled.loaded():
                self._done = replace(self._done, is_unchanged=True)
            else:
                first = since or (mark - OVERLAP if mark else (latest.newest or today) - FIRST_DAYS)
                self._done = replace(self._done, first=first)
                self._read(first, self._done.last)
                # On the day of a load more may be loaded.
                if is_usual and latest.updated and latest.updated < today:
                    marks[LOADED] = latest.updated.toordinal()
        except OpenFdaLimitError as limit:
            self._done = replace(self._done, ended_early=str(limit))
        except (OpenFdaError, HubUnavailableError) as error:
            raise PollError(self._done, error) from error
        self._polled.mark(marks, self._now)
        return self._done

    def _read(self, first: date, last: date) -> None:
        """Reads week by week and marks each, so that a poll of years that ends early is no loss.

        The mark does not move where the dates begin behind it and a gap: the next usual poll goes on before the gap.
        After a time without reports the next one is twice as long: weeks of nothing would use up the requests of a day.
        """
        window, mark = WINDOW, self._done.until
        # Behind a gap the mark would say that the gap was read.
        is_joined = mark is None or first <= mark + _ONE_DAY
        while first <= last:
            end = min(first + window - _ONE_DAY, last)
            pages, newest = self._done.pages, self._done.until
            for field in FIELDS:
                for page in self._api.reports(field, first, end):
                    self._take(page)
                    self._tell(f"{field} {first} to {end}")
                    if field == "receivedate":
                        newest = max(filter(None, (newest, *map(received_on, page))), default=None)
            window = min(2 * window, LONGEST_WINDOW)
            if self._done.pages > pages:
                window = WINDOW
                # The mark is never newer than the data are: what openFDA loads months later would be behind it.
                if is_joined:
                    self._polled.mark({POLLED_UNTIL: newest.toordinal()} if newest else {}, self._now)
                    self._done = replace(self._done, until=newest)
            first = end + _ONE_DAY

    def _take(self, page: Sequence[bytes]) -> None:
        """Publishes what is new of a page, and stores that the hub has it."""
        new = self._polled.new(page)
        too_large: list[int] = []
        if new.height:
            bodies, keys = [page[number] for number in new["number"]], [each or "" for each in new["safetyreportid"]]
            too_large = self._publisher.publish(bodies, keys)
        sent = new.with_row_index().filter(~pl.col("index").is_in(too_large))
        if sent.height:
            self._polled.store(sent, self._now)
        done = self._done
        self._done = replace(
            done,
            pages=done.pages + 1,
            reports=done.reports + len(page),
            sent=done.sent + sent.height,
            known=done.known + len(page) - new.height,
            too_large=done.too_large + len(too_large),
        )

    def _tell(self, what: str) -> None:
        done = self._done
        self._progress(f"openFDA, {what}: {done.pages:,} pages, {done.reports:,} reports, {done.sent:,} sent")


def decide_poll(ended_at: datetime | None, every: timedelta, runs: Runs, now: datetime) -> Decision:
    """Starts a poll when the last one ended long enough ago and none is at work; after failures with pauses.

    Args:
        ended_at: when the last poll ended without a failure; None if there was none.
        every: how long after that the next one starts.
        runs: the job's run records.
        now: the time of day.
    """
    if ended_at is not None and now < ended_at + every:
        due = ended_at + every
        return Decision(False, f"The last poll was at {ended_at:%H:%M:%S} UTC; the next one is due at {due:%H:%M:%S}.")
    return decide(1, "poll due", runs, now)
