"""How long an alert takes from its event's arrival in the hub, beside the bare SDK that only sends events on.

The session starts with half an hour of stored readings, so its state is as large as it stays for good; what it takes
in memory and time over the run says whether anything grows.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import polars as pl
import psutil

from assets.glucose.assets import CONTRACT
from assets.stream.store import StreamStore
from benchmarks.backlog import FAULTS, PATIENTS, SEED, fill
from benchmarks.bare_echo_worker import STAMP
from benchmarks.report import Figures, say, show
from benchmarks.workers import Worker, measure
from generator.events import Event
from generator.streams import glucose_events
from resources.event_hubs import EventHubsNamespace
from resources.event_source import Pulled
from resources.lake import Lake
from tests.emulator.hub import RunningHub

RATE = 1000.0
SECONDS, QUICK_SECONDS = 300.0, 30.0
ECHO_SECONDS, QUICK_ECHO_SECONDS = 40.0, 15.0
HISTORY = timedelta(minutes=30)
HISTORY_PACK = 100
HUBS = ("glucose:4", "alerts:4", "history_alerts:4", "sdk_default:4", "sdk_tuned:4")
SDK_SOCKET_TIMEOUTS_S = {"sdk_default": 0.2, "sdk_tuned": 0.02}
"""By the name of the hub to which the SDK alone sends; its default makes it wait for full batches."""
TARGET_P50_S, TARGET_P99_S = 0.3, 1.0


class _Alert(msgspec.Struct):
    alert_id: str


def run(*, quick: bool = False) -> Figures:
    """History, then five minutes of a session, then the SDK alone, by default and tuned."""
    seconds, echo_seconds = (QUICK_SECONDS, QUICK_ECHO_SECONDS) if quick else (SECONDS, ECHO_SECONDS)
    with RunningHub(HUBS) as hub, TemporaryDirectory(prefix="bench-") as folder:
        lake = str(Path(folder) / "lake")
        _store_history(hub, lake)
        figures = {
            "session": _session(hub, lake, seconds),
            "tables": _maintained(lake),
            "sdk_echo": {name: echo(hub, name, echo_seconds) for name in SDK_SOCKET_TIMEOUTS_S},
        }
    _show(figures)
    return figures


def _store_history(hub: RunningHub, lake: str) -> None:
    say(f"Storing {HISTORY.total_seconds() / 60:.0f} minutes of readings …")
    events = int(PATIENTS * HISTORY.total_seconds() / HISTORY_PACK)
    fill(hub.connection_string, "glucose", _history(events))
    stored = _session_worker(hub, lake, alerts_hub="history_alerts").figures()
    say(f"  {stored['rows']['silver']:,} readings are in silver")


def _history(events: int) -> Iterator[Event]:
    spacing = timedelta(seconds=PATIENTS / RATE)
    start = datetime.now(UTC) - HISTORY
    return glucose_events(
        start=start,
        spacing=spacing,
        patients=PATIENTS,
        seed=SEED,
        faults=FAULTS,
        gaps=0,
        pack=HISTORY_PACK,
        count=events,
    )


def _session(hub: RunningHub, lake: str, seconds: float) -> Figures:
    # The generator is at work before the session is, as devices are.
    generator = Worker(
        "generate_worker", connection_string=hub.connection_string, hub="glucose", rate=RATE, seconds=seconds + 10
    )
    session = _session_worker(hub, lake, until_caught_up=False, max_duration_s=seconds)
    memory = _watch(session, seconds)
    figures: Figures = session.figures()
    sent = generator.figures()
    waits, received = _alert_waits(hub, lake)
    begun = received > figures["first_time"]
    return {
        "sent": sent,
        "latency": quantiles(waits[begun]),
        "by_minute": _by_minute(waits[begun], received[begun]),
        "commits": {"count": len(figures["commit_s"]), **quantiles(np.array(figures["commit_s"]))},
        "rss": memory,
        **{name: figures[name] for name in ("events", "rows", "micro_batches", "cpu_s", "whole_s", "peak_rss_mb")},
    }


def _session_worker(hub: RunningHub, lake: str, **options: Any) -> Worker:
    return Worker("session_worker", connection_string=hub.connection_string, hub="glucose", lake=lake, **options)


def _watch(session: Worker, seconds: float) -> Figures:
    """Resident memory once a second; flat is what does not grow after the first fifth."""
    process, samples, began = psutil.Process(session.process.pid), [], time.monotonic()
    while session.is_alive:
        try:
            samples.append((time.monotonic() - began, process.memory_info().rss / 2**20))
        except psutil.NoSuchProcess:
            break
        if len(samples) % 30 == 0:
            say(f"  {samples[-1][0]:4.0f} s of {seconds:.0f}, RSS {samples[-1][1]:.0f} MB")
        time.sleep(1)
    at, rss = np.array(samples).T
    steady = (at > seconds / 5) & (at < seconds - 1)
    half = steady & (at > 0.6 * seconds)
    return {
        "samples_mb": [round(each, 1) for each in rss.tolist()],
        "first_half_mb": float(np.mean(rss[steady & ~half])),
        "second_half_mb": float(np.mean(rss[half])),
        "slope_mb_per_minute": float(60 * np.polyfit(at[steady], rss[steady], 1)[0]),
    }


def _alert_waits(hub: RunningHub, lake: str) -> tuple[Any, Any]:
    """For each alert how long after its event it was published, and when that event was enqueued; in seconds."""
    decoder: msgspec.json.Decoder[_Alert | list[_Alert]] = msgspec.json.Decoder(_Alert | list[_Alert])
    ids, published_ms = [], []
    for pulled in everything(EventHubsNamespace(hub.connection_string), "alerts"):
        for enqueued_ms, body in zip(pulled.enqueued_ms, pulled.bodies, strict=True):
            alerts = decoder.decode(body or b"[]")
            for alert in alerts if isinstance(alerts, list) else [alerts]:
                ids.append(alert.alert_id)
                published_ms.append(enqueued_ms)
    published = pl.DataFrame({"alert_id": ids, "published_ms": published_ms})
    stored = Lake(lake).table(CONTRACT.tables.alerts).scan().select("alert_id", "received_at").collect()
    found = published.join(stored, on="alert_id", how="inner", maintain_order="left")
    if found.height < published.height:
        raise RuntimeError(f"{published.height - found.height} published alerts are not in the table of alerts")
    received = found["received_at"].dt.epoch("ms").to_numpy() / 1000
    return found["published_ms"].to_numpy() / 1000 - received, received


def echo(hub: RunningHub, name: str, seconds: float, of: str = "glucose") -> Figures:
    """How long events take that the bare SDK receives from one hub and sends on to another one."""
    say(f"The SDK alone receives events and sends them on ({name}) …")
    echo = Worker(
        "bare_echo_worker",
        connection_string=hub.connection_string,
        hub=of,
        echo_hub=name,
        seconds=seconds + 5,
        socket_timeout_s=SDK_SOCKET_TIMEOUTS_S[name],
    )
    time.sleep(5)  # connecting
    measure("generate_worker", connection_string=hub.connection_string, hub=of, rate=RATE, seconds=seconds - 2)
    echo.figures()
    waits = [
        (enqueued_ms - STAMP.unpack(body or b"")[0]) / 1000
        for pulled in everything(EventHubsNamespace(hub.connection_string), name)
        for enqueued_ms, body in zip(pulled.enqueued_ms, pulled.bodies, strict=True)
    ]
    return {"events": len(waits), "latency": quantiles(np.array(waits))}


def everything(namespace: EventHubsNamespace, name: str) -> Iterator[Pulled]:
    """All that a hub holds."""
    source = namespace.source(name)
    waiting = sum(tail.last + 1 for tail in source.state().tails.values())
    with source.receive({}) as receiver:
        while waiting > 0:
            for pulled in receiver.take(timeout=5.0):
                waiting -= len(pulled.bodies)
                yield pulled


def _maintained(lake: str) -> Figures:
    """Files and log entries of each table after the session, and after the upkeep that follows every session."""
    store = StreamStore(CONTRACT, Lake(lake))
    before = {table.name: _files(lake, table.name) for table in store.tables.values()}
    began = time.monotonic()
    store.maintain(datetime.now(UTC).date())
    seconds = time.monotonic() - began
    return {"after_session": before, "after_upkeep": {name: _files(lake, name) for name in before}, "upkeep_s": seconds}


def _files(lake: str, table: str) -> Figures:
    handle = next(each for each in StreamStore(CONTRACT, Lake(lake)).tables.values() if each.name == table)
    return {
        "files": len(handle.delta().file_uris()),
        "log_files": len(list((Path(lake) / table / "_delta_log").iterdir())),
    }


def quantiles(seconds: Any) -> Figures:
    """Of some waits: how many, median, 99th percentile and the longest."""
    p50, p99, most = np.quantile(seconds, [0.5, 0.99, 1.0]).tolist()
    return {"count": len(seconds), "p50": p50, "p99": p99, "max": most}


def _by_minute(waits: Any, received: Any) -> list[Figures]:
    minutes = ((received - received.min()) // 60).astype(int)
    return [quantiles(waits[minutes == minute]) for minute in range(minutes.max() + 1)]


def _show(figures: Figures) -> None:
    session, echo, tables = figures["session"], figures["sdk_echo"], figures["tables"]
    rows = [
        ["event to alert, session", *seconds_of(session["latency"])],
        *([f"  minute {number}", *seconds_of(each)] for number, each in enumerate(session["by_minute"], start=1)),
        *([f"event to echo, {name}", *seconds_of(each["latency"])] for name, each in echo.items()),
        ["commit of four tables", *seconds_of(session["commits"])],
    ]
    show(f"Latency at {RATE:,.0f} events/s, s", ("", "count", "p50", "p99", "max"), rows)
    rss = session["rss"]
    after, upkept = tables["after_session"], tables["after_upkeep"]
    show(
        "Memory and files",
        ("", "measured", "wanted"),
        [
            ["p50, s", f"{session['latency']['p50']:.2f}", f"≤ {TARGET_P50_S}"],
            ["p99, s", f"{session['latency']['p99']:.2f}", f"≤ {TARGET_P99_S}"],
            ["RSS in the first / second half, MB", f"{rss['first_half_mb']:.0f} / {rss['second_half_mb']:.0f}", "flat"],
            ["RSS slope, MB a minute", f"{rss['slope_mb_per_minute']:+.1f}", "0"],
            ["CPU of the session, cores", f"{session['cpu_s'] / session['whole_s']:.2f}", ""],
            *([f"{name}: files, log files", _counts(after[name]), f"then {_counts(upkept[name])}"] for name in after),
            ["upkeep after the session, s", f"{tables['upkeep_s']:.1f}", ""],
        ],
    )


def seconds_of(found: Figures) -> list[str]:
    """Quantiles as cells of a table."""
    return [f"{found['count']:,}", *(f"{found[name]:.3f}" for name in ("p50", "p99", "max"))]


def _counts(files: Figures) -> str:
    return f"{files['files']}, {files['log_files']}"
