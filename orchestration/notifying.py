"""Notifications as a standing process, one at a time: it takes transitions of alarms into the outbox, and sends.

```
 hub "alarms" ─▶ listen ─┐
 tables alarms/… ────────┴▶ take ─▶ outbox ─▶ send ─▶ channels
```
"""

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import polars as pl
from azure.core.exceptions import AzureError
from deltalake.exceptions import DeltaError

from assets.notifications.deciding import GIVEN_UP, QUIET, Decision
from assets.notifications.messages import language_of
from assets.notifications.people import People, SubscriberUnknownError
from assets.notifying import Directory, Taking
from assets.stream.contract import ALARMS_HUB
from orchestration.alarms import contracts_with_alarms
from orchestration.oltp import at_work, open_store
from orchestration.sending import Sending, texts
from orchestration.system import LakeUnavailableError, open_lake
from resources import sources
from resources.event_source import EventSource, Pulled
from resources.lake import Lake
from resources.logs import tell
from resources.metrics import write
from resources.notifier import ChannelError, Notifier
from resources.outbox import Outbox
from resources.secrets import SecretError, secret_of
from resources.settings import Settings
from resources.store import OvertakenError, Store, StoreError

LEASE = "notify"
LOOK_EVERY_S, PEOPLE_EVERY_S, LIST_EVERY_S, TIDY_EVERY_S, EXPIRE_EVERY_S = 1.0, 3.0, 5.0, 10.0, 3600.0
"""How often tables of alarms, reference data and channels are looked at, rows are given up, and old ones removed."""
AWAKE_EVERY_S = 60.0
"""How often it is looked whose quiet hours have ended."""
KEPT = timedelta(days=90)
"""How long rows stay after they ended."""
AGAIN_AFTER_S, TAKE_S = 5.0, 0.5
QUEUED = 100
"""How many portions of the hub's events are held while the store is away; then the hub has to wait."""
ONCE_S = 60.0
"""How long a run that ends by itself sends at most."""

FAILURES = (StoreError, OvertakenError, DeltaError, AzureError, pl.exceptions.PolarsError, OSError)
"""What may go wrong at one look, and well at the next."""

_log = logging.getLogger(__name__)


@dataclass
class Listener:
    """Receives the hub `alarms` from its end on, on a thread of its own. What it misses, the tables have.

    Args:
        source: the hub.
        stop: ends it.
    """

    source: EventSource
    stop: threading.Event
    arrived: "queue.Queue[list[Pulled]]" = field(default_factory=lambda: queue.Queue(QUEUED))
    is_open: threading.Event = field(default_factory=threading.Event)
    _reached: dict[int, int] = field(default_factory=dict)
    _identity: int | None = None
    _told: str = ""

    def run(self) -> None:
        """Receives until it is asked to end; a hub that is away is tried again and again."""
        while not self.stop.is_set():
            try:
                self._listen()
            except Exception as error:
                # Whatever is wrong with the hub or its client, the tables go on.
                self.is_open.clear()
                if (failure := type(error).__name__) != self._told:
                    self._told = failure
                    tell(_log, "the hub of alarms is away; the tables are followed", logging.WARNING, failure=failure)
                self.stop.wait(AGAIN_AFTER_S)

    def _listen(self) -> None:
        state = self.source.state()
        if state.identity != self._identity or not self._reached:
            self._identity = state.identity
            self._reached = {partition: tail.end for partition, tail in state.tails.items()}
        with self.source.receive(self._reached) as receiver:
            while not self.stop.is_set():
                if not self.is_open.is_set() and receiver.wait_until_open(TAKE_S):
                    self.is_open.set()
                    self._told = ""
                if not (pulled := receiver.take(TAKE_S)):
                    continue
                self._reached |= {each.partition: each.sequence_numbers[-1] for each in pulled}
                while not self.stop.is_set():
                    with suppress(queue.Full):
                        self.arrived.put(pulled, timeout=TAKE_S)
                        break

    def take(self, timeout: float) -> list[Pulled]:
        """All that has arrived; waits for something up to some seconds."""
        found = list[Pulled]()
        with suppress(queue.Empty):
            found += self.arrived.get(timeout=timeout)
            while True:
                found += self.arrived.get_nowait()
        return found


@dataclass
class Worker:
    """Takes and sends, until it is asked to end.

    Attributes:
        lake, outbox: where transitions are, and where notifications are.
        notifier: finds the addresses of channels.
        source: the hub `alarms`; without one only the tables are followed.
        page: where alarms can be looked at.
        stop: set when the process is asked to end.
        on_look: told how often it looked; for metrics.
    """

    lake: Lake
    outbox: Outbox
    notifier: Notifier
    source: EventSource | None = None
    page: str = ""
    stop: threading.Event = field(default_factory=threading.Event)
    on_look: Callable[["Worker"], None] = lambda _: None
    _next: dict[str, float] = field(default_factory=dict)
    _told: str = ""
    _unread: dict[str, str] = field(default_factory=dict)
    _awake: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.listener = Listener(self.source, self.stop) if self.source else None
        self.directory = Directory(self.lake)
        self.taking = Taking(self.lake, self.outbox, contracts_with_alarms())
        self.sending = Sending(self.outbox, self.notifier, self.directory, self.page, self.stop)

    @classmethod
    def of(cls, settings: Settings, lake: Lake, store: Store, stop: threading.Event | None = None) -> "Worker":
        """The worker of the settings."""
        return cls(
            lake,
            Outbox(store),
            Notifier(partial(secret_of, settings)),
            sources.source(settings, ALARMS_HUB),
            settings.page_origin or "",
            stop or threading.Event(),
            on_look=lambda worker: write(settings.metrics, LEASE, worker.sending.metrics.registry),
        )

    def run(self) -> None:
        """Works until it is asked to end."""
        with self._at_work(self.listener):
            while not self.stop.is_set():
                if self.listener:
                    self._try(self.listener.take(LOOK_EVERY_S))
                else:
                    self._try([])
                    self.stop.wait(LOOK_EVERY_S)

    def once(self, seconds: float = ONCE_S) -> None:
        """Takes what the tables have, and sends what can be sent within a time.

        Raises:
            StoreError: the store cannot be used.
        """
        self.taking.begin()
        who = self.directory.people(datetime.now(UTC))
        with self._at_work(None):
            self._give_up(datetime.now(UTC))
            self._took(self.taking.from_tables(who, datetime.now(UTC)))
            self._wake(who, datetime.now(UTC))
            self.sending.refresh()
            end = time.monotonic() + seconds
            while not self.sending.is_idle() and time.monotonic() < end and not self.stop.is_set():
                time.sleep(0.05)
            self.stop.set()

    @contextmanager
    def _at_work(self, listener: Listener | None) -> Iterator[None]:
        """Within the block it listens and sends; at its end what is being sent is noted."""
        if listener:
            # A hub that is silent would hold up the end.
            threading.Thread(target=listener.run, name="listen", daemon=True).start()
        sending = threading.Thread(target=self.sending.run, name="send")
        sending.start()
        try:
            yield
        finally:
            self.stop.set()
            self.sending.wake()
            sending.join()

    def _try(self, pulled: list[Pulled]) -> None:
        try:
            self._look(pulled)
        except Exception as error:
            # What came by the hub is in the tables too. Only errors of the store are made for people.
            self._next |= {"people": 0.0, "begin": 0.0}
            is_told = isinstance(error, StoreError | OvertakenError)
            said = " ".join(str(error).split()) if is_told else type(error).__name__
            if said != self._told:
                self._told = said
                tell(_log, "nothing can be taken into the outbox", logging.WARNING, problem=said)
            self.stop.wait(LOOK_EVERY_S)
        else:
            if self._told:
                self._told = ""
                tell(_log, "the outbox takes transitions again")

    def _look(self, pulled: list[Pulled]) -> None:
        now = datetime.now(UTC)
        who = self._who(now)
        if self._is_due("begin", float("inf")):
            self.taking.begin()
            self.sending.refresh()
        if self._is_due("awake", AWAKE_EVERY_S):
            self._wake(who, now)
        if pulled:
            self._took(self.taking.from_hub(pulled, who, now))
        if self._is_due("tables", LOOK_EVERY_S):
            for contract in self.taking.contracts:
                with self._apart(contract.tables["alarms"].name):
                    self._took(self.taking.from_table(contract, who, now))
        if self._is_due("list", LIST_EVERY_S):
            self.sending.refresh()
            self._measure(now)
        if self._is_due("tidy", TIDY_EVERY_S):
            self._give_up(now)
        if self._is_due("expire", EXPIRE_EVERY_S):
            self.outbox.expire(now - KEPT)

    def _who(self, now: datetime) -> People:
        if self._is_due("people", PEOPLE_EVERY_S):
            if not self.directory.is_read:
                # Without them transitions would be taken, and nobody told.
                return self.directory.people(now)
            with self._apart("reference data"):
                self.directory.people(now)
        return self.directory.current

    @contextmanager
    def _apart(self, what: str) -> Iterator[None]:
        """Within the block something of the lake is read; if that fails, all else goes on, and it is read again."""
        try:
            yield
        except (StoreError, OvertakenError):
            raise
        except Exception as error:
            failure = type(error).__name__
            if self._unread.get(what) != failure:
                self._unread[what] = failure
                tell(_log, "the lake is not followed", logging.WARNING, table=what, failure=failure)
        else:
            if self._unread.pop(what, None) is not None:
                tell(_log, "the lake is followed again", table=what)

    def _took(self, rows: Sequence[Decision]) -> None:
        self.sending.added(rows)
        self.sending.tell_given_up(Counter(each.channel for each in rows if each.state == GIVEN_UP))

    def _give_up(self, now: datetime) -> None:
        self.sending.tell_given_up(self.outbox.give_up(now))

    def _measure(self, now: datetime) -> None:
        summary = self.outbox.summary(now)
        self.sending.metrics.waiting.set(summary.waiting)
        self.sending.metrics.oldest.set(summary.oldest_urgent_s or 0.0)
        self.on_look(self)

    def _wake(self, who: People, now: datetime) -> None:
        """Whose quiet hours have ended is told of what was held back and lasts."""
        awake = {number for number, each in who.subscribers.items() if not each.is_quiet(now)}
        if (woken := awake - self._awake) and self.outbox.release(QUIET, woken, now):
            self.sending.refresh()
        self._awake = awake

    def _is_due(self, what: str, every_s: float) -> bool:
        if (now := time.monotonic()) < self._next.get(what, 0.0):
            return False
        self._next[what] = now + every_s
        return True


def stand(settings: Settings, stop: threading.Event, say: Callable[[str], None] = lambda _: None) -> None:
    """Works until it is asked to end; where another process does, it waits for its turn.

    A store or a lake that is away, or that is not ready, is asked again and again.
    """
    with at_work(settings, stop, LEASE) as mine:
        told = ""
        while mine and not stop.is_set():
            try:
                lake, store = open_lake(settings), open_store(settings)
            except (*FAILURES, LakeUnavailableError) as error:
                if str(error) != told:
                    told = str(error)
                    say(told)
                stop.wait(AGAIN_AFTER_S)
                continue
            say(f"Notifications of alarms are sent; what waits is in the store {store.name}.")
            Worker.of(settings, lake, store, stop).run()
            store.close()


def send_once(settings: Settings, lake: Lake, store: Store) -> bool:
    """Takes and sends what waits, and ends; it does nothing where another process is at work.

    Returns:
        Whether it was this process.
    """
    with at_work(settings, lease_name=LEASE) as mine:
        if mine:
            Worker.of(settings, lake, store).once()
        return mine


def is_caught_up(lake: Lake, outbox: Outbox) -> bool:
    """Whether all transitions in the tables of alarms are taken."""
    return Taking(lake, outbox, contracts_with_alarms()).is_caught_up()


def send_where_nobody_does(lake: Lake, store: Store) -> bool:
    """The same with the settings of this process."""
    return send_once(Settings(), lake, store)


def send_test(settings: Settings, lake: Lake, subscriber_id: int) -> dict[str, str]:
    """Sends a test to each channel of a subscriber, now and past the outbox.

    Returns:
        For each channel why it did not take it; empty if it did.

    Raises:
        SubscriberUnknownError: there is no such subscriber now, or they have no channel; nothing was sent.
    """
    subscriber = Directory(lake).people(datetime.now(UTC)).subscribers.get(subscriber_id)
    if subscriber is None or not subscriber.channels:
        has = "has no channels" if subscriber else "is not in reference.subscribers"
        raise SubscriberUnknownError(
            f"Subscriber {subscriber_id} {has}; nothing was sent. Load them with `pulselake reference load subscribers "
            "FILE`."
        )
    words, notifier = texts(), Notifier(partial(secret_of, settings))
    message = words[language_of(subscriber.language, list(words))].test(subscriber)
    found = {}
    for channel in subscriber.channels:
        try:
            found[channel] = notifier.address(channel).send(message, uuid4().hex).problem
        except (ChannelError, SecretError) as error:
            found[channel] = str(error)
    return found
