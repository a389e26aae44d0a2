"""What the pages of one server share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from assets.devices.assets import CONTRACT as DEVICES
from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.vitals.assets import CONTRACT as VITALS
from dashboard.access import Viewer
from dashboard.actions import Actions
from dashboard.apart import Apart
from dashboard.audit import Audit
from dashboard.board import Board
from dashboard.directory import Directory
from dashboard.live import Broadcaster
from dashboard.turns import Turns
from dashboard.users import HASHES_AT_ONCE, User, Users
from resources.lake import Lake
from resources.settings import Settings

if TYPE_CHECKING:
    from dashboard.openid import OpenId

CONTRACTS_WITH_ALARMS = (GLUCOSE, VITALS, DEVICES)
"""The streams that have alarms. They are named here because `orchestration.system` loads all others as well."""
SIGN_INS_WAITING = 40
"""How many may wait to sign in by password: some seconds, see `HASHES_AT_ONCE`."""


@dataclass(frozen=True)
class Site:
    """One server.

    Attributes:
        settings: its settings.
        lake: where history is read.
        clock: the time of day, UTC.
        users, audit: accounts, and what they did.
        directory: who the patients are.
        board: how they are now.
        live: sends that to browsers.
        actions: what people do to alarms.
        apart: has done what takes much memory.
        signing_in: who may sign in by password now.
        open_id: by which people may sign in too; None if there is no provider.
    """

    settings: Settings
    lake: Lake
    clock: Callable[[], datetime]
    users: Users
    audit: Audit
    directory: Directory
    board: Board
    live: Broadcaster
    actions: Actions
    apart: Apart
    signing_in: Turns = field(default_factory=lambda: Turns(2 * HASHES_AT_ONCE, SIGN_INS_WAITING))
    open_id: "OpenId | None" = None

    def viewer(self, user: User) -> Viewer:
        """An account with the patients that it may see now."""
        visible = self.directory.people.visible(user.scope)
        return Viewer(user.name, user.role, user.unit, user.zone, user.scope.groups, visible)
