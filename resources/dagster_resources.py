"""The lake and the hubs as Dagster resources: thin, so that what they open stays usable without Dagster."""

import dagster as dg

from resources.event_hubs import EventHubsSource
from resources.event_hubs_publisher import EventHubsPublisher
from resources.lake import Lake
from resources.settings import Settings


class LakeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The lake of the settings, or another root for tests."""

    root: str | None = None

    def open(self) -> Lake:
        """The lake."""
        return Lake(self.root) if self.root else Settings().open_lake()


class HubsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The hubs of the settings, or another connection string for tests."""

    connection_string: str | None = None
    max_session_s: float | None = None
    idle_timeout_s: float | None = None

    def settings(self) -> Settings:
        """The settings with this resource's overrides."""
        given = {
            "event_hubs": self.connection_string,
            "max_session_s": self.max_session_s,
            "idle_timeout_s": self.idle_timeout_s,
        }
        return Settings().model_copy(update={name: value for name, value in given.items() if value is not None})

    def source(self, stream: str) -> EventHubsSource:
        """The hub of a stream."""
        settings = self.settings()
        return settings.event_hubs_namespace().source(settings.hub(stream))

    def publisher(self, stream: str) -> EventHubsPublisher:
        """The hub to publish to."""
        settings = self.settings()
        return settings.event_hubs_namespace().publisher(settings.hub(stream))
