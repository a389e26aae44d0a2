"""What the engine needs of a hub, whatever its transport: its state, its events in order, and a way to publish."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self


class HubUnavailableError(ConnectionError):
    """The hub cannot be reached, or refuses us. Nothing was lost: what is not committed is pulled again."""


class HubTakenOverError(HubUnavailableError):
    """Another receiver of the stream took the place of this one."""


class Tail(NamedTuple):
    """What a partition holds; nothing if `last` is below `first`.

    Attributes:
        first, last: the sequence numbers of its oldest and of its newest event.
        given: the highest number that it ever gave, where that may be above `last`: to an event that is gone, or to
            something that is no event.
    """

    first: int
    last: int
    given: int = -1

    @property
    def end(self) -> int:
        """No event can have come from this partition with a higher number."""
        return max(self.last, self.given)


@dataclass(frozen=True)
class HubState:
    """A hub at one moment.

    Attributes:
        identity: another number means another hub. Of Event Hubs it is the time of creation in epoch milliseconds, of
            Kafka a number made of the topic's id; None where the hub tells none.
        tails: for each partition what it holds.
        is_gapless: whether each event has the number that follows on that of the event before it. Where it is False,
            numbers that are missing in between are no loss.
    """

    identity: int | None
    tails: Mapping[int, Tail]
    is_gapless: bool = True


class Pulled(NamedTuple):
    """Events of one partition in the order of the hub; all lists have one length.

    Attributes:
        partition: the partition's number.
        sequence_numbers: ascending.
        enqueued_ms: when the hub took each event, epoch milliseconds.
        bodies: as they were sent; None where an event has none, as a tombstone of Kafka.
        keys: the partition keys; None where an event has none.
        properties: JSON text of what the sender said about each event: the application properties, and the standard
            properties of AMQP that are set in an object ``amqp``, or the headers of Kafka;
            None where there are none.
        annotations: JSON text of what transports said about each event beyond its number, time and key, for instance
            ``iothub-connection-device-id``; None where there is nothing.
        expired: how many numbers before the first event the hub removed before they were read; for hubs whose numbers
            have gaps, since a hub without gaps shows it by the numbers themselves.
    """

    partition: int
    sequence_numbers: list[int]
    enqueued_ms: list[int]
    bodies: list[bytes | None]
    keys: list[str | None]
    properties: list[str | None]
    annotations: list[str | None]
    expired: int = 0

    @classmethod
    def nothing(cls, partition: int) -> Self:
        """No events yet."""
        return cls(partition, [], [], [], [], [], [])

    def extend(self, other: "Pulled", start: int = 0) -> None:
        """Appends the other's events from its event `start` on."""
        self.sequence_numbers.extend(other.sequence_numbers[start:])
        self.enqueued_ms.extend(other.enqueued_ms[start:])
        self.bodies.extend(other.bodies[start:])
        self.keys.extend(other.keys[start:])
        self.properties.extend(other.properties[start:])
        self.annotations.extend(other.annotations[start:])


class Receiver(Protocol):
    """Receives from all partitions in the background, into a bounded buffer."""

    def take(self, timeout: float) -> list[Pulled]:
        """What has arrived since the last call, at most one entry a partition; waits up to `timeout` seconds for any.

        Raises:
            HubUnavailableError: receiving failed for good; what arrived before was handed out by earlier calls.
            HubTakenOverError: since another receiver began.
        """
        ...

    def wait_until_open(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds until all partitions are being received, and says whether they are."""
        ...

    def skip(self, reached: Mapping[int, int]) -> None:
        """Hands out no more events up to a sequence number of each partition; another receiver handed them out."""
        ...

    def gather(self, seconds: float) -> None:
        """Lets so much time pass, or less if the buffer is full before."""
        ...


class EventSource(Protocol):
    """One hub to read from."""

    @property
    def name(self) -> str:
        """The hub's name."""
        ...

    def state(self) -> HubState:
        """The hub's identity and tails.

        Raises:
            HubUnavailableError: the hub cannot be reached or does not exist.
        """
        ...

    def receive(self, after: Mapping[int, int]) -> AbstractContextManager[Receiver]:
        """Starts to receive, in each partition behind the given sequence number, or from its beginning if absent."""
        ...


class Publisher(Protocol):
    """One hub to write to."""

    def publish(self, bodies: Sequence[bytes], keys: Sequence[str]) -> list[int]:
        """Sends events, in order for each key, and returns when the hub has them.

        It may be called by several threads. Without events it only makes sure that the hub can be reached.

        Args:
            bodies: of the events.
            keys: one for each event. Those of one key go to one partition; an empty key is none.

        Returns:
            The indexes of events that are larger than the hub accepts, and that no repetition will get there; all
            others were sent. Usually there are none.

        Raises:
            HubUnavailableError: the hub did not accept all of them in time; some may have been accepted. While the hub
                is away, this comes at once.
        """
        ...


class SendingPublisher(Publisher, Protocol):
    """A hub to write to by its own transport, which also takes what is said about each event."""

    def publish(
        self, bodies: Sequence[bytes], keys: Sequence[str], properties: Sequence[Mapping[str, str]] = ()
    ) -> list[int]:
        """See `Publisher.publish`.

        Args:
            bodies, keys: see there.
            properties: names and texts for each event, or nothing at all. Receivers get them in `Pulled.properties`.
        """
        ...
