"""What a session knows of earlier readings: enough to find repeats and to average windows, in bounded memory.

Readings newer than `floor` are in memory; the few that reach further back are matched by a look-up in silver, so
repeats are found however late they come. Nothing here reads or writes a table by itself: look-ups are passed in.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import polars as pl

from assets.stream.contract import FUTURE_TOLERANCE, Contract

LookUp = Callable[[], pl.LazyFrame]
"""All earlier rows of a table, at its newest version."""

_TIME = "measured_at"


class Known:
    """Earlier readings and alerts of one stream.

    Args:
        contract: the stream.
        silver: all earlier silver rows.
        alerts: all earlier alert rows.
        newest: the newest event time among `silver`, None where there is none.
    """

    def __init__(self, contract: Contract, silver: LookUp, alerts: LookUp, newest: datetime | None) -> None:
        self._contract = contract
        self._look_up, self._look_up_alerts = silver, alerts
        self._columns = list(
            dict.fromkeys([*contract.keys, contract.entity, _TIME, *contract.values, *_averaged(contract)])
        )
        self._span = contract.lateness + contract.reach + FUTURE_TOLERANCE
        self._newest = newest
        self._floor = None if newest is None else newest - self._span
        self._readings = self._above_floor(silver().select(self._columns))
        self._alerts = self._above_floor(alerts().select("alert_id", _TIME))
        self._last = self._last_times(self._readings)

    @property
    def rows(self) -> int:
        """How many readings are in memory."""
        return self._readings.height

    def late(self, new: pl.DataFrame) -> pl.DataFrame:
        """Those of the new readings that are not newer than all that is known of their entity."""
        entity = self._contract.entity
        last = new[[entity]].join(self._last, on=entity, how="left", maintain_order="left")["last"]
        is_late = (new[_TIME] <= last).fill_null(False)
        return new.filter(is_late if self._floor is None else is_late | (new[_TIME] <= self._floor))

    def near(self, new: pl.DataFrame, reach: timedelta) -> pl.DataFrame:
        """Earlier readings of the new readings' entities from `reach` before each to its own time, and some more."""
        if new.is_empty():
            return self._readings.clear()
        entity = self._contract.entity
        oldest = new.select(pl.col(_TIME).min() - reach).item()
        in_memory = self._readings.filter(
            pl.col(_TIME).is_between(oldest, new[_TIME].max()),
            pl.col(entity).is_in(new[entity].unique().implode()),
        )
        if self._floor is None or oldest > self._floor:
            return in_memory
        beyond = new.filter(pl.col(_TIME) - reach <= self._floor)
        return pl.concat([self._beyond_floor(beyond, reach), in_memory])

    def alert_ids(self, alerts: pl.DataFrame) -> pl.Series:
        """Which of the alerts' ids are stored already."""
        ids = alerts.select("alert_id")
        in_memory = self._alerts.join(ids, on="alert_id", how="semi")["alert_id"]
        if self._floor is None or alerts.is_empty() or alerts[_TIME].min() > self._floor:  # type: ignore[operator]
            return in_memory
        stored = self._look_up_alerts().filter(pl.col(_TIME).is_between(alerts[_TIME].min(), alerts[_TIME].max()))
        return pl.concat(
            [in_memory, stored.select("alert_id").join(ids.lazy(), on="alert_id", how="semi").collect()["alert_id"]]
        )

    def add(self, silver: pl.DataFrame, alerts: pl.DataFrame) -> None:
        """Takes in what a micro-batch produced."""
        added = silver[self._columns]
        self._readings = pl.concat([self._readings, added])
        self._alerts = pl.concat([self._alerts, alerts[["alert_id", _TIME]]])
        self._last = (
            pl.concat([self._last, self._last_times(added)]).group_by(self._contract.entity).agg(pl.col("last").max())
        )
        newest = added[_TIME].max()
        if isinstance(newest, datetime):
            self._newest = newest if self._newest is None else max(newest, self._newest)

    def forget(self) -> None:
        """Drops readings behind the floor; call it only when the look-ups contain all that was added."""
        if self._newest is None:
            return
        self._floor = self._newest - self._span
        self._readings = self._readings.filter(pl.col(_TIME) > self._floor).rechunk()
        self._alerts = self._alerts.filter(pl.col(_TIME) > self._floor).rechunk()
        self._last = self._last.filter(pl.col("last") > self._floor)

    def _above_floor(self, rows: pl.LazyFrame) -> pl.DataFrame:
        return (rows if self._floor is None else rows.filter(pl.col(_TIME) > self._floor)).collect()

    def _last_times(self, readings: pl.DataFrame) -> pl.DataFrame:
        return readings.group_by(self._contract.entity).agg(last=pl.col(_TIME).max())

    def _beyond_floor(self, new: pl.DataFrame, reach: timedelta) -> pl.DataFrame:
        """Looks readings up, one event date at a time: a batch of very different dates must not load all between."""
        entity = self._contract.entity
        found = [self._readings.clear()]
        for day in _by_date(new):
            found.append(
                self._look_up()
                .select(self._columns)
                .filter(
                    pl.col(_TIME).is_between(day.select(pl.col(_TIME).min() - reach).item(), day[_TIME].max()),
                    pl.col(_TIME) <= self._floor,
                    pl.col(entity).is_in(day[entity].unique().to_list()),
                )
                .collect()
            )
        return pl.concat(found).unique()


def _averaged(contract: Contract) -> list[str]:
    return [window.column for window in contract.windows]


def _by_date(rows: pl.DataFrame) -> list[pl.DataFrame]:
    return rows.with_columns(_date=pl.col(_TIME).dt.date()).partition_by("_date", include_key=False)
