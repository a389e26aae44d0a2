"""How fast a session drains a Kafka topic into its four tables, beside the bare client and our receiver alone."""

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.backlog import past_events, send
from benchmarks.drain import rate
from benchmarks.report import Figures, say, show
from benchmarks.workers import measure
from resources.kafka import publisher
from tests.services.kafka import Broker

ROUNDS = 3
EVENTS, QUICK_EVENTS = 600_000, 60_000
PARTITIONS = 4
WORKERS: dict[str, tuple[str, dict[str, Any]]] = {
    "consume": ("bare_kafka_worker", {"way": "consume"}),
    "poll": ("bare_kafka_worker", {"way": "poll"}),
    "receiver": ("bare_kafka_worker", {"way": "receiver"}),
    "urgent": ("session_worker", {"urgent_only": True}),
    "session": ("session_worker", {}),
}
NAMES = {
    "consume": "client alone, consume()",
    "poll": "client alone, poll()",
    "receiver": "our receiver alone",
    "urgent": "session, urgent rules only",
    "session": "session",
}


def run(*, quick: bool = False, rounds: int = ROUNDS) -> Figures:
    """Rounds of the bare client, the receiver and sessions on the same topic of single readings."""
    events = QUICK_EVENTS if quick else EVENTS
    with Broker() as broker, TemporaryDirectory(prefix="bench-") as folder:
        for topic in ("single", "alerts"):
            broker.create(topic, PARTITIONS)
        say(f"Sending {events:,} events of one reading …")
        with publisher(broker.cluster, "single") as sender:
            sent = send(sender, "single", past_events(events))
        measured = [
            _round(broker.cluster.bootstrap, sent["events"], Path(folder) / str(each)) for each in range(rounds)
        ]
    rates = {who: median(rate(each[who]) for each in measured) for who in WORKERS}
    _show(rates, measured, sent["events"])
    return {"sent": dict(sent), "events_s": rates, "rounds": measured}


def _round(bootstrap: str, events: int, folder: Path) -> dict[str, Any]:
    figures = {}
    for who, (worker, options) in WORKERS.items():
        where = {"kafka": bootstrap, "hub": "single"}
        own = (
            {"events": events}
            if worker == "bare_kafka_worker"
            else {"connection_string": "", "lake": f"{folder}-{who}"}
        )
        figures[who] = measure(worker, **where, **own, **options)
        if figures[who]["events"] != events:
            raise RuntimeError(f"{events} events were sent, {who} received {figures[who]['events']}")
    say("  " + ", ".join(f"{who} {rate(each):,.0f} events/s" for who, each in figures.items()))
    return figures


def _show(rates: dict[str, float], rounds: list[dict[str, Any]], events: int) -> None:
    rows = []
    for who, events_s in rates.items():
        each = [one[who] for one in rounds]
        rows.append(
            [
                NAMES[who],
                f"{events_s:,.0f}",
                f"{events_s / rates['consume']:.2f}",
                f"{events_s / rates['poll']:.2f}",
                f"{1e6 * median(one['cpu_s'] for one in each) / events:.1f}",
                f"{median(one['peak_rss_mb'] for one in each):.0f}",
            ]
        )
    show("Kafka", ("", "events/s", "to consume()", "to poll()", "CPU µs/event", "RSS MB"), rows)
