"""A bare reader of an export of Apple Health, in a process of its own: it counts elements by kind."""

import time
from collections import Counter
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import iterparse
from xml.parsers.expat import ParserCreate

from benchmarks.workers import peak_rss_mb, serve

CHUNK_BYTES = 1 << 18


def work(way: str, file: str) -> Mapping[str, Any]:
    """Reads a file by expat alone, or by ElementTree, which makes an object of each element."""
    began, cpu = time.monotonic(), time.process_time()
    counts: Counter[str] = Counter()
    with Path(file).open("rb") as source:
        # No parser takes the document type that phones write.
        beginning = source.read(CHUNK_BYTES)
        source.seek(beginning.index(b"<HealthData"))
        (_by_expat if way == "expat" else _by_iterparse)(source, counts)
    return {
        "seconds": time.monotonic() - began,
        "cpu_s": time.process_time() - cpu,
        "records": counts.total(),
        "peak_rss_mb": peak_rss_mb(),
    }


def _by_expat(source: BufferedReader, counts: Counter[str]) -> None:
    parser = ParserCreate()

    def started(name: str, attributes: dict[str, str]) -> None:
        if name == "Record":
            counts[attributes["type"]] += 1

    parser.StartElementHandler = started
    while chunk := source.read(CHUNK_BYTES):
        parser.Parse(chunk)
    parser.Parse(b"", True)


def _by_iterparse(source: BufferedReader, counts: Counter[str]) -> None:
    events = iterparse(source, ("start", "end"))
    root = next(events)[1]
    for event, element in events:
        if event == "end" and element.tag == "Record":
            counts[element.attrib["type"]] += 1
            root.clear()


if __name__ == "__main__":
    serve(work)
