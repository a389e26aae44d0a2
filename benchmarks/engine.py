"""How fast micro-batches go through decode, clean, dedupe, windows and rules in memory, beside bare libraries.

Reads and writes no table. The references do less than the engine: msgspec only decodes the same bodies into a list;
Polars only parses the same lines and the timestamps, averages each patient's last ten minutes and filters.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import islice
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
import polars as pl

from assets.glucose.assets import CONTRACT
from assets.glucose.contract import GlucosePayload
from assets.stream.cleaning import POSITIONS
from assets.stream.decode import Decoded
from assets.stream.enrichment import References
from assets.stream.known import Known
from assets.stream.process import Outcome, Processor
from benchmarks.report import Figures, say, show
from generator.events import Event
from generator.streams import glucose_events

START = datetime(2026, 11, 1, tzinfo=UTC)
LARGE, SMALL = 100_000, 1000
GROUP = 5
TARGET_ROWS_S, TARGET_SMALL_MS = 1_000_000, 10.0
THRESHOLD_MG_DL = 115.0

Step = Callable[[Sequence[bytes]], object]


class Case(NamedTuple):
    """Batches of synthetic readings; the first `warm` of them fill the state and are not measured."""

    name: str
    patients: int
    spacing: timedelta
    rows: int
    warm: int
    measured: int
    is_troubled: bool = False
    in_turn: int = 0

    def batches(self) -> list[list[bytes]]:
        shares: dict[str, Any] = {} if self.is_troubled else {"repeats": 0, "late": 0, "variations": 0, "gaps": 0}
        events: islice[Event] = islice(
            glucose_events(start=START, spacing=self.spacing, patients=self.patients, seed=7, **shares),
            self.rows * (self.warm + self.measured + self.in_turn),
        )
        bodies = [event.body for event in events]
        return [bodies[first : first + self.rows] for first in range(0, len(bodies), self.rows)]


def cases(quick: bool) -> list[Case]:
    """With `quick` the state at one reading a second is not filled."""
    five_minutes, second = timedelta(minutes=5), timedelta(seconds=1)
    count, small = (3, 20) if quick else (15, 200)
    return [
        Case("1,000 patients every 5 min", 1000, five_minutes, LARGE, 1, count, in_turn=count),
        Case("10,000 patients every 5 min", 10_000, five_minutes, LARGE, 1, count, in_turn=count),
        Case("1,000 every 5 min, 1 % late, 1 % repeated, 3 % varied", 1000, five_minutes, LARGE, 1, count, True, count),
        Case("1,000 patients every second", 1000, second, LARGE, 1 if quick else 7, count, in_turn=count),
        Case("1,000 patients every 5 min", 1000, five_minutes, SMALL, 5, small),
    ]


def run(*, quick: bool = False) -> Figures:
    """Each case: engine and references in turn, batch by batch."""
    figures: Figures = {"large": [], "small": []}
    for case in cases(quick):
        say(f"  {case.rows:,} rows a batch, {case.name}")
        figures["small" if case.rows == SMALL else "large"].append(_measure(case))
    _show(figures)
    return figures


def _measure(case: Case) -> Figures:
    with TemporaryDirectory(prefix="bench-") as folder:
        return _measured(case, Engine(Path(folder)))


def _measured(case: Case, engine: "Engine") -> Figures:
    steps: dict[str, Step] = {"engine": engine.process, "msgspec": _decode_only, "polars": _polars_only}
    taken: dict[str, list[float]] = {name: [] for name in steps}
    batches = case.batches()
    for number, bodies in enumerate(batches[: case.warm + case.measured]):
        for name, step in steps.items():
            seconds = _timed(step, bodies) if number >= case.warm or name == "engine" else 0.0
            if number >= case.warm:
                taken[name].append(seconds)
        engine.forget()
    overlapped = [_overlapped(engine, some) for some in _groups(batches[case.warm + case.measured :])]
    return {
        "case": case.name,
        "overlapped_rows_s": round(case.rows / median(overlapped)) if overlapped else None,
        "rows": case.rows,
        "known_rows": engine.known_rows,
        "alerts_per_100_rows": round(100 * engine.alerts / engine.readings),
        **{name: _figures(case.rows, seconds) for name, seconds in taken.items()},
    }


def _groups(batches: list[list[bytes]]) -> list[list[list[bytes]]]:
    return [batches[first : first + GROUP] for first in range(0, len(batches), GROUP)]


def _overlapped(engine: "Engine", batches: list[list[bytes]]) -> float:
    """Seconds for each of some batches, each decoded while the one before is processed, as in a session."""
    seconds = _timed(engine.run, batches) / len(batches)
    engine.forget()
    return seconds


def _timed(step: Callable[[Any], object], bodies: Sequence[Any]) -> float:
    began = time.perf_counter()
    step(bodies)
    return time.perf_counter() - began


def _figures(rows: int, seconds: list[float]) -> dict[str, float]:
    return {
        "rows_s": round(rows / median(seconds)),
        "best_rows_s": round(rows / min(seconds)),
        "median_ms": round(1000 * median(seconds), 2),
        "p95_ms": round(1000 * quantiles(seconds, n=20)[-1], 2),
    }


class Engine:
    """A processor with its state; what it has produced lies in files, where late readings are looked up."""

    def __init__(self, folder: Path, references: References | None = None) -> None:
        self._folder = folder
        self._known = Known(CONTRACT, lambda: self._scan("silver"), lambda: self._scan("alerts"), newest=None)
        self._processor = Processor(CONTRACT, self._known, references)
        self._produced: list[Outcome] = []
        self.events = self.readings = self.alerts = 0

    @property
    def known_rows(self) -> int:
        return self._known.rows

    def process(self, bodies: Sequence[bytes], decoded: Decoded | None = None) -> None:
        outcome = self._processor.process(self._positions(len(bodies)), bodies, decoded)
        self._produced.append(outcome)
        self.events += len(bodies)
        self.readings += outcome.silver.height
        self.alerts += outcome.alerts.height

    def run(self, batches: Sequence[Sequence[bytes]]) -> None:
        """Decodes the next batch while one is processed."""
        with ThreadPoolExecutor(1) as processing:
            last = None
            for bodies in batches:
                decoded = self._processor.decode(self._positions(len(bodies)), bodies)
                if last is not None:
                    last.result()
                last = processing.submit(self.process, bodies, decoded)

    def forget(self) -> None:
        """What a commit is and is followed by."""
        for outcome in self._produced:
            outcome.silver.write_parquet(self._folder / f"silver-{self.events:09}.parquet")
            outcome.alerts.write_parquet(self._folder / f"alerts-{self.events:09}.parquet")
        self._produced = []
        self._known.mark_stored()

    def _scan(self, layer: str) -> pl.LazyFrame:
        files = sorted(self._folder.glob(f"{layer}-*.parquet"))
        schemas = {table.layer: table.schema for table in CONTRACT.tables}
        return pl.scan_parquet(files) if files else pl.LazyFrame(schema=schemas[layer])

    def _positions(self, count: int) -> pl.DataFrame:
        pulled_at = START + timedelta(days=365, microseconds=self.events)
        numbers = pl.int_range(self.events, self.events + count, eager=True).alias("sequence_number")
        same = {"partition": 0, "received_at": pulled_at, "pulled_at": pulled_at, "hub_epoch": 0}
        columns = {
            name: pl.Series([same.get(name)], dtype=dtype).new_from_index(0, count) for name, dtype in POSITIONS.items()
        }
        return pl.DataFrame(columns | {numbers.name: numbers})


_decoder = msgspec.json.Decoder(GlucosePayload)


def _decode_only(bodies: Sequence[bytes]) -> list[GlucosePayload]:
    return list(map(_decoder.decode, bodies))


def _polars_only(bodies: Sequence[bytes]) -> pl.DataFrame:
    """What a script without guarantees would do: no state, no repeats, no reasons, no alert ids."""
    rows = pl.read_ndjson(BytesIO(b"\n".join(bodies)), infer_schema_length=SMALL, ignore_errors=True)
    return (
        rows.with_columns(
            pl.col("timestamp").cast(pl.String).str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False),
            pl.col("glucose_level").cast(pl.Float64, strict=False),
        )
        .drop_nulls("timestamp")
        .sort("patient_id", "timestamp")
        .with_columns(
            mean_10_min=pl.col("glucose_level").rolling_mean_by("timestamp", window_size="10m").over("patient_id")
        )
        .filter((pl.col("glucose_level") > THRESHOLD_MG_DL) | (pl.col("mean_10_min") > THRESHOLD_MG_DL))
    )


def _show(figures: Figures) -> None:
    engine, references = "engine", ("msgspec", "polars")
    show(
        f"Engine, {LARGE:,} rows a batch (wanted: {TARGET_ROWS_S:,} rows/s)",
        ("", "known rows", "alerts/100", "overlapped", "alone", "best", *(f"{name} only" for name in references)),
        [
            [
                each["case"],
                f"{each['known_rows']:,}",
                f"{each['alerts_per_100_rows']}",
                f"{each['overlapped_rows_s']:,}",
                f"{each[engine]['rows_s']:,}",
                f"{each[engine]['best_rows_s']:,}",
                *(f"{each[name]['rows_s']:,}" for name in references),
            ]
            for each in figures["large"]
        ],
    )
    show(
        f"Engine, {SMALL:,} rows a batch (wanted: below {TARGET_SMALL_MS:.0f} ms)",
        ("", "median ms", "p95 ms"),
        [
            [f"{each['case']}: {name}", f"{each[name]['median_ms']:.1f}", f"{each[name]['p95_ms']:.1f}"]
            for each in figures["small"]
            for name in (engine, *references)
        ],
    )


if __name__ == "__main__":
    run()
