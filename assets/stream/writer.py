"""Publishes and commits what a session has processed, in order, while the session processes the next micro-batches.

Alerts go out the moment they are raised; a commit waits for those of its own micro-batches only. There is one commit
at a time. A commit that failed leaves its micro-batches at the head of those that wait: no later ones overtake them.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

from assets.stream.outlet import AlertOutlet
from assets.stream.process import Outcome
from assets.stream.store import StreamStore


@dataclass(frozen=True)
class _Processed:
    outcome: Outcome
    is_published: Future[bool]


class Writer:
    """The threads that publish and commit; used in a `with`, which waits for both.

    Args:
        store: the stream's tables.
        outlet: where alerts leave.
        hub_created_at_ms: the identity of the hub that the events come from.
    """

    def __init__(self, store: StreamStore, outlet: AlertOutlet, hub_created_at_ms: int) -> None:
        self._store, self._outlet, self._hub_created_at_ms = store, outlet, hub_created_at_ms
        self._publishing = ThreadPoolExecutor(1, "publish alerts")
        self._committing = ThreadPoolExecutor(1, "commit")
        self._waiting: list[_Processed] = []
        self._in_commit: list[_Processed] = []
        self._commit: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._publishing.shutdown()
        self._committing.shutdown()

    @property
    def waiting_readings(self) -> int:
        """Readings that are processed and in no commit yet."""
        return sum(int(each.outcome.bronze["reading_count"].sum()) for each in self._waiting)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the events that are in no commit yet."""
        return sum(int(each.outcome.bronze.estimated_size()) for each in self._waiting)

    def add(self, outcome: Outcome) -> None:
        """Publishes a micro-batch's alerts; its rows wait for the next commit."""
        self._waiting.append(_Processed(outcome, self._publishing.submit(self._outlet.publish, outcome.alerts)))

    def begin_commit(self) -> None:
        """Begins to commit all that waits; `end_commit` tells how it went. None must be under way."""
        self._in_commit, self._waiting = self._waiting, []
        self._commit = self._committing.submit(self._write, self._in_commit)

    def end_commit(self, *, wait: bool) -> int:
        """How many micro-batches were stored by a commit that ended since the last call.

        Raises:
            ConcurrentWriteError, OSError, …: the commit failed; its micro-batches wait again.
        """
        if self._commit is None or not (wait or self._commit.done()):
            return 0
        commit, in_commit = self._commit, self._in_commit
        self._commit, self._in_commit = None, []
        try:
            commit.result()
        except BaseException:
            self._waiting = in_commit + self._waiting
            raise
        return len(in_commit)

    @property
    def is_committing(self) -> bool:
        """Whether a commit was begun whose end was not told yet."""
        return self._commit is not None

    def _write(self, processed: Sequence[_Processed]) -> None:
        # Of every one, also behind one that is not: nothing is being published once a commit has ended.
        taken = [each.is_published.result() for each in processed]
        self._store.commit(
            [each.outcome for each in processed],
            are_published=all(taken),
            hub_created_at_ms=self._hub_created_at_ms,
        )
