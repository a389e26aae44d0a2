"""From readings to alerts: which rules each of them breaks, and how an alert is named."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NamedTuple

import numpy as np
import polars as pl
import polars_hash as plh
from numpy.typing import NDArray

from assets.alarms.given import Silence
from assets.stream.cleaning import PLACE
from assets.stream.contract import SILENT_MINUTES, Contract, Last, Score, Window
from assets.stream.enrichment import References
from assets.stream.kinds import evaluated
from assets.stream.limits import Limits, limits_of
from assets.stream.rulebook import Rulebook, Told, digest, told_of
from assets.stream.spans import Span
from assets.stream.windows import trailing

Earlier = Callable[[pl.DataFrame, timedelta], pl.DataFrame]
"""Earlier readings of the entities of some readings, from so long before each of these on; some others among them."""


class Judgement(NamedTuple):
    """Which rules readings break, and in which version.

    Attributes:
        rows: the readings with their windows and scores.
        told: which version of each rule holds for each reading.
        broken: which rules (columns) each reading (row) breaks.
    """

    rows: pl.DataFrame
    told: Told
    broken: NDArray[np.bool_]

    def filter(self, which: pl.Series) -> "Judgement":
        """Of some of the readings."""
        at = which.to_numpy()
        told = self.told._replace(numbers=self.told.numbers[at])
        return Judgement(self.rows.filter(which), told, self.broken[at])


class Alerting:
    """Evaluates the rules of one stream.

    Args:
        contract: the stream.
        references: where rules are data; without them those of the contract hold for all.
    """

    def __init__(self, contract: Contract, references: References | None = None) -> None:
        self._contract, self._references = contract, references
        self._book: Rulebook | None = None
        self._columns = contract.tables.alerts.schema.names()
        self._rules, self._limits = told_of(contract.rules), limits_of(contract, contract.all_rules)
        compared = {rule.column for rule in contract.rules}
        derived = (_columns(each) for each in (*contract.windows, *contract.scores))
        # What is compared must be in alerts; of the rest they say what they have a column for.
        told = ([name for name in names if name in compared or name in self._columns] for names in derived)
        self._told_together = [names for names in told if names]
        self._unknown = {name: pl.Series(name, [None], pl.Float64) for name in contract.spans}
        self._spans_told = [name for name in contract.spans if name in self._columns]

    def judged(self, rows: pl.DataFrame, context: pl.DataFrame, earlier: Earlier) -> Judgement:
        """Which rules readings that stand break.

        Args:
            rows: the readings.
            context: earlier readings that means and last values may hold.
            earlier: finds those that other windows may hold, where rules compare such.
        """
        told = self.told(rows)
        return self.judge(self.derived(rows, context, earlier, told), told)

    @property
    def limits(self) -> Limits:
        """How alarms behave by all versions of rules that are known."""
        book = None if self._references is None else self._references.rulebook
        return self._limits if book is None else book.limits

    def silences(self, rows: pl.DataFrame) -> list[Silence | None]:
        """After which time each entity is silent.

        Args:
            rows: with the entity, `measured_at` and `pulled_at`.
        """
        told = self.told(rows)
        return [told.limits.silences[number] for number in told.limits.silence_of(told.numbers).tolist()]

    def begin(self) -> None:
        """Stays with the rules as they are known now, until the next call: another thread reads them anew."""
        self._book = None if self._references is None else self._references.rulebook

    def told(self, rows: pl.DataFrame) -> Told:
        """Which version of each rule holds for readings."""
        book = self._book or (None if self._references is None else self._references.rulebook)
        return _of_contract(self._contract, self._rules, self._limits, rows.height) if book is None else book.told(rows)

    def derived(self, rows: pl.DataFrame, context: pl.DataFrame, earlier: Earlier, told: Told) -> pl.DataFrame:
        """Readings with their means, last values and scores, and with those other windows that rules compare."""
        contract = self._contract
        if contract.trailing:
            rows = rows.hstack(trailing(context, rows, contract.trailing, contract.entity))
        for score in contract.scores:
            rows = rows.hstack(score.of(rows))
        return rows.hstack(self._spans(rows, earlier, told))

    def _spans(self, rows: pl.DataFrame, earlier: Earlier, told: Told) -> list[pl.Series]:
        """The other windows, at readings for which a rule holds that compares them, and null elsewhere."""
        wanted: dict[str, NDArray[np.bool_]] = {}
        for number, rule in enumerate(told.rules):
            if rule.column in self._contract.spans:
                holds = told.is_enabled[told.numbers[:, number]]
                wanted[rule.column] = wanted[rule.column] | holds if rule.column in wanted else holds
        columns = {name: self._unknown[name].new_from_index(0, rows.height) for name in wanted}
        # What the same readings need is computed together: they are looked for and sorted once.
        together: dict[bytes, list[Span]] = {}
        for name, holds in wanted.items():
            if holds.any():
                together.setdefault(holds.tobytes(), []).append(self._contract.spans[name])
        for holds_of, spans in together.items():
            is_wanted = pl.Series(np.frombuffer(holds_of, bool))
            columns |= {each.name: each for each in self._evaluated(rows, is_wanted, spans, earlier)}
        return [*columns.values()]

    def _evaluated(
        self, rows: pl.DataFrame, is_wanted: pl.Series, spans: list[Span], earlier: Earlier
    ) -> Iterator[pl.Series]:
        """Some of these windows at some readings, from what is known of the entities of those readings."""
        contract = self._contract
        entities = rows[contract.entity]
        is_of = entities.is_in(entities.filter(is_wanted).unique().implode())
        names = [contract.entity, "measured_at", "pulled_at", *{span.column for span in spans}]
        some = rows[names].filter(is_of)
        known = earlier(some, contract.reach_of([span.name for span in spans]))
        wanted, at = is_wanted.filter(is_of), is_of.arg_true()
        for found in evaluated(known, some, wanted, spans, contract.entity, contract.plausible):
            yield self._unknown[found.name].new_from_index(0, rows.height).scatter(at, found)

    def judge(self, rows: pl.DataFrame, told: Told) -> Judgement:
        """Which rules readings break, given their windows and scores."""
        return Judgement(rows, told, self._broken(rows, told))

    def revised(self, rows: pl.DataFrame) -> Judgement:
        """Readings that contradict the one that stands: they break no rule, unless one of those broken is urgent.

        A second value for the same instant never enters silver, but a low must reach a person. What depends on other
        readings is not computed for it.
        """
        derived = self._contract.derived
        rows = rows.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in derived.items())
        told = self.told(rows)
        # Rules on the reading's own value; rules on windows and scores are left out.
        is_of_reading = [not {rule.column, rule.unless} & {*derived} for rule in told.rules]
        broken = self._broken(rows, told) & np.array(is_of_reading, bool)
        is_urgent = (told.rows["severity"] == "urgent").to_numpy()[told.numbers]
        broken[~(broken & is_urgent).any(axis=1)] = False
        return Judgement(rows, told, broken)

    def _broken(self, rows: pl.DataFrame, told: Told) -> NDArray[np.bool_]:
        """Which rules (columns) each reading (row) breaks."""
        if not told.rules:
            return np.zeros((rows.height, 0), bool)
        broken: NDArray[np.bool_] = np.column_stack(
            [self._is_broken(told, number, rows) for number in range(len(told.rules))]
        )
        return broken

    def _is_broken(self, told: Told, number: int, rows: pl.DataFrame) -> pl.Series:
        """Whether each reading breaks a rule in the version that holds for it."""
        rule = told.rules[number]
        if rule.column == SILENT_MINUTES:
            # It is about readings that do not come.
            return pl.Series([False]).new_from_index(0, rows.height)
        present = self._contract.present_of(rule.column)
        if number not in told.touched:
            return rule.is_broken(rows, present=present)
        numbers = told.numbers[:, number]
        is_enabled = pl.Series(told.is_enabled[numbers])
        return rule.is_broken(rows, pl.Series(told.thresholds[numbers]), present) & is_enabled

    def alerts(self, judged: Judgement, *, is_revision: bool = False) -> pl.DataFrame:
        """One row for each broken rule, in the order of readings, then rules."""
        contract, rows, told = self._contract, judged.rows, judged.told
        found = np.flatnonzero(judged.broken)
        at, numbers = pl.Series(found // len(told.rules)), pl.Series(told.numbers.reshape(-1)[found])
        names = [name for name in (*PLACE[:1], *self._columns) if name in rows.columns]
        alerts = rows[names][at].hstack(told.rows[numbers])
        revision = pl.Series("is_revision", [is_revision], pl.Boolean).new_from_index(0, alerts.height)
        alerts = alerts.with_columns(_alert_ids(alerts, contract.entity), revision, *self._derived_of(alerts))
        # Windows that no rule compares are not computed.
        others = [self._unknown[name] for name in self._spans_told if name not in names]
        unknown = [each.new_from_index(0, alerts.height) for each in others]
        return alerts.hstack(unknown)[[PLACE[0], *self._columns]]

    def _derived_of(self, alerts: pl.DataFrame) -> Iterator[pl.Series]:
        """What is derived, where it broke the rule: an alert says no other window or score."""
        for names in self._told_together:
            if names[0] in self._spans_told and names[0] not in alerts.columns:
                continue
            is_other = alerts["column"] != names[0] if len(names) == 1 else ~alerts["column"].is_in(names)
            for name in names:
                yield alerts[name].set(is_other, None)


def _columns(derived: Window | Last | Span | Score) -> list[str]:
    if isinstance(derived, Score):
        return [*derived.columns]
    return [derived.name, derived.age_name] if isinstance(derived, Last) else [derived.name]


def _of_contract(contract: Contract, rows: pl.DataFrame, limits: Limits, count: int) -> Told:
    """The rules of the contract, which hold for all readings where rules are no data."""
    rules = contract.rules
    numbers = np.broadcast_to(np.arange(len(rules)), (count, len(rules)))
    thresholds = rows["threshold"].to_numpy()
    return Told(rules, rows, numbers, thresholds, np.ones(len(rules), bool), limits, frozenset())


def _alert_ids(alerts: pl.DataFrame, entity: str) -> pl.Series:
    """The same wherever and whenever an alert is raised: XXH3 (128 bits, decimal) of three integers of 64 bits.

    They are little-endian: XXH3 of ``rule|version``; the entity, or XXH3 of it where it is a text; microseconds.
    """
    is_number = alerts.schema[entity] == pl.Int64
    who = alerts[entity] if is_number else alerts.select(digest(plh.col(entity))).to_series()
    numbers = [each.to_numpy() for each in (alerts["identity"], who, alerts["measured_at"].to_physical())]
    bytes_ = np.column_stack(numbers).astype("<i8", copy=False).view(np.uint8)
    texts = pl.Series("alert_id", bytes_).cast(pl.List(pl.UInt8)).cast(pl.Binary)
    return texts.to_frame().select(plh.col("alert_id").nchash.xxh3_128().cast(pl.String)).to_series()
