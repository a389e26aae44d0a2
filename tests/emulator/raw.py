"""A bare AMQP client over a socket, for what the SDK would never send or never show."""

import socket

from emulator import codec, frames
from emulator.codec import NULL
from emulator.frames import Performative
from emulator.requests import CBS
from tests.emulator.sas import signed_token


class RawClient:
    def __init__(self, port: int, max_frame: int = 65536, window: int = 1000) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._received = b""
        self.write(frames.AMQP_HEADER)
        assert self._read(8) == frames.AMQP_HEADER
        limits = codec.uint(max_frame), codec.ushort(10)
        self.send(frames.described(frames.OPEN, codec.string("raw"), NULL, *limits, *[NULL] * 6))
        self.expect(frames.OPEN)
        begin = NULL, codec.uint(0), codec.uint(window), codec.uint(window), codec.uint(255), NULL, NULL, NULL
        self.send(frames.described(frames.BEGIN, *begin))
        self.expect(frames.BEGIN)

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send(self, body: bytes) -> None:
        self.write(frames.frame(0, body))

    def next_frame(self) -> Performative:
        size = int.from_bytes(self._read(4), "big")
        return frames.parse_performative(self._read(size - 4)[4:])

    def expect(self, code: int) -> Performative:
        performative = self.next_frame()
        assert performative.code == code, performative
        return performative

    def attach(self, name: str, handle: int, address: str, receives: bool, epoch: int | None = None) -> Performative:
        """Attach and return the answer; a refusal has a null terminus and a detach behind it."""
        self.send_attach(name, handle, address, receives, epoch)
        return self.expect(frames.ATTACH)

    def send_attach(self, name: str, handle: int, address: str, receives: bool, epoch: int | None = None) -> None:
        terminus = frames.described(0x28, codec.string(address))
        fields = codec.string(name), codec.uint(handle), codec.boolean(receives), NULL, NULL, terminus, terminus
        properties = NULL
        if epoch is not None:
            properties = codec.map_of({codec.symbol("com.microsoft:epoch"): codec.long(epoch)})
        self.send(frames.described(frames.ATTACH, *fields, NULL, NULL, codec.uint(0), NULL, NULL, NULL, properties))

    def flow(self, handle: int, next_incoming: int, window: int, credit: int, delivered: int = 0) -> None:
        numbers = [codec.uint(n) for n in (next_incoming, window, 0, 1000, handle, delivered, credit)]
        self.send(frames.described(frames.FLOW, *numbers, NULL, codec.FALSE, codec.FALSE, NULL))

    def transfer(self, handle: int, message: bytes, delivery_id: int = 0, message_format: int = 0, more=False) -> None:
        fields = codec.uint(handle), codec.uint(delivery_id), codec.binary(b"t"), codec.uint(message_format)
        self.send(frames.described(frames.TRANSFER, *fields, codec.FALSE, codec.boolean(more)) + message)

    def put_token(self, resource: str = "sb://localhost/hub") -> None:
        self.attach("cbs-in", 0, CBS, receives=False)
        self.expect(frames.FLOW)
        self.attach("cbs-out", 1, CBS, receives=True)
        self.flow(1, 0, 1000, credit=1)
        names = {"operation": "put-token", "type": "servicebus.windows.net:sastoken", "name": resource}
        properties = codec.map_of({codec.string(name): codec.string(value) for name, value in names.items()})
        value = codec.string(signed_token(resource))
        self.transfer(0, frames.section(0x74, properties) + frames.section(0x77, value))
        reply = self.expect(frames.TRANSFER)
        assert b"Accepted" in reply.payload
        self.expect(frames.DISPOSITION)

    def is_closed_by_server(self) -> bool:
        try:
            while self._socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, size: int) -> bytes:
        while len(self._received) < size:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("closed by the server")
            self._received += data
        data, self._received = self._received[:size], self._received[size:]
        return data
