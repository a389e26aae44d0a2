"""Publishes alerts: at once and in order for each entity, or later from their table if the alerts hub was away.

An outage of the alerts hub stops no data. Alerts are stored all the same, and `waiting` knows which were not published.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

import msgspec
import polars as pl
import polars_hash as plh

from assets.stream.contract import Contract, Utc
from assets.stream.isolation import isolated
from assets.stream.store import Delivery, StreamStore
from resources.event_source import HubUnavailableError, Publisher

RETRY_EVERY_S = 10.0
LATE_AFTER = timedelta(hours=2)
"""How old a reading may be when its alert is published. The alert of an older reading says that it is late."""
PARTITION_KEYS = 64
"""How many partition keys entities share; the alerts of a key stay in order, in one partition of the alerts hub."""
PACKED_ABOVE, PACK = 1000, 100
"""Above so many alerts at once, which only a backlog raises, they are sent in arrays of up to so many."""
PART = 16_000
"""Alerts encoded at a time: their texts fit into the processor's cache."""

_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Encoded(NamedTuple):
    """Events to publish, as `body` and `key`, and how many alerts are set aside, since they cannot be made into one."""

    events: pl.DataFrame
    set_aside: int


def publish_alerts(
    contract: Contract, publisher: Publisher, alerts: pl.DataFrame, now: datetime, late_after: timedelta = LATE_AFTER
) -> int:
    """Sends alerts in order for each entity: one JSON object an event, or JSON arrays where there are very many.

    To the contract's own fields each alert adds when its reading was received, how old the reading is (`age_s`), and
    whether it is late or a revision.

    Returns:
        How many alerts no hub will ever take: those that cannot be encoded, or are larger than the hub accepts.

    Raises:
        HubUnavailableError: the hub did not take all of them.
    """
    if alerts.is_empty():
        return 0
    encode = partial(encoded, contract, now, late_after)
    is_packed = alerts.height > PACKED_ABOVE
    parts = [
        part for some in alerts.iter_slices(PART) for part in isolated(some, encode, lambda row, _: _set_aside(row))
    ]
    # All in one call: each call waits until the hub has the last of its events.
    events = pl.concat(packed(part.events) if is_packed else part.events for part in parts)
    return sum(part.set_aside for part in parts) + send(publisher, events, is_packed=is_packed)


def send(publisher: Publisher, events: pl.DataFrame, *, is_packed: bool) -> int:
    """Publishes events, `body` and `key`, and those of an array that is too large for the hub one by one.

    Returns:
        How many alerts are larger than the hub accepts.

    Raises:
        HubUnavailableError: the hub did not take all of them.
    """
    bodies, keys = events["body"].cast(pl.Binary).to_list(), events["key"].to_list()
    too_large = publisher.publish(bodies, keys)
    if too_large and is_packed:
        single = [(bytes(body), keys[at]) for at in too_large for body in _split(bodies[at])]
        too_large = publisher.publish([body for body, _ in single], [key for _, key in single])
    return len(too_large)


def encoded(contract: Contract, now: datetime, late_after: timedelta, alerts: pl.DataFrame) -> Encoded:
    """Alerts as JSON objects, and the key by which those of an entity stay in order."""
    age = pl.lit(now, Utc) - pl.col("measured_at")
    payload = contract.alert_payload(alerts)
    told = alerts.select(
        "received_at",
        age_s=(age.dt.total_milliseconds() / 1000),
        is_late=age > late_after,
        is_revision=pl.col("is_revision").fill_null(False),
    )
    told = told[[name for name in told.columns if name not in payload.columns]]
    key = plh.concat_str(contract.entity).nchash.crc32c() % PARTITION_KEYS
    body = payload.hstack(told).select(body=pl.struct(pl.all()).struct.json_encode())
    return Encoded(body.hstack(alerts.select(key=key.cast(pl.String))), 0)


def _set_aside(alert: pl.DataFrame) -> Encoded:
    return Encoded(pl.DataFrame(schema={"body": pl.String, "key": pl.String}), alert.height)


def packed(events: pl.DataFrame) -> pl.DataFrame:
    """Events of a JSON object each, `body` and `key`, as fewer events of arrays; those of a key stay in order."""
    packs = events.with_columns(pack=pl.int_range(pl.len()).over("key") // PACK).group_by(
        "key", "pack", maintain_order=True
    )
    body = pl.concat_str(pl.lit("["), pl.col("body").str.join(","), pl.lit("]"))
    return packs.agg(body.alias("body")).select("body", "key")


class AlertOutlet:
    """Publishes one session's alerts.

    Args:
        store: the stream's tables.
        publisher: the alerts hub.
        clock: the time of day, UTC.
        late_after: see `LATE_AFTER`.
    """

    def __init__(
        self,
        store: StreamStore,
        publisher: Publisher,
        clock: Callable[[], datetime],
        late_after: timedelta = LATE_AFTER,
    ) -> None:
        self._store, self._publisher, self._clock, self._late_after = store, publisher, clock, late_after
        self._tried_at = 0.0
        self.failure: HubUnavailableError | None = None
        """Why alerts wait in the table; None while the hub takes them."""

    @property
    def is_sending_due(self) -> bool:
        """Whether stored alerts should be sent now: some wait, and no attempt failed within `RETRY_EVERY_S`."""
        if self.failure is not None:
            return time.monotonic() - self._tried_at >= RETRY_EVERY_S
        return bool(self._store.waiting)

    def publish(self, alerts: pl.DataFrame) -> Delivery:
        """Sends alerts; while the hub is away they wait in the table for `send_waiting`."""
        return Delivery(is_published=False) if self.failure is not None else self._attempt(alerts)

    def try_again(self) -> None:
        """Lets alerts go out again; all that were handed to `publish` while the hub was away must be stored."""
        self.failure = None

    def send_waiting(self) -> None:
        """Sends some of the stored alerts that wait, the urgent ones first."""
        waiting = self._store.waiting
        waiting.reopen()
        chunk = waiting.next_chunk()
        if chunk is not None and self._attempt(chunk.alerts).is_published:
            waiting.sent(chunk)

    def _attempt(self, alerts: pl.DataFrame) -> Delivery:
        try:
            set_aside = publish_alerts(self._store.contract, self._publisher, alerts, self._clock(), self._late_after)
        except HubUnavailableError as error:
            return self._failed(error)
        except Exception as error:
            # Data must go on whatever is wrong with the alerts hub or its client.
            return self._failed(HubUnavailableError(f"Alerts could not be published ({type(error).__name__})."))
        return Delivery(is_published=True, set_aside=set_aside)

    def _failed(self, failure: HubUnavailableError) -> Delivery:
        self.failure, self._tried_at = failure, time.monotonic()
        return Delivery(is_published=False)
