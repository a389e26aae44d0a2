"""Hubs on disk: identity, partitions, consumer groups, and who reads what.

A hub decides which partition an event goes to and which readers may stand at it; it speaks AmqpError, but
knows nothing of connections and links.
"""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from emulator import codec
from emulator.config import HubConfig
from emulator.frames import AmqpError
from emulator.keyhash import partition_of
from emulator.log import LogSettings, PartitionLog, StorageError, flush_folder
from emulator.message import Delivery, wire_batch

MAX_READERS = 5
_ADDRESS = re.compile(
    r"(?P<hub>[^/$][^/]*)(?:/ConsumerGroups/(?P<group>[^/]+))?(?:/Partitions/(?P<partition>[^/]+))?",
    re.IGNORECASE,
)


class Reader(Protocol):
    @property
    def epoch(self) -> int | None: ...

    def wake(self) -> None: ...

    def disconnect(self, error: AmqpError) -> None: ...


class Partition:
    def __init__(self, name: str, log: PartitionLog) -> None:
        self.name = name
        self.log = log
        self._readers: dict[str, list[Reader]] = {}

    def append(self, delivery: Delivery) -> None:
        """Store the events, all or none, and let the readers know."""
        try:
            self.log.append(lambda sequence, offset, ms: wire_batch(delivery, sequence, offset, ms))
        except StorageError as error:
            raise AmqpError("amqp:resource-limit-exceeded", str(error)) from error
        for readers in self._readers.values():
            for reader in readers:
                reader.wake()

    def admit(self, group: str, reader: Reader) -> None:
        """Let a reader in, or refuse it, by the owner levels (epochs) present; an equal one replaces."""
        present = self._readers.setdefault(group, [])
        highest = max((other.epoch for other in present if other.epoch is not None), default=None)
        if highest is not None and (reader.epoch is None or reader.epoch < highest):
            own = "a reader without epoch" if reader.epoch is None else f"a reader with epoch '{reader.epoch}'"
            raise AmqpError(
                "amqp:link:stolen", f"A receiver with epoch '{highest}' is present and so {own} is not allowed."
            )
        if reader.epoch is not None:
            for other in list(present):
                other.disconnect(
                    AmqpError(
                        "amqp:link:stolen",
                        f"New receiver with higher or equal epoch '{reader.epoch}' is created, "
                        "hence the current receiver is disconnected.",
                    )
                )
        elif len(present) >= MAX_READERS:
            raise AmqpError(
                "amqp:resource-limit-exceeded",
                f"Exceeded the maximum number of {MAX_READERS} receivers per partition in a consumer group.",
            )
        present.append(reader)

    def release(self, group: str, reader: Reader) -> None:
        readers = self._readers.get(group, [])
        if reader in readers:
            readers.remove(reader)


class Hub:
    def __init__(self, config: HubConfig, root: Path, settings: LogSettings, now_ms: Callable[[], int]) -> None:
        self.name = config.name
        self.groups = {group.lower() for group in config.groups}
        self._folder = root / config.name.lower()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._refuse_to_shrink(config.partitions)
        self.created_ms = self._identity(now_ms())
        self.partitions = {
            str(number): Partition(str(number), PartitionLog(self._folder / str(number), settings, now_ms))
            for number in range(config.partitions)
        }
        self._turn = 0

    def partition(self, name: str) -> Partition:
        if name not in self.partitions:
            raise AmqpError(
                "com.microsoft:argument-out-of-range",
                f"The partition '{name}' of hub '{self.name}' does not exist. "
                f"It should be between 0 and {len(self.partitions) - 1}.",
            )
        return self.partitions[name]

    def partition_for(self, delivery: Delivery) -> Partition:
        """By the hash of the partition key, or in turn without one."""
        count = len(self.partitions)
        if delivery.key is not None:
            key = codec.decode(delivery.key)[0]
            if not isinstance(key, str | bytes):
                raise AmqpError("amqp:invalid-field", "The partition key must be a string.")
            return self.partitions[str(partition_of(key if isinstance(key, bytes) else key.encode(), count))]
        self._turn += 1
        return self.partitions[str((self._turn - 1) % count)]

    def expire(self) -> None:
        for partition in self.partitions.values():
            partition.log.expire()

    def close(self) -> None:
        for partition in self.partitions.values():
            partition.log.close()

    def _refuse_to_shrink(self, wanted: int) -> None:
        present = sum(1 for entry in self._folder.iterdir() if entry.is_dir() and entry.name.isdigit())
        if wanted < present:
            raise StorageError(
                f"hub '{self.name}' has {present} partitions in {self._folder} but PartitionCount is {wanted}; "
                f"set it to {present} or more, or remove the folder to begin anew"
            )

    def _identity(self, now_ms: int) -> int:
        """When the hub was created: written once, so that only a hub created anew has another."""
        path = self._folder / "hub.json"
        try:
            return int(json.loads(path.read_text(encoding="utf-8"))["created_at_ms"])
        except FileNotFoundError:
            partial = path.with_suffix(".new")
            with partial.open("w", encoding="utf-8") as file:
                json.dump({"name": self.name, "created_at_ms": now_ms}, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            flush_folder(self._folder)
            return now_ms
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{path} is damaged; restore it or remove the folder {self._folder}") from error


class Entity(NamedTuple):
    """What a link's address means."""

    hub: Hub
    group: str | None
    partition: Partition | None


class Namespace:
    """All hubs of one emulator, found by name without regard to case."""

    def __init__(self, hubs: list[Hub]) -> None:
        self.hubs = {hub.name.lower(): hub for hub in hubs}

    def hub(self, name: str) -> Hub:
        if name.lower() not in self.hubs:
            known = ", ".join(hub.name for hub in self.hubs.values())
            raise AmqpError("amqp:not-found", f"The messaging entity '{name}' could not be found. Hubs: {known}.")
        return self.hubs[name.lower()]

    def resolve(self, address: str) -> Entity:
        match = _ADDRESS.fullmatch(address)
        if match is None:
            raise AmqpError("amqp:not-found", f"The messaging entity '{address}' could not be found.")
        hub, group = self.hub(match["hub"]), match["group"]
        if group is not None and group.lower() not in hub.groups:
            raise AmqpError("amqp:not-found", f"The consumer group '{group}' of hub '{hub.name}' could not be found.")
        partition = None if match["partition"] is None else hub.partition(match["partition"])
        return Entity(hub, None if group is None else group.lower(), partition)

    def expire(self) -> None:
        for hub in self.hubs.values():
            hub.expire()

    def close(self) -> None:
        for hub in self.hubs.values():
            hub.close()
