"""The audit of loads: what is on record of each kind of work, and of work that failed."""

import logging
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from assets.clinical.sources import EHR
from assets.clinical_loads import LoadError
from assets.glucose.assets import CONTRACT
from assets.reference.tables import PATIENTS
from assets.reference_store import put
from assets.stream.rebuild import rebuild
from orchestration.system import SQL, tables, views
from resources.audit import AUDIT, audited, author, in_one_commit
from resources.lake import Lake, SchemaError
from resources.reports import Report, build_report, report_analytics, reports, write_report
from tests.clinical.hospital import Database, loader, reading, silver

BROKEN = Report("broken", "A report.", "SELECT nothing FROM nowhere")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def on_record(lake: Lake) -> list[dict[str, Any]]:
    return lake.table(AUDIT).scan().sort("began_at").collect().to_dicts()


def test_a_clinical_load_says_who_what_whence_and_which_versions(lake, tmp_path):
    database = Database(tmp_path)
    database.insert(reading(0), reading(1), reading(2, patient_id=None))
    began = datetime.now(UTC)
    loader(lake).load(database.source())
    silver(lake).refresh()
    load, cleaned = on_record(lake)
    assert (load["kind"], load["table_name"], load["source"]) == ("clinical load", "bronze/ehr", "ehr")
    assert (load["rows_in"], load["rows_out"], load["rows_rejected"]) == (3, 3, 0)
    assert (load["version_before"], load["version_after"], load["outcome"]) == (None, 1, "succeeded")
    assert load["done_by"] == author()
    assert len(str(load["checksum"])) == 32
    assert began <= load["began_at"] <= load["ended_at"] <= datetime.now(UTC)
    assert (cleaned["kind"], cleaned["rows_in"], cleaned["rows_out"], cleaned["rows_rejected"]) == (
        "clinical silver",
        3,
        2,
        1,
    )


def test_a_load_that_failed_is_on_record_with_its_reason_and_no_value(lake, tmp_path):
    database = Database(tmp_path)
    database.insert(*(reading(number, reading="secret value") for number in range(20)))
    with pytest.raises(LoadError):
        loader(lake).load(database.source())
    database.execute("DROP TABLE EHR")
    with pytest.raises(Exception, match="no such table"):
        loader(lake).load(database.source())
    refused, away = on_record(lake)
    assert refused["outcome"] == "failed"
    assert (refused["rows_in"], refused["rows_out"], refused["rows_rejected"]) == (20, 0, 20)
    assert "'reading' is Float64" in str(refused["reason"])
    assert "secret" not in str(refused["reason"])
    assert "no such table" in str(away["reason"])


def test_an_error_of_others_is_on_record_by_its_type_only(lake):
    with pytest.raises(ValueError, match="patient 7"), audited(lake, "copy", "bronze/x"):
        raise ValueError("patient 7 has 120")
    with pytest.raises(KeyboardInterrupt), audited(lake, "copy", "bronze/x"):
        raise KeyboardInterrupt
    assert [row["reason"] for row in on_record(lake)] == ["ValueError", "KeyboardInterrupt"]


def test_rows_are_added_and_never_changed(lake):
    for _ in range(3):
        with audited(lake, "copy", "bronze/x") as entry:
            entry.rows_out = 1
    assert len(on_record(lake)) == 3
    delta = DeltaTable(f"{lake.root}/audit/loads")
    with pytest.raises(Exception, match=r"(?i)append"):
        delta.delete("rows_out = 1")
    with pytest.raises(Exception, match=r"(?i)append"):
        delta.update({"kind": "'nothing'"})
    # Making its files fewer changes no row.
    lake.table(AUDIT).maintain([], small_files=1)
    assert len(on_record(lake)) == 3


def test_an_audit_that_cannot_be_written_is_told_and_the_load_counts(lake, tmp_path, caplog):
    blocked = Path(lake.root) / "audit"
    blocked.parent.mkdir()
    blocked.write_text("a file in its place")
    database = Database(tmp_path)
    database.insert(reading(0))
    with caplog.at_level(logging.ERROR, logger="resources.audit"):
        assert loader(lake).load(database.source()).rows == 1
    assert [record.getMessage() for record in caplog.records] == ["the audit was not written"]
    assert lake.table(EHR.bronze).count() == 1


def test_rows_of_many_threads_are_all_there(lake):
    def work() -> None:
        with audited(lake, "copy", "bronze/x"):
            pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(on_record(lake)) == 4


def test_reports_of_a_run_are_one_commit_and_failures_are_among_them(lake):
    analytics = report_analytics(lake, tables(), views())
    good = next(each for each in reports(SQL / "reports") if each.name == "quarantine_by_reason")
    with in_one_commit(lake):
        write_report(analytics, good)
        with pytest.raises(ValueError, match="nowhere"):
            write_report(analytics, BROKEN)
    rows = on_record(lake)
    assert [(row["kind"], row["outcome"]) for row in rows][-1] == ("report", "failed")
    assert "nowhere" in str(rows[-1]["reason"])
    # The creation, and one commit for all rows.
    assert lake.table(AUDIT).version() == 1


def test_reference_data_are_on_record_and_so_is_a_rebuild_that_could_not_be(lake):
    rows = pl.DataFrame({name: [None] for name in PATIENTS.cells}).with_columns(patient_id=pl.lit(1))
    schema = PATIENTS.table.schema
    rows = rows.select(pl.col(name).cast(schema[name]) for name in PATIENTS.cells)
    now = datetime.now(UTC)
    put(lake, PATIENTS, rows, valid_from=now - timedelta(days=1), clock=lambda: now)
    rebuild(CONTRACT, lake, date(2026, 11, 1))
    loaded, rebuilt = on_record(lake)
    assert (loaded["kind"], loaded["table_name"], loaded["rows_out"]) == ("reference load", "reference/patients", 1)
    assert (rebuilt["kind"], rebuilt["table_name"]) == ("rebuild", "silver/glucose_readings")
    assert rebuilt["source"] == "bronze/glucose_readings of 2026-11-01"


def test_the_compliance_report_says_where_rejected_rows_are(lake, tmp_path):
    database = Database(tmp_path)
    database.insert(reading(0), reading(2, patient_id=None))
    now = datetime.now(UTC)
    loader(lake, now=now).load(database.source())
    silver(lake).refresh()
    with pytest.raises(SchemaError), audited(lake, "copy", "bronze/x", source="somewhere"):
        raise SchemaError("columns differ")
    report = next(each for each in reports(SQL / "reports") if each.name == "load_compliance")
    found = build_report(report_analytics(lake, tables(), views()), report).rows(named=True)
    by_kind = {row["kind"]: row for row in found}
    assert by_kind["clinical silver"]["rejected_rows_are_in"] == "quarantine.ehr"
    assert by_kind["copy"]["reason"] == "columns differ"
    assert by_kind["clinical load"]["version_after"] == 1
