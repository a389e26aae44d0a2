"""Hubs that do not answer: from the first byte on, or frozen in the middle. Whoever waits for one gets an error."""

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.eventhub import EventHubProducerClient

from resources import connections, deadlines, event_hubs, event_hubs_publisher, event_hubs_receiver, identity
from resources.connections import Connections
from resources.event_hubs import EventHubsNamespace
from resources.event_hubs_publisher import EventHubsPublisher
from resources.event_source import HubUnavailableError
from resources.hub_address import HubAddress
from resources.identity import BoundedCredential
from tests.emulator.hub import RunningHub
from tests.resources.silent import SilentPeer

pytestmark = [
    pytest.mark.service,
    # The SDK leaves the sockets of connections that failed to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOT = Path(__file__).resolve().parents[2]
# Deadlines are short here; a slow machine may take much longer than they say.
SHORT_S, ANSWERS_WITHIN_S, PATIENCE_S = 0.5, 5.0, 30.0


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (event_hubs, "STATE_TIMEOUT_S"),
        (event_hubs, "OPEN_TIMEOUT_S"),
        (event_hubs_receiver, "OPEN_TIMEOUT_S"),
        (event_hubs_receiver, "CLOSE_TIMEOUT_S"),
        (event_hubs_publisher, "CLOSE_TIMEOUT_S"),
        (connections, "HANDSHAKE_TIMEOUT_S"),
        (identity, "TOKEN_TIMEOUT_S"),
    ):
        monkeypatch.setattr(module, name, SHORT_S)


@pytest.fixture
def peer() -> Iterator[SilentPeer]:
    with SilentPeer() as running:
        yield running


@pytest.fixture
def hub(short: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningHub]:
    """A hub that answers until it is frozen, on a slow machine not always within half a second."""
    for module, name in (
        (event_hubs, "STATE_TIMEOUT_S"),
        (event_hubs, "OPEN_TIMEOUT_S"),
        (event_hubs_receiver, "OPEN_TIMEOUT_S"),
        (connections, "HANDSHAKE_TIMEOUT_S"),
    ):
        monkeypatch.setattr(module, name, ANSWERS_WITHIN_S)
    with RunningHub(("hub:2", "alerts:2")) as running:
        yield running


@contextmanager
def frozen(hub: RunningHub) -> Iterator[None]:
    os.kill(hub.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(hub.pid, signal.SIGCONT)


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@contextmanager
def no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    wait_until(lambda: set(threading.enumerate()) <= before, f"{set(threading.enumerate()) - before} are still there")


def test_a_sensors_tick_is_over_in_ten_seconds() -> None:
    assert deadlines.STATE_TIMEOUT_S <= 8


def test_the_state_of_a_silent_hub_is_an_error_that_says_what_to_do(peer: SilentPeer) -> None:
    with no_thread_stays():
        with pytest.raises(
            HubUnavailableError,
            match=rf"'glucose' at 127.0.0.1:{peer.port}: asking for its state failed after 0\.\d s: no answer.*"
            r"pulselake hub.*EVENTHUB_CONNECTION_STRING",
        ):
            EventHubsNamespace(peer.connection_string).source("glucose").state()


def test_looking_often_at_a_silent_hub_piles_up_no_threads_and_no_sockets(peer: SilentPeer) -> None:
    source = EventHubsNamespace(peer.connection_string).source("glucose")
    with no_thread_stays():
        for _ in range(3):
            with pytest.raises(HubUnavailableError):
                source.state()
    for each in peer.accepted:
        each.settimeout(PATIENCE_S)
        # The greeting, and then the end.
        assert each.recv(8) == b"AMQP\x03\x01\x00\x00"
        assert each.recv(1) == b""


def test_the_state_of_a_hub_that_freezes_is_an_error(hub: RunningHub) -> None:
    source = EventHubsNamespace(hub.connection_string).source("hub")
    with frozen(hub), no_thread_stays(), pytest.raises(HubUnavailableError, match="asking for its state"):
        source.state()


def test_a_peer_that_never_agrees_on_tls_is_an_error() -> None:
    # The port is fixed where TLS is on, the address need not be the usual one.
    with SilentPeer(("127.0.0.42", 5671)), no_thread_stays():
        secure = EventHubsNamespace("Endpoint=sb://127.0.0.42/;SharedAccessKeyName=name;SharedAccessKey=key")
        with pytest.raises(HubUnavailableError, match=r"127\.0\.0\.42.*asking for its state"):
            secure.source("glucose").state()


def test_receiving_from_a_silent_hub_is_an_error(peer: SilentPeer) -> None:
    with no_thread_stays():
        with pytest.raises(HubUnavailableError, match="asking for its partitions"):
            with EventHubsNamespace(peer.connection_string).source("glucose").receive({}):
                pass


@pytest.mark.parametrize("fast", [True, False])
def test_receiving_gives_up_a_hub_that_freezes_in_the_middle(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    monkeypatch.setattr(event_hubs_receiver, "SILENT_AFTER_S", SHORT_S)
    monkeypatch.setattr(event_hubs_receiver, "GIVE_UP_AFTER_S", SHORT_S)
    with no_thread_stays():
        with EventHubsNamespace(hub.connection_string, fast=fast).source("hub").receive({}) as receiver:
            wait_until(lambda: hasattr(receiver._consumers[-1], "sock"), "all partitions are open")
            message = r"'hub' at 127.0.0.1:\d+: receiving stopped: no answer within 5 s. What was pulled is kept"
            with frozen(hub), pytest.raises(HubUnavailableError, match=message):
                receiver.take(PATIENCE_S)


def test_a_hub_with_nothing_to_send_gives_signs_of_life(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_hubs_receiver, "SILENT_AFTER_S", 1.0)
    monkeypatch.setattr(event_hubs_receiver, "GIVE_UP_AFTER_S", 0.0)
    with EventHubsNamespace(hub.connection_string).source("hub").receive({}) as receiver:
        wait_until(lambda: hasattr(receiver._consumers[-1], "sock"), "all partitions are open")
        first = receiver._consumers
        assert receiver.take(3.0) == []
        assert receiver._consumers is first, "it connected anew"


def test_a_hub_that_freezes_for_a_while_loses_and_doubles_nothing(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_hubs_receiver, "SILENT_AFTER_S", 1.0)
    namespace = EventHubsNamespace(hub.connection_string)
    numbers: list[tuple[int, int]] = []
    with namespace.source("hub").receive({}) as receiver:
        for _ in range(2):
            with namespace.publisher("hub") as publisher:
                publisher.publish([b"body"] * 10, [""] * 10)
            wanted = len(numbers) + 10
            while len(numbers) < wanted:
                taken = receiver.take(PATIENCE_S)
                assert taken
                numbers += [(pulled.partition, number) for pulled in taken for number in pulled.sequence_numbers]
            with frozen(hub):
                time.sleep(2.0)
    assert sorted(numbers) == [(partition, number) for partition in (0, 1) for number in range(10)]


def test_the_end_of_receiving_does_not_wait_for_a_frozen_hub(hub: RunningHub) -> None:
    with no_thread_stays():
        with EventHubsNamespace(hub.connection_string).source("hub").receive({}) as receiver:
            wait_until(lambda: hasattr(receiver._consumers[-1], "sock"), "all partitions are open")
            os.kill(hub.pid, signal.SIGSTOP)
            began = time.monotonic()
        took_s = time.monotonic() - began
        os.kill(hub.pid, signal.SIGCONT)
    assert took_s < PATIENCE_S / 2


def publisher_with(namespace: EventHubsNamespace, hub: str = "alerts") -> EventHubsPublisher:
    return namespace.publisher(hub)


def test_publishing_to_a_silent_hub_fails_once_slowly_and_then_at_once(
    peer: SilentPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_hubs_publisher, "OPEN_TIMEOUT_S", 2.0)
    with no_thread_stays(), publisher_with(EventHubsNamespace(peer.connection_string)) as publisher:
        with pytest.raises(HubUnavailableError, match=rf"'alerts' at 127.0.0.1:{peer.port}: connecting failed after"):
            publisher.publish([b"{}"], ["1"])
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(HubUnavailableError, match="connecting failed"):
                publisher.publish([b"{}"], ["1"])
        assert time.monotonic() - began < 10.0


def test_publishing_goes_on_by_itself_when_a_frozen_hub_answers_again(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_hubs_publisher, "PUBLISH_TIMEOUT_S", 1.0)
    with publisher_with(EventHubsNamespace(hub.connection_string)) as publisher:
        wait_until(lambda: publisher._sender is not None, "the publisher is connected")
        publisher.publish([b"before"], ["1"])
        with frozen(hub):
            with pytest.raises(HubUnavailableError, match=r"publishing failed after 1\.\d s: no answer"):
                publisher.publish([b"meanwhile"], ["1"])
            with pytest.raises(HubUnavailableError, match="publishing failed"):
                publisher.publish([b"meanwhile"], ["1"])
        wait_until(lambda: publisher._sender is not None, "the publisher has connected again")
        assert publisher.publish([b"after"], ["1"]) == []


def test_many_batches_may_take_longer_than_one(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_hubs_publisher, "PUBLISH_TIMEOUT_S", 1.0)
    with publisher_with(EventHubsNamespace(hub.connection_string)) as publisher:
        wait_until(lambda: publisher._sender is not None, "the publisher is connected")
        sender = publisher._sender
        assert sender is not None
        send_batch, began = sender.client.send_batch, time.monotonic()

        def slowly(batch: object) -> None:
            time.sleep(0.4)
            send_batch(batch)  # type: ignore[arg-type]

        monkeypatch.setattr(sender.client, "send_batch", slowly)
        assert publisher.publish([b"x" * 200_000] * 5, ["1"] * 5) == []
        assert time.monotonic() - began > 1.5


def test_a_file_descriptor_may_be_beyond_what_select_knows(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    # Here the hub answers, and a busy machine needs its time.
    monkeypatch.undo()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2000:
        pytest.skip("so many files cannot be opened here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000, hard))
    opened: list[socket.socket] = []
    try:
        while not opened or opened[-1].fileno() < 1100:
            opened.append(socket.socket())
        namespace = EventHubsNamespace(hub.connection_string)
        with namespace.publisher("hub") as publisher, namespace.source("hub").receive({}) as receiver:
            publisher.publish([b"one"], ["1"])
            [pulled] = receiver.take(PATIENCE_S)
            assert pulled.bodies == [b"one"]
            assert min(consumer.sock.fileno() for consumer in receiver._consumers) > 1023
    finally:
        for each in opened:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Hanging:
    """A credential that answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = threading.Event()

    def get_token(self, *scopes: str, **options: object) -> AccessToken:
        self.asked += 1
        assert self.may_answer.wait(PATIENCE_S)
        return AccessToken("token", int(time.time()) + 3600)


def test_an_identity_that_hangs_is_asked_once_and_not_waited_for() -> None:
    hanging = Hanging()
    credential = BoundedCredential(hanging)
    with no_thread_stays():
        for _ in range(3):
            with pytest.raises(ClientAuthenticationError, match=r"no token within 0 s|no token within .*az login"):
                credential.get_token("scope")
        assert hanging.asked == 1
        hanging.may_answer.set()
    assert credential.get_token("scope").token == "token"


class Refusing:
    """A credential of nobody."""

    def get_token(self, *scopes: str, **options: object) -> AccessToken:
        raise ClientAuthenticationError("nobody is signed in")


@pytest.mark.parametrize("credential", [Refusing(), BoundedCredential(Refusing())])
def test_an_identity_that_fails_is_a_hub_that_is_away_with_its_words(hub: RunningHub, credential: Refusing) -> None:
    def connect(connections: Connections) -> EventHubProducerClient:
        return EventHubProducerClient(
            f"127.0.0.1:{hub.port}", "alerts", credential, use_tls=False, retry_total=0, amqp_transport=connections
        )

    with EventHubsPublisher(connect, HubAddress("alerts", "here")) as publisher:
        with pytest.raises(HubUnavailableError, match=r"'alerts' at here: connecting failed.*nobody is signed in"):
            publisher.publish([b"{}"], ["1"])


WAITING = """
import sys
from resources.event_hubs import EventHubsNamespace
namespace = EventHubsNamespace(sys.argv[1])
print("begin", flush=True)
with namespace.publisher("alerts") as publisher:
    publisher.publish([b"{}"], ["1"])
"""


def test_one_interrupt_ends_a_process_that_waits_for_a_silent_hub(peer: SilentPeer) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, peer.connection_string],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begin\n"
        wait_until(lambda: bool(peer.accepted), "the process has connected")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
