"""What the Event Hubs SDK connects, so that it can be cut: no wait inside the SDK ends by itself.

The SDK waits for the first answer of a peer on a socket without a timeout, and for the later ones in loops without
one. A socket that is shut down ends both. `Connections` is given to a client as its ``amqp_transport`` and remembers
what the client opens. What this relies on inside the SDK is pinned by tests/contract; where a release of it no longer
fits, waiting is still bounded by `Background`, and only the thread of a hanging call remains.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from typing import Any

import certifi
from azure.eventhub._transport._pyamqp_transport import PyamqpTransport

from resources.background import Background
from resources.deadlines import HANDSHAKE_TIMEOUT_S
from resources.transfers import FrameBuffer

_CUT_AGAIN_S = 0.2


_MAKE_CLIENTS = {"create_mgmt_client", "create_send_client", "create_receive_client"}


class Connections:
    """All connections of one client of the SDK; stands in for the SDK's class of functions that make them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: list[Any] = []
        self._is_cut = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(PyamqpTransport, name)
        if name in _MAKE_CLIENTS:
            return lambda *args, **options: self._known(found(*args, **options))
        return found

    def _known(self, client: Any) -> Any:
        with self._lock:
            if self._is_cut:
                raise ConnectionError("the connection was given up")
            self._clients = [each for each in self._clients if not (each._shutdown and _socket(each) is None)]
            self._clients.append(client)
        client.close = partial(_close, client, client.close)
        return client

    def cut(self) -> None:
        """Shuts all sockets down, so that whatever waits for one fails; no new connection is made afterwards."""
        with self._lock:
            self._is_cut = True
        self._shut_down()

    def _shut_down(self) -> None:
        for client in self._listed():
            if (sock := _socket(client)) is not None:
                with suppress(OSError):
                    # Not the method of a TLS socket, which would take its state from under the thread that reads.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes all sockets; no thread may be at work on them."""
        for client in self._listed():
            if (sock := _socket(client)) is not None:
                with suppress(OSError):
                    sock.close()
        with self._lock:
            self._clients = []

    def abandon(self, *work: Background[Any, Any]) -> None:
        """Cuts everything and closes it when the threads at work have ended, without waiting for that."""
        self.cut()
        if any(each.is_alive for each in work):
            threading.Thread(target=self._close_after, args=(work,), name="close connections", daemon=True).start()
        else:
            self.close()

    def _close_after(self, work: tuple[Background[Any, Any], ...]) -> None:
        while any(each.is_alive for each in work):
            # A thread that was connecting has a socket only now.
            self._shut_down()
            for each in work:
                each.join(_CUT_AGAIN_S)
        self.close()

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Shuts all sockets down if the block takes longer; what waits in it then fails.

        Raises:
            TimeoutError: that was so.
        """
        is_over, is_late = threading.Event(), threading.Event()

        def watch() -> None:
            wait_s = seconds
            while not is_over.wait(wait_s):
                is_late.set()
                self._shut_down()
                wait_s = _CUT_AGAIN_S

        threading.Thread(target=watch, name="limit", daemon=True).start()
        try:
            yield
        except Exception as error:
            if is_late.is_set():
                raise TimeoutError(f"no answer within {seconds:.0f} s") from error
            raise
        finally:
            is_over.set()

    def _listed(self) -> list[Any]:
        with self._lock:
            return list(self._clients)


def _close(client: Any, close: Callable[[], None]) -> None:
    transport = getattr(client._connection, "_transport", None)
    try:
        close()
    finally:
        # The SDK forgets the socket of a connection that was lost without closing it.
        if transport is not None and transport.sock is not None:
            transport.close()


def _socket(client: Any) -> socket.socket | None:
    transport = getattr(getattr(client, "_connection", None), "_transport", None)
    sock = getattr(transport, "sock", None)
    found: socket.socket | None = sock.socket if isinstance(sock, FrameBuffer) else sock
    return found


class BoundedContext(ssl.SSLContext):
    """TLS as the SDK sets it up itself, with a timeout for the handshake."""

    def wrap_socket(self, sock: socket.socket, *args: Any, **options: Any) -> ssl.SSLSocket:
        sock.settimeout(HANDSHAKE_TIMEOUT_S)
        return super().wrap_socket(sock, *args, **options)


@cache
def tls_context() -> ssl.SSLContext:
    """One for the process: it takes a while to read the certificates."""
    context = BoundedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certifi.where())
    return context
