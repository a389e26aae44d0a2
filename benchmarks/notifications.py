"""How soon people are told of urgent alarms while 1,000 readings come a second, and what a flood of alarms does.

Two processes are measured: a session and the one that notifies, with a MariaDB. Channels lead to a server of this
process, which notes when each notification came. Those of the flood have the pace of a group of Telegram.
"""

import threading
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from assets.glucose.assets import CONTRACT
from assets.notifications.transitions import decoded
from benchmarks.backlog import PATIENTS
from benchmarks.latency import RATE, everything, quantiles, seconds_of
from benchmarks.report import Figures, say, show
from benchmarks.workers import Worker
from resources.event_hubs import EventHubsNamespace
from resources.lake import Lake
from resources.store import Store
from tests.emulator.hub import RunningHub
from tests.notifications.servers import Sink, sink
from tests.notifications.world import events, fresh, load_people, record
from tests.services.mariadb import MariaDb

SECONDS, QUICK_SECONDS = 120.0, 20.0
FLOOD, QUICK_FLOOD = 10_000, 600
FLOOD_S, QUICK_FLOOD_S = 60.0, 6.0
SUBSCRIBERS = 5
TARGET_P99_S = 2.0
GROUP_A_MINUTE = 20
_TOKEN = "123456789:abcdefg_hijklmnopqrstuvwxyz"


def run(*, quick: bool = False) -> Figures:
    """Latency with a session at work, then a flood without one."""
    seconds, alarms, flood_s = (QUICK_SECONDS, QUICK_FLOOD, QUICK_FLOOD_S) if quick else (SECONDS, FLOOD, FLOOD_S)
    with TemporaryDirectory(prefix="bench-") as folder, MariaDb(Path(folder) / "db", is_synced=True) as database:
        latency = _latency(Path(folder) / "latency", database, seconds)
        _show_latency(latency)
        flood = _flood(Path(folder) / "flood", database, alarms, flood_s)
    _show_flood(flood)
    return {"latency": latency, "flood": flood}


def _latency(folder: Path, database: MariaDb, seconds: float) -> Figures:
    say(f"{RATE:,.0f} readings a second for {seconds:.0f} s, a session, and {SUBSCRIBERS} subscribers …")
    lake = Lake(str(folder))
    channels = {number: f"W{number}" for number in range(1, SUBSCRIBERS + 1)}
    load_people(lake, channels, range(1, PATIENTS + 1))
    with RunningHub(("glucose:4", "alerts:4", "alarms:2")) as hub, sink() as server:
        secrets = {name: server.webhook(f"/{name}") for name in channels.values()}
        notifying = _notifying(hub, folder, database, secrets, server, seconds + 15)
        generator = Worker(
            "generate_worker", connection_string=hub.connection_string, hub="glucose", rate=RATE, seconds=seconds
        )
        session = Worker(
            "session_worker",
            connection_string=hub.connection_string,
            hub="glucose",
            lake=str(folder),
            alarms_hub="alarms",
            until_caught_up=False,
            max_duration_s=seconds + 5,
        )
        begun_at = session.figures()["first_time"]
        generator.figures()
        measured: Figures = notifying.figures()
        told = _told(lake, server, EventHubsNamespace(hub.connection_string)).filter(pl.col("received_at") > begun_at)
    waits = {name: quantiles((told["came_at"] - told[name]).to_numpy()) for name in ("received_at", "published_at")}
    return {**measured, "urgent": waits["received_at"], "since_alarm": waits["published_at"]}


def _told(lake: Lake, server: Sink, namespace: EventHubsNamespace) -> pl.DataFrame:
    """When each urgent notification came, the alarm was in its hub, and the reading that decided it; epoch seconds."""
    # The server's clock never goes back; both clocks of this process are compared once.
    offset = time.time() - time.monotonic()
    rows = [
        (row["alarm_id"], row["index"], request.at + offset)
        for request in server.requests
        for row in request.json["notifications"]
        if row.get("severity") == "urgent" and row["transition"] in ("raised", "worsened")
    ]
    published = [
        (each.alarm_id, each.index, at / 1000)
        for pulled in everything(namespace, "alarms")
        for at, body in zip(pulled.enqueued_ms, pulled.bodies, strict=True)
        for each in [decoded(body or b"")]
    ]
    key = {"alarm_id": pl.String, "index": pl.Int64}
    came = pl.LazyFrame(rows, schema={**key, "came_at": pl.Float64}, orient="row")
    hub = pl.LazyFrame(published, schema={**key, "published_at": pl.Float64}, orient="row")
    place = ["partition", "sequence_number", "event_index"]
    alarms = lake.table(CONTRACT.tables["alarms"]).scan().filter(~pl.col("is_update")).select(*key, *place)
    received_at = pl.col("received_at").dt.epoch("us") / 1e6
    silver = lake.table(CONTRACT.tables.silver).scan().select(*place, received_at)
    return came.join(alarms.join(silver, on=place), on=[*key]).join(hub, on=[*key]).collect()


def _flood(folder: Path, database: MariaDb, alarms: int, seconds: float) -> Figures:
    say(f"A flood of {alarms:,} alarms within {seconds:.0f} s, of which each subscriber is told …")
    lake = Lake(str(folder))
    channels = {number: f"T{number}" for number in range(1, SUBSCRIBERS + 1)}
    load_people(lake, channels, range(1, 1_001))
    with RunningHub(("alarms:2",)) as hub, sink() as server:
        secrets = {name: f"tgram://{_TOKEN}/-{number}/" for number, name in channels.items()}
        notifying = _notifying(hub, folder, database, secrets, server, seconds + 5)
        sent_at = _raise_alarms(hub, lake, alarms, seconds)
        measured: Figures = notifying.figures()
        chats: dict[int, list[float]] = {}
        for request in server.requests:
            chats.setdefault(request.json["chat_id"], []).append(request.at)
    busiest = max(max(sum(at <= each < at + 60 for each in times) for at in times) for times in chats.values())
    if measured["counts"] != {"sent": alarms * SUBSCRIBERS}:
        raise RuntimeError(f"{alarms * SUBSCRIBERS:,} notifications were to be sent: {measured['counts']}")
    last = max(max(times) for times in chats.values())
    return {
        **measured,
        "alarms": alarms,
        "messages": Counter({str(chat): len(times) for chat, times in chats.items()}),
        "most_in_a_minute": busiest,
        "told_after_s": last - sent_at,
    }


def _raise_alarms(hub: RunningHub, lake: Lake, alarms: int, seconds: float) -> float:
    """Raises alarms at a steady pace, a tenth of them urgent; returns when the first ones were."""
    parts, pause = max(1, int(seconds * 4)), threading.Event()
    began = time.monotonic()
    with EventHubsNamespace(hub.connection_string).publisher("alarms") as publisher:
        for step in range(parts):
            numbers = range(alarms * step // parts, alarms * (step + 1) // parts)
            severities = ("urgent" if number % 10 == 0 else "warning" for number in numbers)
            given = [
                fresh(f"{number:016x}", severity=severity, patient_id=number % 1_000 + 1)
                for number, severity in zip(numbers, severities, strict=True)
            ]
            publisher.publish(events(given), [each.alarm_id for each in given])
            record(lake, given, step + 1)
            pause.wait(max(0.0, began + (step + 1) * seconds / parts - time.monotonic()))
    return began


def _notifying(
    hub: RunningHub, folder: Path, database: MariaDb, secrets: dict[str, str], server: Sink, seconds: float
) -> Worker:
    store = Store(database.url())
    store.migrate()
    worker = Worker(
        "notifications_worker",
        connection_string=hub.connection_string,
        lake=str(folder),
        url=store.url.render_as_string(hide_password=False),
        secrets=secrets,
        telegram=f"http://127.0.0.1:{server.port}/bot",
        seconds=seconds,
    )
    while store.state("notification") is None:
        time.sleep(0.1)
    store.close()
    return worker


def _show_latency(latency: Figures) -> None:
    show(
        f"Event to urgent notification at {RATE:,.0f} events/s, s; wanted: p99 ≤ {TARGET_P99_S}",
        ("", "count", "p50", "p99", "max"),
        [
            ["reading in the hub to message at its channel", *seconds_of(latency["urgent"])],
            ["alarm in the hub to message at its channel", *seconds_of(latency["since_alarm"])],
        ],
    )


def _show_flood(flood: Figures) -> None:
    rss = flood["rss_mb"]
    show(
        f"{flood['alarms']:,} alarms, each told to {SUBSCRIBERS} groups of Telegram",
        ("", "measured", "wanted"),
        [
            ["notifications sent", f"{flood['counts']['sent']:,}", f"{flood['alarms'] * SUBSCRIBERS:,}"],
            ["messages to each group", f"{np.mean(list(flood['messages'].values())):,.0f}", ""],
            ["most in a minute", f"{flood['most_in_a_minute']}", f"≤ {GROUP_A_MINUTE}"],
            ["all told after, s", f"{flood['told_after_s']:,.0f}", ""],
            ["RSS in the first / second half, MB", f"{rss['first_half']:.0f} / {rss['second_half']:.0f}", "flat"],
            ["CPU of the process, s", f"{flood['cpu_s']:.0f}", ""],
        ],
    )
