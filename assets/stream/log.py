"""How far each table of a stream has come, by the app transactions in the tables' own Delta logs.

```
<stream>/3                     the last sequence number of partition 3 that the table contains
<stream>/1.3                   the same of the stream's second hub: each hub after the first has an epoch
<stream>/<kind>/3              a mark of another kind, for instance published/3; see the constants
<stream>/commits               how many commits of sessions and rebuilds the table has seen: the fence between writers
<stream>/has_gaps/1            1 where the numbers of the second hub's events have gaps that are no loss
<stream>/replaced              how often rows of silver were replaced; what a session remembers of them is old then
<stream>/replaced/7            what the seventh of these replaced: the ordinal of an ingest date, or 0 for all dates
<stream>/duplicates/<date>     readings of an ingest date that were dropped as repeats
<stream>/skipped/<date>        records of other systems of an ingest date that are no readings
```

This module names, reads and sets these numbers. `store` and `waiting` decide when they are set and what follows.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date
from typing import NamedTuple

import polars as pl

from assets.stream.contract import Contract
from resources.event_source import HubState
from resources.lake import Lake, LakeTable

OFFSET, EXPIRED = "", "expired/"
PUBLISHED, LIVE, URGENT_TO, OTHERS_TO = "published/", "live/", "urgent_to/", "others_to/"
"""Marks of alerts; `assets.stream.waiting` says what they mean."""
ACTIONS, SILENT = "actions/", "silent/"
"""Marks of alarms: how far what people did is folded, by partition of its hub, and the last silence that was raised."""
KINDS = {
    "bronze": (OFFSET, EXPIRED),
    "alerts": (OFFSET, PUBLISHED, LIVE, URGENT_TO, OTHERS_TO),
    "alarms": (OFFSET, SILENT),
}
"""The kinds of marks that a table's log may hold for each partition; of other tables it holds offsets."""

COMMITS, CREATED_AT, EPOCH, HAS_GAPS, REPLAY, REDERIVED, REPLACED = (
    "commits",
    "created_at",
    "hub_epoch",
    "has_gaps/",
    "replay_due_from",
    "rederived_by",
    "replaced",
)
ALL_DATES = 0
"""In the place of an ingest date: rows of all of them."""
UNKNOWN = -1
"""The identity of a hub that tells none."""
FOLDS, TOLD, SNAPSHOT = "folds", "told", "snapshot"
"""Steps of the fold of alarms: the last one that is stored, that was published, and that stored all open alarms."""
OF_STREAM = {
    "bronze": (COMMITS, CREATED_AT, EPOCH, REDERIVED),
    "alarms": (COMMITS, FOLDS, TOLD, SNAPSHOT),
    "silver": (COMMITS, REPLACED),
}
"""What a table's log holds of the stream as a whole; that of other tables counts commits."""


class HubPartition(NamedTuple):
    """A partition of one of the hubs that the stream was read from, in the order of their epochs."""

    epoch: int
    number: int

    @property
    def name(self) -> str:
        """Its name in app transactions."""
        return f"{self.epoch}.{self.number}" if self.epoch else str(self.number)

    @classmethod
    def named(cls, name: str) -> "HubPartition":
        """The partition of a name."""
        epoch, _, number = name.rpartition(".")
        return cls(int(epoch or 0), int(number))


Offsets = dict[HubPartition, int]
"""For each partition a sequence number."""

Transactions = dict[str, int]

hub_epoch = pl.col("hub_epoch").fill_null(0)
"""The epoch of a row; rows of a version that knew one hub only have none."""


class StreamLog:
    """The app transactions of a stream's tables, as they were when they were last read or written."""

    def __init__(self, contract: Contract, lake: Lake, derived: Lake | None = None) -> None:
        self._stream = contract.stream
        self.tables: dict[str, LakeTable] = {
            each.role: (lake if derived is None or each.role == "bronze" else derived).table(each.table)
            for each in contract.outputs
        }
        self._known: dict[str, Transactions] = {}

    @property
    def is_read(self) -> bool:
        """Whether `read` was called."""
        return bool(self._known)

    def read(self, partitions: Iterable[int], roles: Collection[str] | None = None) -> None:
        """Reads the logs anew, in every epoch for these partitions of a hub.

        Args:
            partitions: their numbers.
            roles: the tables whose logs are read; by default all of them. Of others nothing is known afterwards.
        """
        self._known = {}
        found = self.tables["bronze"].transactions([self.id(EPOCH)])
        epochs = range(found.get(self.id(EPOCH), 0) + 1)
        pairs = [HubPartition(epoch, number) for number in partitions for epoch in epochs]
        known = {}
        for role, table in self.tables.items():
            if roles is not None and role not in roles:
                continue
            # Each id is a look into the log of its own, so only those are asked for that may be there.
            ids = [self.id(what) for what in OF_STREAM.get(role, (COMMITS,))]
            if role == "bronze":
                ids += [self.id(f"{HAS_GAPS}{epoch}") for epoch in epochs]
            ids += [self.id(f"{kind}{pair.name}") for kind in KINDS.get(role, (OFFSET,)) for pair in pairs]
            known[role] = table.transactions(ids)
        self._known = known

    def of(self, role: str) -> Transactions:
        """All that is known of a table's log."""
        return self._known[role]

    def note(self, role: str, written: Mapping[str, int]) -> None:
        """Remembers what was just committed. It makes a new dictionary, since another thread may read the old one."""
        self._known[role] = self._known[role] | dict(written)

    def id(self, what: int | str) -> str:
        """An app transaction's id."""
        return f"{self._stream}/{what}"

    def duplicates_id(self, day: date) -> str:
        """The id under which silver's log counts the duplicates of an ingest date."""
        return self.id(f"duplicates/{day.isoformat()}")

    def skipped_id(self, day: date) -> str:
        """The id under which silver's log counts the skipped records of an ingest date."""
        return self.id(f"skipped/{day.isoformat()}")

    def set_aside_id(self, day: date) -> str:
        """The id under which the log of alerts counts those of an ingest date that were set aside."""
        return self.id(f"set_aside/{day.isoformat()}")

    @property
    def epoch(self) -> int:
        """The epoch of the hub that the stream is read from now."""
        return self._known["bronze"].get(self.id(EPOCH), 0)

    @property
    def hub_identity(self) -> int | None:
        """The identity of that hub; None before the first commit, and where the hub told none."""
        found = self._known["bronze"].get(self.id(CREATED_AT), UNKNOWN)
        return None if found == UNKNOWN else found

    def has_gaps(self, epoch: int) -> bool:
        """Whether missing numbers between the events of a hub are no loss."""
        return bool(self._known["bronze"].get(self.id(f"{HAS_GAPS}{epoch}")))

    def next_commit(self, role: str) -> Transactions:
        """The number that every commit raises, so that two writers notice each other whatever partitions they write."""
        return {self.id(COMMITS): self._known[role].get(self.id(COMMITS), 0) + 1}

    def next_replacement(self, day: date | None) -> Transactions:
        """What silver's log says of a replacement: its number, and the ingest date of the rows; None for all dates."""
        count = self.replacements + 1
        return {self.id(REPLACED): count, self.replaced_id(count): day.toordinal() if day else ALL_DATES}

    def replaced_id(self, count: int) -> str:
        """The id under which silver's log says what the so manieth replacement replaced."""
        return self.id(f"{REPLACED}/{count}")

    @property
    def replacements(self) -> int:
        """How often rows of silver were replaced."""
        return self._known["silver"].get(self.id(REPLACED), 0)

    def step(self, what: str) -> int:
        """One of the steps of the fold of alarms; 0 before the first."""
        return self._known["alarms"].get(self.id(what), 0)

    def marks(self, role: str, kind: str = OFFSET) -> Offsets:
        """All marks of a kind in a table's log."""
        return dict(self._marks(role, kind))

    def offsets(self, role: str) -> Offsets:
        """How far a table has come: by its own log and, for those committed before it, by silver's."""
        own, silver = self.marks(role), self.marks("silver")
        if role == "bronze":
            return own
        return {partition: max(own.get(partition, -1), silver.get(partition, -1)) for partition in own | silver}

    def reaching(self, role: str, reached: Offsets, kind: str = OFFSET) -> Transactions:
        """The transactions that set marks, of those marks that would go up."""
        ids = {self.id(f"{kind}{partition.name}"): last for partition, last in reached.items()}
        return {app_id: last for app_id, last in ids.items() if last > self._known[role].get(app_id, -1)}

    def numbered(self, kind: str, marks: Offsets) -> Transactions:
        """The transactions that set marks, also where a mark goes down."""
        return {self.id(f"{kind}{partition.name}"): last for partition, last in marks.items()}

    def set(self, role: str, transactions: Mapping[str, int]) -> None:
        """Commits app transactions without rows.

        Raises:
            ConcurrentWriteError: another writer moved the table's log; nothing was written.
        """
        if transactions:
            table = self.tables[role]
            empty = pl.DataFrame(schema=table.table.schema)
            table.append(empty, transactions=transactions, expected=self._known[role])
            self.note(role, transactions)

    def of_hub(self, hub: HubState, epoch: int) -> Transactions:
        """The transactions that say which hub events come from, and whether their numbers have gaps."""
        identity = {} if hub.identity is None else {self.id(CREATED_AT): hub.identity}
        return identity if hub.is_gapless else identity | {self.id(f"{HAS_GAPS}{epoch}"): 1}

    def accept(self, hub: HubState) -> int:
        """Goes on with another hub, from its beginning. A session that runs is refused at its next commit.

        Returns:
            The new epoch.
        """
        epoch = self.epoch + 1
        # The identity of the hub before must not stay where the new one tells none.
        forgotten = {self.id(CREATED_AT): UNKNOWN}
        accepted = {self.id(EPOCH): epoch} | forgotten | self.of_hub(hub, epoch)
        self.set("bronze", self.next_commit("bronze") | accepted)
        return epoch

    def _marks(self, role: str, kind: str) -> Iterator[tuple[HubPartition, int]]:
        prefix = self.id(kind)
        for app_id, last in self._known[role].items():
            name = app_id.removeprefix(prefix) if app_id.startswith(prefix) else ""
            if name.replace(".", "").isdigit():
                yield HubPartition.named(name), last


def partition_of() -> pl.Expr:
    """One number for a row's `HubPartition`, to compare with `number_of`."""
    return hub_epoch * _PARTITIONS + pl.col("partition")


def number_of(partition: HubPartition) -> int:
    """The number that `partition_of` gives its rows."""
    return partition.epoch * _PARTITIONS + partition.number


def is_beyond(offsets: Offsets) -> pl.Expr:
    """Whether a row's event comes after the offset of its partition; true in a partition without one."""
    numbers = {number_of(partition): last for partition, last in offsets.items()}
    last = partition_of().replace_strict(numbers, default=-1, return_dtype=pl.Int64) if numbers else pl.lit(-1)
    return pl.col("sequence_number") > last


def is_in(partition: HubPartition, *, after: int, to: int) -> pl.Expr:
    """Whether a row's event is one of this partition, with a number above `after` and not above `to`."""
    number = pl.col("sequence_number")
    is_of_partition = (hub_epoch == partition.epoch) & (pl.col("partition") == partition.number)
    return is_of_partition & (number > after) & (number <= to)


_PARTITIONS = 1 << 32  # more than any hub has
