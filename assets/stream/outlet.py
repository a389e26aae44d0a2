"""How alerts leave: at once and in order for each entity, or from their table when the alerts hub was away.

An outage of the alerts hub stops no data: alerts are stored all the same, and the alerts table's log says up to where
they are published.
"""

import time

import polars as pl

from assets.stream.contract import Contract
from assets.stream.store import StreamStore
from resources.event_source import HubUnavailableError, Publisher

RETRY_EVERY_S = 10.0


def publish_alerts(contract: Contract, publisher: Publisher, alerts: pl.DataFrame) -> None:
    """Sends alerts as one JSON object each, in order for each entity."""
    if alerts.is_empty():
        return
    payload = contract.alert_payload(alerts)
    instants = [name for name, dtype in payload.schema.items() if isinstance(dtype, pl.Datetime)]
    texts = payload.with_columns(pl.col(instants).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"))
    bodies = texts.select(pl.struct(pl.all()).struct.json_encode().cast(pl.Binary)).to_series().to_list()
    publisher.publish(bodies, alerts[contract.entity].cast(pl.String).to_list())


class AlertOutlet:
    """Publishes one session's alerts."""

    def __init__(self, store: StreamStore, publisher: Publisher) -> None:
        self._store, self._publisher = store, publisher
        self._failure: HubUnavailableError | None = None
        self._tried_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether all alerts so far were taken by the hub."""
        return self._failure is None

    def publish(self, alerts: pl.DataFrame) -> None:
        """Sends alerts; while the hub is away they wait in the table for `retry`."""
        if not self.is_open:
            return
        try:
            publish_alerts(self._store.contract, self._publisher, alerts)
        except HubUnavailableError as error:
            self._withhold(error)

    def retry(self, *, at_once: bool = False) -> None:
        """Sends what is stored and was not taken, some seconds after the last attempt."""
        if not at_once and (self.is_open or time.monotonic() - self._tried_at < RETRY_EVERY_S):
            return
        try:
            for alerts in self._store.unpublished():
                publish_alerts(self._store.contract, self._publisher, alerts)
        except HubUnavailableError as error:
            self._withhold(error)
        else:
            self._store.mark_published()
            self._failure = None

    def finish(self) -> None:
        """A last attempt.

        Raises:
            HubUnavailableError: alerts are stored that the hub did not take.
        """
        if not self.is_open:
            self.retry(at_once=True)
        if self._failure is not None:
            raise HubUnavailableError(
                f"{self._failure} All data and alerts are stored; the next session publishes the alerts that wait."
            ) from self._failure

    def _withhold(self, error: HubUnavailableError) -> None:
        self._failure = error
        self._tried_at = time.monotonic()
