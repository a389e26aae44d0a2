"""How fast a session drains a backlog into its four tables, beside the bare SDK that only receives the same backlog."""

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.backlog import fill, past_events
from benchmarks.report import Figures, say, show
from benchmarks.workers import measure
from tests.emulator.hub import RunningHub

ROUNDS = 3
EVENTS, QUICK_EVENTS = 300_000, 60_000
PACK = 10
TARGET_RATIO, TARGET_PACKED_READINGS_S = 0.8, 200_000


SDK = ("sdk_1", "sdk_4")
NAMES = {"session": "session", "urgent": "urgent rules only", "sdk_1": "SDK, one thread", "sdk_4": "SDK, four threads"}


def run(*, quick: bool = False, rounds: int = ROUNDS) -> Figures:
    """Rounds of session, SDK in one thread, SDK in four threads; then the same with ten readings in an event."""
    events = QUICK_EVENTS if quick else EVENTS
    with RunningHub(("single:4", "packed:4", "alerts:4")) as hub, TemporaryDirectory(prefix="bench-") as folder:
        single = _rounds(hub, "single", events, 1, rounds, Path(folder))
        # As many events of ten readings would be another backlog; a third of them runs long enough to be measured.
        packed = _rounds(hub, "packed", events // 3, PACK, rounds, Path(folder))
    figures = {"single": single, "packed": packed}
    _show(figures)
    return figures


def _rounds(hub: RunningHub, name: str, events: int, pack: int, rounds: int, folder: Path) -> Figures:
    say(f"Sending {events:,} events of {pack} reading(s) to hub '{name}' …")
    sent = fill(hub.connection_string, name, past_events(events, pack))
    measured = [_round(hub, name, sent["events"], folder / f"{name}-{number}") for number in range(rounds)]
    medians = {who: median(rate(each[who]) for each in measured) for who in measured[0]}
    return {
        "sent": dict(sent),
        "readings_per_event": sent["readings"] / sent["events"],
        "events_s": medians,
        "ratio": {who: median(_ratio(each, who) for each in measured) for who in ("session", "urgent")},
        "ratio_whole": median(
            min(each[sdk]["whole_s"] for sdk in SDK) / each["session"]["whole_s"] for each in measured
        ),
        "alerts_per_reading": {
            who: measured[0][who]["rows"]["alerts"] / sent["readings"] for who in ("session", "urgent")
        },
        "rounds": measured,
    }


def _round(hub: RunningHub, name: str, events: int, lake: Path) -> dict[str, Any]:
    where = {"connection_string": hub.connection_string, "hub": name}
    figures = {
        "session": measure("session_worker", **where, lake=f"{lake}-all"),
        "sdk_1": measure("bare_receive_worker", **where, events=events, threads=1),
        "urgent": measure("session_worker", **where, lake=f"{lake}-urgent", urgent_only=True),
        "sdk_4": measure("bare_receive_worker", **where, events=events, threads=4),
    }
    say(f"  {name}: " + ", ".join(f"{who} {rate(each):,.0f} events/s" for who, each in figures.items()))
    if any(each["events"] != events for each in figures.values()):
        raise RuntimeError(f"{events} events were sent, received were {[each['events'] for each in figures.values()]}")
    return figures


def _ratio(figures: dict[str, Any], who: str) -> float:
    return rate(figures[who]) / max(rate(figures[sdk]) for sdk in SDK)


def rate(figures: dict[str, Any]) -> float:
    """Events a second behind the first batch, from its arrival on: without the time that connecting takes."""
    return float((figures["events"] - figures["first_events"]) / figures["receiving_s"])


def _show(figures: Figures) -> None:
    show(
        "Drain",
        ("", "events/s", "from-to", "whole s", "CPU µs/event", "RSS MB"),
        [_row(name, who, each) for name, each in figures.items() for who in NAMES],
    )
    single, packed = figures["single"], figures["packed"]
    readings_s = {who: rate * packed["readings_per_event"] for who, rate in packed["events_s"].items()}
    alerts = single["alerts_per_reading"]
    show(
        "Targets",
        ("", "all rules", "urgent rules", "wanted"),
        [
            ["single: session / best SDK", *_both(single["ratio"], ".2f"), f"≥ {TARGET_RATIO:.2f}"],
            ["  with connecting and closing", f"{single['ratio_whole']:.2f}", "", ""],
            ["packed: readings/s", *_both(readings_s, ",.0f"), f"≥ {TARGET_PACKED_READINGS_S:,}"],
            ["alerts for each 100 readings", *_both({who: 100 * share for who, share in alerts.items()}, ".0f"), ""],
        ],
    )


def _row(name: str, who: str, figures: Figures) -> list[str]:
    rounds = [one[who] for one in figures["rounds"]]
    rates = [rate(one) for one in rounds]
    return [
        f"{name}: {NAMES[who]}",
        f"{figures['events_s'][who]:,.0f}",
        f"{min(rates):,.0f}-{max(rates):,.0f}",
        f"{median(one['whole_s'] for one in rounds):.1f}",
        f"{1e6 * median(one['cpu_s'] for one in rounds) / figures['sent']['events']:.0f}",
        f"{median(one['peak_rss_mb'] for one in rounds):.0f}",
    ]


def _both(figures: dict[str, float], form: str) -> tuple[str, str]:
    return format(figures["session"], form), format(figures["urgent"], form)
