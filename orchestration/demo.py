"""`pulselake demo`: the whole system for a minute on synthetic patients, then an account of every event."""

import shutil
import threading
import time
from pathlib import Path
from typing import Any

from generator.publisher import Published
from orchestration.account import Summary, account, rows_of
from orchestration.backlog import backlog
from orchestration.home import LOCK, locked
from orchestration.live import Generators, Load, running
from orchestration.processes import Children, free_port
from orchestration.reference import generate_if_empty
from orchestration.system import STREAMS
from orchestration.work import Say, refresh_gold, refresh_reports
from resources import sources
from resources.settings import DEFAULT_CONSUMER_GROUP, Settings

LOADS = (
    Load("glucose", patients=200, rate=200.0, faults=0.02),
    Load("devices", patients=200, rate=40.0, faults=0.02),
    Load("vitals", patients=100, rate=100.0, faults=0.02),
    Load("adverse_events", patients=20, rate=100.0, faults=0.02),
)
SETTLE_S = 120.0
PROGRESS_S = 5.0


def demo(settings: Settings, seconds: float, say: Say, stop: threading.Event) -> Summary:
    """Runs the demo in a fresh home below the configured one.

    Args:
        settings: whose home is used; hubs and lake are the demo's own, and local.
        seconds: how long events are sent.
        say: told what goes on.
        stop: set when the process is asked to end.

    Raises:
        HomeInUseError: another demo runs.
        ChildError: a part of the system did not start or ended.
        StoppedError: `stop` was set.
    """
    own = demo_settings(settings)
    with locked(own.root) as lock:
        _empty(own.root)
        say("Loading reference data of the synthetic patients …")
        generate_if_empty(own.open_lake(), max(load.patients for load in LOADS))
        say("Starting the local hub and Dagster (daemon, sensors, web page) …")
        with running(own, lock, stop) as children:
            say(f"Dagster is up: http://127.0.0.1:{own.web_port} (until the demo ends)")
            published = _stream(own, children, seconds, say, stop)
            say("All events are sent. Waiting until the sessions have caught up …")
            children.wait_until(lambda: _is_settled(own), "The last session", SETTLE_S)
            say("Building gold and reports, and counting …")
            reports = _derive(own, children)
            return account(own, published, reports)


def demo_settings(settings: Settings) -> Settings:
    """A home, ports and a local hub of its own, whatever else the environment or a file `.env` names."""
    own = Settings(home=settings.root / "demo", hub_port=free_port(), web_port=free_port())
    local: dict[str, Any] = {
        "event_hubs": None,
        "namespace": None,
        "lake": None,
        "hubs": {},
        "transports": {},
        "consumer_group": DEFAULT_CONSUMER_GROUP,
        "idle_timeout_s": None,
    }
    return own.model_copy(update=local)


def _empty(home: Path) -> None:
    for each in home.iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        elif each.name != LOCK:
            each.unlink()


def _stream(
    settings: Settings, children: Children, seconds: float, say: Say, stop: threading.Event
) -> dict[str, Published]:
    generators = Generators(stop)
    for load in LOADS:
        generators.start(settings, load, seconds)
    say(f"Streaming for {seconds:.0f} s: " + ", ".join(f"{load.rate:.0f} {load.stream} events/s" for load in LOADS))
    started = time.monotonic()
    while generators.is_alive():
        children.wait(PROGRESS_S)
        say(f"  {time.monotonic() - started:4.0f} s  " + _progress(settings))
    generators.join()
    return generators.published


def _derive(settings: Settings, children: Children) -> dict[str, int]:
    lake = settings.open_lake()
    for stream in STREAMS:
        refresh_gold(stream, lake, settings=settings)
        children.wait(0)
    reports = refresh_reports(lake)
    children.wait(0)
    return reports


def _progress(settings: Settings) -> str:
    lake = settings.open_lake()
    layers = (table for stream in STREAMS for table in (stream.contract.tables.silver, stream.contract.tables.alerts))
    return "  ".join(f"{table.sql_name} {rows_of(lake, table):,}" for table in layers)


def _is_settled(settings: Settings) -> bool:
    lake = settings.open_lake()
    return all(backlog(stream.contract, lake, sources.source(settings, stream.name)).events <= 0 for stream in STREAMS)
