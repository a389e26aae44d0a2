"""Reference data of the synthetic patients: the same patients and devices that the generated streams have.

Who a patient is depends on the seed and the patient's number alone, so that more patients change no one.
"""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from random import Random
from typing import Any, NamedTuple

from faker import Faker

from generator.profiles import LOCATIONS, Patient
from generator.profiles import patients as first_patients
from generator.vitals import FIRST_MONITOR_ID

Row = dict[str, Any]

BORN_BEFORE = date(2026, 1, 1)
"""Ages are counted from here, so that the day on which rows are made changes nothing."""
WARRANTY = timedelta(days=2 * 365)


class Place(NamedTuple):
    """Where patients live: the language of their names, and their time zone."""

    locale: str
    time_zone: str
    language: str


PLACES: Mapping[str, Place] = {
    "Lisbon": Place("pt_PT", "Europe/Lisbon", "pt-PT"),
    "Utrecht": Place("nl_NL", "Europe/Amsterdam", "nl"),
    "Leeds": Place("en_GB", "Europe/London", "en-GB"),
    "Graz": Place("de_AT", "Europe/Vienna", "de-AT"),
    "Bergen": Place("no_NO", "Europe/Oslo", "no"),
    "Tartu": Place("et_EE", "Europe/Tallinn", "et"),
    "Lyon": Place("fr_FR", "Europe/Paris", "fr"),
}
AGES = {
    "diabetic": (30, 75),
    "athlete": (18, 40),
    "party_goer": (20, 35),
    "low_glucose": (25, 70),
    "elderly": (68, 92),
}
CARE_TEAMS = ("north", "east", "south", "west")
GENDERS = ("female", "female", "female", "male", "male", "male", "other", "unknown")
CAREGIVER_OF_EVERY = 5
"""Every fifth patient has a caregiver who is told."""

WEARABLES = (("Alder Sensors", "GlucoTrack 2"), ("Alder Sensors", "GlucoTrack 3"), ("Birch Medical", "Sense One"))
MONITORS = (("Birch Medical", "Bedside 400"), ("Cedar Instruments", "VitalView M"))
WEARABLE_UPLOADER, MONITOR_UPLOADER = "phone", "gateway"
MANUFACTURERS = tuple(dict.fromkeys(name for name, _ in (*WEARABLES, *MONITORS)))


def reference_rows(count: int, seed: int = 0) -> dict[str, list[Row]]:
    """The rows of each table of reference data, by the table's short name.

    Args:
        count: how many patients there are, from id 1; each wears a device and has a monitor.
        seed: the same one gives the same rows.
    """
    people = _People(seed)
    patients = first_patients(count)
    return {
        "patients": [people.patient(each) for each in patients],
        "devices": _each_once(device for each in patients for device in people.devices(each)),
        "manufacturers": [people.manufacturer(number) for number in range(1, len(MANUFACTURERS) + 1)],
        "subscribers": [*people.doctors(), *(people.caregiver(each) for each in _with_caregiver(patients))],
        "subscriptions": [*_of_doctors(), *(_of_caregiver(each) for each in _with_caregiver(patients))],
    }


class _People:
    """Makes up who is who."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._fakers = {place.locale: Faker(place.locale) for place in PLACES.values()}

    def patient(self, patient: Patient) -> Row:
        number = patient.patient_id
        random, fake = self._random("patient", number), self._fake("patient", number, patient.location)
        gender = random.choice(GENDERS)
        youngest, oldest = AGES[patient.profile.name]
        name = {"female": fake.name_female, "male": fake.name_male}.get(gender, fake.name)
        return {
            "patient_id": number,
            "full_name": name(),
            "date_of_birth": BORN_BEFORE - timedelta(days=random.randint(youngest * 366, oldest * 365)),
            "gender": gender,
            "address": fake.address().replace("\n", ", "),
            "contact_number": fake.phone_number(),
            "time_zone": PLACES[patient.location].time_zone,
            "groups": patient.profile.name,
            "care_team": CARE_TEAMS[number % len(CARE_TEAMS)],
        }

    def devices(self, patient: Patient) -> Iterator[Row]:
        random = self._random("devices", patient.patient_id)
        for device_id, kinds, uploader in (
            (patient.device_id, WEARABLES, WEARABLE_UPLOADER),
            (FIRST_MONITOR_ID + patient.patient_id, MONITORS, MONITOR_UPLOADER),
        ):
            manufacturer, model = random.choice(kinds)
            bought = BORN_BEFORE - timedelta(days=random.randint(30, 900))
            yield {
                "device_id": device_id,
                "manufacturer": manufacturer,
                "model": model,
                "purchase_date": bought,
                "warranty_expiry": bought + WARRANTY,
                "patient_id": patient.patient_id,
                "uploader": uploader,
            }

    def manufacturer(self, number: int) -> Row:
        name = MANUFACTURERS[number - 1]
        fake = self._fake("manufacturer", number, LOCATIONS[number % len(LOCATIONS)])
        return {
            "manufacturer_id": number,
            "manufacturer_name": name,
            "manufacturer_address": fake.address().replace("\n", ", "),
            "manufacturer_contact": f"support@{name.split()[0].lower()}.example",
        }

    def doctors(self) -> Iterator[Row]:
        """One for each kind of patient; ids from 1."""
        for number in range(1, len(AGES) + 1):
            fake = self._fake("doctor", number, LOCATIONS[0])
            yield _subscriber(number, fake.name(), "doctor", PLACES[LOCATIONS[0]], None)

    def caregiver(self, patient: Patient) -> Row:
        fake = self._fake("caregiver", patient.patient_id, patient.location)
        number = len(AGES) + patient.patient_id
        return _subscriber(number, fake.name(), "caregiver", PLACES[patient.location], ("22:00", "06:30"))

    def _random(self, what: str, number: int) -> Random:
        return Random(f"{self._seed} {what} {number}")

    def _fake(self, what: str, number: int, location: str) -> Faker:
        fake = self._fakers[PLACES[location].locale]
        fake.seed_instance(f"{self._seed} {what} {number}")
        return fake


def _each_once(devices: Iterator[Row]) -> list[Row]:
    """From 4,001 patients on, numbers of wearables are also those of monitors; a wearable comes first then."""
    found: dict[int, Row] = {}
    for device in sorted(devices, key=lambda each: bool(each["uploader"] == MONITOR_UPLOADER)):
        found.setdefault(device["device_id"], device)
    return [found[number] for number in sorted(found)]


def _subscriber(number: int, name: str, kind: str, place: Place, quiet: tuple[str, str] | None) -> Row:
    return {
        "subscriber_id": number,
        "name": name,
        "type": kind,
        "channels": f"CHANNEL_OF_SUBSCRIBER_{number}",
        "language": place.language,
        "time_zone": place.time_zone,
        "quiet_from": quiet and quiet[0],
        "quiet_to": quiet and quiet[1],
    }


def _with_caregiver(patients: list[Patient]) -> list[Patient]:
    return patients[::CAREGIVER_OF_EVERY]


def _of_doctors() -> Iterator[Row]:
    for number, group in enumerate(AGES, start=1):
        yield _subscription(number, number, f"group:{group}", tier=1, severity="urgent")


def _of_caregiver(patient: Patient) -> Row:
    number = len(AGES) + patient.patient_id
    return _subscription(number, number, f"patient:{patient.patient_id}", tier=0, severity="warning")


def _subscription(number: int, subscriber: int, scope: str, *, tier: int, severity: str) -> Row:
    return {
        "subscription_id": number,
        "subscriber_id": subscriber,
        "scope": scope,
        "tier": tier,
        "minimum_severity": severity,
        "transitions": None,
    }
