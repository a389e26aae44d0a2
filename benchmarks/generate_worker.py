"""The devices of a measurement: a process that sends events at a steady rate."""

from datetime import UTC, datetime
from typing import Any

from benchmarks.backlog import FAULTS, PATIENTS, SEED
from benchmarks.workers import serve
from generator.publisher import publish
from generator.streams import events
from resources.event_hubs import EventHubsNamespace


def run(
    connection_string: str,
    hub: str,
    rate: float,
    seconds: float,
    *,
    stream: str = "glucose",
    patients: int = PATIENTS,
    faults: float = FAULTS,
) -> dict[str, Any]:
    """Sends for so many seconds."""
    with EventHubsNamespace(connection_string).publisher(hub) as publisher:
        made = events(
            stream,
            start=datetime.now(UTC),
            rate=rate,
            patients=patients,
            seed=SEED,
            faults=faults,
            gaps=0,
            seconds=seconds,
        )
        published = publish(made, publisher)
    return {"events": published.events, "seconds": published.seconds}


if __name__ == "__main__":
    serve(run)
