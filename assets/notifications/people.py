"""Who can be told, and of whom: subscribers and their subscriptions as reference data say it at one moment. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, tzinfo
from functools import cached_property
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import polars as pl

from assets.notifications.transitions import RANKS, Transition
from assets.reference.cells import SEPARATOR

TOLD = frozenset({"raised", "worsened", "reminded", "escalated", "cleared"})
"""The transitions that people are told of unless their subscription names others; docs/alarms.md explains them."""
DEFAULT_LANGUAGE, DEFAULT_ZONE = "en", "UTC"

T = TypeVar("T")


class SubscriberUnknownError(ValueError):
    """Nobody has that number, or no channel."""


class Subscriber(NamedTuple):
    """One who can be told.

    Attributes:
        subscriber_id, name: who it is.
        channels: names of secrets, never addresses.
        language: such as `en` or `de-AT`.
        zone: of times in messages, and of quiet hours.
        quiet: from when to when only what is urgent is told; None for never.
    """

    subscriber_id: int
    name: str = ""
    channels: tuple[str, ...] = ()
    language: str = DEFAULT_LANGUAGE
    zone: tzinfo = ZoneInfo(DEFAULT_ZONE)
    quiet: tuple[time, time] | None = None

    def is_quiet(self, at: datetime) -> bool:
        """Whether an instant lies in the quiet hours, which may go over midnight; the end is not part of them."""
        if self.quiet is None:
            return False
        begin, end = self.quiet
        local = at.astimezone(self.zone).time()
        return begin <= local < end if begin <= end else local >= begin or local < end


class Subscription(NamedTuple):
    """What a subscriber is told of a patient or of a group.

    Attributes:
        subscriber_id: who is told.
        tier: an alarm must have been escalated so often.
        minimum_rank: the least severity.
        transitions: which of them.
    """

    subscriber_id: int
    tier: int = 0
    minimum_rank: int = 0
    transitions: frozenset[str] = TOLD


@dataclass(frozen=True)
class People:
    """Who is told of whom.

    Attributes:
        subscribers: by their ids.
        of_patients, of_groups: the subscriptions, by patient and by group.
        groups: of each patient.
        patients: who wears each device.
    """

    subscribers: Mapping[int, Subscriber] = field(default_factory=dict)
    of_patients: Mapping[int, list[Subscription]] = field(default_factory=dict)
    of_groups: Mapping[str, list[Subscription]] = field(default_factory=dict)
    groups: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    patients: Mapping[int, int] = field(default_factory=dict)

    def subscriptions(self, transition: Transition) -> Iterator[Subscription]:
        """Those that are about the patient of an alarm. An alarm of a device is one of the patient who wears it."""
        patient = self._patient(transition)
        if patient is None:
            return
        yield from self.of_patients.get(patient, ())
        for group in self.groups.get(patient, ()):
            yield from self.of_groups.get(group, ())

    def is_told(self, subscriber_id: int, channel: str, transition: Transition) -> bool:
        """Whether a subscriber has a channel still, and a subscription of the alarm's patient."""
        subscriber = self.subscribers.get(subscriber_id)
        patient = self._patient(transition)
        if patient is None or subscriber is None or channel not in subscriber.channels:
            return False
        of_patients, of_groups = self._subscribed
        return subscriber_id in of_patients.get(patient, ()) or any(
            subscriber_id in of_groups.get(group, ()) for group in self.groups.get(patient, ())
        )

    def _patient(self, transition: Transition) -> int | None:
        if transition.patient_id is None and transition.device_id is not None:
            return self.patients.get(transition.device_id)
        return transition.patient_id

    @cached_property
    def _subscribed(self) -> tuple[dict[int, frozenset[int]], dict[str, frozenset[int]]]:
        """The subscribers by patient and by group: each row that waits asks, and a group may have thousands."""
        return _who(self.of_patients), _who(self.of_groups)


def _who(subscriptions: Mapping[T, Iterable[Subscription]]) -> dict[T, frozenset[int]]:
    return {key: frozenset(each.subscriber_id for each in found) for key, found in subscriptions.items()}


def people(
    subscribers: pl.DataFrame, subscriptions: pl.DataFrame, patients: pl.DataFrame, devices: pl.DataFrame
) -> People:
    """Who is told of whom, from the rows of the reference tables that hold at one moment."""
    of_patients: dict[int, list[Subscription]] = defaultdict(list)
    of_groups: dict[str, list[Subscription]] = defaultdict(list)
    for row in subscriptions.iter_rows(named=True):
        kind, _, who = (row["scope"] or "").partition(":")
        found = Subscription(
            row["subscriber_id"],
            row["tier"] or 0,
            RANKS.get(row["minimum_severity"] or "", 0),
            frozenset(_listed(row["transitions"])) or TOLD,
        )
        if kind == "patient":
            of_patients[int(who)].append(found)
        else:
            of_groups[who].append(found)
    worn = devices.filter(pl.col("patient_id").is_not_null()).select("device_id", "patient_id")
    return People(
        {row["subscriber_id"]: _subscriber(row) for row in subscribers.iter_rows(named=True)},
        of_patients,
        of_groups,
        {patient: tuple(_listed(groups)) for patient, groups in patients.select("patient_id", "groups").iter_rows()},
        dict(worn.iter_rows()),
    )


def _subscriber(row: Mapping[str, Any]) -> Subscriber:
    quiet = None
    if row["quiet_from"] and row["quiet_to"]:
        quiet = (time.fromisoformat(row["quiet_from"]), time.fromisoformat(row["quiet_to"]))
    return Subscriber(
        row["subscriber_id"],
        row["name"] or "",
        tuple(_listed(row["channels"])),
        row["language"] or DEFAULT_LANGUAGE,
        ZoneInfo(row["time_zone"] or DEFAULT_ZONE),
        quiet,
    )


def _listed(text: str | None) -> Iterable[str]:
    return [each for each in (text or "").split(SEPARATOR) if each]
