"""The client for openFDA against a server that behaves as the API does."""

import json
import logging
import socket
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from itertools import chain
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from resources.openfda import (
    ATTEMPTS,
    MAX_RETRY_AFTER_S,
    Latest,
    OpenFda,
    OpenFdaError,
    OpenFdaLimitError,
)
from resources.settings import Settings
from tests.resources.fda import FakeFda, refuses, report
from tests.services.loopback import breaks_off, drips, hangs, says

pytestmark = pytest.mark.slow

FIRST, LAST = date(2026, 11, 1), date(2026, 11, 10)
KEY = "a-secret-of-forty-characters"
OVER = ("OVER_RATE_LIMIT", "You have exceeded your rate limit. Try again later or contact us for assistance")


class Clock:
    """Time that passes at once while somebody sleeps."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def __call__(self) -> float:
        return time.monotonic() + sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def client(server: FakeFda, clock: Clock | None = None, **options) -> OpenFda:
    clock = clock or Clock()
    return OpenFda(server.url, sleep=clock.sleep, clock=clock, **options)


def reports(count: int, day: date = FIRST) -> list[dict[str, Any]]:
    return [report(number, day) for number in range(count)]


def read(api: OpenFda, field="receivedate", first=FIRST, last=LAST) -> list[dict[str, Any]]:
    with api:
        return [json.loads(each) for each in chain.from_iterable(api.reports(field, first, last))]


def ids(found: list[dict[str, Any]]) -> list[int]:
    return sorted(int(each["safetyreportid"]) for each in found)


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("count", [1, 9, 10, 25])
def test_every_report_comes_once_by_links_and_by_counting(links, count):
    with FakeFda(reports(count), links=links) as server:
        assert ids(read(client(server, limit=10))) == list(range(count))
    assert len(server.asked) == -(-count // 10)
    assert {"skip" in query for query in server.queries[1:]} <= {not links}
    assert all(query["sort"] == "receivedate:asc" for query in server.queries)


def test_reports_outside_of_the_dates_are_not_asked_for():
    days = [FIRST - timedelta(1), FIRST, LAST, LAST + timedelta(1)]
    with FakeFda(report(number, day) for number, day in enumerate(days)) as server:
        assert ids(read(client(server))) == [1, 2]
    assert server.queries[0]["search"] == "receivedate:[20261101 TO 20261110]"


def test_a_report_stays_as_it_is_but_for_white_space():
    given = b'{"a" : 1.50, "a":"x  \\u00e9",\n "b": 12345678901234567890123}'
    body = b'{"results": [ ' + given + b'], "meta": {"results": {"total": 1}}}'
    with FakeFda() as server, client(server) as api:
        server.fail(says(200, body))
        assert [*api.reports("receivedate", FIRST, LAST)] == [
            [b'{"a":1.50,"a":"x  \\u00e9","b":12345678901234567890123}']
        ]


def test_no_match_is_no_report():
    with FakeFda() as server:
        assert read(client(server)) == []
        assert read(client(server), first=LAST, last=FIRST) == []
    assert len(server.asked) == 1


@pytest.mark.parametrize("links", [True, False])
def test_more_reports_than_can_be_counted_through(links):
    many = [report(number, FIRST + timedelta(number % 10), patient=None) for number in range(26_500)]
    with FakeFda(many, links=links) as server:
        assert ids(read(client(server))) == list(range(26_500))
    assert max(int(query.get("skip", "0")) for query in server.queries) <= 25_000
    assert (len({query["search"] for query in server.queries}) > 1) is not links


def test_a_day_that_is_too_large_without_links_is_named():
    many = [report(number, FIRST, patient=None) for number in range(25_001)]
    with (
        FakeFda(many, links=False) as server,
        pytest.raises(OpenFdaError, match=r"25,001 reports.* 2026-11-01 .*links"),
    ):
        read(client(server))


def test_a_link_to_another_server_is_not_followed():
    with FakeFda(reports(3)) as other, FakeFda(reports(3)) as server:
        server.link_to = other.url
        with pytest.raises(OpenFdaError, match=f"{server.url} links a next page at another server, {other.url}"):
            read(client(server, limit=2))
    assert other.asked == []


def test_a_redirection_is_not_followed():
    with FakeFda(reports(1)) as other, FakeFda() as server:
        server.fail(says(302, b"", Location=f"{other.url}/drug/event.json"))
        with pytest.raises(OpenFdaError, match="status 302"):
            read(client(server, key=SecretStr(KEY)))
    assert other.asked == []


def test_a_link_that_leads_back_ends_with_an_error():
    with FakeFda(reports(5)) as server:
        following = f'<{server.url}/drug/event.json?search=x>; rel="Next"'
        page = {"meta": {"results": {"total": 5}}, "results": reports(1)}
        server.fail(*[says(200, page, Link=following)] * 3)
        with pytest.raises(OpenFdaError, match="links pages without an end"):
            read(client(server))


def test_pages_that_end_too_early_are_no_success():
    with FakeFda(reports(5), links=False) as server:
        server.fail(None, refuses(404, "NOT_FOUND", "No matches found!"))
        with pytest.raises(OpenFdaError, match="gave 2 of 5 reports with receivedate 2026-11-01 to 2026-11-10"):
            read(client(server, limit=2))


@pytest.mark.parametrize(
    "failure",
    [
        refuses(500, "SERVER_ERROR", "Check your request and try again"),
        refuses(503, "SERVICE_UNAVAILABLE", "later"),
        refuses(429, *OVER),
        says(200, b"<html>"),
        says(200, b""),
        says(200, {"meta": {"results": {"total": 1}}}),
        says(200, {"results": [{}]}),
        says(200, b'{"meta": {"results": {"total": 1}}, "results": [{"safe'),
        breaks_off,
        hangs,
        drips,
    ],
)
def test_what_fails_now_and_then_is_asked_for_again(failure):
    clock = Clock()
    with FakeFda(reports(3)) as server:
        server.fail(failure, None, failure, failure)
        assert ids(read(client(server, clock, limit=2, timeouts=(5.0, 0.5, 0.5)))) == [0, 1, 2]
    assert [seconds > 0.9 for seconds in clock.slept].count(True) == 3


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (refuses(502, "BAD_GATEWAY", "upstream"), "status 502: upstream"),
        (says(200, b"<html>"), "an answer of 6 bytes that is no page of reports: JSON is malformed"),
        (breaks_off, "RemoteProtocolError peer closed connection"),
    ],
)
def test_what_always_fails_ends_with_a_message(failure, said):
    clock = Clock()
    with FakeFda(reports(1)) as server:
        server.fail(*[failure] * ATTEMPTS)
        with pytest.raises(OpenFdaError) as raised:
            read(client(server, clock))
    assert not isinstance(raised.value, OpenFdaLimitError)
    assert f"failed {ATTEMPTS} times: {said}" in str(raised.value)
    assert "try again later" in str(raised.value)
    waits = [seconds for seconds in clock.slept if seconds > 0.5]
    assert len(waits) == ATTEMPTS - 1
    assert sum(waits) >= 60
    assert max(waits) <= 60


def test_a_server_that_is_away_ends_with_a_message():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    api = OpenFda(f"http://127.0.0.1:{port}", sleep=lambda _: None)
    with pytest.raises(OpenFdaError, match=f"ConnectError.*127.0.0.1:{port}.*PULSELAKE_OPENFDA_URL"):
        read(api)


def at_once(seconds: float) -> Callable[[], str]:
    return lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("header", "at_least", "at_most"),
    [(lambda: "7", 7.0, 7.0), (at_once(30), 20.0, 30.0), (at_once(-30), 0.0, 0.0), (lambda: "soon", 1.0, 2.0)],
)
@pytest.mark.parametrize("status", [429, 503])
def test_the_server_says_when_to_come_again(status, header, at_least, at_most):
    clock = Clock()
    with FakeFda(reports(1)) as server:
        server.fail(refuses(status, *OVER, Retry_After=header()))
        assert len(read(client(server, clock))) == 1
    assert at_least <= clock.slept[0] <= at_most


def test_no_wait_is_longer_than_two_minutes():
    clock = Clock()
    with FakeFda(reports(1)) as server:
        server.fail(refuses(503, "X", "later", Retry_After="86400"))
        assert len(read(client(server, clock))) == 1
        assert max(clock.slept) == MAX_RETRY_AFTER_S
        server.fail(refuses(429, *OVER, Retry_After="86400"))
        with pytest.raises(OpenFdaLimitError, match="no more requests for now: status 429"):
            read(client(server, clock))


@pytest.mark.parametrize(
    ("failures", "requests"),
    [
        ([refuses(429, "OVER_RATE_LIMIT", "You have used the 1,000 requests of a day.")], 1),
        ([refuses(429, *OVER)] * ATTEMPTS, ATTEMPTS),
    ],
)
def test_the_limit_of_a_day_is_an_error_of_its_own(failures, requests):
    with FakeFda(reports(1)) as server:
        server.fail(*failures)
        with pytest.raises(OpenFdaLimitError, match=r"Poll again later.*OPENFDA_API_KEY"):
            read(client(server))
    assert len(server.asked) == requests


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (
            refuses(400, "BAD_REQUEST", "Search not supported"),
            "status 400: Search not supported .*PULSELAKE_OPENFDA",
        ),
        (refuses(403, "API_KEY_INVALID", f"An invalid key {KEY}"), "status 403: An invalid key … .*OPENFDA_API_KEY"),
        (says(404, b"<html>nothing here</html>"), "status 404: Not Found .*PULSELAKE_OPENFDA_URL"),
    ],
)
def test_a_refusal_is_not_repeated(failure, said):
    with FakeFda(reports(1)) as server:
        server.fail(failure)
        with pytest.raises(OpenFdaError, match=said):
            read(client(server, key=SecretStr(KEY)))
    assert len(server.asked) == 1


def test_the_key_is_sent_and_never_told(caplog):
    caplog.set_level(logging.DEBUG)
    messages = []
    with FakeFda(reports(3)) as server:
        assert len(read(client(server, key=SecretStr(KEY), limit=2))) == 3
        assert [query["api_key"] for query in server.queries] == [KEY, KEY]
        failures = ([says(400)], [refuses(429, "X", "daily")], [refuses(500, "X", KEY)] * ATTEMPTS, [hangs] * ATTEMPTS)
        for failure in failures:
            server.fail(*failure)
            with pytest.raises(OpenFdaError) as raised:
                read(client(server, key=SecretStr(KEY), timeouts=(5.0, 0.2, 5.0)))
            server.failures.clear()
            messages.append(str(raised.value))
        server.link_to = "http://localhost:1"
        with pytest.raises(OpenFdaError) as raised:
            read(client(server, key=SecretStr(KEY), limit=2))
        messages.append(str(raised.value))
    assert len(messages) == 5
    assert not [text for text in (*messages, caplog.text) if KEY in text]


def test_without_a_key_none_is_sent():
    with FakeFda(reports(1)) as server:
        read(client(server))
        read(client(server, key=SecretStr("")))
    assert not any("api_key" in query for query in server.queries)


def test_there_are_no_more_than_240_requests_a_minute():
    clock = Clock()
    with FakeFda(reports(40)) as server:
        began = clock()
        read(client(server, clock, limit=1))
        assert clock() - began >= 39 * 60 / 240
    assert len(server.asked) == 40


def test_how_new_the_data_are():
    with FakeFda([report(1, LAST), report(2, FIRST), report(3, LAST + timedelta(1))]) as server, client(server) as api:
        assert api.latest(LAST) == Latest(date(2026, 11, 20), LAST)
        server.updated = "yesterday"
        server.reports = [report(1, FIRST, receivedate="20261101x")]
        assert api.latest(LAST) == Latest(None, None)
        server.reports = []
        assert api.latest(LAST) == Latest(None, None)
    assert server.queries[0]["limit"] == "1"


@pytest.mark.parametrize("url", ["ftp://x", "https://key@api.fda.gov", "api.fda.gov", "https://api.fda.gov?a=b", ""])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ValidationError, match="openfda_url"):
        Settings(openfda_url=url)


def test_the_settings_do_not_show_the_key(monkeypatch):
    monkeypatch.setenv("OPENFDA_API_KEY", KEY)
    settings = Settings()
    assert settings.openfda_api_key
    assert settings.openfda_api_key.get_secret_value() == KEY
    assert KEY not in f"{settings!r} {settings.model_dump()}"
