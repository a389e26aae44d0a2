"""How alarms of each version of a rule behave: what the version says, else the contract's rule, else the contract."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assets.alarms.given import NO_LIMIT, NOT_SILENT, Silence, Versions, microseconds
from assets.alarms.tables import RANKS
from assets.stream.contract import SILENT_MINUTES, Alarms, Contract, Rule, Severity

LIMIT_COLUMNS = ("clear_threshold", "clear_after_s", "remind_every_s", "escalate_after_s", "max_age_s")
"""What a table of rules says of alarms."""
_FOR_EVER = timedelta(days=36500)
_NO_ALARMS = Alarms(max_age=_FOR_EVER, clear_after=timedelta(0))


class Limits(NamedTuple):
    """An item for each version of a rule: first of each rule itself, then of each row of the table.

    Attributes:
        versions: what alarms say of them; durations in microseconds.
        clear_thresholds: beyond which a rule is clear; NaN where only the threshold counts.
        max_ages: how old a reading may be, in microseconds.
        max_age: the same, where all have the same one.
        ranks: of the severity.
        silences: for each version of the rule about silence what it says; None of a version that is not enabled, and
            of other rules. The last item is None.
        silent_after: the time of each of these, in microseconds; `NOT_SILENT` for None.
        silence_rule: which of the rules that one is; None if there is none.
    """

    versions: Versions
    clear_thresholds: NDArray[np.float64]
    max_ages: NDArray[np.int64]
    max_age: int | None
    ranks: NDArray[np.int8]
    silences: Sequence[Silence | None]
    silent_after: NDArray[np.int64]
    silence_rule: int | None

    def is_young(self, ages: NDArray[np.int64], numbers: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether readings of some ages are young enough for versions of rules."""
        young: NDArray[np.bool_] = ages <= (self.max_ages[numbers] if self.max_age is None else self.max_age)
        return young

    def silence_of(self, numbers: NDArray[np.intp]) -> NDArray[np.int64]:
        """For readings, whose versions of each rule are given, which of `silences` holds."""
        count = len(numbers)
        if self.silence_rule is None or self.silence_rule >= numbers.shape[1]:
            # Without a table of rules the rule about silence is not among those that are evaluated.
            number = len(self.silences) - 1 if self.silence_rule is None else self.silence_rule
            return np.full(count, number, np.int64)
        found: NDArray[np.int64] = numbers[:, self.silence_rule].astype(np.int64)
        return found


def limits_of(contract: Contract, rules: Sequence[Rule], rows: pl.DataFrame | None = None) -> Limits:
    """The limits of rules, and of rows of a rule table that are versions of them."""
    alarms = contract.alarms or _NO_ALARMS
    by_id = {rule.id: rule for rule in rules}
    given = [*_of_rules(rules), *(() if rows is None else _of_rows(rows, by_id))]
    severities = [each["severity"] for each in given]

    def numbers(name: str, defaults: Mapping[Severity, timedelta]) -> NDArray[np.int64]:
        found = (
            defaults.get(severity) if each[name] is None else timedelta(seconds=each[name])
            for each, severity in zip(given, severities, strict=True)
        )
        return np.array([NO_LIMIT if one is None else microseconds(one) for one in found], np.int64)

    of_all = dict.fromkeys(severities, alarms.clear_after)
    rule_ids = [rule.id for rule in rules]
    number_of = {rule_id: number for number, rule_id in enumerate(rule_ids)}
    versions = Versions(
        rule_ids=rule_ids,
        rule=np.array([number_of[each["rule_id"]] for each in given], np.int64),
        number=np.array([each["version"] for each in given], np.int64),
        threshold=np.array([each["threshold"] for each in given], np.float64),
        clear_after=numbers("clear_after_s", of_all),
        remind_every=numbers("remind_every_s", alarms.remind_every),
        escalate_after=numbers("escalate_after_s", alarms.escalate_after),
    )
    clear = [each["clear_threshold"] for each in given]
    silences = [*map(_silence, given, severities), None]
    max_ages = numbers("max_age_s", dict.fromkeys(severities, alarms.max_age))
    return Limits(
        versions,
        np.array([np.nan if one is None else one for one in clear], np.float64),
        max_ages,
        int(max_ages[0]) if len(max_ages) and (max_ages == max_ages[0]).all() else None,
        np.array([RANKS[severity] for severity in severities], np.int8),
        silences,
        np.array([NOT_SILENT if each is None else each.after for each in silences], np.int64),
        next((number for number, rule in enumerate(rules) if rule.column == SILENT_MINUTES), None),
    )


def _silence(row: Mapping[str, Any], severity: Severity) -> Silence | None:
    if row["column"] != SILENT_MINUTES or not row["is_enabled"]:
        return None
    after = microseconds(timedelta(minutes=row["threshold"]))
    return Silence(after, RANKS[severity], row["rule_id"], row["version"], row["threshold"])


def _of_rules(rules: Sequence[Rule]) -> Iterator[dict[str, Any]]:
    for rule in rules:
        yield dict.fromkeys(LIMIT_COLUMNS) | {
            "rule_id": rule.id,
            "version": rule.version,
            "severity": rule.severity,
            "threshold": rule.threshold,
            "clear_threshold": rule.clear_threshold,
            "column": rule.column,
            "is_enabled": True,
        }


def _of_rows(rows: pl.DataFrame, rules: Mapping[str, Rule]) -> Iterator[dict[str, Any]]:
    names = ["rule_id", "version", "severity", "threshold", "column", "is_enabled", *LIMIT_COLUMNS]
    for row in rows[names].iter_rows(named=True):
        rule = rules[row["rule_id"]]
        if row["clear_threshold"] is None and rule.clear_threshold is not None:
            # Whoever moves a threshold keeps its distance from where the alarm ends.
            row["clear_threshold"] = row["threshold"] + rule.clear_threshold - rule.threshold
        yield row
