"""The outbox in the store: notifications that wait, and what became of them.

A row is one transition of an alarm for one subscriber and one channel. A crash may have a transition that people were
told of decided otherwise: then it has the number of the first one, and another kind or severity, and is a row of its
own. What follows it may be what was told before, and is told again then: after "raised, worsened, cleared" that became
"raised, urgent, cleared", the alarm is over only for those who hear so once more. How far transitions were taken is
committed together with the rows that they gave. Who is told what belongs to `assets.notifications`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import RLock
from typing import Any, NamedTuple

import polars as pl
from sqlalchemy import ColumnElement, case, delete, func, select, update

from assets.notifications.deciding import FAILED, GIVE_UP_AFTER, GIVEN_UP, SENT, SUPPRESSED, WAITING, Decision
from assets.notifications.messages import Waiting, in_order
from assets.notifications.transitions import OVER, URGENT, UnreadableError, decoded, encoded
from resources.store import State, Store, next_state
from resources.store_tables import Base, Notification, polars_schema

TABLE = Notification.__tablename__
KEY = ("alarm_id", "transition_index", "kind", "severity_rank", "subscriber_id", "channel", "decision")
AT_ONCE = 200
"""How many rows are looked at for one message; more than one holds."""
EXPIRED, UNREADABLE, REMOVED_AT_ONCE = "expired", "unreadable", 10_000
_LISTED = 500
_OPEN = (WAITING, FAILED)

Key = tuple[str, int, str, int, int, str]


@dataclass
class Known:
    """What the outbox has of some alarms.

    Attributes:
        told: for each alarm the subscribers who were told of it, or will be, each with the greatest rank of these rows.
    """

    told: dict[str, dict[int, int]] = field(default_factory=dict)
    _rows: dict[tuple[str, int, str], list[tuple[Key, int]]] = field(default_factory=dict)

    def add(self, key: Key, decision: int) -> None:
        """Takes notice of a row, in the order in which rows were added."""
        self._rows.setdefault(_of_whom(key), []).append((key, decision))

    def decision(self, key: Key) -> int | None:
        """How often what a row tells was decided before; None if the outbox has it as it is decided now.

        It is decided anew if a transition up to it was decided otherwise after it was added.
        """
        rows = self._rows.get(_of_whom(key), [])
        same = [place for place, (each, _) in enumerate(rows) if each == key]
        if not same:
            return 0
        last = same[-1]
        seen = {index for (_, index, *_), _ in rows[: last + 1]}
        for (_, index, *_), _ in rows[last + 1 :]:
            if index in seen and index <= key[1]:
                return rows[last][1] + 1
            seen.add(index)
        return None


class Channel(NamedTuple):
    """A channel that something waits for.

    Attributes:
        name: of the secret.
        rank: of the most severe row that waits.
        rows: how many do.
    """

    name: str
    rank: int
    rows: int


class Part(NamedTuple):
    """What waits for one subscriber at one channel.

    Attributes:
        subscriber_id: who.
        rows: of some alarms all that waits, and what was told of them before.
        unreadable: the numbers of those that wait and whose details are no transition.
    """

    subscriber_id: int
    rows: list[Waiting]
    unreadable: list[int]


@dataclass(frozen=True)
class Summary:
    """How the outbox does.

    Attributes:
        counts: rows of the last 24 hours by state, and those that were given up in that time, whenever they were added.
        waiting: rows that wait, of whatever age.
        oldest_urgent_s: for how long the oldest urgent row has been waiting; None if none waits.
    """

    counts: Mapping[str, int]
    waiting: int
    oldest_urgent_s: float | None

    @property
    def failed_share(self) -> float:
        """Of the rows of the last 24 hours that were tried, how many failed or were given up."""
        bad = self.counts.get(FAILED, 0) + self.counts.get(GIVEN_UP, 0)
        tried = bad + self.counts.get(SENT, 0)
        return bad / tried if tried else 0.0


class Outbox:
    """The table `notification` of a store. Its writers of one process take turns, so that none waits for a lock long.

    Args:
        store: whose tables are up to date.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._table = Base.metadata.tables[TABLE]
        self._schema = polars_schema(self._table)
        self._lock = RLock()

    def position(self) -> State | None:
        """How far transitions were taken; None where none ever was."""
        return self._store.state(TABLE)

    def known(self, alarms: Collection[str]) -> Known:
        """What the outbox has of some alarms."""
        columns = [self._table.c[name] for name in (*KEY, "state")]
        known = Known()
        with self._store.reading() as connection:
            for part in _parts(sorted(alarms)):
                of_alarms = select(*columns).where(self._table.c.alarm_id.in_(part))
                for row in connection.execute(of_alarms.order_by(self._table.c.notification_id)):
                    *key, decision, state = row
                    known.add(tuple(key), decision)
                    if state in (*_OPEN, SENT):
                        ranks = known.told.setdefault(row.alarm_id, {})
                        ranks[row.subscriber_id] = max(ranks.get(row.subscriber_id, 0), row.severity_rank)
        return known

    def take(
        self, decisions: Iterable[Decision], state: State | None, offsets: Mapping[str, int], now: datetime
    ) -> State:
        """Adds rows that are not there yet, and how far transitions are taken, in one transaction.

        Args:
            decisions: none of them is in the outbox.
            state: how far they were taken, as it was read last.
            offsets: how far they are taken now.
            now: when.

        Raises:
            OvertakenError: another process took transitions; nothing was written.
            StoreUnavailableError: the database does not answer.
        """
        rows = pl.DataFrame([_row(each, now) for each in decisions], schema=_of(self._schema, _TAKEN))
        new = next_state(state or State(""), offsets=dict(offsets))
        with self._lock, self._store.step(TABLE, state, new) as step:
            step.upsert(rows, KEY)
            return step.state

    def channels(self) -> list[Channel]:
        """The channels that something waits for."""
        name, rank = self._table.c.channel, self._table.c.severity_rank
        wanted = select(name, func.max(rank), func.count()).where(self._table.c.state.in_(_OPEN)).group_by(name)
        with self._store.reading() as connection:
            return [Channel(*row) for row in connection.execute(wanted)]

    def waiting(self, channel: str, now: datetime, most: int = AT_ONCE) -> Part | None:
        """What is to be told next by a channel, the most severe first; None where nothing is.

        Args:
            channel: its name.
            now: rows that are to be tried later, or whose time is over, are left out, unless something new happened to
                their alarm.
            most: how many rows decide which alarms they are.
        """
        columns = self._table.c
        is_due = columns.next_attempt_at.is_(None) | (columns.next_attempt_at <= _naive(now))
        of_channel = (columns.channel == channel) & columns.state.in_(_OPEN)
        first = (
            select(columns.subscriber_id, columns.alarm_id)
            .where(of_channel & is_due & (columns.give_up_at > _naive(now)))
            .order_by(columns.severity_rank.desc(), columns.notification_id)
            .limit(most)
        )
        with self._store.reading() as connection:
            found = connection.execute(first).all()
            if not found:
                return None
            subscriber = found[0].subscriber_id
            alarms = list(dict.fromkeys(row.alarm_id for row in found if row.subscriber_id == subscriber))
            rows, unreadable = list[Waiting](), list[int]()
            for part in _parts(alarms):
                of_alarms = select(columns.notification_id, columns.details, columns.state).where(
                    columns.alarm_id.in_(part),
                    columns.subscriber_id == subscriber,
                    columns.channel == channel,
                    columns.state.in_((*_OPEN, SENT)),
                )
                for number, details, state in connection.execute(of_alarms):
                    try:
                        rows.append(Waiting(number, decoded(details.encode()), state == SENT))
                    except UnreadableError:
                        unreadable += [] if state == SENT else [number]
        return Part(subscriber, rows, unreadable)

    def sent(self, ids: Sequence[int], message_id: str, now: datetime) -> None:
        """Notes that rows were told by one message."""
        self._end(ids, SENT, None, now, message_id=message_id, problem=None, attempts=self._table.c.attempts + 1)

    def suppress(self, ids: Sequence[int], reason: str, now: datetime) -> None:
        """Notes that rows are not told, and why."""
        self._end(ids, SUPPRESSED, reason, now)

    def give_up_unreadable(self, ids: Sequence[int], now: datetime) -> None:
        """Gives up rows that can never be told, so that those behind them are."""
        self._end(ids, GIVEN_UP, UNREADABLE, now, problem="its details are no transition of an alarm")

    def release(self, reason: str, subscribers: Collection[int], now: datetime) -> int:
        """Lets what was suppressed for a reason within 24 hours be told after all, where the alarm is not over.

        Of each alarm only the last row, and only if nothing came after it; it says how the alarm stands.

        Args:
            reason: for which it was suppressed.
            subscribers: who is told now.
            now: when.

        Returns:
            How many rows wait now.
        """
        columns, since = self._table.c, _naive(now - GIVE_UP_AFTER)
        is_held = (columns.state == SUPPRESSED) & (columns.reason == reason) & (columns.created_at >= since)
        held = select(columns.alarm_id).where(is_held & columns.subscriber_id.in_(sorted(subscribers))).distinct()
        found: dict[tuple[str, int, str], list[Any]] = {}
        with self._store.reading() as connection:
            for part in _parts([row.alarm_id for row in connection.execute(held)]):
                for row in connection.execute(select(self._table).where(columns.alarm_id.in_(part))):
                    found.setdefault((row.alarm_id, row.subscriber_id, row.channel), []).append(row)
        last = [in_order(rows, lambda row: (row.transition_index, row.notification_id))[-1] for rows in found.values()]
        ids = [
            row.notification_id
            for row in last
            if (row.state, row.reason) == (SUPPRESSED, reason)
            and row.subscriber_id in subscribers
            and row.created_at >= since
            and row.kind not in OVER
        ]
        values = {"state": WAITING, "reason": None, "ended_at": None, "give_up_at": _naive(now + GIVE_UP_AFTER)}
        self._update(ids, values)
        return len(ids)

    def failed(self, ids: Sequence[int], problem: str, again_at: datetime | None) -> None:
        """Notes that a channel did not take rows.

        Args:
            ids: of the rows.
            problem: what it said, without any secret.
            again_at: before then these rows are not tried again; None where the channel as a whole decides.
        """
        values = {"state": FAILED, "problem": problem, "attempts": self._table.c.attempts + 1}
        self._update(ids, values | {"next_attempt_at": None if again_at is None else _naive(again_at)})

    def give_up(self, now: datetime) -> dict[str, int]:
        """Gives up what could not be told in time.

        Returns:
            How many rows, by channel.
        """
        columns, is_over = self._table.c, self._is_open() & (self._table.c.give_up_at <= _naive(now))
        with self._lock, self._store.writing() as connection:
            # Writing first: SQLite does not let a transaction that has read begin to write beside others.
            connection.execute(
                update(self._table).where(is_over).values(state=GIVEN_UP, reason=EXPIRED, ended_at=_naive(now))
            )
            of_now = (columns.state == GIVEN_UP) & (columns.reason == EXPIRED) & (columns.ended_at == _naive(now))
            found = connection.execute(select(columns.channel, func.count()).where(of_now).group_by(columns.channel))
            return {row[0]: row[1] for row in found}

    def retry(self, ids: Sequence[int], now: datetime) -> int:
        """Lets rows be tried again at once, for another 24 hours: those that failed or were given up.

        Args:
            ids: of the rows; if there are none, those that failed, and those that were given up in the last 24 hours.
            now: when.

        Returns:
            How many there are.
        """
        columns = self._table.c
        # What is older is no alarm of now.
        is_recent = (columns.reason == EXPIRED) & (columns.ended_at >= _naive(now - timedelta(hours=24)))
        where: ColumnElement[bool] = (columns.state == FAILED) | ((columns.state == GIVEN_UP) & is_recent)
        if ids:
            where = columns.state.in_((FAILED, GIVEN_UP)) & columns.notification_id.in_(list(ids))
        values: dict[str, Any] = {"state": WAITING, "reason": None, "next_attempt_at": None, "ended_at": None}
        values["give_up_at"] = _naive(now + GIVE_UP_AFTER)
        with self._lock, self._store.writing() as connection:
            return connection.execute(update(self._table).where(where).values(**values)).rowcount

    def log(self, limit: int, *, failed: bool) -> pl.DataFrame:
        """The newest rows, or those that failed or were given up; the newest last."""
        wanted = select(self._table).order_by(self._table.c.notification_id.desc()).limit(limit)
        if failed:
            wanted = wanted.where(self._table.c.state.in_((FAILED, GIVEN_UP)))
        with self._store.reading() as connection:
            rows = [tuple(row) for row in connection.execute(wanted)]
        return pl.DataFrame(rows[::-1], schema=self._schema, orient="row")

    def summary(self, now: datetime) -> Summary:
        """How the outbox does."""
        columns = self._table.c
        since = _naive(now - timedelta(hours=24))
        by_state = select(columns.state, func.count()).where(columns.created_at >= since).group_by(columns.state)
        is_urgent = case((columns.severity_rank >= URGENT, columns.created_at))
        # A channel that does not work for 24 hours: these rows were added before them.
        is_older = (columns.state == GIVEN_UP) & (columns.created_at < since) & (columns.ended_at >= since)
        of_waiting = select(func.count(), func.min(is_urgent)).where(self._is_open())
        with self._store.reading() as connection:
            counts = {row[0]: row[1] for row in connection.execute(by_state)}
            older = connection.execute(select(func.count()).where(is_older)).scalar_one()
            waiting, oldest = connection.execute(of_waiting).one()
        if older:
            counts[GIVEN_UP] = counts.get(GIVEN_UP, 0) + older
        if isinstance(oldest, str):
            oldest = datetime.fromisoformat(oldest)
        return Summary(counts, waiting, None if oldest is None else (_naive(now) - oldest).total_seconds())

    def expire(self, before: datetime) -> int:
        """Removes rows that ended before an instant, some at a time.

        Returns:
            How many were removed.
        """
        key, done = self._table.c.notification_id, 0
        some = select(key).where(self._table.c.ended_at < _naive(before)).limit(REMOVED_AT_ONCE).subquery()
        while True:
            with self._lock, self._store.writing() as connection:
                count = connection.execute(delete(self._table).where(key.in_(select(some.c[key.name])))).rowcount
            done += count
            if count < REMOVED_AT_ONCE:
                return done

    def _is_open(self) -> ColumnElement[bool]:
        return self._table.c.state.in_(_OPEN)

    def _end(self, ids: Sequence[int], state: str, reason: str | None, now: datetime, **values: Any) -> None:
        self._update(ids, {"state": state, "reason": reason, "ended_at": _naive(now), **values})

    def _update(self, ids: Sequence[int], values: Mapping[str, Any]) -> None:
        with self._lock, self._store.writing() as connection:
            for part in _parts(ids):
                is_one = self._table.c.notification_id.in_(part)
                connection.execute(update(self._table).where(is_one).values(**values))


_TAKEN = (
    *KEY,
    *("details", "state", "reason", "attempts", "created_at", "give_up_at", "ended_at"),
)


def key_of(decision: Decision) -> Key:
    """What a notification is told apart by, but for how often it was decided."""
    transition, subscriber_id, channel, *_ = decision
    kind, rank = transition.transition, transition.rank
    return transition.alarm_id, transition.index, kind, rank, subscriber_id, channel


def _of_whom(key: Key) -> tuple[str, int, str]:
    """The alarm, the subscriber and the channel."""
    alarm, _, _, _, subscriber_id, channel = key
    return alarm, subscriber_id, channel


def _row(decision: Decision, now: datetime) -> dict[str, Any]:
    transition = decision.transition
    return {
        "alarm_id": transition.alarm_id,
        "transition_index": transition.index,
        "kind": transition.transition,
        "subscriber_id": decision.subscriber_id,
        "channel": decision.channel,
        "decision": decision.number,
        "details": encoded(transition),
        "severity_rank": transition.rank,
        "state": decision.state,
        "reason": decision.reason,
        "attempts": 0,
        "created_at": _naive(now),
        "give_up_at": _naive(now + GIVE_UP_AFTER),
        "ended_at": None if decision.state == WAITING else _naive(now),
    }


def _of(schema: pl.Schema, names: Sequence[str]) -> dict[str, pl.DataType]:
    return {name: schema[name] for name in names}


def _naive(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None)


def _parts(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (values[first : first + _LISTED] for first in range(0, len(values), _LISTED))
