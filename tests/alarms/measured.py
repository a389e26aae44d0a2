"""Missed episodes and retracted alarms by their definition, one breach after the other."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import polars as pl

from assets.alarms.measures import ALARMS
from assets.alarms.records import alarm_id_of
from assets.stream.contract import Contract
from resources.lake import Lake

RANKS = {"info": 1, "warning": 2, "urgent": 3}
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
MISSED_COLUMNS = (
    *("alarm_id", "entity", "cause", "severity", "worst_severity", "rule_id", "raised_at", "cleared_at"),
    *("decided_at", "worst_value", "reading_count", "event_date"),
)


class Breach(NamedTuple):
    """A rule that a reading broke."""

    entity: int
    cause: str
    at: datetime
    received_at: datetime
    rule: str
    place: int
    severity: str
    value: float
    reading: tuple[int, ...]


class Span(NamedTuple):
    """An alarm; it is open without an end."""

    entity: int
    cause: str
    raised_at: datetime
    cleared_at: datetime | None


def missed_of(
    stream: str, breaches: Iterable[Breach], alarms: Sequence[Span], gap: timedelta, downward: Iterable[str] = ()
) -> set[tuple[Any, ...]]:
    """The missed episodes, as `MISSED_COLUMNS`."""
    found: list[list[Breach]] = []
    for breach in sorted(breaches, key=lambda each: (each.entity, each.cause, each.at)):
        if any(_covers(alarm, breach, gap) for alarm in alarms):
            continue
        last = found[-1][-1] if found else None
        is_next = (
            last is not None
            and (last.entity, last.cause, last.at.date()) == (breach.entity, breach.cause, breach.at.date())
            and breach.at - last.at <= gap
        )
        if is_next:
            found[-1].append(breach)
        else:
            found.append([breach])
    return {_episode(stream, each, {*downward}) for each in found}


def _covers(alarm: Span, breach: Breach, gap: timedelta) -> bool:
    is_of = (alarm.entity, alarm.cause) == (breach.entity, breach.cause)
    is_before_end = alarm.cleared_at is None or breach.at <= alarm.cleared_at + gap
    return is_of and alarm.raised_at - gap <= breach.at and is_before_end


def _episode(stream: str, breaches: list[Breach], downward: set[str]) -> tuple[Any, ...]:
    def leading(some: Iterable[Breach]) -> Breach:
        return min(some, key=lambda each: (-RANKS[each.severity], each.place))

    first = breaches[0]
    readings = {each.reading for each in breaches}
    leaders = [leading(each for each in breaches if each.reading == reading) for reading in readings]
    raising = leading(each for each in breaches if each.at == first.at)
    worst = min if first.cause in downward else max
    return (
        alarm_id_of(stream, first.entity, first.cause, (first.at - EPOCH) // MICROSECOND),
        first.entity,
        first.cause,
        raising.severity,
        max((each.severity for each in breaches), key=RANKS.__getitem__),
        raising.rule,
        first.at,
        breaches[-1].at,
        min(each.received_at for each in breaches),
        worst(each.value for each in leaders),
        len(readings),
        first.at.date(),
    )


def missed_in(lake: Lake, contract: Contract, gap: timedelta) -> set[tuple[Any, ...]]:
    """The missed episodes that follow from the tables of alerts and of alarms."""
    rules = {rule.id: (place, rule) for place, rule in enumerate(contract.rules)}
    breaches = []
    for row in lake.table(contract.tables.alerts).scan().collect().iter_rows(named=True):
        place, rule = rules[row["rule"]]
        reading = tuple(row[name] or 0 for name in ("hub_epoch", "partition", "sequence_number", "event_index"))
        breaches.append(
            Breach(
                entity=row[contract.entity],
                cause=rule.about,
                at=row["measured_at"],
                received_at=row["received_at"],
                rule=row["rule"],
                place=place,
                severity=row["severity"],
                value=row[rule.column],
                reading=reading,
            )
        )
    downward = {rule.about for rule in contract.rules if rule.is_downward}
    return missed_of(contract.stream, breaches, spans_in(lake, contract), gap, downward)


def spans_in(lake: Lake, contract: Contract) -> list[Span]:
    """The alarms of the table of alarms."""
    rows = lake.table(contract.tables["alarms"]).scan().filter(~pl.col("is_update"), pl.col("index") >= 0).collect()
    found: dict[str, Span] = {}
    for row in rows.sort("fold", "index").iter_rows(named=True):
        end = row["at"] if row["kind"] in ("cleared", "closed") else None
        found[row["alarm_id"]] = Span(row["entity"], row["cause"], row["raised_at"], end)
    return [*found.values()]


def gold(lake: Lake) -> pl.DataFrame:
    """All rows of `gold/alarms`."""
    return lake.table(ALARMS).scan().collect().sort("raised_at", "alarm_id")


def missed(rows: pl.DataFrame) -> set[tuple[Any, ...]]:
    """The missed episodes among rows."""
    return set(rows.filter(pl.col("state") == "missed").select(MISSED_COLUMNS).rows())
