"""An alerts hub that is away, and events that once stopped a stream."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from assets.glucose.assets import CONTRACT
from assets.stream import outlet
from assets.stream.outlet import PACK, publish_alerts
from assets.stream.rebuild import NotCaughtUpError, days_to_replay, replay
from assets.stream.store import StreamStore
from resources.event_hubs import _tail
from resources.event_source import HubUnavailableError, Tail
from tests.stream.hubs import MemoryPublisher
from tests.stream.scenarios import EAGER, NOON, body, hub_with, lake_in, reading, run_session, troubled_bodies
from tests.stream.tables import assert_exact, rows
from tests.stream.test_rebuild import BEFORE_THE_FIX

NOT_WAITING = replace(EAGER, until_caught_up=True)
"""Ends with the hub's last event, although alerts wait."""


class AwayPublisher(MemoryPublisher):
    """A hub that takes nothing."""

    def publish(self, bodies: Sequence[bytes], keys: Sequence[str]) -> list[int]:
        raise HubUnavailableError("The alerts hub is away.")


class ReturningPublisher(MemoryPublisher):
    """A hub that takes nothing the first times."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def publish(self, bodies: Sequence[bytes], keys: Sequence[str]) -> list[int]:
        if self.failures:
            self.failures -= 1
            raise HubUnavailableError("The alerts hub is away.")
        return super().publish(bodies, keys)


def raised(*, patients: int, each: int) -> pl.DataFrame:
    """Alerts of many patients, in the order of time."""
    count = patients * each
    rows: dict[str, object] = {"rule": "glucose_high", "severity": "warning", "location": "Oslo"}
    numbers = pl.select(number=pl.int_range(count))
    return numbers.select(
        alert_id=pl.col("number").cast(pl.String),
        **{name: pl.lit(value) for name, value in rows.items()},
        patient_id=pl.col("number") % patients,
        device_id=pl.col("number") % patients,
        measured_at=pl.lit(NOON) + pl.duration(seconds=pl.col("number") // patients),
        glucose_mg_dl=pl.lit(180.0),
        **{name: pl.lit(None, pl.Float64) for name in ("mean_10_min", *CONTRACT.spans)},
        threshold=pl.lit(115.0),
        received_at=pl.lit(NOON),
        is_revision=pl.lit(False),
    )


def into(publisher: MemoryPublisher) -> Callable[[pl.DataFrame], None]:
    """What a replay does with new alerts."""

    def publish(alerts: pl.DataFrame) -> None:
        publish_alerts(CONTRACT, publisher, alerts, NOON)

    return publish


def ids(publisher: MemoryPublisher) -> list[str]:
    return [json.loads(body)["alert_id"] for _, body in publisher.published]


def test_an_away_alerts_hub_holds_up_no_data_and_its_alerts_go_out_later(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(200), take=20)
    totals = run_session(lake, hub, publisher=AwayPublisher(), limits=NOT_WAITING)
    assert totals.alerts_withheld == "The alerts hub is away."
    assert_exact(lake, hub)
    publisher = MemoryPublisher()
    assert run_session(lake, hub, publisher=publisher).alerts_withheld is None
    assert sorted(ids(publisher)) == sorted(rows(lake, "alerts")["alert_id"])
    again = MemoryPublisher()
    run_session(lake, hub, publisher=again)
    assert ids(again) == []


def test_a_session_whose_alerts_wait_does_not_end_when_its_hub_falls_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet, "RETRY_EVERY_S", 0.0)
    lake, hub, publisher = lake_in(tmp_path), hub_with(troubled_bodies(60)), ReturningPublisher(failures=20)
    # Shorter than a micro-batch takes: what waits is known only once it is stored.
    limits = replace(EAGER, idle_timeout_s=0.001)
    assert run_session(lake, hub, publisher=publisher, limits=limits).alerts_withheld is None
    assert publisher.failures == 0
    assert sorted(ids(publisher)) == sorted(rows(lake, "alerts")["alert_id"])


def test_a_replay_while_alerts_wait_is_refused_and_after_them_publishes_what_is_new(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(0, "300")), body(reading(1, 200))], partitions=1)
    waiting, replayed = MemoryPublisher(), MemoryPublisher()
    run_session(lake, hub, contract=BEFORE_THE_FIX, publisher=AwayPublisher(), limits=NOT_WAITING)
    with pytest.raises(NotCaughtUpError, match="alerts wait for the alerts hub"):
        replay(CONTRACT, lake, into(replayed))
    run_session(lake, hub, publisher=waiting)
    replay(CONTRACT, lake, into(replayed))
    assert ids(waiting)
    assert ids(replayed)
    assert sorted(ids(waiting) + ids(replayed)) == sorted(rows(lake, "alerts")["alert_id"])


def test_alerts_of_a_replay_are_not_published_again_with_those_that_wait_behind_them(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(0, 300))], partitions=1)
    first, replayed, last = MemoryPublisher(), MemoryPublisher(), MemoryPublisher()
    run_session(lake, hub, contract=BEFORE_THE_FIX, publisher=first)
    hub.send([body(reading(30, "300"))], NOON)
    run_session(lake, hub, contract=BEFORE_THE_FIX, publisher=first)
    replay(CONTRACT, lake, into(replayed))
    hub.send([body(reading(50, 300))], NOON)
    run_session(lake, hub, publisher=AwayPublisher(), limits=NOT_WAITING)
    run_session(lake, hub, publisher=last)
    assert [len(ids(each)) > 0 for each in (first, replayed, last)] == [True] * 3
    assert sorted(ids(first) + ids(replayed) + ids(last)) == sorted(rows(lake, "alerts")["alert_id"])


@pytest.mark.parametrize(("part", "largest"), [(700, 35), (16_000, PACK)])
def test_the_alerts_of_a_backlog_are_packed_and_stay_in_order_for_each_patient(
    part: int, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet, "PART", part)
    alerts = raised(patients=100, each=30)
    publisher = MemoryPublisher()
    publish_alerts(CONTRACT, publisher, alerts, NOON)
    assert len(publisher.published) < 200
    packs = [(key, json.loads(body)) for key, body in publisher.published]
    assert max(len(pack) for _, pack in packs) == largest
    keys: dict[int, set[str]] = {}
    times: dict[int, list[str]] = {}
    for key, pack in packs:
        for alert in pack:
            keys.setdefault(alert["patient_id"], set()).add(key)
            times.setdefault(alert["patient_id"], []).append(alert["timestamp"])
    assert all(len(each) == 1 for each in keys.values())
    assert all(each == sorted(each) for each in times.values())
    assert sum(map(len, times.values())) == alerts.height == 3000


def test_a_few_alerts_go_one_by_one_in_the_key_in_which_packs_of_their_patient_go() -> None:
    few, many = MemoryPublisher(), MemoryPublisher()
    publish_alerts(CONTRACT, few, raised(patients=1, each=3), NOON)
    publish_alerts(CONTRACT, many, raised(patients=1, each=3000), NOON)
    assert [json.loads(body)["rule"] for _, body in few.published] == ["glucose_high"] * 3
    assert {key for key, _ in few.published} == {key for key, _ in many.published}


def test_an_alert_says_how_old_its_reading_is_and_whether_that_is_late() -> None:
    publisher = MemoryPublisher()
    alerts = raised(patients=1, each=3).with_columns(
        measured_at=pl.Series([NOON, NOON - timedelta(hours=2), NOON - timedelta(hours=2, milliseconds=1)])
    )
    publish_alerts(CONTRACT, publisher, alerts, NOON)
    told = [(each["age_s"], each["is_late"], each["is_revision"]) for each in map(json.loads, bodies_of(publisher))]
    assert told == [(0.0, False, False), (7200.0, False, False), (7200.001, True, False)]
    publish_alerts(CONTRACT, publisher, alerts, NOON, late_after=timedelta(days=1))
    assert not any(json.loads(each)["is_late"] for each in bodies_of(publisher)[3:])


def bodies_of(publisher: MemoryPublisher) -> list[bytes]:
    return [body for _, body in publisher.published]


@pytest.mark.slow
def test_an_array_of_many_bad_members_stands_once_with_its_body(tmp_path: Path) -> None:
    body = b"[" + b",".join([b"1"] * 20_000) + b"]"
    lake, hub = lake_in(tmp_path), hub_with([body])
    run_session(lake, hub)
    quarantine = rows(lake, "quarantine")
    assert quarantine.height == 20_000
    assert quarantine["body"].drop_nulls().to_list() == [body.decode()]


def test_a_replay_that_was_killed_between_two_days_is_found_again_and_finished(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(60))
    run_session(lake, hub)
    assert days_to_replay(CONTRACT, lake) == []
    StreamStore(CONTRACT, lake).mark_replay(NOON.date())
    assert days_to_replay(CONTRACT, lake) == [NOON.date()]
    assert [rebuilt.day for rebuilt in replay(CONTRACT, lake)] == [NOON.date()]
    assert days_to_replay(CONTRACT, lake) == []
    assert_exact(lake, hub)


def test_a_partition_emptied_by_retention_ends_before_its_next_event() -> None:
    emptied = {"beginning_sequence_number": 20, "last_enqueued_sequence_number": -1, "is_empty": True}
    assert _tail(emptied) == Tail(20, 19)
    assert _tail(emptied | {"beginning_sequence_number": 0}) == Tail(0, -1)
