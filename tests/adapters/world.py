"""A lake with the identity table of the samples, and what streams make of events in it."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from assets.adapters.bodies import outcomes_of
from assets.adapters.outcomes import DEVICES, GLUCOSE, VITALS, Outcome, Plain, Reading, Skip
from assets.devices.assets import CONTRACT as DEVICE_CONTRACT
from assets.glucose.assets import CONTRACT as GLUCOSE_CONTRACT
from assets.reference.files import rows_of
from assets.reference.tables import IDENTITY
from assets.reference_store import put
from assets.stream.cleaning import POSITIONS
from assets.stream.contract import Contract
from assets.stream.enrichment import References
from assets.stream.known import Known
from assets.stream.process import Outcome as Rows
from assets.stream.process import Processor
from assets.vitals.assets import CONTRACT as VITALS_CONTRACT
from resources.lake import Lake
from tests.adapters.samples_as_events import SAMPLES, Sent

RECEIVED = datetime(2026, 6, 15, 12, tzinfo=UTC)
LOADED = datetime(2026, 6, 1, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
CONTRACTS = {GLUCOSE: GLUCOSE_CONTRACT, VITALS: VITALS_CONTRACT, DEVICES: DEVICE_CONTRACT}
FIELDS = {
    "heart_rate_bpm": "heart_rate",
    "systolic_mmhg": "systolic_bp",
    "diastolic_mmhg": "diastolic_bp",
    "spo2_percent": "spo2",
    "temperature_c": "temperature",
    "respiratory_rate_per_min": "respiratory_rate",
    "is_sport_mode": "sport_mode",
}


def identity_rows() -> pl.DataFrame:
    return rows_of(IDENTITY, (SAMPLES / "identity.csv").read_text(), date(2026, 6, 1))


def load_identity(lake: Lake, rows: pl.DataFrame | None = None, loaded_at: datetime = LOADED) -> None:
    given = identity_rows() if rows is None else rows
    put(lake, IDENTITY, given, valid_from=LONG_AGO, clock=lambda: loaded_at)


def lake_in(folder: Path) -> Lake:
    lake = Lake(str(folder))
    load_identity(lake)
    return lake


def positions(events: Sequence[Sent], received_at: datetime = RECEIVED) -> pl.DataFrame:
    rows = [
        (0, number, received_at, received_at, 0, None, _json(event.properties), _json(event.annotations))
        for number, event in enumerate(events)
    ]
    return pl.DataFrame(rows, schema=POSITIONS, orient="row")


def _json(members: Mapping[str, Any]) -> str | None:
    return json.dumps(dict(members), sort_keys=True, separators=(",", ":")) if members else None


def processed(contract: Contract, lake: Lake, events: Sequence[Sent]) -> Rows:
    """What a stream makes of events that come into its hub."""
    references = References(contract, lake)
    references.refresh()
    processor = Processor(contract, Known.nothing(contract), references)
    return processor.process(positions(events), [event.body for event in events])


def becomes(lake: Lake, events: Sequence[Sent]) -> list[str]:
    """What each record becomes in the stream that it belongs to, in the notation of EXPECTED.md."""
    rows = {stream: processed(contract, lake, events) for stream, contract in CONTRACTS.items()}
    for each in rows.values():
        skipped = int(each.skipped["skipped"].sum())
        counted = each.silver.height + each.quarantine.height + int(each.duplicates["duplicates"].sum()) + skipped
        assert counted == each.bronze["reading_count"].sum()
    found = []
    for number, event in enumerate(events):
        outcomes = outcomes_of(event.body, _json(event.properties), _json(event.annotations), lambda *_: "UTC")
        count = int(rows[GLUCOSE].bronze["reading_count"][number])
        for index in range(count):
            found.append(_outcome(outcomes[index] if outcomes else None, rows, number, index))
    return found


def _outcome(outcome: Outcome | None, rows: dict[str, Rows], number: int, index: int) -> str:
    if isinstance(outcome, Skip):
        return f"S {outcome.kind}"
    stream = getattr(outcome, "stream", None) or GLUCOSE
    if isinstance(outcome, Plain | None):
        stream = GLUCOSE
    here = (pl.col("sequence_number") == number) & (pl.col("event_index") == index)
    if (refused := rows[stream].quarantine.filter(here)).height:
        return f"Q {refused['reason'][0]}"
    if (row := rows[stream].silver.filter(here)).height == 0:
        return "DUP"
    assert not isinstance(outcome, Reading) or row["record_system"][0]
    return _row(stream, row.row(0, named=True))


def _row(stream: str, row: dict[str, Any]) -> str:
    at = row["measured_at"].isoformat().replace("+00:00", "Z")
    if stream == GLUCOSE:
        flag = f" {row['range_flag']}" if row["range_flag"] else ""
        return f"G {row['patient_id']} {row['device_id']} {at} {row['glucose_mg_dl']}{flag}"
    if stream == DEVICES:
        return f"D {row['device_id']} {at} {row['battery_level']:g}"
    values = " ".join(f"{name} {_shown(row[column])}" for column, name in FIELDS.items() if row[column] is not None)
    return f"V {row['patient_id']} {at} {values}"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
