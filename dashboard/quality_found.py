"""What the page of data quality shows, as values that the server has without the rest of the system."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True)
class StreamFound:
    """One stream.

    Attributes:
        behind: events that silver does not have; None where the hub cannot be asked.
        problem: why the hub or a table cannot be asked; empty if all can.
        last_pulled_at: the last micro-batch.
        rows: by role of the table.
        open_alarms: how many; None where the stream has none.
    """

    name: str
    behind: int | None
    problem: str
    last_pulled_at: datetime | None
    rows: Mapping[str, int]
    open_alarms: int | None


@dataclass(frozen=True)
class SessionFound:
    """The newest session of a stream; `started_at` is None while it waits."""

    stream: str
    run_id: str
    outcome: str
    started_at: datetime | None
    duration: timedelta


@dataclass(frozen=True)
class Checked:
    """One check of one stream, of today.

    Attributes:
        says: what it means.
    """

    stream: str
    table: str
    name: str
    passed: bool
    is_error: bool
    counts: Mapping[str, float]
    says: str


@dataclass(frozen=True)
class StoredTable:
    """How far one table of the store has come.

    Attributes:
        behind: rows of the lake that it does not have; None for reference data.
        oldest: of these rows.
    """

    table: str
    behind: int | None
    oldest: datetime | None
    rows_written: int
    synced_at: datetime | None
    problem: str


@dataclass(frozen=True)
class StoreFound:
    """The transactional store.

    Attributes:
        problem: why it cannot be asked; empty if it can.
        notifications: how many there are of each state.
    """

    tables: Sequence[StoredTable]
    problem: str
    notifications: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Quality:
    """All of it at one moment. Rows of `quarantine` and `loads` are those of the tables."""

    streams: Sequence[StreamFound]
    sessions: Sequence[SessionFound]
    quarantine: Sequence[dict[str, Any]]
    checks: Sequence[Checked]
    loads: Sequence[dict[str, Any]]
    store: StoreFound
