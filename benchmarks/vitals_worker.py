"""The measured processes of `vitals`: one session, the patients, and the reference that only receives and stores."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl
from deltalake import write_deltalake

from assets.stream.process import Outcome
from assets.stream.session import Session, SessionLimits
from assets.stream.store import StreamStore
from assets.vitals.assets import CONTRACT
from benchmarks.transports import TRANSPORTS
from benchmarks.workers import peak_rss_mb, serve
from generator.publisher import publish
from generator.streams import vitals_events
from resources.lake import Lake

FAULTS, SEED = 0.01, 11


def run(work: str, **options: Any) -> dict[str, Any]:
    """One of the processes."""
    works: dict[str, Callable[..., dict[str, Any]]] = {"session": session, "patients": patients, "bare": bare}
    return works[work](**options)


def patients(transport: str, address: str, hub: str, count: int, seconds: float) -> dict[str, Any]:
    """Sends a reading of each patient a second."""
    with TRANSPORTS[transport].connect(address).publisher(hub) as publisher:
        events = vitals_events(
            start=datetime.now(UTC),
            rate=float(count),
            patients=count,
            seed=SEED,
            faults=FAULTS,
            gaps=0,
            seconds=seconds,
        )
        published = publish(events, publisher)
    return {"events": published.events, "seconds": published.seconds}


def session(
    transport: str,
    address: str,
    hub: str,
    alerts_hub: str,
    alarms_hub: str,
    lake: str,
    seconds: float,
    commit_interval_s: float,
) -> dict[str, Any]:
    """One session; waits of micro-batches from their pull to the end of their commit, in seconds."""
    hubs = TRANSPORTS[transport].connect(address)
    limits = SessionLimits(max_duration_s=seconds, commit_interval_s=commit_interval_s)
    began_cpu = time.process_time()
    with hubs.publisher(alerts_hub) as publisher, hubs.publisher(alarms_hub) as alarms:
        measured = Session(CONTRACT, Lake(lake), hubs.source(hub), publisher, limits=limits, alarms=alarms)
        waits, commits = _watched(measured.store)
        totals = measured.run()
    return {
        "events": totals.events,
        "rows": {layer: getattr(totals, layer) for layer in ("silver", "quarantine", "alerts", "duplicates")},
        "micro_batches": totals.micro_batches,
        "pull_to_commit_s": waits,
        "commit_s": commits,
        "cpu_s": time.process_time() - began_cpu,
        "peak_rss_mb": peak_rss_mb(),
    }


def bare(transport: str, address: str, hub: str, table: str, seconds: float) -> dict[str, Any]:
    """Receives and appends bodies to one plain Delta table, each time that something has come, and no more."""
    waits: list[float] = []
    arrivals: list[float] = []
    events = 0
    source = TRANSPORTS[transport].connect(address).source(hub)
    tails = {partition: tail.last for partition, tail in source.state().tails.items()}
    end = time.monotonic() + seconds
    with source.receive(tails) as receiver:
        while time.monotonic() < end:
            receiver.gather(0.2)
            pulled, pulled_at = receiver.take(0.2), time.monotonic()
            now_ms = time.time() * 1000
            arrivals += [(now_ms - each.enqueued_ms[0]) / 1000 for each in pulled]
            bodies = [body for each in pulled for body in each.bodies]
            if bodies:
                write_deltalake(table, pl.DataFrame({"body": bodies}).to_arrow(), mode="append")
                waits.append(time.monotonic() - pulled_at)
                events += len(bodies)
    return {"events": events, "pull_to_commit_s": waits, "event_to_pull_s": arrivals}


def _watched(store: StreamStore) -> tuple[list[float], list[float]]:
    """Lets a store note how long micro-batches waited for the end of their commit, and how long commits took."""
    commit = store.commit
    waits: list[float] = []
    commits: list[float] = []

    def noted(outcomes: Sequence[Outcome], **options: Any) -> None:
        began = time.monotonic()
        commit(outcomes, **options)
        now = datetime.now(UTC)
        commits.append(time.monotonic() - began)
        pulled = pl.concat([outcome.bronze["pulled_at"] for outcome in outcomes]).unique() if outcomes else ()
        waits.extend((now - each).total_seconds() for each in pulled)

    vars(store)["commit"] = noted
    return waits, commits


if __name__ == "__main__":
    serve(run)
