"""What people did to alarms of a stream, as a session learns of it: looked for beside it, and handed over in order."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread
from typing import NamedTuple

import polars as pl

from assets.alarms.episodes import Action
from assets.alarms.tables import ACTIONS_TABLE
from assets.stream.contract import Contract
from assets.stream.log import ACTIONS, HubPartition, Offsets, StreamLog, is_beyond
from resources.lake import Lake, LakeTable

LOOK_EVERY_S = 0.3
"""How often it is looked whether the table has grown; that costs a listing."""


class Learned(NamedTuple):
    """Actions in the order in which their hub took them, and how far the table was read with them."""

    actions: list[Action]
    reached: Offsets


class Actions:
    """The actions of a stream's alarms that are not folded yet.

    Args:
        contract: the stream.
        lake: where the table of actions is.
    """

    def __init__(self, contract: Contract, lake: Lake) -> None:
        self._table: LakeTable | None = None if contract.alarms is None else lake.table(ACTIONS_TABLE)
        self._stream, self._lock = contract.stream, Lock()
        self._version: int | None = None
        self._reached: Offsets = {}
        self._learned: list[Learned] = []

    def begin(self, log: StreamLog) -> None:
        """Goes on behind what is folded, by the log of the table of alarms."""
        if self._table is None:
            return
        newest = self._table.newest("partition")
        epochs = self._table.newest("hub_epoch")
        places = [
            HubPartition(epoch, number) for epoch in range((epochs or 0) + 1) for number in range((newest or 0) + 1)
        ]
        ids = {log.id(f"{ACTIONS}{place.name}"): place for place in places}
        found = log.tables["alarms"].transactions(ids)
        # A commit compares what it moves with what is known of the log.
        log.note("alarms", found)
        self._reached = {ids[name]: last for name, last in found.items()}
        # A session that ends at once must fold what is there.
        self._look()

    @contextmanager
    def looked_for(self, failed: Callable[[str, str], None]) -> Iterator[None]:
        """Looks for actions until the block ends; where the table cannot be read, it is looked again.

        Args:
            failed: told of it, once until the table can be read again.
        """
        if self._table is None:
            yield
            return
        is_over, name = Event(), self._table.name

        def run() -> None:
            is_told = False
            while not is_over.wait(LOOK_EVERY_S):
                try:
                    self._look()
                    is_told = False
                except (KeyboardInterrupt, SystemExit):
                    raise
                except BaseException as error:  # a panic of deltalake or Polars is no Exception
                    if not is_told:
                        failed(name, type(error).__name__)
                    is_told = True

        thread = Thread(target=run, name="actions", daemon=True)
        thread.start()
        try:
            yield
        finally:
            # A look that hangs keeps no one: the thread ends with the process.
            is_over.set()

    def take(self) -> list[Learned]:
        """What was learned since the last call."""
        with self._lock:
            learned, self._learned = self._learned, []
        return learned

    def _look(self) -> None:
        if self._table is None or (version := self._table.version()) in (None, self._version):
            return
        rows = self._table.scan(version).filter(is_beyond(self._reached)).collect()
        last = rows.group_by(pl.col("hub_epoch").fill_null(0), "partition").agg(pl.col("sequence_number").max())
        reached = {HubPartition(epoch, number): most for epoch, number, most in last.iter_rows()}
        self._reached = self._reached | reached
        self._version = version
        actions = [*_actions(rows.filter(pl.col("stream") == self._stream))]
        if actions:
            with self._lock:
                self._learned.append(Learned(actions, reached))


def _actions(rows: pl.DataFrame) -> Iterator[Action]:
    order = ["received_at", "hub_epoch", "partition", "sequence_number", "event_index"]
    for row in rows.sort(order).with_columns(pl.col("until", "measured_at").dt.epoch("us")).iter_rows(named=True):
        yield Action(
            row["action_id"],
            row["alarm_id"],
            row["action"],
            row["actor"],
            row["note"],
            row["until"],
            row["measured_at"],
        )
