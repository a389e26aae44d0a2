"""What stands in a stream's tables, as plain rows, and whether it is what the oracle says."""

from collections import Counter
from collections.abc import Set
from typing import Any

import polars as pl

from assets.glucose.assets import CONTRACT
from assets.stream.contract import Contract
from assets.stream.store import StreamStore
from resources.event_source import EventSource
from resources.lake import Lake
from tests.stream.oracle import GLUCOSE, Domain, Event, Expected, expected

Rows = list[tuple[Any, ...]]


def rows(lake: Lake, layer: str, contract: Contract = CONTRACT) -> pl.DataFrame:
    """A table's rows, sorted by position."""
    table = lake.table(next(table for table in contract.tables if table.layer == layer))
    order = [
        name
        for name in ("hub_epoch", "partition", "sequence_number", "event_index", "rule")
        if name in table.table.schema
    ]
    return table.scan().collect().sort(order)


def row_count(lake: Lake, layer: str) -> int:
    """How many rows a table of the glucose stream has, by its log: to ask again and again costs little."""
    return lake.table(next(table for table in CONTRACT.tables if table.layer == layer)).count()


def everything(lake: Lake, contract: Contract = CONTRACT) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables that follow from bronze; alarms depend on when something came, too."""
    layers = [output.table.layer for output in contract.outputs if output.is_made_anew]
    return {layer: rows(lake, layer, contract).to_dicts() for layer in layers}


def bronze_events(lake: Lake, contract: Contract = CONTRACT) -> list[Event]:
    return [
        Event(
            row["partition"],
            row["sequence_number"],
            row["received_at"],
            row["pulled_at"],
            row["body_bytes"] if row["body"] is None else row["body"].encode(),
        )
        for row in rows(lake, "bronze", contract).iter_rows(named=True)
    ]


def assert_exact(
    lake: Lake,
    source: EventSource,
    contract: Contract = CONTRACT,
    domain: Domain = GLUCOSE,
    held: Set[tuple[int, int]] | None = None,
) -> Expected:
    """Bronze has what the hub holds, each event once; the other tables are what the oracle makes of bronze.

    Args:
        lake, contract, domain: whose tables.
        source: the hub.
        held: partition and number of each event that the hub holds, if its numbers have gaps.
    """
    events = bronze_events(lake, contract)
    if held is None:
        tails = source.state().tails.items()
        held = {(number, each) for number, tail in tails for each in range(tail.first, tail.last + 1)}
    found = Counter((event.partition, event.sequence_number) for event in events)
    doubled, missing = {position for position, count in found.items() if count != 1}, held - found.keys()
    assert not doubled, f"doubled in bronze: {doubled}"
    assert not missing, f"missing in bronze: {missing}"
    assert_follows_bronze(lake, contract, domain)
    return expected(events, domain)


def assert_follows_bronze(lake: Lake, contract: Contract = CONTRACT, domain: Domain = GLUCOSE) -> None:
    """Silver, quarantine, alerts and the counts of duplicates are what the oracle makes of bronze."""
    truth = expected(bronze_events(lake, contract), domain)
    bronze = rows(lake, "bronze", contract)
    counted = int(bronze["reading_count"].sum())
    assert counted == truth.readings, f"bronze counts {counted} readings, right are {truth.readings}"
    assert (bronze["ingest_date"] == bronze["pulled_at"].dt.date()).all(), "ingest dates are not those of the pulls"
    for layer in ("quarantine", "silver", "alerts"):
        frame = rows(lake, layer, contract)
        stored, right = Counter(frame.rows()), Counter(pl.DataFrame(getattr(truth, layer), schema=frame.schema).rows())
        wrong = [f"{layer}: stored {row}" for row in stored - right] + [
            f"{layer}: right {row}" for row in right - stored
        ]
        assert not wrong, "\n".join(wrong[:10])
    store = StreamStore(contract, lake)
    for day in bronze["ingest_date"].unique():
        dropped, right_count = store.duplicates(day), truth.duplicates[day]
        assert dropped == right_count, f"{dropped} duplicates are counted on {day}, right are {right_count}"
    assert len(truth.silver) + len(truth.quarantine) + sum(truth.duplicates.values()) == truth.readings, "the oracle"
