"""A peer that accepts connections and never answers."""

import socket
import threading
from types import TracebackType
from typing import Self


class SilentPeer:
    """`with SilentPeer() as peer: ...`; what connects is kept open and never read.

    Args:
        address: to listen at; default is a free port of 127.0.0.1.
    """

    def __init__(self, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self._listening = socket.create_server(address)
        self.accepted: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def port(self) -> int:
        port: int = self._listening.getsockname()[1]
        return port

    @property
    def connection_string(self) -> str:
        return (
            f"Endpoint=sb://127.0.0.1:{self.port};SharedAccessKeyName=name;SharedAccessKey=key;"
            "UseDevelopmentEmulator=true"
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(300)
        for each in (self._listening, *self.accepted):
            each.close()

    def _accept(self) -> None:
        try:
            while True:
                self.accepted.append(self._listening.accept()[0])
        except OSError:
            return
