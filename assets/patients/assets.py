"""The patients domain in Dagster: one table, made of those of all other domains."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from assets.patients.parts import SOURCES
from assets.patients.tables import PATIENT_360
from assets.patients_refresh import RECENT_DATES, Patient360Refresh
from assets.stream.asset import table_key
from resources.dagster_resources import LakeResource
from resources.settings import Settings
from resources.task_metrics import noted

GROUP = "patients"
KEY = table_key(PATIENT_360.name)
UNIQUE = dg.AssetCheckSpec("one_row_a_patient", asset=KEY, description="No two rows are of one patient.")
NONE_LOST = dg.AssetCheckSpec(
    "no_patient_lost",
    asset=KEY,
    description="Each patient of reference data, of the hospital and of streams who was known before the refresh has a "
    f"row; of tables by date, those of the newest {RECENT_DATES} dates.",
)


@dg.asset(
    key=KEY,
    deps=sorted({table_key(table.name) for table in SOURCES}),
    description=PATIENT_360.description,
    group_name=GROUP,
    kinds={"deltalake", "polars", "gold"},
    check_specs=[UNIQUE, NONE_LOST],
    pool=KEY.to_python_identifier(),
)
def patient_360(lake: LakeResource) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    gold, now = Patient360Refresh(lake.open()), datetime.now(UTC)
    known = gold.known(now)
    with noted(Settings().metrics, "gold", stream=GROUP, part=PATIENT_360.name) as note:
        note.rows = gold.refresh(now)
    yield dg.MaterializeResult(KEY, metadata={"patients": note.rows})
    repeated, lost = gold.repeated(), gold.lost(now, known)
    yield dg.AssetCheckResult(check_name=UNIQUE.name, passed=not repeated, metadata={"repeated": repeated})
    yield dg.AssetCheckResult(check_name=NONE_LOST.name, passed=not lost, metadata={"lost": lost})
