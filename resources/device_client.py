"""Sends the requests of a poll to one system: once each, to no other server, for no longer than some time.

What fails is not repeated here. The next poll comes soon enough, later after each failure, and a system that is
overloaded is asked once and not many times.
"""

import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import httpx

from resources.device_apis.protocol import Answer, ApiError, Request
from resources.http_waits import retry_after
from resources.trusted import certificates

CONNECT_S, READ_S, ANSWER_S = 10.0, 30.0, 120.0
MAX_BYTES = 64 << 20
"""Thirty days of a reading a minute are half of that."""


class DeviceClient:
    """A system at one address. It is used in a `with`.

    Args:
        url: of the system.
        timeouts: of a connection, of each read, and of a whole answer, in seconds.
        clock: for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        timeouts: tuple[float, float, float] = (CONNECT_S, READ_S, ANSWER_S),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Below this level they log addresses, which may hold a token.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        connect, read, self._answer_s = timeouts
        self._url, self._clock = url, clock
        self._http = httpx.Client(
            timeout=httpx.Timeout(read, connect=connect),
            headers={"User-Agent": "pulselake", "Accept": "application/json"},
            follow_redirects=False,
            verify=certificates(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def ask(self, request: Request) -> Answer:
        """The answer to a request, whatever its status.

        Raises:
            ApiError: there was none, or it does not end.
        """
        end = self._clock() + self._answer_s
        body = bytearray()
        try:
            with self._http.stream(
                request.method,
                self._url + request.path,
                params=dict(request.query),
                headers=dict(request.headers),
                json=request.json,
                data=None if request.form is None else dict(request.form),
            ) as response:
                for received in response.iter_bytes():
                    body += received
                    if self._clock() > end:
                        raise ApiError(f"The answer for {request.what} was not complete after {self._answer_s:g} s")
                    if len(body) > MAX_BYTES:
                        raise ApiError(f"The answer for {request.what} has more than {MAX_BYTES >> 20} MiB")
        except (httpx.RequestError, httpx.InvalidURL) as error:
            # The text of such an error may have the address in it.
            raise ApiError(f"The request for {request.what} got no answer ({type(error).__name__})") from None
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(request.what, response.status_code, headers, retry_after(response), bytes(body))
