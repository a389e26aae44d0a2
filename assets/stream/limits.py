"""How alarms of each version of a rule behave: what the version says, else the contract's rule, else the contract."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assets.alarms.episodes import NO_LIMIT, Silence, Versions, microseconds
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
        thresholds: of each.
        clear_thresholds: beyond which a rule is clear; NaN where only the threshold counts.
        max_ages: how old a reading may be, in microseconds.
        ranks: of the severity.
        silences: for each version of the rule about silence what it says; None of a version that is not enabled, and
            of other rules. The last item is None.
        silence_rule: which of the rules that one is; None if there is none.
    """

    versions: Versions
    thresholds: NDArray[np.float64]
    clear_thresholds: NDArray[np.float64]
    max_ages: NDArray[np.int64]
    ranks: NDArray[np.int8]
    silences: Sequence[Silence | None]
    silence_rule: int | None

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
    versions = Versions(
        rule_ids=[each["rule_id"] for each in given],
        numbers=[each["version"] for each in given],
        thresholds=[float(each["threshold"]) for each in given],
        clear_after=numbers("clear_after_s", of_all),
        remind_every=numbers("remind_every_s", alarms.remind_every),
        escalate_after=numbers("escalate_after_s", alarms.escalate_after),
    )
    clear = [each["clear_threshold"] for each in given]
    return Limits(
        versions,
        np.array(versions.thresholds, np.float64),
        np.array([np.nan if one is None else one for one in clear], np.float64),
        numbers("max_age_s", dict.fromkeys(severities, alarms.max_age)),
        np.array([RANKS[severity] for severity in severities], np.int8),
        [*map(_silence, given, severities), None],
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
