"""How far a stream is behind its hub, by the hub and the Delta logs alone."""

from dataclasses import dataclass

from assets.stream.contract import Contract
from assets.stream.session import check_identity
from assets.stream.store import StreamStore
from resources.event_source import EventSource, HubState
from resources.lake import Lake


@dataclass(frozen=True)
class PartitionLag:
    """One partition: the hub's last sequence number and how far bronze and silver have come; -1 for nothing yet."""

    partition: int
    hub: int
    bronze: int
    silver: int

    @property
    def events(self) -> int:
        """Events that are not in silver yet."""
        return self.hub - min(self.bronze, self.silver)


@dataclass(frozen=True)
class Backlog:
    """A stream's lag by partition."""

    partitions: tuple[PartitionLag, ...]

    @property
    def events(self) -> int:
        """Events that are not in silver yet."""
        return sum(max(0, partition.events) for partition in self.partitions)

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
    store.open(hub.tails)
    check_identity(source.name, hub, store)
    bronze, silver = store.offsets(store.bronze), store.offsets(store.silver)
    return Backlog(
        tuple(
            PartitionLag(partition, tail.last, bronze.get(partition, -1), silver.get(partition, -1))
            for partition, tail in sorted(hub.tails.items())
        )
    )
