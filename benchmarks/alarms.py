"""What alarms cost: three processors in turn; two have thresholds of patients by hour, one of these folds alarms too.

Readings arrive seconds after they were measured, so that all of them count. Of two sets of thresholds the first is near
the original ones, by which nearly every patient is in alarm all the time, and the second one is as clinics have them.
Then how long a session takes to restore many open alarms.
"""

import re
import time
from collections.abc import Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import polars as pl

from assets.alarms.episodes import Episodes
from assets.glucose.assets import CONTRACT
from assets.reference_store import put_rules
from assets.stream.alarming import Alarming, Folded, stored
from assets.stream.decode import Decoded
from assets.stream.enrichment import References
from assets.stream.instants import instants
from assets.stream.process import Outcome
from assets.stream.store import StreamStore
from benchmarks.engine import LARGE, SMALL, START, Case, Engine
from benchmarks.report import Figures, say, show
from benchmarks.rules import LONG_AGO, PATIENT_COUNT, load_patients, long_ago, own_rules, refreshed
from benchmarks.turns import by_turns, compared
from generator.streams import glucose_events
from resources.lake import Lake

TARGET_PERCENT, TARGET_SMALL_MS, TARGET_RESTORE_S, TARGET_OF_ONE_US = 40.0, 5.0, 2.0, 20.0
OPEN_ALARMS = 20_000
DELAY, FIVE_MINUTES = timedelta(seconds=5), timedelta(minutes=5)
COMMITTED_TOGETHER = 10
"""How many micro-batches of 1,000 a session commits together: it pulls every 0.2 s and commits every 2 s."""
CLINICAL = {
    "glucose_high": 250.0,
    "glucose_average_high": 240.0,
    "glucose_urgent_high": 300.0,
    "glucose_low": 70.0,
    "glucose_urgent_low": 54.0,
}
"""Thresholds in mg/dL by which few patients are in alarm: levels 2 of the consensus on time in range, and 70."""


FLAPPING = (50, 60, 72, 80, 111, 120, 255)
"""Values in mg/dL around the contract's thresholds."""
_BODY = b'{"patient_id": 1, "device_id": 1, "glucose_level": %d, "timestamp": "%b"}'


class _Body(msgspec.Struct):
    timestamp: str


_decode = msgspec.json.Decoder(_Body).decode


class _Live(Engine):
    """A processor whose readings arrive shortly after they were measured."""

    def __init__(self, folder: Path, references: References | None, alarming: Alarming | None, together: int) -> None:
        super().__init__(folder, references)
        self._processor.alarming = alarming
        self._received: pl.Series | None = None
        self._together, self._folded = together, list[Folded]()
        self.alarms = 0

    def expect(self, bodies: Sequence[bytes]) -> None:
        """Notes when events arrive, outside the time that is measured."""
        texts = pl.DataFrame({"timestamp": [_decode(body).timestamp for body in bodies]})
        frame = texts.select(timestamp=pl.lit(None, pl.Float64), timestamp_text="timestamp")
        self._received = instants(frame, "timestamp") + DELAY

    def process(self, bodies: Sequence[bytes], decoded: Decoded | None = None) -> None:
        super().process(bodies, decoded)
        if (folded := self._produced[-1].alarms) is not None:
            self._folded.append(folded)
        if len(self._folded) == self._together:
            # The rows of alarms that only went on are made with the commit.
            stored(self._folded, CONTRACT.stream)
            self._folded = []

    def forget(self) -> None:
        """Counts what was raised, outside the time that is measured, and forgets it."""
        folded = [each.alarms for each in self._produced if each.alarms is not None]
        self.alarms += sum(each.rows.filter(pl.col("kind") == "raised").height for each in folded)
        super().forget()

    def taken(self) -> list[Outcome]:
        """What was produced since the last call."""
        produced, self._produced = self._produced, []
        return produced

    def _positions(self, count: int) -> pl.DataFrame:
        positions = super()._positions(count)
        if self._received is None:
            return positions
        return positions.with_columns(received_at=self._received, pulled_at=pl.lit(self._received.max()))


def cases(quick: bool) -> list[Case]:
    five_minutes, second, count = timedelta(minutes=5), timedelta(seconds=1), 3 if quick else 15
    return [
        Case("10,000, each 5 min", 10_000, five_minutes, LARGE, 2, count),
        Case("1,000, each 5 min", 1_000, five_minutes, LARGE, 2, count),
        Case("10,000, each 5 min", 10_000, five_minutes, SMALL, 20, 20 if quick else 300),
        Case("1,000, each second", 1_000, second, SMALL, 20, 20 if quick else 300),
    ]


def run(*, quick: bool = False) -> Figures:
    """Each case without both, with thresholds of patients, and with alarms besides."""
    figures: Figures = {"cases": []}
    for thresholds, wanted in (("near the original's", own_rules()), ("clinical", own_rules(CLINICAL))):
        with TemporaryDirectory(prefix="bench-") as folder, TemporaryDirectory(prefix="bench-") as without:
            lakes = {"own": Lake(folder), "none": Lake(without)}
            for lake in lakes.values():
                load_patients(lake)
            put_rules(lakes["own"], [CONTRACT], wanted, valid_from=LONG_AGO, clock=long_ago)
            references = {name: References(CONTRACT, lake) for name, lake in lakes.items()}
            for each in references.values():
                refreshed(each)
            for case in cases(quick):
                say(f"  {case.rows:,} rows a batch, {case.name}, thresholds {thresholds}")
                figures["cases"].append({"thresholds": thresholds} | _measured(case, references))
    figures["of_one"] = _of_one(20_000 if quick else LARGE)
    figures["restored"] = _restored(2_000 if quick else OPEN_ALARMS)
    _show(figures)
    return figures


def _measured(case: Case, references: dict[str, References]) -> Figures:
    episodes = Episodes(CONTRACT.stream)
    together = 1 if case.rows == LARGE else COMMITTED_TOGETHER
    with (
        TemporaryDirectory(prefix="bench-") as first,
        TemporaryDirectory(prefix="bench-") as second,
        TemporaryDirectory(prefix="bench-") as third,
    ):
        engines = {
            "with": _Live(Path(first), references["own"], Alarming(CONTRACT, episodes), together),
            "rules": _Live(Path(second), references["own"], None, together),
            "without": _Live(Path(third), references["none"], None, together),
        }
        taken = by_turns(engines, case, lambda engine, bodies: engine.expect(bodies))
        figures: Figures = {
            "case": case.name,
            "rows": case.rows,
            "raised": engines["with"].alarms,
            "in_alarm": round(100 * len(set(episodes.open["entity"].tolist())) / case.patients),
        }
    fold = compared({"with": taken["with"], "without": taken["rules"]})
    return figures | compared(taken) | {f"fold_{what}": each for what, each in fold.items()}


def _of_one(count: int) -> Figures:
    """A batch of one patient who flaps, a year by readings of every 5 minutes: the processors' time, best of two."""
    random = Random(5)
    levels = [(START + number * FIVE_MINUTES, random.choice(FLAPPING)) for number in range(count)]
    bodies = [_BODY % (value, measured_at.isoformat().encode()) for measured_at, value in levels]
    with TemporaryDirectory(prefix="bench-") as folder:
        seconds: dict[str, list[float]] = {"without": [], "with": []}
        for _ in range(2):
            for name, taken in seconds.items():
                alarming = Alarming(CONTRACT, Episodes(CONTRACT.stream)) if name == "with" else None
                engine = _Live(Path(folder), None, alarming, 1)
                engine.expect(bodies)
                began = time.process_time()
                engine.process(bodies)
                taken.append(time.process_time() - began)
        [outcome] = engine.taken()
        transitions = 0 if outcome.alarms is None else outcome.alarms.rows.filter(~pl.col("is_update")).height
    without, with_ = (min(seconds[name]) for name in ("without", "with"))
    return {
        "rows": count,
        "transitions": transitions,
        "without_s": round(without, 2),
        "with_s": round(with_, 2),
        "us_a_reading": round(1e6 * (with_ - without) / count, 1),
    }


def _restored(count: int) -> Figures:
    """A session's start with many open alarms, and who was seen lately: seconds of the best of three."""
    with TemporaryDirectory(prefix="bench-") as folder:
        store = StreamStore(CONTRACT, Lake(folder))
        store.open([0])
        alarming = Alarming(CONTRACT, Episodes(CONTRACT.stream))
        engine = _Live(Path(folder), None, alarming, 1)
        # Two readings of each patient, high ones: each has an open alarm.
        shares: dict[str, Any] = {"repeats": 0, "late": 0, "variations": 0, "gaps": 0}
        made = glucose_events(start=START, spacing=FIVE_MINUTES, patients=count, seed=3, **shares)
        events = [event.body for event in islice(made, 2 * count)]
        high = [re.sub(rb'"glucose_level": [^,]+', b'"glucose_level": 200', body) for body in events]
        for first in range(0, len(high), LARGE):
            engine.expect(high[first : first + LARGE])
            engine.process(high[first : first + LARGE])
            store.commit(engine.taken())
        seconds = []
        for _ in range(3):
            again = StreamStore(CONTRACT, Lake(folder))
            again.open([0])
            began = time.perf_counter()
            restored = again.open_alarms()
            seconds.append(time.perf_counter() - began)
        return {"open": 0 if restored is None else len(restored.episodes), "seconds": round(min(seconds), 3)}


def _show(figures: Figures) -> None:
    rows: list[list[Any]] = [
        [
            each["thresholds"],
            each["case"],
            f"{each['rows']:,}",
            f"{each['in_alarm']} %",
            f"{each['best']['without_ms']:.1f}",
            f"{each['fold_best']['without_ms']:.1f}",
            f"{each['best']['with_ms']:.1f}",
            f"{each['best']['more_percent']:.0f} %, {each['best']['with_ms'] - each['best']['without_ms']:.1f}",
        ]
        for each in figures["cases"]
    ]
    show(
        f"Alarms and thresholds of {PATIENT_COUNT:,} patients, ms of the best micro-batch (wanted: at most "
        f"{TARGET_PERCENT:.0f} % more of {LARGE:,} rows, {TARGET_SMALL_MS:.0f} ms of {SMALL:,})",
        ("thresholds", "readings of", "rows", "in alarm", "neither", "thresholds", "and alarms", "more: %, ms"),
        rows,
    )
    one = figures["of_one"]
    say(
        f"A batch of {one['rows']:,} readings of one patient who flaps has {one['transitions']:,} transitions: "
        f"{one['us_a_reading']:.1f} µs of the processors' time more for each reading (wanted: {TARGET_OF_ONE_US:.0f})."
    )
    restored = figures["restored"]
    say(
        f"A session restores {restored['open']:,} open alarms in {restored['seconds']:.2f} s "
        f"(wanted: 20,000 in {TARGET_RESTORE_S:.0f} s)."
    )


if __name__ == "__main__":
    run()
