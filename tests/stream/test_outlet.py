"""An alerts hub that is away, and events that once stopped a stream."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from resources.event_source import HubUnavailableError
from tests.stream.hubs import MemoryPublisher
from tests.stream.scenarios import hub_with, lake_in, run_session, troubled_bodies
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
