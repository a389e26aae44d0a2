"""Tidepool: glucose of sensors and meters of one user."""

from base64 import b64encode
from collections.abc import Generator, Mapping
from datetime import timedelta
from functools import partial

from resources.device_apis.protocol import (
    AccessError,
    Answer,
    Page,
    Request,
    Session,
    Start,
    Step,
    Steps,
    Tokens,
    instant_of,
    list_in,
    ms_of_text,
    newest,
    text_in,
    windows,
)

OVERLAP, WIDE, FIRST = timedelta(hours=2), timedelta(days=7), timedelta(days=1)
"""A device that is read out at a visit has readings of days; a wide poll finds them."""
WINDOW = timedelta(days=30)
_TOKEN = "x-tidepool-session-token"
_AHEAD_MS = 600_000


def poll(start: Start) -> Steps:
    """Readings by the time at which they were measured."""
    tokens = dict(start.tokens)

    def login() -> Generator[Step, Answer, str]:
        basic = b64encode(f"{start.secrets['email']}:{start.secrets['password']}".encode()).decode()
        answer = yield Request("a login", "POST", "/auth/login", headers={"Authorization": f"Basic {basic}"})
        if answer.status in (401, 403):
            raise AccessError("The login was refused: the address or the password is wrong", answer.wait_s)
        user = start.options.get("user") or text_in(answer.checked().object(), "userid", answer.what)
        tokens.update(token=text_in(answer.headers, _TOKEN, answer.what), user=user)
        yield Tokens(dict(tokens))
        return tokens["token"]

    session = Session(tokens.get("token"), login)
    first = start.first_ms(OVERLAP, WIDE, FIRST)
    for begin, end in windows(first, start.now_ms + _AHEAD_MS, WINDOW):
        query = {"type": "cbg,smbg", "startDate": _text(begin), "endDate": _text(end)}
        answer = yield from session.ask(partial(_data, tokens, query))
        records = list_in(answer.json(), answer.what)
        times = (ms_of_text(each.get("time")) for each in records if isinstance(each, dict))
        yield Page(records, newest(times, start.now_ms))


def _data(tokens: Mapping[str, str], query: Mapping[str, str], token: str) -> Request:
    return Request("data", "GET", f"/data/{tokens['user']}", query, {_TOKEN: token})


def _text(ms: int) -> str:
    return f"{instant_of(ms):%Y-%m-%dT%H:%M:%S}.000Z"
