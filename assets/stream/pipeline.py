"""What a session does with pulled events, each step on a thread of its own: decode, process, publish, commit.

```
 the session's thread      process            publish            commit
 ────────────────────      ─────────          ─────────          ─────────
 pull, decode batch 3  ──▶ batch 2       ──▶  alerts of 1   ──▶  batch 0 into the tables, or waiting alerts out
```

While one micro-batch is processed, the next one is decoded and earlier ones are published and committed, all in order.
Alerts are published the moment they are raised. Before a commit stores alerts, it waits until those of its own
micro-batches were published or refused. There is one commit at a time; beside it a fourth thread makes the tables'
files fewer now and then, which Delta allows. If a commit fails, its micro-batches come first in the
next commit, so that no later ones overtake them. Micro-batches that could not be processed are stored in bronze alone.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import date
from itertools import takewhile
from threading import Thread
from time import time
from typing import NamedTuple, Self

import polars as pl

from assets.stream.alarm_outlet import AlarmOutlet
from assets.stream.alarming import Alarming, Folded
from assets.stream.decode import Decoded
from assets.stream.known import Known
from assets.stream.observer import Committed, Observer, timed
from assets.stream.outlet import AlertOutlet
from assets.stream.process import Outcome, ProcessingError, Processor
from assets.stream.store import Delivery, Events, StreamStore
from resources.event_source import HubState

AHEAD = 2
"""How many decoded micro-batches there may be that are not processed yet."""


class Stored(NamedTuple):
    """What a commit stored: outcomes in all tables, and events in bronze alone."""

    outcomes: list[Outcome]
    events_in_bronze: int


class _MicroBatch(NamedTuple):
    readings: int
    size: int
    bronze: pl.DataFrame
    outcome: Future[Outcome]
    delivery: Future[Delivery]


class Pipeline:
    """The threads of one session; used in a `with`, which waits for them.

    Args:
        processor: what makes rows of events.
        store: the stream's tables.
        outlet: where alerts leave.
        hub: where the events come from.
        failure: why nothing can be processed in this session, so that all goes into bronze alone.
        observer: told what the threads do; by default it only logs.
        alarm_outlet: where what happens to alarms leaves; of streams that have some.
    """

    def __init__(
        self,
        processor: Processor,
        store: StreamStore,
        outlet: AlertOutlet,
        hub: HubState,
        failure: Exception | None = None,
        observer: Observer | None = None,
        alarm_outlet: AlarmOutlet | None = None,
    ) -> None:
        self._alarm_outlet = alarm_outlet
        self._observer = observer or Observer(store.contract.stream)
        self._processor, self._store, self._outlet = processor, store, outlet
        self._hub = hub
        self._processing, self._publishing, self._committing = (
            ThreadPoolExecutor(1, name) for name in ("process", "publish", "commit")
        )
        self._waiting: list[_MicroBatch] = []
        self._in_commit: list[_MicroBatch] = []
        self._at_work: Future[Stored] | None = None
        self._maintenance: Thread | None = None
        self._newest: deque[Future[Outcome]] = deque(maxlen=AHEAD)
        self._stored = 0
        self.failure = failure
        """Why micro-batches cannot be processed any more; None while they can."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for executor in (self._processing, self._publishing, self._committing):
            executor.shutdown()

    @property
    def waiting_readings(self) -> int:
        """Readings that are in no commit yet."""
        return sum(each.readings for each in self._waiting)

    @property
    def is_waiting(self) -> bool:
        """Whether anything is in no commit yet."""
        return bool(self._waiting)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the bodies that are in no commit yet."""
        return sum(each.size for each in self._waiting)

    @property
    def is_at_work(self) -> bool:
        """Whether a commit, or a sending of waiting alerts, was begun that `end_work` has not returned yet."""
        return self._at_work is not None

    def add(self, events: Events) -> None:
        """Decodes a micro-batch, waits while `AHEAD` others are not processed yet, and hands it on."""
        with timed() as decode:
            decoded = self._decoded(events)
        self._observer.took("decode", decode.seconds)
        if len(self._newest) == AHEAD:
            wait([self._newest[0]])
        outcome = self._processing.submit(self._process, events, decoded, self._stored)
        self._newest.append(outcome)
        self._stored = 0
        delivery = self._publishing.submit(self._publish, outcome)
        bronze = self._processor.bronze(events.positions, decoded)
        size = sum(len(body or b"") for body in events.bodies)
        self._waiting.append(_MicroBatch(int(decoded.reading_counts.sum()), size, bronze, outcome, delivery))

    @property
    def next_deadline(self) -> int | None:
        """The instant before which no deadline of an alarm passes, in microseconds; None where there is none."""
        alarming = self._processor.alarming
        return None if alarming is None else alarming.episodes.next_deadline

    def fold(self, work: Callable[[Alarming], Folded]) -> None:
        """Hands on what happens to alarms without readings."""
        outcome = self._processing.submit(self._fold, work)
        delivery = self._publishing.submit(self._publish, outcome)
        nothing = pl.DataFrame(schema=self._store.bronze.table.schema)
        self._waiting.append(_MicroBatch(0, 0, nothing, outcome, delivery))

    def begin_commit(self) -> None:
        """Begins to commit all micro-batches that wait; `end_work` tells the outcome. No commit must be under way."""
        self._in_commit, self._waiting = self._waiting, []
        self._at_work = self._committing.submit(self._write, self._in_commit)

    def begin_sending(self) -> None:
        """Begins to send some waiting alerts; `end_work` tells the outcome. No commit must be under way."""
        self._at_work = self._committing.submit(self._send_waiting)

    @property
    def is_maintaining(self) -> bool:
        """Whether the tables' files are being made fewer. Rows must not be replaced at the same time."""
        return self._maintenance is not None and self._maintenance.is_alive()

    def begin_maintaining(self, day: date) -> None:
        """Begins to make the tables' files fewer, beside commits: it takes seconds."""
        arguments = (self._store, day, self._observer)
        # It ends with the process: a successor, and whoever asked the session to end, must not wait for it.
        self._maintenance = Thread(target=maintain, args=arguments, name="maintain", daemon=True)
        self._maintenance.start()

    def know(self, known: Known) -> None:
        """Goes on with other knowledge of earlier readings. Nothing must wait for a commit."""
        self._processor.known, self._stored = known, 0

    def end_work(self, *, wait: bool) -> Stored | None:
        """What the commit stored that ended since the last call; None if none ended.

        Args:
            wait: wait for the end of the commit that is under way.

        Raises:
            Exception: the commit failed. All of its micro-batches wait again; what it did store is left out next time.
        """
        if self._at_work is None or not (wait or self._at_work.done()):
            return None
        at_work, in_commit = self._at_work, self._in_commit
        self._at_work, self._in_commit = None, []
        try:
            stored = at_work.result()
        except BaseException:
            self._waiting = in_commit + self._waiting
            raise
        self._stored += sum(outcome.is_micro_batch for outcome in stored.outcomes)
        return stored

    def _decoded(self, events: Events) -> Decoded:
        try:
            return self._processor.decode(events.positions, events.bodies)
        except ProcessingError as error:
            self.failure = self.failure or error
            return self._processor.not_decoded(events.bodies)

    def _process(self, events: Events, decoded: Decoded, stored: int) -> Outcome:
        if self.failure is not None:
            # After a micro-batch that failed none may be processed: its readings would be unknown to the later ones.
            # Without the frames of the times before, which would keep all micro-batches in memory.
            raise self.failure.with_traceback(None)
        if stored:
            self._processor.known.mark_stored(stored)
        before = self._processor.known.looked_up
        try:
            with timed() as process:
                outcome = self._processor.process(events.positions, events.bodies, decoded)
        except ProcessingError as error:
            self.failure = error
            raise
        self._observer.took("process", process.seconds)
        if (since := self._processor.known.looked_up.since(before)).scans:
            self._observer.looked_up(since.scans, since.seconds)
        return outcome

    def _fold(self, work: Callable[[Alarming], Folded]) -> Outcome:
        if self.failure is not None:
            raise self.failure.with_traceback(None)
        try:
            return self._processor.folded(work)
        except ProcessingError as error:
            self.failure = error
            raise

    def _publish(self, outcome: Future[Outcome]) -> Delivery:
        alerts, alarms = outcome.result().alerts, outcome.result().alarms
        with timed() as publish:
            delivery = self._outlet.publish(alerts)
        if alerts.height:
            self._observer.took("publish", publish.seconds)
            self._observer.alerts_hub(is_away=not delivery.is_published)
            if delivery.is_published:
                self._observer.published(_ages_s(alerts), delivery.set_aside)
        if self._alarm_outlet is not None and alarms is not None:
            delivery = delivery._replace(told=self._alarm_outlet.publish(alarms))
        return delivery

    def _send_waiting(self) -> Stored:
        if self._outlet.is_sending_due:
            self._outlet.send_waiting()
            self._observer.alerts_hub(is_away=self._outlet.failure is not None)
        if self._alarm_outlet is not None and self._alarm_outlet.is_sending_due:
            self._alarm_outlet.send_waiting()
        return Stored([], 0)

    def _write(self, micro_batches: Sequence[_MicroBatch]) -> Stored:
        good = list(takewhile(lambda each: each.outcome.exception() is None, micro_batches))
        rest = micro_batches[len(good) :]
        outcomes = [each for each in (one.outcome.result() for one in good) if not each.is_empty]
        if not outcomes and not rest:
            return Stored([], 0)
        try:
            with timed() as commit:
                if outcomes:
                    self._store.commit(outcomes, delivery=_joined(good), hub=self._hub)
                if rest:
                    self._store.commit_bronze(pl.concat([each.bronze for each in rest]), self._hub)
        finally:
            # Whoever sees the end of a commit may rely on it that none of its alerts is still being published.
            wait([each.delivery for each in micro_batches])
        stored = Stored(outcomes, sum(each.bronze.height for each in rest))
        self._observer.committed(Committed.of(*stored), commit.seconds)
        return stored


def _ages_s(alerts: pl.DataFrame) -> pl.Series:
    """For each alert, how long ago its event came into the stream's hub."""
    return (time() - alerts["received_at"].dt.epoch("us") / 1e6).clip(lower_bound=0.0)


def maintain(store: StreamStore, day: date, observer: Observer) -> None:
    """Makes the tables' files fewer; files that stay longer, where that fails, are no reason to end a session."""
    failure = None
    with timed() as taken:
        try:
            store.maintain(day)
        except Exception as error:
            failure = type(error).__name__
    observer.maintained(taken.seconds, failure)


def _joined(micro_batches: Sequence[_MicroBatch]) -> Callable[[], Delivery]:
    def delivery() -> Delivery:
        each = [micro_batch.delivery.result() for micro_batch in micro_batches]
        told = max(one.told for one in each)
        return Delivery(all(one.is_published for one in each), sum(one.set_aside for one in each), told)

    return delivery
