"""The page that says how good the data of a day are: what came, what was refused and why, how soon, and the checks.

It holds counts, and names of tables, columns, checks and reasons; no value of a reading and no body. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from assets.pages import BAD, GOOD, bars, folded, page, section, shown, table, tiles, verdict

MAX_REASONS = 6
"""How many reasons of a table are shown; the others are added up."""
_NAME = pl.col("stream").str.replace_all("_", " ")


@dataclass(frozen=True)
class Check:
    """What a check of a table found.

    Attributes:
        table: its name.
        name: of the check.
        passed: whether all is well.
        found: in words.
        meaning: what it compares.
    """

    table: str
    name: str
    passed: bool
    found: str
    meaning: str = ""


@dataclass(frozen=True)
class DayOfData:
    """What the page is made of.

    Attributes:
        day: the date on which the data came.
        counts: rows of `report_data_quality`.
        reasons: ``table``, ``reason`` and ``rows``: what is in quarantine.
        lag: rows of `report_ingest_lag`.
        delay: rows of `report_arrival_delay`, of readings that were measured on the day.
        loads: rows of `audit.clinical_loads`.
        checks: of all tables.
    """

    day: date
    counts: pl.DataFrame
    reasons: pl.DataFrame
    lag: pl.DataFrame
    delay: pl.DataFrame
    loads: pl.DataFrame
    checks: Sequence[Check]


def quality_page(of: DayOfData, written_at: datetime) -> str:
    """The page of a day, as HTML.

    Args:
        of: what is known of it.
        written_at: when the figures were read, UTC.
    """
    rejected = of.loads.filter("is_rejected")
    problems = [
        *(f"{check.table}: {_words(check.name)}: {check.found}" for check in of.checks if not check.passed),
        *(
            f"{row['source']}: a load of {row['row_count']:,} rows was rejected as a whole: {row['reasons']}"
            for row in rejected.iter_rows(named=True)
        ),
    ]
    readings, kept, refused, repeated = (
        _sum(of.counts, name) for name in ("reading_count", "silver_count", "quarantined_count", "duplicate_count")
    )
    rows, bad = _sum(of.loads, "row_count"), _sum(of.loads, "quarantined_count")
    return page(
        f"Data quality of {of.day:%A}, {of.day.day} {of.day:%B %Y}",
        f"{readings:,} readings came from devices and {rows:,} rows from the hospital's systems. "
        "Nothing that came is thrown away: what is refused is kept apart, with the reason.",
        (
            verdict(f"All is well: {len(of.checks):,} checks passed, and no load was rejected.", problems),
            tiles(
                [
                    ("Readings", f"{readings:,}", f"in {of.counts.height:,} streams"),
                    ("Kept", f"{kept:,}", _share(kept, readings)),
                    ("Refused", f"{refused:,}", _share(refused, readings)),
                    ("Repeats", f"{repeated:,}", _share(repeated, readings)),
                    ("Hospital rows", f"{rows:,}", f"in {of.loads.height:,} loads"),
                    ("Refused rows", f"{bad:,}", _share(bad, rows)),
                ]
            ),
            section(
                "What came from devices",
                "Every reading is kept, refused or recognised as one that had come before.",
                table(
                    of.counts.select(
                        _NAME,
                        readings="reading_count",
                        kept="silver_count",
                        refused="quarantined_count",
                        repeats="duplicate_count",
                        refused_percent="quarantined_percent",
                    ),
                    "Readings by stream",
                ),
            ),
            section(
                "How soon",
                "Seconds from a device's reading to the hub, for readings that were measured on this day, and in the "
                "hub until they were processed.",
                table(_soon(of), "Delays by stream"),
            ),
            section("Why data were refused", "", *_reasons(of.reasons)),
            section(
                "What came from the hospital",
                "Each load of a clinical source.",
                table(
                    of.loads.select(
                        "source",
                        "loaded_at",
                        pl.when("is_rejected").then(pl.lit(BAD)).otherwise(pl.lit(GOOD)).alias("load"),
                        rows="row_count",
                        refused="quarantined_count",
                        reasons="reasons",
                    ),
                    "Loads",
                ),
            ),
            section("Checks", "What must hold of the tables.", *_checks(of.checks)),
        ),
        f"As of {shown(written_at)} UTC. Times are UTC. Counts only: no reading of a patient is on this page.",
    )


def _soon(of: DayOfData) -> pl.DataFrame:
    waits = of.lag.select("stream", "wait_p50_seconds", "wait_p99_seconds", "wait_max_seconds")
    delays = of.delay.select("stream", "delay_p50_seconds", "delay_p95_seconds", "late_percent")
    return (
        waits.join(delays, on="stream", how="full", coalesce=True)
        .sort("stream")
        .select(
            _NAME,
            to_hub_median="delay_p50_seconds",
            to_hub_95_percent="delay_p95_seconds",
            late_percent="late_percent",
            in_hub_median="wait_p50_seconds",
            in_hub_99_percent="wait_p99_seconds",
            in_hub_longest="wait_max_seconds",
        )
    )


def _reasons(reasons: pl.DataFrame) -> list[str]:
    parts = []
    ordered = reasons.sort("rows", "reason", descending=[True, False])
    for (name,), of_table in sorted(ordered.partition_by("table", as_dict=True).items()):
        counts = [(_words(reason), count) for reason, count in of_table.select("reason", "rows").iter_rows()]
        rest = sum(count for _, count in counts[MAX_REASONS:])
        others = [(f"{len(counts) - MAX_REASONS:,} other reasons", rest)] if rest else []
        parts.append(f"<h3>{_heading(str(name))}</h3>{bars([*counts[:MAX_REASONS], *others])}")
    return parts or [bars([])]


def _checks(checks: Sequence[Check]) -> list[str]:
    failed, passed = ([check for check in checks if check.passed is each] for each in (False, True))
    shown_failed = [table(_rows(failed), "Checks that failed")] if failed else []
    what = "check passed" if len(passed) == 1 else "checks passed"
    return [*shown_failed, folded(f"{len(passed):,} {what}", table(_rows(passed), "Checks that passed"))]


def _rows(checks: Sequence[Check]) -> pl.DataFrame:
    ordered = sorted(checks, key=lambda check: (check.table, check.name))
    return pl.DataFrame(
        [(each.table, _words(each.name), GOOD if each.passed else BAD, each.found, each.meaning) for each in ordered],
        schema=["table", "check", "result", "found", "meaning"],
        orient="row",
    )


def _heading(table_name: str) -> str:
    # Names of tables are the system's own.
    return _words(table_name.partition("/")[2])


def _words(name: str) -> str:
    return name.replace("_", " ").replace(":", ": ")


def _sum(rows: pl.DataFrame, name: str) -> int:
    return int(rows[name].sum())


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def in_words(counts: Mapping[str, float]) -> str:
    """What a check counted, such as ``bronze 10, silver 9``."""
    return ", ".join(f"{_words(name)} {shown(value)}" for name, value in counts.items()) or "–"
