"""What a session knows of earlier readings: enough to find repeats and to average windows, in bounded memory.

The newest readings are in memory (`recent`). Those of earlier times are looked up in silver (`history`), so repeats are
found however late they come. `LastSeen` tells which readings can be repeats at all.
"""

from datetime import datetime, timedelta
from typing import cast

import polars as pl

from assets.stream.contract import FUTURE_TOLERANCE, MICROSECOND, Contract
from assets.stream.history import History, LookUps, Scan
from assets.stream.recent import TIME, Recent, times

FEW = 4
"""How many known readings for each new one count as few."""
TIMELY = timedelta(minutes=1)
"""How far a reading may be behind the median time of its micro-batch before it is looked for apart from the others."""


class LastSeen:
    """The newest instant of each entity, as far as it is in memory."""

    def __init__(self, entity: str, readings: pl.DataFrame) -> None:
        self._entity = entity
        self._newest = cast("datetime | None", readings[TIME].max())
        self._parts = [_newest_by(entity, readings[[entity, TIME]])]

    def add(self, readings: pl.DataFrame) -> None:
        """Takes in new readings, which need not be newer."""
        if readings.height:
            self._parts.append(readings[self._parts[0].columns])
            newest = times(readings)[1]
            self._newest = newest if self._newest is None else max(self._newest, newest)

    def is_not_newer(self, new: pl.DataFrame, floor: datetime | None) -> pl.Series | None:
        """Which new readings are not newer than every reading of their entity; None if there can be none."""
        if new.is_empty() or self._newest is None or times(new)[0] > self._newest:
            return None
        last = new[[self._entity]].join(self._by_entity(), on=self._entity, how="left", maintain_order="left")[TIME]
        is_not_newer = (new[TIME] <= last).fill_null(False)
        return is_not_newer if floor is None else is_not_newer | (new[TIME] <= floor)

    def forget(self, floor: datetime) -> None:
        """Forgets entities that were last seen at or before an instant."""
        self._parts = [self._by_entity().filter(pl.col(TIME) > floor)]

    def _by_entity(self) -> pl.DataFrame:
        if len(self._parts) > 1:
            self._parts = [_newest_by(self._entity, pl.concat(self._parts))]
        return self._parts[0]


class Known:
    """Earlier readings and alerts of one stream.

    Args:
        contract: the stream.
        silver: all earlier silver rows.
        alerts: all earlier alert rows.
        newest: the newest `measured_at` of `silver`, which may be cut to milliseconds; None where there are no rows. It
            decides only how much is kept in memory. Everything else is looked up.
        restored: which rows are known now; the others are added later, by `add`. By default all are.
        reach: how far back from a reading its windows are likely to look. It decides only how much is kept in memory.
    """

    def __init__(
        self,
        contract: Contract,
        silver: Scan,
        alerts: Scan,
        newest: datetime | None,
        restored: pl.Expr | None = None,
        reach: timedelta = timedelta(0),
    ) -> None:
        self._contract = contract
        self._reach = max(reach, contract.reach)
        of_windows = [window.column for window in contract.windows]
        columns = list(dict.fromkeys([*contract.keys, TIME, *contract.values, *of_windows]))
        floor = None if newest is None else self._floor_of(newest)
        is_recent = pl.lit(True) if restored is None else restored
        if floor is not None:
            is_recent &= pl.col(TIME) > floor
        readings = silver().filter(is_recent).select(columns).collect()
        raised = alerts().filter(is_recent).select("alert_id", TIME).collect()
        self._recent = Recent(readings, raised, floor)
        self._last_seen = LastSeen(contract.entity, readings)
        self._history = History(contract, silver, alerts, readings.clear())

    @classmethod
    def nothing(cls, contract: Contract) -> "Known":
        """What is known of a stream that has no readings yet."""
        silver, alerts = (
            pl.LazyFrame(schema=table.schema) for table in (contract.tables.silver, contract.tables.alerts)
        )
        return cls(contract, lambda: silver, lambda: alerts, None)

    @property
    def looked_up(self) -> LookUps:
        """The scans of stored rows so far."""
        return self._history.looked_up

    @property
    def rows(self) -> int:
        """How many readings are in memory."""
        return self._recent.rows

    def may_repeat(self, new: pl.DataFrame) -> pl.DataFrame:
        """Those of the new readings that are not newer than every known reading of their entity."""
        is_not_newer = self._last_seen.is_not_newer(new, self._recent.floor)
        return new.clear() if is_not_newer is None or not is_not_newer.any() else new.filter(is_not_newer)

    def context_of(self, new: pl.DataFrame, reach: timedelta) -> pl.DataFrame:
        """Earlier readings of the new readings' entities from `reach` before each to its own time, and some more."""
        # From now on so much is kept.
        self._reach = max(self._reach, reach)
        if new.is_empty():
            return self._recent.none
        oldest, newest = times(new)
        # The median is taken, so that a single clock that is fast does not make all others late.
        timely = cast(datetime, new[TIME].median()) - TIMELY
        is_late = new[TIME] < timely
        if not 0 < is_late.sum() < new.height // 4:
            return self._between(new, reach, oldest - reach, newest)
        # Looked for together, a few late readings would make all known readings of all entities be searched.
        return pl.concat(
            [
                self._between(new.filter(is_late), reach, oldest - reach, timely - reach - MICROSECOND),
                self._between(new, reach, timely - reach, newest),
            ]
        )

    def already_raised(self, alerts: pl.DataFrame) -> pl.DataFrame:
        """Those of the alerts that an earlier reading raised."""
        if alerts.is_empty():
            return alerts
        oldest, newest = times(alerts)
        raised = [self._recent.alerts(oldest, newest)]
        if (floor := self._recent.floor) is not None and oldest <= floor:
            raised.append(self._history.alerts(alerts, floor))
        ids = pl.concat(raised)["id"]
        return alerts.filter(pl.col("alert_id").cast(pl.UInt128).is_in(ids.implode()))

    def add(self, silver: pl.DataFrame, alerts: pl.DataFrame) -> None:
        """Adds the readings and alerts of a micro-batch."""
        readings = silver[self._recent.columns]
        self._recent.add(readings, alerts[["alert_id", TIME]])
        self._last_seen.add(readings)

    def mark_stored(self, micro_batches: int | None = None) -> None:
        """Marks micro-batches as stored and drops their readings below the floor, which look-ups find now.

        Args:
            micro_batches: how many of those added since the last call the look-ups contain now; None for all.
        """
        self._recent.mark_stored(micro_batches, self._floor_of)
        if self._recent.floor is not None:
            self._last_seen.forget(self._recent.floor)

    def _floor_of(self, newest: datetime) -> datetime:
        """The oldest instant to keep in memory."""
        return newest - self._contract.lateness - self._reach - FUTURE_TOLERANCE

    def _between(self, new: pl.DataFrame, reach: timedelta, oldest: datetime, newest: datetime) -> pl.DataFrame:
        """Earlier readings of the new readings' entities between two times, and perhaps of others."""
        recent, floor = self._recent, self._recent.floor
        is_within = pl.col(TIME).is_between(oldest, newest)
        if floor is None or oldest > floor:
            found = [recent.stored_readings(oldest, newest), recent.other_readings(oldest, newest)]
            readings = pl.concat(found)
            is_needed = readings.select(is_within).to_series()
            # Looking for the entities costs more than what a few readings of others do later. Both are looked for
            # before any row is copied, since the rows of a time are many where readings come each second.
            if is_needed.sum() > FEW * new.height:
                is_needed &= readings.select(self._is_of(new)).to_series()
            return readings.filter(is_needed)
        reaching = new.filter(pl.col(TIME) >= oldest, pl.col(TIME) - reach <= floor)
        looked_up = self._history.readings(reaching, reach, oldest, min(newest, floor))
        others = recent.other_readings(oldest, newest).filter(is_within, self._is_of(new))
        stored = recent.stored_readings(oldest, newest).filter(is_within, self._is_of(new), pl.col(TIME) > floor)
        # A commit may have ended just now whose readings are not marked as stored: they are found in both places.
        return pl.concat([pl.concat([looked_up, others]).unique(), stored])

    def _is_of(self, new: pl.DataFrame) -> pl.Expr:
        entity = self._contract.entity
        return pl.col(entity).is_in(new[entity].unique().implode())


def _newest_by(entity: str, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.group_by(entity).agg(pl.col(TIME).max())
