"""Dexcom Share: the last day of readings, as the phone shares them. Unofficial, and slow to forgive logins."""

import re
from collections.abc import Generator
from datetime import timedelta
from typing import Any

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
    list_in,
    newest,
)

OVERLAP, WIDE = timedelta(minutes=30), timedelta(days=1)
MAX_MINUTES, MAX_COUNT = 1440, 288
_SERVICES = "/ShareWebServices/Services"
_APPLICATION = {"us": "d89443d2-327c-4a6f-89e5-496bbb0317db", "jp": "d8665ade-9673-4e27-9ff6-92db4ce13d13"}
"""The ids of the vendor's own apps, which the service asks for."""
_NO_SESSION = ("SessionIdNotFound", "SessionNotValid")
_NOBODY = "00000000-0000-0000-0000-000000000000"
_MILLISECONDS = re.compile(r"/?Date\((\d{1,15})", re.ASCII)
_ONE_READING_MS = 30_000


def poll(start: Start) -> Steps:
    """Readings since the last poll, of the last day at most."""
    application = _APPLICATION["jp" if start.options.get("region") == "jp" else "us"]

    def login() -> Generator[Step, Answer, str]:
        password = {"password": start.secrets["password"], "applicationId": application}
        name = {"accountName": start.secrets["username"]}
        account = yield from _id("AuthenticatePublisherAccount", name | password)
        session = yield from _id("LoginPublisherAccountById", {"accountId": account} | password)
        yield Tokens({"session": session})
        return session

    first = start.first_ms(OVERLAP, WIDE, WIDE)
    minutes = min(max((start.now_ms - first) // 60_000 + 1, 10), MAX_MINUTES)
    session = Session(start.tokens.get("session"), login, lambda answer: _code(answer) in _NO_SESSION)
    path = f"{_SERVICES}/Publisher/ReadPublisherLatestGlucoseValues"
    count = {"minutes": str(minutes), "maxCount": str(MAX_COUNT)}
    answer = yield from session.ask(lambda token: Request("readings", "POST", path, {"sessionId": token} | count))
    records = list_in(answer.json(), answer.what)
    yield Page(records, newest(map(_time, records), start.now_ms), lambda new: _with_copies(records, new))


def _id(service: str, body: dict[str, str]) -> Generator[Step, Answer, str]:
    answer = yield Request("a login", "POST", f"{_SERVICES}/General/{service}", json=body)
    if code := _code(answer):
        raise AccessError(f"The login was refused ({code})", answer.wait_s)
    found = answer.checked().json()
    if not isinstance(found, str) or found == _NOBODY:
        raise AccessError("The login was refused: there is no such account, or the password is wrong")
    return found


def _code(answer: Answer) -> str:
    """What the service says that is wrong; these are names, never values."""
    if answer.status == 200:
        return ""
    try:
        code = answer.object().get("Code")
    except RuntimeError:
        return ""
    return code if isinstance(code, str) and code.isidentifier() and len(code) <= 60 else ""


def _time(record: Any) -> int | None:
    text = (record.get("ST") or record.get("WT")) if isinstance(record, dict) else None
    found = _MILLISECONDS.match(text) if isinstance(text, str) else None
    return int(found[1]) if found else None


def _with_copies(records: list[Any], new: list[Any]) -> list[Any]:
    """New readings behind those that a phone and a watch both sent: only beside it a copy is seen to be one."""
    return [each for each in records if each not in new and any(_is_copy(each, other) for other in new)] + new


def _is_copy(known: Any, new: Any) -> bool:
    times = _time(known), _time(new)
    if times[0] is None or times[1] is None:
        return False
    return known.get("Value") == new.get("Value") and abs(times[0] - times[1]) <= _ONE_READING_MS
