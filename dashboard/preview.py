"""What a change of rules would have done in the last days: the evaluation of sessions, over silver, with other rules.

```
 silver, 7 days ──▶ windows, scores ──┬─▶ rules as they are ─────────▶ fold ─▶ alarms before
                                      └─▶ the same and the change ───▶ fold ─▶ alarms after
```

Rules and groups count as they are now, as if they had held all the time. Readings are folded as one micro-batch, which
gives the alarms that sessions give but for readings that came late. What people did is left out, so reminders and
escalations are those of alarms that nobody looks after.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial

import numpy as np
import polars as pl

from assets.alarms.episodes import Episodes
from assets.alarms.given import microseconds
from assets.alarms.tables import RANKS
from assets.bitemporal import IS_DELETED, KNOWN_AT, VALID_FROM, AsOf
from assets.notifications.foreseen import foreseen
from assets.notifications.people import People
from assets.notifications.people import people as people_told
from assets.notifications.transitions import of_row
from assets.reference.rules import RULES, RuleSet, Wanted
from assets.reference.tables import DEVICES, PATIENTS, SUBSCRIBERS, SUBSCRIPTIONS
from assets.reference_store import held, rule_versions
from assets.stream.alarming import NO_ROWS, Alarming
from assets.stream.alerting import Alerting
from assets.stream.contract import GROUP_SEPARATOR, Contract
from assets.stream.enrichment import References
from assets.stream.rulebook import ALL, THING, Rulebook, RuleVersions
from dashboard.previewed import Preview
from dashboard.site import CONTRACTS_WITH_ALARMS
from resources.lake import Lake
from resources.settings import Settings
from resources.storage import lake_of

PERIOD = timedelta(days=7)
MAX_READINGS, MAX_SCANNED = 4_000_000, 100_000_000
"""Of a stream with more readings the newest are evaluated; those of some patients are looked for in more of them."""
READINGS_AT_ONCE = 500_000
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
_ALWAYS_HELD = tuple(pl.lit(_ALWAYS, pl.Datetime("us", "UTC")).alias(name) for name in (VALID_FROM, KNOWN_AT))


def preview_of(settings: Settings, wanted: Wanted, now: datetime) -> Preview:
    """Evaluates a change of the rules that have alarms. It runs in `apart`, since it takes much memory.

    Raises:
        RuleChangeError, SchemaError: see `preview`.
    """
    return preview(lake_of(settings), CONTRACTS_WITH_ALARMS, wanted, now)


def preview(lake: Lake, contracts: Sequence[Contract], wanted: Wanted, now: datetime) -> Preview:
    """Evaluates a change.

    Raises:
        RuleChangeError: the change is wrong.
        SchemaError: a table does not fit its contract.
    """
    rules = RuleSet(contracts, rule_versions(lake))
    changed = rules.changes([wanted], valid_from=now, known_at=now, changed_by=None).rows
    definition = rules.definitions.get(wanted.rule_id) or changed.row(0, named=True)
    contract = rules.contracts[definition["stream"]]
    people = held(lake, PATIENTS, now)
    concerned = concerned_by(wanted.scope, people)
    since = now - PERIOD
    readings, since = _readings(lake, contract, since, now, concerned)
    present = pl.DataFrame([*rules.held(now).values()], schema=RULES.schema, orient="row")
    is_same = pl.all_horizontal(
        pl.col(name).eq_missing(pl.lit(value, pl.String())) for name, value in zip(THING, wanted.thing, strict=True)
    )
    future = pl.concat([present.filter(~is_same), changed.filter(~pl.col(IS_DELETED))]) if changed.height else present
    cause = definition["cause"]
    evaluation = Evaluation(contract, lake, cause, people, readings, since, now)
    before, after = evaluation.transitions(present), evaluation.transitions(future)
    subscribers, subscriptions, devices = (held(lake, each, now) for each in (SUBSCRIBERS, SUBSCRIPTIONS, DEVICES))
    told = people_told(subscribers, subscriptions, people, devices)
    count = partial(_notifications, contract, told, now)
    return Preview(
        since,
        now,
        evaluation.count,
        cause,
        _by_patient(before, after),
        _by_severity(before),
        _by_severity(after),
        count(before),
        count(after),
    )


def concerned_by(scope: str, people: pl.DataFrame) -> list[int] | None:
    """The patients in a scope; None for all."""
    kind, _, who = scope.partition(":")
    if scope == ALL:
        return None
    if kind == "patient":
        return [int(who)]
    groups = people["groups"].fill_null("").str.split(GROUP_SEPARATOR)
    return people.filter(groups.list.eval(pl.element().str.strip_chars()).list.contains(who))["patient_id"].to_list()


def _readings(
    lake: Lake, contract: Contract, since: datetime, until: datetime, concerned: list[int] | None
) -> tuple[pl.DataFrame, datetime]:
    """Readings in the order of processing with those that windows reach back to, and from when on all are there."""
    silver = lake.table(contract.tables.silver).scan()
    looked_at = {window.column for window in contract.windows} | {rule.column for rule in contract.all_rules}
    looked_at |= {rule.unless for rule in contract.all_rules if rule.unless} | {*contract.plausible}
    place = ("received_at", "hub_epoch", "partition", "sequence_number", "event_index")
    columns = [name for name in silver.collect_schema().names() if name in looked_at]
    most = MAX_READINGS if concerned is None else MAX_SCANNED
    since = reach_back(_by_day(lake, contract), since, until, most)
    first = since - contract.reach
    is_of = pl.col("received_at").is_between(first, until) & (pl.col("ingest_date") >= first.date())
    if concerned is not None:
        is_of &= pl.col(contract.entity).is_in(concerned)
    wanted = silver.filter(is_of).select(contract.entity, "measured_at", *place, *columns)
    return wanted.sort("received_at", "partition", "sequence_number", "event_index").collect(), since


def _by_day(lake: Lake, contract: Contract) -> dict[date, int]:
    """How many rows silver has of each ingest date, by its log alone."""
    snapshot = lake.table(contract.tables.silver).snapshot()
    if snapshot is None:
        return {}
    counts = snapshot.files.group_by("ingest_date").agg(pl.col("num_records").sum())
    return {date.fromisoformat(str(day)): int(count) for day, count in counts.iter_rows()}


def reach_back(by_day: Mapping[date, int], since: datetime, until: datetime, most: int) -> datetime:
    """The instant, not before `since`, from which on there are about so many rows at most.

    Args:
        by_day: rows of each date in UTC; they are taken to be spread evenly.
        since, until: what is wanted.
        most: how many rows.
    """
    left, end = most, until
    for day in sorted(by_day, reverse=True):
        begin = max(since, datetime(day.year, day.month, day.day, tzinfo=UTC))
        if begin >= end:
            continue
        if by_day[day] > left:
            return end - (end - begin) * (left / by_day[day])
        left, end = left - by_day[day], begin
    return since


class Evaluation:
    """Readings that are evaluated with different rules, some entities at a time, so that memory stays bounded.

    Args:
        contract, lake: the stream, and where its reference tables are.
        cause: the alarms that are wanted; others are not folded.
        people: the patients as they are known now.
        readings: in the order of processing.
        since: readings that were received before are known only, and raise nothing.
        until: when silence is looked for last.
    """

    def __init__(
        self,
        contract: Contract,
        lake: Lake,
        cause: str,
        people: pl.DataFrame,
        readings: pl.DataFrame,
        since: datetime,
        until: datetime,
    ) -> None:
        self._contract, self._cause, self._until = contract, cause, until
        self._references = References(contract, lake)
        is_known = people.height and contract.entity in people.columns
        self._people = AsOf(people.with_columns(*_ALWAYS_HELD), contract.entity) if is_known else None
        part_count = -(-readings.height // READINGS_AT_ONCE)
        self._parts = [readings.filter(pl.col(contract.entity) % part_count == number) for number in range(part_count)]
        self._since = since
        self.count = int((readings["received_at"] > since).sum())

    def transitions(self, versions: pl.DataFrame) -> pl.DataFrame:
        """What happens to alarms of the cause if these versions of rules hold all the time."""
        contract = self._contract
        holding = versions.with_columns(*_ALWAYS_HELD, pl.lit(False).alias(IS_DELETED))
        made = RuleVersions(contract, contract.rule_table, holding) if contract.rule_table else None
        self._references.rulebook = None if made is None or made.is_empty else Rulebook(made, self._people)
        rows = [self._of_part(part) for part in self._parts]
        return pl.concat([NO_ROWS, *rows]).filter(pl.col("cause") == self._cause, ~pl.col("is_update"))

    def _of_part(self, part: pl.DataFrame) -> pl.DataFrame:
        contract = self._contract
        numbered = part.with_columns(
            event=pl.int_range(pl.len(), dtype=pl.UInt32), pulled_at=pl.lit(self._until, pl.Datetime("us", "UTC"))
        )
        is_new = numbered["received_at"] > self._since
        context, new = numbered.filter(~is_new), numbered.filter(is_new)
        if new.is_empty():
            return NO_ROWS
        judged = Alerting(contract, self._references).judged(new, context, partial(_known, context))
        of_cause = np.array([rule.about == self._cause for rule in judged.told.rules], bool)
        alarming = Alarming(contract, Episodes(contract.stream))
        folded = alarming.fold(new, judged._replace(broken=judged.broken & of_cause), None, new.clear())
        ticked = alarming.tick(microseconds(self._until - _ALWAYS))
        return pl.concat([folded.rows, ticked.rows])


def _known(rows: pl.DataFrame, _: pl.DataFrame, __: timedelta) -> pl.DataFrame:
    return rows


def _by_severity(transitions: pl.DataFrame) -> dict[str, int]:
    """How many alarms there were, by their worst severity."""
    worst = _worst(transitions).group_by("severity").len()
    return dict(sorted(worst.iter_rows(), key=lambda each: -RANKS[each[0]]))


def _worst(transitions: pl.DataFrame) -> pl.DataFrame:
    rank = pl.col("severity").replace_strict(RANKS, return_dtype=pl.Int8())
    return transitions.sort(rank, maintain_order=True).unique("alarm_id", keep="last", maintain_order=True)


def _by_patient(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Entities with another number of alarms than before, those with the greatest difference first."""
    counts = [
        _worst(each).group_by("entity").agg(pl.len().cast(pl.Int64).alias(name))
        for name, each in (("before", before), ("after", after))
    ]
    both = (
        counts[0]
        .join(counts[1], on="entity", how="full", coalesce=True)
        .with_columns(pl.col("before", "after").fill_null(0))
    )
    difference = (pl.col("after") - pl.col("before")).abs()
    return both.filter(difference > 0).sort(difference, "entity", descending=[True, False])


def _notifications(contract: Contract, who: People, until: datetime, transitions: pl.DataFrame) -> int:
    """How many notifications of transitions would have been sent, by who is told now."""
    in_order = transitions.sort("alarm_id", "index")
    return foreseen((of_row(row, contract.entity) for row in in_order.iter_rows(named=True)), who, until)
