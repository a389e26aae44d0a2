"""The client of Cosmos DB, with the real SDK against a server with its API."""

from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest
from pydantic import SecretStr

from resources.batch_cosmos import CosmosSource
from resources.batch_source import BatchSourceError
from tests.services.cosmos import Cosmos

pytestmark = [pytest.mark.service, pytest.mark.filterwarnings("ignore:Unverified HTTPS request")]


@pytest.fixture(scope="module")
def cosmos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cosmos]:
    with Cosmos(tmp_path_factory.mktemp("cosmos")) as service:
        yield service


def source(cosmos: Cosmos, container: str, **options: Any) -> CosmosSource:
    return CosmosSource(
        "device_events",
        cosmos.url,
        "PULSELAKE_DEVICE_EVENTS_URL",
        "iomt",
        container,
        SecretStr(cosmos.key),
        is_verified=False,
        **options,
    )


def pull(source: CosmosSource, since: bytes | None = None) -> tuple[list[str], bytes | None]:
    frames = []
    for pulled in source.pull(since):
        frames.append(pulled.rows)
        since = pulled.cursor
    found = [frame for frame in frames if frame.height]
    return sorted(pl.concat(found, how="diagonal_relaxed")["id"]) if found else [], since


def event(number: int, **more: Any) -> dict[str, Any]:
    return {"id": str(number), "device_id": 1000 + number % 2, "kind": "alert", "message": "低電池", **more}


def test_items_of_all_partitions_are_read_once_and_again_when_they_changed(cosmos):
    container = cosmos.container("iomt", "by_time")
    for number in range(7):
        container.upsert_item(event(number))
    asked = source(cosmos, "by_time", piece_rows=3)
    found, cursor = pull(asked)
    assert found == [str(number) for number in range(7)]
    assert pull(asked, cursor)[0] == []
    container.upsert_item(event(3, kind="error"))
    container.upsert_item(event(7))
    found, cursor = pull(asked, cursor)
    assert found == ["3", "7"]
    assert pull(asked, cursor)[0] == []


def test_a_pull_that_is_broken_off_goes_on_behind_the_last_piece(cosmos):
    container = cosmos.container("iomt", "broken_off")
    for number in range(6):
        container.upsert_item(event(number))
    asked = source(cosmos, "broken_off", piece_rows=2)
    first = next(asked.pull(None))
    rest, _ = pull(asked, first.cursor)
    assert sorted([*first.rows["id"], *rest]) == [str(number) for number in range(6)]


def test_the_change_feed_is_read_from_its_beginning(cosmos):
    container = cosmos.container("iomt", "by_feed")
    for number in range(4):
        container.upsert_item(event(number))
    found, cursor = pull(source(cosmos, "by_feed", by_feed=True))
    assert found == ["0", "1", "2", "3"]
    assert b"continuation" in (cursor or b"")


def test_what_is_not_there_is_named_without_the_key(cosmos):
    with pytest.raises(BatchSourceError) as failed:
        pull(source(cosmos, "none"))
    for said in ("device_events:", "iomt/none", "PULSELAKE_DEVICE_EVENTS_URL", "COSMOS_KEY"):
        assert said in str(failed.value)
    assert cosmos.key not in str(failed.value)
