"""From readings to alerts: which rules each of them breaks, and how an alert is named."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import polars_hash as plh
from numpy.typing import NDArray

from assets.stream.cleaning import PLACE
from assets.stream.contract import Contract, Last, Score, Window
from assets.stream.windows import trailing


class Alerting:
    """Evaluates the rules of one stream."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._columns = contract.tables.alerts.schema.names()
        self._rules = _rules(contract)
        # Rules on the reading's own value; rules on windows and scores are left out.
        self._is_of_reading = np.array(
            [not {rule.column, rule.unless} & {*contract.derived} for rule in contract.rules], bool
        )
        compared = {rule.column for rule in contract.rules}
        derived = (_columns(each) for each in (*contract.windows, *contract.scores))
        # What is compared must be in alerts; of the rest they say what they have a column for.
        told = ([name for name in names if name in compared or name in self._columns] for names in derived)
        self._told_together = [names for names in told if names]
        self._is_urgent = np.array([rule.severity == "urgent" for rule in contract.rules], bool)

    def raised(self, rows: pl.DataFrame, context: pl.DataFrame) -> pl.DataFrame:
        """The alerts of readings that stand, given earlier readings that their windows may hold."""
        return self.broken(self.derived(rows, context))

    def derived(self, rows: pl.DataFrame, context: pl.DataFrame) -> pl.DataFrame:
        """Readings with their windows and scores."""
        contract = self._contract
        if contract.windows:
            rows = rows.hstack(trailing(context, rows, contract.windows, contract.entity))
        for score in contract.scores:
            rows = rows.hstack(score.of(rows))
        return rows

    def broken(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The alerts of readings with their windows and scores."""
        return self._breaches(rows, self._broken(rows), is_revision=False)

    def revised(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The alerts of readings that contradict the one that stands: none, unless one of them is urgent.

        A second value for the same instant never enters silver, but a low must reach a person. What depends on other
        readings is not computed for it.
        """
        unknown = (pl.lit(None, dtype).alias(name) for name, dtype in self._contract.derived.items())
        rows = rows.with_columns(*unknown)
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
        names = [name for name in (*PLACE[:1], *self._columns) if name in rows.columns]
        alerts = rows[names][at].hstack(self._rules[rules])
        revision = pl.Series("is_revision", [is_revision], pl.Boolean).new_from_index(0, alerts.height)
        alerts = alerts.with_columns(_alert_ids(alerts, contract.entity), revision, *self._told(alerts))
        return alerts[[PLACE[0], *self._columns]]

    def _told(self, alerts: pl.DataFrame) -> Iterator[pl.Series]:
        """What is derived, where it broke the rule: an alert says no other mean, last value or score."""
        for names in self._told_together:
            is_other = alerts["column"] != names[0] if len(names) == 1 else ~alerts["column"].is_in(names)
            for name in names:
                yield alerts[name].set(is_other, None)


def _columns(derived: Window | Last | Score) -> list[str]:
    if isinstance(derived, Score):
        return [*derived.columns]
    return [derived.name, derived.age_name] if isinstance(derived, Last) else [derived.name]


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
