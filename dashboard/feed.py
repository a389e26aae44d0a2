"""Brings what happens onto the board: readings and alarms from the hubs, and from the lake what was before.

Tables are some seconds behind the hubs, so the page reads the hubs itself, with a consumer group of its own. It begins
where silver ends; so nothing is missing between the two, and what comes twice does no harm.

```
 silver, up to its offsets ─▶ ┐
 hub, from these offsets on ──┴─▶ decode, clean ─▶ board        one thread for each hub
 table of alarms ─────────────▶ ┐
 hub of alarms ─────────────────┴─────────────────▶ board
```
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

import msgspec
import polars as pl

from assets.devices.assets import CONTRACT as DEVICES
from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.notifications.transitions import Instant
from assets.stream.adapting import Adapting
from assets.stream.alarm_history import standing
from assets.stream.cleaning import Cleaning
from assets.stream.contract import ALARMS_HUB, Contract
from assets.stream.decode import Decoder
from assets.stream.enrichment import References
from assets.stream.log import HubPartition, StreamLog
from assets.stream.session import to_events
from assets.vitals.assets import CONTRACT as VITALS
from assets.vitals.news2 import PARAMETERS
from dashboard.board import Board, microseconds
from dashboard.directory import Directory
from resources import sources
from resources.event_source import EventSource, HubState, HubUnavailableError, Pulled, Receiver
from resources.lake import Lake
from resources.logs import tell
from resources.settings import Settings

SEEDED: Mapping[str, timedelta] = {
    GLUCOSE.stream: timedelta(hours=2),
    VITALS.stream: timedelta(minutes=10),
    DEVICES.stream: timedelta(hours=2),
}
"""From how long before a start on readings are read from silver."""
CATCH_UP, ALARMS_CATCH_UP = 20_000, 2_000
"""How many events of a partition are read again at most, where silver is far behind; and of alarms always."""
GATHER_S = 0.5
"""How long readings gather before they are decoded together: a frame of one costs as much as one of hundreds."""
TAKE_S, OPEN_S, AGAIN_S = 0.5, 15.0, 2.0
LOOK_AFTER_S, LOOK_ALONE_AFTER_S, PATIENCE_S = 2.0, 5.0, 3.0
"""After so long a silence of all hubs, or of one hub alone, it is asked whether there is really nothing, which costs
20 ms of a core. It is told if no answer comes so long: whoever waited until the question has failed would hear of a
dead hub only ten seconds later."""
UPKEEP_S, ALARMS_EVERY_S, LATE_S = 5.0, 15.0, 60.0
"""How often reference data are looked at, how often alarms are read from their tables, and after how long an alarm that
is not in its table any more is over."""

_log = logging.getLogger(__name__)


class Intake(Protocol):
    """What is done with the events of one hub."""

    @property
    def name(self) -> str:
        """Of the hub's stream."""
        ...

    def begin(self, hub: HubState) -> dict[int, int]:
        """Brings what was before onto the board, and says behind which events of each partition to go on."""
        ...

    def take(self, pulled: Sequence[Pulled], now: datetime) -> None:
        """Brings events onto the board."""
        ...


class Readings:
    """Readings of one stream.

    Args:
        contract: the stream.
        lake: where silver is.
        put: takes rows of silver in.
        columns: of silver that it needs.
        clock: the time of day, UTC.
    """

    def __init__(
        self,
        contract: Contract,
        lake: Lake,
        put: Callable[[pl.DataFrame], None],
        columns: Sequence[str],
        clock: Callable[[], datetime],
    ) -> None:
        self._contract, self._lake, self._put, self._clock = contract, lake, put, clock
        # A clock that is ahead must not hide what other devices of the patient measure.
        at = pl.min_horizontal("measured_at", "received_at").alias("measured_at")
        self._columns = [at if name == "measured_at" else pl.col(name) for name in columns]
        self._references = References(contract, lake)
        self._cleaning = Cleaning(contract)
        self._adapting = Adapting(contract, Decoder(contract.payload), self._references)
        self._epoch = 0

    @property
    def name(self) -> str:
        """The stream."""
        return self._contract.stream

    def refresh(self) -> None:
        """Reads reference data where they have changed: whom ids of other systems mean."""
        self._references.refresh()

    def begin(self, hub: HubState) -> dict[int, int]:
        """Puts the readings of the last hours onto the board."""
        self.refresh()
        log, now = StreamLog(self._contract, self._lake), self._clock()
        log.read(hub.tails)
        since = now - SEEDED[self.name]
        rows = self._lake.table(self._contract.tables.silver).scan()
        is_new = (pl.col("ingest_date") >= since.date()) & (pl.col("measured_at") >= since)
        # A reading of vital signs has some of them only.
        by_column = self.name == VITALS.stream
        chosen = rows.filter(is_new).select(self._columns)
        self._put(thinned(chosen, self._contract.entity, by_column=by_column).collect())
        is_of_hub = log.hub_identity is None or log.hub_identity == hub.identity
        self._epoch = log.epoch
        stored = log.offsets("silver") if is_of_hub else {}
        found = {}
        for number, tail in hub.tails.items():
            behind = stored.get(HubPartition(log.epoch, number), -1)
            found[number] = min(max(behind, tail.last - CATCH_UP, tail.first - 1), tail.last)
        return _known(found)

    def take(self, pulled: Sequence[Pulled], now: datetime) -> None:
        """Puts those readings onto the board that would enter silver."""
        events = to_events(pulled, now, self._epoch)
        decoded = self._adapting.decoded(events.bodies, events.positions)
        cleaned = self._cleaning.cleaned(self._cleaning.readings(events.positions, decoded))
        self._put(cleaned.filter(pl.col("reason").is_null()).select(self._columns))


def thinned(rows: pl.LazyFrame, entity: str, *, by_column: bool) -> pl.LazyFrame:
    """One row for each entity and half a minute, of hours of readings that may come each second.

    Args:
        rows: of silver.
        entity: the column that says whose they are.
        by_column: whether a row has the newest value of each column; else it is the newest row.
    """
    at, others = pl.col("measured_at"), pl.exclude("measured_at", entity).sort_by("measured_at")
    newest = others.drop_nulls().last() if by_column else others.last()
    return rows.group_by(entity, at.dt.truncate("30s").alias("_half")).agg(newest, at.max()).drop("_half")


def _known(positions: dict[int, int]) -> dict[int, int]:
    """Positions without those before the first event, which a receiver takes for what they are if they are left out."""
    return {number: position for number, position in positions.items() if position >= 0}


class Alarms:
    """Transitions of the alarms of all streams.

    Args:
        contracts: the streams that have alarms.
        lake: where their tables are.
        board: where they are shown.
        directory: who wears which device.
        changed: called when something was put onto the board.
        clock: the time of day, UTC.
    """

    name = ALARMS_HUB

    def __init__(
        self,
        contracts: Sequence[Contract],
        lake: Lake,
        board: Board,
        directory: Directory,
        changed: Callable[[], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._contracts = {each.stream: each for each in contracts}
        self._lake, self._board, self._directory, self._changed, self._clock = lake, board, directory, changed, clock

    def begin(self, hub: HubState) -> dict[int, int]:
        """Puts the alarms that are open onto the board."""
        self.read()
        return _known({number: max(tail.last - ALARMS_CATCH_UP, tail.first - 1) for number, tail in hub.tails.items()})

    def read(self) -> None:
        """Reads alarms from their tables: what they came to meanwhile, and those that their hub does not bring."""
        now = self._clock()
        for contract in self._contracts.values():
            rows = standing(contract, self._lake, now - timedelta(minutes=5))
            instants = [name for name in _INSTANTS if name in rows.columns]
            plain = rows.with_columns(pl.col(instants).dt.epoch("us"), of_device=pl.lit(contract.entity == "device_id"))
            self._board.take_alarms(plain.iter_rows(named=True), self._directory.people.wearers)
            still_open = rows.filter(pl.col("state") != "cleared")["alarm_id"].to_list()
            # What a session that cannot commit has told of is in no table, and true.
            stored = self._lake.table(contract.tables["alarms"]).newest("decided_at")
            before = min(now - timedelta(seconds=LATE_S), stored or now)
            self._board.keep_alarms(contract.stream, still_open, microseconds(before))
        self._changed()

    def take(self, pulled: Sequence[Pulled], now: datetime) -> None:
        """Puts transitions onto the board."""
        rows = [row for each in pulled for body in each.bodies if (row := self._row(body)) is not None]
        self._board.take_alarms(rows, self._directory.people.wearers)
        self._changed()

    def _row(self, body: bytes | None) -> dict[str, Any] | None:
        row = self._told(body)
        if row is None:
            # Whoever may publish there may publish anything; what no board can show would stop it again and again.
            tell(_log, "an event of the hub of alarms is no transition", logging.WARNING)
        return row

    def _told(self, body: bytes | None) -> dict[str, Any] | None:
        try:
            told = _decode(body or b"")
            entity = self._contracts[told.stream].entity
        except (msgspec.MsgspecError, KeyError, ValueError):
            return None
        row = msgspec.structs.asdict(told)
        if told.index >= 0 and None in (row[entity], *(row[name] for name in _OF_TRANSITIONS)):
            return None
        instants = {name: None if row[name] is None else microseconds(row[name]) for name in _INSTANTS if name in row}
        about = {"kind": told.transition, "entity": row[entity], "of_device": entity == "device_id"}
        return row | instants | about


class _Told(msgspec.Struct):
    """What the board takes of an event of the hub of alarms. Of an action that was refused much is null."""

    alarm_id: str
    index: int
    transition: str
    stream: str
    decided_at: Instant
    patient_id: int | None = None
    device_id: int | None = None
    cause: str | None = None
    severity: Literal["info", "warning", "urgent"] | None = None
    state: Literal["unacknowledged", "acknowledged", "snoozed", "cleared"] | None = None
    value: float | None = None
    worst_value: float | None = None
    tier: int = 0
    raised_at: Instant | None = None
    until: Instant | None = None
    is_stale: bool = False
    action_id: str | None = None
    actor: str | None = None


_decode = msgspec.json.Decoder(_Told).decode
_OF_TRANSITIONS = ("cause", "severity", "state", "raised_at")
_INSTANTS = ("at", "decided_at", "raised_at", "until")


@dataclass
class _Reader:
    """One thread that follows a hub, and begins again after whatever fails."""

    intake: Intake
    source: EventSource
    stop: threading.Event
    clock: Callable[[], datetime]
    gather_s: float
    trouble: str = "is being opened"
    since: datetime | None = None
    asked_at: float | None = None
    heard_at: float = field(default_factory=time.monotonic)
    others: Sequence["_Reader"] = ()
    reached: dict[int, int] = field(default_factory=dict)

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                self._follow()
            except (KeyboardInterrupt, SystemExit):
                raise
            except HubUnavailableError as error:
                self._failed("does not answer", str(error))
            except BaseException as error:  # a panic of deltalake or Polars is no Exception
                # Its text may quote a reading.
                self._failed("cannot be read", type(error).__name__)
            self.asked_at = None
            self.stop.wait(AGAIN_S)

    def told(self) -> str:
        """What is wrong with the hub now, for people; empty if nothing is."""
        if self.trouble:
            since = "" if self.since is None else f" since {self.since:%H:%M:%S} UTC"
            return f"{self.trouble}{since}"
        asked_at = self.asked_at
        is_late = asked_at is not None and time.monotonic() - asked_at > PATIENCE_S
        return "does not answer" if is_late else ""

    def _hears_others(self) -> bool:
        """Whether another hub was heard of just now: most are at one server."""
        since = time.monotonic() - LOOK_AFTER_S
        return any(each is not self and each.heard_at > since for each in self.others)

    def _failed(self, trouble: str, told: str) -> None:
        if self.trouble != trouble:
            self.trouble, self.since = trouble, self.clock()
            tell(_log, "the page does not follow", logging.WARNING, stream=self.intake.name, error=told)

    def _well(self) -> None:
        if self.trouble:
            self.trouble, self.since = "", None
            tell(_log, "the page follows", stream=self.intake.name)

    def _follow(self) -> None:
        hub = self.source.state()
        after = self.intake.begin(hub)
        self.reached = {number: after.get(number, -1) for number in hub.tails}
        with self.source.receive(after) as receiver:
            if not receiver.wait_until_open(OPEN_S):
                receiver.take(timeout=0.0)
                raise HubUnavailableError(
                    f"Hub '{self.source.name}' did not open all partitions within {OPEN_S:.0f} s."
                )
            if not any(tail.last > self.reached[number] for number, tail in hub.tails.items()):
                self._well()
            self._take_all(receiver)

    def _take_all(self, receiver: Receiver) -> None:
        looked, was_behind = time.monotonic(), False
        while not self.stop.is_set():
            if pulled := receiver.take(TAKE_S):
                self.heard_at = time.monotonic()
                self.intake.take(pulled, self.clock())
                self.reached |= {each.partition: each.sequence_numbers[-1] for each in pulled}
                looked, was_behind = time.monotonic(), False
                self._well()
                self.stop.wait(self.gather_s)
            elif time.monotonic() - looked > (LOOK_ALONE_AFTER_S if self._hears_others() else LOOK_AFTER_S):
                # A receiver that connects again and again, or one that hangs, is as silent as a hub without events.
                self.asked_at = time.monotonic()
                tails, self.asked_at = self.source.state().tails, None
                self.heard_at = time.monotonic()
                is_behind = any(tail.last > self.reached.get(number, -1) for number, tail in tails.items())
                if is_behind and was_behind:
                    raise HubUnavailableError(f"Hub '{self.source.name}' has events, and hands out none.")
                looked, was_behind = time.monotonic(), is_behind
                if not is_behind:
                    self._well()


class Feed:
    """All threads that bring something onto the board.

    Args:
        settings: name the hubs and the page's consumer group.
        lake: where silver and alarms are.
        board: what they bring it onto.
        directory: who wears which device; kept up to date here.
        contracts: the streams that have alarms.
        changed: called when alarms have changed.
        clock: the time of day, UTC.
        upkeep: what else is to be done now and then.
    """

    def __init__(
        self,
        settings: Settings,
        lake: Lake,
        board: Board,
        directory: Directory,
        contracts: Sequence[Contract],
        changed: Callable[[], None],
        clock: Callable[[], datetime],
        upkeep: Callable[[], None] = lambda: None,
    ) -> None:
        self._stop, self._board, self._directory, self._clock = threading.Event(), board, directory, clock
        self._alarms, self._upkeep = Alarms(contracts, lake, board, directory, changed, clock), upkeep

        def put_devices(rows: pl.DataFrame) -> None:
            board.take_devices(rows, directory.people.wearers)

        glucose = ("patient_id", "device_id", "measured_at", "glucose_mg_dl", "range_flag")
        self._readings = [
            Readings(GLUCOSE, lake, board.take_glucose, glucose, clock),
            Readings(VITALS, lake, board.take_vitals, ("patient_id", "measured_at", *PARAMETERS), clock),
            Readings(DEVICES, lake, put_devices, ("device_id", "measured_at", "battery_level"), clock),
        ]
        intakes: list[Intake] = [*self._readings, self._alarms]
        own = settings.model_copy(update={"consumer_group": settings.page_consumer_group})
        self._readers = [
            _Reader(each, sources.source(own, each.name), self._stop, clock, 0.0 if each is self._alarms else GATHER_S)
            for each in intakes
        ]
        for each in self._readers:
            each.others = self._readers
        self._threads = [threading.Thread(target=each.run, name=f"follow {each.intake.name}") for each in self._readers]
        self._threads.append(threading.Thread(target=self._keep_up, name="upkeep"))

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Ends them; one that waits for a hub longer ends with the process."""
        self._stop.set()
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def troubles(self) -> str:
        """What is wrong with the hubs now, for people; empty if nothing is."""
        return "; ".join(
            f"{each.intake.name.replace('_', ' ')} {told}" for each in self._readers if (told := each.told())
        )

    def _keep_up(self) -> None:
        read_at, told = 0.0, ""
        while not self._stop.wait(UPKEEP_S):
            try:
                self._directory.refresh(self._clock())
                self._upkeep()
                if time.monotonic() - read_at > ALARMS_EVERY_S:
                    self._alarms.read()
                    for each in self._readings:
                        each.refresh()
                    read_at = time.monotonic()
                told = ""
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:
                if told != (told := type(error).__name__):
                    tell(_log, "the page's upkeep failed", logging.WARNING, error=told)
