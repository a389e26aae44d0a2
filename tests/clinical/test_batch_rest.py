"""The client of an API with pages, against a server that fails in all the ways that servers have."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import polars as pl
import pytest
from pydantic import SecretStr

from assets.clinical.sources import TELEMETRY
from resources.batch_rest import ATTEMPTS, RestSource
from resources.batch_source import UNREADABLE, BatchSourceError, RestPath
from tests.clinical.api import Api
from tests.services.loopback import breaks_off, drips, hangs, says

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
SECRET = "a-secret-token"


def row(number: int, **more: Any) -> dict[str, Any]:
    at = (NOON - timedelta(hours=20) + timedelta(minutes=5 * number)).isoformat()
    return {"device_id": 1000 + number, "recorded_at": at, "received_at": at, "battery_percent": 50.0, **more}


class Asked:
    """A source whose pauses are only noted."""

    def __init__(self, api: Api, answer_s: float = 20.0) -> None:
        self.waits: list[float] = []
        assert isinstance(TELEMETRY.place, RestPath)
        self.source = RestSource(
            "telemetry",
            api.url,
            "PULSELAKE_TELEMETRY_URL",
            TELEMETRY.place,
            SecretStr(SECRET),
            limit=3,
            piece_rows=3,
            timeouts=(20.0, answer_s, answer_s),
            sleep=self.waits.append,
            clock=lambda: NOON,
        )

    def pull(self, since: bytes | None = None) -> tuple[list[int], bytes | None]:
        """The numbers of the rows, and the cursor."""
        frames = []
        for pulled in self.source.pull(since):
            frames.append(pulled.rows)
            since = pulled.cursor
        found = [frame for frame in frames if frame.height]
        return [number - 1000 for number in pl.concat(found)["device_id"]] if found else [], since


def test_all_pages_are_read_and_then_what_is_new():
    with Api(row(number) for number in range(8)) as api:
        asked = Asked(api)
        numbers, cursor = asked.pull()
        assert numbers == list(range(8))
        assert [query.get("start") for query in api.queries] == [None, "3", "6"]
        api.rows += [row(8), row(6, battery_percent=49.0)]
        numbers, cursor = asked.pull(cursor)
        assert numbers == [6, 8]
        assert api.queries[3]["since"] == row(5)["received_at"]
        assert asked.pull(cursor)[0] == []


def test_an_answer_that_did_not_change_is_not_sent_again():
    with Api([row(0)]) as api:
        asked = Asked(api)
        _, cursor = asked.pull()
        _, cursor = asked.pull(cursor)
        assert asked.pull(cursor) == ([], cursor)
        assert api.answered == [200, 200, 304]
        api.rows.append(row(1))
        assert asked.pull(cursor)[0] == [1]


@pytest.mark.parametrize(
    "failure",
    [
        says(500, b"<html>"),
        says(503),
        says(429),
        says(200, b"<html>not json</html>"),
        says(200, b'{"error": "no array"}'),
        says(200, b"\xff\xfe"),
        hangs,
        drips,
        breaks_off,
    ],
    ids=["500", "503", "429", "garbage", "object", "bytes", "hangs", "drips", "breaks_off"],
)
def test_what_fails_once_is_tried_again(failure):
    with Api(row(number) for number in range(5)) as api:
        api.fail(None, failure)
        asked = Asked(api, answer_s=0.5)
        assert asked.pull()[0] == list(range(5))
        # On a machine that is very busy a good answer may be too late as well.
        assert asked.waits


def test_what_fails_again_and_again_ends_with_source_cause_and_next_step():
    with Api(row(number) for number in range(5)) as api:
        api.fail(None, *[says(503)] * ATTEMPTS)
        asked = Asked(api)
        pulls = asked.source.pull(None)
        first = next(pulls)
        with pytest.raises(BatchSourceError) as failed:
            next(pulls)
        for said in ("telemetry:", f"asking {ATTEMPTS} times", "status 503", "PULSELAKE_TELEMETRY_URL", "next run"):
            assert said in str(failed.value)
        assert len(asked.waits) == ATTEMPTS - 1
        assert asked.waits[-1] > asked.waits[0]
        # What was handed out before is good, and the next pull goes on behind it.
        assert asked.pull(first.cursor)[0] == [3, 4]


@pytest.mark.parametrize("as_date", [False, True])
def test_a_server_is_left_alone_as_long_as_it_asks_for(as_date):
    wanted = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True) if as_date else "60"
    with Api([row(0)]) as api:
        api.fail(says(429, Retry_After=wanted))
        asked = Asked(api)
        assert asked.pull()[0] == [0]
        assert asked.waits == [pytest.approx(60, abs=3)]
        api.fail(says(429, Retry_After="86400"))
        with pytest.raises(BatchSourceError, match="status 429"):
            asked.pull()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 301])
def test_what_is_refused_is_not_tried_again(status):
    with Api() as api:
        api.fail(says(status))
        asked = Asked(api)
        with pytest.raises(BatchSourceError, match=f"status {status}") as error:
            asked.pull()
        assert ("PULSELAKE_TELEMETRY_TOKEN" in str(error.value)) == (status in (401, 403))
        assert asked.waits == []


def test_a_server_that_is_not_there_is_named():
    with Api() as api:
        asked = Asked(api)
    with pytest.raises(BatchSourceError, match="ConnectError"):
        asked.pull()


def test_the_token_goes_to_the_server_and_into_no_message():
    with Api([row(number) for number in range(5)]) as api:
        asked = Asked(api)
        api.link = "http://localhost:1/telemetry"
        with pytest.raises(BatchSourceError, match="another server, localhost") as failed:
            asked.pull()
        assert api.asked[0].headers["authorization"] == f"Bearer {SECRET}"
        assert SECRET not in str(failed.value)


def test_pages_without_an_end_end():
    with Api([row(number) for number in range(5)]) as api:
        api.link = "/telemetry?limit=3"
        with pytest.raises(BatchSourceError, match="without an end"):
            Asked(api).pull()


def test_elements_that_are_no_objects_are_kept():
    with Api([row(0), "garbage", 7]) as api:
        pulled = next(Asked(api).source.pull(None))
        assert sorted(pulled.rows[UNREADABLE].drop_nulls()) == ['"garbage"', "7"]


def test_a_row_of_a_clock_that_is_ahead_hides_no_later_row():
    with Api([row(0), row(1, received_at="2099-01-01T00:00:00+00:00")]) as api:
        asked = Asked(api)
        numbers, cursor = asked.pull()
        assert numbers == [0, 1]
        api.rows.append(row(2))
        assert asked.pull(cursor)[0] == [2]
