"""Which client reads a source of batches, by the settings and by what is declared of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resources.batch_json_lines import JsonLinesSource
from resources.batch_rest import RestSource
from resources.batch_source import BatchSource, Documents, Items, Place, RestPath, SqlTable
from resources.batch_sql import SqlSource
from resources.lake import Lake
from resources.landing import FOLDER
from resources.settings import PREFIX, AzureStorage, Settings

EHR_FILE, TRIALS_FILE, DOCUMENTS_FOLDER, EVENTS_FOLDER = "ehr.sqlite", "trials.sqlite", "documents", "device_events"
"""What is below the folder of `pulselake hospital`."""
CONTENTS = "contents"


def batch_source(settings: Settings, name: str, setting: str, place: Place, lake: Lake) -> BatchSource:
    """The client of a source.

    Args:
        settings: say where the source is.
        name: of the source, for messages.
        setting: the field that says where it is.
        place: what is read there.
        lake: where contents of documents are copied to, if they are.
    """
    url, variable = address(settings, setting), f"{PREFIX}{setting.upper()}"
    match place:
        case SqlTable():
            return SqlSource(name, url, variable, place)
        case RestPath():
            return RestSource(name, url, variable, place, settings.telemetry_token)
        case Documents():
            from resources.batch_files import FolderSource

            return FolderSource(name, url, variable, storage_options(url), copies=_copies(settings, name, lake))
        case Items():
            if not url.startswith("https://"):
                return JsonLinesSource(name, Path(url.removeprefix("file://")).expanduser(), variable)
            from azure.identity import DefaultAzureCredential

            from resources.batch_cosmos import CosmosSource

            database, _, container = settings.device_events_container.partition("/")
            credential = settings.cosmos_key or DefaultAzureCredential
            return CosmosSource(
                name, url, variable, database, container, credential, by_feed=settings.device_events_by_feed
            )


def address(settings: Settings, setting: str) -> str:
    """Where a source is: what is set, or what `pulselake hospital` makes."""
    chosen = getattr(settings, setting)
    if chosen:
        return str(chosen.get_secret_value() if hasattr(chosen, "get_secret_value") else chosen)
    hospital = settings.hospital
    return {
        "ehr_url": f"sqlite:///{hospital / EHR_FILE}",
        "trials_url": f"sqlite:///{hospital / TRIALS_FILE}",
        "telemetry_url": f"http://127.0.0.1:{settings.hospital_port}",
        "documents_url": str(hospital / DOCUMENTS_FOLDER),
        "device_events_url": str(hospital / EVENTS_FOLDER),
    }[setting]


def is_set_up(settings: Settings, setting: str) -> bool:
    """Whether a source is set, or `pulselake hospital` made the default ones."""
    return bool(getattr(settings, setting)) or settings.hospital.is_dir()


def storage_options(url: str) -> Mapping[str, Any]:
    """What adlfs needs: it names the settings of storage in another way than deltalake."""
    if "://" not in url or url.startswith("file://"):
        return {}
    storage = AzureStorage()
    options = {
        "account_name": storage.account_name,
        "account_key": storage.account_key,
        "sas_token": storage.sas_token,
        "tenant_id": storage.tenant_id,
        "client_id": storage.client_id,
        "client_secret": storage.client_secret,
    }
    if storage.endpoint and storage.account_key:
        protocol = storage.endpoint.partition("://")[0]
        options["connection_string"] = (
            f"DefaultEndpointsProtocol={protocol};AccountName={storage.account_name};"
            f"AccountKey={storage.account_key};BlobEndpoint={storage.endpoint};"
        )
    found = {name: value for name, value in options.items() if value}
    return found if storage.has_secret else {**found, "anon": False}


def _copies(settings: Settings, name: str, lake: Lake) -> tuple[str, Mapping[str, Any]] | None:
    if not settings.copy_documents:
        return None
    folder = f"{lake.root.rstrip('/')}/{FOLDER}/{name}/{CONTENTS}"
    return folder, storage_options(folder)
