"""One client connection: handshake, frames in and out, sessions.

Whatever a client sends, the worst that happens is that its own connection is closed with an error.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from typing import cast

from emulator import frames
from emulator.attaching import Termini, make_link
from emulator.auth import covers
from emulator.codec import NULL, DecodeError
from emulator.frames import AmqpError, Performative
from emulator.links import MAX_MESSAGE_BYTES, Link, Session

_LOG = logging.getLogger(__name__)
_CHANNEL_MAX, _HANDLE_MAX = 4999, 255
_MIN_MAX_FRAME = 512
_WRITE_BUFFER_BYTES = 4 << 20


class Connection(asyncio.Protocol):
    def __init__(self, termini: Termini, connections: set["Connection"], max_frame: int) -> None:
        self.max_frame = _MIN_MAX_FRAME
        self.is_paused = False
        self._termini = termini
        self._connections = connections
        self._max_frame_in = max_frame
        self._received = bytearray()
        self._sessions: dict[int, Session] = {}
        self._grants: dict[str, float] = {}
        self._waking: set[Link] = set()
        self._has_header = self._is_open = self._is_closing = False
        self._heartbeat: asyncio.TimerHandle | None = None
        self._handlers: dict[int, Callable[[int, Performative], None]] = {
            frames.BEGIN: self._on_begin,
            frames.ATTACH: self._on_attach,
            frames.FLOW: self._on_flow,
            frames.TRANSFER: self._on_transfer,
            frames.DISPOSITION: self._on_disposition,
            frames.DETACH: self._on_detach,
            frames.END: self._on_end,
            frames.CLOSE: self._on_close,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop = asyncio.get_running_loop()
        self._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        if self._heartbeat:
            self._heartbeat.cancel()
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        for session in self._sessions.values():
            session.pump()

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            return
        self._received += data
        try:
            self._take_frames()
        except AmqpError as error:
            self.shut(error)
        except DecodeError as error:
            self.shut(AmqpError("amqp:decode-error", str(error)))
        except Exception as error:
            _LOG.exception("a frame could not be handled")
            self.shut(AmqpError("amqp:internal-error", repr(error)))

    def send(self, channel: int, body: bytes) -> None:
        self._transport.write(frames.frame(channel, body))

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def wake_later(self, link: Link) -> None:
        """Once per turn of the loop, however many events arrive in it; behind the dispositions."""
        if link not in self._waking:
            self._waking.add(link)
            self._loop.call_soon(self._wake, link)

    def grant(self, resource: str, until_seconds: float) -> None:
        self._grants[resource] = until_seconds

    def may_access(self, path: str | None) -> bool:
        now = time.time()
        valid = [resource for resource, until in self._grants.items() if until > now]
        return bool(valid) if path is None else any(covers(resource, path) for resource in valid)

    def shut(self, error: AmqpError | None) -> None:
        """Say goodbye, with the reason if there is one, and close."""
        if not self._is_closing:
            self._is_closing = True
            if error:
                _LOG.debug("connection closed: %s", error)
            self.send(0, frames.close(error))
            self._transport.close()

    def _wake(self, link: Link) -> None:
        self._waking.discard(link)
        if not self._is_closing:
            link.pump()

    def _take_frames(self) -> None:
        received = self._received
        at, available = 0, len(received)
        while available - at >= frames.FRAME_HEAD_SIZE and not self._is_closing:
            if not self._has_header or received[at : at + 4] == b"AMQP":
                self._on_header(bytes(received[at : at + 8]))
                at += 8
                continue
            size = int.from_bytes(received[at : at + 4], "big")
            body_at = received[at + 4] * 4
            if size > self._max_frame_in or not 8 <= body_at <= size:
                raise AmqpError("amqp:connection:framing-error", f"A frame of {size} bytes cannot be accepted.")
            if available - at < size:
                break
            if size > body_at:
                channel = received[at + 6] << 8 | received[at + 7]
                self._on_frame(received[at + 5], channel, bytes(memoryview(received)[at + body_at : at + size]))
            at += size
        del received[:at]

    def _on_header(self, header: bytes) -> None:
        if header == frames.SASL_HEADER:
            mechanisms = frames.frame(0, frames.sasl_mechanisms(["MSSBCBS", "ANONYMOUS"]), frames.SASL_FRAME)
            self.write(frames.SASL_HEADER + mechanisms)
        elif header == frames.AMQP_HEADER:
            self.write(frames.AMQP_HEADER)
        else:
            self._is_closing = True
            self.write(frames.AMQP_HEADER)
            self._transport.close()
        self._has_header = True

    def _on_frame(self, frame_type: int, channel: int, body: bytes) -> None:
        performative = frames.parse_performative(body)
        if frame_type == frames.SASL_FRAME:
            if performative.code == frames.SASL_INIT:
                self.write(frames.frame(0, frames.sasl_outcome_ok(), frames.SASL_FRAME))
            return
        if performative.code == frames.OPEN:
            self._on_open(performative)
            return
        handler = self._handlers.get(performative.code)
        if handler is None or not self._is_open:
            raise AmqpError("amqp:not-allowed", f"The performative 0x{performative.code:02x} is not expected here.")
        handler(channel, performative)

    def _on_open(self, performative: Performative) -> None:
        self.max_frame = max(performative.integer(2, frames.SERIAL_MASK), _MIN_MAX_FRAME)
        self._is_open = True
        self.send(0, frames.open_("emulator", self._max_frame_in, _CHANNEL_MAX))
        idle_ms = performative.integer(4)
        if idle_ms > 0:
            self._beat(max(idle_ms / 2000, 0.1))

    def _beat(self, every_seconds: float) -> None:
        """An empty frame now and then, for a client that would otherwise take silence for death."""
        self.send(0, b"")
        self._heartbeat = self._loop.call_later(every_seconds, self._beat, every_seconds)

    def _on_begin(self, channel: int, performative: Performative) -> None:
        if channel in self._sessions or channel > _CHANNEL_MAX:
            raise AmqpError("amqp:not-allowed", f"A session cannot begin on channel {channel}.")
        self._sessions[channel] = Session(self, channel, performative.integer(1), performative.integer(2))
        self.send(channel, frames.begin(channel, _HANDLE_MAX))

    def _on_flow(self, channel: int, performative: Performative) -> None:
        if channel in self._sessions:
            self._sessions[channel].on_flow(performative)

    def _on_transfer(self, channel: int, performative: Performative) -> None:
        session = self._session(channel)
        session.next_incoming += 1
        link = session.links.get(performative.integer(0))
        if link:
            link.on_transfer(performative)

    def _on_disposition(self, channel: int, performative: Performative) -> None:
        """Everything is sent settled, so the reader of a log has nothing to tell."""

    def _on_detach(self, channel: int, performative: Performative) -> None:
        session = self._sessions.get(channel)
        link = session.links.pop(performative.integer(0), None) if session else None
        if link:
            link.close()
            self.send(channel, frames.detach(link.handle, performative.flag(1)))

    def _on_end(self, channel: int, performative: Performative) -> None:
        session = self._sessions.pop(channel, None)
        if session:
            session.close()
            self.send(channel, frames.end())

    def _on_close(self, channel: int, performative: Performative) -> None:
        self.shut(None)

    def _session(self, channel: int) -> Session:
        if channel not in self._sessions:
            raise AmqpError("amqp:not-allowed", f"There is no session on channel {channel}.")
        return self._sessions[channel]

    def _on_attach(self, channel: int, performative: Performative) -> None:
        session = self._session(channel)
        handle = performative.integer(1)
        if handle in session.links or handle > _HANDLE_MAX:
            raise AmqpError("amqp:session:handle-in-use", f"A link cannot be attached to handle {handle}.")
        source, target = performative.encoded(5), performative.encoded(6)
        refusal = None
        try:
            link = make_link(self._termini, session, handle, performative)
        except AmqpError as error:
            refusal = error
            source, target = (NULL, target) if performative.flag(2) else (source, NULL)
        self.send(channel, frames.attach(performative, source, target, MAX_MESSAGE_BYTES))
        if refusal:
            _LOG.debug("link refused: %s", refusal)
            self.send(channel, frames.detach(handle, True, refusal))
            return
        session.links[handle] = link
        link.opened()
