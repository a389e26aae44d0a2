"""One micro-batch: raw events and what is known of earlier ones, to the rows of the stream's tables.

The first of two readings with one key stands, in the order of (pulled_at, partition, sequence_number, event_index).
Bronze keeps that order, so processing bronze again gives the rows that the session gave.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import polars as pl

from assets.discretion import T, without_text
from assets.stream.adapting import Adapting, kinds_of
from assets.stream.alarming import NO_ROWS, Alarming, Folded
from assets.stream.alerting import Alerting, Judgement
from assets.stream.cleaning import PLACE, Cleaning, with_counts
from assets.stream.contract import Contract
from assets.stream.decode import Body, Decoded, Decoder, body_size
from assets.stream.enrichment import Enriching, References, missing_in
from assets.stream.known import Known

ORDER = ["pulled_at", "partition", "sequence_number"]
DUPLICATES = pl.Schema({"ingest_date": pl.Date(), "duplicates": pl.get_index_type()})
SKIPPED_BY_DATE = pl.Schema({"ingest_date": pl.Date(), "skipped": pl.get_index_type()})

MAX_REPEATED_BODY_BYTES, MAX_REPEATED_BODIES = 4096, 10
"""How large a body may be that quarantine repeats, and in how many rows of an event; the first row always has it."""


@dataclass(frozen=True)
class Outcome:
    """The rows of one micro-batch.

    Attributes:
        rows: by role, the rows of each of the stream's outputs.
        duplicates: for each ingest date, readings that repeat an earlier one and were dropped.
        skipped: for each ingest date, records of other systems that are no readings.
        skipped_kinds: how many of these there are of each kind.
        unknown_fields: how often each undeclared field was seen.
        reference_missing: readings in silver for which a reference table that has rows has none that holds.
        alarms: what happened to alarms; None where none are folded.
    """

    rows: Mapping[str, pl.DataFrame]
    duplicates: pl.DataFrame
    unknown_fields: Counter[str]
    reference_missing: int = 0
    alarms: Folded | None = None
    skipped: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SKIPPED_BY_DATE))
    skipped_kinds: Counter[str] = field(default_factory=Counter)

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

    @property
    def is_empty(self) -> bool:
        """Whether it is of no events, and nothing happened to alarms."""
        return not self.is_micro_batch and (self.alarms is None or self.alarms.is_empty)

    @property
    def is_micro_batch(self) -> bool:
        """Whether it is of events, and not of deadlines or of what people did."""
        return not self.bronze.is_empty()


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
    """Processes the micro-batches of one stream, in order.

    Args:
        contract: the stream.
        known: earlier readings and alerts.
        references: the reference tables; without them nothing is known of patients and devices, and only the contract's
            rules hold.
        alarming: folds readings into alarms; without it there are none, as where rows are made anew from bronze.
    """

    def __init__(
        self,
        contract: Contract,
        known: Known,
        references: References | None = None,
        alarming: Alarming | None = None,
    ) -> None:
        self.known, self.alarming = known, alarming
        self._contract = contract
        self._decoder = Decoder(contract.payload)
        self._schemas = {output.role: output.table.schema for output in contract.outputs}
        self._cleaning, self._alerting = Cleaning(contract), Alerting(contract, references)
        self._enriching = Enriching(contract, references)
        self._adapting = Adapting(contract, self._decoder, references)

    def decode(self, positions: pl.DataFrame, bodies: Sequence[Body]) -> Decoded:
        """The first step of `process`, which needs nothing that is known of earlier events.

        Args:
            positions, bodies: as for `process`.

        Raises:
            ProcessingError: as for `process`.
        """
        return self._without_text(lambda: self._adapting.decoded(bodies, positions))

    def not_decoded(self, bodies: Sequence[Body]) -> Decoded:
        """What bronze needs of bodies that could not be decoded."""
        return self._decoder.not_decoded(bodies)

    def folded(self, work: Callable[[Alarming], Folded]) -> Outcome:
        """What happens to alarms without readings: deadlines that pass, and what people do.

        Raises:
            ProcessingError: as for `process`.
        """
        if self.alarming is None:
            raise ValueError(f"{self._contract.stream} has no alarms.")
        alarming = self.alarming
        folded = self._without_text(lambda: work(alarming))
        rows = {role: pl.DataFrame(schema=schema) for role, schema in self._schemas.items()}
        return Outcome(rows | {"alarms": folded.rows}, pl.DataFrame(schema=DUPLICATES), Counter(), alarms=folded)

    def bronze(self, positions: pl.DataFrame, decoded: Decoded) -> pl.DataFrame:
        """The rows of bronze, which need no more than the decoded bodies."""
        return self._conform("bronze", with_counts(positions, decoded).hstack(decoded.bodies))

    def process(self, positions: pl.DataFrame, bodies: Sequence[Body], decoded: Decoded | None = None) -> Outcome:
        """Takes events through decode, clean, enrich, dedupe, windows and rules, and remembers them.

        Args:
            positions: one row an event, of the schema `POSITIONS`, sorted by `ORDER`.
            bodies: the events' bodies in the same order.
            decoded: what `decode` made of the bodies, if that is done.

        Raises:
            ProcessingError: the engine or a look-up failed; domain code that fails on a reading does not raise it.
        """
        known = decoded or self.decode(positions, bodies)
        return self._without_text(lambda: self._process(positions, known))

    def _without_text(self, work: Callable[[], T]) -> T:
        return without_text(partial(ProcessingError.of, self._contract.stream), work)

    def _process(self, positions: pl.DataFrame, decoded: Decoded) -> Outcome:
        events = with_counts(positions, decoded)
        cleaned = self._cleaning.cleaned(self._cleaning.readings(positions, decoded))
        is_good = cleaned["reason"].is_null()
        good = self._enriching.enriched(_only(cleaned, is_good))
        context, earlier = self._known_of(good)
        is_one_each = self._is_one_each(good)
        first, repeats = self._dedupe(good, earlier, is_one_each=is_one_each)
        conflicting = repeats.drop_nulls("reason")
        silver = self._conform("silver", first)
        accepted, revised = self._judged(first, conflicting, context)
        alerts = self._alerts(accepted, revised, earlier, is_one_each=is_one_each)
        self.known.add(silver, alerts)
        refused = cleaned.filter(~is_good) if good.height < cleaned.height else cleaned.clear()
        folded = None if self.alarming is None else self.alarming.fold(events, accepted, revised, refused)
        bronze = events.hstack(decoded.bodies)
        rejects = [decoded.rejects, conflicting, refused]
        rows = {
            "bronze": self._conform("bronze", bronze),
            "quarantine": self._quarantine(rejects, bronze),
            "alerts": alerts,
            **{child.role: child.exploded(first) for child in self._contract.children},
            "silver": silver,
        }
        if self._contract.alarms is not None:
            rows["alarms"] = NO_ROWS if folded is None else folded.rows
        skipped = (
            events["ingest_date"].gather(decoded.skipped["event"]).to_frame().group_by("ingest_date").len("skipped")
        )
        return Outcome(
            rows,
            _duplicates(repeats),
            decoded.unknown_fields,
            missing_in(first),
            folded,
            skipped.sort("ingest_date"),
            kinds_of(decoded.skipped),
        )

    def _known_of(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Earlier readings that the windows of new ones may hold, and those of the same entity and instant."""
        late = self.known.may_repeat(rows)
        # Looked up once: what windows need contains what repeats need.
        has_windows = self._contract.trailing and self._contract.rules
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
            repeats, on=key, how="semi", nulls_equal=True
        )
        repeats = repeats.join(
            standing, on=key, how="left", suffix="_standing", maintain_order="left", nulls_equal=True
        )
        same = pl.all_horizontal(pl.col(value).eq_missing(pl.col(f"{value}_standing")) for value in values)
        return first, repeats.with_columns(reason=pl.when(~same).then(pl.lit("conflicting_duplicate")))[rows.columns]

    def _judged(
        self, first: pl.DataFrame, conflicting: pl.DataFrame, context: pl.DataFrame
    ) -> tuple[Judgement, Judgement | None]:
        """Which rules readings that stand break, and which of those that contradict one are urgent."""
        self._alerting.begin()
        if not self._contract.rules:
            return self._alerting.judge(first, self._alerting.told(first)), None
        accepted = self._alerting.judged(first, context, self.known.context_of)
        return accepted, self._alerting.revised(conflicting) if conflicting.height else None

    def _alerts(
        self, accepted: Judgement, revised: Judgement | None, earlier: pl.DataFrame, *, is_one_each: bool
    ) -> pl.DataFrame:
        """One row for each rule that a reading breaks, in the order of readings and rules."""
        contract = self._contract
        if not contract.rules or accepted.rows.height + (0 if revised is None else revised.rows.height) == 0:
            return pl.DataFrame(schema=self._schemas["alerts"])
        raised = self._alerting.alerts(accepted)
        if revised is not None:
            raised = pl.concat([raised, self._alerting.alerts(revised, is_revision=True)])
            raised = raised.sort(PLACE, maintain_order=True)
        alerts = self._conform("alerts", raised)
        if revised is None and contract.keys == (contract.entity,):
            return alerts
        # Two readings of one instant can raise the same alert, here or in an earlier micro-batch.
        if revised is not None or not (is_one_each or self._is_one_each(accepted.rows)):
            alerts = _only(alerts, alerts["alert_id"].is_first_distinct())
        if earlier.is_empty():
            return alerts
        shared = alerts.join(earlier, on=[contract.entity, "measured_at"], how="semi")
        return alerts.join(self.known.already_raised(shared), on="alert_id", how="anti", maintain_order="left")

    def _quarantine(self, rejects: Sequence[pl.DataFrame], bronze: pl.DataFrame) -> pl.DataFrame:
        if not any(frame.height for frame in rejects):
            return pl.DataFrame(schema=self._schemas["quarantine"])
        rows = pl.concat([frame[["event", "event_index", "reason"]] for frame in rejects])
        rows = rows.sort("event", "event_index")
        return self._conform("quarantine", _without_copies(rows.hstack(bronze[rows["event"]])))

    def _conform(self, role: str, rows: pl.DataFrame) -> pl.DataFrame:
        names: list[str] = self._schemas[role].names()
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
    """Filters rows, at no cost in the common case that all rows are kept."""
    return rows if which.all() else rows.filter(which)


def _without_copies(quarantined: pl.DataFrame) -> pl.DataFrame:
    """Leaves out most copies of a body: an array of many bad members would be multiplied by its own length."""
    number = pl.int_range(pl.len()).over("event")
    is_kept = ((body_size <= MAX_REPEATED_BODY_BYTES) & (number < MAX_REPEATED_BODIES)) | (number == 0)
    return quarantined.with_columns(pl.when(is_kept).then(pl.col("body", "body_bytes")))


def _duplicates(repeats: pl.DataFrame) -> pl.DataFrame:
    """How many readings of each ingest date only repeat one."""
    if repeats.is_empty():
        return pl.DataFrame(schema=DUPLICATES)
    return repeats.filter(pl.col("reason").is_null()).group_by("ingest_date").len("duplicates").sort("ingest_date")
