"""A container of Azure Cosmos DB as a source of batches.

Two ways, each with its own cursor. By the time of change: items are asked for from the newest ``_ts`` on, with an
overlap, and those that were read are told by ``id`` and ``_etag``; versions between two pulls and deletions are not
seen. By the change feed: the service's continuation is the cursor.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import polars as pl
from azure.core.exceptions import AzureError
from azure.cosmos import ContainerProxy, CosmosClient
from pydantic import SecretStr

from resources.batch_source import PIECE_ROWS, BatchSourceError, Pulled, Watermark, digest, frame_of, one_line

CONNECT_S, ANSWER_S, RETRIES, LONGEST_RETRY_S = 10, 60, 3, 30
OVERLAP_S = 600
"""Of ``_ts``, whole seconds of the clock of the partition that wrote the item."""

_OF_THE_SERVICE = ("_rid", "_self", "_attachments", "_lsn")


class _Continuation(msgspec.Struct):
    continuation: str


class CosmosSource:
    """A container.

    Args:
        name: of the source, for messages.
        url: of the account.
        setting: the environment variable that holds the URL, for messages.
        database, container: their names.
        credential: the account's key, or what makes an Azure identity.
        by_feed: whether the change feed is read.
        is_verified: whether the account's certificate is looked at; not by an emulator's clients.
    """

    def __init__(
        self,
        name: str,
        url: str,
        setting: str,
        database: str,
        container: str,
        credential: SecretStr | Callable[[], Any],
        *,
        by_feed: bool = False,
        is_verified: bool = True,
        piece_rows: int = PIECE_ROWS,
    ) -> None:
        self._name, self._url, self._setting = name, url, setting
        self._database, self._container, self._credential = database, container, credential
        self._by_feed, self._is_verified, self._piece_rows = by_feed, is_verified, piece_rows

    def pull(self, since: bytes | None) -> Iterator[Pulled]:
        """See `BatchSource.pull`."""
        try:
            yield from self._feed(since) if self._by_feed else self._by_time(since)
        except (AzureError, OSError, ValueError) as error:
            raise BatchSourceError(
                self._name,
                f"reading the container {self._database}/{self._container} of {self._url}",
                one_line(error),
                f"Check {self._setting}, COSMOS_KEY or the Azure identity, and the network.",
            ) from None

    def _open(self) -> ContainerProxy:
        credential = self._credential
        client = CosmosClient(
            self._url,
            credential.get_secret_value() if isinstance(credential, SecretStr) else credential(),
            connection_timeout=CONNECT_S,
            read_timeout=ANSWER_S,
            retry_total=RETRIES,
            retry_backoff_max=LONGEST_RETRY_S,
            connection_verify=self._is_verified,
        )
        return client.get_database_client(self._database).get_container_client(self._container)

    def _by_time(self, since: bytes | None) -> Iterator[Pulled]:
        mark = Watermark.of(self._name, since)
        known = frozenset(mark.seen)
        items = self._open().query_items(
            "SELECT * FROM c WHERE c._ts >= @start",
            parameters=[{"name": "@start", "value": max(0, (mark.at or 0) - OVERLAP_S)}],
            enable_cross_partition_query=True,
            max_item_count=self._piece_rows,
        )
        # The order over several partitions is not by time: what was read counts once all pages are there.
        read, new = list[tuple[str, Any]](), list[Any]()
        for page in items.by_page():
            found = list(page)
            keyed = [(digest([item["id"], item["_etag"]]), item["_ts"], item) for item in found]
            read += [(key, at) for key, at, _ in keyed]
            mark.seen.update((key, at) for key, at, _ in keyed)
            new += [_own(item) for key, _, item in keyed if key not in known]
            # A page may have few items, and each piece costs a commit.
            if len(new) >= self._piece_rows:
                yield Pulled(frame_of(new), mark.cursor())
                new = []
        mark.read(read)
        mark.seen = {key: at for key, at in mark.seen.items() if at is None or at >= (mark.at or 0) - OVERLAP_S}
        if new or (mark.cursor() != since and read):
            yield Pulled(frame_of(new) if new else pl.DataFrame(), mark.cursor())

    def _feed(self, since: bytes | None) -> Iterator[Pulled]:
        headers: dict[str, Any] = {}
        start: dict[str, Any] = {"start_time": "Beginning"}
        if since is not None:
            start = {"continuation": msgspec.json.decode(since, type=_Continuation).continuation}
        pages = self._open().query_items_change_feed(
            **start,
            max_item_count=self._piece_rows,
            response_hook=lambda found, _: headers.update({name.lower(): value for name, value in found.items()}),
        )
        for page in pages.by_page():
            rows = [_own(item) for item in page]
            if rows and (continuation := headers.get("etag") or headers.get("x-ms-continuation")):
                yield Pulled(frame_of(rows), msgspec.json.encode(_Continuation(str(continuation))))


def _own(item: dict[str, Any]) -> dict[str, Any]:
    """An item without what the service adds for itself."""
    return {name: value for name, value in item.items() if name not in _OF_THE_SERVICE}
