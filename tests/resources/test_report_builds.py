"""Of several reports one that fails stops no other, in Dagster and on the command line."""

from pathlib import Path

import dagster as dg
import pytest

from assets.reports import report_assets
from orchestration import work
from resources.dagster_resources import LakeResource
from resources.lake import Lake
from resources.reports import ReportsError, reports, stored_reports
from tests.resources.lakes import empty_lake

pytestmark = pytest.mark.slow

FILES = {
    "a_typo": "-- Which?\nSELECT nope;\n",
    "b_sound": "-- How many?\nSELECT 1::BIGINT AS one;\n",
    "c_data": "-- Who?\nSELECT ('Zoë ' || i)::BIGINT AS a FROM range(2) t(i);\n",
    "d_mute": "SELECT 1::BIGINT AS one;\n",
    "e_large": "-- How?\nSELECT count(DISTINCT repeat('x', 100000) || i)::BIGINT AS a FROM range(100000) t(i);\n",
    "f_sound": "-- How many?\nSELECT 2::BIGINT AS two;\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "reports"
    folder.mkdir()
    for name, sql in FILES.items():
        (folder / f"{name}.sql").write_text(sql, encoding="utf-8")
    return folder


def check(said: str) -> None:
    assert said.startswith("4 of the reports could not be built and keep the rows they had; the others are built.")
    for part in (
        "a_typo: Binder Error",
        "c_data: the statement failed",
        "d_mute: d_mute.sql: begin",
        "e_large: Out of",
    ):
        assert part in said
    assert "Zoë" not in said


def test_in_dagster_the_others_are_built_and_the_run_fails_with_the_names(tmp_path: Path, folder: Path) -> None:
    lake = LakeResource(root=str(tmp_path / "lake"))
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [report_assets(reports(folder), [])], instance=instance, resources={"lake": lake}, raise_on_error=False
        )
        logged = " ".join(entry.user_message for entry in instance.all_logs(result.run_id))
    assert not result.success
    assert [each.asset_key.path[-1] for each in result.asset_materializations_for_node("build_reports")] == [
        "report_b_sound",
        "report_f_sound",
    ]
    [failure] = [event for event in result.all_events if event.is_step_failure]
    told = failure.step_failure_data.user_failure_data
    assert told is not None
    check(str(told.description))
    assert "Report e_large was not built: Out of Memory" in logged
    assert "Zoë" not in logged


def test_a_report_that_is_asked_for_alone_is_built_though_others_are_wrong(tmp_path: Path, folder: Path) -> None:
    lake = LakeResource(root=str(tmp_path / "lake"))
    result = dg.materialize(
        [report_assets(reports(folder), [])], resources={"lake": lake}, selection="gold/report_b_sound"
    )
    assert result.success


def test_on_the_command_line_the_others_are_built_too(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "SQL", folder.parent)
    lake = Lake(str(tmp_path / "lake"))
    with pytest.raises(ReportsError) as failed:
        work.refresh_reports(lake)
    check(str(failed.value))
    assert [table.name for table in stored_reports(lake, reports(folder))] == [
        "gold/report_b_sound",
        "gold/report_f_sound",
    ]


def test_a_report_s_upstream_are_the_tables_of_all_streams(tmp_path: Path) -> None:
    (tmp_path / "all.sql").write_text("-- How many?\nSELECT count(*)::BIGINT AS n FROM silver.all_streams;\n")
    lake = empty_lake(tmp_path / "lake")
    [key] = (assets := report_assets(reports(tmp_path), lake.tables, lake.views)).keys
    assert {each.to_user_string() for each in assets.asset_deps[key]} == {
        "silver/glucose_readings",
        "silver/device_readings",
        "silver/vitals",
    }


def test_a_report_that_takes_too_long_stops_no_other(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "b_endless.sql").write_text("-- How many?\nSELECT count(*)::BIGINT AS n FROM range(1000000000000);\n")
    monkeypatch.setattr(work, "SQL", folder.parent)
    monkeypatch.setattr("resources.reports.TIMEOUT_S", 3.0)
    with pytest.raises(ReportsError, match=r"b_endless: Stopped: the statement takes longer than 3 s"):
        work.refresh_reports(lake := Lake(str(tmp_path / "lake")))
    assert {"gold/report_b_sound", "gold/report_f_sound"} == {
        each.name for each in stored_reports(lake, reports(folder))
    }
