"""What is said to each database; of Azure SQL, which cannot be run here, also its tables, triggers and views."""

import io
import re
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Column, UniqueConstraint, event
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.schema import CreateIndex, CreateTable

from resources.store import State, Store, StoreError, _alembic
from resources.store_alarms import link_new, unlink_readings
from resources.store_tables import EDITABLE, Base, edit_trigger, key_of, view_statements
from resources.store_writes import load_statements, merge, mysql_upsert, sqlite_upsert
from tests.store.azure import AZURE
from tests.store.values import DAY

TABLES = Base.metadata.tables
DEVICE_DATA = TABLES["DeviceOperationalData"]
KEY = ("device_id", "timestamp")
COLUMNS = ("device_id", "timestamp", "battery_level")


DIALECTS = (("mssql", AZURE), ("mysql", mysql.dialect()), ("sqlite", sqlite.dialect()))


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_table_can_be_made_on_azure_sql_with_all_letters_and_microseconds(name):
    table = TABLES[name]
    text = str(CreateTable(table).compile(dialect=AZURE))
    assert f"CREATE TABLE {AZURE.identifier_preparer.format_table(table)} (" in text
    for column in table.columns:
        quoted = AZURE.identifier_preparer.quote(column.name)
        [line] = [each.strip() for each in text.splitlines() if each.strip().startswith(f"{quoted} ")]
        kind = line.removeprefix(quoted).split()[0].rstrip(",")
        assert kind in {
            "BIGINT",
            "BIT",
            "DATE",
            "DATETIME2(6)",
            "DOUBLE",
            "NVARCHAR(64)",
            "NVARCHAR(191)",
            "NVARCHAR(max)",
        }
    assert all(str(CreateIndex(index).compile(dialect=AZURE)) for index in table.indexes)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_no_index_has_longer_keys_than_azure_sql_takes(name):
    table = TABLES[name]
    keys = [each.columns for each in table.constraints if isinstance(each, UniqueConstraint)]
    assert all(size_of(each) <= 1700 for each in [*keys, *(index.columns for index in table.indexes)])
    assert size_of(table.primary_key.columns) <= 900


def size_of(columns: Iterable[Column[Any]]) -> int:
    """How many bytes a key has at most: two for a letter, and at most ten for a value of another type."""
    lengths: list[int | None] = [getattr(each.type, "length", None) for each in columns]
    return sum(10 if each is None else 2 * each for each in lengths)


def test_migrations_are_said_in_words_of_azure_sql(monkeypatch):
    class Empty:
        """A database in which nothing is."""

        def __init__(self, _: object) -> None: ...

        def has_table(self, _: str) -> bool:
            return False

        def get_columns(self, _: str) -> list[dict[str, str]]:
            return []

        get_indexes = get_columns

    monkeypatch.setattr(sqlalchemy, "inspect", Empty)
    said = io.StringIO()
    context = MigrationContext.configure(dialect=AZURE, opts={"as_sql": True, "output_buffer": said})
    vars(context.impl)["connection"] = SimpleNamespace(dialect=AZURE)
    scripts = ScriptDirectory.from_config(_alembic()).walk_revisions("base", "heads")
    with Operations.context(context):
        for script in reversed([*scripts]):
            script.module.upgrade()
    statements = [" ".join(each.split()) for each in said.getvalue().split("\nGO") if each.strip()]
    made = {re.split(r"[\[\] ]+", each)[2] for each in statements if each.startswith("CREATE TABLE")}
    assert made == TABLES.keys()
    # What SQLite and MySQL have, and Azure SQL has not.
    assert [each for each in statements if re.search(r"CREATE \w+ IF NOT|`|LIMIT|AUTO_INCREMENT", each)] == []
    assert statements[-7:] == [
        "UPDATE notification SET kind = COALESCE(CASE WHEN ISJSON(details) = 1 THEN "
        "JSON_VALUE(details, '$.transition') END, 'unknown') WHERE kind IS NULL;",
        "ALTER TABLE notification ALTER COLUMN kind NVARCHAR(64) NOT NULL;",
        "ALTER TABLE notification ADD CONSTRAINT uq_notification_kind UNIQUE "
        "(alarm_id, transition_index, kind, severity_rank, subscriber_id, channel);",
        "ALTER TABLE notification DROP CONSTRAINT uq_notification;",
        "ALTER TABLE notification ADD decision BIGINT NOT NULL DEFAULT '0';",
        "ALTER TABLE notification ADD CONSTRAINT uq_notification_decision UNIQUE "
        "(alarm_id, transition_index, kind, severity_rank, subscriber_id, channel, decision);",
        "ALTER TABLE notification DROP CONSTRAINT uq_notification_kind;",
    ]


def test_numbers_are_given_by_azure_sql_where_the_store_gives_them():
    text = str(CreateTable(TABLES["GlucoseReadings"]).compile(dialect=AZURE))
    assert "reading_id BIGINT NOT NULL IDENTITY" in text
    assert "IDENTITY" not in str(CreateTable(TABLES["Patient"]).compile(dialect=AZURE))


def test_triggers_and_views_of_azure_sql():
    for name in EDITABLE:
        key = key_of(TABLES[name])
        assert edit_trigger("mssql", name, key) == (
            f"CREATE TRIGGER [{name}_edited] ON [{name}] AFTER UPDATE AS IF NOT UPDATE(edited_at) UPDATE t "
            f"SET edited_at = SYSUTCDATETIME() FROM [{name}] t JOIN inserted i ON t.{key} = i.{key}"
        )
    latest, serious = view_statements("mssql")
    assert latest.startswith("CREATE VIEW [patient_status_latest] AS SELECT s.* FROM patient_status s")
    assert "MAX([timestamp])" in latest
    assert serious.endswith("WHERE serious = 1")


def test_a_transition_needs_its_alarm_and_goes_with_it():
    found = {name: str(CreateTable(TABLES["AlertLifecycle"]).compile(dialect=dialect)) for name, dialect in DIALECTS}
    assert all("REFERENCES" in text and "(alert_id) ON DELETE CASCADE" in text for text in found.values())
    assert "REFERENCES [Alerts] (alert_id)" in found["mssql"]


def test_azure_sql_looks_for_the_readings_of_alarms_without_a_lock_on_them():
    statements, store = list[str](), Store("sqlite://")

    def noted(statement: Any) -> list[tuple[Any, ...]]:
        statements.append(" ".join(str(statement.compile(dialect=AZURE)).split()))
        return [("a", 7)] if len(statements) == 1 else [("a",)]

    vars(store).update(selected=noted, apply=noted)
    link_new(store, "glucose_readings", DAY)
    unlink_readings(store, "glucose_readings")
    found, note, gone, _ = statements
    assert found == (
        "SELECT [Alerts].alert_id, (SELECT min([GlucoseReadings].reading_id) AS min_1 FROM [GlucoseReadings] WHERE "
        "[GlucoseReadings].timestamp = [Alerts].timestamp AND [GlucoseReadings].patient_id = [Alerts].patient_id) AS "
        "anon_1 FROM [Alerts] WHERE [Alerts].stream = :stream_1 AND [Alerts].reading_id IS NULL AND "
        "([Alerts].alert_type NOT IN (__[POSTCOMPILE_alert_type_1])) AND [Alerts].ingest_date >= :ingest_date_1"
    )
    assert note == (
        "UPDATE [Alerts] SET reading_id=CASE [Alerts].alert_id WHEN :param_1 THEN :param_2 END WHERE [Alerts].alert_id "
        "IN (__[POSTCOMPILE_alert_id_1])"
    )
    assert gone.endswith("AND [Alerts].reading_id IS NOT NULL AND [GlucoseReadings].reading_id IS NULL")


def test_azure_sql_merges_rows():
    assert merge(AZURE, DEVICE_DATA, COLUMNS, KEY, 2) == (
        "MERGE INTO [DeviceOperationalData] WITH (HOLDLOCK) AS t "
        "USING (VALUES (?, ?, ?), (?, ?, ?)) AS s (device_id, timestamp, battery_level) "
        "ON t.device_id = s.device_id AND t.timestamp = s.timestamp "
        "WHEN MATCHED THEN UPDATE SET t.battery_level = s.battery_level "
        "WHEN NOT MATCHED THEN INSERT (device_id, timestamp, battery_level) "
        "VALUES (s.device_id, s.timestamp, s.battery_level);"
    )


def test_mysql_reads_a_file_into_a_temporary_table_and_adds_rows_from_there():
    assert load_statements(mysql.dialect(), DEVICE_DATA, COLUMNS, KEY) == [
        "DROP TEMPORARY TABLE IF EXISTS `stage_DeviceOperationalData`",
        "CREATE TEMPORARY TABLE `stage_DeviceOperationalData` (device_id BIGINT, timestamp DATETIME(6), "
        "battery_level DOUBLE) CHARACTER SET utf8mb4",
        "LOAD DATA LOCAL INFILE '{file}' INTO TABLE `stage_DeviceOperationalData` CHARACTER SET utf8mb4 FIELDS "
        "TERMINATED BY '\\t' OPTIONALLY ENCLOSED BY '\"' ESCAPED BY '' LINES TERMINATED BY '\\n' "
        "(device_id, timestamp, battery_level)",
        "INSERT INTO `DeviceOperationalData` (device_id, timestamp, battery_level) SELECT device_id, timestamp, "
        "battery_level FROM `stage_DeviceOperationalData` ON DUPLICATE KEY UPDATE "
        "`DeviceOperationalData`.battery_level = `stage_DeviceOperationalData`.battery_level",
    ]


def test_rows_that_are_sent_one_by_one():
    assert mysql_upsert(mysql.dialect(), DEVICE_DATA, COLUMNS, KEY) == (
        "INSERT INTO `DeviceOperationalData` (device_id, timestamp, battery_level) VALUES (%s, %s, %s) "
        "ON DUPLICATE KEY UPDATE battery_level = VALUES(battery_level)"
    )
    assert sqlite_upsert(sqlite.dialect(), DEVICE_DATA, COLUMNS, KEY) == (
        'INSERT INTO "DeviceOperationalData" (device_id, timestamp, battery_level) VALUES (?, ?, ?) '
        "ON CONFLICT (device_id, timestamp) DO UPDATE SET battery_level = excluded.battery_level"
    )


@pytest.mark.parametrize("url", ["", "nonsense", "postgresql://u:secret@h/d", "oracle://u:secret@h/d"])
def test_a_url_of_an_unknown_database_is_refused_without_its_password(url):
    with pytest.raises(StoreError, match="PULSELAKE_OLTP is no URL of a database that is known") as told:
        Store(url)
    assert "secret" not in str(told.value)


def test_the_password_is_never_shown(tmp_path):
    store = Store("mysql://etl:secret@127.0.0.1:1/health")
    assert store.name == "mysql+pymysql://etl:***@127.0.0.1:1/health"
    with pytest.raises(StoreError, match="does not answer as it should") as told:
        store.state("Patient")
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((1213, "Deadlock found when trying to get lock"), "1213 Deadlock found when trying to get lock"),
        ((1062, "Duplicate entry 'O'Brien-7' for key 'uq_x'"), "1062 Duplicate entry '…' for key '…'"),
        (
            (2003, "Can't connect to MySQL server on 'db' (refused)"),
            "2003 Can't connect to MySQL server on '…' (refused)",
        ),
        (("database is locked",), "database is locked"),
        (
            ("Duplicate key in 'dbo.x'. The duplicate key value is (7, 2026).",),
            "Duplicate key in '…'. The duplicate key value is '…'.",
        ),
    ],
)
def test_what_a_driver_said_is_told_without_the_values_that_it_names(arguments, told):
    store = Store("sqlite://")
    with pytest.raises(StoreError) as found, store.reading():
        raise OperationalError("SELECT 1", None, Exception(*arguments))
    assert told in str(found.value)
    assert "Brien" not in str(found.value)


def test_a_table_that_azure_sql_misses_is_told_with_the_command_that_makes_it():
    store = Store("sqlite://")
    with pytest.raises(StoreError, match="is missing") as found, store.reading():
        raise ProgrammingError("SELECT 1", None, Exception("[42S02] Invalid object name 'notification'."))
    assert "pulselake oltp resync TABLE" in str(found.value)


def test_azure_sql_locks_the_rows_that_are_about_to_be_written(template, tmp_path):
    file = tmp_path / "store.db"
    file.write_bytes(template.read_bytes())
    store, said = Store(f"sqlite:///{file}"), list[str]()

    @event.listens_for(store._engine, "before_execute")
    def noted(_: Any, statement: Any, *__: Any) -> None:
        said.append(" ".join(str(statement.compile(dialect=AZURE)).split()))

    with store.step("Patient", None, State("")) as step:
        step.edited_at([1])
    assert any("FROM [Patient] WITH (UPDLOCK) WHERE" in each for each in said), said
    store.close()


def test_azure_sql_without_its_driver_names_the_extra():
    with pytest.raises(StoreError, match=r"pip install -e '\.\[mssql\]'"):
        Store("mssql://u:secret@h/d")
