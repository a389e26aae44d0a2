"""Abbott's LibreLinkUp: the last twelve hours of a person who shares them with the account. Unofficial."""

from collections.abc import Generator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from resources.device_apis.protocol import (
    AccessError,
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
    ms_of,
    newest,
    text_in,
)

OVERLAP = WIDE = timedelta(hours=12)
VERSION = "4.16.0"
"""Older versions of the vendor's app are refused; the account's option `app_version` names another."""
_OK, _NOT_KNOWN, _TERMS = 0, 2, 4
_FORM = "%m/%d/%Y %I:%M:%S %p"


def poll(start: Start) -> Steps:
    """The graph of one person, in which what is known comes again for twelve hours."""
    headers = {"product": "llu.android", "version": start.options.get("app_version", VERSION)}

    def login() -> Generator[Step, Answer, str]:
        body = {"email": start.secrets["email"], "password": start.secrets["password"]}
        answer = yield Request("a login", "POST", "/llu/auth/login", headers=headers, json=body)
        data = _data(answer)
        ticket = data.get("authTicket")
        token = text_in(ticket, "token", answer.what)
        user = sha256(text_in(data.get("user"), "id", answer.what).encode()).hexdigest()
        answer = yield Request("the people who share", "GET", "/llu/connections", headers=headers | _named(token, user))
        people = list_in(answer.checked().object().get("data"), answer.what)
        tokens.update(token=token, user=user, person=_person(people, start.options.get("person")))
        yield Tokens(dict(tokens))
        return token

    tokens = dict(start.tokens)
    is_known = {"token", "user", "person"} <= tokens.keys()
    session = Session(tokens["token"] if is_known else None, login)

    def graph(token: str) -> Request:
        path = f"/llu/connections/{tokens['person']}/graph"
        return Request("the graph", "GET", path, headers=headers | _named(token, tokens["user"]))

    answer = yield from session.ask(graph)
    data = _data(answer)
    around = _without_names(data.get("connection"))
    newest_point = around.pop("glucoseMeasurement", None)
    points = [*list_in(data.get("graphData"), answer.what), *([] if newest_point is None else [newest_point])]
    yield Page(
        points,
        newest(_times(points), start.now_ms),
        lambda new: {"status": 0, "data": {"connection": around, "graphData": new}},
    )


def _named(token: str, user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "account-id": user}


def _data(answer: Answer) -> Mapping[str, Any]:
    """The data of an answer, whose own status tells what its HTTP status does not.

    Raises:
        ApiError, AccessError: it has none.
    """
    found = answer.checked().object()
    status, data = found.get("status"), found.get("data")
    if status == _TERMS:
        raise AccessError("There are new terms to be accepted: open the app LibreLinkUp and accept them")
    if status == _NOT_KNOWN:
        raise AccessError("The login was refused: the address or the password is wrong")
    if isinstance(data, Mapping) and data.get("redirect") is True:
        region = data.get("region")
        is_region = isinstance(region, str) and region.isalnum() and len(region) <= 8
        raise AccessError(f"The account belongs to another region{f' ({region})' if is_region else ''}: change its url")
    if status != _OK or not isinstance(data, Mapping):
        raise ApiError(f"The answer for {answer.what} says status {status if isinstance(status, int) else 'nothing'}")
    return data


def _person(people: list[Any], wanted: str | None) -> str:
    ids = [each.get("patientId") for each in people if isinstance(each, dict)]
    if wanted in ids and wanted is not None:
        return wanted
    if wanted is None and len(ids) == 1 and isinstance(ids[0], str):
        return ids[0]
    which = "none of them is the option 'person'" if wanted else "name one by its patientId in the option 'person'"
    raise AccessError(f"{len(ids)} people share their readings with this account; {which}")


def _without_names(connection: Any) -> dict[str, Any]:
    """What tells whose points these are, and of which sensor; names of people stay out."""
    kept = ("patientId", "sensor", "patientDevice", "glucoseMeasurement")
    found = connection if isinstance(connection, Mapping) else {}
    return {name: found[name] for name in kept if name in found}


def _times(points: list[Any]) -> Iterator[int | None]:
    for point in points:
        text = point.get("FactoryTimestamp") if isinstance(point, dict) else None
        try:
            yield ms_of(datetime.strptime(text, _FORM).replace(tzinfo=UTC)) if isinstance(text, str) else None
        except ValueError:
            yield None
