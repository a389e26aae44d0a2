"""Restarts, kill -9, full disks: what was acknowledged is there, once, and numbered without gaps."""

import resource
import shutil
import threading

import pytest
from azure.eventhub import EventData
from azure.eventhub.exceptions import EventDataSendError, EventHubError

from tests.emulator.clients import PATIENCE_SECONDS, Reading, bodies, partition_properties, producer, receive, send
from tests.emulator.hub import RunningHub

pytestmark = [
    pytest.mark.crash,
    pytest.mark.service,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Sending(threading.Thread):
    """Sends numbered batches of three one after the other until it is refused; remembers what was accepted."""

    def __init__(self, connection_string: str, first: int) -> None:
        super().__init__(daemon=True)
        self.accepted: list[str] = []
        self._next = first
        self._connection_string = connection_string
        self.has_sent_enough = threading.Event()

    def run(self) -> None:
        with producer(self._connection_string) as client:
            while True:
                batch = [f"{self._next}-{item}" for item in range(3)]
                self._next += 1
                try:
                    client.send_batch([EventData(body) for body in batch], partition_id="0")
                except EventHubError:
                    return
                self.accepted += batch
                if len(self.accepted) >= 90:
                    self.has_sent_enough.set()


@pytest.mark.parametrize(("fsync", "kills"), [("none", 2), ("always", 1)])
def test_no_accepted_event_is_lost_when_the_emulator_is_killed(fsync, kills):
    accepted: list[str] = []
    with RunningHub(options=("--segment-bytes", "10000", "--fsync", fsync)) as hub:
        for round_number in range(kills):
            sending = Sending(hub.connection_string, first=round_number * 100_000)
            sending.start()
            assert sending.has_sent_enough.wait(PATIENCE_SECONDS)
            hub.kill()
            sending.join(PATIENCE_SECONDS)
            accepted += sending.accepted
            hub.start()
        count = partition_properties(hub.connection_string)["last_enqueued_sequence_number"] + 1
        events = receive(hub.connection_string, count)
    assert [event.sequence_number for event in events] == list(range(count))
    stored = bodies(events)
    assert len(set(stored)) == len(stored)
    assert set(accepted) <= set(stored)
    assert len(stored) - len(accepted) in range(0, 3 * kills + 1, 3)


def test_a_restart_keeps_events_identity_and_port_and_tells_readers_why():
    with RunningHub() as hub:
        send(hub.connection_string, ["a", "b"])
        with producer(hub.connection_string) as client:
            created_at, port = client.get_eventhub_properties()["created_at"], hub.port
            with Reading(hub.connection_string) as reading:
                reading.wait_for_events(2)
                assert hub.stop() == 0
                hub.start()
            assert hub.port == port
            assert client.get_eventhub_properties()["created_at"] == created_at
            assert bodies(receive(hub.connection_string, 2)) == ["a", "b"]

            hub.stop()
            shutil.rmtree(hub.data / "hub")
            hub.start()
            recreated = client.get_eventhub_properties()["created_at"]
        assert recreated > created_at
        assert partition_properties(hub.connection_string)["is_empty"] is True


def test_a_full_disk_rejects_the_delivery_and_later_ones_are_accepted_again():
    with RunningHub() as hub, producer(hub.connection_string) as client:
        client.send_event(EventData("before"), partition_id="0")
        _, hard = resource.prlimit(hub.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(hub.pid, resource.RLIMIT_FSIZE, (1_000, hard))
        with pytest.raises(EventDataSendError, match="cannot be written: File too large"):
            client.send_event(EventData("x" * 5_000), partition_id="0")
        client.send_event(EventData("small"), partition_id="0")
        resource.prlimit(hub.pid, resource.RLIMIT_FSIZE, (hard, hard))
        client.send_event(EventData("y" * 5_000), partition_id="0")
        hub.kill()
        hub.start()
        assert bodies(receive(hub.connection_string, 3)) == ["before", "small", "y" * 5_000]


def test_retention_moves_the_beginning_while_running():
    options = ("--segment-bytes", "20000", "--retention-bytes-per-partition", "100000")
    with RunningHub(options=options) as hub, producer(hub.connection_string) as client:
        for batch in range(30):
            client.send_batch([EventData(f"{batch}-" + "x" * 500) for _ in range(20)], partition_id="0")
        properties = client.get_partition_properties("0")
        begin = properties["beginning_sequence_number"]
        assert properties["last_enqueued_sequence_number"] == 599
        assert 300 < begin < 599
        assert sum(path.stat().st_size for path in (hub.data / "hub" / "0").iterdir()) <= 100_000
        events = receive(hub.connection_string, 600 - begin, starting_position=5)
    assert [event.sequence_number for event in events] == list(range(begin, 600))
