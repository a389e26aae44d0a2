"""What people did to alarms of a stream, as a session learns of it: looked for beside it, and handed over in order."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread
from typing import NamedTuple

import polars as pl

from assets.alarms.given import Action
from assets.alarms.tables import ACTIONS_TABLE
from assets.stream.contract import Contract
from assets.stream.log import ACTIONS, HubPartition, Offsets, StreamLog, is_beyond
from resources.lake import Lake, LakeTable

LOOK_EVERY_S = 0.3
"""How often it is looked whether the table has grown; that costs a listing."""


class Learned(NamedTuple):
    """Actions in the order in which their hub took them, and how far the table was read before and with them."""

    actions: list[Action]
    before: Offsets
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
        self._log: StreamLog | None = None
        self._version: int | None = None
        self._reached: Offsets | None = None
        self._learned: list[Learned] = []

    @contextmanager
    def looked_for(self, log: StreamLog, failed: Callable[[str, str], None]) -> Iterator[None]:
        """Looks for actions until the block ends; where the table cannot be read, it is looked again.

        Args:
            log: of the stream's tables; that of alarms says what is folded already.
            failed: told of it, once until the table can be read again.
        """
        if self._table is None:
            yield
            return
        self._log = log
        is_over, told = Event(), [False]
        # A session that ends at once must fold what is there.
        self._try(failed, told)

        def run() -> None:
            while not is_over.wait(LOOK_EVERY_S):
                self._try(failed, told)

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

    def _try(self, failed: Callable[[str, str], None], told: list[bool]) -> None:
        try:
            self._look()
            told[0] = False
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of deltalake or Polars is no Exception
            if not told[0] and self._table is not None:
                failed(self._table.name, type(error).__name__)
            told[0] = True

    def _look(self) -> None:
        if self._table is None or self._log is None or (version := self._table.version()) in (None, self._version):
            return
        # Only where it is known what is folded already may anything be learned.
        before = self._folded(self._table, self._log) if self._reached is None else self._reached
        rows = self._table.scan(version).filter(is_beyond(before)).collect()
        last = rows.group_by(pl.col("hub_epoch").fill_null(0), "partition").agg(pl.col("sequence_number").max())
        reached = {HubPartition(epoch, number): most for epoch, number, most in last.iter_rows()}
        self._reached, self._version = before | reached, version
        if reached:
            actions = [*_actions(rows.filter(pl.col("stream") == self._stream))]
            with self._lock:
                self._learned.append(Learned(actions, before, reached))

    def _folded(self, table: LakeTable, log: StreamLog) -> Offsets:
        """How far actions are folded, by the log of the table of alarms."""
        partitions, epochs = table.newest("partition") or 0, table.newest("hub_epoch") or 0
        places = [HubPartition(epoch, number) for epoch in range(epochs + 1) for number in range(partitions + 1)]
        ids = {log.id(f"{ACTIONS}{place.name}"): place for place in places}
        return {ids[name]: last for name, last in log.tables["alarms"].transactions(ids).items()}


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
            row["seen_index"],
        )
