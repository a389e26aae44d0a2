"""The newest session of each stream, as Dagster has it on record."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from assets.stream.asset import table_key
from orchestration.system import STREAMS, Stream
from resources.settings import Settings


@dataclass(frozen=True)
class LastSession:
    """The newest session of a stream that Dagster ran; `started_at` is None while it waits."""

    stream: Stream
    run_id: str
    outcome: str
    started_at: datetime | None
    duration: timedelta


def last_sessions(settings: Settings, now: datetime) -> list[LastSession]:
    """The newest session of each stream that has one, where Dagster ever ran."""
    if not (settings.dagster_home / "dagster.yaml").exists():
        return []
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        found = (_last_session(stream, instance, now) for stream in STREAMS)
        return [session for session in found if session]


def _last_session(stream: Stream, instance: dg.DagsterInstance, now: datetime) -> LastSession | None:
    records = [*instance.get_run_records(dg.RunsFilter(job_name=stream.session_job), limit=1)]
    # Whoever materializes bronze by hand runs a session too, in a job of Dagster's own.
    bronze = table_key(stream.contract.tables.bronze.name)
    for pulled in instance.fetch_materializations(bronze, limit=1).records:
        records += instance.get_run_records(dg.RunsFilter(run_ids=[pulled.run_id]))
    if not records:
        return None
    record = max(records, key=lambda each: each.create_timestamp)
    started, ended = record.start_time, record.end_time
    return LastSession(
        stream,
        record.dagster_run.run_id,
        record.dagster_run.status.value.lower(),
        datetime.fromtimestamp(started, UTC) if started else None,
        timedelta(seconds=(ended or now.timestamp()) - started) if started else timedelta(),
    )
