"""Which topics of a broker are read, and what a topic says of the messages in it. Pure.

A *topic map* is a list of MQTT filters in which a level may have a name in braces:

```
 health/{device}/{kind}, hae/{patient}/#=health-auto-export, ward-3/{device}/vitals=vitals
```

Behind ``=`` stands where messages go (streams) and which format they have, joined by ``+``; both may be left out, and
then each message tells.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

DEVICE, PATIENT, KIND = "device", "patient", "kind"
NAMES = (DEVICE, PATIENT, KIND)
DEFAULT = "health/{device}/{kind}"
_PLACEHOLDER = re.compile(r"\{([^{}/]*)\}")
MAX_FILTER_BYTES = 65_535


class TopicMapError(ValueError):
    """A topic map cannot be read; the message says which entry, and what to write."""


class Match(NamedTuple):
    """What a topic says.

    Attributes:
        route: the entry of the map that fits first.
        device: the device's id in the names of the broker; empty if the topic has none.
        patient: the id that stands for the patient; empty if the topic has none.
        kind: what a bare number is; empty if the topic does not say it.
    """

    route: "Route"
    device: str = ""
    patient: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Route:
    """One entry of a map.

    Attributes:
        pattern: the filter, with names.
        targets: streams and formats, as they were written.
    """

    pattern: str
    targets: tuple[str, ...] = ()

    @property
    def filter(self) -> str:
        """What the broker is asked for."""
        return _PLACEHOLDER.sub("+", self.pattern)

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        levels = []
        for level in self.pattern.split("/"):
            if level == "+":
                levels.append("[^/]*")
            elif named := _PLACEHOLDER.fullmatch(level):
                levels.append(f"(?P<{named[1]}>[^/]*)")
            else:
                levels.append(re.escape(level))
        if levels[-1] == "\\#":
            return re.compile("/".join(levels[:-1]) + "(?:/.*)?" if levels[1:] else "[^$].*", re.DOTALL)
        return re.compile("/".join(levels), re.DOTALL)

    def match(self, topic: str) -> Match | None:
        """What a topic says; None if it is none of this filter's."""
        # A wildcard of the first level never means the broker's own topics.
        if topic.startswith("$") and not self.pattern.startswith("$"):
            return None
        found = self._expression.fullmatch(topic)
        return None if found is None else Match(self, **found.groupdict())


@dataclass(frozen=True)
class TopicMap:
    """All entries, in their order: of several that fit a topic the first one counts."""

    routes: Sequence[Route]

    @classmethod
    def of(cls, text: str) -> "TopicMap":
        """The map that a text says.

        Raises:
            TopicMapError: an entry is no filter, or has names that there are not.
        """
        routes = [_route(entry.strip()) for entry in text.split(",") if entry.strip()]
        if not routes:
            raise TopicMapError(f"there is no topic in it; write filters such as {DEFAULT}")
        return cls(tuple(routes))

    def filters(self) -> list[str]:
        """What the broker is asked for, each filter once."""
        return list(dict.fromkeys(route.filter for route in self.routes))

    def match(self, topic: str) -> Match | None:
        """What a topic says, by the first entry that fits."""
        return next((found for route in self.routes if (found := route.match(topic))), None)

    def check(self, names: Iterable[str]) -> None:
        """Refuses targets that are none of the names.

        Raises:
            TopicMapError: the message lists those there are.
        """
        known = list(names)
        for route in self.routes:
            for target in route.targets:
                if target not in known:
                    raise TopicMapError(
                        f"'{target}' behind '{route.pattern}' is neither a stream nor a format; there are: "
                        f"{', '.join(known)}"
                    )


def _route(entry: str) -> Route:
    pattern, equals, behind = entry.partition("=")
    pattern, targets = pattern.strip(), tuple(each.strip() for each in behind.split("+") if each.strip())
    if equals and not targets:
        raise TopicMapError(f"'{entry}' names nothing behind '='; write a stream, or leave '=' out")
    levels = pattern.split("/")
    names = [name for level in levels for name in _PLACEHOLDER.findall(level)]
    if unknown := [name for name in names if name not in NAMES]:
        raise TopicMapError(f"'{pattern}' has '{{{unknown[0]}}}'; a level may be {{device}}, {{patient}} or {{kind}}")
    if len(set(names)) != len(names):
        raise TopicMapError(f"'{pattern}' has a name twice")
    if pattern.startswith("$share/"):
        raise TopicMapError(f"'{pattern}' is a shared subscription, which breaks the order of a device's messages")
    for number, level in enumerate(levels):
        plain = _PLACEHOLDER.sub("+", level)
        is_last = number == len(levels) - 1
        if any(each in plain for each in "+{}") and plain != "+":
            raise TopicMapError(f"'{pattern}': a wildcard, or a name, must be a whole level between slashes")
        if "#" in plain and not (plain == "#" and is_last):
            raise TopicMapError(f"'{pattern}': '#' must be the last level, alone")
    if "\0" in pattern or len(pattern.encode("utf-8", "replace")) > MAX_FILTER_BYTES:
        raise TopicMapError("a filter is too long, or has a NUL")
    return Route(pattern, targets)
