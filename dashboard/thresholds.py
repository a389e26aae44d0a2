"""Which rules hold for somebody now, and why: the evaluation of sessions, asked for one entity."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from assets.bitemporal import SAFETY_DELAY
from assets.reference.rules import RULES
from assets.stream.alerting import Alerting
from assets.stream.contract import Contract, Rule
from assets.stream.enrichment import References
from resources.lake import Lake


@dataclass(frozen=True)
class Threshold:
    """A rule as it holds for one entity.

    Attributes:
        stream, rule_id, cause, column, comparison, severity: of the rule.
        threshold: in the unit of the column.
        is_enabled: whether it can raise anything there.
        version: which version of the rule it is.
        why: the scope and hours of that version, who set it and when; None where it is the stream's own.
    """

    stream: str
    rule_id: str
    cause: str
    column: str
    comparison: str
    severity: str
    threshold: float
    is_enabled: bool
    version: int
    why: dict[str, Any] | None

    @property
    def said(self) -> str:
        """Why it holds, in words; the instant of `valid_from` is left out."""
        if self.why is None:
            return "built in: nobody has changed it"
        scope = {"all": "set for all"}.get(self.why["scope"], f"set for {self.why['scope'].replace(':', ' ')}")
        hours = f", {self.why['hours_from']}–{self.why['hours_to']} local time" if self.why["hours_from"] else ""
        return f"{scope}{hours}"


class InForce:
    """Finds them. What it has read is kept until it changes.

    Args:
        lake: where rules and patients are.
        contracts: the streams; those without rules as data are left out.
    """

    def __init__(self, lake: Lake, contracts: Sequence[Contract]) -> None:
        self._versions = lake.table(RULES)
        self._contracts = [each for each in contracts if each.rule_table is not None]
        self._references = [References(each, lake) for each in self._contracts]
        # What references keep of what they looked up is for one thread; pages are made by many.
        self._lock = threading.Lock()

    def of(self, entity: int, now: datetime, key: str = "patient_id") -> list[Threshold]:
        """The rules of all streams of this entity, in the order of streams and rules."""
        found: list[Threshold] = []
        with self._lock:
            for contract, references in zip(self._contracts, self._references, strict=True):
                if contract.entity == key:
                    references.refresh()
                    found += self._of_stream(contract, references, entity, now)
        return found

    def _of_stream(self, contract: Contract, references: References, entity: int, now: datetime) -> list[Threshold]:
        instant = pl.Datetime("us", "UTC")
        row = pl.DataFrame(
            {contract.entity: [entity], "measured_at": [now], "pulled_at": [now + SAFETY_DELAY]},
            schema={contract.entity: pl.Int64(), "measured_at": instant, "pulled_at": instant},
        )
        told = Alerting(contract, references).told(row)
        numbers = told.numbers[0].tolist()
        set_ones = {
            (told.rows["rule"][number], told.rows["rule_version"][number])
            for number in numbers
            if number >= len(told.rules)
        }
        why = self._set(set_ones) if set_ones else {}
        found = []
        for rule, number in zip(told.rules, numbers, strict=True):
            version = told.rows.row(number, named=True)
            reason = why.get((rule.id, version["rule_version"])) if number >= len(told.rules) else None
            found.append(_threshold(contract, rule, version, bool(told.is_enabled[number]), reason))
        if (silence := contract.alarms and contract.alarms.silence) and silence not in told.rules:
            # Where no rule is data, what is about silence is not among those that are evaluated.
            own = {"severity": silence.severity, "threshold": silence.threshold, "rule_version": silence.version}
            found.append(_threshold(contract, silence, own, True, None))
        return found

    def _set(self, wanted: set[tuple[str, int]]) -> dict[tuple[str, int], dict[str, Any]]:
        rows = self._versions.scan().filter(pl.col("rule_id").is_in([rule for rule, _ in wanted])).collect()
        return {(row["rule_id"], row["version"]): row for row in rows.iter_rows(named=True)}


def _threshold(
    contract: Contract, rule: Rule, version: dict[str, Any], is_enabled: bool, why: dict[str, Any] | None
) -> Threshold:
    return Threshold(
        contract.stream,
        rule.id,
        rule.about,
        rule.column,
        rule.comparison,
        version["severity"],
        version["threshold"],
        is_enabled,
        version["rule_version"],
        why,
    )
