"""Links on which the client receives: events of a partition, replies of a node."""

import time
from collections import deque

from emulator import codec, frames
from emulator.frames import SERIAL_MASK, AmqpError, Performative, TransferTemplate, section
from emulator.hub import Partition
from emulator.links import Link, Session
from emulator.log import Cursor, StorageError
from emulator.message import DELIVERY_ANNOTATIONS, with_delivery_annotations
from emulator.record import Damage

_TURN_BYTES = 1 << 20


class SendingLink(Link):
    """The client receives; messages go out as long as credit, window and socket allow."""

    def __init__(self, session: Session, handle: int) -> None:
        super().__init__(session, handle)
        self._template = TransferTemplate(handle)
        self._messages: list[bytes] = []
        self._next = 0
        self._unsent_frames: deque[bytes] = deque()

    def refill(self) -> list[bytes]:
        raise NotImplementedError

    def on_flow(self, flow: Performative) -> None:
        self.credit = flow.integer(5) + flow.integer(6) - self.delivery_count
        self.pump()
        is_drained = flow.flag(8) and self.credit > 0
        if is_drained:
            self.delivery_count += self.credit
            self.credit = 0
        if is_drained or flow.flag(9):
            self.send_flow()

    def pump(self) -> None:
        session, peer = self.session, self.session.peer
        out: list[bytes] = []
        size = 0
        while (self.credit > 0 or self._unsent_frames) and session.window > 0 and not peer.is_paused:
            if self._unsent_frames:
                out.append(self._unsent_frames.popleft())
                size += len(out[-1])
                session.window -= 1
                session.next_outgoing += 1
            else:
                if self._next >= len(self._messages):
                    self._messages, self._next = self.refill(), 0
                    if not self._messages:
                        break
                size += self._transfer(out)
            if size > _TURN_BYTES:
                peer.wake_later(self)
                break
        if out:
            peer.write(b"".join(out))

    def close(self) -> None:
        self._messages, self._next = [], 0
        self._unsent_frames.clear()

    def decorate(self, messages: list[bytes]) -> list[bytes]:
        return messages

    def _transfer(self, out: list[bytes]) -> int:
        """Append as many transfers as credit and window allow; stops behind a message of several frames."""
        session, template, limit = self.session, self._template, self.session.peer.max_frame
        head, number, channel = frames.pack_frame_head, codec.pack_uint, session.channel
        before_id, after_id, overhead = template.before_id, template.after_id, template.overhead
        count = min(self.credit, session.window)
        delivery_id, size, whole = session.delivery_id, 0, 0
        for message in self.decorate(self._messages[self._next : self._next + count]):
            frame_size = len(message) + overhead
            if frame_size > limit:
                self._unsent_frames.extend(template.frames(channel, delivery_id, message, limit))
                delivery_id = (delivery_id + 1) & SERIAL_MASK
                break
            out += (head(frame_size, 2, 0, channel), before_id, number(delivery_id), after_id, message)
            delivery_id = (delivery_id + 1) & SERIAL_MASK
            size += frame_size
            whole += 1
        sent = whole + (1 if self._unsent_frames else 0)
        session.delivery_id = delivery_id
        session.window -= whole
        session.next_outgoing += whole
        self._next += sent
        self.credit -= sent
        self.delivery_count += sent
        return size


class ReplySource(SendingLink):
    def __init__(self, session: Session, handle: int, node: str) -> None:
        super().__init__(session, handle)
        self.node = node
        self._replies: list[bytes] = []

    def reply(self, message: bytes) -> None:
        self._replies.append(message)
        self.pump()

    def refill(self) -> list[bytes]:
        replies, self._replies = self._replies, []
        return replies


class EventSource(SendingLink):
    """Events of one partition for one reader of a consumer group."""

    def __init__(self, session: Session, handle: int, partition: Partition, group: str, epoch: int | None) -> None:
        super().__init__(session, handle)
        self.partition, self.group = partition, group
        self._epoch = epoch
        self._cursor: Cursor | None = None
        self._wants_metrics = False

    @property
    def epoch(self) -> int | None:
        return self._epoch

    def start(self, cursor: Cursor, wants_metrics: bool) -> None:
        self.partition.admit(self.group, self)
        self._cursor, self._wants_metrics = cursor, wants_metrics

    def wake(self) -> None:
        if self.credit > 0:
            self.session.peer.wake_later(self)

    def close(self) -> None:
        super().close()
        self.partition.release(self.group, self)
        self._cursor = None

    def refill(self) -> list[bytes]:
        if self._cursor is None:
            return []
        try:
            return self.partition.log.read(self._cursor)
        except (Damage, StorageError, OSError) as error:
            self.disconnect(AmqpError("amqp:internal-error", str(error)))
            return []

    def decorate(self, messages: list[bytes]) -> list[bytes]:
        if not self._wants_metrics:
            return messages
        metrics = self._metrics()
        return [with_delivery_annotations(message, metrics) for message in messages]

    def _metrics(self) -> bytes:
        log = self.partition.log
        values = {
            "last_enqueued_sequence_number": codec.long(log.last_sequence),
            "last_enqueued_offset": codec.string(str(log.tail.last_offset)),
            "last_enqueued_time_utc": codec.timestamp(log.tail.last_ms),
            "runtime_info_retrieval_time_utc": codec.timestamp(int(time.time() * 1000)),
        }
        return section(DELIVERY_ANNOTATIONS, codec.map_of({codec.symbol(name): raw for name, raw in values.items()}))
