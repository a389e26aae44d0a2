"""Bulk copies of a database's tables, for the command line and for Dagster.

Nothing here loads the streams, which take 60 MB that a copy has a better use for.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from azure.core.exceptions import AzureError
from deltalake.exceptions import DeltaError

from assets.copied import COPIED_TABLES, Copied, Copier
from resources.copy_source import CopyError, CopySource
from resources.copy_sources import copy_source
from resources.settings import COPY_FROM, Settings, environment_variable
from resources.storage import lake_of

PARALLEL = 2
OWN_TABLES = frozenset(
    f"bronze/{name}"
    for name in (
        "adverse_events",
        "alarm_actions",
        "all_streams",
        "device_events",
        "device_readings",
        "documents",
        "ehr",
        "ehr_encounters",
        "ehr_medications",
        "ehr_patients",
        "glucose_readings",
        "telemetry",
        "trial_logs",
        "trials",
        "vitals",
    )
)
"""Tables and views of bronze that no copy may replace; a test compares them with those there are."""


@dataclass(frozen=True)
class Wanted:
    """What is copied, and how.

    Attributes:
        names: of tables in the database; all of its tables if None.
        parallel: how many at the same time.
        prefix, again, verify: see `Copier`.
    """

    names: list[str] | None
    parallel: int = PARALLEL
    prefix: str = ""
    again: bool = False
    verify: bool = False


def opened_source(settings: Settings, given: str | None) -> CopySource:
    """The database of a URL, of the environment variable of that name, or of PULSELAKE_COPY_FROM.

    Raises:
        CopyError: there is none, or it cannot be used.
    """
    if given is None:
        url = settings.copy_from.get_secret_value() if settings.copy_from else None
        missing = f"No database is named, so nothing was copied. Give its URL with --from, or set {COPY_FROM}."
    elif "://" in given:
        url, missing = given, ""
    else:
        url = environment_variable(given)
        missing = (
            f"The environment variable {given} is not set, so nothing was copied. Set it to the URL of the database, "
            "or give that with --from."
        )
    if not url:
        raise CopyError(missing)
    return copy_source(url)


def copy_tables(
    settings: Settings,
    source: CopySource,
    wanted: Wanted,
    *,
    on_begin: Callable[[str, int], None] = lambda table, rows: None,
    on_rows: Callable[[str, int], None] = lambda table, rows: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Copied]:
    """Copies tables of a database into bronze; see `Copier` for the arguments.

    Returns:
        What became of each, as it ends.

    Raises:
        CopyError: the database cannot be looked at, or has no such table; nothing was copied.
    """
    chosen = source.tables() if wanted.names is None else source.named(wanted.names)
    if not chosen:
        raise CopyError(
            f"{source.name} has no table that this user may read, so nothing was copied. Check the name of the "
            "database and the user's rights; views are not copied."
        )
    lake = lake_of(settings)
    try:
        lake.table(COPIED_TABLES).ensure()
    except (OSError, AzureError, DeltaError) as error:
        raise CopyError(
            f"The lake {lake.root} cannot be opened ({type(error).__name__}), so nothing was copied. Check "
            "PULSELAKE_LAKE, the AZURE_STORAGE_… settings or the Azure identity, and the network."
        ) from error
    copier = Copier(
        lake,
        source,
        taken=OWN_TABLES,
        prefix=wanted.prefix,
        again=wanted.again,
        verify=wanted.verify,
        on_begin=on_begin,
        on_rows=on_rows,
        should_stop=should_stop,
    )
    yield from copier.copy(chosen, wanted.parallel)
