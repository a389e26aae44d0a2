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
    readings = sent["readings"] / sent["events"]
    return {
        "sent": dict(sent),
        "rounds": measured,
        "rows": measured[0]["session"]["rows"],
        "alert_share": measured[0]["session"]["rows"]["alerts"] / sent["readings"],
        "session_readings_s": readings * median(rate(each["session"]) for each in measured),
        **{f"{who}_events_s": median(rate(each[who]) for each in measured) for who in measured[0]},
        "ratio": median(rate(each["session"]) / max(rate(each["sdk_1"]), rate(each["sdk_4"])) for each in measured),
        "ratio_whole": median(
            min(each["sdk_1"]["whole_s"], each["sdk_4"]["whole_s"]) / each["session"]["whole_s"] for each in measured
        ),
    }


def _round(hub: RunningHub, name: str, events: int, lake: Path) -> dict[str, Any]:
    where = {"connection_string": hub.connection_string, "hub": name}
    figures = {
        "session": measure("session_worker", **where, lake=str(lake)),
        "sdk_1": measure("bare_receive_worker", **where, events=events, threads=1),
        "sdk_4": measure("bare_receive_worker", **where, events=events, threads=4),
    }
    say(f"  {name}: " + ", ".join(f"{who} {rate(each):,.0f} events/s" for who, each in figures.items()))
    if any(each["events"] != events for each in figures.values()):
        raise RuntimeError(f"{events} events were sent, received were {[each['events'] for each in figures.values()]}")
    return figures


def rate(figures: dict[str, Any]) -> float:
    """Events a second behind the first batch, from its arrival on: without the time that connecting takes."""
    return float((figures["events"] - figures["first_events"]) / figures["receiving_s"])


def _show(figures: Figures) -> None:
    rows = []
    for name, each in figures.items():
        for who, what in (("session", "session"), ("sdk_1", "SDK, one thread"), ("sdk_4", "SDK, four threads")):
            rounds = [one[who] for one in each["rounds"]]
            rows.append(
                [
                    f"{name}: {what}",
                    f"{each[f'{who}_events_s']:,.0f}",
                    f"{min(map(rate, rounds)):,.0f}-{max(map(rate, rounds)):,.0f}",
                    f"{median(one['whole_s'] for one in rounds):.1f}",
                    f"{1e6 * median(one['cpu_s'] for one in rounds) / each['sent']['events']:.0f}",
                    f"{median(one['peak_rss_mb'] for one in rounds):.0f}",
                ]
            )
    show("Drain", ("", "events/s", "from-to", "whole s", "CPU µs/event", "RSS MB"), rows)
    single, packed = figures["single"], figures["packed"]
    show(
        "Targets",
        ("", "measured", "wanted"),
        [
            ["single: session / best SDK", f"{single['ratio']:.2f}", f"≥ {TARGET_RATIO:.2f}"],
            ["  the same with connecting and closing", f"{single['ratio_whole']:.2f}", ""],
            ["packed: readings/s", f"{packed['session_readings_s']:,.0f}", f"≥ {TARGET_PACKED_READINGS_S:,}"],
            ["alerts for each 100 readings", f"{100 * single['alert_share']:.0f}", ""],
        ],
    )
