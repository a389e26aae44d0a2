"""Sends the board to browsers: server-sent events, encoded once for all who see the same patients.

A browser gets a snapshot, then what has changed each second, at once where an alarm is raised. When nothing changes it
gets a sign of life each second, so that it can tell a quiet ward from a broken connection.

```
 board ─ changed rows ─▶ one encoding per audience ─▶ queue of each browser ─▶ browser
```

An *audience* are those who see the same patients, with or without names. A browser that does not take what is sent is
let go: it connects again, and gets a snapshot.
"""

import asyncio
import logging
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import msgspec

from dashboard.access import Viewer
from dashboard.board import Board, Row, microseconds
from dashboard.directory import Directory
from resources.logs import tell

TICK_S, SHORTEST_TICK_S = 1.0, 0.1
"""How often what is new is sent, or a sign of life; and at least so long apart where alarms wake it."""
RECHECK_S = 5.0
"""How often it is looked whether who watches still may, if nothing says that rights were changed."""
QUEUED = 8
"""How many messages may wait for a browser."""
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class Audience(NamedTuple):
    """Who sees the same: these patients, or everyone, with names or without."""

    visible: frozenset[int] | None
    named: bool

    def sees(self, row: Row) -> bool:
        """Whether a row is theirs; devices that nobody wears are everyone's only."""
        return self.visible is None or row.patient_id in self.visible


class Message(NamedTuple):
    """One message as browsers take it, plain or packed, and the JSON in it."""

    data: bytes
    plain: bytes
    packed: bytes

    @classmethod
    def of(cls, event: str, data: bytes) -> "Message":
        """A message of a kind, with JSON as its data."""
        plain = b"event: " + event.encode() + b"\ndata: " + data + b"\n\n"
        packer = zlib.compressobj(level=5, wbits=-zlib.MAX_WBITS)
        # A block that ends with a full flush needs nothing of those before it, so all browsers get the same one.
        return cls(data, plain, packer.compress(plain) + packer.flush(zlib.Z_FULL_FLUSH))


@dataclass(eq=False)
class Client:
    """One browser that watches."""

    session: str
    viewer: Viewer
    audience: Audience
    queue: asyncio.Queue[Message | None] = field(default_factory=lambda: asyncio.Queue(QUEUED))


class Broadcaster:
    """Sends the board to browsers. All but `wake` is for the server's event loop.

    Args:
        board: what is sent.
        directory: who the patients are.
        clock: the time of day, UTC.
        viewer_of: who watches by the digest of a session; None if it is over.
        rights: something that is another when rights have changed.
    """

    def __init__(
        self,
        board: Board,
        directory: Directory,
        clock: Callable[[], datetime],
        viewer_of: Callable[[str], Viewer | None],
        rights: Callable[[], object],
    ) -> None:
        self._board, self._directory, self._clock = board, directory, clock
        self._viewer_of, self._rights = viewer_of, rights
        self.troubles: Callable[[], str] = lambda: "the server begins"
        """Says what is wrong with the hubs now; empty if nothing is."""
        self._clients: set[Client] = set()
        self._step, _ = board.changed_since(0)
        self._known_rights: object = None
        self._people = directory.people
        self._cache: dict[tuple[str, bool], tuple[int, bytes]] = {}
        self._snapshots: dict[Audience, tuple[int, float, Message]] = {}
        self._sent: dict[Audience, float] = {}
        self._checked = 0.0
        self._failure = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()

    @property
    def clients(self) -> int:
        """How many browsers watch."""
        return len(self._clients)

    def wake(self) -> None:
        """Has what is new sent at once; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._woken.set)

    async def run(self) -> None:
        """Sends until the task is cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), TICK_S)
            self._woken.clear()
            try:
                await self._recheck()
                self._tick()
            except Exception as error:  # browsers say that they hear nothing; the next turn may do better
                if self._failure != (kind := type(error).__name__):
                    self._failure = kind
                    tell(_log, "nothing could be sent to browsers", logging.ERROR, error=kind)
            else:
                self._failure = ""
            await asyncio.sleep(SHORTEST_TICK_S)

    async def stream(self, viewer: Viewer, session: str, *, packed: bool) -> AsyncIterator[bytes]:
        """What one browser gets.

        Args:
            viewer: who watches.
            session: the digest of their session.
            packed: whether the browser takes gzip.
        """
        client = Client(session, viewer, audience_of(viewer))
        # First among those who get changes, then the snapshot: nothing is lost between them, and twice does no harm.
        self._clients.add(client)
        try:
            # No name holds the snapshot, which has a megabyte and would stay as long as the browser watches.
            yield self._first(client.audience, packed=packed)
            while (message := await client.queue.get()) is not None:
                yield message.packed if packed else message.plain
        finally:
            self._clients.discard(client)

    def _first(self, audience: Audience, *, packed: bool) -> bytes:
        snapshot = self.snapshot(audience)
        return _GZIP_HEADER + snapshot.packed if packed else snapshot.plain

    def snapshot(self, audience: Audience) -> Message:
        """All that an audience sees now."""
        step, rows = self._board.changed_since(0)
        made_at, made, kept = self._snapshots.get(audience, (-1, 0.0, None))
        # It says what time it is and what is wrong with the hubs, so it is old soon though nothing has changed.
        if kept is not None and made_at == step and time.monotonic() - made < TICK_S / 2:
            return kept
        visible = [row for row in rows if row.is_shown and audience.sees(row)]
        message = Message.of(
            "snapshot", self._data(step, self._encoded(visible, audience.named), self._names(audience))
        )
        self._snapshots[audience] = (step, time.monotonic(), message)
        return message

    def _names(self, audience: Audience) -> bytes:
        named = audience.named
        return b',"people":' + _encode(
            {
                str(patient_id): [
                    person.full_name if named and person.full_name else f"Patient {patient_id}",
                    sorted(person.groups),
                    (person.care_team or "") if named else "",
                ]
                for patient_id, person in self._people.persons.items()
                if audience.visible is None or patient_id in audience.visible
            }
        )

    def _tick(self) -> None:
        audiences: dict[Audience, list[Client]] = {}
        for client in self._clients:
            audiences.setdefault(client.audience, []).append(client)
        step, rows = self._board.changed_since(self._step)
        self._snapshots = {each: kept for each, kept in self._snapshots.items() if kept[0] == step}
        now = asyncio.get_running_loop().time()
        for audience, clients in audiences.items():
            visible = [row for row in rows if audience.sees(row)]
            if not visible and now - self._sent.get(audience, 0.0) < TICK_S / 2:
                continue
            self._sent[audience] = now
            message = Message.of("changes", self._data(step, self._encoded(visible, audience.named)))
            for client in clients:
                self._send(client, message)
        self._step = step

    def _data(self, step: int, rows: list[bytes], more: bytes = b"") -> bytes:
        now = microseconds(self._clock()) // 1000
        head = _encode({"step": step, "now": now, "trouble": self.troubles()})[:-1]
        return head + more + b',"rows":[' + b",".join(rows) + b"]}"

    def _encoded(self, rows: list[Row], named: bool) -> list[bytes]:
        """The rows as JSON; of each row once for all audiences, as long as it does not change."""
        new = [row for row in rows if self._cache.get((row.key, named), (-1,))[0] != row.changed]
        for row, kept in zip(new, self._board.encoded(new, _encode, named=named), strict=True):
            self._cache[row.key, named] = kept
        return [self._cache[row.key, named][1] for row in rows]

    def _send(self, client: Client, message: Message) -> None:
        try:
            client.queue.put_nowait(message)
        except asyncio.QueueFull:
            self._let_go(client)

    def _let_go(self, client: Client, last: Message | None = None) -> None:
        self._clients.discard(client)
        while not client.queue.empty():
            client.queue.get_nowait()
        if last is not None:
            client.queue.put_nowait(last)
        client.queue.put_nowait(None)

    async def _recheck(self) -> None:
        """Ends the streams of those who may not see any more what they see, and sends names that have changed."""
        # Accounts may be locked by a process that writes, and the workers of pages may all be busy: neither must hold
        # up the loop that sends.
        now, rights = asyncio.get_running_loop().time(), await asyncio.to_thread(self._rights)
        people, is_renamed = self._directory.people, self._directory.people is not self._people
        if rights == self._known_rights and not is_renamed and now - self._checked < RECHECK_S:
            return
        self._known_rights, self._people, self._checked = rights, people, now
        clients = [*self._clients]
        viewers = await asyncio.to_thread(lambda: [self._viewer_of(client.session) for client in clients])
        for client, viewer in zip(clients, viewers, strict=True):
            if viewer is None:
                self._let_go(client, Message.of("out", b"{}"))
            elif viewer != client.viewer:
                self._let_go(client)
        if is_renamed:
            self._snapshots.clear()
            for client in [*self._clients]:
                self._send(client, self.snapshot(client.audience))


def audience_of(viewer: Viewer) -> Audience:
    """The audience of a viewer."""
    return Audience(viewer.visible, viewer.has_names)
