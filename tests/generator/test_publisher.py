import json
import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from generator import publisher
from generator.events import Event
from generator.publisher import Progress, PublishError, publish, publish_file
from generator.streams import glucose_events
from resources.event_hubs import EventHubsNamespace
from resources.event_hubs_publisher import EventHubsPublisher, partition_of
from resources.event_source import HubUnavailableError
from tests.emulator.clients import Reading, producer
from tests.emulator.hub import RunningHub

START = datetime(2024, 5, 1, tzinfo=UTC)


class Hub:
    """A publisher without a network: keeps what is sent; after `good_sends` it raises `errors`, one each."""

    def __init__(self, errors: Sequence[Exception] = (), good_sends: int = 1, limit_bytes: int = 10_000) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.sends = 0
        self.errors = list(errors)
        self.good_sends = good_sends
        self.limit_bytes = limit_bytes

    def publish(self, bodies: Sequence[bytes], keys: Sequence[str]) -> list[int]:
        self.sends += 1
        if self.errors and self.sends > self.good_sends:
            raise self.errors.pop(0)
        too_large = [number for number, body in enumerate(bodies) if len(body) > self.limit_bytes]
        self.sent += [each for each in zip(keys, bodies, strict=True) if len(each[1]) <= self.limit_bytes]
        return too_large

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body in self.sent]


GONE = HubUnavailableError("gone")


@pytest.fixture(scope="module")
def hub():
    with RunningHub(hubs=("stream:2", "file:2", "outage:1")) as running:
        yield running


@pytest.fixture
def no_wait(monkeypatch):
    monkeypatch.setattr(publisher, "RETRY_SECONDS", 0)


def publisher_of(hub: RunningHub, name: str) -> EventHubsPublisher:
    return EventHubsNamespace(hub.connection_string).publisher(name)


def stored(hub: RunningHub, name: str) -> dict[str, list[bytes]]:
    """Every body of a hub, by partition."""
    with producer(hub.connection_string, name) as client, ExitStack() as stack:
        counts = {
            partition: client.get_partition_properties(partition)["last_enqueued_sequence_number"] + 1
            for partition in client.get_partition_ids()
        }
        readings = {
            partition: stack.enter_context(Reading(hub.connection_string, partition=partition, hub=name))
            for partition in counts
        }
        return {
            partition: [b"".join(event.body) for event in reading.wait_for_events(counts[partition])]
            for partition, reading in readings.items()
        }


def events(count: int, **arguments: Any) -> list[Event]:
    return list(glucose_events(start=START, spacing=timedelta(minutes=5), count=count, **arguments))


def numbered(count: int, key: str = "7") -> list[Event]:
    return [Event(key, str(number).encode()) for number in range(count)]


def in_order(sent: list[Event], bodies: dict[str, list[bytes]]) -> bool:
    expected = defaultdict(list)
    for event in sent:
        expected[partition_of(event.key, sorted(bodies))].append(event.body)
    return {partition: expected[partition] for partition in bodies} == bodies


@pytest.mark.service
def test_a_real_hub_gets_every_byte_in_each_patients_order(hub):
    sent = events(6000, patients=20, faults=0.2, repeats=0.02)
    with publisher_of(hub, "stream") as client:
        published = publish(sent, client)
    assert in_order(sent, stored(hub, "stream"))
    assert published.events == 6000
    assert published.readings == sum(event.readings for event in sent)
    assert published.by_label == Counter(event.label for event in sent)
    assert (published.resent, published.too_large) == (0, ())


LINES = [
    b'{"patient_id": 5, "glucose_level": 1}',
    b"{'patient_id': 5}",
    b"",
    b" \t",
    b'\xff\xfe{"patient_id": 5}',
    b'{"patient_id": 5, "glucose_level": 2}\r',
    b"X" * 1_100_000,
    b'\xef\xbb\xbf{"patient_id": 5, "glucose_level": 3}',
    b'[{"patient_id": 5, "glucose_level": 4}, {"patient_id": 5, "glucose_level": 5}]',
    b"null",
    b'{"device_id": "D 9"}',
    b"the last line without a line feed",
]


@pytest.mark.service
def test_a_file_goes_line_by_line_byte_for_byte_to_a_real_hub(hub, tmp_path, caplog):
    recording = tmp_path / "readings.ndjson"
    recording.write_bytes(b"\n".join(LINES))
    with publisher_of(hub, "file") as client:
        published = publish_file(recording, client)
    bodies = stored(hub, "file")
    small = [line for line in LINES if len(line) < 1_000_000]
    assert Counter(body for part in bodies.values() for body in part) == Counter(small)
    of_patient_5 = [line for line in small if b'patient_id": 5' in line and b"\xff" not in line]
    assert [body for body in bodies[partition_of("5", sorted(bodies))] if body in of_patient_5] == of_patient_5
    assert (published.events, published.readings) == (11, 12)
    assert [large.place for large in published.too_large] == [f"{recording}:7"]
    assert f"{recording}:7: a body of 1,100,000 bytes is larger than the hub accepts" in caplog.text


@pytest.mark.crash
@pytest.mark.service
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_hub_that_goes_away_and_comes_back_has_everything_in_order(hub, caplog, monkeypatch):
    monkeypatch.setattr(publisher, "RETRY_SECONDS", 0.2)
    sent = numbered(3000)
    started = threading.Event()
    result = []

    def send() -> None:
        with publisher_of(hub, "outage") as client:
            result.append(publish(watched(sent, 500, started), client, rate=2000))

    thread = threading.Thread(target=send)
    with caplog.at_level(logging.WARNING, logger="generator.publisher"):
        thread.start()
        assert started.wait(300)
        hub.kill()
        while "attempt 1:" not in caplog.text:
            assert thread.is_alive()
            thread.join(0.05)
        hub.start()
        thread.join(300)
    (published,) = result
    bodies = stored(hub, "outage")["0"]
    assert published.events == 3000
    assert published.resent > 0
    assert list(dict.fromkeys(bodies)) == [event.body for event in sent]
    assert len(bodies) - len(sent) <= published.resent


def watched(sent: list[Event], at: int, reached: threading.Event):
    for number, event in enumerate(sent):
        if number == at:
            reached.set()
        yield event


def test_what_failed_is_sent_again_and_counted(no_wait, caplog):
    hub = Hub([GONE] * 2)
    published = publish(numbered(50), hub)
    assert (published.events, published.resent) == (50, 100)
    assert hub.bodies == [event.body for event in numbered(50)]
    assert caplog.text.count("gone") == 2


def test_a_hub_that_stays_away_ends_sending_with_what_was_sent_before(no_wait, monkeypatch):
    monkeypatch.setattr(publisher, "GIVE_UP_AFTER_SECONDS", 0.2)
    monkeypatch.setattr(publisher, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(publisher, "BUFFERED_EVENTS", 50)
    hub = Hub([GONE] * 1000, good_sends=4)
    with pytest.raises(PublishError, match=r"stopped after \d+ attempts; 150 events were sent before.*gone") as raised:
        publish(numbered(200), hub)
    assert raised.value.published.events == len(hub.sent) == 150


def test_a_stop_ends_the_wait_for_a_hub_that_is_away():
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(PublishError, match="gone"):
        publish(numbered(5), Hub([GONE] * 1000), stop=stop)


def test_a_hub_that_is_away_at_the_beginning_is_not_waited_for():
    hub = Hub([GONE], good_sends=0)
    with pytest.raises(HubUnavailableError):
        publish(numbered(5), hub)
    assert hub.sends == 1


def test_an_event_that_the_hub_does_not_take_is_named_and_left_out():
    hub = Hub(limit_bytes=1000)
    sent = [*numbered(3), Event("7", b"X" * 2000), *numbered(3)]
    published = publish(sent, hub)
    assert list(map(str, published.too_large)) == ["event 4: a body of 2,000 bytes is larger than the hub accepts"]
    assert published.events == len(hub.sent) == 6


@pytest.mark.parametrize(("limit", "value"), [("BUFFERED_EVENTS", 10), ("BUFFERED_BYTES", 20)])
def test_a_backlog_is_not_gathered_in_memory(monkeypatch, limit, value):
    monkeypatch.setattr(publisher, limit, value)
    hub = Hub()
    assert publish(numbered(100), hub).events == 100
    assert hub.sends > 10
    assert hub.sent == [(event.key, event.body) for event in numbered(100)]


def test_a_rate_is_a_smooth_pace():
    hub = Hub()
    published = publish(numbered(100), hub, rate=200)
    assert published.seconds >= 99 / 200
    assert hub.sends >= 5
    assert hub.bodies == [event.body for event in numbered(100)]


def test_an_event_with_a_due_time_is_not_sent_before():
    start = datetime.now(UTC)
    published = publish(glucose_events(start=start, rate=100, seconds=0.5, gaps=0), Hub())
    assert published.events == 50
    assert datetime.now(UTC) - start >= timedelta(seconds=49 / 100)


def test_overdue_events_go_at_once():
    hub = Hub()
    publish(glucose_events(start=START, rate=1, count=100), hub)
    assert hub.sends <= 3


def test_a_stop_ends_an_endless_stream_with_everything_taken_sent():
    stop, hub = threading.Event(), Hub()
    published = publish(stopping(numbered(1000), 500, stop), hub, stop=stop)
    assert published.events == len(hub.sent) == 501


def test_a_stop_ends_a_wait():
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    assert publish(numbered(1000), Hub(), rate=0.001, stop=stop).events == 1


def stopping(sent: list[Event], at: int, stop: threading.Event):
    for number, event in enumerate(sent):
        if number == at:
            stop.set()
        yield event


def test_progress_counts_up_to_what_was_sent(monkeypatch):
    monkeypatch.setattr(publisher, "PROGRESS_SECONDS", 0)
    seen: list[Progress] = []
    published = publish(events(2000, pack=2), Hub(), progress=seen.append)
    assert [report.events for report in seen] == sorted(report.events for report in seen)
    assert (seen[-1].events, seen[-1].readings) == (published.events, published.readings) == (2000, 4000)


def test_a_recorded_reading_has_the_key_of_its_patient_or_device(tmp_path):
    lines = [{"patient_id": 5, "device_id": 9}, {"device_id": 9}, {"patient_id": None, "device_id": "x"}, {"a": 1}, 5]
    lines.append({"safetyreportid": "5801206-7"})
    recording = tmp_path / "recording"
    recording.write_text("\n".join(map(json.dumps, lines)))
    assert [event.key for event in publisher.recorded(recording)] == ["5", "9", "x", "", "", "5801206-7"]


def test_a_file_of_bytes_is_one_body_as_it_stands(tmp_path):
    recording = tmp_path / "one.bin"
    recording.write_bytes(b'{"patient_id": 5,\n "glucose_level": 1}\r\n')
    hub = Hub()
    published = publish_file(recording, hub)
    assert hub.sent == [("5", recording.read_bytes())]
    assert (published.events, published.readings) == (1, 1)


def test_a_rate_of_zero_is_refused():
    with pytest.raises(ValueError, match="above zero"):
        publish([], Hub(), rate=0)
