"""Which assets run together, and in one process: a fresh process for each step costs more than most steps."""

from typing import Any

import dagster as dg

from assets.stream.asset import table_key
from assets.stream.rebuild import Rebuilt
from orchestration.coordinator import PROMPT_TAG
from orchestration.polling import STREAM, PollError, poll
from orchestration.system import Stream
from orchestration.warm.launcher import BACKGROUND_NICE, NICE_TAG
from orchestration.work import finish_rederived, prepare_rederived, replay
from resources.dagster_resources import HubsResource
from resources.leases import LeaseError

STREAM_TAG, OFFSETS_TAG = "pulselake/stream", "pulselake/offsets"
# Dagster's monitoring fails a run that lasts longer; dagster.yaml has the limit of runs without this tag.
MAX_RUNTIME_TAG = "dagster/max_runtime"
PRIORITY_TAG = "dagster/priority"
REPLAY_MAX_RUNTIME_S = POLL_MAX_RUNTIME_S = 24 * 3600
BACKGROUND = {NICE_TAG: str(BACKGROUND_NICE)}
"""Tags of what may wait: sessions come first where both want a processor."""

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
        tags={STREAM_TAG: stream.name, PROMPT_TAG: "true", PRIORITY_TAG: "10"},
        description=f"Pulls what {stream.name} has in its hub through bronze, silver, quarantine and alerts.",
    )


def replay_job_name(stream: Stream) -> str:
    """The job that processes a stream's quarantine again."""
    return f"{stream.name}_replay"


def replay_job(stream: Stream) -> dg.JobDefinition:
    """Quarantine again, beside the session, which waits only while rows of the newest days are replaced."""
    name = replay_job_name(stream)

    @dg.op(name=f"replay_{stream.name}")
    def replay_quarantine(context: dg.OpExecutionContext, hubs: HubsResource) -> None:
        def show(rebuilt: Rebuilt) -> None:
            context.log.info(f"{rebuilt.day}: rows before {rebuilt.before}, after {rebuilt.after}")

        replay(stream, hubs.settings(), show, context.log.info)

    @dg.job(
        name=name,
        executor_def=dg.in_process_executor,
        tags={STREAM_TAG: stream.name, MAX_RUNTIME_TAG: str(REPLAY_MAX_RUNTIME_S)},
        description=f"Processes quarantined readings of {stream.name} again after a fix.",
    )
    def job() -> None:
        replay_quarantine()

    return job


def rederive_job_name(stream: Stream) -> str:
    """The job that makes a stream's tables anew."""
    return f"{stream.name}_rederive"


def rederive_job(stream: Stream) -> dg.JobDefinition:
    """Silver, quarantine and alerts of all days again. Sessions go on beside it and wait for the swap only."""

    @dg.op(name=f"derive_{stream.name}", out=dg.Out(dg.Nothing))
    def derive(context: dg.OpExecutionContext, hubs: HubsResource) -> None:
        prepare_rederived(stream, hubs.settings(), context.log.info)

    @dg.op(name=f"swap_{stream.name}", ins={"derived": dg.In(dg.Nothing)})
    def swap(context: dg.OpExecutionContext, hubs: HubsResource) -> None:
        finish_rederived(stream, hubs.settings(), context.log.info)

    @dg.job(
        name=rederive_job_name(stream),
        executor_def=dg.in_process_executor,
        tags={STREAM_TAG: stream.name, MAX_RUNTIME_TAG: str(REPLAY_MAX_RUNTIME_S), **BACKGROUND},
        description=f"Makes silver, quarantine and alerts of {stream.name} anew, for a contract that changed.",
    )
    def job() -> None:
        swap(derive())

    return job


def gold_job_name(stream: Stream) -> str:
    """The job that makes a stream's gold."""
    return f"{stream.name}_gold"


def gold_job(stream: Stream) -> Job:
    """The gold tables of a stream, for a range of event dates."""
    return dg.define_asset_job(
        gold_job_name(stream),
        selection=dg.AssetSelection.assets(
            *(table_key(gold.table.name) for gold in stream.gold),
            *(table_key(table.name) for table in stream.published[1:]),
            *([table_key(stream.alarm_gold.table.name)] if stream.alarm_gold else []),
        ),
        executor_def=dg.in_process_executor,
        tags={STREAM_TAG: stream.name, **BACKGROUND},
        description=f"Makes gold of {stream.name} anew for the event dates that new silver rows touch.",
    )


def reports_job() -> Job:
    """All reports."""
    return dg.define_asset_job(
        "reports",
        selection=dg.AssetSelection.groups("reports"),
        executor_def=dg.in_process_executor,
        tags=BACKGROUND,
        description="Builds the reports' tables from sql/reports.",
    )


def store_job() -> Job:
    """All tables of the transactional store, with their checks."""
    return dg.define_asset_job(
        "store",
        selection=dg.AssetSelection.groups("store"),
        executor_def=dg.in_process_executor,
        tags=BACKGROUND,
        description="Brings the transactional store up to date and compares the last whole day with the lake.",
    )


@dg.op
def poll_openfda(context: dg.OpExecutionContext, hubs: HubsResource) -> None:
    """Sends what openFDA has new to the hub of adverse events; the hub's asset gets the counts."""
    try:
        polled = poll(hubs.settings(), progress=context.log.debug, name=f"run {context.run_id}")
    except (PollError, LeaseError) as error:
        raise dg.Failure(str(error)) from error
    if polled.ended_early:
        context.log.warning(polled.ended_early)
    context.log_event(
        dg.AssetMaterialization(
            asset_key=dg.AssetKey(["hub", STREAM]),
            metadata={
                "pages": polled.pages,
                "reports_seen": polled.reports,
                "reports_sent": polled.sent,
                "reports_known": polled.known,
                "reports_too_large": polled.too_large,
            },
        )
    )


@dg.job(
    executor_def=dg.in_process_executor,
    tags={MAX_RUNTIME_TAG: str(POLL_MAX_RUNTIME_S), **BACKGROUND},
    description="Polls openFDA for drug-event reports that the hub of adverse events does not have yet.",
)
def openfda_poll() -> None:
    poll_openfda()
