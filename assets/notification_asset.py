"""The Dagster side of notifications: the outbox as an asset, with checks that people are told in time."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from assets.notifications.deciding import GIVEN_UP
from assets.reference.tables import SUBSCRIBERS, SUBSCRIPTIONS
from assets.stream.asset import table_key
from resources.dagster_resources import LakeResource, StoreResource
from resources.lake import Lake
from resources.outbox import Outbox, Summary
from resources.store import Store
from resources.table import Table

GROUP = "notifications"
KEY = dg.AssetKey(["notifications", "outbox"])
OLDEST_URGENT, FAILED_SHARE, NONE_GIVEN_UP = "oldest_urgent", "failed_share", "none_given_up"
MAX_WAIT_S, MAX_FAILED_SHARE = 60.0, 0.05

Outputs = Iterator[dg.MaterializeResult[Any]]
Send = Callable[[Lake, Store], bool]
"""Takes and sends what waits, where no other process does, and says whether it was this one."""


def outbox_asset(alarms: Iterable[Table], send: Send) -> dg.AssetsDefinition:
    """The outbox. A run sends what waits where no process is at work, and says how the outbox does."""

    @dg.asset(
        key=KEY,
        deps=[table_key(each.name) for each in (*alarms, SUBSCRIBERS.table, SUBSCRIPTIONS.table)],
        description="One transition of an alarm that one subscriber is told by one channel, with what became of it.",
        group_name=GROUP,
        kinds={"sql"},
        tags={"phi": "true"},
        pool=KEY.to_python_identifier(),
        check_specs=[
            dg.AssetCheckSpec(
                OLDEST_URGENT, asset=KEY, description="No urgent notification waits longer than a minute."
            ),
            dg.AssetCheckSpec(
                FAILED_SHARE, asset=KEY, description="Of those of the last 24 hours that were tried at most 5 % failed."
            ),
            dg.AssetCheckSpec(NONE_GIVEN_UP, asset=KEY, description="None of the last 24 hours was given up."),
        ],
    )
    def outbox(context: dg.AssetExecutionContext, lake: LakeResource, store: StoreResource) -> Outputs:
        database = store.open()
        is_own = send(lake.open(), database)
        context.log.info("Sent by this run" if is_own else "Another process is at work")
        summary = Outbox(database).summary(datetime.now(UTC))
        yield dg.MaterializeResult(
            metadata={"waiting": summary.waiting, **dict(summary.counts)}, check_results=[*_results(summary)]
        )

    return outbox


def _results(summary: Summary) -> Iterator[dg.AssetCheckResult]:
    waited, given_up = summary.oldest_urgent_s or 0.0, summary.counts.get(GIVEN_UP, 0)
    yield dg.AssetCheckResult(
        asset_key=KEY, check_name=OLDEST_URGENT, passed=waited <= MAX_WAIT_S, metadata={"oldest_urgent_s": waited}
    )
    yield dg.AssetCheckResult(
        asset_key=KEY,
        check_name=FAILED_SHARE,
        passed=summary.failed_share <= MAX_FAILED_SHARE,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"failed_share": summary.failed_share},
    )
    yield dg.AssetCheckResult(
        asset_key=KEY, check_name=NONE_GIVEN_UP, passed=not given_up, metadata={"given_up": given_up}
    )
