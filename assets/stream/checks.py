"""What must hold of a stream's tables on one ingest date. Counts only: no reading ever leaves the lake here."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta

import polars as pl

from assets.archived import archived
from assets.stream.alarm_checks import DESCRIPTIONS, alarm_findings
from assets.stream.contract import POSITION, Child, Contract
from assets.stream.findings import RECENT, Finding
from assets.stream.log import HubPartition, Offsets, hub_epoch, is_beyond
from assets.stream.slices import slices
from assets.stream.store import StreamStore, between
from resources.lake import LakeTable

MAX_QUARANTINE_SHARE = 0.05
SLICE_ROWS = 2_000_000
"""How many rows are compared at once, and those of a minute more."""

PER_ROW = pl.len()
COUNTED_AGAIN = 5
"""How often it is tried to count between two commits, which are two seconds apart."""


def evaluate(
    store: StreamStore, day: date, now: datetime, *, recent: bool = False, at_work: bool = False
) -> list[Finding]:
    """All checks of a stream for one ingest date, freshness only for today; `descriptions` says what each means.

    Args:
        store: the stream's tables.
        day: the ingest date.
        now: the time.
        recent: look for repeats only where readings of the last half hour have a part in it. Sessions do so, one after
            the other; it costs much less than the whole day.
        at_work: a session may commit meanwhile, so readings are counted as far as silver has come.
    """
    of_day = pl.col("ingest_date") == day
    silver = store.silver.scan().filter(of_day)
    since = now - RECENT if recent else None
    readings = _readings(store.bronze, day, pl.col("reading_count").sum())
    quarantined = _readings(store.quarantine, day)
    reconciled = (
        _reconciled_meanwhile(store, day)
        if at_work
        else _reconcile(readings, _readings(store.silver, day), quarantined, store.duplicates(day), store.skipped(day))
    )
    findings = [
        reconciled,
        _continuity(store, day, since),
        _unique_keys(store, day, since),
        _quarantine_share(readings, quarantined),
        _all_published(store, day),
    ]
    findings += [each for child in store.contract.children for each in _children(store, child, day, since)]
    findings += alarm_findings(store, day, now, recent=recent)
    max_silence = store.contract.max_silence
    if day != now.date() or max_silence is None:
        return findings
    return [*findings, _freshness(silver, now, max_silence)]


def descriptions(contract: Contract) -> dict[tuple[str, str], str]:
    """What each check of a stream means, by the role of its table and its name."""
    of_children = {
        (child.role, name): description for child in contract.children for name, description in _OF_CHILDREN.items()
    }
    of_all = {**_DESCRIPTIONS} | of_children | ({} if contract.alarms is None else {**DESCRIPTIONS})
    if contract.max_silence is None:
        return of_all
    minutes = contract.max_silence.total_seconds() / 60
    silence = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.0f} hours"
    return of_all | {("silver", "freshness"): f"The newest reading was received within {silence}."}


_PARENTS, _COUNTS = "parents_exist", "counts_match_parents"
_OF_CHILDREN = {
    _PARENTS: "Each row of one ingest date is part of a reading that is in silver.",
    _COUNTS: "Each reading of one ingest date has as many rows as it says.",
}
_DESCRIPTIONS: Mapping[tuple[str, str], str] = {
    (
        "silver",
        "counts_reconcile",
    ): "Readings in bronze = silver + quarantine + duplicates + skipped, of one ingest date, and there are some.",
    (
        "bronze",
        "sequence_continuity",
    ): "Bronze has every sequence number of every partition once, on one ingest date and since the one before; of hubs "
    "whose numbers have gaps, such as Kafka, none twice.",
    ("silver", "keys_unique"): "No reading of one ingest date shares its key with another, of whatever date.",
    ("quarantine", "quarantine_share"): f"At most {MAX_QUARANTINE_SHARE:.0%} of the readings are in quarantine.",
    (
        "alerts",
        "all_published",
    ): "No stored alert waits for the alerts hub to take it, and there is none of this date that it will never take.",
}


def _finding(table: str, name: str, passed: bool, counts: Mapping[str, float], *, is_error: bool = True) -> Finding:
    return Finding(table, name, passed, counts, is_error)


def _total(rows: pl.LazyFrame, what: pl.Expr) -> int:
    return int(rows.select(what).collect(engine="streaming").item())


def _readings(table: LakeTable, day: date, what: pl.Expr = PER_ROW, reached: Offsets | None = None) -> int:
    """The readings of a day in a table or, where retention removed them, as they were counted then."""
    if record := archived(table.lake, table).get(day):
        return record.rows if record.readings is None else record.readings
    of_day = table.scan().filter(pl.col("ingest_date") == day)
    return _total(of_day if reached is None else of_day.filter(~is_beyond(reached)), what)


def _reconciled_meanwhile(store: StreamStore, day: date) -> Finding:
    """Counts up to where silver is. Its log has only sums of duplicates: if it goes on meanwhile, it counts again."""
    readings = pl.col("reading_count").sum()
    for _ in range(COUNTED_AGAIN):
        store.look()
        reached = store.offsets("silver")
        found = _reconcile(
            _readings(store.bronze, day, readings, reached),
            _readings(store.silver, day, reached=reached),
            _readings(store.quarantine, day, reached=reached),
            store.duplicates(day),
            store.skipped(day),
        )
        store.look()
        if store.offsets("silver") == reached:
            break
    return found


def _reconcile(readings: int, in_silver: int, in_quarantine: int, duplicates: int, skipped: int) -> Finding:
    difference = readings - in_silver - in_quarantine - duplicates - skipped
    counts = {"bronze": readings, "silver": in_silver, "quarantine": in_quarantine, "duplicates": duplicates}
    if skipped:
        counts["skipped"] = skipped
    # Nothing equals nothing proves nothing: the rows may be under another date, for instance of a clock that was ahead.
    is_proved = difference == 0 and readings > 0
    return _finding(
        "silver", "counts_reconcile", is_proved, counts | {"difference": difference}, is_error=difference != 0
    )


def _all_published(store: StreamStore, day: date) -> Finding:
    waiting, set_aside = store.has_unpublished(), store.set_aside(day)
    counts = {"waiting": int(waiting), "set_aside": set_aside}
    return _finding("alerts", "all_published", not (waiting or set_aside), counts, is_error=False)


def _continuity(store: StreamStore, day: date, since: datetime | None) -> Finding:
    """Compares with the day before too: between two sessions at midnight nothing may be lost either.

    Of what was pulled before `since` only the number of events is compared with the span of their numbers.
    """
    bronze = store.bronze.scan().with_columns(hub_epoch)
    number, pulled_at = pl.col("sequence_number"), pl.col("pulled_at")
    of_day = bronze.filter(pl.col("ingest_date") == day)
    last: Offsets = {}
    earlier = [each for each in store.bronze.dates("ingest_date") if each < day]
    gone = archived(store.bronze.lake, store.bronze)
    # Where a day between the two was archived, the numbers do not follow on one another.
    if earlier and not any(earlier[-1] < each < day for each in gone):
        last = _reached(bronze.filter(pl.col("ingest_date") == earlier[-1]), number.max())
    counts = {"missing": 0, "doubled": 0}
    if not store.log.is_read:
        store.look()
    if since is not None:
        _count_numbers(store, of_day.filter(pulled_at < since), last, counts, distinct=pl.len())
    for rows in slices(of_day if since is None else of_day.filter(pulled_at >= since), "pulled_at", SLICE_ROWS):
        _count_numbers(store, rows, last, counts, distinct=number.n_unique())
    return _finding("bronze", "sequence_continuity", not any(counts.values()), counts)


def _count_numbers(
    store: StreamStore, rows: pl.LazyFrame, last: Offsets, counts: dict[str, int], distinct: pl.Expr
) -> None:
    """Adds what is missing or doubled among events that were pulled after others, and moves `last` on.

    Nothing counts as missing where the hub's numbers have gaps.
    """
    number = pl.col("sequence_number")
    found = (
        rows.group_by("hub_epoch", "partition", is_new=is_beyond(last))
        .agg(events=pl.len(), distinct=distinct, first=number.min(), last=number.max())
        .collect(engine="streaming")
    )
    for epoch, number_of_partition, is_new_number, events, different, first, end in found.iter_rows():
        partition = HubPartition(epoch, number_of_partition)
        if not is_new_number:
            counts["doubled"] += events
            continue
        span = end - last.get(partition, first - 1)
        if not store.log.has_gaps(epoch):
            counts["missing"] += max(0, span - different)
        counts["doubled"] += events - min(different, span)
        last[partition] = end


def _unique_keys(store: StreamStore, day: date, since: datetime | None) -> Finding:
    """Compares with rows of other ingest dates too: a late repeat comes in on another day."""
    key = [*store.contract.keys, "measured_at"]
    silver, is_new = store.silver.scan(), pl.col("ingest_date") == day
    if since is not None:
        is_new &= _pulled_since(store, day, since)
    repeated = 0
    for rows in slices(silver.filter(is_new), "measured_at", SLICE_ROWS):
        new = rows.select(key).collect(engine="streaming")
        within = pl.col("measured_at").is_between(new["measured_at"].min(), new["measured_at"].max())
        others = silver.filter(~is_new, within).select(key).join(new.lazy(), on=key, how="semi", nulls_equal=True)
        among_new = new.lazy().group_by(key).len().filter(pl.col("len") > 1).select(key)
        repeated += _total(pl.concat([others, among_new]).unique(), pl.len())
    return _finding("silver", "keys_unique", repeated == 0, {"repeated_keys": repeated})


def _pulled_since(store: StreamStore, day: date, since: datetime) -> pl.Expr:
    pulled = store.bronze.scan().filter(pl.col("ingest_date") == day, pl.col("pulled_at") >= since)
    before = _reached(pulled, pl.col("sequence_number").min() - 1)
    is_of_these = (
        (hub_epoch == each.epoch) & (pl.col("partition") == each.number) & is_beyond({each: last})
        for each, last in before.items()
    )
    return pl.any_horizontal(pl.lit(False), *is_of_these)


def _reached(rows: pl.LazyFrame, number: pl.Expr) -> Offsets:
    """A sequence number for each partition that has rows."""
    found = rows.group_by(hub_epoch, "partition").agg(number).collect(engine="streaming")
    return {HubPartition(epoch, partition): each for epoch, partition, each in found.iter_rows()}


def _quarantine_share(readings: int, quarantined: int) -> Finding:
    share = quarantined / readings if readings else 0.0
    counts = {"readings": readings, "quarantined": quarantined, "share": share}
    return _finding("quarantine", "quarantine_share", share <= MAX_QUARANTINE_SHARE, counts, is_error=False)


def _children(store: StreamStore, child: Child, day: date, since: datetime | None) -> list[Finding]:
    """Compares the rows of a child table with the readings that they are part of."""
    store.look()
    # Children are committed first: what is behind silver's offsets has no readings yet.
    is_compared = (pl.col("ingest_date") == day) & between({}, store.offsets("silver"))
    if since is not None:
        is_compared &= _pulled_since(store, day, since)
    tables = (store.silver, store.tables[child.role])
    readings, rows = (table.scan().filter(is_compared).with_columns(hub_epoch) for table in tables)
    parts = rows.group_by(POSITION).len("rows")
    said = readings.select(*POSITION, said=child.count)
    found = parts.join(said, on=POSITION, how="full", coalesce=True).select(
        orphans=pl.col("said").is_null().sum(),
        unlike=(pl.col("said") != pl.col("rows").fill_null(0)).sum(),
    )
    [(orphans, unlike)] = found.collect(engine="streaming").iter_rows()
    return [
        _finding(child.role, _PARENTS, orphans == 0, {"readings_without_parent": orphans}),
        _finding(child.role, _COUNTS, unlike == 0, {"readings_with_other_counts": unlike}),
    ]


def _freshness(silver: pl.LazyFrame, now: datetime, max_silence: timedelta) -> Finding:
    newest = silver.select(pl.col("received_at").max()).collect(engine="streaming").item()
    age = (now - newest).total_seconds() if newest else None
    passed = age is not None and age <= max_silence.total_seconds()
    return _finding("silver", "freshness", passed, {} if age is None else {"age_seconds": age}, is_error=False)
