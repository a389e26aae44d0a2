"""A lake with people, and with transitions of alarms as sessions write them."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from assets.alarms.tables import alarms_of
from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.notifications.transitions import NAMES, Transition
from assets.reference.tables import PATIENTS, SUBSCRIBERS, SUBSCRIPTIONS, Reference
from assets.reference_store import put
from assets.stream.alarm_outlet import told_of
from resources.lake import Lake
from resources.outbox import Outbox
from tests.notifications.values import rows, subscriber, subscription, transition

TABLE = alarms_of(GLUCOSE.stream)
OTHERS: dict[str, Any] = {
    "is_late": False,
    "is_update": False,
    "hub_epoch": 0,
    "partition": 0,
    "sequence_number": 0,
    "event_index": 0,
}


def fresh(alarm: str, index: int = 0, kind: str = "raised", **values: Any) -> Transition:
    """A transition of just now."""
    now = datetime.now(UTC)
    times = {"at": now, "decided_at": now, "raised_at": now, "measured_at": now}
    return transition(alarm, index, kind, **times | values)


def table_rows(transitions: Iterable[Transition], fold: int) -> pl.DataFrame:
    found = []
    for each in transitions:
        columns = {name: getattr(each, name) for name in NAMES if name in TABLE.schema}
        day = each.at.date()
        found.append(
            dict.fromkeys(TABLE.schema)
            | OTHERS
            | columns
            | {"kind": each.transition, "entity": each.patient_id, "fold": fold, "event_date": day, "ingest_date": day}
        )
    return pl.DataFrame(found, schema=TABLE.schema)


def record(lake: Lake, transitions: Sequence[Transition], fold: int) -> None:
    """Commits the transitions of one step, as a session does."""
    lake.table(TABLE).create().append(table_rows(transitions, fold), transactions={f"{GLUCOSE.stream}/folds": fold})


def events(transitions: Sequence[Transition]) -> list[bytes]:
    """The same as the bodies of the hub."""
    told = told_of(table_rows(transitions, 0), "patient_id", datetime.now(UTC))
    return [body.encode() for body in told["body"]]


def load_people(lake: Lake, channels: dict[int, str], patients: Iterable[int] = (7,), **values: Any) -> None:
    """Subscribers by their ids with their channels; each is told of everything about all patients."""
    in_ward = [{"patient_id": each, "full_name": f"P{each}", "groups": "ward"} for each in patients]
    load(lake, PATIENTS, in_ward)
    load(lake, SUBSCRIBERS, [subscriber(number, names, **values) for number, names in channels.items()])
    load(lake, SUBSCRIPTIONS, [subscription(number, number, "group:ward", severity="info") for number in channels])


def load(lake: Lake, reference: Reference, given: Sequence[dict[str, Any]]) -> None:
    """Loads rows as a file of a table of reference data."""
    frame = rows(reference, *given).select(list(reference.cells))
    put(lake, reference, frame, valid_from=datetime(2026, 1, 1, tzinfo=UTC), clock=lambda: datetime.now(UTC))


def states(outbox: Outbox) -> list[tuple[str, int, str, str, str | None]]:
    """Alarm, index, channel, state and reason of all rows, in their order."""
    frame = outbox.log(100_000, failed=False)
    return frame.select("alarm_id", "transition_index", "channel", "state", "reason").rows()
