"""The table of alarms: one row a transition. Pure declarations; docs/adr/0039 says what each kind of row means."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Literal

import dataframely as dy

from assets.columns import utc
from resources.table import Table, View

Kind = Literal[
    "raised",
    "worsened",
    "eased",
    "cleared",
    "reminded",
    "escalated",
    "stale",
    "acknowledged",
    "snoozed",
    "commented",
    "closed",
    "refused",
    "updated",
]
UPDATED = "updated"
"""The kind of rows that are no transitions: what an open alarm has come to meanwhile."""
UNACKNOWLEDGED, ACKNOWLEDGED, SNOOZED, CLEARED = "unacknowledged", "acknowledged", "snoozed", "cleared"

SILENCE, REFUSED = "silence", "refused"
"""Causes that no rule of a contract is about: no reading comes, and readings go to quarantine."""
SEVERITIES: tuple[str, ...] = ("", "info", "warning", "urgent")
"""Severities by their rank, from 1 on; 0 is none."""
RANKS: Mapping[str, int] = {name: rank for rank, name in enumerate(SEVERITIES)}

MAX_TIER = 2
"""How often an alarm is escalated."""
WATCHED_FOR = timedelta(days=7)
"""How long an entity that sends nothing is watched."""
REFUSED_COUNT, REFUSED_WITHIN = 3, timedelta(minutes=30)
"""How many readings in a row go to quarantine, and within which time, before an alarm says so."""
MAX_SNOOZE = timedelta(hours=8)
MAX_NOTE = 2_000
"""How many characters a note may have."""
ACTION_KINDS: Mapping[str, str] = MappingProxyType(
    {"acknowledge": "acknowledged", "snooze": "snoozed", "comment": "commented", "close": "closed"}
)
"""The transition of each action."""
ACTIONS: tuple[str, ...] = tuple(ACTION_KINDS)


class AlarmRows(dy.Schema):
    """One transition of one alarm, or, where `is_update` is true, what an open alarm has come to. Key: alarm_id, index.

    `at` says when it happened, `decided_at` from when on it was known; of deadlines both are the deadline. `state` is
    what holds afterwards. `value` and `threshold` are those of the last reading that counted, `measured_at` is its time
    and the position is its place in bronze. `worst_value` and `reading_count` are of readings that broke a rule since
    `raised_at`. `until` ends a snooze. `is_late` says that it was decided over two hours after it happened. `fold`
    numbers the steps of the session that decided it. The last columns are what a session needs to go on: since when all
    rules are clear, the time of the reading that people were last told of, when the alarm is escalated next, how it
    behaves since it was raised, worsened or eased last, and the index of the last `raised` or `worsened`. Of kind
    `refused` is an action that names no open alarm: `note` says why, the index is -1, and what alarms have is null.
    """

    alarm_id = dy.String(nullable=False)
    index = dy.Int64(nullable=False)
    kind = dy.String(nullable=False)
    at = utc()
    decided_at = utc()
    stream = dy.String(nullable=False)
    entity = dy.Int64(nullable=True)
    cause = dy.String(nullable=True)
    severity = dy.String(nullable=True)
    state = dy.String(nullable=True)
    value = dy.Float64(nullable=True)
    threshold = dy.Float64(nullable=True)
    worst_value = dy.Float64(nullable=True)
    reading_count = dy.Int64(nullable=False)
    tier = dy.Int64(nullable=False)
    raised_at = utc(nullable=True)
    measured_at = utc(nullable=True)
    rule_id = dy.String(nullable=True)
    rule_version = dy.Int64(nullable=True)
    is_late = dy.Bool(nullable=False)
    is_stale = dy.Bool(nullable=False)
    is_update = dy.Bool(nullable=False)
    fold = dy.Int64(nullable=False)
    hub_epoch = dy.Int64(nullable=False)
    partition = dy.Int64(nullable=False)
    sequence_number = dy.Int64(nullable=False)
    event_index = dy.Int64(nullable=False)
    event_date = dy.Date(nullable=False)
    ingest_date = dy.Date(nullable=False)
    until = utc(nullable=True)
    action_id = dy.String(nullable=True)
    actor = dy.String(nullable=True)
    note = dy.String(nullable=True)
    clear_since = utc(nullable=True)
    told_at = utc(nullable=True)
    due_at = utc(nullable=True)
    clear_after_s = dy.Int64(nullable=True)
    remind_every_s = dy.Int64(nullable=True)
    escalate_after_s = dy.Int64(nullable=True)
    worsened_index = dy.Int64(nullable=True)


class AlarmActions(dy.Schema):
    """What one person did to one alarm. Key: alarm_id, action_id, measured_at.

    `measured_at` says when, `actor` who. `until` is the end of a snooze. `seen_index` is the index of the newest
    transition that the person has seen.
    """

    alarm_id = dy.String(nullable=False)
    action_id = dy.String(nullable=False)
    measured_at = utc()
    stream = dy.String(nullable=False)
    action = dy.String(nullable=False)
    actor = dy.String(nullable=False)
    note = dy.String(nullable=True)
    until = utc(nullable=True)
    seen_index = dy.Int64(nullable=True)
    received_at = utc()
    partition = dy.Int64(nullable=False)
    sequence_number = dy.Int64(nullable=False)
    event_index = dy.Int64(nullable=False)
    event_date = dy.Date(nullable=False)
    ingest_date = dy.Date(nullable=False)
    hub_epoch = dy.Int64(nullable=True)


ACTIONS_TABLE = Table("silver/alarm_actions", AlarmActions, ("ingest_date",))
"""Sessions look here for what people did to the alarms of their stream."""


def alarms_of(stream: str) -> Table:
    """The alarms of a stream."""
    return Table(f"alarms/{stream}", AlarmRows, ("ingest_date", "is_update"))


def alarm_views(tables: Sequence[Table]) -> list[View]:
    """What happened to alarms of all streams, and those that are open as they stand."""
    rows = " UNION ALL ".join(f"SELECT * FROM {table.sql_name}" for table in tables)
    newest = "row_number() OVER (PARTITION BY alarm_id ORDER BY fold DESC, index DESC, is_update DESC) AS nth"
    return [
        View(
            "alarms/transitions",
            "One transition of one alarm of any stream. Key: alarm_id, index.",
            tables,
            f"SELECT * EXCLUDE (is_update) FROM ({rows}) WHERE NOT is_update AND index >= 0",
        ),
        View(
            "alarms/open",
            "One alarm of any stream that is not over, as it stands. Key: alarm_id.",
            tables,
            f"SELECT * EXCLUDE (nth, kind, is_update) FROM (SELECT *, {newest} FROM ({rows}) WHERE index >= 0) "
            f"WHERE nth = 1 AND state <> '{CLEARED}'",
        ),
    ]
