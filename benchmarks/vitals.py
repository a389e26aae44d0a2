"""Vital signs of 1,000 patients at 1 Hz: from a micro-batch's pull to its commit, and from an event to its alert.

The reference, in the same run and on the same kind of hub, receives the same load and appends the bodies to one table.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import polars as pl

from assets.vitals.assets import CONTRACT
from benchmarks.latency import quantiles, seconds_of
from benchmarks.report import Figures, say, show
from benchmarks.transports import TRANSPORTS
from benchmarks.workers import Worker
from resources.event_source import EventSource
from resources.lake import Lake

PATIENTS = 1000
SECONDS, QUICK_SECONDS = 600.0, 12.0
BARE_SECONDS, QUICK_BARE_SECONDS = 60.0, 5.0
STARTING_S = 3.0
"""How long the patients send before the session, and after the reference has ended."""
COMMIT_INTERVAL_S = 0.5
"""Sessions commit every 2 seconds by default, so most of the wait would be for the commit to begin."""
HUBS = ("vitals:4", "bare:4", "alerts:4", "alarms:4")
TARGET_COMMIT_P99_S = 1.0


class _Alert(msgspec.Struct):
    alert_id: str


class _Transition(msgspec.Struct):
    alarm_id: str
    transition: str


def run(*, quick: bool = False, transport: str = "event-hubs") -> Figures:
    """A session and the reference, one after the other, each beside the patients that send."""
    seconds, bare_seconds = (QUICK_SECONDS, QUICK_BARE_SECONDS) if quick else (SECONDS, BARE_SECONDS)
    kind = TRANSPORTS[transport]
    with kind.start(HUBS) as address, TemporaryDirectory(prefix="bench-") as folder:
        same = {"transport": transport, "address": address}
        lake = str(Path(folder) / "lake")
        say(f"A session for {seconds:.0f} s …")
        session = _measured(
            same | {"hub": "vitals"},
            {
                "work": "session",
                "alerts_hub": "alerts",
                "alarms_hub": "alarms",
                "lake": lake,
                "commit_interval_s": COMMIT_INTERVAL_S,
            },
            seconds,
        )
        waits = _alert_waits(kind.connect(address).source("alerts"), lake)
        raised = _raise_waits(kind.connect(address).source("alarms"), lake)
        say(f"The reference for {bare_seconds:.0f} s …")
        bare = _measured(same | {"hub": "bare"}, {"work": "bare", "table": str(Path(folder) / "bare")}, bare_seconds)
    figures: Figures = {
        "transport": transport,
        "patients": PATIENTS,
        "pull_to_commit": quantiles(np.array(session.pop("pull_to_commit_s"))),
        "commit": quantiles(np.array(session.pop("commit_s"))),
        "event_to_alert": quantiles(waits),
        "event_to_alarm": quantiles(raised),
        "bare_pull_to_commit": quantiles(np.array(bare.pop("pull_to_commit_s"))),
        "bare_event_to_pull": quantiles(np.array(bare.pop("event_to_pull_s"))),
        "session": session,
        "bare": bare,
    }
    _show(figures, seconds)
    return figures


def _measured(hub: dict[str, Any], options: dict[str, Any], seconds: float) -> Figures:
    """The figures of a process that works for some seconds, while the patients send before and after it, too."""
    patients = Worker("vitals_worker", work="patients", count=PATIENTS, seconds=seconds + 2 * STARTING_S, **hub)
    found: Figures = Worker("vitals_worker", seconds=seconds, **options, **hub).figures()
    found["sent"] = patients.figures()
    return found


def _alert_waits(alerts: EventSource, lake: str) -> Any:
    """How long after its event each alert was published, in seconds."""
    decoder: msgspec.json.Decoder[_Alert | list[_Alert]] = msgspec.json.Decoder(_Alert | list[_Alert])
    told = [
        (alert.alert_id, enqueued_ms)
        for enqueued_ms, body in _published(alerts)
        for found in [decoder.decode(body)]
        for alert in (found if isinstance(found, list) else [found])
    ]
    stored = _since_the_first(lake, "alerts").select("alert_id", "received_at").collect()
    return _waits(pl.DataFrame(told, schema=["alert_id", "published_ms"], orient="row").join(stored, on="alert_id"))


def _raise_waits(alarms: EventSource, lake: str) -> Any:
    """How long after the reading's event each alarm was told of as raised, in seconds."""
    decoder = msgspec.json.Decoder(_Transition)
    told = [
        (transition.alarm_id, enqueued_ms)
        for enqueued_ms, body in _published(alarms)
        for transition in [decoder.decode(body)]
        if transition.transition == "raised"
    ]
    place = ["partition", "sequence_number"]
    readings = _since_the_first(lake, "bronze").select(*place, "received_at")
    raised = Lake(lake).table(CONTRACT.tables["alarms"]).scan()
    of_readings = raised.filter(pl.col("kind") == "raised", pl.col("rule_id").is_not_null()).select("alarm_id", *place)
    stored = of_readings.join(readings, on=place).collect()
    return _waits(pl.DataFrame(told, schema=["alarm_id", "published_ms"], orient="row").join(stored, on="alarm_id"))


def _published(hub: EventSource) -> Iterator[tuple[int, bytes]]:
    """All that a hub holds, and when it took it."""
    waiting = sum(tail.last + 1 for tail in hub.state().tails.values())
    with hub.receive({}) as receiver:
        while waiting > 0:
            for pulled in receiver.take(timeout=5.0):
                waiting -= len(pulled.bodies)
                yield from zip(pulled.enqueued_ms, (body or b"" for body in pulled.bodies), strict=True)


def _since_the_first(lake: str, layer: str) -> pl.LazyFrame:
    """Rows of events that did not wait for the session to start: received after its first micro-batch was pulled."""
    tables = {table.layer: Lake(lake).table(table).scan() for table in CONTRACT.tables}
    first = tables["bronze"].select(pl.col("pulled_at").min()).collect().item()
    return tables[layer].filter(pl.col("received_at") > first)


def _waits(joined: pl.DataFrame) -> Any:
    return (joined["published_ms"] - joined["received_at"].dt.epoch("ms")).to_numpy() / 1000


def _show(figures: Figures, seconds: float) -> None:
    session = figures["session"]
    show(
        f"Vital signs of {PATIENTS:,} patients at 1 Hz over {figures['transport']}, s",
        ("", "count", "p50", "p99", "max"),
        [
            [f"pull to commit (wanted: p99 ≤ {TARGET_COMMIT_P99_S:.0f})", *seconds_of(figures["pull_to_commit"])],
            ["  of it the commit of five tables", *seconds_of(figures["commit"])],
            ["event to alert", *seconds_of(figures["event_to_alert"])],
            ["event to alarm (wanted: p50 ≤ 0.2, p99 ≤ 0.5)", *seconds_of(figures["event_to_alarm"])],
            ["reference: pull to commit of one plain table", *seconds_of(figures["bare_pull_to_commit"])],
            ["reference: oldest event of a partition to its pull", *seconds_of(figures["bare_event_to_pull"])],
        ],
    )
    show(
        "The session",
        ("", ""),
        [
            ["readings, alerts", f"{session['rows']['silver']:,}, {session['rows']['alerts']:,}"],
            ["CPU, cores", f"{session['cpu_s'] / seconds:.2f}"],
            ["peak RSS, MB", f"{session['peak_rss_mb']:.0f}"],
        ],
    )
