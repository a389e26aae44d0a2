"""Only the alerts hub is silent: it accepts and never answers. Data goes on, and a session ends when it is asked to."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from assets.glucose.assets import CONTRACT
from assets.stream.session import Session, SessionLimits, Totals
from resources import event_hubs, event_hubs_publisher
from resources.event_hubs import EventHubsNamespace
from tests.emulator.hub import RunningHub
from tests.resources.silent import SilentPeer
from tests.stream.scenarios import body, lake_in, reading
from tests.stream.tables import rows
from tests.stream.test_exactness import send, source_of

pytestmark = [
    pytest.mark.service,
    # The SDK leaves the sockets of connections that failed to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SHORT_S = 5.0


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    with RunningHub(("glucose:1", "alerts:1")) as running:
        yield running


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (event_hubs, "OPEN_TIMEOUT_S"),
        (event_hubs_publisher, "PUBLISH_TIMEOUT_S"),
        (event_hubs_publisher, "CLOSE_TIMEOUT_S"),
    ):
        monkeypatch.setattr(module, name, SHORT_S)


def low(patient: int) -> bytes:
    return body(reading(0, 40, patient=patient, timestamp=datetime.now(UTC).isoformat()))


def test_bronze_and_silver_go_on_and_the_alerts_go_out_when_the_hub_answers(hub: RunningHub, tmp_path: Path) -> None:
    lake, source = lake_in(tmp_path), source_of(hub, "glucose")
    limits = SessionLimits(trigger_s=0.05, commit_interval_s=0.1, until_caught_up=True)
    with SilentPeer() as peer:
        send(hub, "glucose", [low(patient) for patient in range(5)])
        with EventHubsNamespace(peer.connection_string).publisher("alerts") as publisher:
            for more in range(2):
                totals = Session(CONTRACT, lake, source, publisher, limits=limits).run()
                assert totals.alerts_withheld
                send(hub, "glucose", [low(5 + more)])
            assert (rows(lake, "bronze").height, rows(lake, "silver").height) == (6, 6)
    with EventHubsNamespace(hub.connection_string).publisher("alerts") as publisher:
        assert Session(CONTRACT, lake, source, publisher, limits=limits).run().alerts_withheld is None
    state = source_of(hub, "alerts").state()
    assert sum(tail.last + 1 for tail in state.tails.values()) == rows(lake, "alerts").height == 14


def test_a_session_that_waits_for_the_alerts_hub_ends_when_it_is_asked_to(hub: RunningHub, tmp_path: Path) -> None:
    lake, stop, ended = lake_in(tmp_path), threading.Event(), list[Totals]()
    with SilentPeer() as peer, EventHubsNamespace(peer.connection_string).publisher("alerts") as publisher:
        session = Session(CONTRACT, lake, source_of(hub, "glucose"), publisher, should_stop=stop.is_set)
        thread = threading.Thread(target=lambda: ended.append(session.run()), daemon=True)
        thread.start()
        send(hub, "glucose", [low(1)])
        while not rows(lake, "bronze").height:
            thread.join(0.05)
            assert thread.is_alive()
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
    assert ended[0].events == 1
    assert ended[0].alerts_withheld
