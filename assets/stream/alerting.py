"""From readings to alerts: which rules each of them breaks, and how an alert is named."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
import polars_hash as plh
from numpy.typing import NDArray

from assets.stream.cleaning import PLACE
from assets.stream.contract import Contract, Last, Rule, Score, Window
from assets.stream.enrichment import References
from assets.stream.limits import Limits, limits_of
from assets.stream.rulebook import Told, digest, told_of
from assets.stream.windows import trailing


class Judgement(NamedTuple):
    """Which rules readings break, and in which version.

    Attributes:
        rows: the readings with their windows and scores.
        rules: all of them.
        broken: which rules (columns) each reading (row) breaks.
        numbers: for each of these the row of `told`.
        told: what an alert says of a version.
        limits: how alarms of each version behave.
        is_enabled: whether each version can be broken.
    """

    rows: pl.DataFrame
    rules: Sequence[Rule]
    broken: NDArray[np.bool_]
    numbers: NDArray[np.intp]
    told: pl.DataFrame
    limits: Limits
    is_enabled: NDArray[np.bool_]

    def filter(self, which: pl.Series) -> "Judgement":
        """Of some of the readings."""
        at = which.to_numpy()
        return self._replace(rows=self.rows.filter(which), broken=self.broken[at], numbers=self.numbers[at])


class Alerting:
    """Evaluates the rules of one stream.

    Args:
        contract: the stream.
        references: where rules are data; without them those of the contract hold for all.
    """

    def __init__(self, contract: Contract, references: References | None = None) -> None:
        self._contract, self._references = contract, references
        self._columns = contract.tables.alerts.schema.names()
        self._rules, self._limits = told_of(contract.rules), limits_of(contract, contract.rules)
        compared = {rule.column for rule in contract.rules}
        derived = (_columns(each) for each in (*contract.windows, *contract.scores))
        # What is compared must be in alerts; of the rest they say what they have a column for.
        told = ([name for name in names if name in compared or name in self._columns] for names in derived)
        self._told_together = [names for names in told if names]

    def judged(self, rows: pl.DataFrame, context: pl.DataFrame) -> Judgement:
        """Readings that stand, given earlier readings that their windows may hold."""
        return self.judge(self.derived(rows, context))

    def none_of(self, rows: pl.DataFrame) -> Judgement:
        """Readings of a stream without rules."""
        nothing = np.zeros((rows.height, 0))
        return Judgement(
            rows, (), nothing.astype(bool), nothing.astype(np.intp), self._rules, self._limits, np.ones(0, bool)
        )

    def derived(self, rows: pl.DataFrame, context: pl.DataFrame) -> pl.DataFrame:
        """Readings with their windows and scores."""
        contract = self._contract
        if contract.windows:
            rows = rows.hstack(trailing(context, rows, contract.windows, contract.entity))
        for score in contract.scores:
            rows = rows.hstack(score.of(rows))
        return rows

    def revised(self, rows: pl.DataFrame) -> Judgement:
        """Readings that contradict the one that stands: they break no rule, unless one of those broken is urgent.

        A second value for the same instant never enters silver, but a low must reach a person. What depends on other
        readings is not computed for it.
        """
        derived = self._contract.derived
        rows = rows.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in derived.items())
        judged = self.judge(rows)
        # Rules on the reading's own value; rules on windows and scores are left out.
        is_of_reading = [not {rule.column, rule.unless} & {*derived} for rule in judged.rules]
        broken = judged.broken & np.array(is_of_reading, bool)
        is_urgent = (judged.told["severity"] == "urgent").to_numpy()[judged.numbers]
        broken[~(broken & is_urgent).any(axis=1)] = False
        return judged._replace(broken=broken)

    def judge(self, rows: pl.DataFrame) -> Judgement:
        """Readings with their windows and scores."""
        book = None if self._references is None else self._references.rulebook
        if book is None:
            rules = self._contract.rules
            broken = _columns_of([rule.is_broken(rows) for rule in rules], rows.height)
            numbers = np.broadcast_to(np.arange(len(rules)), broken.shape)
            return Judgement(rows, rules, broken, numbers, self._rules, self._limits, np.ones(len(rules), bool))
        told = book.told(rows)
        broken = _columns_of([_is_broken(told, number, rows) for number in range(len(told.rules))], rows.height)
        return Judgement(rows, told.rules, broken, told.numbers, told.rows, told.limits, told.is_enabled)

    def alerts(self, judged: Judgement, *, is_revision: bool = False) -> pl.DataFrame:
        """One row for each broken rule, in the order of readings, then rules."""
        contract, rows = self._contract, judged.rows
        found = np.flatnonzero(judged.broken)
        at, numbers = pl.Series(found // len(judged.rules)), pl.Series(judged.numbers.reshape(-1)[found])
        names = [name for name in (*PLACE[:1], *self._columns) if name in rows.columns]
        alerts = rows[names][at].hstack(judged.told[numbers])
        revision = pl.Series("is_revision", [is_revision], pl.Boolean).new_from_index(0, alerts.height)
        alerts = alerts.with_columns(_alert_ids(alerts, contract.entity), revision, *self._told(alerts))
        return alerts[[PLACE[0], *self._columns]]

    def _told(self, alerts: pl.DataFrame) -> Iterator[pl.Series]:
        """What is derived, where it broke the rule: an alert says no other mean, last value or score."""
        for names in self._told_together:
            is_other = alerts["column"] != names[0] if len(names) == 1 else ~alerts["column"].is_in(names)
            for name in names:
                yield alerts[name].set(is_other, None)


def _columns_of(broken: Sequence[pl.Series], count: int) -> NDArray[np.bool_]:
    if not broken:
        return np.zeros((count, 0), bool)
    columns: NDArray[np.bool_] = np.column_stack(broken)
    return columns


def _columns(derived: Window | Last | Score) -> list[str]:
    if isinstance(derived, Score):
        return [*derived.columns]
    return [derived.name, derived.age_name] if isinstance(derived, Last) else [derived.name]


def _is_broken(told: Told, number: int, rows: pl.DataFrame) -> pl.Series:
    """Whether each reading breaks a rule in the version that holds for it."""
    rule = told.rules[number]
    if number not in told.touched:
        return rule.is_broken(rows)
    numbers = told.numbers[:, number]
    return rule.is_broken(rows, pl.Series(told.thresholds[numbers])) & pl.Series(told.is_enabled[numbers])


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
