"""Alerts that wait for their hub: live ones do not wait behind them, urgent ones go first, none is lost."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random

import polars as pl
import pytest

from assets.glucose.assets import CONTRACT
from assets.stream import outlet, waiting
from assets.stream.store import Delivery, StreamStore
from resources.event_source import HubUnavailableError
from resources.lake import Lake
from tests.stream.batches import micro_batches, new_processor, positions
from tests.stream.hubs import MemoryPublisher
from tests.stream.scenarios import EAGER, NOON, body, hub_with, lake_in, reading, run_session, ticking, troubled_bodies
from tests.stream.tables import rows
from tests.stream.test_outlet import NOT_WAITING, AwayPublisher, ids

pytestmark = pytest.mark.slow


class Flapping(MemoryPublisher):
    """A hub that is away now and then, by chance."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = Random(seed)

    def publish(self, bodies: Sequence[bytes], keys: Sequence[str]) -> list[int]:
        if self.random.random() < 0.4:
            raise HubUnavailableError("away")
        return super().publish(bodies, keys)


def opened(lake: Lake) -> StreamStore:
    store = StreamStore(CONTRACT, lake)
    store.open([0, 1])
    return store


def test_after_an_outage_urgent_alerts_go_first_and_of_those_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "CHUNK_ALERTS", 2)
    lake = lake_in(tmp_path)
    hub = hub_with([body(reading(minutes, 300 if minutes % 3 else 120)) for minutes in range(12)], partitions=1)
    run_session(lake, hub, publisher=AwayPublisher(), limits=NOT_WAITING)
    publisher = MemoryPublisher()
    run_session(lake, hub, publisher=publisher)
    sent = [json.loads(each) for _, each in publisher.published]
    severities = [alert["severity"] for alert in sent]
    assert severities == sorted(severities)
    assert severities[0] == "urgent"
    urgent = [alert["timestamp"] for alert in sent if alert["severity"] == "urgent"]
    assert urgent[:2] > urgent[2:4] > urgent[4:6]
    assert sorted(ids(publisher)) == sorted(rows(lake, "alerts")["alert_id"])
    assert not opened(lake).has_unpublished()


def test_live_alerts_do_not_wait_behind_those_of_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "CHUNK_ALERTS", 3)
    lake, hub = lake_in(tmp_path), hub_with([body(reading(minutes, 300)) for minutes in range(30)], partitions=1)
    run_session(lake, hub, publisher=AwayPublisher(), limits=NOT_WAITING)
    hub.send([body(reading(50, 40, patient=2))], NOON)
    publisher = MemoryPublisher()
    run_session(lake, hub, publisher=publisher, clock=ticking(NOON + timedelta(minutes=1)))
    sent = [json.loads(each)["patient_id"] for _, each in publisher.published]
    assert sent.index(2) < len(sent) // 2
    assert sorted(ids(publisher)) == sorted(rows(lake, "alerts")["alert_id"])


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_hub_refuses_and_whenever_sessions_end_every_stored_alert_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(waiting, "CHUNK_ALERTS", 7)
    monkeypatch.setattr(outlet, "RETRY_EVERY_S", 0.0)
    lake, hub, publisher = lake_in(tmp_path), hub_with([]), Flapping(seed)
    for number in range(5):
        hub.send(troubled_bodies(40, seed=number), NOON, partition=number % 2)
        limits = replace(EAGER, until_caught_up=number % 2 == 0)
        hub.take = publisher.random.choice([3, 10, 100])
        run_session(lake, hub, publisher=publisher, limits=limits, clock=ticking(NOON + timedelta(minutes=number)))
    final = MemoryPublisher()
    run_session(lake, hub, publisher=final, clock=ticking(NOON + timedelta(minutes=9)))
    assert set(ids(publisher)) | set(ids(final)) == set(rows(lake, "alerts")["alert_id"])
    assert not opened(lake).has_unpublished()


def test_a_crash_while_waiting_alerts_are_sent_sends_only_what_was_not_noted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "CHUNK_ALERTS", 4)
    lake = lake_in(tmp_path)
    hub = hub_with([body(reading(minutes, 300)) for minutes in range(10)], partitions=2)
    run_session(lake, hub, publisher=AwayPublisher(), limits=NOT_WAITING)
    sent: list[str] = []
    store = opened(lake)
    store.waiting.reopen()
    for _ in range(3):
        chunk = store.waiting.next_chunk()
        assert chunk is not None
        sent += chunk.alerts["alert_id"].to_list()
        store.waiting.sent(chunk)
    rest = MemoryPublisher()
    run_session(lake, hub, publisher=rest)
    assert Counter([*sent, *ids(rest)]) == Counter(rows(lake, "alerts")["alert_id"])


def test_a_chunk_holds_whole_events_however_many_alerts_one_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "CHUNK_ALERTS", 2)
    many = body(*(reading(minutes, 120) for minutes in range(9)))
    lake, hub = lake_in(tmp_path), hub_with([many, body(reading(20, 120)), many], partitions=1)
    run_session(lake, hub, publisher=AwayPublisher(), limits=NOT_WAITING)
    publisher = MemoryPublisher()
    run_session(lake, hub, publisher=publisher)
    assert Counter(ids(publisher)) == Counter(rows(lake, "alerts")["alert_id"])


def test_a_second_outage_before_the_first_ones_alerts_are_sent_loses_none(tmp_path: Path) -> None:
    lake, processor = lake_in(tmp_path), new_processor()
    store = opened(lake)
    bodies = [[body(reading(minutes, 300))] for minutes in range(4)]
    outcomes = [
        processor.process(positions(events), [event.body for event in events]) for events in micro_batches(*bodies)
    ]
    for outcome, is_published in zip(outcomes, (False, True, False, True), strict=True):
        if is_published:
            store.waiting.reopen()
        store.commit([outcome], delivery=partial(Delivery, is_published))
    left: list[str] = []
    store.waiting.reopen()
    while (chunk := store.waiting.next_chunk()) is not None:
        left += chunk.alerts["alert_id"].to_list()
        store.waiting.sent(chunk)
    withheld = pl.concat([outcomes[0].alerts, outcomes[2].alerts])["alert_id"].to_list()
    assert set(withheld) <= set(left)
    assert not store.waiting
