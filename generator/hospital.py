"""A synthetic hospital: records, trials, telemetry of devices, documents and events, with the faults that such have.

What happens to a patient on a day depends on the seed, the patient and the day alone. So a hospital that is made again
on a later day has the same rows and those of the days since.
"""

import io
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Any, NamedTuple

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from generator.drugs import SUBSTANCES
from generator.profiles import Patient
from generator.profiles import patients as first_patients
from generator.reference import reference_rows

Row = dict[str, Any]

SLOTS = (7, 11, 15, 19)
"""The hours at which a reading is taken; the minute is the patient's."""
KINDS = {"glucose": (110, 25, "mg/dL"), "heart_rate": (74, 9, "bpm"), "systolic": (124, 12, "mmHg")}
"""By kind: mean, scatter and unit."""
TELEMETRY_EVERY_H = 2
TRIALS = (
    ("NCT-0001", "Closed-loop insulin in type 1 diabetes", "type 1 diabetes", "3", 120),
    ("NCT-0002", "Évaluation d'un capteur continu", "type 2 diabetes", "2", 60),
    ("NCT-0003", "Remote monitoring after heart failure", "heart failure", "4", 300),
    ("NCT-0004", "Schlaf und Glukose bei älteren Menschen", "hypoglycaemia", "1", 24),
)
INPATIENT = 1
"""The patient who is admitted and scanned every day, so that the smallest hospital has something of every kind."""
MAX_PARTICIPANTS = 40
"""Only the first patients take part in trials."""
SITES = ("Lisbon", "Utrecht", "Łódź", "Graz", "Tromsø")
NOTES = (None, None, None, "fasting", "after meal", "Kontrolle nötig", "paciente em observação", "補正済み")
DEPARTMENTS = ("Cardiology", "Endocrinology", "Geriatrics", "Emergency", "Médecine interne")
STATUSES = ("online",) * 18 + ("offline", "poor_connection")


class HospitalDay(NamedTuple):
    """What a hospital has of one day, as rows of its tables.

    Attributes:
        ehr, encounters, logs, telemetry: rows.
        events: JSON lines, some of them damaged.
        documents: contents by path.
    """

    ehr: list[Row]
    encounters: list[Row]
    logs: list[Row]
    telemetry: list[Row]
    events: list[str]
    documents: dict[str, bytes]


def patient_rows(count: int, seed: int, since: date) -> list[Row]:
    """The hospital's patients."""
    return [
        {
            "patient_id": row["patient_id"],
            "full_name": row["full_name"],
            "date_of_birth": row["date_of_birth"].isoformat(),
            "gender": row["gender"],
            "updated_at": _text(_at(since, 0)),
        }
        for row in reference_rows(count, seed)["patients"]
    ]


def medication_rows(count: int, seed: int, since: date) -> list[Row]:
    """What the hospital's patients take: each has up to three drugs, of which some have ended."""
    rows = []
    for patient in first_patients(count):
        rng = Random(f"{seed} medications {patient.patient_id}")
        for number, substance in enumerate(rng.sample(SUBSTANCES, rng.randint(0, 3))):
            ended = since - timedelta(days=rng.randint(1, 300)) if rng.random() < 0.2 else None
            rows.append(
                {
                    "medication_id": patient.patient_id * 10 + number,
                    "patient_id": patient.patient_id,
                    "drug_name": substance.name.title(),
                    "dose": rng.choice(("5 mg", "10 mg", "500 mg", "1 Tablette")),
                    "started_on": (since - timedelta(days=rng.randint(301, 2000))).isoformat(),
                    "ended_on": ended and ended.isoformat(),
                    "updated_at": _text(_at(since, 0)),
                }
            )
    return rows


def trial_rows(until: date) -> list[Row]:
    """The trials, with as many enrolled as there are on a day."""
    rows = []
    for number, (trial_id, title, condition, phase, target) in enumerate(TRIALS, start=1):
        started = date(2026, 1, 10 * number % 28 + 1)
        enrolled = min(target, max(0, (until - started).days // (number + 1)))
        rows.append(
            {
                "trial_id": trial_id,
                "title": title,
                "condition": condition,
                "phase": phase,
                "status": "completed" if enrolled == target else "recruiting",
                "enrolled": enrolled,
                "target_enrolment": target,
                "started_on": started.isoformat(),
                "updated_at": _text(_at(until, 0)),
            }
        )
    return rows


def hospital_day(day: date, patients: int, seed: int = 0) -> HospitalDay:
    """What a hospital has of a day.

    Args:
        day: the day, UTC.
        patients: how many there are, from id 1; each has one device.
        seed: the same one gives the same rows.
    """
    made = HospitalDay([], [], [], [], [], {})
    for patient in first_patients(patients):
        rng = Random(f"{seed} {patient.patient_id} {day}")
        made.ehr.extend(_ehr(patient, day, rng))
        made.telemetry.extend(_telemetry(patient, day, rng))
        made.events.extend(_events(patient, day, rng))
        if rng.random() < 0.05 or patient.patient_id == INPATIENT:
            made.encounters.append(_encounter(patient, day, rng))
        made.documents.update(_documents(patient, day, rng))
    made.logs.extend(_logs(day, patients, Random(f"{seed} logs {day}")))
    return made


def _ehr(patient: Patient, day: date, rng: Random) -> Iterator[Row]:
    kind = list(KINDS)[patient.patient_id % len(KINDS)]
    mean, scatter, unit = KINDS[kind]
    for slot, hour in enumerate(SLOTS):
        at = _at(day, hour, patient.patient_id % 60)
        number = (day.toordinal() * 100_000 + patient.patient_id) * 10 + slot
        row = {
            "id": number,
            "patient_id": patient.patient_id,
            "timestamp": _text(at),
            "kind": kind,
            "reading": round(rng.gauss(mean, scatter), 1),
            "unit": unit,
            "device_id": patient.device_id if rng.random() > 0.05 else None,
            "note": rng.choice(NOTES),
            "updated_at": _text(at + timedelta(minutes=rng.randint(1, 20))),
        }
        yield row | _fault(row, rng)
        if rng.random() < 0.02:
            # Somebody corrected it two days later, in a row of its own.
            corrected = {"reading": round(rng.gauss(mean, scatter), 1), "updated_at": _text(at + timedelta(days=2))}
            yield row | {"id": number + 5} | corrected


def _fault(row: Row, rng: Random) -> Row:
    chance = rng.random()
    if chance < 0.005:
        return {"reading": None}
    if chance < 0.01:
        return {"reading": "n/a"}
    if chance < 0.015:
        return {"timestamp": "yesterday"}
    if chance < 0.02:
        return {"reading": 99_999.0}
    if chance < 0.03:
        return {"reading": round(row["reading"] * 2.5, 1)}
    return {}


def _encounter(patient: Patient, day: date, rng: Random) -> Row:
    admitted = _at(day, rng.randint(0, 23))
    left = admitted + timedelta(hours=rng.randint(2, 90))
    return {
        "encounter_id": day.toordinal() * 100_000 + patient.patient_id,
        "patient_id": patient.patient_id,
        "kind": rng.choice(("inpatient", "outpatient", "emergency")),
        "department": rng.choice(DEPARTMENTS),
        "admitted_at": _text(admitted),
        "discharged_at": _text(left) if rng.random() < 0.9 else None,
        "updated_at": _text(admitted),
    }


def _telemetry(patient: Patient, day: date, rng: Random) -> Iterator[Row]:
    for hour in range(0, 24, TELEMETRY_EVERY_H):
        at = _at(day, hour, rng.randint(0, 59))
        row = {
            "id": (day.toordinal() * 100_000 + patient.patient_id) * 100 + hour,
            "device_id": patient.device_id,
            "recorded_at": at.isoformat(),
            "received_at": (at + timedelta(seconds=rng.randint(1, 300))).isoformat(),
            "device_status": rng.choice(STATUSES),
            "battery_percent": max(1.0, 100 - hour * 3 - rng.random()),
            "signal_dbm": round(rng.gauss(-65, 8), 1),
            "firmware_version": "2.4.1",
        }
        chance = rng.random()
        if chance < 0.005:
            row["battery_percent"] = 255.0
        elif chance < 0.01:
            row["recorded_at"] = None
        yield row


def _events(patient: Patient, day: date, rng: Random) -> Iterator[str]:
    for number in range(rng.randint(0, 3)):
        at = _at(day, rng.randint(0, 23), rng.randint(0, 59))
        kind = rng.choice(("status", "status", "alert", "error"))
        event = {
            "id": f"{day:%Y%m%d}-{patient.patient_id}-{number}",
            "device_id": patient.device_id,
            "patient_id": patient.patient_id,
            "occurred_at": at.isoformat(),
            "kind": kind,
            "severity": rng.choice(("info", "warning", "urgent")) if kind == "alert" else None,
            "value": round(rng.uniform(40, 300), 1),
            "message": rng.choice(("sensor check", "Batterie faible", "低電池", "reconnected")),
        }
        chance = rng.random()
        if chance < 0.01:
            yield json.dumps(event)[:-9]
            continue
        if chance < 0.02:
            event["device_id"] = "unknown"
        elif chance < 0.03:
            del event["occurred_at"]
        yield json.dumps(event, ensure_ascii=False)
        if chance > 0.98:
            yield json.dumps(event, ensure_ascii=False)


def _logs(day: date, patients: int, rng: Random) -> Iterator[Row]:
    for place, (trial_id, *_) in enumerate(TRIALS):
        yield {
            "log_id": day.toordinal() * 100 + place,
            "trial_id": trial_id,
            "patient_id": rng.randint(1, min(patients, MAX_PARTICIPANTS)) if rng.random() < 0.9 else None,
            "logged_at": _text(_at(day, rng.randint(8, 17), rng.randint(0, 59))),
            "site": rng.choice(SITES),
            "kind": "adverse" if rng.random() < 0.1 else "visit",
            "message": rng.choice(("visit completed", "sample taken", "Protokoll geändert")),
        }


def _documents(patient: Patient, day: date, rng: Random) -> dict[str, bytes]:
    folder, chance = f"patient-{patient.patient_id}", rng.random()
    if chance < 0.02 or patient.patient_id == INPATIENT:
        return {f"{folder}/{day}-ct.dcm": dicom(patient.patient_id, day, rng)}
    if chance < 0.04:
        return {f"{folder}/{day}-Befund-Übersicht.txt": f"Befund {rng.randint(1, 9)}\n".encode()}
    if chance < 0.042:
        return {f"{folder}/{day}-damaged.dcm": bytes(128) + b"DICM" + rng.randbytes(64)}
    return {}


def dicom(patient_id: int, day: date, rng: Random) -> bytes:
    """A small CT image with a header as scanners write it."""
    instance = generate_uid(entropy_srcs=[str(patient_id), day.isoformat(), "instance"])
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = CTImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = instance
    image.PatientID, image.StudyDate, image.Modality = str(patient_id), f"{day:%Y%m%d}", "CT"
    image.BodyPartExamined, image.Manufacturer = rng.choice(("CHEST", "HEAD", "ABDOMEN")), "Cedar Instruments"
    image.StudyInstanceUID = generate_uid(entropy_srcs=[str(patient_id), day.isoformat(), "study"])
    image.Rows = image.Columns = 16
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.PixelData = rng.randbytes(256)
    written = io.BytesIO()
    image.save_as(written, enforce_file_format=True)
    return written.getvalue()


def _at(day: date, hour: int, minute: int = 0) -> datetime:
    return datetime.combine(day, time(hour, minute), UTC)


def _text(at: datetime) -> str:
    """An instant as a database shows it."""
    return f"{at:%Y-%m-%d %H:%M:%S}"
