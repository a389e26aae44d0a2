"""The Dagster side of the transactional store: an asset a table, with checks that it is as the lake is."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from assets.store_alarms import AlarmSync
from assets.store_reference import ReferenceSync
from assets.store_sync import Compared, Lag, StoreSync
from assets.stream.asset import table_key
from assets.sync.alarms import AlarmFeed
from assets.sync.feed import AnyFeed, Feed
from assets.sync.reference import ReferenceFeed
from resources.dagster_resources import LakeResource, StoreResource
from resources.lake import Lake
from resources.settings import Settings
from resources.store import Store

GROUP = "store"
ROWS_EQUAL, SYNC_LAG = "rows_equal", "sync_lag"
MAX_LAG = timedelta(minutes=1)
WAIT_S = 60.0
"""How long the process that syncs is waited for."""

AtWork = Callable[[], AbstractContextManager[bool]]
"""Says whether this process may sync, or another one does."""
Outputs = Iterator[dg.MaterializeResult[Any]]


def store_key(table: str) -> dg.AssetKey:
    """The asset key of a table of the store."""
    return dg.AssetKey(["store", table])


def store_asset(feed: AnyFeed, description: str, at_work: AtWork) -> dg.AssetsDefinition:
    """A table of the store that is filled from a stream.

    A run brings it up to date, or waits for the process that does, and compares the last whole day with silver.
    """
    contract = feed.contract
    roles = ["silver", *(child.role for child in contract.children)]
    if isinstance(feed, Feed) and feed.alerts_before is not None:
        roles.append("alerts")
    key = store_key(feed.table)

    @dg.asset(
        key=key,
        deps=[table_key(contract.tables[role].name) for role in roles],
        description=description,
        group_name=GROUP,
        kinds={"sql", "polars"},
        tags={"phi": "true" if contract.phi else "false"},
        pool=key.to_python_identifier(),
        check_specs=_checks(key, "silver"),
    )
    def table(context: dg.AssetExecutionContext, lake: LakeResource, store: StoreResource) -> Outputs:
        now, opened, database = datetime.now(UTC), lake.open(), store.open()
        sync = StoreSync(opened, database, Settings().oltp_keep_days)
        with at_work() as mine:
            written = sync.catch_up(feed) if mine else 0
        lag = _waited_for(lambda: sync.lag(feed), now)
        day = _day(opened.table(contract.tables.silver).dates("ingest_date"), now.date())
        compared = sync.compare(feed, day) if day else Compared(0, 0, is_equal=True)
        context.log.info("%d rows were written here", written)
        yield dg.MaterializeResult(
            metadata={"rows": database.count(feed.table), "rows_behind": lag.rows},
            check_results=[*_results(key, day, compared, lag, datetime.now(UTC))],
        )

    return table


def alarm_store_asset(
    feeds: Sequence[AlarmFeed], table_name: str, description: str, at_work: AtWork
) -> dg.AssetsDefinition:
    """One of the two tables of the store that are filled from the alarms of all streams; see `store_asset`."""
    key = store_key(table_name)

    @dg.asset(
        key=key,
        deps=[table_key(feed.contract.tables["alarms"].name) for feed in feeds],
        description=description,
        group_name=GROUP,
        kinds={"sql", "polars"},
        tags={"phi": "true"},
        pool=key.to_python_identifier(),
        check_specs=_checks(key, "the tables of alarms"),
    )
    def table(context: dg.AssetExecutionContext, lake: LakeResource, store: StoreResource) -> Outputs:
        now, opened, database = datetime.now(UTC), lake.open(), store.open()
        sync = AlarmSync(opened, database, Settings().oltp_keep_days)
        with at_work() as mine:
            written = sum(sync.catch_up(feed) for feed in feeds) if mine else 0
        lag = _waited_for(lambda: _together([sync.lag(feed) for feed in feeds]), now)
        dates = {day for feed in feeds for day in opened.table(feed.contract.tables["alarms"]).dates("ingest_date")}
        day = _day(sorted(dates), now.date())
        compared = sync.compare(feeds, table_name, day) if day else Compared(0, 0, is_equal=True)
        context.log.info("%d transitions were written here", written)
        yield dg.MaterializeResult(
            metadata={"rows": database.count(table_name), "rows_behind": lag.rows},
            check_results=[*_results(key, day, compared, lag, datetime.now(UTC))],
        )

    return table


def reference_store_asset(feed: ReferenceFeed, description: str, at_work: AtWork) -> dg.AssetsDefinition:
    """A table of the store that has what reference data say now, and that may be edited."""
    key = store_key(feed.table)

    @dg.asset(
        key=key,
        deps=[table_key(feed.reference.table.name)],
        description=description,
        group_name=GROUP,
        kinds={"sql", "polars"},
        tags={"phi": "true" if feed.reference.phi else "false"},
        pool=key.to_python_identifier(),
    )
    def table(lake: LakeResource, store: StoreResource) -> dg.MaterializeResult[Any]:
        opened: Lake = lake.open()
        database: Store = store.open()
        with at_work() as mine:
            if mine:
                ReferenceSync(opened, database).exchange(feed)
        return dg.MaterializeResult(metadata={"rows": database.count(feed.table)})

    return table


def _checks(key: dg.AssetKey, source: str) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(
            ROWS_EQUAL,
            asset=key,
            description=f"The last whole ingest date has as many rows as {source}, with the same checksum.",
        ),
        dg.AssetCheckSpec(SYNC_LAG, asset=key, description=f"No row of {source} waits for longer than a minute."),
    ]


def _waited_for(look: Callable[[], Lag], since: datetime) -> Lag:
    """The lag once all is there that was received before an instant, or the time is over."""
    end = time.monotonic() + WAIT_S
    while True:
        lag = look()
        is_behind = lag.is_filling or (lag.oldest is not None and lag.oldest <= since)
        if not is_behind or time.monotonic() > end:
            return lag
        time.sleep(1.0)


def _together(lags: Sequence[Lag]) -> Lag:
    """The lag of a table that has several sources."""
    oldest = min((lag.oldest for lag in lags if lag.oldest is not None), default=None)
    return Lag(sum(lag.rows for lag in lags), oldest, any(lag.is_filling for lag in lags), None)


def _day(dates: Sequence[date], today: date) -> date | None:
    """The last of some ingest dates that is over; the last one where none is."""
    return max((day for day in dates if day < today), default=max(dates, default=None))


def _results(
    key: dg.AssetKey, day: date | None, compared: Compared | None, lag: Lag, now: datetime
) -> Iterator[dg.AssetCheckResult]:
    counts = {"lake_rows": compared.lake_rows, "store_rows": compared.store_rows} if compared else {}
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=ROWS_EQUAL,
        passed=compared is not None and compared.is_equal,
        # One that is being filled is not wrong, but not right yet.
        severity=dg.AssetCheckSeverity.ERROR if compared else dg.AssetCheckSeverity.WARN,
        metadata={"ingest_date": day.isoformat() if day else "none", **counts},
    )
    waits = now - lag.oldest if lag.oldest else timedelta()
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=SYNC_LAG,
        passed=waits <= MAX_LAG and not lag.is_filling,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"rows_behind": lag.rows, "oldest_waits_s": waits.total_seconds()},
    )
