"""Who the patients are, by reference data as they hold now: names, groups, and who wears which device, and wore it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import polars as pl

from assets.bitemporal import KNOWN_AT, AsOf, holding
from assets.reference.cells import SEPARATOR
from assets.reference.enrichments import SCALE_2_GROUP
from assets.reference.tables import DEVICES, PATIENTS
from dashboard.access import Scope, Viewer
from resources.lake import Lake

AGAIN_AFTER = timedelta(minutes=1)
"""After so long tables that have not changed are read again, since a version may begin to hold."""


@dataclass(frozen=True)
class Person:
    """One patient."""

    patient_id: int
    full_name: str | None
    date_of_birth: date | None
    gender: str | None
    zone: str | None
    groups: frozenset[str]
    care_team: str | None


@dataclass(frozen=True)
class People:
    """All patients and devices at one moment.

    Attributes:
        persons: the patients.
        wearers: who wears which device now.
        devices: all versions of devices.
    """

    persons: Mapping[int, Person] = field(default_factory=dict)
    wearers: Mapping[int, int] = field(default_factory=dict)
    devices: AsOf = field(default_factory=lambda: AsOf(pl.DataFrame(schema=DEVICES.table.schema), DEVICES.key))

    _visible: dict[Scope, frozenset[int] | None] = field(default_factory=dict, compare=False, repr=False)

    def visible(self, scope: Scope) -> frozenset[int] | None:
        """The patients of a scope; None means everyone. The same scope gets the same set."""
        if scope not in self._visible:
            of_groups = (each.patient_id for each in self.persons.values() if each.groups & scope.groups)
            self._visible[scope] = None if scope.is_everyone else frozenset(of_groups) | scope.patients
        return self._visible[scope]

    def wearers_at(self, devices: pl.Series, at: pl.Series) -> pl.Series:
        """Who wore each device at an instant, by all that is known now; null where that is nobody."""
        versions = self.devices.versions
        newest = versions[KNOWN_AT].max()
        if newest is None:
            return pl.Series([None], dtype=pl.Int64).new_from_index(0, len(devices))
        known_by = pl.Series([newest], dtype=versions.schema[KNOWN_AT]).new_from_index(0, len(devices))
        return versions["patient_id"].gather(self.devices.rows_of(devices, at, known_by))

    def ever_worn(self, patient_id: int) -> frozenset[int]:
        """The devices that a patient wears or ever wore."""
        return frozenset(self.devices.versions.filter(pl.col("patient_id") == patient_id)[DEVICES.key])


class Directory:
    """What reference data say of patients and devices. `refresh` reads them again where they have changed.

    Args:
        lake: where they are.
    """

    def __init__(self, lake: Lake) -> None:
        self._patients, self._devices = lake.table(PATIENTS.table), lake.table(DEVICES.table)
        self._read: tuple[int | None, int | None] | None = None
        self._read_at = datetime.min.replace(tzinfo=UTC)
        self.people = People()
        """What was read last. It is replaced as a whole, so that whoever holds it sees one moment."""

    def refresh(self, now: datetime) -> bool:
        """Reads the tables where they have changed, or where a version may have begun to hold.

        Returns:
            Whether anything is another than before.
        """
        read = (self._patients.version(), self._devices.version())
        if read == self._read and now - self._read_at < AGAIN_AFTER:
            return False
        persons = {}
        for row in holding(self._patients.scan().collect(), PATIENTS.key, now).iter_rows(named=True):
            groups = frozenset((row["groups"] or "").split(SEPARATOR)) - {""}
            persons[row["patient_id"]] = Person(
                row["patient_id"],
                row["full_name"],
                row["date_of_birth"],
                row["gender"],
                row["time_zone"],
                groups,
                row["care_team"],
            )
        versions = self._devices.scan().collect()
        worn = holding(versions, DEVICES.key, now).drop_nulls("patient_id")
        self._read, self._read_at, before = read, now, self.people
        wearers = dict(worn.select("device_id", "patient_id").iter_rows())
        if (persons, wearers, versions.height) == (before.persons, before.wearers, before.devices.versions.height):
            return False
        found = People(persons, wearers, AsOf(versions, DEVICES.key))
        self.people = found
        return True

    def person(self, patient_id: int) -> Person | None:
        """What is known of a patient."""
        return self.people.persons.get(patient_id)

    def is_on_scale_2(self, patient_id: int) -> bool:
        """Whether NEWS2 judges a patient's oxygen saturation by its second scale."""
        person = self.person(patient_id)
        return person is not None and SCALE_2_GROUP in person.groups

    def name_of(self, viewer: Viewer, patient_id: int) -> str:
        """What a patient is called for a viewer."""
        person = self.person(patient_id) if viewer.has_names else None
        return (person and person.full_name) or f"Patient {patient_id}"

    def devices_of(self, patient_id: int) -> frozenset[int]:
        """The devices that a patient wears."""
        return frozenset(device for device, wearer in self.people.wearers.items() if wearer == patient_id)

    def wearer(self, device_id: int) -> int | None:
        """Who wears a device."""
        return self.people.wearers.get(device_id)

    def ids(self) -> frozenset[int]:
        """All patients that are known."""
        return frozenset(self.people.persons)
