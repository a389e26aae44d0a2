"""House-keeping of gold: a table that cannot be maintained keeps no other from it."""

from pathlib import Path

import dagster as dg
import pytest

from assets.glucose import tables as glucose
from orchestration.schedules import maintain_gold
from resources.dagster_resources import LakeResource
from tests.resources.lakes import filled_lake


def test_a_gold_table_that_is_broken_is_named_and_the_others_are_maintained(tmp_path: Path) -> None:
    lake = filled_lake(tmp_path).lake
    for entry in (Path(lake.table(glucose.GLUCOSE_DAILY).uri) / "_delta_log").iterdir():
        entry.write_text("broken")
    before = lake.table(glucose.PATIENT_COMPARISON).version()
    with dg.build_op_context(resources={"lake": LakeResource(root=lake.root)}) as context:
        with pytest.raises(dg.Failure, match=r"not maintained; all others were\. gold/glucose_daily: "):
            maintain_gold(context)
    assert lake.table(glucose.PATIENT_COMPARISON).version() != before
