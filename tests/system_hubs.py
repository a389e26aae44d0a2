"""The hubs of the whole system, for tests and benchmarks that start all of its streams."""

from orchestration.system import HUBS
from resources.settings import DEFAULT_HUBS


def system_hubs(**partitions: int) -> list[str]:
    """What a hub is started with: one hub for each stream and for alerts, with a partition unless said otherwise."""
    return [f"{DEFAULT_HUBS.get(name, name)}:{partitions.get(name, 1)}" for name in HUBS]
