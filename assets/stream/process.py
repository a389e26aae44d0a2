"""One micro-batch: raw events and what is known of earlier ones, to the rows of four tables.

The order of events decides which of two readings of one key stands: (pulled_at, partition, sequence_number,
event_index). Bronze keeps that order, hence processing bronze again gives the same rows as the session gave.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import polars as pl
import polars_hash  # noqa: F401  (registers the expression namespace `chash`)

from assets.stream.contract import FUTURE_TOLERANCE, Contract, Rule
from assets.stream.decode import Decoded, Decoder
from assets.stream.instants import instants
from assets.stream.known import Known
from assets.stream.windows import trailing_means

ORDER = ["pulled_at", "partition", "sequence_number"]
POSITIONS = pl.Schema(
    {
        "partition": pl.Int64,
        "sequence_number": pl.Int64,
        "received_at": pl.Datetime("us", "UTC"),
        "pulled_at": pl.Datetime("us", "UTC"),
    }
)
"""What is known of an event besides its body."""


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

    def process(self, positions: pl.DataFrame, bodies: Sequence[bytes]) -> Outcome:
        """Takes events through decode, clean, dedupe, windows and rules, and remembers them.

        Args:
            positions: one row an event, of the schema `POSITIONS`, sorted by `ORDER`.
            bodies: the events' bodies in the same order.
        """
        events = positions.with_columns(event=pl.int_range(pl.len(), dtype=pl.Int64), ingest_date=pl.col("pulled_at").dt.date())
        decoded = self._decoder.decode(bodies)
        cleaned = self._clean(events, decoded)
        good = cleaned.filter(pl.col("reason").is_null())
        first, conflicts, duplicates = self._dedupe(good)
        silver = self._conform("silver", first)
        alerts = self._alerts(first)
        rejects = pl.concat(
            [decoded.rejects, *(rows.select(decoded.rejects.columns) for rows in (cleaned.filter(pl.col("reason").is_not_null()), conflicts))]
        )
        self.known.add(silver, alerts)
        bronze = _with_bodies(events.with_columns(reading_count=pl.Series(decoded.reading_counts, dtype=pl.Int64)), bodies)
        return Outcome(
            bronze=self._conform("bronze", bronze),
            silver=silver,
            quarantine=self._conform("quarantine", _quarantined(rejects, bronze)),
            alerts=alerts,
            duplicates=duplicates.group_by("ingest_date").len("duplicates").sort("ingest_date"),
            unknown_fields=decoded.unknown_fields,
        )

    def _clean(self, events: pl.DataFrame, decoded: Decoded) -> pl.DataFrame:
        rows = decoded.readings
        rows = rows.with_columns(measured_at=instants(rows, "timestamp")).hstack(events.drop("event")[rows["event"]])
        time = pl.col("measured_at")
        return self._contract.clean(rows).with_columns(
            event_date=time.dt.date(),
            reason=pl.coalesce(
                "reason",
                pl.when(time.is_null())
                .then(pl.lit("bad_timestamp"))
                .when(time > pl.col("received_at") + FUTURE_TOLERANCE)
                .then(pl.lit("in_the_future")),
            ),
        )

    def _dedupe(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """Splits readings into those that stand, those that contradict an earlier one, and those that repeat one."""
        key, values = [*self._contract.keys, "measured_at"], list(self._contract.values)
        rows = rows.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))
        earlier = self.known.near(self.known.late(rows), timedelta(0)).select(key + values)
        is_first = rows.select(pl.struct(key).is_first_distinct()).to_series()
        if earlier.height:
            is_first &= ~rows.select(pl.struct(key).is_in(earlier.select(pl.struct(key)).to_series().implode())).to_series()
        first = rows.filter(is_first)
        if first.height == rows.height:
            return first, rows.clear(), rows.clear()
        standing = pl.concat([earlier, first.select(key + values)])
        repeats = rows.filter(~is_first).join(standing, on=key, how="left", suffix="_standing", maintain_order="left")
        same = pl.all_horizontal(pl.col(value).eq_missing(pl.col(f"{value}_standing")) for value in values)
        conflicts = repeats.filter(~same).with_columns(reason=pl.lit("conflicting_duplicate"))
        return first, conflicts, repeats.filter(same)

    def _alerts(self, rows: pl.DataFrame) -> pl.DataFrame:
        contract = self._contract
        if not contract.rules:
            return pl.DataFrame(schema=self._schemas["alerts"])
        known = self.known.near(rows, contract.reach)
        if contract.windows:
            rows = rows.hstack(trailing_means(known, rows, contract.windows, contract.entity))
        raised = pl.concat([_raised(rule, rows, contract) for rule in contract.rules])
        alerts = self._conform("alerts", raised.sort("row", maintain_order=True)).unique("alert_id", keep="first", maintain_order=True)
        # Only where keys are more than the entity can two readings raise the same alert, in different micro-batches.
        shared = alerts.join(known, on=[contract.entity, "measured_at"], how="semi")
        return alerts.filter(~pl.col("alert_id").is_in(self.known.alert_ids(shared).implode())) if shared.height else alerts

    def _conform(self, layer: str, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.select(self._schemas[layer].names())


def _raised(rule: Rule, rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    names = [window.name for window in contract.windows if window.name != rule.column]
    identity = pl.concat_str(
        pl.lit(f"{rule.id}|{rule.version}"), pl.col(contract.entity), pl.col("measured_at").to_physical(), separator="|"
    )
    return rows.filter(rule.condition).with_columns(
        *(pl.lit(None, pl.Float64).alias(name) for name in names),
        alert_id=_sha256(identity),
        rule=pl.lit(rule.id),
        rule_version=pl.lit(rule.version, pl.Int64),
        severity=pl.lit(rule.severity),
        threshold=pl.lit(rule.threshold, pl.Float64),
    )


def _sha256(text: pl.Expr) -> pl.Expr:
    return text.chash.sha2_256().str.slice(0, 32)


def _with_bodies(events: pl.DataFrame, bodies: Sequence[bytes]) -> pl.DataFrame:
    """Adds `body`, or `body_bytes` where the body is no UTF-8."""
    raw = pl.Series("body_bytes", bodies, dtype=pl.Binary)
    try:
        return events.with_columns(raw.cast(pl.String).alias("body"), body_bytes=pl.lit(None, pl.Binary))
    except pl.exceptions.ComputeError:
        texts = [_text(body) for body in bodies]
    binary = [body if text is None else None for body, text in zip(bodies, texts, strict=True)]
    return events.with_columns(pl.Series("body", texts, dtype=pl.String), pl.Series("body_bytes", binary, dtype=pl.Binary))


def _text(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _quarantined(rejects: pl.DataFrame, bronze: pl.DataFrame) -> pl.DataFrame:
    return rejects.sort("event", "event_index").join(bronze, on="event", how="left", maintain_order="left")
