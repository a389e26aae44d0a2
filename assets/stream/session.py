"""A session: works through micro-batches of one stream until a successor takes its place, or it is stopped.

A session first processes what an earlier one left between bronze and silver. Then it pulls micro-batches and hands them
to the pipeline, which publishes alerts at once; it begins a commit every two seconds. When it ends, everything that it
pulled is committed. A session that begins while another one works prepares everything, receives already, and takes over
when the other has committed. Orchestration decides when one is started. docs/engine.md has the whole picture.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import NamedTuple

import polars as pl

from assets.stream.actions import Actions, Learned
from assets.stream.alarm_outlet import AlarmOutlet
from assets.stream.alarming import Alarming, Folded
from assets.stream.cleaning import POSITIONS
from assets.stream.contract import Contract
from assets.stream.enrichment import References
from assets.stream.known import Known
from assets.stream.observer import Committed, Observer, timed
from assets.stream.outlet import LATE_AFTER, AlertOutlet
from assets.stream.pipeline import Pipeline, maintain
from assets.stream.process import Outcome, ProcessingError, Processor
from assets.stream.proof import prove
from assets.stream.store import Delivery, Events, Remembered, StreamStore
from resources.background import Background
from resources.event_source import (
    EventSource,
    HubState,
    HubTakenOverError,
    HubUnavailableError,
    Publisher,
    Pulled,
    Receiver,
    Tail,
)
from resources.lake import Lake, SchemaError
from resources.leases import TURN_S, Lease, wait

Clock = Callable[[], datetime]

COMMIT_BYTES = 128 << 20
"""Processed bodies of this size are committed without waiting, whatever their number."""
STALLED_AFTER_S = 30.0
"""After so long a silence the hub is asked; if it is ahead, it gets a new session, which connects anew."""
OPEN_S, HAND_OVER_S = 15.0, 8.0
"""How long a successor waits for its connections, and a session whose connections were taken for its successor."""
THEFTS_APART_S = 60.0
"""A session whose connections are taken again and again by another one, and no successor, ends."""
QUIET_S = 1.0
"""After so long without an event a partition counts as quiet, and its deadlines pass by the clock."""
ALARMS_WAIT_US = 1_000_000
"""How much later than its instant a deadline is passed: what the hub took before may still be on its way."""
MAINTAIN_EVERY_S = 120.0
"""How often a session makes the tables' files fewer: each commit adds one to most of them."""
MAINTAINED_IN_S = 30.0
"""How long that is waited for at a session's end and before a turn. Later the two may refuse each other's commits."""
TRY_AGAIN_AFTER_S = 300.0
"""A session that can only store in bronze ends after so long: the next one tries to process again."""
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
        idle_timeout_s: ends the session when the hub had nothing for so long; by default silence does not end it.
        max_duration_s: ends the session after so long; by default only a successor ends it.
        until_caught_up: end as soon as all that the hub holds is committed, instead of waiting for the idle timeout.
        late_after: how old a reading may be when its alert is published; the alert of an older one says it is late.
        maintains_at_end: make the tables' files fewer at the end too, unless a successor or a signal ends the session.
    """

    trigger_s: float = 0.2
    commit_interval_s: float = 2.0
    commit_readings: int = 120_000
    idle_timeout_s: float = math.inf
    max_duration_s: float = math.inf
    until_caught_up: bool = False
    late_after: timedelta = LATE_AFTER
    maintains_at_end: bool = False


@dataclass(frozen=True)
class Totals:
    """What a session did.

    Attributes:
        events: pulled from the hub and stored.
        caught_up_events: processed again from bronze after a crash.
        rows: written, by role of the table; bronze is left out, its rows are `events`.
        duplicates: readings that were dropped as repeats.
        skipped: records of other systems that are no readings.
        skipped_kinds: how many of these there are of each kind.
        reference_missing: readings in silver of which reference data that are there know nothing.
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
    skipped: int = 0
    reference_missing: int = 0
    expired_events: int = 0
    commits: int = 0
    micro_batches: int = 0
    unknown_fields: Counter[str] = field(default_factory=Counter)
    skipped_kinds: Counter[str] = field(default_factory=Counter)
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

    def counts(self) -> dict[str, int]:
        """The totals by name, without those of partitions and fields."""
        names = (
            *("events", "caught_up_events", "duplicates", "skipped", "reference_missing", "expired_events"),
            *("commits", "micro_batches"),
        )
        return {name: getattr(self, name) for name in names} | dict(self.rows)

    def plus(self, outcome: Outcome) -> "Totals":
        """With one more micro-batch."""
        rows = Counter({role: frame.height for role, frame in outcome.rows.items() if role != "bronze"})
        return replace(
            self,
            rows=self.rows + rows,
            duplicates=self.duplicates + int(outcome.duplicates["duplicates"].sum()),
            skipped=self.skipped + int(outcome.skipped["skipped"].sum()),
            skipped_kinds=_bounded(self.skipped_kinds + outcome.skipped_kinds),
            reference_missing=self.reference_missing + outcome.reference_missing,
            unknown_fields=_bounded(self.unknown_fields + outcome.unknown_fields),
            micro_batches=self.micro_batches + outcome.is_micro_batch,
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
        lease: the session's part in the work on the stream; by default it is alone.
        observer: told what the session does; by default it only logs.
        alarms: the hub that what happens to alarms goes to; without it that is only stored.
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
        lease: Lease | None = None,
        observer: Observer | None = None,
        alarms: Publisher | None = None,
    ) -> None:
        self._contract, self._source, self._limits, self._lease = contract, source, limits, lease or Lease()
        self._observer = observer or Observer(contract.stream)
        self._on_progress, self._clock, self._should_stop = on_progress, clock, should_stop
        self.store, self._references = StreamStore(contract, lake), References(contract, lake)
        self._outlet = AlertOutlet(self.store, publisher, clock, limits.late_after)
        self._alarm_outlet = None if contract.alarms is None else AlarmOutlet(self.store, alarms, clock)
        self._actions = Actions(contract, lake)
        self._is_commit_wanted = False
        self._ticked_at = -math.inf
        self._heard_at: dict[int, float] = {}
        self._totals = Totals()
        self._committed_at = self._maintained_at = time.monotonic()
        self._last_pulled_at = datetime.min.replace(tzinfo=UTC)
        self._pulled: dict[int, int] = {}
        self._tails: Mapping[int, Tail] = {}
        self._is_at_work = False
        self._is_gapless = True
        self.is_handed_over = False
        """Whether another session took this one's place."""

    def run(self) -> Totals:
        """Works until it ends. While another session works, it waits for its turn first.

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
        try:
            hub = self._source.state()
            self._tails, self._is_gapless = hub.tails, hub.is_gapless
            with ExitStack() as stack:
                stack.enter_context(self._references.kept_fresh(self._observer.reference_failed))
                if self._lease.begin():
                    self._work(hub, None, stack)
                elif (prepared := self._prepare(hub, stack)) is not None:
                    self._work(hub, prepared, stack)
        finally:
            self._end()
        return self._totals

    def _end(self) -> None:
        try:
            # A successor does it in its time, and who was asked to end should not take longer.
            if self._limits.maintains_at_end and self._is_at_work and not self._should_stop():
                maintain(self.store, self._clock().date(), self._observer)
        finally:
            self._is_at_work = False
            self._lease.release()

    def _prepare(self, hub: HubState, stack: ExitStack) -> "_Prepared | None":
        """Gets ready while another session works, and waits until that one has made room.

        Returns:
            None if this session is not needed: another one waits already, or it was asked to stop.
        """
        if self._lease.successor.is_held_elsewhere():
            return None
        # What is remembered while rows are being replaced would be neither the old nor the new.
        wait(lambda: not self._lease.turn.is_held_elsewhere(), TURN_S, self._should_stop)
        # Nothing is written before it is our turn, and nothing is created.
        self.store.look(hub.tails)
        identified(self._source, self._contract.stream, hub, self.store)
        remembered, epoch = None, self.store.log.epoch
        with suppress(SchemaError):
            remembered = self.store.remembered(self._references.reach)
        # The first micro-batch of a process takes half a second, for whatever is loaded late; this one is made up.
        prove(self._contract)
        # Of Event Hubs it takes the links away from the session at work, which goes on to its next commit and ends.
        receiver = stack.enter_context(self._source.receive(self._offsets()))
        if not receiver.wait_until_open(OPEN_S):
            receiver.take(timeout=0.0)
            raise HubUnavailableError(
                f"Hub '{self._source.name}' did not open all partitions within {OPEN_S:.0f} s, so this session did not "
                "take over from the one at work, which connects again. Check the hub and the right to read it."
            )
        if not wait(self._lease.successor.take, OPEN_S, self._should_stop):
            return None
        self._observer.waits()
        if not wait(self._lease.begin, math.inf, self._should_stop):
            return None
        return _Prepared(remembered, receiver, epoch)

    def _work(self, hub: HubState, prepared: "_Prepared | None", stack: ExitStack) -> None:
        self._is_at_work, began = True, time.monotonic()
        stack.enter_context(self._observed(is_successor=prepared is not None))
        failure = self._open(hub)
        if prepared is not None and prepared.epoch != self.store.log.epoch:
            # Another hub was accepted meanwhile, and this one's events are none of its events.
            return
        if failure is None:
            # Alerts that wait already are sent between micro-batches: those of this session need not wait for them.
            self.store.waiting.reopen()
        self._last_pulled_at = self.store.last_pulled_at() or self._last_pulled_at
        known = Known.nothing(self._contract) if failure else self._known(prepared)
        processor = Processor(self._contract, known, self._references, None if failure else self._alarming(stack))
        failure = failure or self._catch_up(processor)
        if prepared is None:
            hub = identified(self._source, self._contract.stream, hub, self.store)
        self._pass_expired(hub)
        if prepared is None:
            receiver = stack.enter_context(self._source.receive(self._pulled))
        else:
            receiver = prepared.receiver
            receiver.skip(self._pulled)
        self._lease.successor.release()
        self._observer.opened(time.monotonic() - began, is_successor=prepared is not None)
        outlets = self._outlet, hub, failure, self._observer, self._alarm_outlet
        with Pipeline(processor, self.store, *outlets) as pipeline:
            try:
                self.is_handed_over = self._stream(pipeline, receiver, stack)
            except BaseException:
                # What was processed is complete. Where a commit failed before, the first error says why.
                with suppress(Exception):
                    self._commit_all(pipeline)
                raise
            with timed() as rest:
                self._commit_all(pipeline)
            if self.is_handed_over:
                self._observer.handed_over(rest.seconds)
            else:
                self._send_the_rest(pipeline)
                wait(lambda: not pipeline.is_maintaining, MAINTAINED_IN_S, self._should_stop)
        if pipeline.failure is not None:
            raise pipeline.failure
        if self._is_at_work:
            # The mark comes last: a session that fails tells nobody the number, so the next one must tell it.
            self.store.mark_expired(self.store.of_stream(_expired(hub, self._offsets())))
        self._is_at_work &= not self.is_handed_over
        self._totals = replace(self._totals, alerts_withheld=self._withheld())

    @contextmanager
    def _observed(self, *, is_successor: bool) -> Iterator[None]:
        """Tells of the session's beginning and, while its place is still its own, of its end."""
        failure = None
        self._observer.began(is_successor=is_successor)
        try:
            yield
        except BaseException as error:
            failure = type(error).__name__
            raise
        finally:
            self._observer.ended(self._totals.counts(), failure)

    def _alarming(self, stack: ExitStack) -> Alarming | None:
        """The open alarms, and what is to be published of them and folded into them."""
        if self._alarm_outlet is not None:
            self._alarm_outlet.begin()
            stack.enter_context(self._actions.looked_for(self.store.log, self._observer.reference_failed))
        return self.store.open_alarms(self._references)

    def _known(self, prepared: "_Prepared | None") -> Known:
        if prepared is None or prepared.remembered is None:
            return self.store.remembered(self._references.reach).known
        return self.store.refreshed(prepared.remembered, self._references.reach).known

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
            told = 0
            if self._alarm_outlet is not None and outcome.alarms is not None:
                told = self._alarm_outlet.publish(outcome.alarms)
            with timed() as commit:
                self.store.commit([outcome], delivery=partial(self._delivered, new_alerts, told))
            self._observer.committed(Committed.of([outcome]), commit.seconds)
            processor.known.mark_stored()
            self._totals = replace(
                self._totals.plus(outcome), caught_up_events=self._totals.caught_up_events + len(events.bodies)
            )
            self._on_progress(self._totals)
        if processor.alarming is not None:
            processor.alarming.folded = None
        return None

    def _delivered(self, alerts: pl.DataFrame, told: int) -> Delivery:
        return self._outlet.publish(alerts)._replace(told=told)

    def _stream(self, pipeline: Pipeline, receiver: Receiver, stack: ExitStack) -> bool:
        """Works through micro-batches.

        Returns:
            Whether a successor waits for the end, or another one is at work already.
        """
        stolen_at, started = -math.inf, time.monotonic()
        idle_since = self._committed_at = self._maintained_at = started
        was_failing = pipeline.failure is not None
        silence = _Silence(self._source)
        while not self._should_stop():
            if self._lease.successor.is_held_elsewhere():
                return True
            is_maintaining = pipeline.is_maintaining and time.monotonic() - self._maintained_at < MAINTAINED_IN_S
            is_wanted = not is_maintaining and self._lease.turn.is_held_elsewhere()
            if is_wanted and not self._give_turn(pipeline):
                return True
            taken_at = time.monotonic()
            try:
                pulled = receiver.take(timeout=self._limits.trigger_s)
            except HubTakenOverError:
                if self._is_succeeded():
                    return True
                if self._should_stop():
                    break
                if time.monotonic() - stolen_at < THEFTS_APART_S:
                    raise
                # Whoever took the connections did not follow: it died, or it does not know of the locks.
                stolen_at, receiver = time.monotonic(), stack.enter_context(self._source.receive(self._pulled))
                continue
            now = self._now()
            self._observer.looked(*_looked(pulled, now))
            if pulled:
                idle_since = time.monotonic()
                pipeline.add(self._micro_batch(pulled, now))
            is_at_end = not pulled or (self._limits.until_caught_up and self._has_reached_tails())
            self._fold_when_due(pipeline, now, [each.partition for each in pulled])
            self._commit_when_due(pipeline, is_last=is_at_end and self._limits.until_caught_up)
            self._maintain_when_due(pipeline, now.date())
            elapsed = time.monotonic() - started
            if elapsed > self._limits.max_duration_s or (was_failing and elapsed > TRY_AGAIN_AFTER_S):
                break
            if pipeline.failure is not None and not was_failing:
                break
            if is_at_end and self._is_done(pipeline, idle_since, silence):
                self._tick(pipeline, self._now(), self._ahead())
                break
            receiver.gather(taken_at + self._limits.trigger_s - time.monotonic())
        return False

    def _fold_when_due(self, pipeline: Pipeline, now: datetime, pulled: Sequence[int]) -> None:
        """Hands on what people did, and deadlines that pass in partitions that have nothing more."""
        self._heard_at |= dict.fromkeys(pulled, time.monotonic())
        if pipeline.failure is not None or self._alarm_outlet is None:
            return
        at = _epoch_us(max(now, self._last_pulled_at))
        for learned in self._actions.take():
            pipeline.fold(partial(_act, learned, at))
            self._is_commit_wanted |= bool(learned.actions)
        deadline, since = pipeline.next_deadline, time.monotonic() - QUIET_S
        if deadline is not None and deadline <= _epoch_us(now) - ALARMS_WAIT_US and self._ticked_at < since:
            self._ticked_at = time.monotonic()
            # What a busy partition brings passes its deadlines.
            busy = {partition for partition, heard_at in self._heard_at.items() if heard_at > since}
            self._tick(pipeline, now, busy | self._ahead())

    def _ahead(self) -> set[int]:
        """The partitions that are known to hold more than was pulled: their deadlines wait for it."""
        return {
            partition
            for partition, tail in self._tails.items()
            if tail.first <= tail.last and self._pulled.get(partition, -1) < tail.last
        }

    def _tick(self, pipeline: Pipeline, now: datetime, busy: set[int]) -> None:
        if pipeline.failure is None and self._alarm_outlet is not None:
            of_hub = frozenset((self.store.log.epoch, partition) for partition in busy)
            pipeline.fold(partial(_tick, _epoch_us(now) - ALARMS_WAIT_US, of_hub))

    def _is_succeeded(self) -> bool:
        """Whether the session that took the hub's links is ready; it holds its lock when all of them are open."""
        return wait(self._lease.successor.is_held_elsewhere, HAND_OVER_S, self._should_stop)

    def _give_turn(self, pipeline: Pipeline) -> bool:
        """Lets a rebuild or a swap write, and goes on with what it has written.

        Returns:
            Whether the session is at work again: not where a successor is ready, or another hub was accepted.
        """
        self._commit_all(pipeline)
        epoch, began = self.store.log.epoch, time.monotonic()
        # While it is ours no successor comes between the two.
        if not self._lease.successor.take():
            return False
        self._is_at_work = False
        self._lease.active.release()
        self._is_at_work = wait(self._lease.begin, TURN_S, self._should_stop)
        self._lease.successor.release()
        if not self._is_at_work:
            return False
        self.store.open(self._tails)
        if pipeline.failure is None:
            pipeline.know(self.store.remembered(self._references.reach).known)
        self._observer.gave_turn(time.monotonic() - began)
        return self.store.log.epoch == epoch

    def _maintain_when_due(self, pipeline: Pipeline, day: date) -> None:
        is_due = time.monotonic() - self._maintained_at > MAINTAIN_EVERY_S
        is_useful = is_due and self._committed_at > self._maintained_at and not pipeline.is_maintaining
        if is_useful and not self._lease.turn.is_held_elsewhere():
            self._maintained_at = time.monotonic()
            pipeline.begin_maintaining(day)

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
            before = last - len(each.bodies)
            self._note_expired(before - self._pulled.get(each.partition, before) if self._is_gapless else each.expired)
            self._pulled[each.partition] = last
        return to_events(pulled, self._last_pulled_at, self.store.log.epoch)

    def _commit_when_due(self, pipeline: Pipeline, *, is_last: bool) -> None:
        limits = self._limits
        is_full = pipeline.waiting_readings >= limits.commit_readings or pipeline.waiting_bytes >= COMMIT_BYTES
        is_late = is_last or time.monotonic() - self._committed_at >= limits.commit_interval_s
        is_late |= self._is_commit_wanted
        self._end_work(pipeline, wait=is_full or is_last)
        if pipeline.is_at_work:
            return
        # Where the tables cannot be written, nothing could be noted of what is sent.
        alarms_wait = self._alarm_outlet is not None and self._alarm_outlet.is_sending_due
        is_sending_due = pipeline.failure is None and (self._outlet.is_sending_due or alarms_wait)
        is_refused = self._outlet.failure is not None and self._outlet.is_sending_due
        if is_sending_due and (is_refused or alarms_wait):
            # What the outlets refused must be stored before the hubs are tried again: it is sent from the tables.
            self._commit_all(pipeline)
            if is_refused:
                self._outlet.try_again()
            pipeline.begin_sending()
        elif pipeline.is_waiting and (is_full or is_late):
            pipeline.begin_commit()
            self._committed_at, self._is_commit_wanted = time.monotonic(), False
        elif is_sending_due:
            pipeline.begin_sending()

    def _commit_all(self, pipeline: Pipeline) -> None:
        self._end_work(pipeline, wait=True)
        if pipeline.is_waiting:
            pipeline.begin_commit()
            self._end_work(pipeline, wait=True)

    def _send_the_rest(self, pipeline: Pipeline) -> None:
        """Offers waiting alerts once more at the end; a drain sends all of them, for no session may follow."""
        self._outlet.try_again()
        while pipeline.failure is None and self._is_sending_left() and not self._should_stop():
            pipeline.begin_sending()
            self._end_work(pipeline, wait=True)
            if self._outlet.failure is not None or not self._limits.until_caught_up:
                break

    def _is_sending_left(self) -> bool:
        return bool(self.store.waiting) or (self._alarm_outlet is not None and self._alarm_outlet.is_sending_due)

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
        if self._alarm_outlet is not None and self._alarm_outlet.waits:
            return str(self._alarm_outlet.failure or "What happened to alarms is still being sent.")
        return "Alerts of an outage are still being sent." if self.store.waiting else None

    def _is_done(self, pipeline: Pipeline, idle_since: float, silence: "_Silence") -> bool:
        idle_s = time.monotonic() - idle_since
        if self._limits.until_caught_up:
            patience = 0.0 if self._has_reached_tails() else self._limits.trigger_s
        elif math.isinf(patience := self._limits.idle_timeout_s):
            return silence.is_stalled(idle_s, self._pulled)
        if idle_s < patience:
            return False
        if not self._limits.until_caught_up:
            # A session whose alerts wait does not end, because it offers them again also while no reading comes.
            # Whether those of the last micro-batch wait is known when it is stored.
            if not self.store.waiting:
                self._commit_all(pipeline)
            if pipeline.failure is None and self.store.waiting:
                return False
        if idle_s > max(patience, STALLED_AFTER_S):
            return True
        # Silence may also mean that the connection is not up yet.
        self._tails = self._source.state().tails
        return self._has_reached_tails()

    def _has_reached_tails(self) -> bool:
        """Whether all is pulled that the hub was last seen to hold."""
        return _is_reached(self._tails, self._pulled)


def _act(learned: Learned, now: int, alarming: Alarming) -> Folded:
    return alarming.act(learned.actions, now, learned.reached, learned.before)


def _tick(until: int, busy: frozenset[tuple[int, int]], alarming: Alarming) -> Folded:
    return alarming.tick(until, busy)


def _epoch_us(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


class _Prepared(NamedTuple):
    """What a successor has ready.

    Attributes:
        remembered: what it knows of the tables; None where one could not be read.
        receiver: opened.
        epoch: of the hub that the stream was read from then.
    """

    remembered: Remembered | None
    receiver: Receiver
    epoch: int


class _Silence:
    """Looks whether a silent hub is ahead, in the background: an answer takes seconds, and an event may come first."""

    def __init__(self, source: EventSource) -> None:
        self._source = source
        self._look: Background[None, HubState] | None = None
        self._looked_after_s = 0.0
        self._tails: Mapping[int, Tail] = {}

    def is_stalled(self, idle_s: float, pulled: Mapping[int, int]) -> bool:
        """Whether the hub held more than was pulled when it was last asked; it is asked again and again."""
        # What the hub told at the last call has had time to arrive.
        tails, self._tails = self._tails, {}
        if idle_s > STALLED_AFTER_S and not _is_reached(tails, pulled):
            return True
        if self._look is not None and not self._look.is_alive:
            look, self._look = self._look, None
            with suppress(HubUnavailableError, TimeoutError):
                [hub] = look.results(0.0)
                self._tails = hub.tails
        if idle_s < self._looked_after_s:
            self._looked_after_s = 0.0
        if self._look is None and idle_s - self._looked_after_s > STALLED_AFTER_S:
            self._looked_after_s = idle_s
            self._look = Background(lambda _: self._source.state(), [None], "look at a silent hub")
        return False


def _is_reached(tails: Mapping[int, Tail], pulled: Mapping[int, int]) -> bool:
    """Whether all is pulled that a hub held."""
    return all(tail.last < tail.first or pulled.get(partition, -1) >= tail.last for partition, tail in tails.items())


def identified(source: EventSource, stream: str, hub: HubState, store: StreamStore) -> HubState:
    """The hub, known to be the one that bronze was read from.

    Raises:
        HubRecreatedError: it is not.
        HubUnavailableError: it cannot be asked.
    """
    try:
        check_identity(source.name, stream, hub, store)
    except HubRecreatedError:
        # A session may have pulled and stored events since it was asked, so that it seems to be too short.
        hub = source.state()
        check_identity(source.name, stream, hub, store)
    return hub


def _looked(pulled: Sequence[Pulled], now: datetime) -> tuple[int, float | None]:
    """How many events were pulled, and for how long the oldest of them was in the hub."""
    oldest_ms = min((each.enqueued_ms[0] for each in pulled), default=None)
    oldest_s = None if oldest_ms is None else max(0.0, now.timestamp() - oldest_ms / 1000)
    return sum(len(each.bodies) for each in pulled), oldest_s


def check_identity(name: str, stream: str, hub: HubState, store: StreamStore) -> None:
    """Raises `HubRecreatedError` if the hub cannot be the one that bronze was read from."""
    offsets, known = store.of_hub(store.offsets("bronze")), store.log.hub_identity
    ends = {partition: hub.tails.get(partition, Tail(0, -1)).end for partition in offsets}
    short = [partition for partition, last in offsets.items() if ends[partition] < last]
    if short or (None not in (known, hub.identity) and known != hub.identity):
        where = (
            f"partition {short[0]} ends at {ends[short[0]]} but bronze has {offsets[short[0]]}"
            if short
            else f"its identity is {hub.identity}, that of the hub that bronze was read from is {known}"
        )
        raise HubRecreatedError(
            f"Hub '{name}' was recreated: {where}. Nothing was read from it. If it is to take the place of the "
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
    # A partition that was added while a session ran is not in the state that the session began with.
    lost = {partition: hub.tails[partition].first - 1 for partition in offsets if partition in hub.tails}
    return {partition: last for partition, last in lost.items() if last > offsets[partition]}


def _bounded(counts: Counter[str]) -> Counter[str]:
    """The commonest names; the others are counted together, under no name."""
    if len(counts) <= MAX_UNKNOWN_FIELDS:
        return counts
    kept = Counter(dict(counts.most_common(MAX_UNKNOWN_FIELDS - 1)))
    kept[""] += counts.total() - kept.total()
    return kept
