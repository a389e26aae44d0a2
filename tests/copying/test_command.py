"""The commands `pulselake copy` and `pulselake audit`, and copies in Dagster."""

import io
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from rich.console import Console
from typer.testing import CliRunner

from orchestration.asking import analytics
from orchestration.cli import app
from orchestration.copied import COPIED_KEY, COPIED_PARTITIONS, copied_source, copied_tables_asset, copy_database
from orchestration.copying import OWN_TABLES
from orchestration.system import tables, views
from resources.audit import AUDIT
from resources.lake import Lake
from resources.settings import Settings
from tests.copying.sources import opened
from tests.copying.test_copy import copied
from tests.services.mariadb import MariaDb

PASSWORD, IN_URL = "p@ss/w:rd", "p%40ss%2Fw%3Ard"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PULSELAKE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def url(tmp_path: Path) -> str:
    file = tmp_path / "small.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE person (person_id INTEGER PRIMARY KEY, said TEXT)")
        connection.executemany("INSERT INTO person VALUES (?, ?)", [(each, f"é{each}") for each in range(30)])
        connection.execute("CREATE TABLE empty (id INTEGER PRIMARY KEY, day DATE)")
        # A name of a table of Pulselake's own.
        connection.execute("CREATE TABLE Vitals (id INTEGER PRIMARY KEY)")
        connection.commit()
    return f"sqlite:///{file}"


def test_no_copy_may_have_the_name_of_an_own_table():
    names = {each.name for each in tables()} | {each.name for each in views()}
    assert {each for each in names if each.startswith("bronze/")} == OWN_TABLES


def test_a_database_without_tables_is_no_success(home, tmp_path):
    (tmp_path / "empty.sqlite").touch()
    done = CliRunner().invoke(app, ["copy", "--from", f"sqlite:///{tmp_path}/empty.sqlite", "--all"])
    assert done.exit_code == 1
    assert "empty.sqlite has no table" in done.stderr


def test_one_bad_table_stops_no_other_and_is_on_record(home, url):
    done = CliRunner().invoke(app, ["copy", "--from", url, "--all"])
    assert done.exit_code == 1
    assert "1 copied, 1 skipped as empty, 0 complete before, 1 failed." in done.stdout
    assert "bronze/Vitals is a table of Pulselake's own" in " ".join(done.stdout.replace("│", " ").split())
    lake = Lake(str(home / "lake"))
    rows = analytics(lake, Settings()).query("SELECT count(*), max(said) FROM bronze.person").row(0)
    assert rows == (30, "é9")
    told = {row["table_name"]: row for row in lake.table(AUDIT).scan().collect().to_dicts()}
    assert told["bronze/person"]["rows_out"] == 30
    assert told["bronze/person"]["checksum"]
    assert told["bronze/person"]["outcome"] == told["bronze/empty"]["outcome"] == "succeeded"
    assert told["bronze/Vitals"]["outcome"] == "failed"
    shown = CliRunner().invoke(app, ["audit", "--failed"]).stdout
    assert "bronze/Vitals" in shown
    assert "bronze/person" not in shown
    assert "30 in, 30 out" in CliRunner().invoke(app, ["audit", "--table", "bronze.person"]).stdout
    # With another name it is no danger.
    assert CliRunner().invoke(app, ["copy", "--from", url, "--tables", "vitals", "--prefix", "old_"]).exit_code == 0
    assert (home / "lake/bronze/old_Vitals").is_dir()


def test_an_empty_table_is_copied_on_a_terminal_too(home, url, monkeypatch):
    # Bars are drawn there only.
    monkeypatch.setenv("TERM", "xterm")
    terminal = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr("orchestration.copy_cli.err", terminal)
    done = CliRunner().invoke(app, ["copy", "--from", url, "--tables", "person,empty"])
    assert done.exit_code == 0
    assert "1 copied, 1 skipped as empty, 0 complete before, 0 failed." in done.stdout


def test_what_is_not_named_or_not_there_is_told_before_anything_is_copied(home, url, monkeypatch):
    def said(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["copy", *arguments])
        assert done.exit_code == 1
        return " ".join(done.output.split())

    assert "--tables person,measurement, or --all" in said("--from", url)
    assert "--tables person,measurement, or --all" in said("--from", url, "--tables", " , ")
    assert "PULSELAKE_COPY_FROM" in said("--all")
    assert "NO_SUCH_URL is not set" in said("--from", "NO_SUCH_URL", "--all")
    assert "has no table 'nonsense'" in said("--from", url, "--tables", "person,nonsense")
    assert "cannot be copied" in said("--from", "postgresql://host/database", "--all")
    assert "cannot be read" in said("--from", "sqlite:////no/such/file.sqlite", "--all")
    assert not (home / "lake/bronze").exists()
    monkeypatch.setenv("MY_URL", url)
    assert CliRunner().invoke(app, ["copy", "--from", "MY_URL", "--tables", "PERSON"]).exit_code == 0


@pytest.mark.service
def test_a_password_is_nowhere_to_be_seen(home, mariadb: MariaDb):
    command = [sys.executable, "-m", "orchestration.cli", "copy", "--all", "--from"]
    secret = f"mysql://nobody:{IN_URL}@127.0.0.1:{mariadb.port}/mysql"
    with subprocess.Popen(
        [*command, secret], cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        shown, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "Access denied" in shown
    assert PASSWORD not in shown
    assert IN_URL not in shown
    kept = [file.read_bytes() for file in home.rglob("*") if file.is_file()]
    assert not [each for each in kept if PASSWORD.encode() in each or IN_URL.encode() in each]


@pytest.mark.service
def test_dagster_copies_all_tables_and_any_of_them_anew(home, url, monkeypatch):
    monkeypatch.setenv("PULSELAKE_COPY_FROM", url)
    with dg.DagsterInstance.ephemeral() as instance:
        first = copy_database.execute_in_process(instance=instance, raise_on_error=False)
        assert not first.success
        assert set(instance.get_dynamic_partitions(COPIED_PARTITIONS.name or "")) == {"person", "empty", "Vitals"}
        assert instance.get_materialized_partitions(COPIED_KEY) == {"person", "empty"}
        again = dg.materialize(
            [copied_source, copied_tables_asset], instance=instance, partition_key="person", selection=[COPIED_KEY]
        )
        assert again.success
    lake = Lake(str(home / "lake"))
    rows = lake.table(AUDIT).scan().filter(pl.col("table_name") == "bronze/person").sort("began_at").collect()
    assert [who.split(" (")[0] for who in rows["done_by"]] == [f"run {first.run_id}", f"run {again.run_id}"]
    assert rows["rows_out"].to_list() == [30, 30]


def test_a_copy_of_another_database_is_not_overwritten(lake, url, tmp_path):
    copied(lake, opened(url), "person")
    other = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE person (id INTEGER PRIMARY KEY)")
    done = copied(lake, opened(f"sqlite:///{other}"), "person")["person"]
    assert done.outcome == "failed"
    assert "choose another name with --prefix, or replace it with --again" in done.reason
    assert pl.read_delta(f"{lake.root}/bronze/person").height == 30
