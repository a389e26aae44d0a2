"""Alerts that a gold table raises, where many entities together say what no single reading does.

They are rows of a log of changes: its last row of a subject is the subject's state. Alerts are published before they
are stored, so after a crash between the two they are published twice, with the same `alert_id`, and stored once. While
the alerts hub is away nothing is stored, and the next refresh tries again.

The log's own app transactions: ``source/<id>`` is the version of the gold table that was looked at, and ``changes``
counts its rows, which is the fence between two writers.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from assets.stream.outlet import PACKED_ABOVE, packed, send
from resources.event_source import Publisher
from resources.lake import Lake
from resources.table import Table

_CHANGES = "changes"


@dataclass(frozen=True)
class GoldAlerts:
    """The alerts of a gold table.

    Attributes:
        table: the log of changes, whose rows have an `alert_id`.
        source: the gold table.
        changes: rows of the gold table, all rows of the log and the time, to new rows of the log.
        events: new rows of the log to the events to publish, `body` (a JSON object) and `key`; not every row is one.
    """

    table: Table
    source: Table
    changes: Callable[[pl.LazyFrame, pl.DataFrame, datetime], pl.DataFrame]
    events: Callable[[pl.DataFrame], pl.DataFrame]

    def is_pending(self, lake: Lake) -> bool:
        """Whether the gold table was made anew since it was looked at."""
        source = lake.table(self.source)
        if (source_id := source.id()) is None:
            return False
        mark = _mark(source_id)
        return lake.table(self.table).transactions([mark]).get(mark) != source.version()

    def refresh(self, lake: Lake, publisher: Callable[[], AbstractContextManager[Publisher]], now: datetime) -> int:
        """Publishes and stores what changed.

        Args:
            lake: the lake.
            publisher: opens the alerts hub; it is not called where there is nothing to publish.
            now: the time.

        Returns:
            How many alerts were published. Those that are too large for the hub are stored only.

        Raises:
            HubUnavailableError: the alerts hub did not take them; nothing was stored.
            ConcurrentWriteError: another refresh came first; nothing was stored.
        """
        table, source = lake.table(self.table).ensure(), lake.table(self.source)
        if (source_id := source.id()) is None:
            return 0
        version = source.delta().version()
        known = table.transactions([_mark(source_id), _CHANGES])
        changes = self.changes(source.scan(version), table.scan().collect(), now)
        events, set_aside = self.events(changes), 0
        if events.height:
            is_packed = events.height > PACKED_ABOVE
            with publisher() as hub:
                set_aside = send(hub, packed(events) if is_packed else events, is_packed=is_packed)
        marks = {_mark(source_id): version, _CHANGES: known.get(_CHANGES, 0) + changes.height}
        table.append(changes, transactions=marks, expected=known)
        return events.height - set_aside


def _mark(source_id: str) -> str:
    return f"source/{source_id}"
