"""Retention of all streams, for the command line and for Dagster."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from azure.core.exceptions import AzureError
from deltalake.exceptions import DeltaError

from assets.archived import RETENTION, ArchivedError, Record
from assets.retention import Due, Retention, Retired, Verified, check_names
from assets.retention import restore as put_back
from assets.retention import verify as look_through
from orchestration.system import STREAMS, open_lake
from resources.archive import Archive, ArchiveError
from resources.lake import ConcurrentWriteError, SchemaError
from resources.settings import NO_ARCHIVE, Settings
from resources.storage import archive_of

Say = Callable[[str], None]


class RetentionError(RuntimeError):
    """Some dates were not archived or removed; all others were."""


@dataclass
class Run:
    """What a run of retention did.

    Attributes:
        retired: what was removed.
        held: dates that stay for now, each with the reason.
        due: what would be removed; of a dry run only.
    """

    retired: list[Retired] = field(default_factory=list)
    held: list[tuple[Due, str]] = field(default_factory=list)
    due: list[Due] = field(default_factory=list)


def retire(
    settings: Settings,
    say: Say,
    *,
    is_dry: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Run:
    """Archives and removes what expired, one date of one table after the other, the oldest first.

    Args:
        settings: what expires when, and where it goes.
        say: told what is done next.
        is_dry: only look.
        should_stop: asked between two dates.
        clock: tells the time.

    Raises:
        ArchivedError: a setting names what is not there, or no archive; nothing was done.
        RetentionError: some dates failed; the message says why.
    """
    run, failures = Run(), dict[str, str]()
    if not settings.keep_days:
        return run
    check_names(settings.keep_days, expiring_tables())
    archive, lake = _archive(settings), open_lake(settings)
    for stream in STREAMS:
        retention = Retention(stream.contract, lake, archive, settings.keep_days, clock)
        if not is_dry:
            retention.finish()
        for due in retention.due():
            name = f"{due.table.name} of {due.day}"
            if should_stop():
                return run
            if reason := retention.held(due):
                run.held.append((due, reason))
            elif is_dry:
                run.due.append(due)
            else:
                say(f"{name}: archiving and removing {due.rows:,} rows …")
                try:
                    run.retired.append(retention.retire(due))
                except (ArchiveError, ConcurrentWriteError, SchemaError, DeltaError, AzureError, OSError) as error:
                    failures[name] = " ".join(str(error).split()).rstrip(".")
    if run.retired:
        lake.table(RETENTION).maintain()
    if failures:
        reasons = " ".join(f"{name}: {error}." for name, error in failures.items())
        raise RetentionError(f"Retention removed {len(run.retired)} dates of tables, and not these. {reasons}")
    return run


def verify(settings: Settings) -> Iterator[Verified]:
    """Reads all archives of deleted rows and compares them with what was recorded.

    Raises:
        ArchivedError: there is no archive.
    """
    archive = _archive(settings)
    if archive is None:
        raise ArchivedError(f"PULSELAKE_ARCHIVE is {NO_ARCHIVE}, so there is no archive; nothing was read.")
    return look_through(open_lake(settings), archive)


def restore(settings: Settings, table: str, day: date, now: datetime) -> Record:
    """Puts archived rows of a date back.

    Raises:
        ArchivedError, ArchiveError, SchemaError: see `assets.retention.restore`.
    """
    found = {each.name: each for stream in STREAMS for each in stream.contract.tables}
    archive = _archive(settings)
    if table not in found or archive is None:
        raise ArchivedError(
            f"There is no archive of '{table}'; nothing was put back. Rows expire in {', '.join(expiring_tables())}."
        )
    lake = open_lake(settings)
    return put_back(lake, archive, lake.table(found[table]), day, now)


def expiring_tables() -> list[str]:
    """The names of the tables that retention knows."""
    return [table.name for stream in STREAMS for table in stream.contract.tables]


def _archive(settings: Settings) -> Archive | None:
    if settings.archive is None and settings.lake and "://" in settings.lake:
        raise ArchivedError(
            f"The lake is in Azure's storage, and PULSELAKE_ARCHIVE is not set: the archive would be a folder of this "
            f"machine. Nothing was read or removed. Set it to an abfss:// URI, to a folder, or to {NO_ARCHIVE}."
        )
    store = archive_of(settings)
    return Archive(store) if store else None
