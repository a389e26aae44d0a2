"""The system's streams, gold tables and reports in one place; definitions and the command line are built from it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from azure.core.exceptions import AzureError
from deltalake.exceptions import DeltaError
from pydantic import ValidationError

from assets.adverse_events import assets as adverse_events
from assets.alarm_actions import assets as alarm_actions
from assets.alarms.measures import ALARMS
from assets.alarms.tables import alarm_views
from assets.archived import RETENTION
from assets.clinical.sources import LOADS, clinical_tables
from assets.copied import COPIED_TABLES
from assets.devices import assets as devices
from assets.glucose import assets as glucose
from assets.gold import DailyGold, DerivedGold
from assets.gold_alarms import AlarmGold
from assets.gold_alerts import GoldAlerts
from assets.patients.tables import PATIENT_360
from assets.reference.rules import CURRENT_RULES, RULES
from assets.reference.tables import REFERENCES
from assets.stream.contract import ALARMS_HUB, ALERTS_HUB, Contract
from assets.stream.layers import layers
from assets.sync import readings, safety_reports
from assets.sync.alarms import AlarmFeed
from assets.sync.feed import AnyFeed, Feed, VersionedFeed
from assets.sync.vitals import HELD_IN_SPORT, patient_status
from assets.versioned import VersionedGold
from assets.vitals import assets as vitals
from orchestration.bridge_offsets import BRIDGES
from orchestration.polled import POLLED
from orchestration.proofs import require_proof
from orchestration.watched_files import WATCHED
from resources.audit import AUDIT
from resources.lake import Lake
from resources.settings import Settings
from resources.storage import lake_of
from resources.table import Table, View

ROOT = Path(__file__).resolve().parent.parent
SQL = ROOT / "sql"


class UnknownStreamError(ValueError):
    """No stream has that name."""


class LakeUnavailableError(RuntimeError):
    """The lake cannot be reached or opened."""


@dataclass(frozen=True)
class Stream:
    """A stream with what is derived from it; `short` is its name on the command line and in the generator.

    Its contract is proved when it is made, so that a mistake stops the system before the first event comes.
    """

    short: str
    contract: Contract
    gold: Sequence[DailyGold | DerivedGold | VersionedGold]
    gold_alerts: tuple[GoldAlerts, ...] = ()
    views: tuple[View, ...] = ()

    def __post_init__(self) -> None:
        require_proof(self.contract)

    @property
    def name(self) -> str:
        """The stream's name."""
        return self.contract.stream

    @property
    def session_job(self) -> str:
        """The name of the job whose runs are its sessions."""
        return f"{self.name}_session"

    @property
    def daily_gold(self) -> list[DailyGold]:
        """Gold by event date."""
        return [gold for gold in self.gold if isinstance(gold, DailyGold)]

    @property
    def whole_gold(self) -> list[DerivedGold | VersionedGold]:
        """Gold that is brought up to date as a whole."""
        return [gold for gold in self.gold if not isinstance(gold, DailyGold)]

    @property
    def alarm_gold(self) -> AlarmGold | None:
        """The stream's part of `gold/alarms`; None if it has no alarms."""
        return None if self.contract.alarms is None else AlarmGold(self.contract)

    @property
    def published(self) -> list[Table]:
        """The tables of alerts, which are published."""
        return [self.contract.tables.alerts, *(each.table for each in self.gold_alerts)]

    @property
    def kept_slots(self) -> list[Table]:
        """The tables from which daily gold is added up. They are not for SQL: not every date is in them."""
        return list(dict.fromkeys(gold.slots.table for gold in self.daily_gold))


STREAMS: tuple[Stream, ...] = (
    Stream("glucose", glucose.CONTRACT, glucose.GOLD),
    Stream("devices", devices.CONTRACT, devices.GOLD),
    Stream("vitals", vitals.CONTRACT, vitals.GOLD),
    Stream(
        "adverse_events",
        adverse_events.CONTRACT,
        adverse_events.GOLD,
        gold_alerts=(adverse_events.SIGNAL_ALERTS,),
        views=adverse_events.VIEWS,
    ),
    Stream("alarm_actions", alarm_actions.CONTRACT, ()),
)


FEEDS: tuple[AnyFeed, ...] = (
    Feed(
        "GlucoseReadings",
        glucose.CONTRACT,
        readings.glucose_readings,
        key=("patient_id", "device_id", "timestamp"),
    ),
    Feed(
        "DeviceOperationalData",
        devices.CONTRACT,
        readings.device_operational_data,
        key=("device_id", "timestamp"),
    ),
    Feed(
        "patient_status",
        vitals.CONTRACT,
        patient_status,
        key=("patient_id", "timestamp", "device_id"),
        alerts_before=HELD_IN_SPORT,
    ),
    VersionedFeed(
        "PatientAdverseEventReport",
        adverse_events.CONTRACT,
        safety_reports.report_rows,
        key=("report_key",),
        entity="safetyreportid",
        name_of=safety_reports.name_of(pl.col("safetyreportid")),
        weight=pl.max_horizontal(pl.lit(1), pl.col("drug_count") * pl.col("reaction_count")),
    ),
)
"""The tables of the transactional store that are filled from streams."""

ALARM_FEEDS: tuple[AlarmFeed, ...] = tuple(
    AlarmFeed(each.contract, "GlucoseReadings" if each.contract is glucose.CONTRACT else None)
    for each in STREAMS
    if each.contract.alarms is not None
)
"""Whose alarms are in its tables `Alerts` and `AlertLifecycle`."""

HUBS = (*(each.name for each in STREAMS), ALERTS_HUB, ALARMS_HUB)
"""What has a hub: the streams, which are read, and alerts and alarms, which are published."""


def stream(name: str) -> Stream:
    """The stream of a name, long or short.

    Raises:
        UnknownStreamError: there is none; the message lists those there are.
    """
    for each in STREAMS:
        if name in (each.name, each.short):
            return each
    raise UnknownStreamError(f"There is no stream '{name}'. Streams: {', '.join(each.name for each in STREAMS)}.")


def tables() -> list[Table]:
    """All tables of the lake."""
    of_streams = [
        table
        for each in STREAMS
        for table in (*each.contract.tables, *(gold.table for gold in each.gold), *each.published[1:])
    ]
    of_reference = [*(each.table for each in REFERENCES), RULES]
    of_work = [POLLED, BRIDGES, WATCHED, RETENTION, AUDIT, COPIED_TABLES]
    return [*of_streams, ALARMS, *of_reference, *of_work, *clinical_tables(), PATIENT_360]


def views() -> list[View]:
    """A view for each layer over the tables of all streams, those that streams declare, and reference data of now."""
    of_streams = [view for each in STREAMS for view in each.views]
    of_reference = [*(each.current for each in REFERENCES), CURRENT_RULES]
    of_alarms = alarm_views([each.contract.tables["alarms"] for each in STREAMS if each.contract.alarms is not None])
    return [*layers([each.contract for each in STREAMS]), *of_streams, *of_alarms, *of_reference, LOADS]


def open_lake(settings: Settings) -> Lake:
    """The lake, once it has answered: later errors of storage are not made for people.

    Raises:
        LakeUnavailableError: it did not answer; the message says what it said and what to look at.
    """
    try:
        lake = lake_of(settings)
    except ValidationError as error:
        names = ", ".join(f"AZURE_STORAGE_{str(each['loc'][0]).upper()} ({each['msg']})" for each in error.errors())
        raise LakeUnavailableError(f"The lake was not opened: {names}. Correct the settings.") from None
    try:
        lake.table(tables()[0]).version()
    except (OSError, AzureError, DeltaError) as error:
        raise LakeUnavailableError(
            f"The lake {lake.root} cannot be opened: {_reason(error)}. Check PULSELAKE_LAKE, the AZURE_STORAGE_… "
            "settings or the Azure identity, and the network; nothing was read or written."
        ) from error
    return lake


def _reason(error: Exception) -> str:
    """What storage said, in a line and without its colours."""
    text = re.sub(r"\x1b\[\d*m", "", str(error))
    return " ".join(text.replace("↳", ":").split()).replace(" :", ":").rstrip(".")
