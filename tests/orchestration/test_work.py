"""What `pulselake drain` does, against a hub that drops events by age."""

import pytest

from assets.stream.session import SessionLimits
from orchestration.system import STREAMS
from orchestration.work import Drained, drain, is_reached, refresh_reports, twice
from resources.event_source import Tail
from resources.lake import ConcurrentWriteError
from resources.settings import Settings
from tests.emulator.hub import RunningHub
from tests.orchestration.commands import CommandLine
from tests.orchestration.site import Site, readings, wait_until

# The SDK leaves the sockets of lost connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

GLUCOSE = STREAMS[0]
AT_ONCE = ["--retention-hours", "0.00001"]


@pytest.mark.parametrize(
    ("first", "reached", "is_done"),
    [(0, {}, False), (0, {0: 8}, False), (0, {0: 9}, True), (5, {0: 8}, False), (10, {0: 3}, True), (10, {}, True)],
)
def test_a_drain_is_done_when_all_was_read_or_has_expired(first, reached, is_done):
    assert is_reached({0: Tail(0, 9)}, {0: Tail(first, 20)}, reached) is is_done


@pytest.mark.parametrize("empty", [Tail(0, -1), Tail(100, 99)])
def test_an_empty_partition_is_done(empty):
    assert is_reached({0: empty}, {0: empty}, {})


def restart(site: Site, *options: str) -> None:
    site.hub.stop()
    site.start(RunningHub(site.hub.hubs, site.hub.data, options=options))


def send_in_vain(site: Site, count: int) -> None:
    """Events that are gone before anyone reads them."""
    restart(site, *AT_ONCE)
    site.send(readings(count))
    wait_until(lambda: site.source.state().tails[0].first > site.source.state().tails[0].last, "the expiry")


def drained(site: Site) -> Drained:
    return drain(GLUCOSE, Settings(), SessionLimits(idle_timeout_s=0.4), lambda _: None)


@pytest.mark.service
def test_a_new_lake_drains_an_emptied_hub_and_what_comes_after(site):
    send_in_vain(site, 3)
    assert drained(site).totals.events == 0
    restart(site)
    site.send(readings(2))
    assert drained(site).totals.events == 2
    assert site.rows("bronze")["sequence_number"].to_list() == [3, 4]


@pytest.mark.service
def test_events_that_expired_after_the_last_drain_are_told(site):
    site.send(readings(2))
    assert drained(site).totals.expired_events == 0
    send_in_vain(site, 3)
    assert "3 events had expired in the hub before they were read" in refused(site)


@pytest.mark.service
def test_alerts_that_could_not_be_published_are_told(site):
    site.send(readings(2, value=300.0))
    said = refused(site, PULSELAKE_HUBS="alerts=nowhere")
    assert "glucose_readings: alerts are stored but not published" in said
    assert "'nowhere'" in said
    assert site.rows("alerts").height > 0


def refused(site: Site, **settings: str) -> str:
    """What a drain says that exits with 1."""
    own = {"PULSELAKE_HOME": str(site.folder), "EVENTHUB_CONNECTION_STRING": site.hub.connection_string}
    command = CommandLine(site.folder, site.hub.port)
    return command.invoke("drain", "glucose", code=1, **own, **settings).err


def test_reports_are_left_where_they_are_when_a_stop_is_asked(offline):
    told: list[str] = []
    built = refresh_reports(offline.lake, told.append, lambda: len(told) == 2)
    assert len(built) == len(told) == 2


def test_a_slower_writer_tries_once_more():
    attempts: list[int] = []

    def write() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise ConcurrentWriteError("another was faster")
        return "written"

    assert twice(write) == "written"


def test_a_writer_that_is_slower_twice_gives_up():
    def write() -> None:
        raise ConcurrentWriteError("another was faster")

    with pytest.raises(ConcurrentWriteError):
        twice(write)
