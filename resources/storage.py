"""The lake and the archive that the settings name, opened. What is in them belongs to `lake` and `archive`."""

from functools import cache

from resources.azure_token import AzureToken
from resources.lake import Lake
from resources.settings import AzureStorage, Settings

# One for the process: sensors read the settings every few seconds, and an identity answers slowly at first.
_azure_token = cache(AzureToken)


def lake_of(settings: Settings) -> Lake:
    """The lake."""
    return _opened(settings.lake_root)


def archive_of(settings: Settings) -> Lake | None:
    """Where rows are archived before they are removed; None if they shall not be."""
    return None if settings.archive_root is None else _opened(settings.archive_root)


def _opened(root: str) -> Lake:
    if "://" not in root:
        return Lake(root)
    storage = AzureStorage()
    return Lake(root, storage.options(), None if storage.has_secret else _azure_token())
