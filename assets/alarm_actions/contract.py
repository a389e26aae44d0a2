"""The stream of what people do to alarms: its payload and its tables. Pure declarations."""

import dataframely as dy
import msgspec

from assets.stream.contract import Int64, utc

STREAM = "alarm_actions"
STREAMS = ("glucose_readings", "vitals", "device_readings")
"""The streams that have alarms."""


class ActionPayload(msgspec.Struct, gc=False):
    """What one person did to one alarm.

    `action_id` is chosen by who sends it, so that a repeat changes nothing. `stream` is the alarm's. `action` is
    `acknowledge`, `snooze`, `comment` or `close`; a snooze ends at `until`. `timestamp` says when the person did it.
    `seen_index` is the `index` of the newest transition that the person has seen: who acknowledges what became worse
    since then does not know it.
    """

    action_id: str
    alarm_id: str
    stream: str
    action: str
    by: str
    timestamp: float | str
    note: str | None = None
    until: float | str | None = None
    seen_index: Int64 | None = None


class AlarmActionAlerts(dy.Schema):
    """No rule is about actions, so this table stays empty. Key: alert_id."""

    alert_id = dy.String(nullable=False)
    rule = dy.String(nullable=False)
    rule_version = dy.Int64(nullable=False)
    severity = dy.String(nullable=False)
    alarm_id = dy.String(nullable=False)
    measured_at = utc()
    threshold = dy.Float64(nullable=False)
    received_at = utc()
    partition = dy.Int64(nullable=False)
    sequence_number = dy.Int64(nullable=False)
    event_index = dy.Int64(nullable=False)
    event_date = dy.Date(nullable=False)
    ingest_date = dy.Date(nullable=False)
    hub_epoch = dy.Int64(nullable=True)
    is_revision = dy.Bool(nullable=True)
