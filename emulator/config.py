"""Which hubs there are: the JSON configuration in the schema of Microsoft's Event Hubs emulator."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

DEFAULT_GROUP = "$Default"
MAX_PARTITIONS = 1024
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,254}[A-Za-z0-9])?")


class ConfigError(Exception):
    """The configuration cannot be used; the message names the file, the key and the fix."""


@dataclass(frozen=True)
class HubConfig:
    name: str
    partitions: int
    groups: tuple[str, ...] = (DEFAULT_GROUP,)


def load_config(path: str | Path) -> tuple[HubConfig, ...]:
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; pass an existing file with --config") from error
    except ValueError as error:
        raise ConfigError(f"{path}: is not JSON: {error}") from error
    hubs = _Node(document, str(path), "").child("UserConfig").children("NamespaceConfig")
    return unique([_hub(entity) for namespace in hubs for entity in namespace.children("Entities")], str(path))


def parse_hub(argument: str) -> HubConfig:
    """A hub from NAME:PARTITIONS or NAME:PARTITIONS:GROUP,GROUP."""
    name, _, rest = argument.partition(":")
    partitions, _, groups = rest.partition(":")
    node = _Node(
        {"Name": name, "PartitionCount": partitions, "ConsumerGroups": [{"Name": g} for g in groups.split(",") if g]},
        f"--hub {argument}",
        "",
    )
    return _hub(node)


def unique(hubs: list[HubConfig], origin: str) -> tuple[HubConfig, ...]:
    if not hubs:
        raise ConfigError(f"{origin}: no hub is defined; add an entry to UserConfig.NamespaceConfig[0].Entities")
    seen: set[str] = set()
    for hub in hubs:
        if hub.name.lower() in seen:
            raise ConfigError(f"{origin}: hub '{hub.name}' is defined twice; names differ in more than case")
        seen.add(hub.name.lower())
    return tuple(hubs)


class _Node:
    """A part of the document that remembers where it stands, for messages."""

    def __init__(self, value: object, origin: str, key: str) -> None:
        self.value, self.origin, self.key = value, origin, key

    def wrong(self, fix: str) -> ConfigError:
        return ConfigError(f"{self.origin}: {self.key or 'the document'}: {fix}")

    def child(self, name: str) -> "_Node":
        if not isinstance(self.value, dict):
            raise self.wrong("must be an object {...}")
        return _Node(self.value.get(name), self.origin, f"{self.key}.{name}".lstrip("."))

    def children(self, name: str, optional: bool = False) -> list["_Node"]:
        node = self.child(name)
        if node.value is None and optional:
            return []
        if not isinstance(node.value, list):
            raise node.wrong("is missing; it must be a list [...]" if node.value is None else "must be a list [...]")
        return [_Node(item, self.origin, f"{node.key}[{index}]") for index, item in enumerate(node.value)]

    def name(self) -> str:
        node = self.child("Name")
        if not isinstance(node.value, str) or not _NAME.fullmatch(node.value):
            raise node.wrong("must be letters, digits, '.', '-' and '_', beginning and ending with a letter or digit")
        return node.value


def _hub(entity: _Node) -> HubConfig:
    name = entity.name()
    groups = {DEFAULT_GROUP.lower(): DEFAULT_GROUP}
    for group in entity.children("ConsumerGroups", optional=True):
        if group.child("Name").value != DEFAULT_GROUP:
            groups.setdefault(group.name().lower(), group.name())
    return HubConfig(name, _partitions(entity.child("PartitionCount")), tuple(groups.values()))


def _partitions(node: _Node) -> int:
    value = node.value
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_PARTITIONS:
        raise node.wrong(f"must be a number from 1 to {MAX_PARTITIONS}, not {value!r}")
    return value
