"""A copy that ends in the middle: stopped by an error at any commit, by a real kill, by the user, by another copy."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from assets.copied import Copied, Copier
from resources.copy_source import CopySource
from resources.lake import Lake
from tests.copying.conftest import SIZE, connected
from tests.copying.sources import opened
from tests.copying.test_copy import copied, expected, rows_in_lake, source

ROOT = Path(__file__).resolve().parents[2]


class KilledError(BaseException):
    """The process ends here."""


def copied_until(lake: Lake, opened: CopySource, table: str, commits: int) -> None:
    """Begins a copy and ends it after some commits, as a kill does."""
    seen = 0

    def count(_: str, rows: int) -> None:
        nonlocal seen
        seen += rows > 0
        if seen == commits:
            raise KilledError

    with pytest.raises(KilledError):
        copied(lake, opened, table, on_rows=count)


@pytest.mark.parametrize("commits", [1, 3])
def test_a_copy_with_a_key_goes_on_behind_its_last_piece(lake, omop_sqlite, commits):
    copied_until(lake, source(omop_sqlite), "concept_ancestor", commits)
    begun = set(rows_in_lake(lake, "concept_ancestor"))
    assert 0 < len(begun) < SIZE
    told = list[int]()
    done = copied(lake, source(omop_sqlite), "concept_ancestor", on_rows=lambda _, rows: told.append(rows))
    assert done["concept_ancestor"].outcome == "copied"
    # It says first what is there, and reads none of it again.
    assert told[0] == len(begun)
    assert sum(told) == SIZE
    assert rows_in_lake(lake, "concept_ancestor") == expected(omop_sqlite, "concept_ancestor")


def test_a_copy_begins_anew_where_rows_have_another_key_meanwhile(lake, tmp_path):
    url = f"sqlite:///{tmp_path}/coded.sqlite"
    for number, unique in enumerate(("code", "number")):
        with closing(sqlite3.connect(tmp_path / "coded.sqlite")) as connection:
            connection.execute("DROP TABLE IF EXISTS coded")
            connection.execute(f"CREATE TABLE coded (code TEXT NOT NULL, number INT NOT NULL, UNIQUE ({unique}))")
            connection.executemany("INSERT INTO coded VALUES (?, ?)", [(f"c{each}", each) for each in range(300)])
            connection.commit()
        if not number:
            copied_until(lake, source(url, 1_000), "coded", 1)
    assert copied(lake, source(url, 1_000), "coded")["coded"].rows == 300
    assert sorted(pl.read_delta(f"{lake.root}/bronze/coded")["number"]) == [*range(300)]


def test_a_copy_without_a_key_begins_anew_and_no_row_comes_twice(lake, omop_sqlite):
    copied_until(lake, source(omop_sqlite, 300), "fact_relationship", 2)
    assert rows_in_lake(lake, "fact_relationship")
    assert copied(lake, source(omop_sqlite, 300), "fact_relationship")["fact_relationship"].outcome == "copied"
    assert rows_in_lake(lake, "fact_relationship") == expected(omop_sqlite, "fact_relationship")


def test_a_complete_copy_is_kept_and_with_again_made_anew(lake, omop_sqlite):
    first = copied(lake, source(omop_sqlite), "person")["person"]
    version = DeltaTable(f"{lake.root}/bronze/person").version()
    kept = copied(lake, source(omop_sqlite), "person")["person"]
    assert (kept.outcome, kept.rows) == ("kept", 50)
    assert DeltaTable(f"{lake.root}/bronze/person").version() == version
    again = copied(lake, source(omop_sqlite), "person", again=True)["person"]
    assert (again.outcome, again.rows, again.checksum) == ("copied", 50, first.checksum)
    assert rows_in_lake(lake, "person") == expected(omop_sqlite, "person")


def test_a_copy_that_is_stopped_says_so_and_goes_on(lake, omop_sqlite):
    committed = list[int]()
    stopped = copied(
        lake,
        source(omop_sqlite),
        "measurement",
        on_rows=lambda _, rows: committed.append(rows),
        should_stop=lambda: sum(committed) > 0,
    )
    assert {each.outcome for each in stopped.values()} == {"stopped"}
    done = copied(lake, source(omop_sqlite), "measurement")
    assert {each.outcome for each in done.values()} == {"copied"}
    assert rows_in_lake(lake, "measurement") == expected(omop_sqlite, "measurement")


def test_of_two_copies_at_once_one_is_refused_and_no_row_comes_twice(lake, omop_sqlite):
    others = list[Copied]()

    def interfere(_: str, rows: int) -> None:
        if rows and not others:
            others.extend(Copier(lake, source(omop_sqlite)).copy(source(omop_sqlite).named(["concept_ancestor"])))

    slower = copied(lake, source(omop_sqlite), "concept_ancestor", on_rows=interfere)["concept_ancestor"]
    assert [each.outcome for each in others] == ["copied"]
    assert slower.outcome == "failed"
    assert "Nothing was written" in slower.reason
    assert rows_in_lake(lake, "concept_ancestor") == expected(omop_sqlite, "concept_ancestor")


@pytest.mark.crash
@pytest.mark.service
def test_rows_come_once_however_often_the_process_is_killed(lake, omop_mariadb):
    tables = ("measurement", "concept_ancestor", "fact_relationship", "death")
    for commits in (1, 3, 5):
        command = [sys.executable, "-m", "tests.copying.copy_worker", omop_mariadb, lake.root, *tables]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for _ in range(commits):
                process.stdout.readline()
            process.kill()
        assert process.wait() == -signal.SIGKILL
    done = copied(lake, source(omop_mariadb), *tables, verify=True)
    assert {each.outcome for each in done.values()} <= {"copied", "kept"}
    for table in tables:
        assert rows_in_lake(lake, table) == expected(omop_mariadb, table), table


def test_a_panic_of_a_library_costs_its_table_alone(lake, omop_sqlite):
    def panic(table: str, rows: int) -> None:
        if table == "bronze/person" and rows:
            raise pl.exceptions.PanicException("as Polars does of what it did not expect")

    done = copied(lake, source(omop_sqlite), "person", "death", on_rows=panic)
    assert {name: each.outcome for name, each in done.items()} == {"person": "failed", "death": "copied"}
    assert done["person"].reason == "PanicException"


@pytest.mark.service
def test_a_table_without_a_key_is_not_read_to_its_end_when_its_copy_stops(lake, mariadb):
    url = mariadb.url()
    with closing(connected(url)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE notes (said VARCHAR(255))")
        cursor.execute("INSERT INTO notes SELECT REPEAT('x', 250) FROM seq_1_to_200000")
        connection.commit()

        def sent() -> int:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Bytes_sent'")
            return int(cursor.fetchall()[0][1])

        before, committed = sent(), list[int]()
        done = copied(
            lake,
            source(url),
            "notes",
            on_rows=lambda _, rows: committed.append(rows),
            should_stop=lambda: sum(committed) > 0,
        )
        assert done["notes"].outcome == "stopped"
        # What the system holds for a connection is sent all the same.
        assert sent() - before < 25_000_000 < 200_000 * 250


@pytest.mark.service
@pytest.mark.filterwarnings("error")
def test_a_connection_that_is_lost_in_the_middle_is_told_as_that(lake, mariadb):
    url = mariadb.url()
    with closing(connected(url)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE notes (said VARCHAR(255))")
        cursor.execute("INSERT INTO notes SELECT REPEAT('x', 250) FROM seq_1_to_200000")
        connection.commit()

        def lose(_: str, rows: int) -> None:
            if rows:
                others = "FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
                cursor.execute(f"SELECT id {others}")
                for [thread] in cursor.fetchall():
                    cursor.execute(f"KILL CONNECTION {thread}")

        opened = source(url)
        assert "Lost connection to MySQL server" in copied(lake, opened, "notes", on_rows=lose)["notes"].reason
        assert opened.count(opened.describe(opened.named(["notes"])[0]), None) == 200_000


@pytest.mark.service
def test_a_source_that_changes_is_told_and_copied_anew(lake, mariadb):
    url = mariadb.url()
    with closing(connected(url)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE visits (id INTEGER NOT NULL PRIMARY KEY, said VARCHAR(50))")
        cursor.executemany("INSERT INTO visits VALUES (%s, %s)", [(each * 2, "x" * 40) for each in range(2000)])
        connection.commit()

        def change(_: str, rows: int) -> None:
            # A row behind the reader is not seen, one ahead of it is.
            if not rows:
                return
            cursor.execute("INSERT IGNORE INTO visits VALUES (1, 'late'), (100001, 'ahead')")
            connection.commit()

        first = copied(lake, source(url, 10_000), "visits", on_rows=change)["visits"]
    assert first.outcome == "failed"
    assert "2,001 rows were copied, and the source has 2,002 of them now" in first.reason
    again = copied(lake, source(url), "visits")["visits"]
    assert (again.outcome, again.rows) == ("copied", 2002)
    assert pl.read_delta(f"{lake.root}/bronze/visits")["id"].n_unique() == 2002


def test_columns_that_changed_begin_the_copy_anew(lake, omop_sqlite, tmp_path):
    copied_until(lake, source(omop_sqlite), "concept_ancestor", 2)
    file = tmp_path / "omop.sqlite"
    file.write_bytes(Path(omop_sqlite.removeprefix("sqlite:///")).read_bytes())
    other = copied(lake, opened(f"sqlite:///{file}"), "concept_ancestor")["concept_ancestor"]
    assert other.outcome == "failed"
    assert "is a copy of concept_ancestor of sqlite:///" in other.reason
    taken = copied(lake, opened(f"sqlite:///{file}"), "concept_ancestor", again=True)["concept_ancestor"]
    assert (taken.outcome, taken.rows) == ("copied", SIZE)
