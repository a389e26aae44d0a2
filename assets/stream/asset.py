"""The Dagster side of a stream: one multi-asset with its tables and their checks.

With bronze selected, a run is a session that pulls from the hub; without it, the run rebuilds the selected ingest dates
from bronze. What is done is in `session` and `rebuild`; here it only becomes events of Dagster.
"""

import math
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from assets.alarms.tables import ACTIONS_TABLE
from assets.stream.checks import descriptions, evaluate
from assets.stream.configured import limits_of, observer_of
from assets.stream.contract import ALARMS_HUB, ALERTS_HUB, Contract
from assets.stream.rebuild import Rebuilt, rebuild
from assets.stream.session import Session, Totals
from assets.stream.store import StreamStore
from resources.dagster_resources import HubsResource, LakeResource
from resources.logs import set_up
from resources.signals import DeferredSignals
from resources.table import Table
from resources.task_metrics import noted

FIRST_INGEST_DATE = "2026-01-01"
INGEST_DATES = dg.DailyPartitionsDefinition(start_date=FIRST_INGEST_DATE, end_offset=1)
"""Partitions of what is written by the day on which it came in; today's exists already."""

LIVE_EVERY_S = 60.0
"""How often a session reports: Dagster keeps some kilobytes of each report."""
MAX_UNKNOWN_FIELDS = MAX_SKIPPED_KINDS = 20
_AFTERWARDS = 10
"""How much nicer a session is once its successor is at work."""

_FIELD_NAME = re.compile(r"[A-Za-z_]{1,40}")

Outputs = Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]


def table_key(name: str) -> dg.AssetKey:
    """``silver/glucose_readings`` as an asset key."""
    return dg.AssetKey(name.split("/"))


def hub_asset(contract: Contract) -> dg.AssetSpec:
    """The hub of a stream: where its lineage starts."""
    return dg.AssetSpec(
        dg.AssetKey(["hub", contract.stream]),
        description=f"Events of the stream {contract.stream} as they are sent.",
        group_name=contract.stream,
        kinds={"azureeventhub"},
    )


def alerts_hub_asset(tables: Iterable[Table]) -> dg.AssetSpec:
    """The hub that alerts of these tables are published to: where lineage ends."""
    return dg.AssetSpec(
        dg.AssetKey(["hub", ALERTS_HUB]),
        deps=[table_key(table.name) for table in tables],
        description="Alerts as they are published, the moment a rule is broken: a JSON object each, or arrays of them.",
        group_name="alerts",
        kinds={"azureeventhub"},
    )


def alarms_hub_asset(tables: Iterable[Table]) -> dg.AssetSpec:
    """The hub that what happens to alarms is published to."""
    return dg.AssetSpec(
        dg.AssetKey(["hub", ALARMS_HUB]),
        deps=[table_key(table.name) for table in tables],
        description="What happens to alarms, the moment it does: a JSON object for each transition.",
        group_name="alarms",
        kinds={"azureeventhub"},
    )


def stream_assets(contract: Contract) -> dg.AssetsDefinition:
    """The tables of a stream, made by sessions and by rebuilds."""
    bronze = table_key(contract.tables.bronze.name)

    @dg.multi_asset(
        name=f"{contract.stream}_stream",
        specs=[
            dg.AssetSpec(
                table_key(output.table.name),
                deps=[table_key(output.upstream), *_references_of(contract, output.role)],
                description=output.table.description,
                group_name=contract.stream,
                kinds={"deltalake", "polars", output.table.layer},
                skippable=True,
            )
            for output in contract.outputs
        ],
        check_specs=[
            dg.AssetCheckSpec(name, asset=table_key(contract.tables[role].name), description=description)
            for (role, name), description in descriptions(contract).items()
        ],
        partitions_def=INGEST_DATES,
        backfill_policy=dg.BackfillPolicy.single_run(),
        can_subset=True,
    )
    def stream(context: dg.AssetExecutionContext, lake: LakeResource, hubs: HubsResource) -> Outputs:
        selected = context.selected_asset_keys
        days = sorted(date.fromisoformat(key) for key in context.partition_keys)
        if bronze in selected:
            yield from _session(context, contract, lake, hubs, days)
        else:
            yield from _rebuild(context, contract, lake, hubs, days)

    return stream


def _references_of(contract: Contract, role: str) -> list[dg.AssetKey]:
    """What silver's rows are enriched from, what alerts are decided by, and what people did to alarms."""
    if role == "alarms":
        return [table_key(contract.tables.alerts.name), table_key(ACTIONS_TABLE.name)]
    if role == "alerts" and contract.rule_table is not None:
        return [table_key(contract.rule_table.table.name)]
    return [table_key(each.table.name) for each in contract.enrich] if role == "silver" else []


def _session(
    context: dg.AssetExecutionContext, contract: Contract, lake: LakeResource, hubs: HubsResource, days: list[date]
) -> Outputs:
    requested, today = days[-1], datetime.now(UTC).date()
    if len(days) > 1 or not today - timedelta(days=1) <= requested <= today:
        raise dg.Failure(
            f"{contract.stream}: bronze is pulled from the hub only for today ({today}), not for "
            f"{', '.join(map(str, days))}. To make past days anew, select silver, quarantine and alerts without bronze."
        )
    settings = hubs.settings()
    set_up(settings.log, run=context.run.run_id)
    live = _Live(context, contract)
    with (
        DeferredSignals() as signals,
        hubs.publisher(ALERTS_HUB) as publisher,
        hubs.publisher(ALARMS_HUB) as alarms,
    ):
        session = Session(
            contract,
            lake.open(),
            hubs.source(contract.stream),
            publisher,
            limits=limits_of(settings, contract),
            on_progress=live.report,
            should_stop=lambda: signals.is_noted,
            lease=settings.lease(contract.stream, context.run.run_id),
            observer=observer_of(contract, settings),
            alarms=alarms,
        )
        with noted(settings.metrics, "session", stream=contract.stream) as note:
            totals = session.run()
            note.rows = totals.events
        if totals.alerts_withheld:
            context.log.warning(
                f"{totals.alerts_withheld} All data and alerts are stored; a later session publishes what waits."
            )
        if session.is_handed_over:
            # The successor is at work: what is left to do here comes after it.
            os.nice(_AFTERWARDS)
    yield from live.results(totals, requested)
    yield from _checks(context, session.store, requested, recent=True)
    # A run that was terminated has committed and reported what it pulled; only now it ends as cancelled.
    signals.deliver()


def _rebuild(
    context: dg.AssetExecutionContext, contract: Contract, lake: LakeResource, hubs: HubsResource, days: list[date]
) -> Outputs:
    lease = hubs.settings().lease(contract.stream, context.run.run_id)
    for day in days:
        with DeferredSignals() as signals:
            rebuilt = rebuild(contract, lake.open(), day, lease=lease, should_stop=lambda: signals.is_noted)
            _log_rebuilt(context, contract, rebuilt)
        signals.deliver()
    yield from _checks(context, StreamStore(contract, lake.open()), days[-1])


def _log_rebuilt(context: dg.AssetExecutionContext, contract: Contract, rebuilt: Rebuilt) -> None:
    for role, rows in rebuilt.after.items():
        context.log_event(
            dg.AssetMaterialization(
                table_key(contract.tables[role].name),
                partition=rebuilt.day.isoformat(),
                metadata={
                    "rows_before": rebuilt.before[role],
                    "rows": rows,
                    "event_dates": len(rebuilt.event_dates),
                },
            )
        )


class _Live:
    """Shows in the UI what a session does: each report has the counts since the session began."""

    def __init__(self, context: dg.AssetExecutionContext, contract: Contract) -> None:
        self._context, self._contract = context, contract
        self._reported_at = -math.inf
        self._day = datetime.now(UTC).date()

    def report(self, totals: Totals) -> None:
        """Reports if the last report is some time ago, or of yesterday."""
        today = datetime.now(UTC).date()
        if time.monotonic() - self._reported_at < LIVE_EVERY_S and today == self._day:
            return
        for role, counts in _metadata(self._contract, totals).items():
            self._log(role, counts)
        self._reported_at, self._day = time.monotonic(), today

    def results(self, totals: Totals, requested: date) -> Outputs:
        """The last report: as results of the run for the day that it was requested for."""
        for role, counts in _metadata(self._contract, totals).items():
            key = table_key(self._contract.tables[role].name)
            if self._day == requested and key in self._context.selected_asset_keys:
                yield dg.MaterializeResult(key, metadata=counts)
            else:
                # A session writes all tables of the stream, whatever was selected with bronze.
                self._log(role, counts)

    def _log(self, role: str, counts: Mapping[str, Any]) -> None:
        key = table_key(self._contract.tables[role].name)
        self._context.log_event(dg.AssetMaterialization(key, partition=self._day.isoformat(), metadata=counts))


def _metadata(contract: Contract, totals: Totals) -> dict[str, dict[str, Any]]:
    """Counts by role of the table, upstream first: Dagster takes the results of a step in no other order."""
    reached = {f"offset/{partition}": last for partition, last in sorted(totals.reached.items())}
    special = {
        "bronze": {"events": totals.events, "expired_events": totals.expired_events, "commits": totals.commits}
        | reached,
        "silver": {
            "duplicates": totals.duplicates,
            "caught_up_events": totals.caught_up_events,
            **({"reference_missing": totals.reference_missing} if contract.enrich else {}),
            **({"skipped": totals.skipped} if totals.skipped else {}),
            **{
                f"skipped/{kind or 'other'}": count
                for kind, count in totals.skipped_kinds.most_common(MAX_SKIPPED_KINDS)
            },
            **_unknown_fields(totals.unknown_fields),
        },
    }
    rows = {output.role: {"rows": totals.rows[output.role]} for output in contract.outputs if output.role != "bronze"}
    upstream = {output.table.name: output.upstream for output in contract.outputs}
    return {
        output.role: rows.get(output.role, {}) | special.get(output.role, {})
        for output in sorted(contract.outputs, key=lambda output: _depth(output.table.name, upstream))
    }


def _depth(table: str, upstream: Mapping[str, str]) -> int:
    """How many tables of the stream a table is made through."""
    return 1 + _depth(upstream[table], upstream) if table in upstream else 0


def _unknown_fields(found: Counter[str]) -> dict[str, int]:
    """Counts by field name; what does not look like a field's name may be data and is counted without it."""
    named = Counter({name: count for name, count in found.items() if _FIELD_NAME.fullmatch(name)})
    shown = {f"unknown_field/{name}": count for name, count in named.most_common(MAX_UNKNOWN_FIELDS)}
    others = found.total() - sum(shown.values())
    return shown | ({"unknown_fields_unnamed": others} if others else {})


def _checks(
    context: dg.AssetExecutionContext, store: StreamStore, day: date, *, recent: bool = False
) -> Iterator[dg.AssetCheckResult]:
    for finding in evaluate(store, day, datetime.now(UTC), recent=recent):
        key = dg.AssetCheckKey(table_key(store.contract.tables[finding.table].name), finding.name)
        if key in context.selected_asset_check_keys:
            yield dg.AssetCheckResult(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=finding.passed,
                severity=dg.AssetCheckSeverity.ERROR if finding.is_error else dg.AssetCheckSeverity.WARN,
                metadata={"ingest_date": day.isoformat(), **finding.counts},
            )
