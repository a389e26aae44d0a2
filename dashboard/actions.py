"""What people do to alarms on the page: sent to the hub of actions, as `pulselake ack` sends it.

A session decides what becomes of it, and tells so on the hub of alarms. Until then the alarm says who wants what.
"""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from uuid import uuid4

import msgspec

from assets.alarm_actions.contract import STREAM, ActionPayload
from assets.alarms.tables import ACTION_KINDS, MAX_NOTE, MAX_SNOOZE
from dashboard.access import Viewer
from dashboard.board import Alarm, Board, Pending, microseconds
from resources import sources
from resources.event_source import HubUnavailableError, Publisher
from resources.settings import Settings

PENDING_S = 15.0
"""How long a session may take until whoever acted is told that none did it."""


class ActionError(Exception):
    """Nothing was done; the message says why, for people.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Actions:
    """Sends what people do.

    Args:
        settings: name the hub.
        board: the alarms that are open.
        clock: the time of day, UTC.
        changed: called when an alarm says that something is pending.
    """

    def __init__(
        self, settings: Settings, board: Board, clock: Callable[[], datetime], changed: Callable[[], None]
    ) -> None:
        self._settings, self._board, self._clock, self._changed = settings, board, clock, changed
        self._lock, self._open = threading.Lock(), ExitStack()
        self._publisher: Publisher | None = None

    def close(self) -> None:
        """Closes the connection to the hub."""
        with self._lock:
            self._open.close()
            self._publisher = None

    def act(
        self,
        viewer: Viewer,
        action: str,
        alarm_id: str,
        seen_index: int,
        note: str | None = None,
        minutes: int | None = None,
    ) -> Alarm:
        """Does something to an alarm.

        Args:
            viewer: who.
            action: one of `ACTION_KINDS`.
            alarm_id: of an open alarm.
            seen_index: of the transition that the page showed.
            note: what is said of it.
            minutes: for how long it is snoozed.

        Returns:
            The alarm as it was shown last.

        Raises:
            ActionError: nothing was done.
        """
        now = self._clock()
        if action not in ACTION_KINDS:
            raise ActionError(400, f"There is no such action. There are: {', '.join(ACTION_KINDS)}.")
        if note is not None and len(note) > MAX_NOTE:
            raise ActionError(400, f"A note has at most {MAX_NOTE:,} characters; nothing was done.")
        if action == "comment" and not (note or "").strip():
            raise ActionError(400, "A comment says something; nothing was done.")
        until = None
        if action == "snooze":
            if minutes is None or not timedelta(0) < timedelta(minutes=minutes) <= MAX_SNOOZE:
                raise ActionError(400, "An alarm can be snoozed for a minute to 8 hours; nothing was done.")
            until = now + timedelta(minutes=minutes)
        alarm = self.visible(viewer, alarm_id)
        if seen_index < alarm.worsened_index:
            raise ActionError(409, "The alarm became worse since you saw it. Look again; nothing was done.")
        payload = ActionPayload(
            action_id=str(uuid4()),
            alarm_id=alarm.alarm_id,
            stream=alarm.stream,
            action=action,
            by=viewer.name,
            timestamp=now.isoformat(),
            note=note or None,
            until=None if until is None else until.isoformat(),
            seen_index=seen_index,
        )
        pending = Pending(payload.action_id, action, viewer.name, microseconds(now))
        # Before it is sent, since the answer may be faster than the hub's receipt.
        self._board.pend(alarm.alarm_id, pending)
        self._changed()
        try:
            self._send(payload)
        except HubUnavailableError as error:
            self._board.pend(alarm.alarm_id, None)
            self._changed()
            raise ActionError(503, "The hub does not take it; nothing was done. Try again, or go there.") from error
        return alarm

    def visible(self, viewer: Viewer, alarm_id: str) -> Alarm:
        """An open alarm of a patient whom the viewer may see.

        Raises:
            ActionError: there is none; that it is another's is not told.
        """
        alarm = self._board.alarm(alarm_id)
        patient_id = None if alarm is None else self._board.patient_of(alarm)
        is_theirs = viewer.visible is None or (patient_id is not None and viewer.may_see(patient_id))
        if alarm is None or not is_theirs:
            raise ActionError(404, "The alarm is over, or there is no such alarm of yours; nothing was done.")
        return alarm

    def _send(self, payload: ActionPayload) -> None:
        with self._lock:
            if self._publisher is None:
                self._publisher = self._open.enter_context(sources.publisher(self._settings, STREAM))
            publisher = self._publisher
        publisher.publish([msgspec.json.encode(payload)], [payload.alarm_id])
