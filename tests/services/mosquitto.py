"""Mosquitto as a real service on a free loopback port, with a folder of its own.

Installing, starting, killing and stopping it belongs here; what is sent through it belongs to the tests that use it.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from orchestration.processes import free_port, is_open
from tests.services.process import tail
from tests.services.program import installed

START_S = 300.0


class MosquittoError(RuntimeError):
    """Mosquitto could not be started; the message says what to do."""


class Mosquitto:
    """`with Mosquitto(folder) as broker:` runs a broker on that folder until the block ends.

    Args:
        folder: where its data are; it is created.
        is_durable: whether all that it has is on disk soon after each change; for some hundred messages, since each
            change writes everything. It acknowledges a moment earlier: see `wait_for_disk`.
        user, password: which it asks for; without them anybody may connect.
        tls: a certificate and its key.
        rights: lines of an access control list.
    """

    def __init__(
        self,
        folder: Path,
        *,
        is_durable: bool = False,
        user: str = "",
        password: str = "",
        tls: tuple[Path, Path] | None = None,
        rights: Iterable[str] = (),
    ) -> None:
        self._folder, self._log = folder, folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        lines = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {folder}/",
            f"autosave_interval {1 if is_durable else 3600}",
            f"autosave_on_changes {str(is_durable).lower()}",
            "max_queued_messages 0",
            f"allow_anonymous {str(not user).lower()}",
        ]
        if os.getuid() == 0:
            # As root it would give its rights up, and then could not write what it has.
            lines.append("user root")
        if user:
            lines.append(f"password_file {folder}/passwords")
        if tls is not None:
            lines += [f"certfile {tls[0]}", f"keyfile {tls[1]}"]
        if rights := list(rights):
            lines.append(f"acl_file {folder}/rights")
        self._lines, self._user, self._password, self._rights = lines, user, password, rights

    def __enter__(self) -> Self:
        self._program, passwd = installed("mosquitto", "mosquitto", "mosquitto_passwd")
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "mosquitto.conf").write_text("\n".join(self._lines) + "\n")
        if self._rights:
            (self._folder / "rights").write_text("\n".join(self._rights) + "\n")
        if self._user:
            passwords = self._folder / "passwords"
            passwords.touch(mode=0o600)
            subprocess.run([passwd, "-b", str(passwords), self._user, self._password], check=True, timeout=START_S)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Starts it on the port that it has had, and waits until it listens."""
        with self._log.open("ab") as log:
            command = [self._program, "-c", str(self._folder / "mosquitto.conf")]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_S
        while not is_open(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise MosquittoError(f"Mosquitto did not start; its log {self._log} ends:\n{tail(self._log)}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Ends it as a crash does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(START_S)
            self._process = None

    def wait_for_disk(self, payload: str) -> None:
        """Waits until a message is on its disk: killed right after its acknowledgement, Mosquitto forgets it."""
        file, deadline = self._folder / "mosquitto.db", time.monotonic() + START_S
        while not file.exists() or payload.encode() not in file.read_bytes():
            if time.monotonic() > deadline:
                raise MosquittoError(f"Mosquitto did not write a message to {file} within {START_S:.0f} s.")
            time.sleep(0.02)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"mqtt://127.0.0.1:{self.port}"


class Sender:
    """A device's side: publishes, and waits until the broker has it. `with Sender(port) as sender: …`"""

    def __init__(self, port: int, *, user: str = "", password: str = "") -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.max_inflight_messages_set(100)
        if user:
            self._client.username_pw_set(user, password)
        self._port = port

    def __enter__(self) -> Self:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def send(
        self,
        topic: str,
        payloads: Iterable[bytes | str],
        *,
        qos: int = 1,
        is_retained: bool = False,
        **said: Any,
    ) -> None:
        """Publishes payloads to a topic, in order.

        Args:
            topic: where.
            payloads: what.
            qos: quality of service.
            is_retained: whether the broker shall keep the last one.
            said: properties of MQTT 5, such as `ContentType`.
        """
        properties = Properties(PacketTypes.PUBLISH)
        for name, value in said.items():
            setattr(properties, name, value)
        sent = [self._client.publish(topic, each, qos, is_retained, properties) for each in payloads]
        for each in sent:
            each.wait_for_publish(START_S)
            assert each.is_published()
