"""A lake in which synthetic patients have lived for some days: the stream engine, with arrivals that are made up.

Readings arrive a second after they were measured, so that alarms are raised as they would have been. Hubs are left out.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import polars as pl

from assets.reference.tables import REFERENCES
from assets.reference_store import put
from assets.stream.cleaning import POSITIONS
from assets.stream.enrichment import References
from assets.stream.process import Outcome, Processor
from assets.stream.store import StreamStore
from generator.events import Event
from generator.reference import reference_rows
from generator.streams import events
from orchestration.system import STREAMS, Stream
from orchestration.system import stream as stream_of
from orchestration.work import refresh_gold
from resources.lake import Lake

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
TOGETHER = timedelta(hours=1)
"""Events of so long a time are one micro-batch."""
DELAY = timedelta(seconds=1)
COMMIT_EVERY = 24


def live(
    lake: Lake,
    until: datetime,
    *,
    patients: int = 40,
    days: float = 14,
    vitals: timedelta = timedelta(hours=24),
    reports: int = 2_000,
    glucose_alone: bool = False,
    prepared: Callable[[], object] = lambda: None,
) -> None:
    """Fills a lake: glucose each five minutes, vital signs each minute, reports of devices each hour, safety reports.

    Args:
        lake: an empty one.
        until: when the last readings are measured.
        patients: how many there are, with what reference data say of them.
        days: of glucose and devices.
        vitals: for how long there are vital signs.
        reports: how many safety reports there are.
        glucose_alone: whether there is nothing else, and no gold.
        prepared: called once patients are known, before anything is measured.
    """
    for reference in REFERENCES:
        if rows := reference_rows(patients).get(reference.short):
            frame = pl.DataFrame(
                rows, schema={name: reference.table.schema[name] for name in reference.cells}, strict=False
            )
            put(lake, reference, frame, valid_from=LONG_AGO, clock=lambda: LONG_AGO, changed_by="generator")
    prepared()
    span = timedelta(days=days)
    _stream(lake, "glucose", until, span, patients / 300, patients=patients, alarms=True)
    if glucose_alone:
        return
    _stream(lake, "devices", until, span, patients / 3600, patients=patients)
    if vitals:
        _stream(lake, "vitals", until, vitals, patients / 60, patients=patients)
    if reports:
        _stream(lake, "adverse_events", until, span, reports / span.total_seconds(), patients=50)
    for each in STREAMS:
        refresh_gold(each, lake)


def _stream(lake: Lake, short: str, until: datetime, span: timedelta, rate: float, **options: Any) -> None:
    stream, since = stream_of(short), until - span
    sent = events(short, start=since, rate=rate, seconds=span.total_seconds(), seed=7, faults=0.002, **options)
    engine, outcomes = _Engine(lake, stream), []
    for outcome in engine.outcomes(sent, since):
        outcomes.append(outcome)
        if len(outcomes) == COMMIT_EVERY:
            engine.store.commit(outcomes)
            outcomes = []
    if outcomes:
        engine.store.commit(outcomes)
    engine.store.maintain(until.date())


class _Engine:
    def __init__(self, lake: Lake, stream: Stream) -> None:
        self.store = StreamStore(stream.contract, lake)
        self.store.open([0])
        references = References(stream.contract, lake)
        references.refresh()
        known = self.store.remembered(references.reach).known
        self._processor = Processor(stream.contract, known, references, self.store.open_alarms(references))
        self._number = 0

    def outcomes(self, sent: Iterator[Event], since: datetime) -> Iterator[Outcome]:
        """What becomes of events, micro-batch by micro-batch."""
        begin = since.timestamp()
        for _, some in groupby(sent, lambda each: int(((each.due or 0.0) - begin) // TOGETHER.total_seconds())):
            yield self._outcome([*some])

    def _outcome(self, some: Sequence[Event]) -> Outcome:
        due = [datetime.fromtimestamp(each.due or 0.0, UTC) + DELAY for each in some]
        numbers = range(self._number, self._number + len(some))
        self._number += len(some)
        columns = {
            "partition": 0,
            "sequence_number": numbers,
            "received_at": due,
            "pulled_at": due[-1],
            "hub_epoch": 0,
            "key": [each.key for each in some],
        }
        positions = pl.DataFrame(columns).select(
            (pl.col(name) if name in columns else pl.lit(None)).cast(dtype).alias(name)
            for name, dtype in POSITIONS.items()
        )
        outcome = self._processor.process(positions, [each.body for each in some])
        self._processor.known.mark_stored()
        return outcome
