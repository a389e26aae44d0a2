"""Which assets run together, and in one process: a fresh process for each step costs more than most steps."""

from typing import Any

import dagster as dg

from assets.stream.asset import table_key
from orchestration.system import Stream

STREAM_TAG, OFFSETS_TAG = "pulselake/stream", "pulselake/offsets"

Job = Any  # Dagster's UnresolvedAssetJobDefinition is not public.


def session_job_name(stream: Stream) -> str:
    """The job whose runs are a stream's sessions."""
    return f"{stream.name}_session"


def session_job(stream: Stream) -> Job:
    """One session of a stream."""
    return dg.define_asset_job(
        session_job_name(stream),
        selection=dg.AssetSelection.assets(*(table_key(table.name) for table in stream.contract.tables)),
        executor_def=dg.in_process_executor,
        tags={STREAM_TAG: stream.name},
        description=f"Pulls what {stream.name} has in its hub through bronze, silver, quarantine and alerts.",
    )


def gold_job(stream: Stream) -> Job:
    """The gold tables of a stream, for a range of event dates."""
    return dg.define_asset_job(
        f"{stream.name}_gold",
        selection=dg.AssetSelection.assets(*(table_key(gold.table.name) for gold in stream.gold)),
        executor_def=dg.in_process_executor,
        tags={STREAM_TAG: stream.name},
        description=f"Makes gold of {stream.name} anew for the event dates that new silver rows touch.",
    )


def reports_job() -> Job:
    """All reports."""
    return dg.define_asset_job(
        "reports",
        selection=dg.AssetSelection.groups("reports"),
        executor_def=dg.in_process_executor,
        description="Builds the reports' tables from sql/reports.",
    )
