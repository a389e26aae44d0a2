"""What a stream declares: its payload, its tables' rows, its keys, its windows and its rules.

Only declarations. How a body becomes rows is in `decode` and `process`, what is committed when in `session`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Literal

import dataframely as dy
import msgspec
import polars as pl

from resources.table import Table

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""An integer that a Delta table can hold."""

Severity = Literal["warning", "urgent"]

Utc = pl.Datetime("us", "UTC")

MICROSECOND = timedelta(microseconds=1)
"""The resolution of instants."""

FUTURE_TOLERANCE = timedelta(minutes=10)
"""How far a reading's own time may be ahead of its receipt."""


def utc(*, nullable: bool = False) -> dy.Datetime:
    """The column of an instant: UTC, microseconds."""
    return dy.Datetime(nullable=nullable, time_zone="UTC", time_unit="us")


class BronzeRows(dy.Schema):
    """One event as it came from the hub. Key: hub_epoch, partition, sequence_number.

    `key`, `properties` and `annotations` are what the event brought besides its body, the latter two as JSON text.
    `hub_epoch` counts the hubs that the stream was read from: sequence numbers begin anew with each. It is null in rows
    of a version that knew one hub only, which is the hub 0.
    """

    partition = dy.Int64(nullable=False)
    sequence_number = dy.Int64(nullable=False)
    received_at = utc()
    pulled_at = utc()
    body = dy.String(nullable=True)
    body_bytes = dy.Binary(nullable=True)
    reading_count = dy.Int64(nullable=False)
    ingest_date = dy.Date(nullable=False)
    key = dy.String(nullable=True)
    properties = dy.String(nullable=True)
    annotations = dy.String(nullable=True)
    hub_epoch = dy.Int64(nullable=True)


class QuarantineRows(dy.Schema):
    """One reading that could not enter silver, or one event that holds none.

    Key: hub_epoch, partition, sequence_number, event_index.
    """

    partition = dy.Int64(nullable=False)
    sequence_number = dy.Int64(nullable=False)
    event_index = dy.Int64(nullable=False)
    reason = dy.String(nullable=False)
    received_at = utc()
    body = dy.String(nullable=True)
    body_bytes = dy.Binary(nullable=True)
    ingest_date = dy.Date(nullable=False)
    hub_epoch = dy.Int64(nullable=True)


POSITION_COLUMNS = frozenset(
    {
        "measured_at",
        "received_at",
        "partition",
        "sequence_number",
        "event_index",
        "event_date",
        "ingest_date",
        "hub_epoch",
    }
)
"""What every silver and alert row says of where it comes from and when."""
ALERT_COLUMNS = frozenset({"alert_id", "rule", "rule_version", "severity", "threshold", "is_revision"})
MAX_AVERAGED = 1e9
"""The largest value, of either sign, that a window averages: sums of millionths must fit into 64 bits."""


class ContractError(ValueError):
    """The declaration of a stream contradicts itself."""


@dataclass(frozen=True)
class Window:
    """A trailing mean in event time: over (t - length, t] of all readings known at evaluation, t included.

    Attributes:
        name: the column that holds the mean.
        column: the silver column to average, Int64 or Float64 and never null; a reading whose value is not finite or
            beyond `MAX_AVERAGED` goes to quarantine.
        length: how far the window reaches back.
    """

    name: str
    column: str
    length: timedelta


@dataclass(frozen=True)
class Rule:
    """One condition on a silver or window column; a reading that meets it raises an alert.

    Attributes:
        id: the rule's name in alerts.
        version: raised with every change, part of the alert's id.
        column: a silver column, Int64 or Float64, or the name of a window.
        comparison: ``above`` (strictly) or ``below`` (strictly).
        threshold: in the column's unit.
        severity: ``warning`` or ``urgent``.
    """

    id: str
    column: str
    comparison: Literal["above", "below"]
    threshold: float
    severity: Severity
    version: int = 1

    def is_broken(self, rows: pl.DataFrame) -> pl.Series:
        """Whether each row breaks the rule; one whose column is unknown does not."""
        column = rows[self.column]
        is_broken = column > self.threshold if self.comparison == "above" else column < self.threshold
        return is_broken.fill_null(False) if is_broken.has_nulls() else is_broken


@dataclass(frozen=True)
class Contract:
    """The declaration of a stream.

    Attributes:
        stream: the stream's name, which is also its tables' name and its hub's default name.
        payload: the JSON object of one reading; unknown fields are kept in bronze only.
        silver: rows of the silver table.
        alerts: rows of the alerts table.
        keys: with `measured_at` they identify a reading; the entity is one of them.
        entity: the column whose values have windows and alerts of their own.
        values: what must be equal for a second reading of the same key to be a mere duplicate.
        clean: decoded payload columns to silver columns; see `assets.stream.process`.
        alert_payload: alert rows to the columns of the JSON that is published.
        windows: trailing means that rules refer to.
        rules: the conditions that raise alerts.
        lateness: readings up to this far behind the newest are matched in memory, older ones by a look-up in silver.
        owner: who answers for the tables.
        phi: whether the tables hold data of patients.
    """

    stream: str
    payload: type[msgspec.Struct]
    silver: type[dy.Schema]
    alerts: type[dy.Schema]
    keys: tuple[str, ...]
    entity: str
    values: tuple[str, ...]
    clean: Callable[[pl.DataFrame], pl.DataFrame]
    alert_payload: Callable[[pl.DataFrame], pl.DataFrame]
    windows: tuple[Window, ...] = ()
    rules: tuple[Rule, ...] = ()
    lateness: timedelta = timedelta(minutes=10)
    owner: str = "team:data-engineering"
    phi: bool = True

    def __post_init__(self) -> None:
        """Finds mistakes in a declaration when it is loaded, not at the first event.

        Raises:
            ContractError: the message names the stream, the mistake and the remedy.
        """
        silver, windows = set(self.silver.columns()), {window.name for window in self.windows}
        columns = self.silver.columns().items()
        never_null = {name for name, column in columns if not column.nullable}
        numbers = {name for name, column in columns if isinstance(column, dy.Int64 | dy.Float64)}
        payload = {each.name for each in msgspec.structs.fields(self.payload)}
        needed = (
            ("the payload", {"timestamp"}, payload, "declare `timestamp: float | str`"),
            ("silver", POSITION_COLUMNS | {*self.keys, *self.values}, silver, "declare it in the rows"),
            (
                "alerts",
                POSITION_COLUMNS | ALERT_COLUMNS | {self.entity},
                set(self.alerts.columns()),
                "declare it in the rows",
            ),
            ("the never-null part of silver", set(self.keys), never_null, "declare it with nullable=False"),
            (
                "a window",
                {window.column for window in self.windows},
                numbers & never_null,
                "average an Int64 or Float64 of silver that is never null",
            ),
            (
                "a rule",
                {rule.column for rule in self.rules},
                numbers | windows,
                "compare an Int64 or Float64 of silver or a window",
            ),
        )
        if self.entity not in self.keys:
            raise ContractError(f"Stream '{self.stream}': the keys lack the entity {self.entity}; make it one of them.")
        for where, names, known, remedy in needed:
            if missing := sorted(names - known):
                raise ContractError(f"Stream '{self.stream}': {where} lacks {', '.join(missing)}; {remedy}.")

    @cached_property
    def outputs(self) -> tuple["Output", ...]:
        """The tables that processing writes, in the order of their commits: the last one is the commit point."""
        bronze = Table(f"bronze/{self.stream}", BronzeRows, ("ingest_date",))
        quarantine = Table(f"quarantine/{self.stream}", QuarantineRows, ("ingest_date",))
        alerts = Table(f"alerts/{self.stream}", self.alerts, ("ingest_date",))
        silver = Table(f"silver/{self.stream}", self.silver, ("ingest_date",))
        return (
            Output("bronze", bronze, upstream=f"hub/{self.stream}", is_every_commit=True),
            Output("quarantine", quarantine, upstream=bronze.name),
            Output("alerts", alerts, upstream=silver.name, names_event_dates=True),
            Output("silver", silver, upstream=bronze.name, is_every_commit=True, names_event_dates=True),
        )

    @cached_property
    def tables(self) -> "StreamTables":
        """The tables of the outputs, by role."""
        return StreamTables({output.role: output.table for output in self.outputs})

    @property
    def reach(self) -> timedelta:
        """How far back from a reading its windows look."""
        return max((window.length for window in self.windows), default=timedelta(0))


@dataclass(frozen=True)
class Output:
    """One table that the processing of a stream writes.

    Attributes:
        role: what its rows are to the stream. The engine knows bronze, quarantine, alerts and silver.
        table: the table.
        upstream: the hub or table that its rows are made of, for lineage.
        is_every_commit: whether each commit of micro-batches writes to it, also where it has no rows; its log then
            says how far the stream has come.
        names_event_dates: whether its commits name the event dates that they touch, so that gold and
            reports can follow it.
    """

    role: str
    table: Table
    upstream: str
    is_every_commit: bool = False
    names_event_dates: bool = False


class StreamTables:
    """The tables of a stream by role, in the order in which they are committed."""

    def __init__(self, by_role: Mapping[str, Table]) -> None:
        self._by_role = by_role

    def __iter__(self) -> Iterator[Table]:
        return iter(self._by_role.values())

    def __getitem__(self, role: str) -> Table:
        return self._by_role[role]

    @property
    def bronze(self) -> Table:
        """Events as they came."""
        return self["bronze"]

    @property
    def quarantine(self) -> Table:
        """What could not enter silver."""
        return self["quarantine"]

    @property
    def alerts(self) -> Table:
        """Rules that were broken."""
        return self["alerts"]

    @property
    def silver(self) -> Table:
        """Readings."""
        return self["silver"]
