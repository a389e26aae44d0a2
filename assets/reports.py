"""The reports of `sql/reports` as Delta tables, made by DuckDB over all other tables."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg

from assets.stream.asset import table_key
from resources.audit import in_one_commit
from resources.dagster_resources import LakeResource
from resources.reports import Report, ReportsError, reason, report_analytics, write_report
from resources.settings import Settings
from resources.table import Table, View
from resources.task_metrics import noted

NO_ASSETS = ("audit", "state")
"""Layers whose tables are no assets."""


def report_assets(
    reports: Sequence[Report], tables: Sequence[Table], views: Sequence[View] = ()
) -> dg.AssetsDefinition:
    """One asset a report; its upstream is what the statement reads, also through a union of tables.

    One that fails keeps no other from being built.
    """
    # What house-keeping and loads record is no asset.
    derived = [table for table in tables if table.layer not in NO_ASSETS]
    keys = {report.name: table_key(report.table_name) for report in reports}

    @dg.multi_asset(
        name="build_reports",
        specs=[
            dg.AssetSpec(
                keys[report.name],
                deps=[
                    table_key(table.name) for table in report.sources(derived, views) if table.layer not in NO_ASSETS
                ],
                description=report.description,
                group_name="reports",
                kinds={"duckdb", "deltalake", "gold"},
                skippable=True,
            )
            for report in reports
        ],
        can_subset=True,
        pool="reports",
    )
    def build(context: dg.AssetExecutionContext, lake: LakeResource) -> Iterator[dg.MaterializeResult[Any]]:
        failures, results = {}, list[dg.MaterializeResult[Any]]()
        with in_one_commit(lake.open()):
            for report in (each for each in reports if keys[each.name] in context.selected_asset_keys):
                try:
                    with noted(Settings().metrics, "reports", part=report.table_name) as note:
                        written = write_report(report_analytics(lake.open(), tables, views), report)
                        note.rows = written.rows
                except Exception as error:
                    failures[report.name] = reason(error)
                    context.log.error("Report %s was not built: %s", report.name, failures[report.name])
                else:
                    results.append(dg.MaterializeResult(keys[report.name], metadata=asdict(written)))
        yield from results
        if failures:
            raise dg.Failure(str(ReportsError(failures)), allow_retries=False)

    return build
