"""One micro-batch: raw events and what is known of earlier ones, to the rows of four tables.

The first of two readings with one key stands, in the order of (pulled_at, partition, sequence_number, event_index).
Bronze keeps that order, so processing bronze again gives the rows that the session gave.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import polars as pl
import polars_hash as plh
from numpy.typing import NDArray

from assets.discretion import T, without_text
from assets.stream.contract import FUTURE_TOLERANCE, MAX_AVERAGED, POSITION_COLUMNS, Contract, ContractError, Utc
from assets.stream.decode import Body, Decoded, Decoder
from assets.stream.instants import instants
from assets.stream.isolation import isolated
from assets.stream.known import Known
from assets.stream.windows import trailing_means

ORDER = ["pulled_at", "partition", "sequence_number"]
POSITIONS = pl.Schema(
    {
        "partition": pl.Int64(),
        "sequence_number": pl.Int64(),
        "received_at": pl.Datetime("us", "UTC"),
        "pulled_at": pl.Datetime("us", "UTC"),
        "hub_epoch": pl.Int64(),
        "key": pl.String(),
        "properties": pl.String(),
        "annotations": pl.String(),
    }
)
"""What an event brings besides its body."""
_PLACE = ["event", "event_index"]
_ENGINE_COLUMNS = POSITION_COLUMNS | {"event", "pulled_at"}
DUPLICATES = pl.Schema({"ingest_date": pl.Date(), "duplicates": pl.get_index_type()})

MAX_REPEATED_BODY_BYTES, MAX_REPEATED_BODIES = 4096, 10
"""How large a body may be that quarantine repeats, and in how many rows of an event; the first row always has it."""


@dataclass(frozen=True)
class Outcome:
    """The rows of one micro-batch.

    Attributes:
        rows: by role, the rows of each of the stream's outputs.
        duplicates: for each ingest date, readings that repeat an earlier one and were dropped.
        unknown_fields: how often each undeclared field was seen.
    """

    rows: Mapping[str, pl.DataFrame]
    duplicates: pl.DataFrame
    unknown_fields: Counter[str]

    @property
    def bronze(self) -> pl.DataFrame:
        """Events as they came."""
        return self.rows["bronze"]

    @property
    def silver(self) -> pl.DataFrame:
        """Readings that are the first with their key."""
        return self.rows["silver"]

    @property
    def quarantine(self) -> pl.DataFrame:
        """What could not enter silver."""
        return self.rows["quarantine"]

    @property
    def alerts(self) -> pl.DataFrame:
        """Rules that were broken."""
        return self.rows["alerts"]


class ProcessingError(RuntimeError):
    """Events could not be processed; they are in bronze, and the next session tries again."""

    @classmethod
    def of(cls, stream: str, told: str) -> "ProcessingError":
        """With what may be told of the original error."""
        return cls(
            f"{stream}: processing failed with {told}. The events are kept in bronze, and nothing is lost; the text of "
            "the error is left out, since it may quote a reading. Mend the code and start a session, or "
            f"`pulselake drain {stream}`: it goes on from bronze."
        )


class Processor:
    """Processes the micro-batches of one stream, in order."""

    def __init__(self, contract: Contract, known: Known) -> None:
        self.known = known
        self._contract = contract
        self._decoder = Decoder(contract.payload)
        self._schemas = {output.role: output.table.schema for output in contract.outputs}
        self._cleaned = _cleaned_schema(contract)
        self._rules = _rules(contract)
        windows = {window.name for window in contract.windows}
        # What one value can break, without the mean of others.
        self._is_of_reading = np.array([rule.column not in windows for rule in contract.rules], bool)
        self._is_urgent = np.array([rule.severity == "urgent" for rule in contract.rules], bool)

    def decode(self, bodies: Sequence[Body]) -> Decoded:
        """The first step of `process`, which needs nothing that is known of earlier events.

        Raises:
            ProcessingError: as for `process`.
        """
        return self._without_text(lambda: self._decoder.decode(bodies))

    def not_decoded(self, bodies: Sequence[Body]) -> Decoded:
        """What bronze needs of bodies that could not be decoded."""
        return self._decoder.not_decoded(bodies)

    def bronze(self, positions: pl.DataFrame, decoded: Decoded) -> pl.DataFrame:
        """The rows of bronze, which need no more than the decoded bodies."""
        return self._conform("bronze", _events(positions, decoded).hstack(decoded.bodies))

    def process(self, positions: pl.DataFrame, bodies: Sequence[Body], decoded: Decoded | None = None) -> Outcome:
        """Takes events through decode, clean, dedupe, windows and rules, and remembers them.

        Args:
            positions: one row an event, of the schema `POSITIONS`, sorted by `ORDER`.
            bodies: the events' bodies in the same order.
            decoded: what `decode` made of the bodies, if that is done.

        Raises:
            ProcessingError: the engine or a look-up failed; domain code that fails on a reading does not raise it.
        """
        known = decoded or self.decode(bodies)
        return self._without_text(lambda: self._process(positions, known))

    def _without_text(self, work: Callable[[], T]) -> T:
        return without_text(partial(ProcessingError.of, self._contract.stream), work)

    def _process(self, positions: pl.DataFrame, decoded: Decoded) -> Outcome:
        events = _events(positions, decoded)
        cleaned = self._clean(self.readings(positions, decoded))
        is_good = cleaned["reason"].is_null()
        good = _only(cleaned, is_good)
        context, earlier = self._known_of(good)
        is_one_each = self._is_one_each(good)
        first, repeats = self._dedupe(good, earlier, is_one_each=is_one_each)
        conflicting = repeats.drop_nulls("reason")
        silver = self._conform("silver", first)
        alerts = self._alerts(first, conflicting, context, earlier, is_one_each=is_one_each)
        self.known.add(silver, alerts)
        bronze = events.hstack(decoded.bodies)
        rejects = [decoded.rejects, conflicting]
        if good.height < cleaned.height:
            rejects.append(cleaned.filter(~is_good))
        rows = {
            "bronze": self._conform("bronze", bronze),
            "quarantine": self._quarantine(rejects, bronze),
            "alerts": alerts,
            "silver": silver,
        }
        return Outcome(rows, _duplicates(repeats), decoded.unknown_fields)

    def readings(self, positions: pl.DataFrame, decoded: Decoded) -> pl.DataFrame:
        """Decoded readings with their time, and with what is known of their events: what `clean` takes."""
        rows, events = decoded.readings, _events(positions, decoded)
        each_is_its_event = decoded.rejects.is_empty() and rows.height == events.height
        events = events if each_is_its_event else events[rows["event"]]
        return rows.hstack([instants(rows, "timestamp").alias("measured_at")]).hstack(events)

    def _clean(self, readings: pl.DataFrame) -> pl.DataFrame:
        cleaned = pl.concat(isolated(readings, self.clean, self._failed))
        time = cleaned["measured_at"]
        cleaned = cleaned.with_columns(time.dt.date().alias("event_date"))
        is_future = time > cleaned["received_at"] + FUTURE_TOLERANCE
        if time.null_count() or is_future.any():
            of_time = pl.when(time.is_null()).then(pl.lit("bad_timestamp")).when(is_future)
            cleaned = cleaned.with_columns(reason=pl.coalesce("reason", of_time.then(pl.lit("in_the_future"))))
        return self._within_contract(cleaned)

    def clean(self, rows: pl.DataFrame) -> pl.DataFrame:
        """What the domain makes of the readings, in their order and with the declared types.

        Raises:
            ContractError: readings are missing or doubled, or columns are not those of the contract.
        """
        cleaned = self._contract.clean(rows)
        names = list(self._cleaned)
        if missing := [name for name in names if name not in cleaned.columns]:
            raise ContractError(f"clean returns no {', '.join(missing)}")
        cleaned = cleaned[names]
        if cleaned.schema != self._cleaned:
            cleaned = cleaned.cast({n: t for n, t in self._cleaned.items() if cleaned.schema[n] == pl.Null})
        if cleaned.schema != self._cleaned:
            raise ContractError("clean returns columns of other types than silver has")
        if not cleaned[_PLACE].equals(rows[_PLACE]):
            cleaned = cleaned.sort(_PLACE)
            if not cleaned[_PLACE].equals(rows[_PLACE]):
                raise ContractError("clean drops or doubles readings")
        return cleaned

    def _failed(self, row: pl.DataFrame, failure: str) -> pl.DataFrame:
        """A reading on which the domain's code fails: it keeps its position and gets a reason."""
        positions = row[[name for name in self._cleaned if name in row.columns and name in _ENGINE_COLUMNS]]
        others = pl.DataFrame(schema={n: t for n, t in self._cleaned.items() if n not in positions.columns})
        failed = pl.concat([positions, others], how="diagonal")
        return failed.with_columns(reason=pl.lit(failed_by(failure)))[list(self._cleaned)]

    def _within_contract(self, cleaned: pl.DataFrame) -> pl.DataFrame:
        """Refuses readings that silver or a window could not hold."""
        required = [name for name in self._required if cleaned[name].null_count()]
        lacks = pl.any_horizontal(pl.lit(False), *(pl.col(name).is_null() for name in required))
        beyond = [name for name in self._averaged if not _is_averaged(cleaned[name])]
        exceeds = pl.any_horizontal(pl.lit(False), *(~_within_bounds(pl.col(name)) for name in beyond))
        if not required and not beyond:
            return cleaned
        reason = (
            pl.when(lacks)
            .then(pl.lit(failed_by("ContractError")))
            .when(exceeds)
            .then(pl.lit(failed_by("OverflowError")))
        )
        return cleaned.with_columns(reason=pl.coalesce("reason", reason))

    def _known_of(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Earlier readings that the windows of new ones may hold, and those of the same entity and instant."""
        late = self.known.may_repeat(rows)
        # Looked up once: what windows need contains what repeats need.
        has_windows = self._contract.windows and self._contract.rules
        context = self.known.context_of(rows if has_windows else late, self._contract.reach)
        if late.is_empty():
            return context, context.clear()
        return context, context.join(late, on=[self._contract.entity, "measured_at"], how="semi")

    def _is_one_each(self, rows: pl.DataFrame) -> bool:
        """Whether no entity has two readings of one instant; by hashes, so that a false no is possible, if unlikely."""
        return rows[[self._contract.entity, "measured_at"]].hash_rows().n_unique() == rows.height

    def _dedupe(
        self, rows: pl.DataFrame, earlier: pl.DataFrame, *, is_one_each: bool
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Finds the readings that stand, and those that repeat one, with a `reason` if they contradict it."""
        key, values = [*self._contract.keys, "measured_at"], list(self._contract.values)
        if is_one_each and earlier.is_empty():
            return rows, rows.clear()
        is_first = _is_first(rows, key)
        if earlier.height:
            is_first &= ~rows.select(
                pl.struct(key).is_in(earlier.select(pl.struct(key)).to_series().implode())
            ).to_series()
        first = _only(rows, is_first)
        if first.height == rows.height:
            return first, rows.clear()
        repeats = rows.filter(~is_first)
        standing = pl.concat([earlier.select(key + values), first.select(key + values)]).join(
            repeats, on=key, how="semi"
        )
        repeats = repeats.join(standing, on=key, how="left", suffix="_standing", maintain_order="left")
        same = pl.all_horizontal(pl.col(value).eq_missing(pl.col(f"{value}_standing")) for value in values)
        return first, repeats.with_columns(reason=pl.when(~same).then(pl.lit("conflicting_duplicate")))[rows.columns]

    def _alerts(
        self,
        first: pl.DataFrame,
        conflicting: pl.DataFrame,
        context: pl.DataFrame,
        earlier: pl.DataFrame,
        *,
        is_one_each: bool,
    ) -> pl.DataFrame:
        """One row for each rule that a reading breaks, in the order of readings and rules."""
        contract = self._contract
        if not contract.rules or first.height + conflicting.height == 0:
            return pl.DataFrame(schema=self._schemas["alerts"])
        raised = self.raised(first, context)
        if conflicting.height:
            raised = pl.concat([raised, self._revised(conflicting)]).sort(_PLACE, maintain_order=True)
        alerts = self._conform("alerts", raised)
        if conflicting.is_empty() and contract.keys == (contract.entity,):
            return alerts
        # Two readings of one instant can raise the same alert, here or in an earlier micro-batch.
        if conflicting.height or not (is_one_each or self._is_one_each(first)):
            alerts = _only(alerts, alerts["alert_id"].is_first_distinct())
        if earlier.is_empty():
            return alerts
        shared = alerts.join(earlier, on=[contract.entity, "measured_at"], how="semi")
        return alerts.join(self.known.already_raised(shared), on="alert_id", how="anti", maintain_order="left")

    def raised(self, rows: pl.DataFrame, context: pl.DataFrame) -> pl.DataFrame:
        """The alerts of readings that stand, given earlier readings that their windows may hold."""
        contract = self._contract
        if contract.windows:
            rows = rows.hstack(trailing_means(context, rows, contract.windows, contract.entity))
        return self._breaches(rows, self._broken(rows), is_revision=False)

    def _revised(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The alerts of readings that contradict the one that stands: none, unless one of them is urgent.

        A second value for the same instant never enters silver, but a low must reach a person.
        """
        means = (pl.lit(None, pl.Float64).alias(window.name) for window in self._contract.windows)
        rows = rows.with_columns(*means)
        broken = self._broken(rows) & self._is_of_reading
        broken[~broken[:, self._is_urgent].any(axis=1)] = False
        return self._breaches(rows, broken, is_revision=True)

    def _broken(self, rows: pl.DataFrame) -> NDArray[np.bool_]:
        """Which rules (columns) each reading (row) breaks."""
        return np.column_stack([rule.is_broken(rows) for rule in self._contract.rules])

    def _breaches(self, rows: pl.DataFrame, broken: NDArray[np.bool_], *, is_revision: bool) -> pl.DataFrame:
        """One row for each broken rule, in the order of readings, then rules."""
        contract = self._contract
        at, rules = (pl.Series(each) for each in np.divmod(np.flatnonzero(broken), len(contract.rules)))
        names = [name for name in (*_PLACE[:1], *self._schemas["alerts"]) if name in rows.columns]
        alerts = rows[names][at].hstack(self._rules[rules])
        # An alert says the mean that broke its rule, no other.
        means = (alerts[each.name].set(alerts["column"] != each.name, None) for each in contract.windows)
        revision = pl.Series("is_revision", [is_revision], pl.Boolean).new_from_index(0, alerts.height)
        alerts = alerts.with_columns(_alert_ids(alerts, contract.entity), revision, *means)
        return alerts[[_PLACE[0], *self._schemas["alerts"]]]

    def _quarantine(self, rejects: Sequence[pl.DataFrame], bronze: pl.DataFrame) -> pl.DataFrame:
        if not any(frame.height for frame in rejects):
            return pl.DataFrame(schema=self._schemas["quarantine"])
        rows = pl.concat([frame[["event", "event_index", "reason"]] for frame in rejects])
        rows = rows.sort("event", "event_index")
        return self._conform("quarantine", _without_copies(rows.hstack(bronze[rows["event"]])))

    @cached_property
    def _required(self) -> list[str]:
        return [name for name in self._contract.tables.silver.required if name in self._cleaned]

    @cached_property
    def _averaged(self) -> list[str]:
        return list(dict.fromkeys(window.column for window in self._contract.windows))

    def _conform(self, role: str, rows: pl.DataFrame) -> pl.DataFrame:
        names: list[str] = self._schemas[role].names()
        return rows[names]


def failed_by(failure: str) -> str:
    """The quarantine reason for a reading on which code fails."""
    return f"failed:{failure}"


def _events(positions: pl.DataFrame, decoded: Decoded) -> pl.DataFrame:
    return positions.hstack([decoded.reading_counts, positions["pulled_at"].dt.date().alias("ingest_date")])


def _cleaned_schema(contract: Contract) -> pl.Schema:
    """What the engine takes from cleaned readings: their place, silver's columns and the reason."""
    silver = {name: dtype for name, dtype in contract.tables.silver.schema.items() if name != "event_date"}
    return pl.Schema({"event": pl.Int64()} | silver | {"pulled_at": Utc, "reason": pl.String()})


def _is_averaged(values: pl.Series) -> bool:
    """Whether a window can average all of the values that are there."""
    lowest, highest = values.min(), values.max()
    if values.dtype == pl.Float64 and values.is_nan().any():
        return False
    return lowest is None or bool(lowest >= -MAX_AVERAGED and highest <= MAX_AVERAGED)  # type: ignore[operator]


def _within_bounds(value: pl.Expr) -> pl.Expr:
    return value.is_between(-MAX_AVERAGED, MAX_AVERAGED).fill_null(True)


def _is_first(rows: pl.DataFrame, key: list[str]) -> pl.Series:
    """Whether a row is the first with its key. Most keys differ, and comparing hashes shows that much faster."""
    hashes = rows[key].hash_rows()
    is_first = hashes.is_first_distinct()
    if is_first.all():
        return is_first
    alike = hashes.is_in(hashes.filter(~is_first).implode()).arg_true()
    return is_first.scatter(alike, rows[alike].select(pl.struct(key).is_first_distinct()).to_series())


def _only(rows: pl.DataFrame, which: pl.Series) -> pl.DataFrame:
    """Filters rows, at no cost in the common case that all rows are kept."""
    return rows if which.all() else rows.filter(which)


def _rules(contract: Contract) -> pl.DataFrame:
    """One row a rule: what each of its alerts says of it."""
    rules = [(rule.id, rule.version, rule.severity, rule.threshold, rule.column) for rule in contract.rules]
    types = {"rule": pl.String, "rule_version": pl.Int64, "severity": pl.String, "threshold": pl.Float64}
    rows = pl.DataFrame(rules, schema=types | {"column": pl.String}, orient="row")
    return rows.with_columns(identity=_number(plh.concat_str("rule", "rule_version", separator="|")))


def _alert_ids(alerts: pl.DataFrame, entity: str) -> pl.Series:
    """The same wherever and whenever an alert is raised: XXH3 (128 bits, decimal) of three integers of 64 bits.

    They are little-endian: XXH3 of ``rule|version``; the entity, or XXH3 of it where it is a text; microseconds.
    """
    is_number = alerts.schema[entity] == pl.Int64
    who = alerts[entity] if is_number else alerts.select(_number(plh.col(entity))).to_series()
    numbers = [each.to_numpy() for each in (alerts["identity"], who, alerts["measured_at"].to_physical())]
    bytes_ = np.column_stack(numbers).astype("<i8", copy=False).view(np.uint8)
    texts = pl.Series("alert_id", bytes_).cast(pl.List(pl.UInt8)).cast(pl.Binary)
    return texts.to_frame().select(plh.col("alert_id").nchash.xxh3_128().cast(pl.String)).to_series()


def _number(text: Any) -> pl.Expr:
    digest: pl.Expr = text.nchash.xxh3_64()
    return digest.reinterpret(signed=True)


def _without_copies(quarantined: pl.DataFrame) -> pl.DataFrame:
    """Leaves out most copies of a body: an array of many bad members would be multiplied by its own length."""
    size = pl.coalesce(pl.col("body").str.len_bytes(), pl.col("body_bytes").bin.size())
    number = pl.int_range(pl.len()).over("event")
    is_kept = ((size <= MAX_REPEATED_BODY_BYTES) & (number < MAX_REPEATED_BODIES)) | (number == 0)
    return quarantined.with_columns(pl.when(is_kept).then(pl.col("body", "body_bytes")))


def _duplicates(repeats: pl.DataFrame) -> pl.DataFrame:
    """How many readings of each ingest date only repeat one."""
    if repeats.is_empty():
        return pl.DataFrame(schema=DUPLICATES)
    return repeats.filter(pl.col("reason").is_null()).group_by("ingest_date").len("duplicates").sort("ingest_date")
