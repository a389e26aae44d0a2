"""What all commands share: their settings, and errors that name their remedy as messages instead of stack traces."""

import logging
from typing import TYPE_CHECKING

import typer

from orchestration.terminal import err, fail

if TYPE_CHECKING:
    from resources.settings import Settings


def command_settings(*, are_hubs_checked: bool = True) -> "Settings":
    """The settings; those that are wrong end the command with a message.

    Args:
        are_hubs_checked: not by a command that has to be small: all streams are loaded for it.
    """
    from pydantic import ValidationError

    from resources.hub_names import OneHubForTwoStreamsError, TransportOfNoStreamError, check_hubs
    from resources.logs import set_up
    from resources.settings import Settings

    try:
        settings = Settings()
        if are_hubs_checked and (settings.hubs or settings.transports):
            from orchestration.system import HUBS

            check_hubs(settings, HUBS)
    except ValidationError as error:
        fail(
            "\n".join(
                _setting_error(str(each["loc"][0]) if each["loc"] else "", each["msg"]) for each in error.errors()
            )
        )
    except (OneHubForTwoStreamsError, TransportOfNoStreamError) as error:
        fail(str(error))
    # Commands say themselves what they do; their logs are for machines, or warnings.
    set_up(settings.log, level=logging.INFO if settings.log == "json" else logging.WARNING)
    return settings


def _setting_error(setting: str, message: str) -> str:
    from resources.settings import PREFIX

    if not setting:
        return f"Settings: {message.removeprefix('Value error, ')}."
    variable = setting if setting.isupper() else f"{PREFIX}{setting.upper()}"
    return f"Setting {variable}: {message.removeprefix('Value error, ')}."


class explained:
    """Turns errors that name their remedy into a message and exit code 1."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or kind is None:
            return
        from assets.archived import ArchivedError
        from assets.clinical_loads import LoadError
        from assets.notifications.people import SubscriberUnknownError
        from assets.slots import GoldError
        from assets.store_sync import SyncError
        from assets.stream.alarm_history import AlarmUnknownError
        from assets.stream.process import ProcessingError
        from assets.stream.rebuild import NotCaughtUpError
        from assets.stream.session import ClockError, HubRecreatedError
        from dashboard.access import PasswordError
        from dashboard.database import DatabaseError
        from dashboard.users import UserError
        from generator.publisher import PublishError
        from orchestration.bridging import BridgeError
        from orchestration.device_polling import DevicePollError
        from orchestration.exporting import ExportError
        from orchestration.home import HomeInUseError
        from orchestration.polling import PollError
        from orchestration.processes import ChildError, StoppedError
        from orchestration.receiving import ReceiveError
        from orchestration.retention import RetentionError
        from orchestration.system import LakeUnavailableError
        from resources.account_state import AccountStateError
        from resources.accounts import AccountError
        from resources.analytics import QueryError
        from resources.archive import ArchiveError
        from resources.batch_source import BatchSourceError
        from resources.event_source import HubUnavailableError
        from resources.lake import ConcurrentWriteError, SchemaError
        from resources.leases import LeaseError
        from resources.metrics_endpoint import EndpointError
        from resources.mqtt_broker import BrokerUnavailableError
        from resources.records import RecordsError
        from resources.reports import ReportsError
        from resources.store import OvertakenError, StoreError
        from resources.tokens import TokenError

        explained = (
            HubUnavailableError,
            HubRecreatedError,
            ClockError,
            ProcessingError,
            GoldError,
            LoadError,
            BatchSourceError,
            AlarmUnknownError,
            ArchivedError,
            ArchiveError,
            RetentionError,
            ConcurrentWriteError,
            LeaseError,
            SchemaError,
            ReportsError,
            RecordsError,
            NotCaughtUpError,
            PublishError,
            PollError,
            DevicePollError,
            AccountError,
            AccountStateError,
            ReceiveError,
            TokenError,
            ChildError,
            BridgeError,
            BrokerUnavailableError,
            HomeInUseError,
            LakeUnavailableError,
            EndpointError,
            ExportError,
            QueryError,
            StoreError,
            OvertakenError,
            SubscriberUnknownError,
            SyncError,
            UserError,
            PasswordError,
            DatabaseError,
        )
        if issubclass(kind, StoppedError):
            err.print(str(error))
            raise typer.Exit(130)
        if issubclass(kind, explained):
            fail(str(error))
