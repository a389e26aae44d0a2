"""The synthetic hospital on disk and as a server: the embedded default of every clinical source.

```
<home>/hospital/ehr.sqlite          EHR, patients, encounters, medications
<home>/hospital/trials.sqlite       ClinicalTrials, ResearchLogs
<home>/hospital/telemetry.sqlite    what the API of devices serves on 127.0.0.1
<home>/hospital/documents/          texts and DICOM images
<home>/hospital/device_events/      a file of JSON lines for each day
```
"""

import hashlib
import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from generator.hospital import Row, hospital_day, medication_rows, patient_rows, trial_rows
from resources.batch_sources import DOCUMENTS_FOLDER, EHR_FILE, EVENTS_FOLDER, TRIALS_FILE

TELEMETRY_FILE = "telemetry.sqlite"
MAX_LIMIT = 1000

_TABLES: Mapping[str, Mapping[str, str]] = {
    EHR_FILE: {
        "EHR": "id INTEGER PRIMARY KEY, patient_id INTEGER, timestamp TEXT, kind TEXT, reading REAL, unit TEXT, "
        "device_id INTEGER, note TEXT, updated_at TEXT",
        "patients": "patient_id INTEGER PRIMARY KEY, full_name TEXT, date_of_birth TEXT, gender TEXT, updated_at TEXT",
        "encounters": "encounter_id INTEGER PRIMARY KEY, patient_id INTEGER, kind TEXT, department TEXT, "
        "admitted_at TEXT, discharged_at TEXT, updated_at TEXT",
        "medications": "medication_id INTEGER PRIMARY KEY, patient_id INTEGER, drug_name TEXT, dose TEXT, "
        "started_on TEXT, ended_on TEXT, updated_at TEXT",
    },
    TRIALS_FILE: {
        "ClinicalTrials": "trial_id TEXT PRIMARY KEY, title TEXT, condition TEXT, phase TEXT, status TEXT, "
        "enrolled INTEGER, target_enrolment INTEGER, started_on TEXT, updated_at TEXT",
        "ResearchLogs": "log_id INTEGER PRIMARY KEY, trial_id TEXT, patient_id INTEGER, logged_at TEXT, site TEXT, "
        "kind TEXT, message TEXT",
    },
    TELEMETRY_FILE: {
        "telemetry": "id INTEGER PRIMARY KEY, device_id INTEGER, recorded_at TEXT, received_at TEXT, "
        "device_status TEXT, battery_percent REAL, signal_dbm REAL, firmware_version TEXT",
    },
}


@dataclass(frozen=True)
class Made:
    """How much a hospital has gained."""

    ehr: int
    telemetry: int
    documents: int
    events: int


def make_hospital(
    folder: Path, *, patients: int, days: int, until: datetime, seed: int = 0, has_wards: bool = False
) -> Made:
    """Makes a hospital, or adds to one what it does not have yet.

    Args:
        folder: where it is.
        patients: how many patients there are.
        days: how many days it reaches back.
        until: what would be later has not happened yet.
        seed: the same one gives the same hospital.
        has_wards: whether records have a column more, as after a new version of the hospital's software.
    """
    if folder.exists():
        return _add(folder, patients, days, until, seed, has_wards)
    # Who finds the folder takes the hospital for whole.
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    made = _add(unfinished, patients, days, until, seed, has_wards)
    unfinished.rename(folder)
    return made


def _add(folder: Path, patients: int, days: int, until: datetime, seed: int, has_wards: bool) -> Made:
    made = Made(0, 0, 0, 0)
    first = until.date() - timedelta(days=days - 1)
    before = f"{until:%Y-%m-%d %H:%M:%S}"
    with _databases(folder) as (ehr, trials, telemetry):
        if has_wards and "ward" not in _columns(ehr, "EHR"):
            ehr.execute("ALTER TABLE EHR ADD COLUMN ward TEXT")
        _insert(ehr, "patients", patient_rows(patients, seed, first))
        _insert(ehr, "medications", medication_rows(patients, seed, first))
        _insert(trials, "ClinicalTrials", trial_rows(until.date()), replace=True)
        for day in (first + timedelta(days=number) for number in range(days)):
            of_day = hospital_day(day, patients, seed)
            happened = [row for row in of_day.ehr if row["updated_at"] <= before]
            if has_wards:
                happened = [row | {"ward": f"ward {row['patient_id'] % 4 + 1}"} for row in happened]
            added = _insert(ehr, "EHR", happened)
            _insert(ehr, "encounters", [row for row in of_day.encounters if row["admitted_at"] <= before])
            _insert(trials, "ResearchLogs", [row for row in of_day.logs if row["logged_at"] <= before])
            told = [row for row in of_day.telemetry if row["received_at"] <= until.isoformat()]
            made = Made(
                made.ehr + added,
                made.telemetry + _insert(telemetry, "telemetry", told),
                made.documents + _write_documents(folder / DOCUMENTS_FOLDER, of_day.documents),
                made.events + _write_events(folder / EVENTS_FOLDER, day, of_day.events, is_over=day < until.date()),
            )
    return made


@contextmanager
def _databases(folder: Path) -> Iterator[list[sqlite3.Connection]]:
    connections = [sqlite3.connect(folder / name, timeout=30) for name in _TABLES]
    try:
        for connection, tables in zip(connections, _TABLES.values(), strict=True):
            for name, columns in tables.items():
                connection.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns})")
        yield connections
        for connection in connections:
            connection.commit()
    finally:
        for connection in connections:
            connection.close()


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")]


def _insert(connection: sqlite3.Connection, table: str, rows: Sequence[Row], *, replace: bool = False) -> int:
    """Inserts rows with new keys, or puts them in the place of those that are there; how many there are more."""
    if not rows:
        return 0
    before = connection.total_changes
    names, verb = list(rows[0]), "REPLACE" if replace else "IGNORE"
    places = ", ".join("?" * len(names))
    connection.executemany(
        f"INSERT OR {verb} INTO {table} ({', '.join(names)}) VALUES ({places})", [tuple(row.values()) for row in rows]
    )
    return connection.total_changes - before


def _write_documents(folder: Path, documents: Mapping[str, bytes]) -> int:
    folder.mkdir(exist_ok=True)
    new = {path: content for path, content in documents.items() if not (folder / path).exists()}
    for path, content in new.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(content)
    return len(new)


def _write_events(folder: Path, day: date, lines: Sequence[str], *, is_over: bool) -> int:
    """Writes the events of a day, once it is over."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{day}.jsonl"
    if not is_over or file.exists():
        return 0
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(lines)


@contextmanager
def served_telemetry(folder: Path, port: int) -> Iterator[str]:
    """Serves the telemetry of a hospital's devices on 127.0.0.1 for the block; yields the address.

    Raises:
        OSError: the port is taken.
    """
    server = ThreadingHTTPServer(("127.0.0.1", port), _handler(folder / TELEMETRY_FILE))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(file: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:
            """Whoever asks logs."""

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            if address.path != "/telemetry":
                self._answer(404, b'{"error": "there is /telemetry only"}', {})
                return
            asked = {name: values[0] for name, values in parse_qs(address.query).items()}
            rows, following = _page(file, asked)
            body = json.dumps(rows).encode()
            etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            headers = {"ETag": etag}
            if following:
                headers["Link"] = f'</telemetry?{urlencode(following)}>; rel="next"'
            if self.headers.get("If-None-Match") == etag and not following:
                self._answer(304, b"", headers)
                return
            self._answer(200, body, headers)

        def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            own = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
            for name, value in {**own, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    return Handler


def _page(file: Path, asked: Mapping[str, str]) -> tuple[list[Row], dict[str, str]]:
    """The rows of a page, and the query of the next one if there is one."""
    limit = min(max(1, int(asked["limit"])) if asked.get("limit", "").isdigit() else MAX_LIMIT, MAX_LIMIT)
    since, (at, number) = asked.get("since", ""), (*asked.get("after", ",0").rpartition(",")[::2],)
    with closing(sqlite3.connect(file, timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute(
            "SELECT * FROM telemetry WHERE received_at >= ? AND (received_at, id) > (?, ?) "
            "ORDER BY received_at, id LIMIT ?",
            (since, at, int(number) if number.isdigit() else 0, limit + 1),
        ).fetchall()
    rows = [dict(row) for row in found[:limit]]
    following = dict(asked) | {"after": f"{rows[-1]['received_at']},{rows[-1]['id']}"} if len(found) > limit else {}
    return rows, following
