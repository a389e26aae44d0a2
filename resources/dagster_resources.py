"""The lake, the hubs and the store as Dagster resources: thin, so that what they open stays usable without Dagster."""

from contextlib import AbstractContextManager

import dagster as dg
from pydantic import Field

from resources import sources
from resources.event_source import EventSource, Publisher
from resources.hub_names import check_hubs
from resources.lake import Lake
from resources.settings import Settings
from resources.storage import lake_of
from resources.store import Store, opened


class LakeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The lake of the settings, or another root for tests."""

    root: str | None = None

    def open(self) -> Lake:
        """The lake."""
        return Lake(self.root) if self.root else lake_of(Settings())


class StoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The transactional store of the settings, or another URL for tests."""

    url: str | None = None

    def open(self) -> Store:
        """The store.

        Raises:
            StoreError, StoreUnavailableError: see `resources.store.opened`.
        """
        settings = Settings()
        return opened(self.url or settings.oltp_url, is_own=self.url is not None or settings.uses_own_store)


class HubsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The hubs of the settings, or another connection string for tests; no two of the `streams` may have one hub."""

    streams: list[str] = Field(default=[])
    connection_string: str | None = None
    max_session_s: float | None = None
    idle_timeout_s: float | None = None

    def settings(self) -> Settings:
        """The settings with this resource's overrides.

        Raises:
            OneHubForTwoStreamsError: see `check_hubs`.
        """
        given = {
            "event_hubs": self.connection_string,
            "max_session_s": self.max_session_s,
            "idle_timeout_s": self.idle_timeout_s,
        }
        settings = Settings().model_copy(update={name: value for name, value in given.items() if value is not None})
        check_hubs(settings, self.streams)
        return settings

    def source(self, stream: str) -> EventSource:
        """The hub of a stream."""
        return sources.source(self.settings(), stream)

    def publisher(self, stream: str) -> AbstractContextManager[Publisher]:
        """The hub to publish to."""
        return sources.publisher(self.settings(), stream)
