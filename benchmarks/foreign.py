"""What bodies of other systems cost beside the stream's own: processor time, by two measures.

The first is of the processing step alone, from body to rows and alerts. The second is what an operator pays: a whole
session in a process of its own, from events in a hub to committed tables.

An own body of one reading is what all others are compared with, in a micro-batch of as many readings. A foreign body of
one reading is compared as a body, one of ten or a hundred by what each of its readings costs.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any, NamedTuple

import polars as pl

from assets.adapters.files import Part
from assets.adapters.formats import declared
from assets.glucose.assets import CONTRACT
from assets.reference.tables import IDENTITY
from assets.reference_store import put
from assets.stream.cleaning import POSITIONS
from assets.stream.enrichment import References
from assets.stream.known import Known
from assets.stream.process import Processor
from benchmarks.report import Figures, say, show
from benchmarks.workers import measure
from resources.event_hubs import EventHubsNamespace
from resources.lake import Lake
from tests.emulator.hub import RunningHub

ROUNDS = 5
MICRO_BATCH, BACKLOG = 2_000, 20_000
"""Readings at once: what a session takes while it keeps up, and what it takes of a backlog, where own bodies of regular
form are read without a Python object."""
SESSION_EVENTS, QUICK_SESSION_EVENTS = 40_000, 4_000
SESSION_ROUNDS = 3
START_ALONE = "a session of one event"
WANTED = 3
"""How many times what an own body costs a foreign one may cost."""
PATIENT, DEVICE = 7, 1007
START = datetime(2026, 6, 1, tzinfo=UTC)
BASE = "https://fhir.example.org/r4/"
IDENTITY_TYPES = (pl.String, pl.String, pl.String, pl.Int64, pl.Int64, pl.String)
IDENTITIES = [
    *[(system, "device", "sensor-1", DEVICE, PATIENT, None) for system in ("azure-iot", "mqtt")],
    *[
        (system, "patient", "site", PATIENT, None, "Europe/Berlin")
        for system in ("nightscout", "dexcom", "tidepool", "hae", "abbott", "medtronic", "apple")
    ],
    *[
        (system, "device", "sensor-1", DEVICE, None, None)
        for system in ("nightscout", "dexcom", "tidepool", "hae", "abbott", "medtronic", "apple")
    ],
    ("dexcom", "device", "site", DEVICE, None, None),
    ("fhir", "patient", f"{BASE}Patient/1", PATIENT, None, None),
    ("fhir", "device", f"{BASE}Device/1", DEVICE, None, None),
]


class Kind(NamedTuple):
    """A kind of bodies.

    Attributes:
        size: the readings of a body.
        body: a body of the readings of these numbers.
        said: the properties of such a body.
    """

    size: int
    body: Callable[[Sequence[int]], Any]
    said: Callable[[int], Mapping[str, str]] = lambda _: {}


def run(*, quick: bool = False, rounds: int = ROUNDS) -> Figures:
    """The best of some rounds of each kind of body, over the same readings."""
    counts, rounds = ([MICRO_BATCH], 2) if quick else ([MICRO_BATCH, BACKLOG], rounds)
    with TemporaryDirectory(prefix="bench-") as folder:
        lake = _lake(Path(folder) / "lake")
        took = {count: _microseconds(lake, count, rounds) for count in counts}
    table = [[name, *(cell for each in took.values() for cell in _cells(name, each))] for name in KINDS]
    columns = [title for count in counts for title in (f"{count:,} at once", "own = 1")]
    wanted = f"own = 1, wanted ≤ {WANTED}"
    show(f"The processing step: CPU µs a reading ({wanted})", ("", *columns), table)
    of_sessions = _of_sessions(*((QUICK_SESSION_EVENTS, 1) if quick else (SESSION_EVENTS, SESSION_ROUNDS)))
    rows = [[name, *_cells(name, of_sessions)] for name in of_sessions]
    show(f"A whole session, from hub to tables: CPU µs a body ({wanted})", ("", "CPU µs", "own = 1"), rows)
    return {
        "cpu_us_per_reading": {str(count): each for count, each in took.items()},
        "session_cpu_us_per_body": of_sessions,
    }


def _lake(path: Path) -> Lake:
    """An empty lake that knows what the ids of all kinds mean."""
    lake = Lake(str(path))
    names = ("system", "kind", "foreign_id", "pulselake_id", "patient_of_device", "zone")
    rows = pl.DataFrame(IDENTITIES, schema=dict(zip(names, IDENTITY_TYPES, strict=True)), orient="row")
    put(lake, IDENTITY, rows, valid_from=START - timedelta(days=99), clock=lambda: START - timedelta(days=9))
    return lake


def _of_sessions(events: int, rounds: int) -> dict[str, float]:
    """For the kinds of one reading a body what a session costs for each body, beyond what one of a single event costs.

    A session takes all events of a hub into a new lake and ends; the kinds come in turn.
    """
    names = [name for name, kind in KINDS.items() if kind.size == 1]
    hubs = {START_ALONE: "start", **{name: f"kind-{number}" for number, name in enumerate(names)}}
    best: dict[str, float] = {}
    with (
        RunningHub((*(f"{hub}:4" for hub in hubs.values()), "alerts:4")) as hub,
        TemporaryDirectory(prefix="bench-") as folder,
    ):
        counts = {name: 1 if name == START_ALONE else events for name in hubs}
        for name, count in counts.items():
            say(f"Sending {count:,} events: {name} …")
            _fill(hub.connection_string, hubs[name], KINDS.get(name, KINDS[OWN]), count)
        for number in range(rounds):
            for name, count in counts.items():
                lake = Path(folder) / f"{hubs[name]}-{number}"
                _lake(lake)
                options = {"connection_string": hub.connection_string, "hub": hubs[name], "lake": str(lake)}
                found = measure("session_worker", **options)
                assert (found["events"], found["rows"]["quarantine"]) == (count, 0), found
                best[name] = min(found["cpu_s"], best.get(name, found["cpu_s"]))
                say(f"  {name}: {found['cpu_s']:.2f} s")
    return {name: 1e6 * (best[name] - best[START_ALONE]) / events for name in names}


def _fill(connection_string: str, hub: str, kind: Kind, events: int) -> None:
    starts = range(0, events, MICRO_BATCH)
    with EventHubsNamespace(connection_string).publisher(hub) as publisher:
        for numbers in (range(start, min(start + MICRO_BATCH, events)) for start in starts):
            bodies = [json.dumps(kind.body([number])).encode() for number in numbers]
            said = [kind.said(number) for number in numbers]
            publisher.publish(bodies, [""] * len(bodies), said if any(said) else ())


def _cells(name: str, microseconds: Mapping[str, float]) -> list[str]:
    return [f"{microseconds[name]:.1f}", f"{microseconds[name] / microseconds[OWN]:.1f}"]


def _microseconds(lake: Lake, count: int, rounds: int) -> dict[str, float]:
    """The kinds in turn, so that what else the machine does meets all of them."""
    best: dict[str, float] = {}
    made = {name: _made(kind, count) for name, kind in KINDS.items()}
    for _ in range(rounds):
        for name, (bodies, positions) in made.items():
            took = 1e6 * _seconds(lake, bodies, positions) / count
            best[name] = min(took, best.get(name, took))
    return best


def _made(kind: Kind, count: int) -> tuple[list[bytes], pl.DataFrame]:
    starts = range(0, count, kind.size)
    values = [kind.body(range(start, start + kind.size)) for start in starts]
    bodies = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in values]
    now = START + timedelta(days=90)
    said = [json.dumps(found) if (found := dict(kind.said(start))) else None for start in starts]
    rows = [(0, number, now, now, 0, None, text, None) for number, text in enumerate(said)]
    return bodies, pl.DataFrame(rows, schema=POSITIONS, orient="row")


def _seconds(lake: Lake, bodies: list[bytes], positions: pl.DataFrame) -> float:
    references = References(CONTRACT, lake)
    references.refresh()
    processor = Processor(CONTRACT, Known.nothing(CONTRACT), references)
    began = process_time()
    outcome = processor.process(positions, bodies)
    seconds = process_time() - began
    assert outcome.quarantine.is_empty(), outcome.quarantine["reason"].value_counts()
    return seconds


def _at(number: int) -> datetime:
    return START + timedelta(minutes=number)


def _level(number: int) -> int:
    return 80 + number % 90


def _one(record: Callable[[int], Any]) -> Callable[[Sequence[int]], Any]:
    return lambda numbers: record(numbers[0])


def _list(record: Callable[[int], Any]) -> Callable[[Sequence[int]], Any]:
    return lambda numbers: [record(number) for number in numbers]


def _polled(source: str, body: Callable[[Sequence[int]], Any]) -> Callable[[Sequence[int]], bytes]:
    """Records as a poll, an import or an app's token brings them."""
    [of, *_] = declared(source)
    return lambda numbers: Part(of, body(numbers), numbers[0], "month-first").event({"binding": "site"}, "file")


def _own(number: int) -> dict[str, Any]:
    at = _at(number).isoformat()
    return {"patient_id": PATIENT, "device_id": DEVICE, "glucose_level": _level(number), "timestamp": at}


def _cloud_event(number: int) -> dict[str, Any]:
    return {"specversion": "1.0", "type": "reading", "source": "gateway", "id": str(number), "data": _own(number)}


def _telemetry(number: int) -> dict[str, Any]:
    return {"glucose_level": _level(number), "timestamp": _at(number).isoformat()}


def _of_mqtt(number: int) -> dict[str, str]:
    """As the bridge says it."""
    return {
        "mqtt-topic": "health/sensor-1/glucose",
        "mqtt-qos": "1",
        "mqtt-retain": "false",
        "mqtt-dup": "false",
        "mqtt-client": "pulselake",
        "received": f"{_at(number):%Y-%m-%dT%H:%M:%S}.250Z",
        "mqtt-packet-id": str(number),
        "mqtt-device": "sensor-1",
        "mqtt-kind": "glucose",
    }


def _of_iot_hub(number: int) -> dict[str, str]:
    return {
        "iothub-connection-device-id": "sensor-1",
        "iothub-enqueuedtime": f"{_at(number):%Y-%m-%dT%H:%M:%S}.250Z",
        "iothub-message-source": "Telemetry",
    }


def _dexcom(numbers: Sequence[int]) -> dict[str, Any]:
    records = [
        {
            "recordId": f"r{number}",
            "systemTime": f"{_at(number):%Y-%m-%dT%H:%M:%SZ}",
            "transmitterId": "sensor-1",
            "value": _level(number),
            "status": "ok",
            "unit": "mg/dL",
            "trend": "flat",
        }
        for number in numbers
    ]
    return {"recordType": "egv", "recordVersion": "3.0", "userId": "site", "records": records}


def _share(number: int) -> dict[str, Any]:
    at = f"Date({int(_at(number).timestamp() * 1000)})"
    return {"WT": at, "ST": at, "DT": f"{at[:-1]}+0200)", "Value": _level(number), "Trend": "Flat"}


def _nightscout(number: int) -> dict[str, Any]:
    at = int(_at(number).timestamp() * 1000)
    return {"_id": f"{number:024x}", "type": "sgv", "sgv": _level(number), "date": at, "device": "sensor-1"}


def _tidepool(number: int) -> dict[str, Any]:
    at = f"{_at(number):%Y-%m-%dT%H:%M:%S.000Z}"
    return {
        "type": "cbg",
        "units": "mg/dL",
        "value": _level(number),
        "deviceId": "sensor-1",
        "time": at,
        "id": str(number),
    }


def _librelinkup(numbers: Sequence[int]) -> dict[str, Any]:
    graph = [
        {
            "FactoryTimestamp": f"{_at(number):%m/%d/%Y %I:%M:%S %p}",
            "ValueInMgPerDl": _level(number),
            "GlucoseUnits": 1,
            "Value": _level(number),
        }
        for number in numbers
    ]
    connection = {"patientId": "site", "sensor": {"sn": "sensor-1"}}
    return {"status": 0, "data": {"connection": connection, "graphData": graph}}


def _auto_export(numbers: Sequence[int]) -> dict[str, Any]:
    points = [
        {"date": f"{_at(number):%Y-%m-%d %H:%M:%S} +0000", "qty": _level(number), "source": "sensor-1"}
        for number in numbers
    ]
    return {"data": {"metrics": [{"name": "blood_glucose", "units": "mg/dL", "data": points}]}}


def _observation(number: int) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "99504-3"}]},
        "subject": {"reference": f"{BASE}Patient/1"},
        "device": {"reference": f"{BASE}Device/1"},
        "effectiveDateTime": _at(number).isoformat(),
        "valueQuantity": {
            "value": _level(number),
            "unit": "mg/dL",
            "system": "http://unitsofmeasure.org",
            "code": "mg/dL",
        },
    }


def _bundle(numbers: Sequence[int]) -> dict[str, Any]:
    entries = [{"fullUrl": f"{BASE}Observation/o{number}", "resource": _observation(number)} for number in numbers]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def _rows(header: str, row: Callable[[int], str]) -> Callable[[Sequence[int]], str]:
    return lambda numbers: "\n".join([header, *(row(number) for number in numbers), ""])


_clarity = _rows(
    "Index,Timestamp (YYYY-MM-DDThh:mm:ss),Event Type,Event Subtype,Patient Info,Device Info,Source Device ID,"
    "Glucose Value (mg/dL),Insulin Value (u),Carb Value (grams),Duration (hh:mm:ss),Glucose Rate of Change "
    "(mg/dL/min),Transmitter Time (Long Integer),Transmitter ID",
    lambda number: f"{number},{_at(number):%Y-%m-%dT%H:%M:%S},EGV,,,,phone,{_level(number)},,,,,4237574,sensor-1",
)
_libreview = _rows(
    "Device,Serial Number,Device Timestamp,Record Type,Historic Glucose mg/dL,Scan Glucose mg/dL"
    + ",-" * 8
    + ",Strip Glucose mg/dL,Ketone mmol/L,-,-,-",
    lambda number: f"Libre 2,sensor-1,{_at(number):%m-%d-%Y %I:%M %p},0,{_level(number)}" + "," * 14,
)


def _apple(numbers: Sequence[int]) -> str:
    records = [
        f'<Record type="HKQuantityTypeIdentifierBloodGlucose" sourceName="sensor-1" sourceVersion="1.0" unit="mg/dL" '
        f'creationDate="{at}" startDate="{at}" endDate="{at}" value="{_level(number)}"/>'
        for number in numbers
        for at in [f"{_at(number):%Y-%m-%d %H:%M:%S} +0000"]
    ]
    return "\n".join(["<HealthData>", *records, "</HealthData>"])


OWN = "own, 1 a body"
KINDS: Mapping[str, Kind] = {
    OWN: Kind(1, _one(_own)),
    "own with properties, 1 a body": Kind(1, _one(_own), lambda _: {"gateway": "7"}),
    "own in CloudEvents, 1 a body": Kind(1, _one(_cloud_event)),
    "MQTT, 1 a body": Kind(1, _one(_telemetry), _of_mqtt),
    "IoT Hub, 1 a body": Kind(1, _one(_telemetry), _of_iot_hub),
    "FHIR Observation, 1 a body": Kind(1, _one(_observation)),
    "Dexcom v3, 1 a body": Kind(1, _dexcom),
    "own, 10 a body": Kind(10, _list(_own)),
    "MQTT, 10 a body": Kind(10, _list(_telemetry), _of_mqtt),
    "Dexcom v3, 10 a body": Kind(10, _dexcom),
    "Dexcom Share, 10 a body": Kind(10, _polled("dexcom-share", _list(_share))),
    "Nightscout, 10 a body": Kind(10, _list(_nightscout), lambda _: {"binding": "site", "source": "nightscout"}),
    "Tidepool, 10 a body": Kind(10, _polled("tidepool", _list(_tidepool))),
    "LibreLinkUp, 10 a body": Kind(10, _polled("librelinkup", _librelinkup)),
    "Health Auto Export, 10 a body": Kind(10, _polled("health-auto-export", _auto_export)),
    "FHIR Bundle, 10 a body": Kind(10, _bundle),
    "Clarity, 100 a body": Kind(100, _polled("clarity", _clarity)),
    "LibreView, 100 a body": Kind(100, _polled("libreview", _libreview)),
    "Apple Health, 100 a body": Kind(100, _polled("apple-health", _apple)),
}
