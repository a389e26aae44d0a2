"""What must hold of a stream's tables on one ingest date. Counts only: no reading ever leaves the lake here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import polars as pl

from assets.stream.store import StreamStore

MAX_QUARANTINE_SHARE = 0.05
MAX_SILENCE = timedelta(minutes=15)


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    table: str
    name: str
    passed: bool
    description: str
    counts: Mapping[str, float] = field(default_factory=dict)
    is_error: bool = True


def evaluate(store: StreamStore, day: date, now: datetime) -> list[Finding]:
    """All checks of a stream for one ingest date, freshness only for today; `DESCRIPTIONS` says what each means."""
    of_day = pl.col("ingest_date") == day
    bronze, silver, quarantine = (
        table.scan().filter(of_day) for table in (store.bronze, store.silver, store.quarantine)
    )
    findings = [
        _reconcile(bronze, silver, quarantine, store.duplicates(day)),
        _continuity(store.bronze.scan(), day),
        _unique_keys(store.silver.scan(), day, [*store.contract.keys, "measured_at"]),
        _quarantine_share(bronze, quarantine),
    ]
    return [*findings, _freshness(silver, now)] if day == now.date() else findings


DESCRIPTIONS: Mapping[tuple[str, str], str] = {
    ("silver", "counts_reconcile"): "Readings in bronze = silver + quarantine + duplicates, of one ingest date.",
    (
        "bronze",
        "sequence_continuity",
    ): "Bronze has every sequence number of every partition once, on one ingest date and since the one before.",
    ("silver", "keys_unique"): "No reading of one ingest date shares its key with another, of whatever date.",
    ("quarantine", "quarantine_share"): f"At most {MAX_QUARANTINE_SHARE:.0%} of the readings are in quarantine.",
    ("silver", "freshness"): f"The newest reading was received within {MAX_SILENCE.seconds // 60} minutes.",
}


def _finding(table: str, name: str, passed: bool, counts: Mapping[str, float], *, is_error: bool = True) -> Finding:
    return Finding(table, name, passed, DESCRIPTIONS[table, name], counts, is_error)


def _reconcile(bronze: pl.LazyFrame, silver: pl.LazyFrame, quarantine: pl.LazyFrame, duplicates: int) -> Finding:
    readings, in_silver, in_quarantine = (
        int(frame.collect().item())
        for frame in (
            bronze.select(pl.col("reading_count").sum()),
            silver.select(pl.len()),
            quarantine.select(pl.len()),
        )
    )
    difference = readings - in_silver - in_quarantine - duplicates
    counts = {"bronze": readings, "silver": in_silver, "quarantine": in_quarantine, "duplicates": duplicates}
    return _finding("silver", "counts_reconcile", difference == 0, counts | {"difference": difference})


def _continuity(all_bronze: pl.LazyFrame, day: date) -> Finding:
    """Compares with the day before too: between two sessions at midnight nothing may be lost either."""
    number = pl.col("sequence_number")
    last_day = all_bronze.filter(pl.col("ingest_date") < day).filter(
        pl.col("ingest_date") == pl.col("ingest_date").max()
    )
    found = (
        all_bronze.filter(pl.col("ingest_date") == day)
        .group_by("partition")
        .agg(events=pl.len(), distinct=number.n_unique(), first=number.min(), last=number.max())
        .join(last_day.group_by("partition").agg(before=number.max()), on="partition", how="left")
        .with_columns(start=pl.col("before").fill_null(pl.col("first") - 1) + 1)
        .select(
            missing=(pl.col("last") - pl.col("start") + 1 - pl.col("distinct")).clip(0).sum(),
            doubled=(pl.col("events") - pl.col("distinct") + (pl.col("start") - pl.col("first")).clip(0)).sum(),
        )
        .collect()
        .row(0)
    )
    missing, doubled = (int(count) for count in found)
    return _finding("bronze", "sequence_continuity", missing == doubled == 0, {"missing": missing, "doubled": doubled})


def _unique_keys(all_silver: pl.LazyFrame, day: date, key: list[str]) -> Finding:
    """Compares with rows of other ingest dates too: a late repeat comes in on another day."""
    is_of_day = pl.col("ingest_date") == day
    dates = all_silver.filter(is_of_day).select(pl.col("event_date").unique()).collect().to_series()
    repeated = (
        all_silver.filter(pl.col("event_date").is_in(dates.implode()))
        .group_by(key)
        .agg(rows=pl.len(), is_of_day=is_of_day.any())
        .filter((pl.col("rows") > 1) & pl.col("is_of_day"))
        .select(pl.len())
        .collect(engine="streaming")
        .item()
    )
    return _finding("silver", "keys_unique", repeated == 0, {"repeated_keys": int(repeated)})


def _quarantine_share(bronze: pl.LazyFrame, quarantine: pl.LazyFrame) -> Finding:
    readings = int(bronze.select(pl.col("reading_count").sum()).collect().item())
    quarantined = int(quarantine.select(pl.len()).collect().item())
    share = quarantined / readings if readings else 0.0
    counts = {"readings": readings, "quarantined": quarantined, "share": share}
    return _finding("quarantine", "quarantine_share", share <= MAX_QUARANTINE_SHARE, counts, is_error=False)


def _freshness(silver: pl.LazyFrame, now: datetime) -> Finding:
    newest = silver.select(pl.col("received_at").max()).collect().item()
    age = (now - newest).total_seconds() if newest else None
    passed = age is not None and age <= MAX_SILENCE.total_seconds()
    return _finding("silver", "freshness", passed, {} if age is None else {"age_seconds": age}, is_error=False)
