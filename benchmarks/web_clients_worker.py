"""The browsers of a measurement: connections to the stream of the live page, as many as are asked for.

All take the packed stream and throw it away; one takes the plain one and looks how old readings are when they come.
"""

import asyncio
import json
import time
from typing import Any

from benchmarks.workers import serve

OLDEST_MS = 60_000
"""Older readings are those that the page had before, or that are sent late on purpose."""


def run(port: int, cookies: list[str], count: int, seconds: float) -> dict[str, Any]:
    """Watches for so many seconds.

    Args:
        port: of the server.
        cookies: of sessions; the first one sees all patients and is measured by.
        count: how many connections there are.
        seconds: for how long.
    """
    return asyncio.run(_watch(port, cookies, count, seconds))


async def _watch(port: int, cookies: list[str], count: int, seconds: float) -> dict[str, Any]:
    end = time.monotonic() + seconds
    others = [asyncio.create_task(_drain(port, cookies[number % len(cookies)], end)) for number in range(count - 1)]
    ages = await _measure(port, cookies[0], end)
    found = await asyncio.gather(*others)
    ages.sort()

    def quantile(share: float) -> float:
        return ages[int(share * (len(ages) - 1))] / 1000 if ages else float("nan")

    return {
        "streams": sum(each > 0 for each in found) + 1,
        "bytes_per_s": sum(found) / max(1, len(found)) / seconds,
        "readings": len(ages),
        "age_s": {"p50": quantile(0.5), "p95": quantile(0.95), "max": quantile(1.0)},
    }


async def _open(port: int, cookie: str, encoding: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    writer.write(
        f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: pulselake_session={cookie}\r\n"
        f"Accept-Encoding: {encoding}\r\n\r\n".encode()
    )
    await writer.drain()
    status = await reader.readline()
    if b" 200 " not in status:
        raise RuntimeError(f"the stream was refused: {status!r}")
    return reader, writer


async def _drain(port: int, cookie: str, end: float) -> int:
    reader, writer = await _open(port, cookie, "gzip")
    taken = 0
    while (left := end - time.monotonic()) > 0:
        try:
            data = await asyncio.wait_for(reader.read(1 << 16), left)
        except TimeoutError:
            break
        if not data:
            break
        taken += len(data)
    writer.close()
    return taken


async def _measure(port: int, cookie: str, end: float) -> list[float]:
    """How old each new glucose value is when it comes, in milliseconds."""
    reader, writer = await _open(port, cookie, "identity")
    known: dict[str, int] = {}
    ages: list[float] = []
    is_snapshot = True
    while (left := end - time.monotonic()) > 0:
        try:
            line = await asyncio.wait_for(reader.readline(), left)
        except TimeoutError:
            break
        if not line.startswith(b"data: "):
            continue
        now = time.time() * 1000
        for row in json.loads(line[6:])["rows"]:
            at = row.get("glucose", (0, 0))[1]
            if at > known.get(row["key"], 0):
                known[row["key"]] = at
                if not is_snapshot and now - at < OLDEST_MS:
                    ages.append(now - at)
        is_snapshot = False
    writer.close()
    return ages


if __name__ == "__main__":
    serve(run)
