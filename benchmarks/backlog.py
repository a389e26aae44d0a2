"""Fills a hub with synthetic glucose events, as fast as they can be made."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

from benchmarks.report import say
from generator.events import Event
from generator.streams import glucose_events
from resources.event_hubs import EventHubsNamespace
from resources.event_source import Publisher

PATIENTS = 1000
SEED = 11
FAULTS = 0.01
START = datetime(2026, 11, 1, tzinfo=UTC)
SPACING = timedelta(minutes=5)
_SEND_EVENTS = 20_000


def past_events(count: int, pack: int = 1) -> Iterator[Event]:
    """Readings five minutes apart; 1 % faults, 1 % sent twice, 1 % late, 3 % in another valid format."""
    return glucose_events(
        start=START, spacing=SPACING, patients=PATIENTS, seed=SEED, faults=FAULTS, pack=pack, count=count, gaps=0
    )


def fill(connection_string: str, hub: str, events: Iterator[Event]) -> Counter[str]:
    """Sends all events.

    Returns:
        How many events and readings were sent, and how many of the readings are meant to be repeats or refused.
    """
    with EventHubsNamespace(connection_string).publisher(hub) as publisher:
        return send(publisher, hub, events)


def send(publisher: Publisher, hub: str, events: Iterator[Event]) -> Counter[str]:
    """The same by any transport."""
    sent: Counter[str] = Counter()
    while chunk := list(islice(events, _SEND_EVENTS)):
        publisher.publish([event.body for event in chunk], [event.key for event in chunk])
        sent["events"] += len(chunk)
        for event in chunk:
            sent["readings"] += event.readings
            sent["duplicates"] += event.duplicates
            sent["quarantine"] += event.quarantined
        if sent["events"] % (5 * _SEND_EVENTS) == 0:
            say(f"  {sent['events']:,} events are in hub '{hub}'")
    return sent
