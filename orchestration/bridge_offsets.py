"""How far a bridge has read its source: a table of the lake with marks in its log.

They are set after the hubs have the messages, so a source may be read again from a little before: what was published
twice counts once.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import dataframely as dy
import polars as pl

from assets.stream.contract import utc
from resources.lake import Lake
from resources.table import Table


class BridgeStarts(dy.Schema):
    """One start of a bridge. Key: bridge, started_at.

    How far it has come since is in the table's log, as marks.
    """

    bridge = dy.String(nullable=False)
    started_at = utc()
    started_on = dy.Date(nullable=False)
    partitions = dy.Int64(nullable=False)


BRIDGES = Table("bridges/starts", BridgeStarts, partition_by=("started_on",))
_NO_ROWS = pl.DataFrame(schema=BRIDGES.schema)
MAINTAIN_EVERY = 500
"""Commits after which the table's log is made short again; a commit takes 2 s at least."""


class BridgeOffsets:
    """The marks of one bridge, for one process at a time.

    Args:
        lake: where they are; the table is created by `open`.
        bridge: its name.
        identity: of the hub that is read: another one is read from its beginning.
    """

    def __init__(self, lake: Lake, bridge: str, identity: int | None) -> None:
        self._table, self._bridge, self._identity = lake.table(BRIDGES), bridge, identity
        self._commits = 0

    def open(self, partitions: int, at: datetime) -> None:
        """Creates the table where it is missing, and adds a row for this start."""
        self._table.ensure()
        row = {"bridge": self._bridge, "started_at": at, "started_on": at.date(), "partitions": partitions}
        self._table.append(pl.DataFrame([row], schema=BRIDGES.schema), transactions={})
        self._maintain()

    def read(self, partitions: list[int]) -> dict[int, int]:
        """The last sequence number that was bridged, of those partitions that have one."""
        names = {self._name(partition): partition for partition in partitions}
        return {names[name]: number for name, number in self._table.transactions(tuple(names)).items()}

    def write(self, reached: Mapping[int, int]) -> None:
        """Notes how far the bridge has come."""
        marks = {self._name(partition): number for partition, number in reached.items()}
        self._table.append(_NO_ROWS, transactions=marks)
        self._commits += 1
        if self._commits % MAINTAIN_EVERY == 0:
            self._maintain()

    def _maintain(self) -> None:
        today = datetime.now(UTC).date()
        self._table.maintain([("started_on", "=", today.isoformat())], today=today)

    def _name(self, partition: int) -> str:
        return f"{self._bridge}/{self._identity}/{partition}"
