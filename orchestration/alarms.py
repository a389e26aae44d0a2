"""Alarms for people: which there are, and what somebody does about them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import uuid4

import msgspec
import polars as pl

from assets.alarm_actions.contract import STREAM as ACTIONS_STREAM
from assets.alarm_actions.contract import ActionPayload
from assets.alarms.tables import ACTION_KINDS, CLEARED, REFUSED
from assets.stream.alarm_history import AlarmUnknownError, found, standing
from assets.stream.contract import Contract
from orchestration.system import STREAMS, open_lake
from resources import sources
from resources.lake import Lake
from resources.settings import Settings

ANSWER_S, _AGAIN_AFTER_S = 10.0, 0.2
"""How long a command waits until a session has taken an action up."""


@dataclass(frozen=True)
class Answer:
    """What became of an action.

    Attributes:
        transition: the row of the table of alarms; None while no session has taken the action up.
        is_refused: whether it named no open alarm.
    """

    transition: pl.DataFrame | None
    is_refused: bool = False


def contracts_with_alarms() -> list[Contract]:
    """The streams that have alarms."""
    return [each.contract for each in STREAMS if each.contract.alarms is not None]


def alarms(lake: Lake, since: datetime | None = None, entity: int | None = None) -> pl.DataFrame:
    """The alarms of all streams as they stand, the newest first: those that are open, and others since an instant.

    Args:
        lake: where they are.
        since: also those that something happened to since then.
        entity: of one patient or device only.
    """
    of_all = pl.concat([standing(each, lake, since) for each in contracts_with_alarms()])
    chosen = of_all if entity is None else of_all.filter(pl.col("entity") == entity)
    return chosen.sort("raised_at", descending=True)


def act(
    settings: Settings,
    alarm_id: str,
    action: str,
    by: str,
    now: datetime,
    note: str | None = None,
    until: datetime | None = None,
) -> Answer:
    """Sends what somebody does to an alarm, and waits a while for what becomes of it.

    Args:
        settings: name the hub of actions.
        alarm_id: of the alarm, or its beginning.
        action: one of `ACTION_KINDS`.
        by: who does it.
        now: when.
        note, until: what is said, and the end of a snooze.

    Raises:
        AlarmUnknownError: no alarm has this id; nothing was sent.
        AlarmOverError: the alarm is over; nothing was sent.
        HubUnavailableError: the hub did not take it.
    """
    lake = open_lake(settings)
    contract, transitions = found(contracts_with_alarms(), lake, alarm_id)
    last = transitions.row(-1, named=True)
    if last["state"] == CLEARED:
        raise AlarmOverError(
            f"Alarm {last['alarm_id']} is over: it was {last['kind']} at {last['at']:%Y-%m-%d %H:%M:%S} UTC. Nothing "
            "was sent."
        )
    payload = ActionPayload(
        action_id=str(uuid4()),
        alarm_id=last["alarm_id"],
        stream=contract.stream,
        action=action,
        by=by,
        timestamp=now.isoformat(),
        note=note,
        until=None if until is None else until.isoformat(),
        seen_index=last["index"],
    )
    with sources.publisher(settings, ACTIONS_STREAM) as publisher:
        publisher.publish([msgspec.json.encode(payload)], [payload.alarm_id])
    return _answer(lake, contract, payload.action_id, now.date() - timedelta(days=1))


class AlarmOverError(AlarmUnknownError):
    """An alarm is over, so nobody can do anything about it."""


def _answer(lake: Lake, contract: Contract, action_id: str, since: date) -> Answer:
    table, end = lake.table(contract.tables["alarms"]), time.monotonic() + ANSWER_S
    version = None
    while time.monotonic() < end:
        if version != (version := table.version()):
            is_it = (pl.col("action_id") == action_id) & (pl.col("ingest_date") >= since)
            rows = table.scan(version).filter(is_it, ~pl.col("is_update")).collect()
            if rows.height:
                return Answer(rows, rows["kind"][0] == REFUSED)
        time.sleep(_AGAIN_AFTER_S)
    return Answer(None)


def what_happened(action: str, answer: Answer) -> str:
    """One line for whoever acted."""
    if answer.transition is None:
        return (
            "It is sent, but no session has taken it up within "
            f"{ANSWER_S:.0f} s. It counts as soon as sessions run: `pulselake dev`, or `pulselake drain`."
        )
    row = answer.transition.row(0, named=True)
    if answer.is_refused:
        return f"Refused: {row['note']}."
    if row["kind"] != ACTION_KINDS[action]:
        return f"Alarm {row['alarm_id']} became worse meanwhile, so look again: it is {row['severity']} now."
    return f"Alarm {row['alarm_id']} is {ACTION_KINDS[action]}; it is {row['state']} now."


def names_of(contracts: Sequence[Contract]) -> dict[str, str]:
    """For each stream what its alarms are about, for people: ``patient`` or ``device``."""
    return {each.stream: each.entity.removesuffix("_id") for each in contracts}
