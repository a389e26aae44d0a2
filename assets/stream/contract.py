"""What a stream declares: its payload, its tables' rows, its keys, its windows and its rules.

Only declarations. How a body becomes rows is in `decode` and `process`, what is committed when in `session`.
"""

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, get_args

import dataframely as dy
import msgspec
import polars as pl

from assets import columns
from assets.alarms.tables import alarms_of
from assets.bitemporal import AsOfTexts
from assets.stream.spans import Forecast, Span
from resources.table import Table, View

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""An integer that a Delta table can hold."""

Comparison = Literal["above", "below", "at_least", "at_most"]
Severity = Literal["info", "warning", "urgent"]

Utc = pl.Datetime("us", "UTC")
utc = columns.utc

MICROSECOND = timedelta(microseconds=1)
"""The resolution of instants."""

ALERTS_HUB, ALARMS_HUB = "alerts", "alarms"
"""What is published: alerts, and what happens to alarms."""

FUTURE_TOLERANCE = timedelta(minutes=10)
"""How far a reading's own time may be ahead of its receipt."""


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
POSITION = ("hub_epoch", "partition", "sequence_number", "event_index")
"""The key of a reading's place in bronze."""
ALERT_COLUMNS = frozenset({"alert_id", "rule", "rule_version", "severity", "threshold", "is_revision"})
MAX_AVERAGED = 1e9
"""The largest value, of either sign, that a window averages: sums of millionths must fit into 64 bits."""


NUMBERS: tuple[pl.DataType, ...] = (pl.Int64(), pl.Float64())
"""The types that can be averaged and compared with a threshold."""


SILENT_MINUTES = "silent_minutes"
"""What a rule about silence compares: for how long no reading came. No reading has it, so no alert is raised by it."""
SILENT_WITHIN = (1.0, 7 * 24 * 60.0)
"""Between how many minutes a threshold of silence must lie."""


class ContractError(ValueError):
    """The declaration of a stream contradicts itself."""


@dataclass(frozen=True)
class Window:
    """A trailing mean in event time: over (t - length, t] of all readings known at evaluation, t included.

    A reading without a value is passed over. The mean is null where no reading in the window has a value.

    Attributes:
        name: the column that holds the mean.
        column: the silver column to average, Int64 or Float64; a reading whose value is not finite or beyond
            `MAX_AVERAGED` goes to quarantine.
        length: how far the window reaches back.
    """

    name: str
    column: str
    length: timedelta


@dataclass(frozen=True)
class Last:
    """The last known value of a column in event time, within (t - length, t] of all readings known at evaluation.

    It is null where no reading in the window has a value. The column `age_name` says how old the value is, in seconds.

    Attributes:
        name: the column that holds the value.
        column: the silver column to carry forward, of any type.
        length: how far the window reaches back.
        of_equals: which value counts where several readings of one instant have one. Their order of arrival cannot
            decide, since it is not known of stored readings.
    """

    name: str
    column: str
    length: timedelta
    of_equals: Literal["lowest", "highest"] = "lowest"

    @property
    def age_name(self) -> str:
        """The column that holds the age of the value."""
        return f"{self.name}_age_s"


@dataclass(frozen=True)
class Score:
    """Columns that follow from each reading's silver columns, means and last values, such as a clinical score.

    Attributes:
        columns: the names and types of what is computed.
        compute: rows with silver columns, means and last values to rows with these columns, in the same order. It is
            pure and looks at each row by itself.
    """

    columns: Mapping[str, pl.DataType]
    compute: Callable[[pl.DataFrame], pl.DataFrame]

    def of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The score of each row.

        Raises:
            ContractError: it has other columns than are declared.
        """
        computed = self.compute(rows)
        if missing := [name for name in self.columns if name not in computed.columns]:
            raise ContractError(f"a score computes no {', '.join(missing)}")
        scores = computed[list(self.columns)]
        if scores.schema != pl.Schema(self.columns) or scores.height != rows.height:
            raise ContractError("a score computes columns of other types than are declared, or other rows")
        return scores


@dataclass(frozen=True)
class Rule:
    """One condition on a column; a reading that meets it raises an alert, unless a second column says otherwise.

    Attributes:
        id: the rule's name in alerts. It is part of the alert's id, so no other stream with the same entities has it.
        version: raised with every change, part of the alert's id.
        column: a silver column, a window or a column of a score; Int64 or Float64.
        comparison: ``above`` and ``below`` are strict; ``at_least`` and ``at_most`` include the threshold.
        threshold: in the column's unit.
        severity: ``info``, ``warning`` or ``urgent``.
        unless: a Boolean column of the same kinds. Where it is true the rule is not broken; unknown counts as false.
        cause: what the rule is about, if it shares that with others that are its levels.
        clear_threshold: the value beyond which an alarm that the rule raised may end; by default the threshold.
    """

    id: str
    column: str
    comparison: Comparison
    threshold: float
    severity: Severity
    version: int = 1
    unless: str | None = None
    cause: str | None = None
    clear_threshold: float | None = None

    @property
    def about(self) -> str:
        """The cause of its alarms."""
        return self.cause or self.id

    @property
    def is_downward(self) -> bool:
        """Whether lower values are worse."""
        return self.comparison in ("below", "at_most")

    def compares(self, values: pl.Series, thresholds: float | pl.Series) -> pl.Series:
        """Whether each value is beyond the threshold; null where it is unknown."""
        return _COMPARE[self.comparison](values, thresholds)

    def is_broken(
        self, rows: pl.DataFrame, thresholds: pl.Series | None = None, present: str | None = None
    ) -> pl.Series:
        """Whether each row breaks the rule; one whose column is unknown does not.

        Args:
            rows: readings with their windows and scores.
            thresholds: for each row; by default the rule's own.
            present: of a forecast the column that it foretells: where that is beyond already the rule is not broken.
        """
        limit = self.threshold if thresholds is None else thresholds
        is_broken = _if_known(self.compares(rows[self.column], limit))
        if present is not None:
            is_broken &= ~_if_known(self.compares(rows[present], limit))
        return is_broken if self.unless is None else is_broken & ~rows[self.unless].fill_null(False)


def _if_known(is_so: pl.Series) -> pl.Series:
    return is_so.fill_null(False) if is_so.has_nulls() else is_so


@dataclass(frozen=True)
class Alarms:
    """How alarms of a stream behave, where a rule's version says nothing else; docs/adr/0039 defines each.

    Attributes:
        max_age: how old a reading may be when the hub gets it, to raise or clear an alarm.
        clear_after: how long all rules of the cause must have been clear.
        remind_every: by severity, after how long an alarm that lasts and that nobody acknowledged is told of again.
        escalate_after: by severity, after how long an alarm that nobody acknowledged goes to the next tier.
        silence: the rule about entities of which no reading comes; None for none. It compares `SILENT_MINUTES`.
    """

    max_age: timedelta
    clear_after: timedelta
    remind_every: Mapping[Severity, timedelta] = field(default_factory=dict, hash=False)
    escalate_after: Mapping[Severity, timedelta] = field(default_factory=dict, hash=False)
    silence: Rule | None = None


@dataclass(frozen=True)
class Derived:
    """A column that follows from the version of a reference table that holds, and from the reading's time.

    Attributes:
        columns: of the reference table.
        compute: rows with these columns and `measured_at` to one value for each, in the same order; the columns are
            null where no version holds. It is pure and looks at each row by itself.
    """

    columns: tuple[str, ...]
    compute: Callable[[pl.DataFrame], pl.Series]


@dataclass(frozen=True)
class Enrichment:
    """Columns of silver, and of alerts where they declare them, that a reference table knows of each reading.

    The version counts that held at `measured_at`, by what was known when the reading was pulled. Where none does, the
    columns are null. Reference tables have the columns of `assets.bitemporal`.

    Attributes:
        table: the reference table.
        key: the Int64 of silver by whose value things are found; the reference table's key has the same name.
        columns: for each column of silver the reference table's column, or how it is derived.
    """

    table: Table
    key: str
    columns: Mapping[str, str | Derived] = field(hash=False)

    @property
    def sources(self) -> set[str]:
        """The columns of the reference table that are read."""
        taken = (each.columns if isinstance(each, Derived) else (each,) for each in self.columns.values())
        return {name for names in taken for name in names}


@dataclass(frozen=True)
class RuleTable:
    """A table of versions of rules, which override a contract's rules for some subjects and times of day, or add some.

    Its scopes are ``all``, ``group:<name>`` and ``<scope>:<id>``. Groups and the time zone of a subject are those that
    held at `measured_at`, by what was known when the reading was pulled.

    Attributes:
        table: with the columns that `assets.stream.rulebook` reads.
        scope: what a subject is called in scopes.
        subjects: the reference table of the subjects.
        key: the Int64 of silver, and of that table, that names the subject.
        time_zone: the column of that table with the IANA name of the time zone; UTC where nothing is known.
        groups: the column of that table with the names of groups, and `GROUP_SEPARATOR` between them.
    """

    table: Table
    scope: str
    subjects: Table
    key: str
    time_zone: str
    groups: str


GROUP_SEPARATOR = ";"


_BEYOND: Mapping[str, tuple[Comparison, ...]] = MappingProxyType(
    {"below": ("below", "at_most"), "above": ("above", "at_least")}
)
_COMPARE: Mapping[str, Callable[[pl.Series, float | pl.Series], pl.Series]] = MappingProxyType(
    {"above": operator.gt, "below": operator.lt, "at_least": operator.ge, "at_most": operator.le}
)


CHILD_COLUMNS = frozenset(
    {"received_at", "partition", "sequence_number", "event_index", "event_date", "ingest_date", "hub_epoch"}
)
"""What every row of a child table says of the reading that it is part of; four of them name the reading."""


@dataclass(frozen=True)
class Child:
    """A table with a row for each element of a list that a reading holds, such as the drugs of a report.

    Only elements of readings that stand become rows, never those of duplicates.

    Attributes:
        role: what its rows are to the stream; a word of its own.
        name: of the table in silver.
        rows: the table's rows. They have `CHILD_COLUMNS` and, of their own choice, other columns of the reading's
            silver row, the fields of the list's elements, and the element's place.
        column: what `clean` returns besides silver's columns: a list of structs with those fields.
        place: the column that counts a reading's elements from 0.
        count: the column of silver that says how many elements a reading has.
    """

    role: str
    name: str
    rows: type[dy.Schema]
    column: str
    place: str
    count: str

    @cached_property
    def table(self) -> Table:
        """The child table."""
        return Table(f"silver/{self.name}", self.rows, ("ingest_date",))

    def element(self, silver: Collection[str]) -> pl.List:
        """The type of the list: the columns of the rows that neither the reading's silver row has nor the place is."""
        known = {*silver, self.place}
        return pl.List(pl.Struct({name: dtype for name, dtype in self.table.schema.items() if name not in known}))

    def exploded(self, readings: pl.DataFrame) -> pl.DataFrame:
        """The rows of readings with silver's columns and with the list, in their order."""
        schema = self.table.schema
        lists = readings[self.column]
        of_reading = [name for name in schema if name in readings.columns]
        counts = lists.list.len().fill_null(0)
        owners = pl.int_range(readings.height, eager=True).repeat_by(counts).explode().drop_nulls()
        places = pl.int_ranges(counts, eager=True).explode().drop_nulls().cast(pl.Int64).alias(self.place)
        elements = lists.filter(counts > 0).explode().struct.unnest()
        return readings[of_reading][owners].hstack([places]).hstack(elements)[schema.names()]


class ForeignEvents(NamedTuple):
    """Events whose bodies may be in the words of other systems; each column has one entry for an event.

    Attributes:
        numbers: their indexes in the micro-batch.
        bodies: as the hub had them; None where there is none.
        properties, annotations: JSON texts of what senders and transports said about them.
        known_by: up to when versions of reference data count for them, UTC.
    """

    numbers: Sequence[int]
    bodies: Sequence[bytes | None]
    properties: Sequence[str | None]
    annotations: Sequence[str | None]
    known_by: pl.Series


class AdaptedReadings(NamedTuple):
    """Readings of other systems; each column has one entry for a reading.

    Attributes:
        events, indexes: the indexes of their events in the micro-batch, and their positions among the event's records.
        measured_at: their instants, UTC.
        fields: the values of fields of the payload, without the timestamp; null where a reading has none, or the name
            is left out. They are as declared, but for texts that are no Unicode.
    """

    events: Sequence[int]
    indexes: Sequence[int]
    measured_at: pl.Series
    fields: Mapping[str, Sequence[Any] | pl.Series]


class Adapted(NamedTuple):
    """What the records of events become; of each event they are numbered from 0.

    Attributes:
        counts: for each event how many records it has, at least 1; None where nothing in it is foreign.
        readings: measurements of the stream.
        objects: index of the event, position and object of what is in the stream's own words.
        refusals: index of the event, position and reason of what goes to quarantine.
        skipped: index of the event and kind of what is no measurement of the stream.
    """

    counts: Sequence[int | None]
    readings: AdaptedReadings
    objects: Sequence[tuple[int, int, Mapping[str, Any]]]
    refusals: Sequence[tuple[int, int, str]]
    skipped: Sequence[tuple[int, str]]


@dataclass(frozen=True)
class Adaptation:
    """How bodies of other systems become readings of a stream.

    Attributes:
        payload: the contract's payload with fields that only adapted readings have, all optional, and perhaps fewer
            that are required.
        table: the reference table of foreign ids.
        keys: its columns, Strings, that together name a thing.
        markers: an event whose properties or annotations contain one of these texts is adapted although the stream
            could decode its body. Others are adapted only where something in their body cannot be decoded.
        gives_way: reasons for which a record is not refused if all of its body is in the stream's own words.
        adapt: says what the records of events become. It is pure, and a record never depends on other events.
    """

    payload: type[msgspec.Struct]
    table: Table
    keys: tuple[str, ...]
    markers: tuple[str, ...]
    gives_way: frozenset[str]
    adapt: Callable[[ForeignEvents, AsOfTexts | None], Adapted]


@dataclass(frozen=True)
class Contract:
    """The declaration of a stream.

    Attributes:
        stream: the stream's name, which is also its tables' name and its hub's default name.
        payload: the JSON object of one reading; unknown fields are kept in bronze only. From a field `timestamp` the
            engine makes `measured_at`; where there is none, `clean` makes it.
        silver: rows of the silver table.
        alerts: rows of the alerts table.
        keys: with `measured_at` they identify a reading; the entity is one of them. Others may be null, and a null
            equals a null.
        entity: the column whose values have windows and alerts of their own; never null.
        values: what must be equal for a second reading of the same key to be a mere duplicate; a null equals a null.
        clean: decoded payload columns to silver columns; see `assets.stream.process`.
        alert_payload: alert rows to the columns of the JSON that is published.
        windows: trailing means and last known values that scores and rules refer to, and columns for rules of other
            kinds (`assets.stream.spans`), which are computed where a rule compares them.
        scores: what is computed of silver columns and windows, for rules and alerts.
        rules: the conditions that raise alerts.
        silver_name: of the silver table, if not the stream's.
        children: tables for the lists that a reading holds, committed before silver.
        versions: where an entity's readings are versions of one thing, such as a case report, the columns by whose
            greatest values one of them is current; nulls come first. Such readings are few, are looked up on all dates
            at once, and stay in silver whatever retention says. `versions_view` shows which is current.
        enrich: what reference tables know of readings. `clean` does not return these columns.
        adaptation: how bodies of other systems become readings of the stream; without it there are none.
        rule_table: where rules are kept as data; without it the contract's rules hold for all.
        alarms: how the stream's alarms behave; without it the stream has none.
        plausible: for columns that rules compare the lowest and the highest value, between which thresholds must lie.
        max_silence: after how long without a reading the stream counts as silent; None for never.
        commit_every: how long processed readings wait for their commit at most; the shorter, the more files.
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
    windows: tuple[Window | Last | Span, ...] = ()
    scores: tuple[Score, ...] = ()
    rules: tuple[Rule, ...] = ()
    silver_name: str | None = None
    children: tuple[Child, ...] = ()
    versions: tuple[str, ...] = ()
    enrich: tuple[Enrichment, ...] = ()
    adaptation: Adaptation | None = None
    rule_table: RuleTable | None = None
    alarms: Alarms | None = None
    plausible: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)
    max_silence: timedelta | None = timedelta(minutes=15)
    commit_every: timedelta = timedelta(seconds=2)
    lateness: timedelta = timedelta(minutes=10)
    owner: str = "team:data-engineering"
    phi: bool = True

    def __post_init__(self) -> None:
        """Finds mistakes in a declaration when it is loaded, not at the first event.

        Raises:
            ContractError: the message names the stream, the mistake and the remedy.
        """
        silver, derived = self.tables.silver.schema, self.derived
        never_null = set(self.tables.silver.required)
        compared = silver | derived
        needed = (
            ("silver", POSITION_COLUMNS | {*self.keys, *self.values}, set(silver), "declare it in the rows"),
            (
                "alerts",
                POSITION_COLUMNS | ALERT_COLUMNS | {self.entity},
                set(self.alerts.columns()),
                "declare it in the rows",
            ),
            ("the never-null part of silver", {self.entity}, never_null, "declare it with nullable=False"),
            (
                "a window",
                {window.column for window in self.windows if not isinstance(window, Last)},
                _of_types(silver, NUMBERS),
                "average an Int64 or Float64 of silver",
            ),
            (
                "a window",
                {window.column for window in self.windows if isinstance(window, Last)},
                set(silver) - POSITION_COLUMNS,
                "carry forward a column of silver that the engine does not fill",
            ),
            ("silver", {*self.versions}, set(silver), "name columns of it as versions"),
            (
                "a rule",
                {rule.column for rule in self.rules},
                _of_types(compared, NUMBERS),
                "compare an Int64 or Float64 of silver, a window or a score",
            ),
            (
                "a rule",
                {rule.unless for rule in self.rules if rule.unless is not None},
                _of_types(compared, (pl.Boolean(),)),
                "except by a Boolean of silver, a window or a score",
            ),
        )
        of_children = [
            need
            for child in self.children
            for need in (
                (
                    f"the rows of {child.name}",
                    {*CHILD_COLUMNS, self.entity, child.place},
                    set(child.table.schema),
                    "declare it",
                ),
                ("silver", {child.count}, set(silver), f"declare how many {child.role} a reading has"),
            )
        ]
        if self.entity not in self.keys:
            raise ContractError(f"Stream '{self.stream}': the keys lack the entity {self.entity}; make it one of them.")
        for where, names, known, remedy in (*needed, *of_children):
            if missing := sorted(names - known):
                raise ContractError(f"Stream '{self.stream}': {where} lacks {', '.join(missing)}; {remedy}.")
        self._check_spans()
        self._check_enrichments(silver, never_null)
        self._check_rule_table(silver)
        self._check_alarms(silver)

    def _check_spans(self) -> None:
        for span in self.spans.values():
            for mistake in span.mistakes():
                raise ContractError(f"Stream '{self.stream}': window {span.name}: {mistake}.")
        for rule in self.rules:
            if rule.comparison not in self.comparisons_of(rule.column):
                raise ContractError(
                    f"Stream '{self.stream}': rule {rule.id}: {rule.column} cannot be {rule.comparison} a threshold; "
                    f"compare {' or '.join(self.comparisons_of(rule.column))}."
                )

    def _check_enrichments(self, silver: pl.Schema, never_null: set[str]) -> None:
        taken = POSITION_COLUMNS | {self.entity, *self.keys, *self.values, *self.versions}
        for each in self.enrich:
            if twice := sorted(each.columns.keys() & taken):
                raise ContractError(
                    f"Stream '{self.stream}': enrich: {twice[0]} is a key, a value, the engine's own or taken from "
                    "another table already; choose another column."
                )
            taken |= each.columns.keys()
            reference = each.table.schema
            copied = {name: source for name, source in each.columns.items() if isinstance(source, str)}
            wrong = (
                (each.columns.keys() - set(silver), "is no column of silver; declare it"),
                (each.columns.keys() & never_null, "is never null in silver; declare it with nullable=True"),
                (each.sources - set(reference), f"is no column of {each.table.name}; name one"),
                ({each.key} - _of_types(silver, (pl.Int64(),)), "is no Int64 of silver; find things by one"),
                ({each.key} - _of_types(reference, (pl.Int64(),)), f"is no Int64 of {each.table.name}; use its key"),
                (
                    {name for name, source in copied.items() if silver.get(name) != reference.get(source)},
                    f"has another type in silver than in {each.table.name}; declare the same",
                ),
            )
            for names, mistake in wrong:
                for name in sorted(names):
                    raise ContractError(f"Stream '{self.stream}': enrich: {name} {mistake}.")

    def _check_rule_table(self, silver: pl.Schema) -> None:
        if (of := self.rule_table) is None:
            return
        subjects = of.subjects.schema
        wrong = (
            ({of.key} - _of_types(silver, (pl.Int64(),)), "is no Int64 of silver; name subjects by one"),
            ({of.key} - _of_types(subjects, (pl.Int64(),)), f"is no Int64 of {of.subjects.name}; use its key"),
            ({of.time_zone, of.groups} - _of_types(subjects, (pl.String(),)), f"is no text of {of.subjects.name}"),
        )
        for names, mistake in wrong:
            for name in sorted(names):
                raise ContractError(f"Stream '{self.stream}': rule_table: {name} {mistake}.")

    def _check_alarms(self, silver: pl.Schema) -> None:
        if self.alarms is None:
            return
        if silver.get(self.entity) != pl.Int64():
            raise ContractError(f"Stream '{self.stream}': alarms: the entity {self.entity} is no Int64; declare one.")
        if (silence := self.alarms.silence) is not None and silence.column != SILENT_MINUTES:
            raise ContractError(
                f"Stream '{self.stream}': alarms: the rule {silence.id} about silence compares {silence.column}; "
                f"compare {SILENT_MINUTES}."
            )
        directions: dict[str, bool] = {}
        for rule in self.rules:
            if directions.setdefault(rule.about, rule.is_downward) != rule.is_downward:
                raise ContractError(
                    f"Stream '{self.stream}': alarms: of the rules of cause {rule.about} some are about low values and "
                    "some about high ones; give them two causes."
                )
            clear = rule.threshold if rule.clear_threshold is None else rule.clear_threshold
            if (clear < rule.threshold) if rule.is_downward else (clear > rule.threshold):
                raise ContractError(
                    f"Stream '{self.stream}': alarms: rule {rule.id} clears at {clear:g}, which is on the wrong side "
                    f"of its threshold {rule.threshold:g}; clear on the other side."
                )

    @cached_property
    def all_rules(self) -> tuple[Rule, ...]:
        """The rules, and the one about silence."""
        silence = None if self.alarms is None else self.alarms.silence
        return self.rules if silence is None else (*self.rules, silence)

    @cached_property
    def trailing(self) -> tuple[Window | Last, ...]:
        """The means and last values, which are computed for every reading."""
        return tuple(window for window in self.windows if isinstance(window, Window | Last))

    @cached_property
    def spans(self) -> Mapping[str, Span]:
        """The other windows by name, which are computed where a rule that holds compares them."""
        return {window.name: window for window in self.windows if not isinstance(window, Window | Last)}

    def kind_of(self, column: str) -> str:
        """What kind a rule is that compares a column."""
        if column == SILENT_MINUTES:
            return "silence"
        if column in self.spans:
            return self.spans[column].kind
        return "window" if any(column == each.name for each in self.trailing if isinstance(each, Window)) else "level"

    def comparisons_of(self, column: str) -> tuple[Comparison, ...]:
        """How rules may compare a column."""
        beyond = self.spans[column].beyond if column in self.spans else None
        return get_args(Comparison) if beyond is None else _BEYOND[beyond]

    def present_of(self, column: str) -> str | None:
        """The column that a forecast foretells; None of other columns."""
        span = self.spans.get(column)
        return span.column if isinstance(span, Forecast) else None

    @cached_property
    def comparable(self) -> frozenset[str]:
        """The columns that rules may compare: measurements, windows and scores."""
        numbers = _of_types(self.tables.silver.schema | self.derived, NUMBERS)
        return frozenset(numbers - POSITION_COLUMNS - {*self.keys, *self.versions})

    def plausible_of(self, column: str) -> tuple[float, float] | None:
        """The lowest and highest value of a column that rules compare; those of most windows are their column's."""
        if column == SILENT_MINUTES:
            return SILENT_WITHIN
        source = {window.name: window.column for window in self.windows}
        bounds = self.plausible.get(source.get(column, column))
        return bounds if bounds is None or column not in self.spans else self.spans[column].bounds(bounds)

    @cached_property
    def enriched(self) -> Mapping[str, pl.DataType]:
        """The columns of silver that come from reference tables, and their types."""
        silver = self.tables.silver.schema
        return {name: silver[name] for each in self.enrich for name in each.columns}

    @cached_property
    def derived(self) -> pl.Schema:
        """The columns that windows and scores add to readings before the rules are evaluated."""
        silver = self.tables.silver.schema
        found: dict[str, pl.DataType] = {}
        for window in self.windows:
            is_last = isinstance(window, Last)
            found[window.name] = silver.get(window.column, pl.Null()) if is_last else pl.Float64()
            found |= {window.age_name: pl.Float64()} if isinstance(window, Last) else {}
        for score in self.scores:
            found |= score.columns
        return pl.Schema(found)

    @cached_property
    def outputs(self) -> tuple["Output", ...]:
        """The tables that processing writes, in the order of their commits: the last one is the commit point."""
        bronze = Table(f"bronze/{self.stream}", BronzeRows, ("ingest_date",))
        quarantine = Table(f"quarantine/{self.stream}", QuarantineRows, ("ingest_date",))
        alerts = Table(f"alerts/{self.stream}", self.alerts, ("ingest_date",))
        silver = Table(f"silver/{self.silver_name or self.stream}", self.silver, ("ingest_date",))
        return (
            Output("bronze", bronze, upstream=f"hub/{self.stream}", is_every_commit=True),
            Output("quarantine", quarantine, upstream=bronze.name),
            Output("alerts", alerts, upstream=silver.name, names_event_dates=True),
            *(Output(child.role, child.table, upstream=silver.name) for child in self.children),
            *(
                []
                if self.alarms is None
                else [Output("alarms", alarms_of(self.stream), silver.name, is_made_anew=False)]
            ),
            Output("silver", silver, upstream=bronze.name, is_every_commit=True, names_event_dates=True),
        )

    def versions_view(self, name: str) -> View:
        """Silver with a column `is_current`, for SQL; `name` is that of the view in silver."""
        silver = self.tables.silver
        order = ", ".join(f'"{column}" DESC NULLS LAST' for column in (*self.versions, *POSITION))
        is_current = f'row_number() OVER (PARTITION BY "{self.entity}" ORDER BY {order}) = 1 AS is_current'
        return View(
            f"silver/{name}",
            f"A row of {silver.sql_name}, and whether it is the current version of its {self.entity}.",
            [silver],
            f"SELECT *, {is_current} FROM {silver.sql_name}",
        )

    @cached_property
    def tables(self) -> "StreamTables":
        """The tables of the outputs, by role."""
        return StreamTables({output.role: output.table for output in self.outputs})

    @property
    def decoded_payload(self) -> type[msgspec.Struct]:
        """The fields that `clean` is given: those of the payload, and those that only adapted readings have."""
        return self.payload if self.adaptation is None else self.adaptation.payload

    @property
    def derived_roles(self) -> tuple[str, ...]:
        """The roles of the tables that can be made anew from bronze, in the order of their commits."""
        return tuple(output.role for output in self.outputs if output.role != "bronze" and output.is_made_anew)

    @property
    def reach(self) -> timedelta:
        """How far back from a reading its means and last values look."""
        return max((window.length for window in self.trailing), default=timedelta(0))

    def reach_of(self, columns: Collection[str]) -> timedelta:
        """How far back from a reading its windows look, where rules compare these columns."""
        return max([self.reach, *(self.spans[name].reach for name in columns if name in self.spans)])


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
        is_made_anew: whether a rebuild makes its rows anew from bronze; alarms are a record of what people were told.
    """

    role: str
    table: Table
    upstream: str
    is_every_commit: bool = False
    names_event_dates: bool = False
    is_made_anew: bool = True


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


def _of_types(schema: Mapping[str, pl.DataType], types: Collection[pl.DataType]) -> set[str]:
    return {name for name, dtype in schema.items() if dtype in types}
