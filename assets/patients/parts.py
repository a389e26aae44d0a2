"""Of which tables each part of `gold/patient_360` is made, and which of their rows count. Pure declarations.

```
 part by dates     patient 7's rows of the part's tables, on the dates that end with the last one that patient 7 has
                   ···············[·········14 dates·········]  nothing since; another patient's last date is later
 other parts       all rows of their tables
```
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import dataframely as dy
import polars as pl

from assets.adverse_events.tables import REPORTS_BY_SUBSTANCE
from assets.alarms.measures import ALARMS
from assets.clinical.sources import EHR, EHR_ENCOUNTERS, EHR_MEDICATIONS, EHR_PATIENTS, TRIAL_LOGS
from assets.clinical.tables import DOCUMENT_INDEX
from assets.glucose.tables import GLUCOSE_DAILY
from assets.patients import gold
from assets.patients.gold import Frames
from assets.patients.tables import (
    VITALS,
    OfAlarms,
    OfDocuments,
    OfDrugs,
    OfEncounters,
    OfGlucose,
    OfRecord,
    OfTrials,
    OfVitals,
)
from assets.reference.tables import PATIENTS
from assets.vitals.tables import NEWS2, VITALS_DAILY, VITALS_MINUTE
from resources.table import Table

PERSON = (PATIENTS.table, EHR_PATIENTS.silver)
"""What says who a patient is. It is read each time: which version holds depends on the time."""


@dataclass(frozen=True)
class Source:
    """A table that is read.

    Attributes:
        table: which.
        columns: what is read of it; all if empty.
        where: over partition columns: which rows are read; all if None.
    """

    table: Table
    columns: tuple[str, ...] = ()
    where: pl.Expr | None = None


@dataclass(frozen=True)
class Part:
    """Some columns of `gold/patient_360`.

    Attributes:
        name: of the part.
        rows: the columns, with `patient_id`.
        told_by: a column that is null for patients of whom the part knows nothing.
        sources: what it is made of. Of a part by dates the first has a row of each patient and date that counts.
        make: makes rows of some patients, as they are on a date.
        days: how many dates count, of a part by dates; `told_by` is the last of them.
        changes_daily: whether a new day alone changes rows.
    """

    name: str
    rows: type[dy.Schema]
    told_by: str
    sources: tuple[Source, ...]
    make: Callable[[Frames, date], pl.DataFrame]
    days: int | None = None
    changes_daily: bool = False


def _always(make: Callable[[Frames], pl.DataFrame]) -> Callable[[Frames, date], pl.DataFrame]:
    """Rows that follow from the tables alone."""
    return lambda frames, _: make(frames)


PARTS = (
    Part(
        "glucose",
        OfGlucose,
        "glucose_date",
        (Source(GLUCOSE_DAILY),),
        _always(gold.glucose),
        gold.CONTROL_DAYS,
    ),
    Part(
        "vitals",
        OfVitals,
        "vitals_date",
        (
            Source(VITALS_DAILY, ("patient_id", "event_date")),
            Source(VITALS_MINUTE, ("patient_id", "event_date", "minute_at", *(f"{name}_mean" for name in VITALS))),
            Source(NEWS2, ("patient_id", "event_date", "evaluated_at", "news2_score", "news2_risk")),
        ),
        _always(gold.vitals),
        gold.VITALS_DAYS,
    ),
    Part(
        "record",
        OfRecord,
        "ehr_date",
        (Source(EHR.silver, ("patient_id", "event_date", "measured_at", "kind", "reading", "unit", "is_outlier")),),
        _always(gold.record),
        gold.RECORD_DAYS,
    ),
    Part(
        "trials",
        OfTrials,
        "trial_date",
        (Source(TRIAL_LOGS.silver, ("patient_id", "event_date", "log_id", "trial_id", "kind", "logged_at")),),
        _always(gold.trials),
        gold.TRIAL_DAYS,
    ),
    Part(
        "alarms",
        OfAlarms,
        "open_alarm_since",
        (Source(ALARMS, (), pl.col("is_open")),),
        _always(gold.alarms),
    ),
    Part(
        "encounters",
        OfEncounters,
        "admitted_at",
        (
            Source(
                EHR_ENCOUNTERS.silver,
                ("patient_id", "encounter_id", "kind", "department", "admitted_at", "discharged_at"),
            ),
        ),
        _always(gold.encounters),
    ),
    Part(
        "documents",
        OfDocuments,
        "latest_document_at",
        (Source(DOCUMENT_INDEX, ("patient_id", "path", "modified_at")),),
        _always(gold.documents),
    ),
    Part(
        "drugs",
        OfDrugs,
        "drugs",
        (Source(EHR_MEDICATIONS.silver), Source(REPORTS_BY_SUBSTANCE)),
        gold.drugs,
        changes_daily=True,
    ),
)
SOURCES = (*PERSON, *(source.table for part in PARTS for source in part.sources))
"""All tables that are read."""
