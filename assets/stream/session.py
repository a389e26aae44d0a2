"""A session: works through micro-batches of one stream until it is idle, its time is over, or it is stopped.

A session first processes what an earlier one left between bronze and silver. Then it pulls micro-batches and hands them
to the pipeline, which publishes alerts at once; it begins a commit every two seconds. When it ends, everything that it
pulled is committed. Orchestration decides when a session is started. docs/engine.md has the whole picture.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import polars as pl

from assets.stream.cleaning import POSITIONS
from assets.stream.contract import Contract
from assets.stream.known import Known
from assets.stream.outlet import LATE_AFTER, AlertOutlet
from assets.stream.pipeline import Pipeline
from assets.stream.process import Outcome, ProcessingError, Processor
from assets.stream.store import Events, StreamStore
from resources.event_source import EventSource, HubState, Publisher, Pulled, Tail
from resources.lake import Lake, SchemaError

Clock = Callable[[], datetime]

COMMIT_BYTES = 128 << 20
"""Processed bodies of this size are committed without waiting, whatever their number."""
STALLED_AFTER_S = 30.0
"""A hub that is ahead and delivers nothing for so long gets a new session, which connects anew."""
CLOCK_TOLERANCE = timedelta(minutes=10)
"""How far the clock may be behind the newest micro-batch; the order of processing does not depend on the clock."""
MAX_UNKNOWN_FIELDS = 1000
"""How many names of undeclared fields are counted each by itself; a sender may make up new names without end."""


class HubRecreatedError(RuntimeError):
    """The hub is not the one that bronze was read from; nothing was read from it."""


class ClockError(RuntimeError):
    """The clock is behind what bronze says; nothing was pulled."""


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
        late_after: how old a reading may be when its alert is published; the alert of an older one says it is late.
    """

    trigger_s: float = 0.2
    commit_interval_s: float = 2.0
    commit_readings: int = 120_000
    idle_timeout_s: float = 15.0
    max_duration_s: float = 300.0
    until_caught_up: bool = False
    late_after: timedelta = LATE_AFTER


@dataclass(frozen=True)
class Totals:
    """What a session did.

    Attributes:
        events: pulled from the hub and stored.
        caught_up_events: processed again from bronze after a crash.
        rows: written, by role of the table; bronze is left out, its rows are `events`.
        duplicates: readings that were dropped as repeats.
        expired_events: events that the hub's retention removed before they were read.
        unknown_fields: how often each undeclared payload field was seen.
        commits, micro_batches: how many.
        reached: for each partition of the hub the last sequence number that is committed.
        alerts_withheld: why stored alerts are not published yet; None if all are.
    """

    events: int = 0
    caught_up_events: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    expired_events: int = 0
    commits: int = 0
    micro_batches: int = 0
    unknown_fields: Counter[str] = field(default_factory=Counter)
    reached: Mapping[int, int] = field(default_factory=dict)
    alerts_withheld: str | None = None

    @property
    def silver(self) -> int:
        """Rows written to silver."""
        return self.rows["silver"]

    @property
    def quarantine(self) -> int:
        """Rows written to quarantine."""
        return self.rows["quarantine"]

    @property
    def alerts(self) -> int:
        """Rows written to the alerts table."""
        return self.rows["alerts"]

    def plus(self, outcome: Outcome) -> "Totals":
        """With one more micro-batch."""
        rows = Counter({role: frame.height for role, frame in outcome.rows.items() if role != "bronze"})
        return replace(
            self,
            rows=self.rows + rows,
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
        self._outlet = AlertOutlet(self.store, publisher, clock, limits.late_after)
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
            HubRecreatedError: the hub is not the one that bronze was read from; nothing was pulled.
            ClockError: the clock is behind what bronze says; nothing was pulled.
            ProcessingError: events could not be processed; they are in bronze.
            SchemaError: a table does not fit the contract; events that were pulled are in bronze.
            ConcurrentWriteError: another session writes the stream; what was not committed is pulled again.
        """
        hub = self._source.state()
        self._tails = hub.tails
        failure = self._open(hub)
        if failure is None:
            # Alerts that wait already are sent between micro-batches: those of this session need not wait for them.
            self.store.waiting.reopen()
        self._last_pulled_at = self.store.last_pulled_at() or self._last_pulled_at
        processor = Processor(self._contract, Known.nothing(self._contract) if failure else self.store.known())
        failure = failure or self._catch_up(processor)
        check_identity(self._source.name, self._contract.stream, hub, self.store)
        self._pass_expired(hub)
        with Pipeline(processor, self.store, self._outlet, hub.created_at_ms, failure) as pipeline:
            try:
                self._stream(pipeline)
            finally:
                # On an error of the hub too: what was processed is complete.
                self._commit_all(pipeline)
            self._send_the_rest(pipeline)
        if pipeline.failure is not None:
            raise pipeline.failure
        # The mark comes last: a session that fails tells nobody the number, so the next one must tell it.
        self.store.mark_expired(self.store.of_stream(_expired(hub, self._offsets())))
        self._totals = replace(self._totals, alerts_withheld=self._withheld())
        return self._totals

    def _open(self, hub: HubState) -> Exception | None:
        """Opens the tables. Where one but bronze does not fit the contract, events are still kept in bronze.

        Returns:
            Why nothing can be processed.
        """
        self.store.bronze.ensure()
        try:
            self.store.open(hub.tails)
        except SchemaError as error:
            self.store.look(hub.tails)
            return error
        return None

    def _offsets(self) -> dict[int, int]:
        """How far bronze has come in the partitions of the hub."""
        return self.store.of_hub(self.store.offsets("bronze"))

    def _catch_up(self, processor: Processor) -> ProcessingError | None:
        """Processes what an earlier session left in bronze.

        Returns:
            Why that failed, None if it did not. Then nothing later can be processed either.
        """
        for events in self.store.behind():
            if self._should_stop():
                break
            try:
                outcome = processor.process(events.positions, events.bodies)
            except ProcessingError as error:
                return error
            # What is stored was published before.
            new_alerts = self.store.beyond("alerts", outcome.alerts)
            self.store.commit([outcome], delivery=partial(self._outlet.publish, new_alerts))
            processor.known.mark_stored()
            self._totals = replace(
                self._totals.plus(outcome), caught_up_events=self._totals.caught_up_events + len(events.bodies)
            )
            self._on_progress(self._totals)
        return None

    def _stream(self, pipeline: Pipeline) -> None:
        started = idle_since = self._committed_at = time.monotonic()
        first_day = self._now().date()
        was_failing = pipeline.failure is not None
        with self._source.receive(self._pulled) as receiver:
            while not self._should_stop():
                taken_at = time.monotonic()
                pulled = receiver.take(timeout=self._limits.trigger_s)
                now = self._now()
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
                if pipeline.failure is not None and not was_failing:
                    break
                if is_at_end and self._is_done(idle_since):
                    break
                receiver.gather(taken_at + self._limits.trigger_s - time.monotonic())

    def _now(self) -> datetime:
        """The time of day.

        Raises:
            ClockError: the clock is behind the newest micro-batch, by more than clocks are corrected by or by a day.
        """
        now, last = self._clock(), self._last_pulled_at
        if last > now + CLOCK_TOLERANCE or last.date() > now.date():
            raise ClockError(
                f"{self._contract.stream}: the clock of this machine says {now:%Y-%m-%d %H:%M:%S} UTC, but the newest "
                f"events in bronze were pulled at {last:%Y-%m-%d %H:%M:%S} UTC. Nothing was pulled, since it would get "
                "a date to come. If the clock is wrong now, set it. If it was ahead once and is right now, run "
                f"`pulselake rederive {self._contract.stream}`: it moves those events to today."
            )
        return now

    def _pass_expired(self, hub: HubState) -> None:
        """Goes on behind events that the hub dropped, and counts those dropped since the stream was first read."""
        self._pulled = self._offsets()
        expired, noted = _expired(hub, self._pulled), self.store.of_hub(self.store.expired())
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
        return to_events(pulled, self._last_pulled_at, self.store.log.epoch)

    def _commit_when_due(self, pipeline: Pipeline, *, is_last: bool) -> None:
        limits = self._limits
        is_full = pipeline.waiting_readings >= limits.commit_readings or pipeline.waiting_bytes >= COMMIT_BYTES
        is_late = is_last or time.monotonic() - self._committed_at >= limits.commit_interval_s
        self._end_work(pipeline, wait=is_full or is_last)
        if pipeline.is_at_work:
            return
        # Where the tables cannot be written, nothing could be noted of what is sent.
        is_sending_due = pipeline.failure is None and self._outlet.is_sending_due
        if self._outlet.failure is not None and is_sending_due:
            # Alerts that the outlet refused must be stored before the hub is tried again: they are sent from the table.
            self._commit_all(pipeline)
            self._outlet.try_again()
            pipeline.begin_sending()
        elif pipeline.waiting_readings and (is_full or is_late):
            pipeline.begin_commit()
            self._committed_at = time.monotonic()
        elif is_sending_due:
            pipeline.begin_sending()

    def _commit_all(self, pipeline: Pipeline) -> None:
        self._end_work(pipeline, wait=True)
        if pipeline.waiting_readings:
            pipeline.begin_commit()
            self._end_work(pipeline, wait=True)

    def _send_the_rest(self, pipeline: Pipeline) -> None:
        """Offers waiting alerts once more at the end; a drain sends all of them, for no session may follow."""
        self._outlet.try_again()
        while pipeline.failure is None and self.store.waiting and not self._should_stop():
            pipeline.begin_sending()
            self._end_work(pipeline, wait=True)
            if self._outlet.failure is not None or not self._limits.until_caught_up:
                break

    def _end_work(self, pipeline: Pipeline, *, wait: bool) -> None:
        if not (stored := pipeline.end_work(wait=wait)) or not (stored.outcomes or stored.events_in_bronze):
            return
        events = stored.events_in_bronze + sum(outcome.bronze.height for outcome in stored.outcomes)
        for outcome in stored.outcomes:
            self._totals = self._totals.plus(outcome)
        reached = self.store.of_hub(self.store.offsets("silver"))
        self._totals = replace(
            self._totals, events=self._totals.events + events, commits=self._totals.commits + 1, reached=reached
        )
        self._on_progress(self._totals)

    def _withheld(self) -> str | None:
        if self._outlet.failure is not None:
            return str(self._outlet.failure)
        return "Alerts of an outage are still being sent." if self.store.waiting else None

    def _is_done(self, idle_since: float) -> bool:
        idle_s = time.monotonic() - idle_since
        if self._limits.until_caught_up:
            patience = 0.0 if self._has_reached_tails() else self._limits.trigger_s
        else:
            patience = self._limits.idle_timeout_s
        # A session whose alerts wait does not end, because it offers them again also while no reading comes.
        if idle_s < patience or (self.store.waiting and not self._limits.until_caught_up):
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


def check_identity(name: str, stream: str, hub: HubState, store: StreamStore) -> None:
    """Raises `HubRecreatedError` if the hub cannot be the one that bronze was read from."""
    offsets, created_at_ms = store.of_hub(store.offsets("bronze")), store.log.hub_created_at_ms
    short = [partition for partition, last in offsets.items() if hub.tails.get(partition, (0, -1))[1] < last]
    if short or (created_at_ms is not None and created_at_ms != hub.created_at_ms):
        where = (
            f"partition {short[0]} ends at {hub.tails.get(short[0], (0, -1))[1]} but bronze has {offsets[short[0]]}"
            if short
            else (f"it was created at {hub.created_at_ms} ms, the hub that bronze was read from at {created_at_ms} ms")
        )
        raise HubRecreatedError(
            f"Event hub '{name}' was recreated: {where}. Nothing was read from it. If it is to take the place of the "
            f"old one, run `pulselake hubs accept {stream}`; else restore the old hub's data, or name another hub for "
            "the stream (PULSELAKE_HUBS)."
        )


def to_events(pulled: Sequence[Pulled], pulled_at: datetime, epoch: int = 0) -> Events:
    """Pulled events of a hub as a micro-batch, in processing order."""
    ordered = sorted(pulled, key=lambda each: each.partition)
    frames = [
        pl.DataFrame(
            {
                "partition": pl.Series([each.partition], dtype=pl.Int64).new_from_index(0, len(each.bodies)),
                "sequence_number": pl.Series(each.sequence_numbers, dtype=pl.Int64),
                "received_at": pl.Series(each.enqueued_ms, dtype=pl.Int64) * 1000,
                "key": pl.Series(each.keys, dtype=pl.String),
                "properties": pl.Series(each.properties, dtype=pl.String),
                "annotations": pl.Series(each.annotations, dtype=pl.String),
            }
        )
        for each in ordered
    ]
    positions = pl.concat(frames).with_columns(
        pl.col("received_at").cast(POSITIONS["received_at"]),
        pulled_at=pl.lit(pulled_at, POSITIONS["pulled_at"]),
        hub_epoch=pl.lit(epoch, pl.Int64),
    )
    return Events(positions[POSITIONS.names()], [body for each in ordered for body in each.bodies])


def _expired(hub: HubState, offsets: Mapping[int, int]) -> dict[int, int]:
    """The last lost event of each partition whose hub dropped events before they were read."""
    lost = {partition: hub.tails[partition].first - 1 for partition in offsets}
    return {partition: last for partition, last in lost.items() if last > offsets[partition]}


def _bounded(counts: Counter[str]) -> Counter[str]:
    """The commonest names; the others are counted together, under no name."""
    if len(counts) <= MAX_UNKNOWN_FIELDS:
        return counts
    kept = Counter(dict(counts.most_common(MAX_UNKNOWN_FIELDS - 1)))
    kept[""] += counts.total() - kept.total()
    return kept
