"""Stored alerts that the alerts hub has not taken yet: which they are, and the order in which they are sent.

The alerts table's log has four marks for each partition of the stream's hub:

```
 published     urgent_to    others_to         live          stored (the table's offset)
     │             │            │               │               │
 ────┼─────────────┼────────────┼───────────────┼───────────────┼──▶ sequence number
     │ the gap: of an outage    │   published   │  wait, since  │
     │ that is over; sent from  │   when raised │  a new outage │
     │ its end, urgent first    │               │               │
```

Without a gap, all alerts up to `published` are published and those behind it wait. The gap is closed when both
`urgent_to` and `others_to` have come down to `published`; then `published` goes on to `live`.
"""

from dataclasses import dataclass

import polars as pl

from assets.stream.log import (
    LIVE,
    OTHERS_TO,
    PUBLISHED,
    URGENT_TO,
    HubPartition,
    Offsets,
    StreamLog,
    Transactions,
    is_in,
)

CHUNK_ALERTS = 5_000
"""So many waiting alerts are sent at once, between two commits; never less than those of one event."""
_URGENT = pl.col("severity") == "urgent"


@dataclass(frozen=True)
class Chunk:
    """Some alerts that wait, in the order of their events, and the marks to set once they are sent."""

    alerts: pl.DataFrame
    marks: Transactions


@dataclass(frozen=True)
class _Span:
    """The marks of one partition; see the module."""

    published: int
    urgent_to: int
    others_to: int
    live: int
    stored: int

    @property
    def has_gap(self) -> bool:
        return max(self.urgent_to, self.others_to) > self.published

    @property
    def has_tail(self) -> bool:
        return self.stored > (self.live if self.has_gap else self.published)


class WaitingAlerts:
    """The waiting alerts of one stream. Whoever changes marks must be the only writer of the alerts table."""

    def __init__(self, log: StreamLog) -> None:
        self._log = log

    def __bool__(self) -> bool:
        """Whether any alert waits."""
        return any(span.has_gap or span.has_tail for span in self._spans().values())

    def settled(self, reached: Offsets) -> Offsets:
        """Up to where all alerts are published, of events up to the given ones."""
        spans = self._spans()
        return reached | {at: span.published for at, span in spans.items() if span.has_gap or span.has_tail}

    def passed(self, reached: Offsets, *, are_published: bool) -> Transactions:
        """The marks to set with a commit of alerts that reaches so far.

        Args:
            reached: the offsets that the commit sets.
            are_published: whether the alerts hub took all alerts of the commit.
        """
        spans = self._spans()
        if any(span.has_tail for span in spans.values()):
            # Earlier alerts wait. If these were published, they are sent once more after them: twice, but never lost.
            return {}
        if not are_published:
            # Everything before this commit is published, also where events raised no alert: a replay that lets them
            # raise one publishes it itself.
            reached = self._log.marks("silver")
        behind_gap = {at: last for at, last in reached.items() if at in spans and spans[at].has_gap}
        others = {at: last for at, last in reached.items() if at not in behind_gap}
        return self._log.reaching("alerts", behind_gap, LIVE) | self._log.reaching("alerts", others, PUBLISHED)

    def reopen(self) -> None:
        """Makes all alerts that wait the gap, so that later alerts need not wait for them."""
        opened = {at: span.stored for at, span in self._spans().items() if span.has_tail}
        marks: Transactions = {}
        for kind in (LIVE, URGENT_TO, OTHERS_TO):
            marks |= self._log.numbered(kind, opened)
        self._log.set("alerts", marks)

    def next_chunk(self) -> Chunk | None:
        """What to send next: urgent alerts first, the newest of them first. None if no alert waits in a gap."""
        for kind, severity in ((URGENT_TO, _URGENT), (OTHERS_TO, ~_URGENT)):
            for partition, span in self._spans().items():
                end = span.urgent_to if kind == URGENT_TO else span.others_to
                if end > span.published:
                    alerts = self._newest(partition, span.published, end, severity)
                    begun = alerts["sequence_number"][0] - 1 if alerts.height else span.published
                    return Chunk(alerts, self._log.numbered(kind, {partition: max(begun, span.published)}))
        return None

    def sent(self, chunk: Chunk) -> None:
        """Notes that a chunk was sent. After the last one of a gap, everything up to `live` counts as published."""
        self._log.set("alerts", chunk.marks)
        closed = {at: span.live for at, span in self._spans().items() if not span.has_gap}
        self._log.set("alerts", self._log.reaching("alerts", closed, PUBLISHED))

    def _newest(self, partition: HubPartition, after: int, to: int, severity: pl.Expr) -> pl.DataFrame:
        """The newest alerts of whole events: as many as are sent at once, or those of one event if they are more."""
        table, number = self._log.tables["alerts"], pl.col("sequence_number")
        waiting = table.scan().filter(is_in(partition, after=after, to=to), severity)
        # One more than is sent tells whether the oldest event is complete.
        newest = waiting.select(number).top_k(CHUNK_ALERTS + 1, by=number).collect()["sequence_number"].sort()
        first = newest[0] if len(newest) else to
        if len(newest) > CHUNK_ALERTS:
            first = min(first + 1, newest[-1])
        return waiting.filter(number >= first).sort(number, "event_index").collect()

    def _spans(self) -> dict[HubPartition, _Span]:
        published, urgent_to, others_to, live = (
            self._log.marks("alerts", kind) for kind in (PUBLISHED, URGENT_TO, OTHERS_TO, LIVE)
        )
        return {
            at: _Span(published.get(at, -1), urgent_to.get(at, -1), others_to.get(at, -1), live.get(at, -1), stored)
            for at, stored in self._log.marks("alerts").items()
        }
