"""Dexcom's interface v3 for developers: estimated glucose values, one to three hours old, by OAuth."""

from collections.abc import Generator, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

from resources.device_apis.protocol import (
    DAY_MS,
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

OVERLAP, WIDE, FIRST = timedelta(hours=3), timedelta(hours=24), timedelta(days=1)
WINDOW = timedelta(days=30)
"""The longest time that may be asked for at once."""
_OLDEST_MS = 90 * DAY_MS
"""Older readings do not come live; what says so has a wrong clock."""
_AHEAD_MS = 600_000
_FORM = "%Y-%m-%dT%H:%M:%S"
_SELF = "/v3/users/self"


def poll(start: Start) -> Steps:
    """Values that are new, if the range of data says that there are any."""

    def renew() -> Generator[Step, Answer, str]:
        refresh = start.tokens.get("refresh") or start.secrets.get("refresh_token")
        if refresh is None:
            raise AccessError("Nobody has allowed the access yet")
        # A refresh token may hold for one time only; the one that comes with an access token is the next.
        answer = yield token_request(start.secrets, {"grant_type": "refresh_token", "refresh_token": refresh})
        tokens = tokens_of(answer, refresh)
        yield tokens
        return tokens.values["access"]

    session = Session(start.tokens.get("access"), renew)
    first, last = start.first_ms(OVERLAP, WIDE, FIRST), start.now_ms + _AHEAD_MS
    if not start.is_wide and start.since_ms is None and start.ended_ms is not None:
        synced = instant_of(start.ended_ms) - OVERLAP
        answer = yield from session.ask(partial(_get, what="dataRange", query={"lastSyncTime": f"{synced:{_FORM}}"}))
        begin = _begin(answer.object())
        if begin is None:
            return
        first = max(min(first, begin), start.now_ms - _OLDEST_MS)
    for begin, end in windows(first, last, WINDOW):
        query = {"startDate": f"{instant_of(begin):{_FORM}}", "endDate": f"{instant_of(end):{_FORM}}"}
        answer = yield from session.ask(partial(_get, what="egvs", query=query))
        found = answer.object()
        records = list_in(found.get("records"), answer.what)
        yield Page(records, newest(_times(records), start.now_ms), partial(_document, found))


def code_grant(code: str, redirect_uri: str) -> dict[str, str]:
    """What the first tokens are asked for with: the code that the person got who allowed the access."""
    return {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}


def allowing_path(client_id: str, redirect_uri: str) -> str:
    """Where a person allows the access, below the account's URL."""
    query = {
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "response_type": "code",
        "scope": "offline_access",
    }
    return f"/v3/oauth2/login?{urlencode(query)}"


def token_request(secrets: Mapping[str, str], grant: Mapping[str, str]) -> Request:
    """The request for an access token, by a code or a refresh token."""
    form = {"client_id": secrets["client_id"], "client_secret": secrets["client_secret"], **grant}
    return Request("an access token", "POST", "/v3/oauth2/token", form=form)


def tokens_of(answer: Answer, refresh: str = "") -> Tokens:
    """The tokens of an answer; where no refresh token comes with it, the one that there was holds on.

    Raises:
        ApiError, AccessError: there are none.
    """
    if answer.status in (400, 401, 403):
        raise AccessError(f"Access was refused with status {answer.status}: the person has to allow it again")
    found = answer.checked().object()
    access, next_one = text_in(found, "access_token", answer.what), found.get("refresh_token")
    return Tokens({"access": access, "refresh": next_one if isinstance(next_one, str) else refresh})


def _get(token: str, what: str, query: Mapping[str, str]) -> Request:
    return Request(what, "GET", f"{_SELF}/{what}", query, {"Authorization": f"Bearer {token}"})


def _document(answer: Mapping[str, Any], new: list[Any]) -> Any:
    """The answer with fewer records."""
    return {"recordType": "egv", **answer, "records": new}


def _begin(found: Mapping[str, Any]) -> int | None:
    """Where the values begin that came since; None where there are none."""
    values = found.get("egvs")
    start = values.get("start") if isinstance(values, Mapping) else None
    return ms_of_text(start.get("systemTime")) if isinstance(start, Mapping) else None


def _times(records: list[Any]) -> Iterator[int | None]:
    return (ms_of_text(each.get("systemTime")) for each in records if isinstance(each, dict))
