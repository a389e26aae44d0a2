"""What the live page costs: a server, 2,000 patients, 1,000 readings a second, 300 browsers; how old readings are."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks.report import Figures, say, show
from benchmarks.workers import ROOT, Worker
from dashboard.access import Role, Scope
from dashboard.database import page_database
from dashboard.users import User, Users
from orchestration.processes import free_port, is_open
from orchestration.reference import generate
from orchestration.system import HUBS
from resources.settings import DEFAULT_HUBS, Settings
from resources.storage import lake_of
from tests.emulator.hub import RunningHub

PATIENTS, RATE, STREAMS = 2_000, 1_000.0, 300
SECONDS, QUICK_SECONDS = 120.0, 20.0
SETTLE_S = 10.0
"""How long browsers watch before it is measured: each gets a snapshot first."""
CAREGIVERS = 15
GROUPS = ("diabetic", "athlete", "party_goer", "low_glucose", "elderly")
PASSWORD = "four words that nobody guesses"
MAX_CPU_PERCENT, MAX_RSS_MB = 15.0, 300.0


def run(*, quick: bool = False) -> Figures:
    """Half of the readings are glucose, half vital signs with a score. No session runs beside."""
    seconds = QUICK_SECONDS if quick else SECONDS
    hubs = [f"{DEFAULT_HUBS.get(name, name)}:4:pulselake-page" for name in HUBS]
    with RunningHub(hubs) as hub, TemporaryDirectory(prefix="bench-") as folder:
        settings = Settings(home=Path(folder), event_hubs=hub.connection_string, page_port=free_port())
        say(f"Making {PATIENTS:,} patients and their accounts …")
        generate(lake_of(settings), PATIENTS)
        cookies = _sign_in(settings)
        figures = _measured(settings, hub, cookies, seconds)
    _show(figures)
    return figures


def _sign_in(settings: Settings) -> list[str]:
    """Sessions: somebody who sees all, one for each group, and caregivers of one patient each."""
    scopes = [
        Scope(is_everyone=True),
        *(Scope(frozenset({group})) for group in GROUPS),
        *(Scope(patients=frozenset({number})) for number in range(1, CAREGIVERS + 1)),
    ]
    database = page_database(settings.root)
    users = Users(database, lambda: datetime.now(UTC))
    found = []
    for number, scope in enumerate(scopes):
        users.add(User(f"user{number}", Role.CLINICIAN, scope), PASSWORD)
        found.append(users.sign_in(f"user{number}", PASSWORD) or "")
    database.close()
    return found


def _measured(settings: Settings, hub: RunningHub, cookies: list[str], seconds: float) -> Figures:
    environment = {
        **os.environ,
        "PULSELAKE_HOME": str(settings.root),
        "PULSELAKE_PAGE_PORT": str(settings.page_port),
        "EVENTHUB_CONNECTION_STRING": hub.connection_string,
    }
    command = [sys.executable, "-m", "dashboard"]
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    length = seconds + SETTLE_S + 5
    generators = [
        Worker(
            "generate_worker",
            connection_string=hub.connection_string,
            hub=DEFAULT_HUBS.get(name, name),
            rate=RATE / 2,
            seconds=length + 10,
            stream=short,
            patients=PATIENTS,
        )
        for name, short in (("glucose_readings", "glucose"), ("vitals", "vitals"))
    ]
    try:
        process = psutil.Process(server.pid)
        while not is_open(settings.page_port):
            time.sleep(0.2)
        say(f"{STREAMS} browsers watch …")
        clients = Worker("web_clients_worker", port=settings.page_port, cookies=cookies, count=STREAMS, seconds=length)
        time.sleep(SETTLE_S)
        before, began, rss = sum(process.cpu_times()[:2]), time.monotonic(), list[float]()
        while time.monotonic() - began < seconds:
            rss.append(process.memory_info().rss / 2**20)
            time.sleep(1)
        cpu = 100 * (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
        return {
            "cpu_percent": cpu,
            "rss_mb": {"first": rss[0], "last": rss[-1], "max": max(rss)},
            **clients.figures(),
        }
    finally:
        for generator in generators:
            generator.stop()
        server.terminate()
        server.wait(20)


def _show(figures: Figures) -> None:
    age, rss = figures["age_s"], figures["rss_mb"]
    show(
        f"The live page: {PATIENTS:,} patients, {RATE:,.0f} readings/s, {figures['streams']} browsers",
        ("", "measured", "wanted"),
        [
            ("CPU of the server, % of a core", f"{figures['cpu_percent']:.1f}", f"≤ {MAX_CPU_PERCENT:.0f}"),
            (
                "RSS, MB, first / last / most",
                f"{rss['first']:.0f} / {rss['last']:.0f} / {rss['max']:.0f}",
                f"≤ {MAX_RSS_MB:.0f}",
            ),
            ("kB/s of a browser", f"{figures['bytes_per_s'] / 1000:.1f}", ""),
            (
                "age of a reading when it comes, s, p50 / p95 / max",
                f"{age['p50']:.2f} / {age['p95']:.2f} / {age['max']:.2f}",
                "≤ 3",
            ),
        ],
    )
