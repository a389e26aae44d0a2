"""How alerts leave: at once and in order for each entity, or from their table when the alerts hub was away.

An outage of the alerts hub stops no data: alerts are stored all the same, and the alerts table's log says up to where
they are published.
"""

import time

import polars as pl
import polars_hash as plh

from assets.stream.contract import Contract
from assets.stream.store import StreamStore
from resources.event_source import HubUnavailableError, Publisher

RETRY_EVERY_S = 10.0
LANES = 64
"""Entities share so many lanes; the alerts of a lane stay in order, in one partition of the alerts hub."""
PACKED_ABOVE, PACK = 1000, 100
"""More alerts at once than a live stream raises are a backlog's, which nobody waits for one by one."""
PART = 16_000
"""Alerts encoded at a time: their texts fit into the processor's cache."""


def publish_alerts(contract: Contract, publisher: Publisher, alerts: pl.DataFrame) -> None:
    """Sends alerts in order for each entity: one JSON object an event, or JSON arrays where there are very many."""
    if alerts.is_empty():
        return
    is_packed = alerts.height > PACKED_ABOVE
    parts = (_events(contract, part) for part in alerts.iter_slices(PART))
    events = pl.concat([_packed(part) if is_packed else part for part in parts])
    publisher.publish(events["body"].cast(pl.Binary).to_list(), events["lane"].cast(pl.String).to_list())


def _events(contract: Contract, alerts: pl.DataFrame) -> pl.DataFrame:
    body = pl.struct(pl.all()).struct.json_encode()
    lane = plh.concat_str(contract.entity).nchash.crc32c() % LANES
    return contract.alert_payload(alerts).select(body=body).hstack(alerts.select(lane=lane))


def _packed(events: pl.DataFrame) -> pl.DataFrame:
    packs = events.with_columns(pack=pl.int_range(pl.len()).over("lane") // PACK).group_by(
        "lane", "pack", maintain_order=True
    )
    return packs.agg(pl.concat_str(pl.lit("["), pl.col("body").str.join(","), pl.lit("]")).alias("body"))


class AlertOutlet:
    """Publishes one session's alerts."""

    def __init__(self, store: StreamStore, publisher: Publisher) -> None:
        self._store, self._publisher = store, publisher
        self._tried_at = 0.0
        self.failure: HubUnavailableError | None = None
        """Why alerts wait in the table; None while the hub takes them."""

    @property
    def is_retry_due(self) -> bool:
        """Whether alerts wait in the table and the last attempt was some seconds ago."""
        return self.failure is not None and time.monotonic() - self._tried_at >= RETRY_EVERY_S

    def publish(self, alerts: pl.DataFrame) -> bool:
        """Sends alerts; while the hub is away they wait in the table for `retry`.

        Returns:
            Whether the hub took them.
        """
        return self.failure is None and self._attempt(alerts)

    def retry(self) -> None:
        """Sends what is stored and was not taken. All alerts must be stored, and nothing may be published meanwhile."""
        for partition, alerts in self._store.unpublished():
            if not self._attempt(alerts):
                return
            self._store.mark_published({partition: alerts["sequence_number"][-1]})
        self._store.mark_published()
        self.failure = None

    def _attempt(self, alerts: pl.DataFrame) -> bool:
        try:
            publish_alerts(self._store.contract, self._publisher, alerts)
        except HubUnavailableError as error:
            self.failure, self._tried_at = error, time.monotonic()
            return False
        return True
