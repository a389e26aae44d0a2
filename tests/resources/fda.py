"""A server on 127.0.0.1 that behaves as openFDA's `/drug/event.json` does."""

import json
import re
from collections.abc import Iterable
from datetime import date
from typing import Any
from urllib.parse import urlencode

from tests.services.loopback import Asked, Loopback, Reply, says

MAX_LIMIT, MAX_SKIP = 1000, 25_000


def report(number: int, received: date, **more: Any) -> dict[str, Any]:
    """A report of one reaction to one drug, as the API has it."""
    day = f"{received:%Y%m%d}"
    return {
        "safetyreportid": str(number),
        "safetyreportversion": "1",
        "receivedate": day,
        "receiptdate": day,
        "patient": {"reaction": [{"reactionmeddrapt": "Nausea"}], "drug": [{"medicinalproduct": "A"}]},
    } | more


class FakeFda(Loopback):
    """`with FakeFda(reports) as server: ...`.

    Attributes:
        reports: what it has; they may be changed between requests.
        links: whether a page has a link to the next one.
        link_to: the server that links name, if not this one.
        updated: the day of the last load that it tells.
    """

    def __init__(self, reports: Iterable[Any] = (), *, links: bool = True) -> None:
        super().__init__()
        self.reports, self.links, self.link_to = list(reports), links, ""
        self.updated = "2026-11-20"

    def reply(self, asked: Asked) -> Reply:
        if asked.path != "/drug/event.json":
            return Reply(404, b"<html>no such page</html>")
        query = asked.query
        limit, skip = int(query.get("limit", "1")), int(query.get("skip", "0"))
        search = re.fullmatch(r"(\w+):\[(\d{8}) TO (\d{8})\]", query["search"])
        if limit > MAX_LIMIT or skip > MAX_SKIP or not search or ("skip" in query and "search_after" in query):
            return refuses(400, "BAD_REQUEST", "Limit or skip is too large, or the search cannot be read")
        field, first, last = search.groups()
        found = [each for each in self.reports if first <= str(_field(each, field)) <= last]
        found.sort(key=lambda each: str(_field(each, field)), reverse=query.get("sort", "").endswith(":desc"))
        if not found:
            return refuses(404, "NOT_FOUND", "No matches found!")
        start = skip or int(query.get("search_after", "0"))
        page = found[start : start + limit]
        meta = {"last_updated": self.updated, "results": {"skip": skip, "limit": limit, "total": len(found)}}
        headers = {}
        if self.links and start + limit < len(found):
            following = {name: value for name, value in query.items() if name != "skip"}
            link = urlencode(following | {"search_after": str(start + limit)})
            headers["Link"] = f'<{self.link_to or self.url}/drug/event.json?{link}>; rel="next"'
        # The API indents what it sends.
        return Reply(200, json.dumps({"meta": meta, "results": page}, indent=2).encode(), headers)


def refuses(status: int, code: str, message: str, **headers: str) -> Reply:
    """An error in the words of the API."""
    return says(status, {"error": {"code": code, "message": message}}, **headers)


def _field(report: Any, name: str) -> Any:
    return report.get(name) if isinstance(report, dict) else "20261101"
