"""Micro-batches without hub and lake: what goes into a processor and what comes out, for property tests."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import polars as pl

from assets.glucose.assets import CONTRACT
from assets.stream.cleaning import POSITIONS
from assets.stream.contract import Contract
from assets.stream.known import Known
from assets.stream.process import Outcome, Processor
from tests.stream.oracle import GLUCOSE, Domain, Event, expected
from tests.stream.scenarios import NOON

LAYERS = ("bronze", "silver", "quarantine", "alerts")


def new_processor(contract: Contract = CONTRACT) -> Processor:
    """A processor that knows of nothing earlier."""
    return Processor(contract, Known.nothing(contract))


def micro_batch(number: int, bodies: Sequence[bytes], first: int = 0) -> list[Event]:
    """Events of one partition, pulled together; each micro-batch a second after the one before it."""
    at = NOON + timedelta(seconds=number)
    return [Event(0, first + offset, at, at, body) for offset, body in enumerate(bodies)]


def micro_batches(*batches: Sequence[bytes]) -> list[list[Event]]:
    found, first = [], 0
    for number, bodies in enumerate(batches):
        found.append(micro_batch(number, bodies, first))
        first += len(bodies)
    return found


def positions(events: Iterable[Event]) -> pl.DataFrame:
    rows = [(*event[:4], 0, None, None, None) for event in events]
    return pl.DataFrame(rows, schema=POSITIONS, orient="row")


def process(batches: Iterable[Sequence[Event]], contract: Contract = CONTRACT) -> Outcome:
    """The rows of all layers after the given calls of a processor."""
    processor = new_processor(contract)
    outcomes = [processor.process(positions(events), [event.body for event in events]) for events in batches]
    return Outcome(
        {role: pl.concat([outcome.rows[role] for outcome in outcomes]) for role in outcomes[0].rows},
        duplicates=pl.concat([outcome.duplicates for outcome in outcomes]).group_by("ingest_date").sum(),
        unknown_fields=sum((outcome.unknown_fields for outcome in outcomes), Counter()),
    )


def process_bodies(*bodies: bytes, contract: Contract = CONTRACT) -> Outcome:
    return process([micro_batch(0, bodies)], contract)


def differences(outcome: Outcome, events: Iterable[Event], domain: Domain = GLUCOSE) -> list[str]:
    """How the rows differ from the oracle's; empty where they are the same."""
    events = list(events)
    truth = expected(events, domain)
    found = [] if outcome.bronze["reading_count"].sum() == truth.readings else ["reading_count"]
    if int(outcome.duplicates["duplicates"].sum()) != sum(truth.duplicates.values()):
        found.append("duplicates")
    for layer in ("silver", "quarantine", "alerts"):
        frame: pl.DataFrame = getattr(outcome, layer)
        stored, right = Counter(frame.rows()), Counter(pl.DataFrame(getattr(truth, layer), schema=frame.schema).rows())
        found += [f"{layer}: found {row}" for row in stored - right] + [
            f"{layer}: right {row}" for row in right - stored
        ]
    return found


def flat(batches: Iterable[Sequence[Event]]) -> list[Event]:
    """The events of several micro-batches as those of one call."""
    return [event for events in batches for event in events]


def as_rows(outcome: Outcome) -> dict[str, Counter[tuple[object, ...]]]:
    return {layer: Counter(getattr(outcome, layer).rows()) for layer in LAYERS}


def instant_of(outcome: Outcome) -> list[datetime]:
    return outcome.silver["measured_at"].to_list()
