import pytest

from tests.emulator.hub import RunningHub


@pytest.fixture(scope="session")
def emulator():
    """One emulator for tests that each use a hub of their own, or do not mind what others sent."""
    hubs = ("hub:2", "kinds:1", "keys:4:cg1", "positions:1", "latest:1", "epochs:1", "large:1", "balanced:4", "raw:1")
    with RunningHub(hubs=hubs) as running:
        yield running
