"""One micro-batch: raw events and what is known of earlier ones, to the rows of four tables.

The order of events decides which of two readings of one key stands: (pulled_at, partition, sequence_number,
event_index). Bronze keeps that order, hence processing bronze again gives the same rows as the session gave.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import polars_hash as plh

from assets.stream.contract import FUTURE_TOLERANCE, Contract
from assets.stream.decode import Decoded, Decoder
from assets.stream.instants import instants
from assets.stream.known import Known
from assets.stream.windows import trailing_means

ORDER = ["pulled_at", "partition", "sequence_number"]
POSITIONS = pl.Schema(
    {
        "partition": pl.Int64(),
        "sequence_number": pl.Int64(),
        "received_at": pl.Datetime("us", "UTC"),
        "pulled_at": pl.Datetime("us", "UTC"),
    }
)
"""What is known of an event besides its body."""
DUPLICATES = pl.Schema({"ingest_date": pl.Date(), "duplicates": pl.get_index_type()})

MAX_REPEATED_BODY_BYTES, MAX_REPEATED_BODIES = 4096, 10
"""How large a body quarantine repeats, and in how many of an event's rows; a larger one stands in the first row."""


@dataclass(frozen=True)
class Outcome:
    """The rows of one micro-batch.

    Attributes:
        bronze, silver, quarantine, alerts: rows of the stream's tables.
        duplicates: for each ingest date, readings that repeat an earlier one and were dropped.
        unknown_fields: how often each undeclared field was seen.
    """

    bronze: pl.DataFrame
    silver: pl.DataFrame
    quarantine: pl.DataFrame
    alerts: pl.DataFrame
    duplicates: pl.DataFrame
    unknown_fields: Counter[str]


class Processor:
    """Processes the micro-batches of one stream, in order."""

    def __init__(self, contract: Contract, known: Known) -> None:
        self.known = known
        self._contract = contract
        self._decoder = Decoder(contract.payload)
        self._schemas = {table.layer: table.schema for table in contract.tables}
        self._rules = _rules(contract)

    def decode(self, bodies: Sequence[bytes]) -> Decoded:
        """The first step of `process`, which needs nothing that is known of earlier events."""
        return self._decoder.decode(bodies)

    def process(self, positions: pl.DataFrame, bodies: Sequence[bytes], decoded: Decoded | None = None) -> Outcome:
        """Takes events through decode, clean, dedupe, windows and rules, and remembers them.

        Args:
            positions: one row an event, of the schema `POSITIONS`, sorted by `ORDER`.
            bodies: the events' bodies in the same order.
            decoded: what `decode` made of the bodies, if that is done.
        """
        decoded = decoded or self.decode(bodies)
        events = positions.hstack([decoded.reading_counts, positions["pulled_at"].dt.date().alias("ingest_date")])
        cleaned = self._clean(events, decoded)
        is_good = cleaned["reason"].is_null()
        good = _only(cleaned, is_good)
        near, earlier = self._known_of(good)
        is_one_each = self._is_one_each(good)
        first, repeats = self._dedupe(good, earlier, is_one_each=is_one_each)
        silver = self._conform("silver", first)
        alerts = self._alerts(first, near, earlier, is_one_each=is_one_each)
        rejects = [decoded.rejects]
        if good.height < cleaned.height:
            rejects.append(cleaned.filter(~is_good))
        if repeats.height:
            rejects.append(repeats.drop_nulls("reason"))
        self.known.add(silver, alerts)
        bronze = events.hstack(decoded.bodies)
        return Outcome(
            bronze=self._conform("bronze", bronze),
            silver=silver,
            quarantine=self._quarantine(rejects, bronze),
            alerts=alerts,
            duplicates=_duplicates(repeats),
            unknown_fields=decoded.unknown_fields,
        )

    def _clean(self, events: pl.DataFrame, decoded: Decoded) -> pl.DataFrame:
        rows = decoded.readings
        each_is_its_event = decoded.rejects.is_empty() and rows.height == events.height
        positions = events if each_is_its_event else events[rows["event"]]
        rows = rows.hstack([instants(rows, "timestamp").alias("measured_at")]).hstack(positions)
        cleaned = self._contract.clean(rows)
        time = cleaned["measured_at"]
        cleaned = cleaned.with_columns(time.dt.date().alias("event_date"))
        is_future = time > cleaned["received_at"] + FUTURE_TOLERANCE
        if not (time.null_count() or is_future.any()):
            return cleaned
        of_time = pl.when(time.is_null()).then(pl.lit("bad_timestamp")).when(is_future).then(pl.lit("in_the_future"))
        return cleaned.with_columns(reason=pl.coalesce("reason", of_time))

    def _known_of(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Earlier readings that the windows of new ones may hold, and those of the same entity and instant."""
        late = self.known.late(rows)
        # Looked up once: what windows need contains what repeats need.
        has_windows = self._contract.windows and self._contract.rules
        near = self.known.near(rows if has_windows else late, self._contract.reach)
        if late.is_empty():
            return near, near.clear()
        return near, near.join(late, on=[self._contract.entity, "measured_at"], how="semi")

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
        return first, repeats.with_columns(reason=pl.when(~same).then(pl.lit("conflicting_duplicate")))

    def _alerts(
        self, rows: pl.DataFrame, near: pl.DataFrame, earlier: pl.DataFrame, *, is_one_each: bool
    ) -> pl.DataFrame:
        """One row for each rule that a reading breaks, in the order of readings and rules."""
        contract = self._contract
        if not contract.rules or rows.is_empty():
            return pl.DataFrame(schema=self._schemas["alerts"])
        if contract.windows:
            rows = rows.hstack(trailing_means(near, rows, contract.windows, contract.entity))
        # In the order of readings, then rules.
        breaches = np.flatnonzero(np.column_stack([rule.is_broken(rows) for rule in contract.rules]))
        broken, rules = (pl.Series(each) for each in np.divmod(breaches, len(contract.rules)))
        names = [name for name in self._schemas["alerts"].names() if name in rows.columns]
        alerts = rows[names][broken].hstack(self._rules[rules])
        # An alert says the mean that broke its rule, no other.
        means = (alerts[each.name].set(alerts["column"] != each.name, None) for each in contract.windows)
        alerts = self._conform("alerts", alerts.with_columns(_alert_ids(alerts, contract.entity), *means))
        if contract.keys == (contract.entity,):
            return alerts
        # Where keys are more than the entity, two readings can raise the same alert: here or in an earlier micro-batch.
        if not (is_one_each or self._is_one_each(rows)):
            alerts = _only(alerts, alerts["alert_id"].is_first_distinct())
        if earlier.is_empty():
            return alerts
        shared = alerts.join(earlier, on=[contract.entity, "measured_at"], how="semi")
        return alerts.join(self.known.raised(shared), on="alert_id", how="anti", maintain_order="left")

    def _quarantine(self, rejects: Sequence[pl.DataFrame], bronze: pl.DataFrame) -> pl.DataFrame:
        if not any(frame.height for frame in rejects):
            return pl.DataFrame(schema=self._schemas["quarantine"])
        rows = pl.concat([frame[["event", "event_index", "reason"]] for frame in rejects])
        rows = rows.sort("event", "event_index")
        return self._conform("quarantine", _within_bounds(rows.hstack(bronze[rows["event"]])))

    def _conform(self, layer: str, rows: pl.DataFrame) -> pl.DataFrame:
        names: list[str] = self._schemas[layer].names()
        return rows[names]


def _is_first(rows: pl.DataFrame, key: list[str]) -> pl.Series:
    """Whether a row is the first with its key. Most keys differ, and comparing hashes shows that much faster."""
    hashes = rows[key].hash_rows()
    is_first = hashes.is_first_distinct()
    if is_first.all():
        return is_first
    alike = hashes.is_in(hashes.filter(~is_first).implode()).arg_true()
    return is_first.scatter(alike, rows[alike].select(pl.struct(key).is_first_distinct()).to_series())


def _only(rows: pl.DataFrame, which: pl.Series) -> pl.DataFrame:
    """Filters, at no cost in the common case that all rows stay."""
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


def _within_bounds(quarantined: pl.DataFrame) -> pl.DataFrame:
    """Without most copies of a body: an array of many bad members would be multiplied by its own length."""
    size = pl.coalesce(pl.col("body").str.len_bytes(), pl.col("body_bytes").bin.size())
    number = pl.int_range(pl.len()).over("event")
    is_kept = ((size <= MAX_REPEATED_BODY_BYTES) & (number < MAX_REPEATED_BODIES)) | (number == 0)
    return quarantined.with_columns(pl.when(is_kept).then(pl.col("body", "body_bytes")))


def _duplicates(repeats: pl.DataFrame) -> pl.DataFrame:
    """How many readings of each ingest date only repeat one."""
    if repeats.is_empty():
        return pl.DataFrame(schema=DUPLICATES)
    return repeats.filter(pl.col("reason").is_null()).group_by("ingest_date").len("duplicates").sort("ingest_date")
