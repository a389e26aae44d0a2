"""What a session does with pulled events, each step on a thread of its own: decode, process, publish, commit.

While one micro-batch is processed, the next is decoded and the ones before are published and committed, all in order.
Alerts go out the moment they are raised; a commit waits for those of its own micro-batches only, before it stores them.
There is one commit at a time. A commit that failed leaves its micro-batches at the head of those that wait: no later
ones overtake them.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import takewhile
from typing import NamedTuple, Self

from assets.stream.decode import Decoded
from assets.stream.outlet import AlertOutlet
from assets.stream.process import Outcome, Processor
from assets.stream.store import Events, StreamStore

AHEAD = 2
"""How many decoded micro-batches may wait, the one that is being processed among them."""


class _MicroBatch(NamedTuple):
    readings: int
    size: int
    outcome: Future[Outcome]
    is_published: Future[bool]


class Pipeline:
    """The threads of one session; used in a `with`, which waits for them.

    Args:
        processor: what makes rows of events.
        store: the stream's tables.
        outlet: where alerts leave.
        hub_created_at_ms: the identity of the hub that the events come from.
    """

    def __init__(self, processor: Processor, store: StreamStore, outlet: AlertOutlet, hub_created_at_ms: int) -> None:
        self._processor, self._store, self._outlet = processor, store, outlet
        self._hub_created_at_ms = hub_created_at_ms
        self._processing, self._publishing, self._committing = (
            ThreadPoolExecutor(1, name) for name in ("process", "publish", "commit")
        )
        self._waiting: list[_MicroBatch] = []
        self._in_commit: list[_MicroBatch] = []
        self._commit: Future[None] | None = None
        self._newest: deque[Future[Outcome]] = deque(maxlen=AHEAD)
        self._stored = 0

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
    def waiting_bytes(self) -> int:
        """Bytes of the bodies that are in no commit yet."""
        return sum(each.size for each in self._waiting)

    @property
    def is_committing(self) -> bool:
        """Whether a commit was begun whose end was not told yet."""
        return self._commit is not None

    def add(self, events: Events) -> None:
        """Decodes a micro-batch and hands it on; then no more than `AHEAD` are not processed yet.

        Raises:
            Exception: an earlier micro-batch could not be processed.
        """
        decoded = self._processor.decode(events.bodies)
        if len(self._newest) == AHEAD:
            self._newest[0].result()
        before = self._newest[-1] if self._newest else None
        outcome = self._processing.submit(self._process, events, decoded, self._stored, before)
        self._newest.append(outcome)
        self._stored = 0
        is_published = self._publishing.submit(self._publish, outcome)
        size = sum(map(len, events.bodies))
        self._waiting.append(_MicroBatch(int(decoded.reading_counts.sum()), size, outcome, is_published))

    def begin_commit(self) -> None:
        """Begins to commit all that waits; `end_commit` tells how it went. None must be under way."""
        self._in_commit, self._waiting = self._waiting, []
        self._commit = self._committing.submit(self._write, self._in_commit)

    def end_commit(self, *, wait: bool) -> list[Outcome]:
        """What a commit has stored that ended since the last call.

        Raises:
            Exception: the commit failed, or processing did; all of it waits again, and what is stored is left out then.
        """
        if self._commit is None or not (wait or self._commit.done()):
            return []
        commit, in_commit = self._commit, self._in_commit
        self._commit, self._in_commit = None, []
        try:
            commit.result()
        except BaseException:
            self._waiting = in_commit + self._waiting
            raise
        self._stored += len(in_commit)
        return [each.outcome.result() for each in in_commit]

    def _process(self, events: Events, decoded: Decoded, stored: int, before: Future[Outcome] | None) -> Outcome:
        if before is not None:
            # Behind one that failed nothing may be processed: it would lack what that one knows.
            before.result()
        if stored:
            self._processor.known.forget(stored)
        return self._processor.process(events.positions, events.bodies, decoded)

    def _publish(self, outcome: Future[Outcome]) -> bool:
        return self._outlet.publish(outcome.result().alerts)

    def _write(self, micro_batches: Sequence[_MicroBatch]) -> None:
        good = list(takewhile(lambda each: each.outcome.exception() is None, micro_batches))
        try:
            if good:
                self._store.commit(
                    [each.outcome.result() for each in good],
                    are_published=lambda: all(each.is_published.result() for each in good),
                    hub_created_at_ms=self._hub_created_at_ms,
                )
        finally:
            # Of every one: once a commit has ended, nothing of its micro-batches is being published.
            wait([each.is_published for each in micro_batches])
        if len(good) < len(micro_batches):
            micro_batches[len(good)].outcome.result()
