"""When `gold/patient_360` is refreshed: every two minutes at most, if a table that it is made of has moved on.

Some of its columns depend on the date, so a new day (UTC) is news too.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from assets.patients.assets import KEY
from assets.patients_refresh import Patient360Refresh
from orchestration.jobs import BACKGROUND, MAX_RUNTIME_TAG
from orchestration.sensors import GOLD_MAX_RUNTIME_S, Look, runs_of
from orchestration.sessions import decide
from resources.dagster_resources import LakeResource

INTERVAL_S = 120

patient_360_job = dg.define_asset_job(
    "patient_360",
    selection=dg.AssetSelection.assets(KEY),
    executor_def=dg.in_process_executor,
    tags={MAX_RUNTIME_TAG: str(GOLD_MAX_RUNTIME_S), **BACKGROUND},
    description="Brings gold/patient_360 up to date with the tables that it is made of.",
)


def patients_sensor() -> dg.SensorDefinition:
    """Makes `gold/patient_360` follow."""
    look: Look[bool] = Look("the tables that gold/patient_360 is made of")

    @dg.sensor(
        name="patients_sensor",
        job=patient_360_job,
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Every {INTERVAL_S} s: refreshes gold/patient_360 if a table that it is made of has moved on, and "
        "once after midnight (UTC).",
    )
    def sensor(context: dg.SensorEvaluationContext, lake: LakeResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
        try:
            is_pending = look.at(lambda: Patient360Refresh(lake.open()).is_pending(datetime.now(UTC)))
        except TimeoutError as error:
            yield dg.SkipReason(str(error))
            return
        runs = runs_of(context.instance, patient_360_job.name)
        decision = decide(int(is_pending), "table behind", runs, datetime.now(UTC))
        yield dg.RunRequest() if decision.start else dg.SkipReason(decision.reason)

    return sensor
