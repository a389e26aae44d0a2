"""What the engine decided: sessions that go on from each other, and the transitions in their table of alarms."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from assets.alarm_actions.assets import CONTRACT as ACTIONS
from assets.devices.assets import CONTRACT as DEVICES_CONTRACT
from assets.glucose.assets import CONTRACT as GLUCOSE_CONTRACT
from assets.stream.contract import Contract
from assets.vitals.assets import CONTRACT as VITALS_CONTRACT
from tests.alarms.inputs import DEVICES, GLUCOSE, VITALS, Stream, batches_of, evaluated
from tests.alarms.oracle import Action, Levels, Row, SilenceRule
from tests.stream.hubs import MemoryHub
from tests.stream.scenarios import lake_in, run_session
from tests.stream.tables import bronze_events

CONTRACTS = {GLUCOSE.name: GLUCOSE_CONTRACT, VITALS.name: VITALS_CONTRACT, DEVICES.name: DEVICES_CONTRACT}
PATIENCE = 3
"""So many sessions may start until one has learned of what people did."""
MICROSECOND = timedelta(microseconds=1)
ACTED = ("acknowledged", "snoozed", "commented", "closed")
"""They are decided when a session learns of it, which is no matter of what comes."""
COMPARED = (
    "alarm_id",
    "index",
    "kind",
    "at",
    "entity",
    "cause",
    "severity",
    "state",
    "rule_id",
    "threshold",
    "value",
    "worst_value",
    "reading_count",
    "tier",
    "until",
)


class World:
    """A stream's hub and lake, and sessions that each go on where the one before ended, as at a restart.

    Attributes:
        idle_at: the last instant of each session's clock, when the hub had nothing more.
        learned: what people did, and when a session learned of it.
    """

    def __init__(self, folder: Path, stream: Stream, partitions: int = 2, contract: Contract | None = None) -> None:
        self.stream, self.contract = stream, contract or CONTRACTS[stream.name]
        self.lake, self.hub = lake_in(folder), MemoryHub(stream.name, partitions)
        self.idle_at: list[datetime] = []
        self.learned: list[tuple[datetime, Action]] = []
        self._actions = MemoryHub(ACTIONS.stream, 1)

    def session(self, at: datetime) -> None:
        """One session that pulls all that the hub has; its clock stands nearly still."""
        clock = _Clock(at)
        run_session(self.lake, self.hub, contract=self.contract, clock=clock)
        self.idle_at.append(clock.now)

    def act(self, at: datetime, actions: Sequence[Action]) -> None:
        """People act; then a session learns of it."""
        for action in actions:
            self._actions.send([_said(self.stream.name, action)], at)
        run_session(self.lake, self._actions, contract=ACTIONS, clock=_Clock(at))
        ids = {action.action_id for action in actions}
        for _ in range(PATIENCE):
            self.session(at)
            if ids <= set(self._rows()["action_id"]):
                break
        else:
            raise AssertionError(f"{PATIENCE} sessions did not learn of {ids - set(self._rows()['action_id'])}")
        self.learned += [(self.idle_at[-1], action) for action in actions]

    def found(self) -> list[Row]:
        """The transitions that stand in the table."""
        return _transitions(self._rows())

    def _rows(self) -> pl.DataFrame:
        return self.lake.table(self.contract.tables["alarms"]).scan().collect()

    def right(self, levels: Levels | None = None, silence: SilenceRule | None = None) -> list[Row]:
        """The transitions that the oracle makes of bronze."""
        events = bronze_events(self.lake, self.contract)
        batches = batches_of(self.stream, events, self.idle_at, self.learned)
        return evaluated(self.stream, batches, levels, silence).transitions

    def differences(self) -> list[str]:
        """How the table differs from the oracle, alarm by alarm; empty where they are the same."""
        return differences(self.found(), self.right())


def differences(found: Iterable[Row], right: Iterable[Row]) -> list[str]:
    """What one has and the other has not, with the field in which two rows of one alarm and index differ."""
    stored, expected = ({(row["alarm_id"], row["index"]): row for row in rows} for rows in (found, right))
    told = []
    for key in sorted(stored.keys() | expected.keys(), key=lambda key: _when(stored.get(key) or expected[key])):
        one, other = stored.get(key), expected.get(key)
        if one is None or other is None:
            told.append(f"{'only right' if one is None else 'only found'}: {_brief(one or other or {})}")
            continue
        names = [*COMPARED, *(["position"] if other["position"] else [])]
        names += ["decided_at"] if other["kind"] not in ACTED else []
        if unlike := [f"{name}: found {one[name]}, right {other[name]}" for name in names if one[name] != other[name]]:
            told.append(f"{_brief(other)}: {'; '.join(unlike)}")
    return told


def _when(row: Row) -> tuple[Any, ...]:
    return row["entity"], row["at"], row["cause"], row["index"]


def _brief(row: Row) -> str:
    return f"{row['entity']} {row['cause']} {row['index']} {row['kind']} at {row['at']} ({row['value']})"


def _transitions(rows: pl.DataFrame) -> list[Row]:
    rows = rows.filter(~pl.col("is_update") & (pl.col("index") >= 0))
    keys = rows.select("alarm_id", "index")
    assert keys.is_unique().all(), f"doubled: {keys.filter(keys.is_duplicated()).rows()[:5]}"
    place = ("partition", "sequence_number", "event_index")
    rows = rows.sort("entity", "fold", "index").select(*COMPARED, "decided_at", position=pl.struct(place))
    # Python has no name for an instant that is far out.
    rows = rows.with_columns(pl.when(pl.col("decided_at").to_physical() > 0).then("decided_at"))
    return [row | {"position": tuple(row["position"].values())} for row in rows.iter_rows(named=True)]


class _Clock:
    """Goes on by a microsecond each time it is asked, and remembers what it said last."""

    def __init__(self, start: datetime) -> None:
        self.now = start - MICROSECOND

    def __call__(self) -> datetime:
        self.now += MICROSECOND
        return self.now


def _said(stream: str, action: Action) -> bytes:
    said = {
        "action_id": action.action_id,
        "alarm_id": action.alarm_id,
        "stream": stream,
        "action": action.action,
        "by": "nurse",
        "timestamp": action.at.isoformat(),
    }
    until = {} if action.until is None else {"until": action.until.isoformat()}
    return json.dumps(said | until | ({} if action.seen is None else {"seen_index": action.seen})).encode()
