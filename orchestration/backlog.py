"""How far a stream is behind its hub, and its alerts behind theirs, by the hub and the Delta logs alone."""

from dataclasses import dataclass

from assets.stream.contract import Contract
from assets.stream.session import identified
from assets.stream.store import StreamStore
from resources.event_source import EventSource, HubState
from resources.lake import Lake


@dataclass(frozen=True)
class PartitionLag:
    """One partition: the hub's first and last sequence number, how far bronze and silver have come; -1 for nothing."""

    partition: int
    first: int
    hub: int
    bronze: int
    silver: int

    @property
    def events(self) -> int:
        """Events that are not in silver yet: in the hub, or left between bronze and silver by a crash."""
        return max(0, self.hub - max(self.bronze, self.first - 1)) + max(0, self.bronze - self.silver)


@dataclass(frozen=True)
class Backlog:
    """A stream's lag by partition, and whether alerts are stored that the alerts hub did not take.

    `older_events` came from hubs before this one; they are in bronze and not in silver yet.
    """

    partitions: tuple[PartitionLag, ...]
    has_unpublished_alerts: bool
    older_events: int = 0

    @property
    def events(self) -> int:
        """Events that are not in silver yet."""
        return self.older_events + sum(partition.events for partition in self.partitions)

    @property
    def offsets(self) -> str:
        """Bronze's offsets for a run's tags: ``0:41,1:-1``."""
        return ",".join(f"{each.partition}:{each.bronze}" for each in self.partitions)


def backlog(contract: Contract, lake: Lake, source: EventSource) -> Backlog:
    """A stream's backlog.

    Raises:
        HubUnavailableError: the hub cannot be asked.
        HubRecreatedError: the hub is not the one that bronze was read from.
    """
    hub: HubState = source.state()
    store = StreamStore(contract, lake)
    bronze: dict[int, int] = {}
    silver: dict[int, int] = {}
    has_unpublished_alerts, older_events = False, 0
    # Whoever only looks creates no tables.
    if store.bronze.exists():
        store.look(hub.tails)
        hub = identified(source, contract.stream, hub, store)
        bronze, silver = (store.of_hub(store.offsets(role)) for role in ("bronze", "silver"))
        has_unpublished_alerts, older_events = store.has_unpublished(), store.older_events_behind()
    return Backlog(
        tuple(
            PartitionLag(partition, tail.first, tail.last, bronze.get(partition, -1), silver.get(partition, -1))
            for partition, tail in sorted(hub.tails.items())
        ),
        has_unpublished_alerts,
        older_events,
    )
