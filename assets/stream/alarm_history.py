"""What is on record of one alarm: its transitions, the readings that decided them, and what they give again."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import NamedTuple

import polars as pl

from assets.alarms.episodes import Episodes
from assets.alarms.given import Action, microseconds
from assets.alarms.tables import ACTION_KINDS, SILENCE
from assets.stream.alarming import Alarming
from assets.stream.alerting import Alerting
from assets.stream.contract import FUTURE_TOLERANCE, POSITION, Contract
from assets.stream.enrichment import References
from assets.stream.log import SNAPSHOT, hub_epoch
from resources.lake import Lake

BEFORE = timedelta(hours=1)
"""How much earlier than the raising reading folding again begins."""
MAX_READINGS = 50_000
"""Of an alarm that has lasted for longer the first readings are folded again."""
ID_LENGTH = 16
"""Characters of an alarm's id."""
SPANS = (8, 32, 128)
"""On how many dates an alarm is looked for at once. Most that somebody asks for were raised within a week."""
COMPARED = ["index", "kind", "at", "severity", "state", "rule_id", "worst_value", "reading_count", "tier"]
_PEOPLE = tuple(ACTION_KINDS.values())


class AlarmUnknownError(LookupError):
    """No alarm has this id, or several have."""


class Explained(NamedTuple):
    """One alarm.

    Attributes:
        transitions: rows of the table, in order.
        readings: of its entity from before it was raised to its last transition: silver's columns, `pulled_at` and the
            raw `body` from bronze, in the order of processing.
        again: the transitions that folding the readings again gives.
        is_same: whether these are the same; None where readings are gone, or the alarm is about no readings.
    """

    transitions: pl.DataFrame
    readings: pl.DataFrame
    again: pl.DataFrame
    is_same: bool | None


def standing(contract: Contract, lake: Lake, since: datetime | None = None) -> pl.DataFrame:
    """The alarms of a stream as they stand: those that are open, and those that changed since an instant."""
    table = lake.table(contract.tables["alarms"])
    stored = table.snapshot()
    if stored is None:
        return pl.DataFrame(schema=table.table.schema)
    name, rows = f"{contract.stream}/{SNAPSHOT}", stored.scan().filter(pl.col("index") >= 0)
    step = stored.transactions([name]).get(name, 0)
    is_after = pl.col("fold") >= step
    # Of a table of years only some dates are opened: those that have later steps, and those of after the instant.
    parts = [rows.filter(is_after, pl.col("ingest_date") >= _first_date(stored.files, step))]
    if since is not None:
        is_since = (pl.col("ingest_date") >= since.date()) & (pl.col("decided_at") >= since)
        parts.append(rows.filter(~is_after, is_since))
    ordered = pl.concat(pl.collect_all(parts)).sort("fold", "index", "is_update", maintain_order=True)
    last = ordered.unique("alarm_id", keep="last", maintain_order=True)
    is_over = pl.col("state") == "cleared"
    return last.filter(~is_over if since is None else ~is_over | (pl.col("decided_at") >= since))


def _first_date(files: pl.DataFrame, step: int) -> date:
    """The first ingest date that may have rows of a step or of a later one, by the statistics of the files."""
    newest = pl.col("max.fold") if "max.fold" in files.columns else pl.lit(None, pl.Int64)
    first = files.filter((newest >= step).fill_null(True))["ingest_date"].min()
    return date.max if first is None else date.fromisoformat(str(first))


def found(
    contracts: Sequence[Contract], lake: Lake, alarm_id: str, since: date | None = None
) -> tuple[Contract, pl.DataFrame]:
    """The stream and the transitions of an alarm, by its id or the beginning of it.

    An id is looked for on the newest ingest dates first, and no date from before the alarm was raised is read. The
    beginning of one is looked for on all dates, since it may be that of several.

    Args:
        contracts: the streams that have alarms.
        lake: where their tables are.
        alarm_id: the id, or its beginning.
        since: ingest dates before this one are not looked at.

    Raises:
        AlarmUnknownError: there is none, or the beginning is that of several.
    """
    matches = [
        (contract, rows) for contract in contracts if (rows := _transitions(contract, lake, alarm_id, since)).height
    ]
    ids = sorted({each for _, rows in matches for each in rows["alarm_id"].unique()})
    if len(ids) == 1:
        [(contract, rows)] = matches
        return contract, rows
    raise AlarmUnknownError(
        f"The id {alarm_id} begins those of several alarms: {', '.join(ids[:5])}. Write more of it."
        if ids
        else f"No alarm has the id {alarm_id}. `pulselake alarms` lists those that are open."
    )


def explained(contract: Contract, lake: Lake, transitions: pl.DataFrame) -> Explained:
    """An alarm with the readings that decided it, folded again."""
    entity, cause = transitions["entity"][0], transitions["cause"][0]
    raised_at, ended_at = transitions["raised_at"][0], max(transitions["decided_at"].to_list())
    readings = _readings(contract, lake, entity, raised_at, ended_at)
    if readings.is_empty() or cause not in {rule.about for rule in contract.rules} | {SILENCE}:
        return Explained(transitions, readings, transitions.clear(), None)
    again = _folded(contract, lake, readings, transitions)
    is_same: bool | None = transitions[COMPARED].equals(again[COMPARED])
    if not is_same and _is_incomplete(transitions, readings):
        is_same = None
    return Explained(transitions, readings, again, is_same)


def _transitions(contract: Contract, lake: Lake, alarm_id: str, since: date | None) -> pl.DataFrame:
    table = lake.table(contract.tables["alarms"])
    rows = table.scan().filter(~pl.col("is_update"), pl.col("index") >= 0)
    if since is not None:
        rows = rows.filter(pl.col("ingest_date") >= since)
    if len(alarm_id) < ID_LENGTH:
        return rows.filter(pl.col("alarm_id").str.starts_with(alarm_id)).sort("fold", "index").collect()
    of_alarm = rows.filter(pl.col("alarm_id") == alarm_id)
    for first, last in _spans(table.dates("ingest_date"), since):
        raised_at = of_alarm.filter(pl.col("ingest_date").is_between(first, last)).select("raised_at").head(1).collect()
        if raised_at.height:
            begin = (raised_at.item() - FUTURE_TOLERANCE).date()
            return of_alarm.filter(pl.col("ingest_date") >= begin).sort("fold", "index").collect()
    return rows.clear().collect()


def _spans(dates: Sequence[date], since: date | None) -> Iterator[tuple[date, date]]:
    """Spans of dates that have rows, the newest first: a week, a month, four months, the rest."""
    left = [each for each in dates if since is None or each >= since]
    for size in SPANS:
        if left:
            yield left[-size:][0], left[-1]
            left = left[:-size]
    if left:
        yield left[0], left[-1]


def _readings(contract: Contract, lake: Lake, entity: int, since: datetime, until: datetime) -> pl.DataFrame:
    place, begin = list(POSITION[:3]), since - BEFORE - contract.reach
    # What was pulled after the last transition decided nothing.
    is_pulled = pl.col("ingest_date").is_between((begin - FUTURE_TOLERANCE).date(), until.date())
    is_of = (pl.col(contract.entity) == entity) & pl.col("measured_at").is_between(begin, until)
    silver = (
        lake.table(contract.tables.silver)
        .scan()
        .filter(is_pulled, is_of)
        .with_columns(hub_epoch)
        .sort("received_at")
        .head(MAX_READINGS)
        .collect()
    )
    if silver.is_empty():
        return silver.with_columns(pulled_at=pl.lit(None, pl.Datetime("us", "UTC")), body=pl.lit(None, pl.String))
    dates = silver["ingest_date"].unique().to_list()
    numbers = silver["sequence_number"]
    events = (
        lake.table(contract.tables.bronze)
        .scan()
        .filter(
            pl.col("ingest_date").is_in(dates),
            pl.col("sequence_number").is_between(numbers.min(), numbers.max()),
            pl.col("partition").is_in(silver["partition"].unique().to_list()),
        )
        .select(hub_epoch.alias("hub_epoch"), *place[1:], "pulled_at", "body")
        .join(silver[place].unique().lazy(), on=place, how="semi")
        .collect()
    )
    ordered = silver.join(events, on=place, how="left").sort("pulled_at", *place[1:], "event_index")
    return ordered.filter(pl.col("pulled_at").is_null() | (pl.col("pulled_at") <= until))


def _folded(contract: Contract, lake: Lake, readings: pl.DataFrame, transitions: pl.DataFrame) -> pl.DataFrame:
    """The transitions of the alarm that the readings give, with the actions of people at their places."""
    references = References(contract, lake)
    references.refresh()
    alerting = Alerting(contract, references)
    alarming = Alarming(contract, Episodes(contract.stream))
    actions = transitions.filter(pl.col("kind").is_in(_PEOPLE))
    rows: list[pl.DataFrame] = []
    is_known = readings.clear()
    batches = readings.drop_nulls("pulled_at").partition_by("pulled_at", maintain_order=True)
    for batch in batches:
        pulled_at = batch["pulled_at"][0]
        rows += _acted(alarming, actions, pulled_at)
        actions = actions.filter(pl.col("decided_at") > pulled_at)
        numbered = batch.with_columns(event=pl.int_range(pl.len(), dtype=pl.UInt32))
        judged = alerting.judged(numbered, is_known, partial(_known, is_known))
        rows.append(alarming.fold(numbered, judged, None, numbered.clear()).rows)
        is_known = pl.concat([is_known, batch])
    end: datetime = transitions["decided_at"].to_list()[-1]
    rows += _acted(alarming, actions, end + timedelta(microseconds=1))
    rows.append(alarming.tick(_us(end)).rows)
    of_alarm = pl.concat(rows).filter(pl.col("alarm_id") == transitions["alarm_id"][0], ~pl.col("is_update"))
    return of_alarm.head(transitions.height)


def _known(rows: pl.DataFrame, _: pl.DataFrame, __: timedelta) -> pl.DataFrame:
    return rows


def _acted(alarming: Alarming, actions: pl.DataFrame, before: datetime) -> Iterator[pl.DataFrame]:
    kinds = {transition: action for action, transition in ACTION_KINDS.items()}
    for row in actions.filter(pl.col("decided_at") <= before).iter_rows(named=True):
        until = None if row["until"] is None else _us(row["until"])
        action = Action(
            row["action_id"], row["alarm_id"], kinds[row["kind"]], row["actor"], row["note"], until, _us(row["at"])
        )
        yield alarming.act([action], _us(row["decided_at"]), {}, {}).rows


def _is_incomplete(transitions: pl.DataFrame, readings: pl.DataFrame) -> bool:
    """Whether readings that decided a transition are not there any more, or too many to be folded again."""
    place = list(POSITION)
    decided = transitions.filter(~pl.col("kind").is_in([*_PEOPLE, "escalated", "stale"]))
    is_gone = bool(decided.join(readings, on=place, how="anti").height)
    return is_gone or readings["pulled_at"].has_nulls() or readings.height >= MAX_READINGS


def _us(instant: datetime) -> int:
    return microseconds(instant - datetime(1970, 1, 1, tzinfo=instant.tzinfo))
