"""The whole system for half an hour: how long alerts take across hand-overs, rebuilds, silence and a killed session.

The hub's clock alone counts: an alert's time is from its event's arrival in the hub to its own arrival in the alerts
hub. Dagster, its sensors, gold and reports run as `pulselake dev` runs them. Beside it the bare SDK receives events and
sends them on, in the same run.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import msgspec
import numpy as np
import polars as pl
import psutil

from assets.glucose.assets import CONTRACT
from assets.stream.checks import evaluate
from assets.stream.session import Session, SessionLimits
from assets.stream.store import StreamStore
from benchmarks.backlog import PATIENTS, fill, past_events
from benchmarks.latency import echo, everything, quantiles, seconds_of
from benchmarks.report import Figures, say, show
from benchmarks.workers import ROOT, Worker
from orchestration.home import locked
from orchestration.live import environment, running
from orchestration.processes import free_port
from orchestration.system import stream
from resources.lake import Lake
from resources.leases import FileLock
from resources.settings import Settings
from resources.sources import namespace_of
from resources.storage import lake_of
from tests.emulator.hub import RunningHub
from tests.system_hubs import system_hubs

HUBS = [*system_hubs(glucose_readings=4, device_readings=2, alerts=4), "past_alerts:4", "sdk_tuned:4"]
RATE = 1000.0
PAST_DAYS, PAST_EVENTS = 3, 20_000
AFTER_THE_KILL_S = 15.0
"""Events of so long after the kill are counted apart."""
MOST_LIKELY_DEAD_S = 60.0


@dataclass(frozen=True)
class Plan:
    """How long each part lasts."""

    minutes: float = 30.0
    session_s: float = 300.0
    silences: int = 20
    silence_s: float = 60.0
    echo_s: float = 40.0


QUICK = Plan(minutes=4.0, session_s=45.0, silences=3, silence_s=15.0, echo_s=15.0)


class _Alert(msgspec.Struct):
    alert_id: str


@dataclass
class Watch:
    """Once a second: who is at work, and the resident memory of its process."""

    lock: FileLock
    samples: list[tuple[float, int, float]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Samples until `stop` is set."""
        began = time.monotonic()
        while not self.stop.wait(1.0):
            if (pid := self.lock.last_pid()) is None:
                continue
            try:
                rss = psutil.Process(pid).memory_info().rss / 2**20
            except psutil.NoSuchProcess:
                continue
            self.samples.append((time.monotonic() - began, pid, rss))


def run(*, quick: bool = False) -> Figures:
    """Half an hour of everything at once, then silences, then a kill; then the SDK alone."""
    plan = QUICK if quick else Plan()
    with RunningHub(HUBS) as hub, TemporaryDirectory(prefix="bench-") as folder:
        settings = Settings(
            home=Path(folder) / "home",
            event_hubs=hub.connection_string,
            web_port=free_port(),
            max_session_s=plan.session_s,
        )
        days = _store_past_days(settings)
        with locked(settings.root) as lock, running(settings, lock, threading.Event()):
            figures = _measured(settings, plan, days)
        figures["sdk_echo"] = echo(hub, "sdk_tuned", plan.echo_s, of="device_readings")
    _show(figures)
    return figures


def _store_past_days(settings: Settings) -> list[date]:
    """Days before today, as sessions of those days would have left them."""
    say(f"Storing {PAST_DAYS} past days …")
    namespace, days = namespace_of(settings), []
    events = past_events(PAST_DAYS * PAST_EVENTS)
    for back in range(PAST_DAYS, 0, -1):
        at = datetime.now(UTC) - timedelta(days=back)
        fill(str(settings.event_hubs), CONTRACT.stream, (next(events) for _ in range(PAST_EVENTS)))
        with namespace.publisher("past_alerts") as publisher:
            Session(
                CONTRACT,
                lake_of(settings),
                namespace.source(CONTRACT.stream),
                publisher,
                limits=SessionLimits(until_caught_up=True),
                clock=partial(_same, at),
            ).run()
        days.append(at.date())
    return days


def _same(instant: datetime) -> datetime:
    """A clock that stands."""
    return instant


def _measured(settings: Settings, plan: Plan, days: list[date]) -> Figures:
    lease = settings.lease(CONTRACT.stream, "benchmark")
    assert isinstance(lease.active, FileLock)
    up_at = time.monotonic()
    _wait_for(lease.active.is_held_elsewhere, "the first session")
    first_session_s = time.monotonic() - up_at
    watch = Watch(lease.active)
    watching = threading.Thread(target=watch.run, daemon=True)
    watching.start()
    say(f"{RATE:,.0f} events/s for {plan.minutes:g} minutes, a session of {plan.session_s:.0f} s after the other …")
    seconds, began = plan.minutes * 60, time.time()
    generator = Worker(
        "generate_worker",
        connection_string=settings.event_hubs,
        hub=CONTRACT.stream,
        rate=RATE,
        seconds=seconds,
    )
    rebuilt = _beside(settings, generator, seconds, days)
    sent = generator.figures()
    say(f"  {sent['events']:,} events were sent")
    time.sleep(5)
    silences = _silences(settings, plan)
    kill = _kill(settings, lease.active, plan)
    watch.stop.set()
    watching.join()
    waits, received = _alert_waits(settings, began)
    is_after_kill = (received >= kill["at"]) & (received <= kill["at"] + AFTER_THE_KILL_S)
    is_streaming = received < began + seconds + 5
    return {
        "sent": sent,
        "first_session_s": first_session_s,
        "sessions": _sessions(settings),
        "rebuilt": rebuilt,
        "latency": quantiles(waits[is_streaming]),
        "everything_but_the_kill": quantiles(waits[~is_after_kill]),
        "silences": silences,
        "kill": kill | {"latency": quantiles(waits[is_after_kill])},
        "slow_seconds": _slow_seconds(waits[is_streaming], received[is_streaming] - began),
        "hand_overs_s": _hand_overs(watch.samples),
        "by_minute": _by_minute(waits[is_streaming], received[is_streaming]),
        "memory": _memory(watch.samples, seconds),
        "checks": _checks(settings, days),
        "run_storage_mb": _megabytes(settings.dagster_home),
    }


def _beside(settings: Settings, generator: Worker, seconds: float, days: list[date]) -> Figures:
    """A backfill of the past days and a replay, while events come; how long each took."""
    began, taken = time.monotonic(), {}
    selection = " or ".join(f'key:"{layer}/{CONTRACT.stream}"' for layer in ("silver", "quarantine", "alerts"))
    commands = {
        "backfill": [
            *(sys.executable, "-m", "dagster", "asset", "materialize", "-m", "orchestration.definitions"),
            *("--select", selection, "--partition-range", f"{days[0]}...{days[-1]}"),
        ],
        "replay": [sys.executable, "-m", "orchestration.cli", "replay", CONTRACT.stream],
    }
    for part, (name, command) in zip((0.25, 0.55), commands.items(), strict=True):
        time.sleep(max(0.0, began + part * seconds - time.monotonic()))
        say(f"  {name} …")
        started = time.monotonic()
        with (settings.root / "logs" / f"{name}.log").open("w") as log:
            done = subprocess.run(
                command, cwd=ROOT, env=os.environ | environment(settings), stdout=log, stderr=log, check=False
            )
        if done.returncode:
            raise RuntimeError(f"{name} ended with exit code {done.returncode}: {log.name}")
        taken[f"{name}_s"] = time.monotonic() - started
        say(f"  {name} took {taken[f'{name}_s']:.1f} s")
    while generator.is_alive:
        time.sleep(1)
    return taken


def _silences(settings: Settings, plan: Plan) -> Figures:
    """Single events, each after a silence; how long their alerts took."""
    say(f"{plan.silences} single events, each after {plan.silence_s:.0f} s of silence …")
    with namespace_of(settings).publisher(CONTRACT.stream) as publisher:
        for number in range(plan.silences):
            time.sleep(plan.silence_s)
            publisher.publish([_low(PATIENTS + 1 + number)], [str(number)])
    time.sleep(5)
    began = time.time() - plan.silences * (plan.silence_s + 1) - 5
    waits, received = _alert_waits(settings, began, "glucose_low")
    return quantiles(waits) | {"events": len(np.unique(received))}


def _low(patient: int) -> bytes:
    at = datetime.now(UTC).isoformat()
    return json.dumps({"patient_id": patient, "device_id": 1, "glucose_level": 45.0, "timestamp": at}).encode()


def _kill(settings: Settings, lock: FileLock, plan: Plan) -> Figures:
    """Kills the session at work while an event comes every quarter of a second."""
    say("kill -9 of the session at work …")
    pid = lock.last_pid()
    assert pid is not None
    with namespace_of(settings).publisher(CONTRACT.stream) as publisher:
        for number in range(8):
            publisher.publish([_low(5000 + number)], [str(number)])
            time.sleep(0.25)
        os.kill(pid, signal.SIGKILL)
        killed_at = time.time()
        for number in range(int(4 * (AFTER_THE_KILL_S + 10))):
            publisher.publish([_low(6000 + number)], [str(number)])
            time.sleep(0.25)
    time.sleep(5)
    waits, received = _alert_waits(settings, killed_at)
    if not len(waits):
        raise RuntimeError(f"no alert came within {AFTER_THE_KILL_S + 15:.0f} s of the kill")
    flowing_after_s = float(np.min(waits + received) - killed_at)
    return {"at": killed_at, "flowing_after_s": flowing_after_s}


def _alert_waits(settings: Settings, since: float, rule: str = "") -> tuple[Any, Any]:
    """For each alert of an event since then how long after it was published first, and when the event came."""
    decoder: msgspec.json.Decoder[_Alert | list[_Alert]] = msgspec.json.Decoder(_Alert | list[_Alert])
    ids, published_ms = [], []
    for pulled in everything(namespace_of(settings), "alerts"):
        for enqueued_ms, body in zip(pulled.enqueued_ms, pulled.bodies, strict=True):
            alerts = decoder.decode(body or b"[]")
            for alert in alerts if isinstance(alerts, list) else [alerts]:
                ids.append(alert.alert_id)
                published_ms.append(enqueued_ms)
    published = pl.DataFrame({"alert_id": ids, "published_ms": published_ms}).group_by("alert_id").min()
    stored = lake_of(settings).table(CONTRACT.tables.alerts).scan()
    if rule:
        stored = stored.filter(pl.col("rule").str.contains(rule))
    wanted = stored.filter(pl.col("received_at") >= datetime.fromtimestamp(since, UTC))
    found = wanted.select("alert_id", "received_at").collect().join(published, on="alert_id", how="left")
    if missing := found["published_ms"].null_count():
        raise RuntimeError(f"{missing} stored alerts were never published")
    received = found["received_at"].dt.epoch("ms").to_numpy() / 1000
    return found["published_ms"].to_numpy() / 1000 - received, received


def _sessions(settings: Settings) -> int:
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        return len(instance.get_run_records(dg.RunsFilter(job_name=stream(CONTRACT.stream).session_job)))


def _by_minute(waits: Any, received: Any) -> list[Figures]:
    minutes = ((received - received.min()) // 60).astype(int)
    return [quantiles(waits[minutes == minute]) for minute in np.unique(minutes)]


def _slow_seconds(waits: Any, at: Any) -> dict[int, float]:
    """The longest wait of each second of the stream in which one was over half a second."""
    seconds = at.astype(int)
    return {int(second): float(waits[seconds == second].max()) for second in np.unique(seconds[waits > 0.5])}


def _hand_overs(samples: list[tuple[float, int, float]]) -> list[float]:
    """When another process was at work, in seconds of the stream."""
    return [new[0] for old, new in pairwise(samples) if old[1] != new[1]]


def _memory(samples: list[tuple[float, int, float]], seconds: float) -> list[Figures]:
    """By session that worked for most of its time: the mean of each third, without the first half minute."""
    found = []
    streamed = [sample for sample in samples if sample[0] < seconds]
    starts = [0, *(at for at, (old, new) in enumerate(pairwise(streamed), start=1) if old[1] != new[1]), len(streamed)]
    for first, end in pairwise(starts):
        rss = np.array([sample[2] for sample in streamed[first:end]][30:])
        if len(rss) >= 60:
            found.append({"thirds_mb": [float(part.mean()) for part in np.array_split(rss, 3)], "max_mb": rss.max()})
    return found


def _checks(settings: Settings, days: list[date]) -> Figures:
    store = StreamStore(CONTRACT, lake_of(settings))
    found = {
        f"{day} {finding.name}": dict(finding.counts)
        for day in [*days, datetime.now(UTC).date()]
        for finding in evaluate(store, day, datetime.now(UTC))
        if finding.is_error and not finding.passed
    }
    return {"failed": found, "silver_rows": Lake(lake_of(settings).root).table(CONTRACT.tables.silver).count()}


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


def _wait_for(is_so: Any, what: str) -> None:
    end = time.monotonic() + MOST_LIKELY_DEAD_S
    while not is_so():
        if time.monotonic() > end:
            raise RuntimeError(f"{what} did not come within {MOST_LIKELY_DEAD_S:.0f} s")
        time.sleep(0.05)


def _show(figures: Figures) -> None:
    rows = [
        ["event to alert, while events stream", *seconds_of(figures["latency"])],
        ["  and with the silences", *seconds_of(figures["everything_but_the_kill"])],
        [f"single events after a silence ({figures['silences']['events']})", *seconds_of(figures["silences"])],
        [f"events within {AFTER_THE_KILL_S:.0f} s of the kill", *seconds_of(figures["kill"]["latency"])],
        ["event to echo, bare SDK", *seconds_of(figures["sdk_echo"]["latency"])],
        *([f"  minute {number}", *seconds_of(each)] for number, each in enumerate(figures["by_minute"], start=1)),
    ]
    show(f"Latency of a standing stream at {RATE:,.0f} events/s, s", ("", "count", "p50", "p99", "max"), rows)
    memory = [
        [f"RSS of session {number} by thirds, MB", " / ".join(f"{each:.0f}" for each in one["thirds_mb"]), "flat"]
        for number, one in enumerate(figures["memory"], start=1)
    ]
    latency, idle = figures["latency"], figures["silences"]
    show(
        "Standing",
        ("", "measured", "wanted"),
        [
            ["p50 / p99, s", f"{latency['p50']:.2f} / {latency['p99']:.2f}", "≤ 0.2 / 0.5"],
            ["max outside the kill, s", f"{figures['everything_but_the_kill']['max']:.2f}", "≤ 2"],
            ["p99 after a silence, s", f"{idle['p99']:.2f}", "≤ 0.5"],
            ["alerts flow again after the kill, s", f"{figures['kill']['flowing_after_s']:.1f}", "≤ 10 (aim: 3)"],
            ["first session after Dagster was up, s", f"{figures['first_session_s']:.1f}", "≤ 5"],
            ["sessions", f"{figures['sessions']}", "≥ 6"],
            *([name, f"{seconds:.1f}", ""] for name, seconds in figures["rebuilt"].items()),
            *memory,
            ["failed checks", f"{len(figures['checks']['failed'])}", "0"],
            ["Dagster's records, MB", f"{figures['run_storage_mb']:.1f}", ""],
        ],
    )
