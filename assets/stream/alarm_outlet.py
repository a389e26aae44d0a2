"""Publishes what happens to alarms, in order for each entity: at once, or later from their table.

An alarm is told of step by step, so nothing overtakes what waits: while the hub is away, or while something is still
being sent from the table, all that happens waits there too. A mark in the table's log says which step was told last.
"""

import time
from collections.abc import Callable
from datetime import datetime
from threading import Lock

import polars as pl

from assets.stream.alarming import Folded
from assets.stream.log import FOLDS, TOLD
from assets.stream.outlet import RETRY_EVERY_S
from assets.stream.store import StreamStore
from resources.event_source import HubUnavailableError, Publisher

CHUNK = 5_000
"""How many transitions are sent from the table at once."""
_TOLD_COLUMNS = (
    *("alarm_id", "index", "at", "decided_at", "stream", "cause", "severity", "state", "rule_id", "rule_version"),
    *("value", "threshold", "worst_value", "reading_count", "tier", "raised_at", "measured_at", "until"),
    *("action_id", "actor", "note", "is_late", "is_stale"),
)


def told_of(transitions: pl.DataFrame, entity: str, now: datetime) -> pl.DataFrame:
    """Transitions as events: one JSON object each, and a key by which those of an entity stay in order.

    Args:
        transitions: rows of the table of alarms.
        entity: what the stream calls its entities.
        now: `age_s` says how long before this instant the transition happened.
    """
    age = (pl.lit(now) - pl.col("at")).dt.total_milliseconds() / 1000
    fields = pl.struct(
        "alarm_id",
        "index",
        pl.col("kind").alias("transition"),
        pl.col("entity").alias(entity),
        *_TOLD_COLUMNS[2:],
        age_s=age,
    )
    key = pl.coalesce(pl.col("entity").cast(pl.String), pl.col("alarm_id"))
    return transitions.select(body=fields.struct.json_encode(), key=key)


class AlarmOutlet:
    """Publishes what happens to the alarms of one session.

    Args:
        store: the stream's tables.
        publisher: the hub of alarms; without one nothing is published, and nothing waits.
        clock: the time of day, UTC.
    """

    def __init__(self, store: StreamStore, publisher: Publisher | None, clock: Callable[[], datetime]) -> None:
        self._store, self._publisher, self._clock = store, publisher, clock
        self._lock = Lock()
        self._told = self._skipped = 0
        self._is_behind = False
        self._tried_at = 0.0
        self.failure: HubUnavailableError | None = None
        """Why transitions wait in the table; None while the hub takes them."""

    def begin(self) -> None:
        """Takes up what an earlier session told, by the log that was read last."""
        self._told, self._skipped = self._store.log.step(TOLD), self._store.log.step(FOLDS)
        self._is_behind = self._publisher is not None and self._told < self._skipped

    @property
    def is_sending_due(self) -> bool:
        """Whether transitions of the table should be sent now, once all that was decided is stored."""
        is_tried = self.failure is not None and time.monotonic() - self._tried_at < RETRY_EVERY_S
        return self._is_behind and not is_tried

    @property
    def waits(self) -> bool:
        """Whether transitions wait in the table."""
        return self._is_behind

    def publish(self, folded: Folded) -> int:
        """Sends transitions; where earlier ones wait in the table, these do too.

        Returns:
            The last step up to which all is told.
        """
        with self._lock:
            if not self._is_behind:
                if self._send(folded.rows):
                    self._told = max(self._told, folded.fold)
                else:
                    self._is_behind = True
            if self._is_behind and not folded.rows["is_update"].all():
                self._skipped = max(self._skipped, folded.fold)
            return self._told

    def send_waiting(self) -> None:
        """Sends transitions that wait in the table, in their order, and notes how far all are sent."""
        log = self._store.log
        stored = log.step(FOLDS)
        waiting = self._store.alarms.scan().filter(pl.col("fold") > self._told, ~pl.col("is_update"))
        rows = waiting.sort("fold", maintain_order=True).collect()
        for first in range(0, rows.height, CHUNK):
            if not self._send(rows.slice(first, CHUNK)):
                return
            rest = rows["fold"].slice(first + CHUNK, 1)
            # A step may go on in the next part.
            self._note(stored if rest.is_empty() else min(stored, rest[0] - 1))
        self._note(stored)
        with self._lock:
            # What was decided meanwhile is not in the table yet.
            self._is_behind = self._skipped > stored

    def _note(self, told: int) -> None:
        if told > self._told:
            with self._lock:
                self._told = told
            self._store.log.set("alarms", {self._store.log.id(TOLD): told})

    def _send(self, rows: pl.DataFrame) -> bool:
        transitions = rows.filter(~pl.col("is_update"))
        if self._publisher is None or transitions.is_empty():
            return True
        try:
            events = told_of(transitions, self._store.contract.entity, self._clock())
            self._publisher.publish(events["body"].cast(pl.Binary).to_list(), events["key"].to_list())
        except HubUnavailableError as error:
            return self._failed(error)
        except Exception as error:
            # Data must go on whatever is wrong with the hub or its client.
            return self._failed(HubUnavailableError(f"Alarms could not be published ({type(error).__name__})."))
        self.failure = None
        return True

    def _failed(self, failure: HubUnavailableError) -> bool:
        self.failure, self._tried_at = failure, time.monotonic()
        return False
