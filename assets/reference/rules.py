"""Rules as data: their table, and what a change of a rule adds to it once all of it is right. Pure.

A rule of a contract needs no row: the table overrides it for a scope and hours. What a rule compares, and how, is given
once and never changes; thresholds, severities and whether it is enabled do.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple, get_args

import dataframely as dy
import polars as pl

from assets.bitemporal import VALID_FROM
from assets.reference.cells import CellError
from assets.reference.tables import GROUP, PATIENTS
from assets.stream.contract import Comparison, Contract, Rule, RuleTable, utc
from assets.stream.rulebook import ALL, THING
from resources.table import Table, View


class RuleRows(dy.Schema):
    """One version of one rule for one scope and some hours. Key: rule_id, version.

    `scope` is `all`, `group:<name>` or `patient:<id>`. `hours_from` and `hours_to` are local times such as 22:00, the
    latter excluded; they may pass midnight, and null means always. A rule that is not enabled is never broken there.
    Where `is_deleted` is true the version ends what was said for the scope and hours. `kind` follows from the column:
    `level`, `window`, `rate`, `sustained`, `count`, `forecast` or `silence`. What ends in `_s`, and `clear_threshold`,
    is for alarms and has no effect on alerts.
    """

    rule_id = dy.String(nullable=False)
    stream = dy.String(nullable=False)
    cause = dy.String(nullable=False)
    kind = dy.String(nullable=False)
    column = dy.String(nullable=False)
    comparison = dy.String(nullable=False)
    threshold = dy.Float64(nullable=False)
    severity = dy.String(nullable=False)
    clear_threshold = dy.Float64(nullable=True)
    clear_after_s = dy.Int64(nullable=True)
    remind_every_s = dy.Int64(nullable=True)
    escalate_after_s = dy.Int64(nullable=True)
    max_age_s = dy.Int64(nullable=True)
    hours_from = dy.String(nullable=True)
    hours_to = dy.String(nullable=True)
    scope = dy.String(nullable=False)
    is_enabled = dy.Bool(nullable=False)
    version = dy.Int64(nullable=False)
    valid_from = utc()
    known_at = utc()
    is_deleted = dy.Bool(nullable=False)
    changed_by = dy.String(nullable=True)
    note = dy.String(nullable=True)


RULES = Table(f"{GROUP}/rules", RuleRows)
BY_PATIENT = RuleTable(RULES, "patient", PATIENTS.table, PATIENTS.key, "time_zone", "groups")
CURRENT_RULES = View(
    f"{GROUP}/current_rules",
    "One version of one rule for one scope and some hours. The version that holds now.",
    [RULES],
    f"SELECT * EXCLUDE (nth, is_deleted) FROM (SELECT *, row_number() OVER (PARTITION BY {', '.join(THING)} "
    f"ORDER BY valid_from DESC, known_at DESC, version DESC) AS nth FROM {RULES.sql_name} "
    "WHERE valid_from <= now()) WHERE nth = 1 AND NOT is_deleted",
)

BUILT_IN = "the contract"
"""Who has set what nobody has changed."""
MAX_ERRORS = 20
MAX_ID_CHARACTERS = 60
KINDS = ("level", "window", "rate", "sustained", "count", "forecast", "silence")
COMPARISONS: tuple[str, ...] = get_args(Comparison)
DEFINITION = ("stream", "cause", "kind", "column", "comparison")
"""What is said once of a rule."""


_CHANGING = (
    "threshold",
    "severity",
    "clear_threshold",
    "clear_after_s",
    "remind_every_s",
    "escalate_after_s",
    "max_age_s",
    "is_enabled",
)


class RuleChangeError(ValueError):
    """Rules cannot be changed so; the message has a line for each mistake. Nothing was written."""


@dataclass(frozen=True)
class Wanted:
    """A change of a rule for a scope and hours.

    Attributes:
        rule_id: the rule.
        given: by column what it shall be; what is not given stays as it is.
        scope: whom it is about.
        hours_from, hours_to: local times of day; always if None.
        is_deleted: whether what was said for the scope and hours ends.
        place: where the change comes from, as errors call it, such as a line; empty on the command line.
    """

    rule_id: str
    given: Mapping[str, Any]
    scope: str = ALL
    hours_from: str | None = None
    hours_to: str | None = None
    is_deleted: bool = False
    place: str = ""

    @property
    def thing(self) -> tuple[str | None, ...]:
        """What it is a version of."""
        return self.rule_id, self.scope, self.hours_from, self.hours_to

    @property
    def where(self) -> str:
        """The change as errors call it."""
        hours = f", {self.hours_from}-{self.hours_to}" if self.hours_from else ""
        place = f"{self.place}, " if self.place else ""
        return f"{place}rule {self.rule_id} ({self.scope}{hours})"


class RuleChanges(NamedTuple):
    """What changes of rules add to the table.

    Attributes:
        rows: the versions.
        unchanged: how many changes equal what holds, so that they add nothing.
    """

    rows: pl.DataFrame
    unchanged: int


class RuleSet:
    """All rules of some streams: those of the contracts, and those of the table.

    Args:
        contracts: the streams; those that have no rule table are left out.
        versions: all rows of the table.
    """

    def __init__(self, contracts: Iterable[Contract], versions: pl.DataFrame) -> None:
        self.contracts = {each.stream: each for each in contracts if each.rule_table is not None}
        self.versions = versions.sort("known_at", "version")

    @cached_property
    def definitions(self) -> dict[str, dict[str, Any]]:
        """By id what a rule was from the beginning: the row that the contract would be, or the first of the table."""
        first = self.versions.unique("rule_id", keep="first", maintain_order=True)
        of_table = {row["rule_id"]: row for row in first.iter_rows(named=True)}
        of_contracts = {
            rule.id: _row_of(contract, rule) for contract in self.contracts.values() for rule in contract.all_rules
        }
        return of_table | of_contracts

    def held(self, at: datetime) -> dict[tuple[str | None, ...], dict[str, Any]]:
        """By rule, scope and hours the row of the table that holds at an instant, by all that is known."""
        counted = self.versions.filter(pl.col(VALID_FROM) <= at).sort(VALID_FROM, "known_at", "version")
        last = counted.unique(THING, keep="last", maintain_order=True).filter(~pl.col("is_deleted"))
        return {tuple(row[name] for name in THING): row for row in last.iter_rows(named=True)}

    def listed(self, at: datetime) -> pl.DataFrame:
        """What holds at an instant: rows of the table, and rules of contracts that none replaces for all."""
        held = self.held(at)
        own = [
            _row_of(contract, rule)
            for contract in self.contracts.values()
            for rule in contract.all_rules
            if (rule.id, ALL, None, None) not in held
        ]
        rows = pl.DataFrame([*own, *held.values()], schema=RULES.schema, orient="row")
        return rows.sort("stream", "rule_id", pl.col("scope") != ALL, "scope", "hours_from")

    def changes(
        self, wanted: Sequence[Wanted], *, valid_from: datetime, known_at: datetime, changed_by: str | None
    ) -> RuleChanges:
        """The versions that changes add, if all of them are right.

        Raises:
            RuleChangeError: some are wrong.
        """
        held = self.held(valid_from)
        newest = dict(self.versions.group_by("rule_id").agg(pl.col("version").max()).iter_rows())
        of_load = {"valid_from": valid_from, "known_at": known_at, "changed_by": changed_by}
        defined, rows, errors, unchanged = dict(self.definitions), [], [], 0
        seen: dict[tuple[str | None, ...], Wanted] = {}
        for each in wanted:
            if (first := seen.setdefault(each.thing, each)) is not each:
                errors.append(f"{each.where}: it is there twice (first in {first.place}); keep one of the two")
                continue
            before = held.get(each.thing)
            if mistakes := [f"{each.where}, {column}: {error}" for column, error in self._wrong(each, defined, before)]:
                errors += mistakes
                continue
            own = before or held.get((each.rule_id, each.scope, None, None))
            is_on = not each.is_deleted and each.given.get("is_enabled", True)
            if own is None and each.scope != ALL and is_on and each.given.get("threshold") is None:
                remedy = "write the threshold that shall hold there: it does not follow from those of others"
                errors.append(f"{each.where}, threshold: {CellError('nothing said yet for this scope', remedy)}")
                continue
            base = own or held.get((each.rule_id, ALL, None, None)) or self._default_of(each, defined)
            # A note tells of one change, not of the next; what is said for the first time is meant to hold.
            of_change = {"note": None} | dict(zip(THING, each.thing, strict=True)) | {"is_deleted": each.is_deleted}
            if before is None:
                of_change["is_enabled"] = True
            row = {**base, **of_change, **each.given}
            if "threshold" in each.given and "clear_threshold" not in each.given and row["clear_threshold"] is not None:
                # Where the alarm ends moves with the threshold, also where it was set for others.
                row["clear_threshold"] = round(row["clear_threshold"] + row["threshold"] - base["threshold"], 6)
            if not each.is_deleted and (mistake := self._wrong_end(each, row)):
                errors.append(f"{each.where}, clear_threshold: {mistake}")
                continue
            if before is not None and not each.is_deleted and all(row[name] == before[name] for name in _CHANGING):
                unchanged += 1
                continue
            defined.setdefault(each.rule_id, row)
            version = max(newest.get(each.rule_id, 0), defined[each.rule_id]["version"] or 0) + 1
            newest[each.rule_id] = version
            rows.append(row | of_load | {"version": version})
        if errors:
            raise RuleChangeError(told(errors, "The rules were not changed; nothing was written."))
        return RuleChanges(pl.DataFrame(rows, schema=RULES.schema, orient="row"), unchanged)

    def _default_of(self, wanted: Wanted, defined: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        if wanted.rule_id in defined:
            return defined[wanted.rule_id]
        kind = self.contracts[wanted.given["stream"]].kind_of(wanted.given["column"])
        new = {"cause": wanted.rule_id, "kind": kind, "is_enabled": True}
        return {**dict.fromkeys(RULES.schema), **new}

    def _wrong_end(self, wanted: Wanted, row: Mapping[str, Any]) -> CellError | None:
        """What is wrong with where the alarm ends: on the wrong side of the threshold, or at what nobody measures."""
        clear, threshold = row["clear_threshold"], row["threshold"]
        if clear is None or not {"threshold", "clear_threshold"} & wanted.given.keys():
            return None
        is_downward = row["comparison"] in ("below", "at_most")
        if (clear < threshold) if is_downward else (clear > threshold):
            side = "from {:g} up" if is_downward else "up to {:g}"
            return CellError(
                f"{clear:g}, where the rule is broken still",
                f"write a number {side.format(threshold)}, or leave it out",
            )
        contract = self.contracts.get(row["stream"])
        bounds = None if contract is None else contract.plausible_of(row["column"])
        if bounds is not None and not bounds[0] <= clear <= bounds[1]:
            return CellError(
                f"{clear:g}, which no {row['column']} reaches, so that the alarm would never end",
                f"write a number from {bounds[0]:g} to {bounds[1]:g}, or leave it out",
            )
        return None

    def _wrong(
        self, wanted: Wanted, defined: Mapping[str, dict[str, Any]], before: dict[str, Any] | None
    ) -> Iterator[tuple[str, CellError]]:
        """What is wrong with a change: the column, and what to do."""
        if (wanted.hours_from is None) != (wanted.hours_to is None):
            yield "hours_from", CellError("hours without both ends", "write both hours_from and hours_to, or neither")
        elif wanted.hours_from is not None and wanted.hours_from == wanted.hours_to:
            yield "hours_to", CellError("hours that last no time", "write another time, or no hours for always")
        if wanted.is_deleted and before is None:
            yield (
                "scope",
                CellError("nothing that holds then", "choose a scope and hours that `pulselake rules list` shows"),
            )
        known, given = defined.get(wanted.rule_id), wanted.given
        if known is None:
            yield from self._wrong_definition(wanted)
            known = {}
        for name in DEFINITION:
            if name in given and name in known and given[name] != known[name]:
                yield (
                    name,
                    CellError(
                        f"another {name} than {known[name]}, which this rule has",
                        "leave it out, or give the new rule another rule_id",
                    ),
                )
        if given.get("max_age_s") == 0:
            remedy = "write how old a reading may be that raises an alarm, or disable the rule"
            yield "max_age_s", CellError("0 seconds, which no reading is as young as", remedy)
        stream, column = (known.get(name) or given.get(name) for name in ("stream", "column"))
        if stream in self.contracts and "threshold" in given:
            bounds = self.contracts[stream].plausible_of(column or "")
            if bounds is not None and not bounds[0] <= given["threshold"] <= bounds[1]:
                yield (
                    "threshold",
                    CellError(
                        f"{given['threshold']:g}, which no {column} reaches",
                        f"write a number from {bounds[0]:g} to {bounds[1]:g}, or disable the rule",
                    ),
                )

    def _wrong_definition(self, wanted: Wanted) -> Iterator[tuple[str, CellError]]:
        given, streams = wanted.given, ", ".join(self.contracts)
        needed = [
            name for name in ("stream", "column", "comparison", "threshold", "severity") if given.get(name) is None
        ]
        if len(needed) == 5 or set(needed) >= {"stream", "column", "comparison"}:
            yield (
                "rule_id",
                CellError(
                    f"no rule (there are {', '.join(sorted(self.definitions))})",
                    "correct the name, or load a new rule from a file with its stream, column, comparison, threshold "
                    "and severity",
                ),
            )
            return
        for name in needed:
            yield name, CellError("an empty cell", "write a value, since the rule is new")
        contract = self.contracts.get(given.get("stream", ""))
        if "stream" not in needed and contract is None:
            yield "stream", CellError("no stream with rules as data", f"write one of {streams}")
        if contract is not None and "column" not in needed and given["column"] not in contract.comparable:
            yield (
                "column",
                CellError(
                    f"no column of {contract.stream} that a rule can compare",
                    f"write one of {', '.join(sorted(contract.comparable))}",
                ),
            )
        if contract is None or "column" in needed:
            return
        if "kind" in given and given["kind"] != contract.kind_of(given["column"]):
            yield "kind", CellError("not what the column is", "leave it out: it follows from the column")
        comparisons = contract.comparisons_of(given["column"])
        if "comparison" not in needed and given["comparison"] not in comparisons:
            yield (
                "comparison",
                CellError(
                    f"{given['comparison']}, but {given['column']} tells how far readings are {comparisons[0]}",
                    f"write {' or '.join(comparisons)}, or choose another column",
                ),
            )


def _row_of(contract: Contract, rule: Rule) -> dict[str, Any]:
    return dict.fromkeys(RULES.schema) | {
        "rule_id": rule.id,
        "stream": contract.stream,
        "cause": rule.cause or rule.id,
        "kind": contract.kind_of(rule.column),
        "column": rule.column,
        "comparison": rule.comparison,
        "threshold": rule.threshold,
        "severity": rule.severity,
        "scope": ALL,
        "is_enabled": True,
        "version": rule.version,
        "is_deleted": False,
        "changed_by": BUILT_IN,
    }


def told(errors: Sequence[str], head: str) -> str:
    """The message of some mistakes."""
    more = len(errors) - MAX_ERRORS
    shown = [*errors[:MAX_ERRORS], *([f"… and {more:,} more errors"] if more > 0 else [])]
    return "\n".join([head, *(f"  {each}" for each in shown)])
