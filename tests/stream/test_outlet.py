"""An alerts hub that is away, and events that once stopped a stream."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from assets.glucose.assets import CONTRACT
from assets.stream.rebuild import days_to_replay, replay
from assets.stream.store import StreamStore
from resources.event_hubs import _tail
from resources.event_source import HubUnavailableError, Tail
from tests.stream.hubs import MemoryPublisher
from tests.stream.scenarios import NOON, hub_with, lake_in, run_session, troubled_bodies
from tests.stream.tables import assert_exact, rows


class AwayPublisher(MemoryPublisher):
    """A hub that takes nothing."""

    def publish(self, bodies: Sequence[bytes], keys: Sequence[str]) -> None:
        raise HubUnavailableError("The alerts hub is away.")


def ids(publisher: MemoryPublisher) -> list[str]:
    return [json.loads(body)["alert_id"] for _, body in publisher.published]


def test_an_away_alerts_hub_holds_up_no_data_and_its_alerts_go_out_later(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(200), take=20)
    with pytest.raises(HubUnavailableError, match="stored; the next session publishes"):
        run_session(lake, hub, publisher=AwayPublisher())
    assert_exact(lake, hub)
    publisher = MemoryPublisher()
    run_session(lake, hub, publisher=publisher)
    assert sorted(ids(publisher)) == sorted(rows(lake, "alerts")["alert_id"])
    again = MemoryPublisher()
    run_session(lake, hub, publisher=again)
    assert ids(again) == []


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
