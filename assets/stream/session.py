"""A session: works through micro-batches of one stream until it is idle, its time is over, or it is stopped.

It catches up what an earlier session left between bronze and silver, then loops: pull, and hand over to the pipeline,
which publishes alerts at once; commit every two seconds. It ends cleanly: what was pulled is committed. Orchestration
decides when one is started.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import polars as pl

from assets.stream.contract import Contract
from assets.stream.outlet import AlertOutlet
from assets.stream.pipeline import Pipeline
from assets.stream.process import POSITIONS, Outcome, Processor
from assets.stream.store import Events, StreamStore
from resources.event_source import EventSource, HubState, Publisher, Pulled, Tail
from resources.lake import Lake

Clock = Callable[[], datetime]

COMMIT_BYTES = 128 << 20
"""Processed bodies of this size are committed without waiting, whatever their number."""
STALLED_AFTER_S = 30.0
"""A hub that is ahead and delivers nothing for so long gets a new session, which connects anew."""
MAX_UNKNOWN_FIELDS = 1000
"""Names of undeclared fields that are counted apart; a producer may make up new ones without end."""


class HubRecreatedError(RuntimeError):
    """The hub is not the one that bronze was read from; nothing was read from it."""


@dataclass(frozen=True)
class SessionLimits:
    """When a session acts and when it ends.

    Attributes:
        trigger_s: shortest time between two micro-batches, unless a backlog fills the receiver's buffer sooner.
        commit_interval_s: longest time that processed rows wait for their commit.
        commit_readings: processed readings that are committed without waiting; twice as many may be in memory.
        idle_timeout_s: ends the session when the hub had nothing for so long.
        max_duration_s: ends the session after so long.
        until_caught_up: end as soon as all that the hub holds is committed, instead of waiting for the idle timeout.
    """

    trigger_s: float = 0.2
    commit_interval_s: float = 2.0
    commit_readings: int = 120_000
    idle_timeout_s: float = 15.0
    max_duration_s: float = 300.0
    until_caught_up: bool = False


@dataclass(frozen=True)
class Totals:
    """What a session did.

    Attributes:
        events: pulled from the hub and stored.
        caught_up_events: processed again from bronze after a crash.
        silver, quarantine, alerts, duplicates: rows written, or dropped as repeats.
        expired_events: events that the hub's retention removed before they were read.
        unknown_fields: how often each undeclared payload field was seen.
        commits, micro_batches: how many.
        reached: for each partition the last sequence number that is committed.
        alerts_withheld: why stored alerts are not published yet; None if all are.
    """

    events: int = 0
    caught_up_events: int = 0
    silver: int = 0
    quarantine: int = 0
    alerts: int = 0
    duplicates: int = 0
    expired_events: int = 0
    commits: int = 0
    micro_batches: int = 0
    unknown_fields: Counter[str] = field(default_factory=Counter)
    reached: Mapping[int, int] = field(default_factory=dict)
    alerts_withheld: str | None = None

    def plus(self, outcome: Outcome) -> "Totals":
        """With one more micro-batch."""
        return replace(
            self,
            silver=self.silver + outcome.silver.height,
            quarantine=self.quarantine + outcome.quarantine.height,
            alerts=self.alerts + outcome.alerts.height,
            duplicates=self.duplicates + int(outcome.duplicates["duplicates"].sum()),
            unknown_fields=_bounded(self.unknown_fields + outcome.unknown_fields),
            micro_batches=self.micro_batches + 1,
        )

    def joined(self, later: "Totals") -> "Totals":
        """With what a later session did."""
        sums = {
            each.name: getattr(self, each.name) + getattr(later, each.name)
            for each in fields(self)
            if each.name not in ("reached", "alerts_withheld")
        }
        return Totals(**sums, reached={**self.reached, **later.reached}, alerts_withheld=later.alerts_withheld)


class Session:
    """One session of one stream.

    Args:
        contract: the stream.
        lake: where its tables are.
        source: its hub.
        publisher: the hub that alerts go to.
        limits: when to act and when to end.
        on_progress: called with the totals after every commit.
        clock: the time of day, UTC.
        should_stop: asked between micro-batches; True ends the session cleanly.
    """

    def __init__(
        self,
        contract: Contract,
        lake: Lake,
        source: EventSource,
        publisher: Publisher,
        *,
        limits: SessionLimits = SessionLimits(),
        on_progress: Callable[[Totals], None] = lambda _: None,
        clock: Clock = lambda: datetime.now(UTC),
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._contract, self._source, self._limits = contract, source, limits
        self._on_progress, self._clock, self._should_stop = on_progress, clock, should_stop
        self.store = StreamStore(contract, lake)
        self._outlet = AlertOutlet(self.store, publisher)
        self._totals = Totals()
        self._committed_at = time.monotonic()
        self._last_pulled_at = datetime.min.replace(tzinfo=UTC)
        self._pulled: dict[int, int] = {}
        self._tails: Mapping[int, Tail] = {}

    def run(self) -> Totals:
        """Works until it ends.

        Returns:
            What was done; every pulled event is committed.

        Raises:
            HubUnavailableError: the hub could not be reached, or not any more; what was pulled is committed.
            HubRecreatedError: the hub holds less than what was read from it.
            ConcurrentWriteError: another session writes the stream; what was not committed is pulled again.
        """
        hub = self._source.state()
        self._tails = hub.tails
        self.store.open(hub.tails)
        check_identity(self._source.name, hub, self.store)
        self._pass_expired(hub)
        processor = Processor(self._contract, self.store.known())
        if self.store.has_unpublished():
            self._outlet.retry()
        self._catch_up(processor)
        with Pipeline(processor, self.store, self._outlet, hub.created_at_ms) as pipeline:
            try:
                self._stream(pipeline)
            finally:
                # On an error of the hub too: what was processed is complete.
                self._commit_all(pipeline)
        if self._outlet.failure is not None:
            self._outlet.retry()
        # Only now: of a session that fails nobody hears the number.
        self.store.mark_expired(_expired(hub, self.store.offsets(self.store.bronze)))
        withheld = None if self._outlet.failure is None else str(self._outlet.failure)
        self._totals = replace(self._totals, alerts_withheld=withheld)
        return self._totals

    def _catch_up(self, processor: Processor) -> None:
        self._last_pulled_at = self.store.last_pulled_at() or self._last_pulled_at
        for events in self.store.behind():
            outcome = processor.process(events.positions, events.bodies)
            # What is stored was published before.
            new_alerts = self.store.beyond(self.store.alerts, outcome.alerts)
            self.store.commit([outcome], are_published=partial(self._outlet.publish, new_alerts))
            processor.known.forget()
            self._totals = replace(
                self._totals.plus(outcome), caught_up_events=self._totals.caught_up_events + len(events.bodies)
            )
            self._on_progress(self._totals)

    def _stream(self, pipeline: Pipeline) -> None:
        started = idle_since = self._committed_at = time.monotonic()
        first_day = self._clock().date()
        with self._source.receive(self._pulled) as receiver:
            while not self._should_stop():
                taken_at = time.monotonic()
                pulled = receiver.take(timeout=self._limits.trigger_s)
                now = self._clock()
                if now.date() != first_day:
                    # What was just taken belongs to the next day and to its session, which pulls it again.
                    break
                if pulled:
                    idle_since = time.monotonic()
                    pipeline.add(self._micro_batch(pulled, now))
                is_at_end = not pulled or (self._limits.until_caught_up and self._has_reached_tails())
                self._commit_when_due(pipeline, is_last=is_at_end and self._limits.until_caught_up)
                if time.monotonic() - started > self._limits.max_duration_s:
                    break
                if is_at_end and self._is_done(idle_since):
                    break
                receiver.gather(taken_at + self._limits.trigger_s - time.monotonic())

    def _pass_expired(self, hub: HubState) -> None:
        """Goes on where the hub begins. What it dropped before the first read was never ours."""
        self._pulled = dict(self.store.offsets(self.store.bronze))
        expired, noted = _expired(hub, self._pulled), self.store.expired()
        self._note_expired(sum(last - max(self._pulled[each], noted.get(each, -1)) for each, last in expired.items()))
        self._pulled |= expired

    def _note_expired(self, events: int) -> None:
        self._totals = replace(self._totals, expired_events=self._totals.expired_events + events)

    def _micro_batch(self, pulled: Sequence[Pulled], now: datetime) -> Events:
        # Strictly increasing, whatever the clock does: it is the order of processing.
        self._last_pulled_at = max(now, self._last_pulled_at + timedelta(microseconds=1))
        for each in pulled:
            last = each.sequence_numbers[-1]
            self._note_expired(last - len(each.bodies) - self._pulled.get(each.partition, last - len(each.bodies)))
            self._pulled[each.partition] = last
        return to_events(pulled, self._last_pulled_at)

    def _commit_when_due(self, pipeline: Pipeline, *, is_last: bool) -> None:
        limits = self._limits
        is_full = pipeline.waiting_readings >= limits.commit_readings or pipeline.waiting_bytes >= COMMIT_BYTES
        is_late = is_last or time.monotonic() - self._committed_at >= limits.commit_interval_s
        self._end_commit(pipeline, wait=is_full or is_last)
        if self._outlet.is_retry_due:
            self._commit_all(pipeline)
            self._outlet.retry()
        elif pipeline.waiting_readings and (is_full or is_late) and not pipeline.is_committing:
            pipeline.begin_commit()
            self._committed_at = time.monotonic()

    def _commit_all(self, pipeline: Pipeline) -> None:
        self._end_commit(pipeline, wait=True)
        if pipeline.waiting_readings:
            pipeline.begin_commit()
            self._end_commit(pipeline, wait=True)

    def _end_commit(self, pipeline: Pipeline, *, wait: bool) -> None:
        if not (stored := pipeline.end_commit(wait=wait)):
            return
        for outcome in stored:
            self._totals = replace(self._totals.plus(outcome), events=self._totals.events + outcome.bronze.height)
        reached = self.store.offsets(self.store.silver)
        self._totals = replace(self._totals, commits=self._totals.commits + 1, reached=reached)
        self._on_progress(self._totals)

    def _is_done(self, idle_since: float) -> bool:
        idle_s = time.monotonic() - idle_since
        if self._limits.until_caught_up:
            patience = 0.0 if self._has_reached_tails() else self._limits.trigger_s
        else:
            patience = self._limits.idle_timeout_s
        # While alerts wait for their hub they are offered again every few seconds, not when the next reading comes.
        if idle_s < patience or (self._outlet.failure is not None and not self._limits.until_caught_up):
            return False
        if idle_s > max(patience, STALLED_AFTER_S):
            return True
        # Silence may also mean that the connection is not up yet.
        self._tails = self._source.state().tails
        return self._has_reached_tails()

    def _has_reached_tails(self) -> bool:
        """Whether all is pulled that the hub was last seen to hold."""
        tails = self._tails.items()
        return all(tail.last < tail.first or self._pulled.get(partition, -1) >= tail.last for partition, tail in tails)


def check_identity(name: str, hub: HubState, store: StreamStore) -> None:
    """Raises `HubRecreatedError` if the hub cannot be the one that bronze was read from."""
    offsets, created_at_ms = store.offsets(store.bronze), store.hub_created_at_ms
    short = [partition for partition, last in offsets.items() if hub.tails.get(partition, (0, -1))[1] < last]
    if short or (created_at_ms is not None and created_at_ms != hub.created_at_ms):
        where = (
            f"partition {short[0]} ends at {hub.tails.get(short[0], (0, -1))[1]} but bronze has {offsets[short[0]]}"
            if short
            else (f"it was created at {hub.created_at_ms} ms, the hub that bronze was read from at {created_at_ms} ms")
        )
        raise HubRecreatedError(
            f"Event hub '{name}' was recreated: {where}. Nothing was read or written. Restore the hub's data, "
            "or start a new lake (PULSELAKE_LAKE) or a hub of another name for the new one."
        )


def to_events(pulled: Sequence[Pulled], pulled_at: datetime) -> Events:
    """Pulled events as a micro-batch, in processing order."""
    ordered = sorted(pulled, key=lambda each: each.partition)
    frames = [
        pl.DataFrame(
            {
                "partition": pl.Series([each.partition], dtype=pl.Int64).new_from_index(0, len(each.bodies)),
                "sequence_number": pl.Series(each.sequence_numbers, dtype=pl.Int64),
                "received_at": pl.Series(each.enqueued_ms, dtype=pl.Int64) * 1000,
            }
        )
        for each in ordered
    ]
    positions = pl.concat(frames).with_columns(
        pl.col("received_at").cast(POSITIONS["received_at"]), pulled_at=pl.lit(pulled_at, POSITIONS["pulled_at"])
    )
    return Events(positions, [body for each in ordered for body in each.bodies])


def _expired(hub: HubState, offsets: Mapping[int, int]) -> dict[int, int]:
    """For each partition that lost events before they were read, the last of them."""
    lost = {partition: hub.tails[partition].first - 1 for partition in offsets}
    return {partition: last for partition, last in lost.items() if last > offsets[partition]}


def _bounded(counts: Counter[str]) -> Counter[str]:
    """The commonest names; the others are counted together, under no name."""
    if len(counts) <= MAX_UNKNOWN_FIELDS:
        return counts
    kept = Counter(dict(counts.most_common(MAX_UNKNOWN_FIELDS - 1)))
    kept[""] += counts.total() - kept.total()
    return kept
