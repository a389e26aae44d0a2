"""What alarms cost: two processors in turn, one of which has thresholds of patients by hour and folds alarms.

Readings arrive seconds after they were measured, so that all of them count. Then how long a session takes to restore
many open alarms.
"""

import re
import time
from collections.abc import Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import polars as pl

from assets.alarms.episodes import Episodes
from assets.glucose.assets import CONTRACT
from assets.reference_store import put_rules
from assets.stream.alarming import Alarming
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

TARGET_PERCENT, TARGET_SMALL_MS, TARGET_RESTORE_S = 40.0, 5.0, 2.0
OPEN_ALARMS = 20_000
DELAY, FIVE_MINUTES = timedelta(seconds=5), timedelta(minutes=5)


class _Body(msgspec.Struct):
    timestamp: str


_decode = msgspec.json.Decoder(_Body).decode


class _Live(Engine):
    """A processor whose readings arrive shortly after they were measured."""

    def __init__(self, folder: Path, references: References | None, alarming: Alarming | None) -> None:
        super().__init__(folder, references)
        self._processor.alarming = alarming
        self._received: pl.Series | None = None
        self.alarms = 0

    def expect(self, bodies: Sequence[bytes]) -> None:
        """Notes when events arrive, outside the time that is measured."""
        texts = pl.DataFrame({"timestamp": [_decode(body).timestamp for body in bodies]})
        frame = texts.select(timestamp=pl.lit(None, pl.Float64), timestamp_text="timestamp")
        self._received = instants(frame, "timestamp") + DELAY

    def process(self, bodies: Sequence[bytes], decoded: Decoded | None = None) -> None:
        super().process(bodies, decoded)
        self.alarms += self._produced[-1].rows["alarms"].filter(pl.col("kind") == "raised").height

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
        Case("10,000 patients every 5 min", 10_000, five_minutes, LARGE, 2, count),
        Case("1,000 patients every 5 min", 1_000, five_minutes, LARGE, 2, count),
        Case("10,000 patients every 5 min", 10_000, five_minutes, SMALL, 20, 20 if quick else 300),
        Case("1,000 patients every second", 1_000, second, SMALL, 20, 20 if quick else 300),
    ]


def run(*, quick: bool = False) -> Figures:
    """Each case with rules of patients and alarms, and without both."""
    figures: Figures = {"cases": []}
    with TemporaryDirectory(prefix="bench-") as folder, TemporaryDirectory(prefix="bench-") as without:
        lakes = {"with": Lake(folder), "without": Lake(without)}
        for lake in lakes.values():
            load_patients(lake)
        put_rules(lakes["with"], [CONTRACT], own_rules(), valid_from=LONG_AGO, clock=long_ago)
        references = {name: References(CONTRACT, lake) for name, lake in lakes.items()}
        for each in references.values():
            refreshed(each)
        for case in cases(quick):
            say(f"  {case.rows:,} rows a batch, {case.name}")
            figures["cases"].append(_measured(case, references))
    figures["restored"] = _restored(2_000 if quick else OPEN_ALARMS)
    _show(figures)
    return figures


def _measured(case: Case, references: dict[str, References]) -> Figures:
    with TemporaryDirectory(prefix="bench-") as first, TemporaryDirectory(prefix="bench-") as second:
        episodes = Episodes(CONTRACT.stream)
        engines = {
            "with": _Live(Path(first), references["with"], Alarming(CONTRACT, episodes)),
            "without": _Live(Path(second), references["without"], None),
        }
        taken = by_turns(engines, case, lambda engine, bodies: engine.expect(bodies))
        figures: Figures = {
            "case": case.name,
            "rows": case.rows,
            "raised": engines["with"].alarms,
            "open": len(episodes),
        }
    return figures | compared(taken)


def _restored(count: int) -> Figures:
    """A session's start with many open alarms, and who was seen lately: seconds of the best of three."""
    with TemporaryDirectory(prefix="bench-") as folder:
        store = StreamStore(CONTRACT, Lake(folder))
        store.open([0])
        alarming = Alarming(CONTRACT, Episodes(CONTRACT.stream))
        engine = _Live(Path(folder), None, alarming)
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
            each["case"],
            f"{each['rows']:,}",
            f"{each['raised']:,}",
            what,
            f"{each[what]['without_ms']:.1f}",
            f"{each[what]['with_ms']:.1f}",
            f"{each[what]['more_percent']:.1f}",
        ]
        for each in figures["cases"]
        for what in ("median", "best")
    ]
    show(
        f"Alarms and rules of {PATIENT_COUNT:,} patients (wanted: at most {TARGET_PERCENT:.0f} % more of {LARGE:,} "
        f"rows, {TARGET_SMALL_MS:.0f} ms of {SMALL:,})",
        ("readings of", "rows a batch", "raised", "", "without, ms", "with, ms", "more, %"),
        rows,
    )
    restored = figures["restored"]
    say(
        f"A session restores {restored['open']:,} open alarms in {restored['seconds']:.2f} s "
        f"(wanted: 20,000 in {TARGET_RESTORE_S:.0f} s)."
    )


if __name__ == "__main__":
    run()
