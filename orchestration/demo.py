"""`pulselake demo`: the whole system for a minute on synthetic patients, then an account of every event."""

import shutil
import threading
import time
from pathlib import Path
from typing import Any

from generator.publisher import Published
from orchestration.account import Summary, account, rows_of
from orchestration.backlog import backlog
from orchestration.demo_page import WardPage
from orchestration.demo_people import Inbox, Reached, is_told, reached
from orchestration.home import LOCK, locked
from orchestration.hospital_loads import load_hospital
from orchestration.live import Generators, Load, running, start_notifications, start_page, start_store_sync
from orchestration.processes import Children, free_port
from orchestration.reference import generate_if_empty
from orchestration.system import STREAMS
from orchestration.system import stream as stream_of
from orchestration.web_cli import first_account
from orchestration.work import Say, refresh_gold, refresh_patients, refresh_reports
from resources import sources
from resources.settings import CLINICAL, DEFAULT_CONSUMER_GROUP, Settings
from resources.storage import lake_of

LOADS = (
    Load("glucose", patients=200, rate=200.0, faults=0.02),
    Load("devices", patients=200, rate=40.0, faults=0.02),
    Load("vitals", patients=100, rate=100.0, faults=0.02),
    Load("adverse_events", patients=20, rate=100.0, faults=0.02),
)
HOSPITAL_PATIENTS, HOSPITAL_DAYS = 30, 7
SETTLE_S = 120.0
PROGRESS_S = 5.0
COUNTS = 3


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
        generate_if_empty(lake_of(own), max(load.patients for load in LOADS))
        say("Loading a synthetic hospital: records, telemetry, trials, documents, events …")
        hospital = load_hospital(own, lake_of(own), patients=HOSPITAL_PATIENTS, days=HOSPITAL_DAYS)
        say("Starting the local hub and Dagster (daemon, sensors, web page) …")
        with Inbox().open() as inbox, running(own, lock, stop) as children:
            start_store_sync(children, own)
            start_notifications(children, own, inbox.secrets(lake_of(own)))
            page = WardPage(own.page_port, first_account(own) or "")
            start_page(children, own)
            say(f"Dagster is up: http://127.0.0.1:{own.web_port} (until the demo ends)")
            say(f"The live page: {page.address} (until the demo ends); sign in as admin with {page.password}")
            published = _stream(own, children, seconds, say, stop)
            say("All events are sent. Waiting until the sessions have caught up …")
            children.wait_until(lambda: _is_settled(own), "The last session", SETTLE_S)
            told = _told(own, children, inbox)
            shown = page.shown(lake_of(own), children)
            say("Building gold and reports, and counting …")
            reports = _derive(own, children)
            return account(own, published, reports, told, hospital, shown)


def demo_settings(settings: Settings) -> Settings:
    """A home, ports and a local hub of its own, whatever else the environment or a file `.env` names."""
    own = Settings(home=settings.root / "demo", hub_port=free_port(), web_port=free_port(), page_port=free_port())
    local: dict[str, Any] = {
        "event_hubs": None,
        "namespace": None,
        "lake": None,
        "hubs": {},
        "transports": {},
        "consumer_group": DEFAULT_CONSUMER_GROUP,
        "idle_timeout_s": None,
        "oltp": "",
        "oltp_keep_days": {},
        "key_vault": None,
        **dict.fromkeys(CLINICAL),
        "accounts": None,
        "page_origin": None,
        **{name: Settings.model_fields[name].default for name in ("page_consumer_group", "page_idle_minutes")},
        # The demo makes an account of its own, and asks no provider.
        "page_passwords": True,
        "oidc_issuer": None,
        "watch": None,
        "openfda": False,
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
    say("In silver, and alerts:")
    started = time.monotonic()
    while generators.is_alive():
        children.wait(PROGRESS_S)
        say(f"  {time.monotonic() - started:4.0f} s  " + _progress(settings))
    generators.join()
    return generators.published


def _derive(settings: Settings, children: Children) -> dict[str, int]:
    lake = lake_of(settings)
    for stream in STREAMS:
        refresh_gold(stream, lake, settings=settings)
        children.wait(0)
    refresh_patients(lake)
    reports = refresh_reports(lake)
    children.wait(0)
    return reports


def _progress(settings: Settings) -> str:
    lake = lake_of(settings)
    tables = {load.stream: stream_of(load.stream).contract.tables for load in LOADS}
    counts = {name: (rows_of(lake, of.silver), rows_of(lake, of.alerts)) for name, of in tables.items()}
    if not any(silver for silver, _ in counts.values()):
        return "the first sessions are starting"
    return ", ".join(
        f"{name} {silver:,}" + (f" ({alerts:,} alerts)" if alerts else "") for name, (silver, alerts) in counts.items()
    )


def _told(settings: Settings, children: Children, inbox: Inbox) -> Reached:
    """What reached people and the store; an alarm may be raised while it is counted, so it is counted again then."""
    for attempt in range(COUNTS):
        children.wait_until(lambda: is_told(settings), "The store, or the process that notifies,", SETTLE_S)
        if not (told := reached(settings, inbox)).problems or attempt == COUNTS - 1:
            break
    return told


def _is_settled(settings: Settings) -> bool:
    lake = lake_of(settings)
    return all(backlog(stream.contract, lake, sources.source(settings, stream.name)).events <= 0 for stream in STREAMS)
