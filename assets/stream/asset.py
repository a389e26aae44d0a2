"""The Dagster side of a stream: one multi-asset with its four tables and their checks.

With bronze selected, a run is a session that pulls from the hub; without it, the run rebuilds the selected ingest dates
from bronze. What is done is in `session` and `rebuild`; here it only becomes events of Dagster.
"""

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from assets.stream.checks import DESCRIPTIONS, Finding, evaluate
from assets.stream.contract import Contract
from assets.stream.rebuild import Rebuilt, rebuild
from assets.stream.session import Session, SessionLimits, Totals
from assets.stream.store import StreamStore
from resources.dagster_resources import HubsResource, LakeResource

FIRST_INGEST_DATE = "2026-01-01"
INGEST_DATES = dg.DailyPartitionsDefinition(start_date=FIRST_INGEST_DATE, end_offset=1)
"""Partitions of what is written by the day on which it came in; today's exists already."""

LIVE_EVERY_S = 5.0
ALERTS_HUB = "alerts"

Outputs = Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]


def table_key(name: str) -> dg.AssetKey:
    """``silver/glucose_readings`` as an asset key."""
    return dg.AssetKey(name.split("/"))


def hub_asset(contract: Contract) -> dg.AssetSpec:
    """The hub of a stream: where its lineage starts."""
    return dg.AssetSpec(
        dg.AssetKey(["hub", contract.stream]),
        description=f"Events of the stream {contract.stream} as devices send them.",
        group_name=contract.stream,
        kinds={"azureeventhub"},
    )


def alerts_hub_asset(contracts: list[Contract]) -> dg.AssetSpec:
    """The hub that alerts are published to: where lineage ends."""
    return dg.AssetSpec(
        dg.AssetKey(["hub", ALERTS_HUB]),
        deps=[table_key(contract.tables.alerts.name) for contract in contracts],
        description="Alerts as they are published, one JSON object each, the moment a rule is broken.",
        group_name="alerts",
        kinds={"azureeventhub"},
    )


def stream_assets(contract: Contract) -> dg.AssetsDefinition:
    """The four tables of a stream, made by sessions and by rebuilds."""
    tables = contract.tables
    upstream = {
        tables.bronze: dg.AssetKey(["hub", contract.stream]),
        tables.quarantine: table_key(tables.bronze.name),
        tables.silver: table_key(tables.bronze.name),
        tables.alerts: table_key(tables.silver.name),
    }
    bronze = table_key(tables.bronze.name)

    @dg.multi_asset(
        name=f"{contract.stream}_stream",
        specs=[
            dg.AssetSpec(
                table_key(table.name),
                deps=[deps],
                description=table.description,
                group_name=contract.stream,
                kinds={"deltalake", "polars"},
                skippable=True,
            )
            for table, deps in upstream.items()
        ],
        check_specs=[
            dg.AssetCheckSpec(name, asset=table_key(f"{layer}/{contract.stream}"), description=description)
            for (layer, name), description in DESCRIPTIONS.items()
        ],
        partitions_def=INGEST_DATES,
        backfill_policy=dg.BackfillPolicy.single_run(),
        can_subset=True,
        pool=contract.stream,
    )
    def stream(context: dg.AssetExecutionContext, lake: LakeResource, hubs: HubsResource) -> Outputs:
        selected = context.selected_asset_keys
        days = sorted(date.fromisoformat(key) for key in context.partition_keys)
        if bronze in selected:
            yield from _session(context, contract, lake, hubs, days)
        else:
            yield from _rebuild(context, contract, lake, days)

    return stream


def _session(
    context: dg.AssetExecutionContext, contract: Contract, lake: LakeResource, hubs: HubsResource, days: list[date]
) -> Outputs:
    today = datetime.now(UTC).date()
    if days != [today]:
        raise dg.Failure(
            f"{contract.stream}: bronze is pulled from the hub only for today ({today}), not for {', '.join(map(str, days))}. "
            "To make past days anew, select silver, quarantine and alerts without bronze."
        )
    live = _Live(context, contract)
    settings = hubs.settings()
    limits = SessionLimits(max_duration_s=settings.max_session_s, idle_timeout_s=settings.idle_timeout_s)
    with hubs.publisher(ALERTS_HUB) as publisher:
        session = Session(
            contract, lake.open(), hubs.source(contract.stream), publisher, limits=limits, on_progress=live.report
        )
        totals = session.run()
    context.log.info("Session of %s ended: %s", contract.stream, totals)
    session.store.maintain(today)
    yield from _results(context, contract, today, _metadata(totals))
    yield from _checks(session.store, today)


def _rebuild(context: dg.AssetExecutionContext, contract: Contract, lake: LakeResource, days: list[date]) -> Outputs:
    for day in days:
        rebuilt = rebuild(contract, lake.open(), day)
        context.log.info("Rebuilt %s of %s: %s rows before, %s after", day, contract.stream, rebuilt.before, rebuilt.after)
        for table in contract.tables:
            if table is not contract.tables.bronze:
                context.log_event(
                    dg.AssetMaterialization(
                        table_key(table.name), partition=day.isoformat(), metadata=_rebuilt(rebuilt, table.layer)
                    )
                )
    store = StreamStore(contract, lake.open())
    yield from _checks(store, days[-1], {table_key(table.name) for table in contract.tables} & set(context.selected_asset_keys))


class _Live:
    """Shows progress in the UI while the session runs, at most every few seconds."""

    def __init__(self, context: dg.AssetExecutionContext, contract: Contract) -> None:
        self._context, self._contract = context, contract
        self._reported_at = time.monotonic()

    def report(self, totals: Totals) -> None:
        if time.monotonic() - self._reported_at < LIVE_EVERY_S:
            return
        self._reported_at = time.monotonic()
        metadata = _metadata(totals)
        for table in self._contract.tables:
            self._context.log_event(
                dg.AssetMaterialization(
                    table_key(table.name), partition=self._context.partition_key, metadata=metadata[table.layer]
                )
            )


def _results(
    context: dg.AssetExecutionContext, contract: Contract, day: date, metadata: Mapping[str, Mapping[str, Any]]
) -> Outputs:
    for table in contract.tables:
        key = table_key(table.name)
        if key in context.selected_asset_keys:
            yield dg.MaterializeResult(key, metadata=dict(metadata[table.layer]))


def _metadata(totals: Totals) -> dict[str, dict[str, Any]]:
    reached = {f"offset/{partition}": last for partition, last in sorted(totals.reached.items())}
    unknown = {f"unknown_field/{name}": count for name, count in totals.unknown_fields.most_common(20)}
    return {
        "bronze": {"events": totals.events, "expired_events": totals.expired_events, "commits": totals.commits} | reached,
        "silver": {"rows": totals.silver, "duplicates": totals.duplicates, "caught_up_events": totals.caught_up_events} | unknown,
        "quarantine": {"rows": totals.quarantine},
        "alerts": {"rows": totals.alerts},
    }


def _rebuilt(rebuilt: Rebuilt, layer: str) -> dict[str, Any]:
    return {"rows_before": rebuilt.before[layer], "rows": rebuilt.after[layer], "event_dates": len(rebuilt.event_dates)}


def _checks(store: StreamStore, day: date, selected: set[dg.AssetKey] | None = None) -> Iterator[dg.AssetCheckResult]:
    for finding in evaluate(store, day, datetime.now(UTC)):
        result = _check_result(store.contract, finding, day)
        if selected is None or result.asset_key in selected:
            yield result


def _check_result(contract: Contract, finding: Finding, day: date) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=table_key(f"{finding.table}/{contract.stream}"),
        check_name=finding.name,
        passed=finding.passed,
        severity=dg.AssetCheckSeverity.ERROR if finding.is_error else dg.AssetCheckSeverity.WARN,
        metadata={"ingest_date": day.isoformat(), **finding.counts},
    )
