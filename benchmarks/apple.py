"""A phone's whole export by `pulselake import`, as export.xml and as a zip, as phones make it; and the drain after it.

Beside it two bare readers of the same file: expat, which counts records by kind and does nothing else, and the way in
which ElementTree reads a document some at a time.
"""

import os
import re
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, NamedTuple

import polars as pl

from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.stream.store import StreamStore
from assets.vitals.assets import CONTRACT as VITALS
from benchmarks.report import Figures, say, show
from benchmarks.workers import ROOT, measure
from orchestration.live import HUB_CONFIG
from resources import sources
from resources.settings import Settings
from resources.storage import lake_of
from tests.emulator.hub import RunningHub

GB, QUICK_GB = 1.0, 0.02
TARGET_MB = 300
PATIENT, UPLOAD = 7, "phone"
IDENTITIES = f"""system,kind,foreign_id,pulselake_id,patient_of_device,zone
apple,patient,{UPLOAD},{PATIENT},,Europe/Berlin
apple,device,CGM App,1007,,
apple,device,Watch,1008,,
apple,device,Cuff,1009,,
"""
FRONT = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE HealthData [
<!-- HealthKit Export Version: 14 -->
<!ELEMENT HealthData (ExportDate,Me,(Record|Correlation)*)>
<!ATTLIST VisionPrescription
  type CDATA #REQUIRED
<!ELEMENT RightEye EMPTY>
]>
<HealthData locale="en_GB">
 <ExportDate value="2026-06-14 07:27:26 +0200"/>
"""
START = datetime(2020, 1, 1, tzinfo=UTC)
WATCH = (
    "&lt;&lt;HKDevice: 0x281&gt;, name:Apple Watch, manufacturer:Apple Inc., model:Watch, hardware:Watch6,1, "
    "software:9.1&gt;"
)


class Kind(NamedTuple):
    """A kind of records.

    Attributes:
        share: of the file's bytes.
        every: from one to the next.
        source: the device's name.
        unit: of the values.
        value: of the record of a number.
        child: the key of its metadata entry, with a value; nothing if it has none.
    """

    share: float
    every: timedelta
    source: str
    unit: str
    value: Callable[[int], str]
    child: str = ""


def _whole(least: int, span: int) -> Callable[[int], str]:
    return lambda number: str(least + number * 7 % span)


KINDS: Mapping[str, Kind] = {
    "BloodGlucose": Kind(0.05, timedelta(minutes=5), "CGM App", "mg/dL", _whole(80, 90)),
    "HeartRate": Kind(
        0.20,
        timedelta(minutes=4),
        "Watch",
        "count/min",
        _whole(55, 60),
        'HKMetadataKeyHeartRateMotionContext" value="1',
    ),
    "OxygenSaturation": Kind(0.03, timedelta(minutes=29), "Watch", "%", lambda n: f"0.{92 + n % 8}"),
    "RespiratoryRate": Kind(0.02, timedelta(minutes=31), "Watch", "count/min", _whole(12, 8)),
    "ActiveEnergyBurned": Kind(0.32, timedelta(minutes=3), "Watch", "kcal", lambda n: f"0.{n % 997:03}"),
    "BasalEnergyBurned": Kind(0.14, timedelta(minutes=7), "Watch", "kcal", lambda n: f"11.{n % 997:03}"),
    "StepCount": Kind(0.12, timedelta(minutes=9), "Watch", "count", _whole(3, 300)),
    "DistanceWalkingRunning": Kind(
        0.11, timedelta(minutes=9), "Watch", "km", lambda n: f"0.{n % 997:03}", 'HKMetadataKeySyncVersion" value="2'
    ),
}
"""Phones write kind by kind. Halves of blood pressures and their correlations come besides."""
PRESSURES, PRESSURES_EVERY = 1_000, timedelta(hours=12)
MEASURED = ("BloodGlucose", "HeartRate", "OxygenSaturation", "RespiratoryRate")
HALVES = ("BloodPressureSystolic", "BloodPressureDiastolic")
_IN_BODY = re.compile(rb'<Record type=\\"HKQuantityTypeIdentifier(\w+)')


def run(*, quick: bool = False, gb: float | None = None) -> Figures:
    """The bare readers, both imports, and the session that takes what the first one published."""
    size = gb or (QUICK_GB if quick else GB)
    with TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder) / "export.xml"
        say(f"Writing an export of {size:g} GB …")
        made = _write(file, int(size * 1e9))
        packed = file.with_suffix(".zip")
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(file, "apple_health_export/export.xml")
            archive.writestr("apple_health_export/electrocardiograms/ecg_2026-01-01.csv", "Name,\n")
        measured: dict[str, Any] = {}
        for way in ("expat", "iterparse"):
            say(f"Reading it: {way} …")
            measured[way] = measure("apple_worker", way=way, file=str(file))
        measured["import"] = _imported(file, made, is_drained=True)
        measured["import of the zip"] = _imported(packed, made)
        figures: Figures = {
            "bytes": file.stat().st_size,
            "zip_bytes": packed.stat().st_size,
            "records": made.total(),
            "cpu_to_iterparse": measured["import"]["cpu_s"] / measured["iterparse"]["cpu_s"],
            **measured,
        }
    drained = measured["import"].pop("drained")
    figures["drain"] = drained
    mb = figures["bytes"] / 1e6
    rows = [(way, each, mb) for way, each in measured.items()]
    show(
        f"An export of Apple Health, {mb:,.0f} MB ({figures['zip_bytes'] / 1e6:,.0f} MB as zip), "
        f"{made.total():,} records, {sum(made[each] for each in MEASURED):,} of them measurements",
        ("", "seconds", "MB/s", "CPU-s", "peak RSS MB"),
        [
            *(
                [way, f"{each['seconds']:.1f}", f"{mb / each['seconds']:,.0f}", f"{each['cpu_s']:.1f}", _rss(each)]
                for way, each, mb in rows
            ),
            ["wanted", "", "", "", f"≤ {TARGET_MB}"],
            [
                f"drain, {drained['silver']:,} readings",
                f"{drained['seconds']:.1f}",
                "",
                f"{drained['cpu_s']:.1f}",
                _rss(drained),
            ],
        ],
    )
    return figures


def _rss(figures: Mapping[str, float]) -> str:
    return f"{figures['peak_rss_mb']:.0f}"


def _write(file: Path, size: int) -> Counter[str]:
    """Writes an export of about so many bytes.

    Returns:
        How many records of each kind, and correlations, it has.
    """
    made: Counter[str] = Counter()
    with file.open("w", encoding="utf-8") as target:
        target.write(FRONT)
        for half in HALVES:
            for at in _instants(PRESSURES, PRESSURES_EVERY):
                target.write(f"{_pressure(half, at)}</Record>\n")
                made[half] += 1
        for name, kind in KINDS.items():
            left = int(kind.share * size)
            for record in _records(name, kind):
                target.write(record)
                made[name] += 1
                left -= len(record)
                if left <= 0:
                    break
        for at in _instants(PRESSURES, PRESSURES_EVERY):
            halves = "".join(f" {_pressure(half, at)}</Record>\n" for half in HALVES)
            target.write(
                f' <Correlation type="HKCorrelationTypeIdentifierBloodPressure" sourceName="Cuff" creationDate="{at}" '
                f'startDate="{at}" endDate="{at}">\n{halves} </Correlation>\n'
            )
            made["correlations"] += 1
        target.write("</HealthData>\n")
    return made


def _records(name: str, kind: Kind) -> Iterator[str]:
    child = f'>\n  <MetadataEntry key="{kind.child}"/>\n </Record>\n' if kind.child else "/>\n"
    device = f' device="{WATCH}"' if kind.source == "Watch" else ""
    head = (
        f' <Record type="HKQuantityTypeIdentifier{name}" sourceName="{kind.source}" sourceVersion="9.1"{device} '
        f'unit="{kind.unit}" '
    )
    # The seconds of a kind are its own, so that no two kinds make one reading of vital signs.
    at = START + timedelta(seconds=len(name))
    for number in count():
        told = at.isoformat(" ", "seconds").replace("+00:00", " +0000")
        at += kind.every
        yield (f'{head}creationDate="{told}" startDate="{told}" endDate="{told}" value="{kind.value(number)}"{child}')


def _instants(number: int, every: timedelta) -> Iterator[str]:
    return (f"{START + each * every:%Y-%m-%d %H:%M:%S} +0000" for each in range(number))


def _pressure(half: str, at: str) -> str:
    value = 121 if half == HALVES[0] else 79
    return (
        f' <Record type="HKQuantityTypeIdentifier{half}" sourceName="Cuff" sourceVersion="1.0" unit="mmHg" '
        f'creationDate="{at}" startDate="{at}" endDate="{at}" value="{value}">'
    )


def _imported(file: Path, made: Mapping[str, int], *, is_drained: bool = False) -> dict[str, Any]:
    """Imports a file as users do, compares what the hubs have with what was made, and drains them."""
    with TemporaryDirectory(prefix="bench-") as folder, RunningHub((), options=("--config", str(HUB_CONFIG))) as hub:
        home = Path(folder)
        (home / "identity.csv").write_text(IDENTITIES)
        named = {"PULSELAKE_HOME": folder, "EVENTHUB_CONNECTION_STRING": hub.connection_string}
        load = ("reference", "load", "identity", home / "identity.csv", "--valid-from", "2019-01-01")
        _command(load, named)
        say(f"Importing {file.name} …")
        figures = _command(("import", file, "--patient", UPLOAD), named)
        say(f"  {figures['peak_rss_mb']:.0f} MB, {figures['cpu_s']:.1f} s of CPU")
        settings = Settings(home=home, event_hubs=hub.connection_string)
        _check_hubs(settings, made)
        if is_drained:
            say("Sessions drain what it published …")
            figures["drained"] = _command(("drain", "glucose", "vitals"), named)
            figures["drained"]["silver"] = _check_lake(settings, made)
    return figures


def _command(arguments: Sequence[object], settings: Mapping[str, str]) -> dict[str, Any]:
    """Runs `pulselake` to its end: how long it took, and the most that it had resident."""
    command = [sys.executable, "-m", "orchestration.cli", *map(str, arguments)]
    with TemporaryFile("w+") as told:
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | settings, stdout=told, stderr=told)
        peak_kb, ended = 0, 0
        while not ended:
            # What the system tells of a process after its end begins with what its parent had.
            found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
            peak_kb = max(peak_kb, int(found[1]) if found else 0)
            time.sleep(0.01)
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            told.seek(0)
            raise RuntimeError(f"pulselake {arguments[0]} ended with {process.returncode}: {told.read()}")
    return {
        "seconds": time.monotonic() - began,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_rss_mb": peak_kb / 1024,
    }


def _check_hubs(settings: Settings, made: Mapping[str, int]) -> None:
    """Whether each stream's hub has each of its measurements once."""
    found: Counter[str] = Counter()
    for contract in (GLUCOSE, VITALS):
        source = sources.source(settings, contract.stream)
        left = sum(tail.last - tail.first + 1 for tail in source.state().tails.values())
        with source.receive({}) as receiver:
            while left:
                for pulled in receiver.take(30.0):
                    left -= len(pulled.bodies)
                    names = (each.decode() for body in pulled.bodies for each in _IN_BODY.findall(body or b""))
                    # An event with the last records of one kind and the first of the next goes to both hubs.
                    found.update(name for name in names if (name == "BloodGlucose") == (contract is GLUCOSE))
    # What stands in a correlation stands there only.
    wanted = {name: made[name] for name in (*MEASURED, *HALVES)}
    if found != wanted:
        raise RuntimeError(f"The file has {wanted}, the hubs have {dict(found)}")


def _check_lake(settings: Settings, made: Mapping[str, int]) -> int:
    """Whether silver has a row for each measurement, and bronze balances; how many rows it has."""
    lake = lake_of(settings)
    rows = 0
    vitals = sum(made[name] for name in MEASURED if name != "BloodGlucose") + made["correlations"]
    for contract, readings in ((GLUCOSE, made["BloodGlucose"]), (VITALS, vitals)):
        store = StreamStore(contract, lake)
        bronze = store.bronze.scan().select(pl.col("reading_count").sum()).collect(engine="streaming").item()
        # What is of the other stream in an event of both.
        skipped = sum(store.skipped(day) for day in store.bronze.dates("ingest_date"))
        found = {"silver": store.silver.count(), "bronze without what was skipped": bronze - skipped}
        if set(found.values()) != {readings}:
            raise RuntimeError(f"{contract.stream}: {readings:,} readings were made, and the lake has {found}")
        rows += readings
    return rows
