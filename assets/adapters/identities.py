"""What the ids of other systems mean: whose a foreign reading is and what measured it, for many readings at once.

An id is looked up for the instant of the measurement, by what was known when the event was pulled, like everything in
reference data. What was unknown then is looked up by what is known now: so a replay lets in what was quarantined, and
nothing that was resolved by what was known then changes.
"""

from collections.abc import Sequence

import polars as pl

from assets.adapters.outcomes import (
    BAD_TIMESTAMP,
    DEVICE,
    DEVICES,
    GLUCOSE,
    IDENTITY_MISMATCH,
    PATIENT,
    VITALS,
    ForeignId,
    Reading,
    unknown,
)
from assets.bitemporal import KNOWN_AT, VALID_FROM, AsOfTexts
from assets.stream.contract import Utc
from assets.stream.decode import missing_field
from assets.stream.instants import EARLIEST

Ids = Sequence[ForeignId | None]

_patient, _device, _owner, _named, _stamped, _stamped_owner = (
    pl.col(name) for name in ("patient", "device", "owner", "named", "stamped", "stamped_owner")
)
_HAS_PATIENT = pl.col("has_patient")
_WHOSE = pl.when(_HAS_PATIENT).then(_patient).otherwise(_owner)
# One person's phone may pass on what another device of that person measured.
_IS_ANOTHERS = (
    pl.when(_WHOSE.is_not_null() & _stamped_owner.is_not_null())
    .then(_stamped_owner != _WHOSE)
    .otherwise(_device != _stamped)
)
_IS_MISMATCH = (_patient != _named).fill_null(False) | _IS_ANOTHERS.fill_null(False)


class Identities:
    """The meanings of ids in some events.

    Args:
        known_by: for each event up to when versions count for it, UTC.
        table: where ids are looked up; without it none is known.
    """

    def __init__(self, known_by: pl.Series, table: AsOfTexts | None) -> None:
        self._table = table
        # Events of a micro-batch were pulled at a few moments.
        self._moments: list[int] = known_by.to_physical().to_list()
        self._zones: dict[tuple[int, str, str], str | None] = {}

    def zone_of(self, event: int, system: str, binding: str) -> str | None:
        """The zone of a binding at the moment of an event, by what was known then."""
        key = self._moments[event], system, binding
        if key not in self._zones:
            at = pl.Series([key[0]], dtype=pl.Int64).cast(Utc)
            [row] = self.rows_of([ForeignId(system, PATIENT, binding)], at, at)
            self._zones[key] = None if row is None or self._table is None else self._table.versions["zone"][row]
        return self._zones[key]

    def rows_of(self, ids: Ids, at: pl.Series, known_by: pl.Series) -> pl.Series:
        """The version of each id that holds at each instant, see `AsOfTexts`; null where none does."""
        if self._table is None:
            return pl.Series([None], dtype=pl.Int64).new_from_index(0, len(ids))
        return self._table.rows_of(ids, at, known_by)

    def id_of(self, rows: str) -> pl.Expr:
        """The id that the versions in a column of `rows_of` mean."""
        return self._found("pulselake_id", pl.Int64(), rows)

    def owner_of(self, rows: str, at: str) -> pl.Expr:
        """The patient to whom devices were assigned at the instants in another column."""
        is_assigned = self._found(VALID_FROM, Utc, rows) <= pl.col(at)
        return pl.when(is_assigned).then(self._found("patient_of_device", pl.Int64(), rows))

    def sensors_of(self, patients: Ids, devices: Ids, at: pl.Series, known_by: pl.Series) -> pl.Series:
        """The versions of devices; of one that was unknown when its event came, that of the patient's own device.

        The own device has the name of the patient. It is for sensors, which are there for days only.
        """
        rows = self.rows_of(devices, at, known_by)
        is_unknown = pl.col("rows").is_null() | (self._found(KNOWN_AT, Utc, "rows") > pl.col("by"))
        unknown_rows = pl.DataFrame({"rows": rows, "by": known_by}).select(is_unknown.arg_true()).to_series()
        named = ((place, patients[place]) for place in unknown_rows if devices[place] is not None)
        again = [(place, ForeignId(of.system, DEVICE, of.value)) for place, of in named if of is not None]
        if not again:
            return rows
        places = pl.Series([place for place, _ in again], dtype=pl.Int64)
        by, before = known_by[places], rows[places]
        own = self.rows_of([each for _, each in again], at[places], by)
        # What was known when the event came decides, so that a rebuild gives the same device.
        was_known = (self._found(KNOWN_AT, Utc, "own") <= pl.col("by")).fill_null(False)
        chosen = pl.when(pl.col("before").is_null() | was_known).then("own").otherwise("before")
        return rows.scatter(places, pl.DataFrame({"own": own, "before": before, "by": by}).select(chosen).to_series())

    def _found(self, name: str, dtype: pl.DataType, rows: str) -> pl.Expr:
        """A column of the versions that another column numbers."""
        if self._table is None:
            return pl.lit(None, dtype)
        return pl.lit(self._table.versions[name]).gather(pl.col(rows))


def resolved(
    readings: Sequence[Reading], stream: str, at: pl.Series, known_by: pl.Series, identities: Identities
) -> pl.DataFrame:
    """Whose the readings of a stream are and what measured them: ``patient_id``, ``device_id`` and ``reason``.

    Where the reason is null, the ids are as the stream's payload needs them.

    Args:
        readings: of the stream.
        stream: its name.
        at: their instants, UTC.
        known_by: up to when versions count for them, UTC.
        identities: finds what ids mean.
    """
    patients, devices = [each.patient for each in readings], [each.device for each in readings]
    named, stamped = [each.named for each in readings], [each.stamped for each in readings]
    if stream == GLUCOSE:
        device_rows = identities.sensors_of(patients, devices, at, known_by)
    else:
        device_rows = identities.rows_of(devices, at, known_by)
    of_stamped, of_named = (
        identities.rows_of(ids, at, known_by) if any(ids) else device_rows.clear(len(readings))
        for ids in (stamped, named)
    )
    rows = {
        "patient_row": identities.rows_of(patients, at, known_by),
        "device_row": device_rows,
        "named_row": of_named,
        "stamped_row": of_stamped,
        "at": at,
        "has_patient": pl.Series([each is not None for each in patients], dtype=pl.Boolean),
    }
    known = pl.DataFrame(rows).select(
        "has_patient",
        "at",
        patient=identities.id_of("patient_row"),
        device=identities.id_of("device_row"),
        owner=identities.owner_of("device_row", "at"),
        named=identities.id_of("named_row"),
        stamped=identities.id_of("stamped_row"),
        stamped_owner=identities.owner_of("stamped_row", "at"),
    )
    patient, device = pl.coalesce(_WHOSE, _stamped_owner), pl.coalesce(_device, _stamped)
    needs_device = ~_HAS_PATIENT if stream == VITALS else ~_HAS_PATIENT | patient.is_not_null()
    of_patient = pl.lit(None, pl.Int64) if stream == DEVICES else patient
    reason = (
        # Of a clock that was never set no id is known, and that is not what has to be mended.
        pl.when(pl.col("at") < EARLIEST)
        .then(pl.lit(BAD_TIMESTAMP))
        .when(_IS_MISMATCH)
        .then(pl.lit(IDENTITY_MISMATCH))
        .when(device.is_null() & needs_device)
        .then(pl.lit(unknown(DEVICE)))
        .when(device.is_null() & pl.lit(stream == DEVICES))
        .then(pl.lit(missing_field("device_id")))
        .when(patient.is_null() & pl.lit(stream != DEVICES))
        .then(pl.lit(unknown(PATIENT)))
    )
    found = known.select(patient_id=of_patient, device_id=device, reason=reason)
    return _with_claims(found, readings)


def _with_claims(found: pl.DataFrame, readings: Sequence[Reading]) -> pl.DataFrame:
    """The same, where an id that a body itself says must be the one that was found."""
    claims = [(place, reading.claims) for place, reading in enumerate(readings) if reading.claims]
    if not claims:
        return found
    known = found[["patient_id", "device_id"]].to_dict(as_series=False)
    reasons = found["reason"].to_list()
    for place, claimed in claims:
        if any(known[name][place] not in (None, each) for name, each in claimed.items()):
            reasons[place] = reasons[place] or IDENTITY_MISMATCH
    return found.with_columns(pl.Series("reason", reasons, dtype=pl.String))
