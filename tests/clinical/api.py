"""A server on 127.0.0.1 that answers as the API of devices does."""

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from tests.services.loopback import Asked, Loopback, Reply


class Api(Loopback):
    """`with Api(rows) as api: ...`.

    Attributes:
        rows: what it has; they may be changed between requests.
        link: the next page that is named, if not the true one.
    """

    def __init__(self, rows: Iterable[Any] = ()) -> None:
        super().__init__()
        self.rows = list(rows)
        self.link = ""

    def reply(self, asked: Asked) -> Reply:
        limit, start = int(asked.query["limit"]), int(asked.query.get("start", "0"))
        since = asked.query.get("since", "")
        found = sorted(
            (row for row in self.rows if not isinstance(row, dict) or row["received_at"] >= since),
            key=lambda row: row["received_at"] if isinstance(row, dict) else "",
        )
        body = json.dumps(found[start : start + limit]).encode()
        headers = {"ETag": f'"{hash(body)}"'}
        if start + limit < len(found):
            following = urlencode({**asked.query, "start": str(start + limit)})
            headers["Link"] = f'<{self.link or f"/telemetry?{following}"}>; rel="next"'
        is_same = asked.headers.get("if-none-match") == headers["ETag"]
        return Reply(304 if is_same else 200, b"" if is_same else body, headers)
