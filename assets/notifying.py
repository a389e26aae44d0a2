"""Turns what happens to alarms into rows of the outbox.

The tables of alarms are the record. They are followed by the numbers of their steps, which are committed in the store
together with the rows that they gave, so a transition gives its rows once, whatever dies. The hub `alarms` has the same
transitions some seconds earlier. Those that came by it are in the outbox already when their table is read, unless the
session died before it committed them and decided otherwise afterwards: then the table's are told as well, and so is
what follows them, also where the same was told before.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from assets.bitemporal import holding
from assets.notifications.deciding import Decision, decide
from assets.notifications.people import People, people
from assets.notifications.transitions import Transition, UnreadableError, decoded, of_row
from assets.reference.tables import DEVICES, PATIENTS, SUBSCRIBERS, SUBSCRIPTIONS, Reference
from assets.stream.contract import Contract
from assets.stream.log import FOLDS
from resources.event_source import Pulled
from resources.lake import Lake
from resources.logs import tell
from resources.outbox import Outbox, key_of
from resources.store import State

CHUNK = 5_000
"""How many transitions of a table become rows in one transaction."""
READ_EVERY = timedelta(seconds=60)
"""How often it is looked anew who holds now: a version may begin to hold without being loaded."""
_ABSENT = "none"

_log = logging.getLogger(__name__)


@dataclass
class Directory:
    """Who is told of whom, as reference data say it now.

    Args:
        lake: where reference data are.
    """

    lake: Lake
    _people: People = field(default_factory=People)
    _versions: tuple[int | None, ...] = ()
    _read_at: datetime | None = None

    @property
    def current(self) -> People:
        """Who is told, as it was looked at last."""
        return self._people

    @property
    def is_read(self) -> bool:
        """Whether it was looked at once."""
        return self._read_at is not None

    def people(self, now: datetime) -> People:
        """Who is told; tables that did not change are not read again."""
        tables = [self.lake.table(each.table) for each in (SUBSCRIBERS, SUBSCRIPTIONS, PATIENTS, DEVICES)]
        versions = tuple(each.version() for each in tables)
        is_old = self._read_at is None or now - self._read_at > READ_EVERY
        if is_old or versions != self._versions:
            frames = (self._holding(each, now) for each in (SUBSCRIBERS, SUBSCRIPTIONS, PATIENTS, DEVICES))
            self._people, self._versions, self._read_at = people(*frames), versions, now
        return self._people

    def _holding(self, reference: Reference, now: datetime) -> pl.DataFrame:
        table = self.lake.table(reference.table)
        if not table.exists():
            return pl.DataFrame(schema=table.table.schema)
        return holding(table.scan().collect(), reference.keys, now)


@dataclass
class Taking:
    """Takes transitions into the outbox, for one process.

    Args:
        lake: where the tables of alarms are.
        outbox: where rows go.
        contracts: the streams that have alarms.
    """

    lake: Lake
    outbox: Outbox
    contracts: Sequence[Contract]
    _state: State | None = None
    _versions: dict[str, int | None] = field(default_factory=dict)

    def begin(self) -> None:
        """Reads how far transitions were taken. Of a lake that is new here only what comes is."""
        self._state, self._versions = self.outbox.position(), {}

    def is_caught_up(self) -> bool:
        """Whether all that the tables have is taken, by whatever process."""
        self.begin()
        return all(after == stored for after, stored, _ in map(self._reached, self.contracts))

    def from_hub(self, pulled: Iterable[Pulled], who: People, now: datetime) -> list[Decision]:
        """Takes events of the hub `alarms`.

        Returns:
            The rows that were added.
        """
        transitions = [*_decoded(pulled)]
        return self._take(transitions, self._offsets, who, now) if transitions else []

    def from_tables(self, who: People, now: datetime) -> list[Decision]:
        """Takes what the tables of alarms have and the hub did not bring.

        Returns:
            The rows that were added.
        """
        return [row for contract in self.contracts for row in self.from_table(contract, who, now)]

    def from_table(self, contract: Contract, who: People, now: datetime) -> list[Decision]:
        """The same of one stream."""
        return [*self._follow(contract, who, now)]

    @property
    def _offsets(self) -> dict[str, int]:
        return dict(self._state.offsets) if self._state else {}

    def _follow(self, contract: Contract, who: People, now: datetime) -> Iterator[Decision]:
        table = self.lake.table(contract.tables["alarms"])
        version = table.version()
        if contract.stream in self._versions and self._versions[contract.stream] == version:
            return
        after, stored, key = self._reached(contract)
        offsets = self._offsets
        if after is None or after > stored:
            # Nobody is told of what happened before it was looked at first, or of what a restored lake has again.
            self._take([], _moved(offsets, contract.stream, key, stored), who, now)
        elif after < stored:
            yield from self._behind(contract, after, stored, key, who, now)
        elif offsets.get(key) != after:
            self._take([], _moved(offsets, contract.stream, key, after), who, now)
        self._versions[contract.stream] = version

    def _reached(self, contract: Contract) -> tuple[int | None, int, str]:
        """Up to which step transitions are taken (None: none yet), the last step that is stored, the offset's name."""
        table, name = self.lake.table(contract.tables["alarms"]), f"{contract.stream}/{FOLDS}"
        stored = 0 if table.version() is None else table.transactions([name]).get(name, 0)
        key = f"{contract.stream}/{table.id() or _ABSENT}"
        return _after(self._offsets, contract.stream, key), stored, key

    def _behind(
        self, contract: Contract, after: int, stored: int, key: str, who: People, now: datetime
    ) -> Iterator[Decision]:
        fold, is_told = pl.col("fold"), ~pl.col("is_update") & (pl.col("index") >= 0)
        rows = self.lake.table(contract.tables["alarms"]).scan().filter(is_told)
        behind = rows.filter(fold > after, fold <= stored)
        counts = behind.group_by("fold").agg(rows=pl.len()).sort("fold").collect()
        for begin, end in _parts(counts, after, stored):
            part = rows.filter(fold > begin, fold <= end).sort("fold", "index").collect()
            transitions = [of_row(row, contract.entity) for row in part.iter_rows(named=True)]
            yield from self._take(transitions, _moved(self._offsets, contract.stream, key, end), who, now)

    def _take(
        self, transitions: Sequence[Transition], offsets: Mapping[str, int], who: People, now: datetime
    ) -> list[Decision]:
        known = self.outbox.known({each.alarm_id for each in transitions})
        decisions = list[Decision]()
        for transition in transitions:
            told = known.told.setdefault(transition.alarm_id, {})
            for each in [*decide(transition, who, told, now)]:
                key = key_of(each)
                if (number := known.decision(key)) is not None:
                    known.add(key, number)
                    decisions.append(each._replace(number=number))
                    if each.reason is None:
                        told[each.subscriber_id] = max(told.get(each.subscriber_id, 0), transition.rank)
        if decisions or offsets != self._offsets:
            self._state = self.outbox.take(decisions, self._state, offsets, now)
        return decisions


def _parts(counts: pl.DataFrame, after: int, stored: int) -> Iterator[tuple[int, int]]:
    """Spans of steps, each with about as many transitions as one transaction takes, up to the last step."""
    begin, held = after, 0
    for step, rows in counts.iter_rows():
        if held and held + rows > CHUNK:
            yield begin, step - 1
            begin, held = step - 1, 0
        held += rows
    yield begin, stored


def _after(offsets: Mapping[str, int], stream: str, key: str) -> int | None:
    """The step behind which transitions are taken; None where none of the table's are."""
    if key in offsets:
        return offsets[key]
    # A table that was not there when it was looked at is new as a whole.
    return 0 if f"{stream}/{_ABSENT}" in offsets else None


def _moved(offsets: Mapping[str, int], stream: str, key: str, step: int) -> dict[str, int]:
    """The offsets with that of a stream's table; those of tables that it had before are left out."""
    others = {name: reached for name, reached in offsets.items() if not name.startswith(f"{stream}/")}
    return others | {key: step}


def _decoded(pulled: Iterable[Pulled]) -> Iterator[Transition]:
    unread = 0
    for each in pulled:
        for body in each.bodies:
            try:
                transition = decoded(body or b"")
            except UnreadableError:
                unread += 1
                continue
            # What somebody did to no alarm is told to whoever did it.
            if transition.index >= 0:
                yield transition
    if unread:
        tell(_log, "events of the hub of alarms are no transitions and were left out", logging.WARNING, events=unread)
