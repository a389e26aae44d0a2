"""Which assets run together, and in one process: a fresh process for each step costs more than most steps."""

from typing import Any

import dagster as dg

from assets.adapters.outcomes import GLUCOSE
from assets.stream.asset import table_key
from assets.stream.rebuild import Rebuilt
from orchestration.coordinator import PROMPT_TAG
from orchestration.device_polling import DevicePollError
from orchestration.device_polling import poll as poll_device
from orchestration.polling import STREAM, PollError, poll
from orchestration.system import Stream
from orchestration.warm.launcher import BACKGROUND_NICE, NICE_TAG
from orchestration.watching import look
from orchestration.work import finish_rederived, prepare_rederived, replay
from resources.account_state import AccountStateError
from resources.accounts import Account, AccountError
from resources.dagster_resources import HubsResource
from resources.event_source import HubUnavailableError
from resources.leases import LeaseError
from resources.watched_folder import WatchedFolderError

STREAM_TAG, OFFSETS_TAG = "pulselake/stream", "pulselake/offsets"
# Dagster's monitoring fails a run that lasts longer; dagster.yaml has the limit of runs without this tag.
MAX_RUNTIME_TAG = "dagster/max_runtime"
PRIORITY_TAG = "dagster/priority"
OFTEN_TAG = "pulselake/often"
"""Of jobs with hundreds of runs a day; records of those that succeeded are kept as long as those of gold."""
REPLAY_MAX_RUNTIME_S = POLL_MAX_RUNTIME_S = 24 * 3600
DEVICE_POLL_MAX_RUNTIME_S = 1800
BACKGROUND = {NICE_TAG: str(BACKGROUND_NICE)}
"""Tags of what may wait: sessions come first where both want a processor."""

Job = Any  # Dagster's UnresolvedAssetJobDefinition is not public.


def session_job(stream: Stream) -> Job:
    """One session of a stream."""
    return dg.define_asset_job(
        stream.session_job,
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


def notifications_job() -> Job:
    """The outbox of notifications, with its checks."""
    return dg.define_asset_job(
        "notifications",
        selection=dg.AssetSelection.groups("notifications"),
        executor_def=dg.in_process_executor,
        tags=BACKGROUND,
        description="Looks whether people are told of alarms in time, and tells them where no process does.",
    )


def device_poll_job_name(account: Account) -> str:
    """The job that polls an account."""
    return f"poll_{account.name}"


def device_poll_job(account: Account) -> dg.JobDefinition:
    """One poll of an account at another system."""

    @dg.op(name=f"ask_{account.name}")
    def ask(context: dg.OpExecutionContext, hubs: HubsResource) -> None:
        settings = hubs.settings()
        try:
            polled = poll_device(settings, account, name=f"run {context.run_id}", progress=context.log.debug)
        except (AccountError, AccountStateError, DevicePollError, LeaseError) as error:
            raise dg.Failure(str(error)) from error
        if polled.ended_early:
            context.log.warning(polled.ended_early)
        metadata = {
            "requests": polled.requests,
            "records_seen": polled.records,
            "records_sent": polled.sent,
            "records_too_large": polled.too_large,
        }
        context.log_event(dg.AssetMaterialization(asset_key=dg.AssetKey(["hub", GLUCOSE]), metadata=metadata))

    @dg.job(
        name=device_poll_job_name(account),
        executor_def=dg.in_process_executor,
        tags={MAX_RUNTIME_TAG: str(DEVICE_POLL_MAX_RUNTIME_S), OFTEN_TAG: "true", **BACKGROUND},
        description=f"Polls an account at {account.system.name} for readings that the hub of glucose does not have.",
    )
    def job() -> None:
        ask()

    return job


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


@dg.op
def import_new_files(context: dg.OpExecutionContext, hubs: HubsResource) -> None:
    """Imports the new files of the watched folder; their names stay in the lake."""
    try:
        done = look(hubs.settings(), name=f"run {context.run_id}")
    except (WatchedFolderError, HubUnavailableError, LeaseError) as error:
        raise dg.Failure(str(error)) from error
    metadata = {f"files_{status}": count for status, count in sorted(done.by_status.items())}
    context.add_output_metadata({**metadata, "events": done.events})


@dg.job(
    executor_def=dg.in_process_executor,
    tags={MAX_RUNTIME_TAG: str(POLL_MAX_RUNTIME_S), **BACKGROUND},
    description="Imports files of the watched folder that are new or changed, each content once.",
)
def watched_import() -> None:
    import_new_files()
