"""What is on record of one alarm: its transitions, the readings that decided them, and what they give again."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

import polars as pl

from assets.alarms.episodes import Action, Episodes, microseconds
from assets.alarms.tables import ACTION_KINDS, SILENCE
from assets.stream.alarming import Alarming
from assets.stream.alerting import Alerting
from assets.stream.contract import POSITION, Contract
from assets.stream.enrichment import References
from assets.stream.log import SNAPSHOT, hub_epoch
from resources.lake import Lake

BEFORE = timedelta(hours=1)
"""How much earlier than the raising reading folding again begins."""
MAX_READINGS = 50_000
"""Of an alarm that has lasted for longer the first readings are folded again."""
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
    snapshot = table.transactions([f"{contract.stream}/{SNAPSHOT}"]).get(f"{contract.stream}/{SNAPSHOT}", 0)
    is_wanted = pl.col("fold") >= snapshot
    if since is not None:
        is_wanted |= pl.col("decided_at") >= since
    rows = table.scan().filter(is_wanted, pl.col("index") >= 0).collect()
    ordered = rows.sort("fold", "index", "is_update", maintain_order=True)
    last = ordered.unique("alarm_id", keep="last", maintain_order=True)
    is_over = pl.col("state") == "cleared"
    return last.filter(~is_over if since is None else ~is_over | (pl.col("decided_at") >= since))


def found(contracts: Sequence[Contract], lake: Lake, alarm_id: str) -> tuple[Contract, pl.DataFrame]:
    """The stream and the transitions of an alarm, by its id or the beginning of it.

    Raises:
        AlarmUnknownError: there is none, or the beginning is that of several.
    """
    matches = [(contract, rows) for contract in contracts if (rows := _transitions(contract, lake, alarm_id)).height]
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


def _transitions(contract: Contract, lake: Lake, alarm_id: str) -> pl.DataFrame:
    rows = lake.table(contract.tables["alarms"]).scan()
    is_of = pl.col("alarm_id").str.starts_with(alarm_id) & ~pl.col("is_update") & (pl.col("index") >= 0)
    return rows.filter(is_of).sort("fold", "index").collect()


def _readings(contract: Contract, lake: Lake, entity: int, since: datetime, until: datetime) -> pl.DataFrame:
    place = list(POSITION[:3])
    is_of = (pl.col(contract.entity) == entity) & pl.col("measured_at").is_between(
        since - BEFORE - contract.reach, until
    )
    silver = (
        lake.table(contract.tables.silver)
        .scan()
        .filter(is_of)
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
