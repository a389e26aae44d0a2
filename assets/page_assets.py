"""Pages for people in the lake, as assets: how good the data of each day are, and the reports that are published.

```
<lake>/pages/data_quality/2026-11-29.html
<lake>/pages/clinical_dashboard/2026-11-29.html     and the same rows in 2026-11-29.parquet
```

A date's page is written again until the date is over; then it stays.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import polars as pl

from assets.clinical.assets import repeated_keys
from assets.clinical.contract import Batch
from assets.clinical.sources import LOADS, SOURCES, clinical_tables
from assets.clinical_layers import Silver
from assets.clinical_loads import undeclared_columns
from assets.data_quality import Check, DayOfData, in_words, quality_page
from assets.report_page import report_page
from assets.stream.asset import INGEST_DATES, table_key
from assets.stream.checks import descriptions, evaluate
from assets.stream.contract import Contract
from assets.stream.store import StreamStore
from resources.analytics import Analytics
from resources.dagster_resources import LakeResource
from resources.lake import Lake
from resources.landing import write_page
from resources.reports import Report, build_report, reason, report_analytics, stored_reports
from resources.scans import Dates
from resources.table import Table, View

GROUP = "pages"
FOLDER = "pages"
DATA_QUALITY = dg.AssetKey(["page", "data_quality"])
OF_INGEST_DATE, OF_EVENT_DATE = ("data_quality", "quarantine_by_reason", "ingest_lag"), ("arrival_delay",)
"""The reports of which a date is on the page of data quality; they are built for it."""
NEWEST_DATES, MAX_ROWS = 31, 2_000
"""How many dates and how many rows a published report shows."""


def report_key(report: Report) -> dg.AssetKey:
    """The asset of a report's pages."""
    return dg.AssetKey(["page", report.name])


def data_quality_asset(
    contracts: Sequence[Contract], reports: Sequence[Report], tables: Sequence[Table], views: Sequence[View]
) -> dg.AssetsDefinition:
    """A page for each date on which data came."""
    of_streams = [table for contract in contracts for table in contract.tables]
    of_clinical = [table for each in SOURCES for table in (each.silver, each.quarantine)]

    @dg.asset(
        key=DATA_QUALITY,
        deps=sorted({table_key(table.name) for table in (*of_streams, *of_clinical)}),
        description="How good the data of a day are, for people: what came, what was refused and why, how soon, loads "
        f"of the hospital, and checks. One row is a page, {FOLDER}/data_quality/DATE.html in the lake.",
        group_name=GROUP,
        kinds={"html"},
        partitions_def=INGEST_DATES,
        pool="page__data_quality",
    )
    def data_quality(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
        opened, day = lake.open(), date.fromisoformat(context.partition_key)
        found = day_of_data(opened, day, datetime.now(UTC), contracts, reports, tables, views)
        path = f"{FOLDER}/data_quality/{day}.html"
        write_page(opened, path, quality_page(found, datetime.now(UTC)))
        failed = sum(not check.passed for check in found.checks)
        return dg.MaterializeResult(
            metadata={"page": path, "loads": found.loads.height, "checks": len(found.checks), "failed_checks": failed}
        )

    return data_quality


def day_of_data(
    lake: Lake,
    day: date,
    now: datetime,
    contracts: Sequence[Contract],
    reports: Sequence[Report],
    tables: Sequence[Table],
    views: Sequence[View],
) -> DayOfData:
    """What there is to say of a date; only rows of that date are read, also by the reports."""
    analytics, by_name = report_analytics(lake, tables, views), {report.name: report for report in reports}

    def built(column: str, name: str) -> pl.DataFrame:
        of_day = replace(analytics, dates=Dates(column, frozenset({day})))
        return build_report(of_day, by_name[name]).filter(pl.col(column) == day)

    counts, reasons, lag = (built("ingest_date", name) for name in OF_INGEST_DATE)
    [delay] = (built("event_date", name) for name in OF_EVENT_DATE)
    loads = report_analytics(lake, clinical_tables(), [LOADS]).query(
        f"FROM {LOADS.sql_name} WHERE load_date = DATE '{day}' ORDER BY loaded_at, source"
    )
    of_streams = reasons.select("reason", table=pl.lit("quarantine/") + pl.col("stream"), rows="quarantined_count")
    return DayOfData(
        day,
        counts,
        pl.concat([of_streams.select("table", "reason", "rows"), _clinical_reasons(lake, day)]),
        lag,
        delay,
        loads,
        [*_checks_of_streams(lake, day, now, contracts), *_clinical_checks(lake)],
    )


def _checks_of_streams(lake: Lake, day: date, now: datetime, contracts: Sequence[Contract]) -> Iterator[Check]:
    for contract in contracts:
        store, meanings = StreamStore(contract, lake), descriptions(contract)
        if day not in store.bronze.dates("ingest_date"):
            continue
        # Sessions looked at all of today before; what they found is in Dagster.
        for found in evaluate(store, day, now, recent=day == now.date(), at_work=True):
            table = contract.tables[found.table].name
            meaning = meanings.get((found.table, found.name), "")
            yield Check(table, found.name, found.passed, in_words(found.counts), meaning)


def _clinical_checks(lake: Lake) -> Iterator[Check]:
    """Of the tables as they stand."""
    for batch in (each for each in SOURCES if lake.table(each.bronze).exists()):
        yield from checks_of(lake, batch)


def checks_of(lake: Lake, batch: Batch) -> list[Check]:
    """What there is to say of a source's tables as they stand."""
    undeclared, repeated = sorted(undeclared_columns(lake, batch)), repeated_keys(lake, batch)
    behind = Silver(lake, batch).is_due()
    return [
        Check(
            batch.bronze.name,
            "columns_as_declared",
            not undeclared,
            ", ".join(undeclared) or "as declared",
            "The source has no columns that its declaration has not.",
        ),
        Check(
            batch.silver.name,
            "keys_unique",
            repeated == 0,
            f"{repeated:,} rows with the key of another",
            "No two rows have the same key.",
        ),
        Check(
            batch.silver.name,
            "up_to_date",
            not behind,
            "behind bronze" if behind else "as bronze",
            "All that was loaded is in silver or in quarantine.",
        ),
    ]


def _clinical_reasons(lake: Lake, day: date) -> pl.DataFrame:
    """How many rows of a load date are in quarantine for which reason."""
    counted = [
        lake.table(each.quarantine)
        .scan()
        .filter(pl.col("load_date") == day)
        .group_by("reason")
        .agg(rows=pl.len().cast(pl.Int64))
        .select("reason", "rows", table=pl.lit(each.quarantine.name))
        for each in SOURCES
    ]
    return pl.concat(counted).select("table", "reason", "rows").collect()


def report_pages(reports: Sequence[Report], tables: Sequence[Table]) -> list[dg.AssetsDefinition]:
    """The reports that say that they are published daily, each as a page and as Parquet."""
    return [_report_page(report, tables) for report in reports if report.is_published]


def _report_page(report: Report, tables: Sequence[Table]) -> dg.AssetsDefinition:
    key = report_key(report)

    @dg.asset(
        key=key,
        deps=[table_key(report.table_name)],
        description=f"The newest rows of the report, for people: {report.question} "
        f"{FOLDER}/{report.name}/DATE.html and .parquet in the lake, one of each a day.",
        group_name=GROUP,
        kinds={"html", "parquet"},
        pool=key.to_python_identifier(),
    )
    def published(lake: LakeResource) -> dg.MaterializeResult[Any]:
        opened, now = lake.open(), datetime.now(UTC)
        rows = newest_rows(opened, report)
        path = f"{FOLDER}/{report.name}/{now.date()}"
        content = io.BytesIO()
        rows.write_parquet(content)
        write_page(opened, f"{path}.parquet", content.getvalue())
        write_page(opened, f"{path}.html", report_page(report.name, report.question, rows, now))
        return dg.MaterializeResult(metadata={"page": f"{path}.html", "rows": rows.height})

    return published


def newest_rows(lake: Lake, report: Report) -> pl.DataFrame:
    """The rows of a report that are shown: those of its newest dates, the newest first.

    Raises:
        Failure: it was not built yet, or cannot be read.
    """
    found = stored_reports(lake, [report])
    if not found:
        raise dg.Failure(
            f"{report.table_name} was not built yet, so no page was written. Run the job `reports` first.",
            allow_retries=False,
        )
    [table] = found
    column = next((name for name in ("event_date", "load_date", "ingest_date") if name in table.schema), None)
    others = ", ".join(f'"{name}"' for name in table.schema if name != column)
    newest = f"(SELECT max({column}) FROM {table.sql_name}) - {NEWEST_DATES}"
    where = f"WHERE {column} > {newest} ORDER BY {column} DESC, {others}" if column else "ORDER BY ALL"
    try:
        return Analytics(lake, [table]).query(f"SELECT * FROM {table.sql_name} {where} LIMIT {MAX_ROWS}")
    except ValueError as error:
        raise dg.Failure(f"{report.table_name}: {reason(error)}", allow_retries=False) from error
