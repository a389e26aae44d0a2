"""Nightscout: entries of a site, by its interface v3, or by v1 for older sites."""

from collections.abc import Generator
from datetime import timedelta
from hashlib import sha1
from typing import Any
from urllib.parse import quote

from resources.device_apis.protocol import (
    Answer,
    ApiError,
    Page,
    Request,
    Session,
    Start,
    Step,
    Steps,
    Tokens,
    list_in,
    newest,
    text_in,
    windows,
)

OVERLAP, FIRST = timedelta(minutes=15), timedelta(days=1)
WIDE = timedelta(days=1)
"""What a phone sends after hours without a network lies before what v1 has read; v3 counts by when the site got it."""
COUNT = 1000
WINDOW = timedelta(days=3)
_MORE_FROM = 100
"""A site may give less than v3's 1,000 at a time; an answer with fewer than this is the last one."""


def poll(start: Start) -> Steps:
    """Entries that are new. The secret is an access token for v3, and the API secret or such a token for v1."""
    yield from (_v1 if start.options.get("version") == "1" else _v3)(start)


def _v3(start: Start) -> Steps:
    def renew() -> Generator[Step, Answer, str]:
        path = f"/api/v2/authorization/request/{quote(start.secrets['secret'], safe='')}"
        answer = yield Request("a token of v3", "GET", path)
        found = text_in(answer.checked().object(), "token", answer.what)
        yield Tokens({"jwt": found})
        return found

    session = Session(start.tokens.get("jwt"), renew)
    since = start.first_ms(OVERLAP, OVERLAP, FIRST)
    while True:

        def history(jwt: str, since: int = since) -> Request:
            path = f"/api/v3/entries/history/{since}"
            return Request("the history of entries", "GET", path, headers={"Authorization": f"Bearer {jwt}"})

        answer = yield from session.ask(history)
        records = list_in(answer.object().get("result"), answer.what)
        reached = max((each for each in map(_modified, records) if each is not None), default=since)
        yield Page(records, reached, lambda new: {"status": 200, "result": new})
        if len(records) < _MORE_FROM:
            return
        if reached <= since:
            raise ApiError(f"The answers for {answer.what} do not go on: {len(records):,} entries say no later time")
        since = reached


def _modified(entry: Any) -> int | None:
    value = entry.get("srvModified") if isinstance(entry, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _v1(start: Start) -> Steps:
    headers = {"api-secret": sha1(start.secrets["secret"].encode()).hexdigest()}
    first = start.first_ms(OVERLAP, WIDE, FIRST)
    pieces = list(windows(first, start.now_ms, WINDOW))
    for begin, end in pieces:
        # The last answer has no end: a site's clock may be ahead of ours.
        before = None if end == pieces[-1][1] else end
        reached: list[int | None] = [None if before is None else before]
        while True:
            query = {"count": str(COUNT), "find[date][$gte]": str(begin)}
            if before is not None:
                query["find[date][$lt]"] = str(before)
            answer = yield Request("entries", "GET", "/api/v1/entries.json", query, headers)
            entries = list_in(answer.checked().json(), answer.what)
            dates = [each for each in map(_date, entries) if each is not None]
            reached.append(newest(iter(dates), start.now_ms))
            # The newest come first, so that the older ones of the window are still to be read.
            yield Page(entries)
            if len(entries) < COUNT or not dates:
                break
            # Others of the same millisecond may be left.
            further = min(dates) + 1
            if before is not None and further >= before:
                further = before - 1
            if further <= begin:
                break
            before = further
        yield Page((), newest(iter(reached), start.now_ms))


def _date(entry: Any) -> int | None:
    value = entry.get("date") if isinstance(entry, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10**14:
        return None
    return int(value * 1000) if value < 10**11 else int(value)
