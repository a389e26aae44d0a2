"""Sends what waits in the outbox: which channel when, in which order, and what follows from its answer.

What waits is in the store; in memory there is only how each channel does. A pool of threads sends, one message of a
channel at a time. Channels that failed or were slow the last time have half of the pool, so that they delay no other.
"""

import hashlib
import logging
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.resources import files

from prometheus_client import CollectorRegistry, Counter, Gauge

from assets.notifications.deciding import QUIET, UNSUBSCRIBED, Decision, passes_quiet_hours
from assets.notifications.messages import Message, Texts, Waiting, language_of
from assets.notifications.pacing import Bucket, pause_s
from assets.notifications.people import People, Subscriber
from assets.notifications.transitions import URGENT
from assets.notifying import Directory
from resources.logs import tell
from resources.notifier import Address, ChannelError, Notifier, Outcome
from resources.outbox import AT_ONCE, Outbox, Part
from resources.secrets import SecretError
from resources.store import StoreError

SENDERS, OF_SERVER = 32, 8
"""How many messages are sent at the same moment, in all and to one server."""
SLOW_S = 1.0
GATHER_S = 0.25
"""How long a message waits for others of the same moment."""
LOOK_EVERY_S, NOTE_EVERY_S = 1.0, 0.5
CROWDED_S = 0.05
"""How long a channel waits whose server has as many messages under way as it gets."""
LAST_NOTE_S = 10.0
"""How long the end of the process waits for a store that is away, to note what was sent."""
REFUSED_AGAIN = timedelta(minutes=10)
"""How long a single alarm is left alone that a channel refused: it may be its text, and others go on."""
REFUSALS = 10
"""After so many in a row it is not the text."""

_log = logging.getLogger(__name__)


def texts() -> dict[str, Texts]:
    """The words of each language, by its code: a file each."""
    folder = files("assets.notifications").joinpath("texts")
    return {
        each.name.removesuffix(".jinja"): Texts(each.read_text(encoding="utf-8"))
        for each in folder.iterdir()
        if each.name.endswith(".jinja")
    }


class Metrics:
    """The figures of the process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sent = self._counter("notifications_sent", "Notifications that a channel took.")
        self.messages = self._counter("messages_sent", "Messages that a channel took.")
        self.failed = self._counter("messages_failed", "Attempts to send a message that failed.")
        self.given_up = self._counter("notifications_given_up", "Notifications that could not be sent within a day.")
        self.waiting = self._gauge("notifications_waiting", "Notifications that wait.")
        self.oldest = self._gauge("notifications_oldest_urgent_seconds", "How long the oldest urgent one has waited.")

    def _counter(self, name: str, documentation: str) -> Counter:
        return Counter(f"pulselake_{name}", documentation, registry=self.registry)

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(f"pulselake_{name}", documentation, registry=self.registry)


@dataclass
class _Turn:
    """How one channel does; instants are those of a clock that never goes back.

    Attributes:
        has_work: whether something waits.
        rank: of the most severe row that is known to wait.
        not_before: when it is looked at next; `paused_until` is so much of it as is due to a failure.
        failures: how often it failed, one time after the other.
        is_busy: whether a message is being sent.
        is_suspect: whether it failed or was slow the last time.
        most: how many rows are looked at for a message.
        bucket: its pace; None before it was used.
    """

    has_work: bool = False
    rank: int = 0
    not_before: float = 0.0
    paused_until: float = 0.0
    failures: int = 0
    is_busy: bool = False
    is_suspect: bool = False
    most: int = AT_ONCE
    bucket: Bucket | None = None


@dataclass
class Sending:
    """Sends what waits, until the process is asked to end.

    Attributes:
        outbox: where it waits.
        notifier: finds the addresses of channels.
        directory: knows the subscribers; it is read before anything is sent.
        page: where alarms can be looked at.
        stop: set when the process is asked to end.
        chance: numbers in [0, 1).
        clock: the time of day, UTC.
    """

    outbox: Outbox
    notifier: Notifier
    directory: Directory
    page: str = ""
    stop: threading.Event = field(default_factory=threading.Event)
    chance: Callable[[], float] = random.random
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    metrics: Metrics = field(default_factory=Metrics)
    _texts: dict[str, Texts] = field(default_factory=texts)
    _turns: dict[str, _Turn] = field(default_factory=dict)
    _accounts: dict[str, Bucket] = field(default_factory=dict)
    _servers: dict[str, threading.Semaphore] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _told: dict[str, str] = field(default_factory=dict)

    def added(self, decisions: Sequence[Decision]) -> None:
        """Takes notice of rows that were added to the outbox."""
        ranks: dict[str, int] = defaultdict(int)
        for each in decisions:
            if each.reason is None:
                ranks[each.channel] = max(ranks[each.channel], each.transition.rank)
        self._notice(ranks, GATHER_S)

    def refresh(self) -> None:
        """Looks into the outbox for what waits, whoever put it there."""
        self._notice({each.name: each.rank for each in self.outbox.channels()}, 0.0)

    def tell_given_up(self, given_up: Mapping[str, int], what: str = "nobody was told within a day") -> None:
        """Tells the operator of rows that were given up, by channel."""
        for channel, rows in given_up.items():
            self.metrics.given_up.inc(rows)
            tell(_log, what, logging.ERROR, channel=channel, notifications=rows)

    def is_idle(self) -> bool:
        """Whether nothing is sent now or within a second."""
        soon = time.monotonic() + LOOK_EVERY_S
        with self._changed:
            return not any(turn.is_busy or (turn.has_work and turn.not_before <= soon) for turn in self._turns.values())

    def run(self) -> None:
        """Sends until the process is asked to end; messages that are being sent then are noted."""
        with ThreadPoolExecutor(SENDERS, "send") as pool:
            while not self.stop.is_set():
                with self._changed:
                    chosen, wait_s = self._choose(time.monotonic())
                    if not chosen:
                        self._changed.wait(wait_s)
                for channel in chosen:
                    pool.submit(self._work, channel)

    def wake(self) -> None:
        """Lets `run` see that it shall end."""
        with self._changed:
            self._changed.notify_all()

    def _notice(self, ranks: dict[str, int], gather_s: float) -> None:
        now = time.monotonic()
        with self._changed:
            for channel, rank in ranks.items():
                turn = self._turns.setdefault(channel, _Turn())
                if not turn.has_work:
                    turn.not_before = max(turn.not_before, now + gather_s)
                if rank >= URGENT > turn.rank:
                    # Its pace leaves a token to what is urgent.
                    turn.not_before = max(turn.paused_until, min(turn.not_before, now + gather_s))
                turn.has_work, turn.rank = True, max(turn.rank, rank)
            self._changed.notify_all()

    def _choose(self, now: float) -> tuple[list[str], float]:
        """The channels that may send now, the most severe first, and how long until others may."""
        busy = [turn for turn in self._turns.values() if turn.is_busy]
        free, suspects = SENDERS - len(busy), SENDERS // 2 - sum(turn.is_suspect for turn in busy)
        ready = [
            (-turn.rank, turn.not_before, name)
            for name, turn in self._turns.items()
            if turn.has_work and not turn.is_busy
        ]
        chosen, next_at = list[str](), now + LOOK_EVERY_S
        for _, not_before, name in sorted(ready):
            turn = self._turns[name]
            if not_before > now:
                next_at = min(next_at, not_before)
            elif len(chosen) < free and (suspects > 0 or not turn.is_suspect):
                suspects -= turn.is_suspect
                turn.is_busy = True
                chosen.append(name)
        return chosen, max(0.005, next_at - now)

    def _work(self, channel: str) -> None:
        turn = self._turns[channel]
        with self._changed:
            turn.has_work, turn.rank = False, 0
        is_left = True
        try:
            is_left = self._send(channel, turn)
        except StoreError as error:
            self._pause(channel, turn, " ".join(str(error).split()))
        except Exception as error:
            # A channel that fails in an unknown way stops only itself; its text may quote what was sent.
            self._pause(channel, turn, type(error).__name__)
        finally:
            with self._changed:
                turn.has_work |= is_left
                turn.is_busy = False
                self._changed.notify_all()

    def _send(self, channel: str, turn: _Turn) -> bool:
        """Sends the next message of a channel, if its pace allows it.

        Returns:
            Whether something is left.
        """
        now = self.clock()
        part = self.outbox.waiting(channel, now, turn.most)
        if part is None:
            return False
        if part.unreadable:
            self.outbox.give_up_unreadable(part.unreadable, now)
            self.tell_given_up({channel: len(part.unreadable)}, "what waits cannot be read and is given up")
            return True
        people = self.directory.current
        rows = self._told_now(people, channel, part, now)
        waiting = [each for each in rows if not each.is_told]
        if not waiting:
            return True
        try:
            address = self.notifier.address(channel)
        except (ChannelError, SecretError) as error:
            self._failed(channel, turn, _ids(waiting), Outcome("again", str(error)))
            return True
        except Exception as error:
            # Whatever a vault or a plugin of apprise raises; its text may quote the address.
            self._failed(channel, turn, _ids(waiting), Outcome("again", f"no address: {type(error).__name__}"))
            return True
        with self._changed:
            server = self._servers.setdefault(address.server, threading.Semaphore(OF_SERVER))
        is_free = server.acquire(blocking=False)
        rank = max(each.transition.rank for each in waiting)
        try:
            if wait_s := self._paced(turn, address, is_urgent=rank >= URGENT) if is_free else CROWDED_S:
                with self._changed:
                    turn.not_before, turn.rank = time.monotonic() + wait_s, max(turn.rank, rank)
                return True
            told = {each.transition.alarm_id for each in waiting}
            rows = [each for each in rows if each.transition.alarm_id in told]
            self._deliver(channel, turn, address, people.subscribers[part.subscriber_id], rows)
        finally:
            if is_free:
                server.release()
        return True

    def _told_now(self, people: People, channel: str, part: Part, now: datetime) -> list[Waiting]:
        """The rows that are told, with what was told before; the others are suppressed, with the reason."""
        who = part.subscriber_id
        # Whoever was removed meanwhile, or is not subscribed any more, is told nothing more of a patient.
        gone = {
            each.notification_id
            for each in part.rows
            if not each.is_told and not people.is_told(who, channel, each.transition)
        }
        rows = [each for each in part.rows if each.notification_id not in gone]
        quiet = set[int]()
        if (subscriber := people.subscribers.get(who)) and subscriber.is_quiet(now):
            quiet = _held_back(rows)
        for ids, reason in ((gone, UNSUBSCRIBED), (quiet, QUIET)):
            if ids:
                self.outbox.suppress(sorted(ids), reason, now)
        return [each for each in rows if each.notification_id not in quiet]

    def _paced(self, turn: _Turn, address: Address, *, is_urgent: bool) -> float:
        """How long the channel has to wait; 0 if it may send, and then it has taken its token."""
        now = time.monotonic()
        with self._changed:
            if turn.bucket is None or turn.bucket.pace != address.pace:
                turn.bucket = Bucket.full(address.pace, now)
            buckets = [turn.bucket]
            if address.account_pace is not None:
                full = Bucket.full(address.account_pace, now)
                buckets.append(self._accounts.setdefault(address.account, full))
            wait_s = max(each.wait_s(now, is_urgent=is_urgent) for each in buckets)
            if not wait_s:
                for each in buckets:
                    each.take(now)
            return wait_s

    def _deliver(self, channel: str, turn: _Turn, address: Address, who: Subscriber, rows: Sequence[Waiting]) -> None:
        ids, alarms = _ids(each for each in rows if not each.is_told), len({each.transition.alarm_id for each in rows})
        message_id = ""
        began = time.monotonic()
        try:
            message = self._composed(who, rows, address.limit)
            ids, alarms = _ids(message.rows), len(message.entries)
            message_id = _id_of(ids)
            outcome = address.send(message, message_id)
        except Exception as error:
            # It may be the text of one alarm, which is then found as one that a channel refuses.
            outcome = Outcome("refused", f"it could not be sent: {type(error).__name__}")
        turn.is_suspect = outcome.result != "sent" or time.monotonic() - began > SLOW_S
        if outcome.result != "sent":
            self._failed(channel, turn, ids, outcome, alarms)
            return
        self._note(lambda: self.outbox.sent(ids, message_id, self.clock()))
        self.metrics.sent.inc(len(ids))
        self.metrics.messages.inc()
        turn.failures, turn.most = 0, min(AT_ONCE, 2 * turn.most)
        if self._told.pop(channel, None) is not None:
            tell(_log, "a channel takes messages again", channel=channel)

    def _composed(self, who: Subscriber, rows: Sequence[Waiting], limit: int) -> Message:
        words = self._texts[language_of(who.language, list(self._texts))]
        return words.compose(rows, who, self.clock(), limit, self.page)

    def _failed(self, channel: str, turn: _Turn, ids: Sequence[int], outcome: Outcome, alarms: int = 0) -> None:
        self.metrics.failed.inc()
        self.notifier.forget(channel)
        again_at = None
        if outcome.result == "refused":
            turn.most = max(1, min(turn.most, len(ids)) // 2)
            if alarms == 1:
                again_at = self.clock() + REFUSED_AGAIN
        self._pause(channel, turn, outcome.problem, outcome)
        self._note(lambda: self.outbox.failed(ids, outcome.problem, again_at))

    def _pause(self, channel: str, turn: _Turn, problem: str, outcome: Outcome | None = None) -> None:
        with self._changed:
            turn.failures += 1
            turn.is_suspect = True
            # To find the text that is refused among others takes some attempts.
            is_refused = outcome is not None and outcome.result == "refused"
            counted = max(1, turn.failures - REFUSALS) if is_refused else turn.failures
            seconds = pause_s(counted, self.chance(), outcome.retry_after_s if outcome else None)
            turn.paused_until = turn.not_before = time.monotonic() + seconds
        if self._told.get(channel) != problem:
            self._told[channel] = problem
            tell(_log, "a channel takes no messages", logging.WARNING, channel=channel, problem=problem)

    def _note(self, write: Callable[[], None]) -> None:
        """Writes to the outbox, however long the store is away: what was sent must not be sent again."""
        end = None
        while True:
            try:
                return write()
            except StoreError:
                if self.stop.is_set():
                    end = end or time.monotonic() + LAST_NOTE_S
                    if time.monotonic() > end:
                        raise
                time.sleep(NOTE_EVERY_S)


def _ids(rows: Iterable[Waiting]) -> list[int]:
    return [each.notification_id for each in rows]


def _held_back(rows: Sequence[Waiting]) -> set[int]:
    """The rows that are not told in quiet hours; of each alarm there is all that waits, and what was told before."""
    ranks: dict[str, int] = defaultdict(int)
    for each in rows:
        ranks[each.transition.alarm_id] = max(ranks[each.transition.alarm_id], each.transition.rank)
    return {
        each.notification_id
        for each in rows
        if not each.is_told and not passes_quiet_hours(each.transition, ranks[each.transition.alarm_id])
    }


def _id_of(ids: Sequence[int]) -> str:
    """The same rows are the same message, also when it is repeated after a crash."""
    text = ",".join(map(str, sorted(ids)))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
