"""What is said to each database; of Azure SQL, which cannot be run here, also its tables, triggers and views."""

from typing import Any

import pytest
from sqlalchemy.dialects import mssql, mysql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from resources.store import Store, StoreError
from resources.store_tables import EDITABLE, Base, edit_trigger, key_of, view_statements
from resources.store_writes import load_statements, merge, mysql_upsert, sqlite_upsert

TABLES = Base.metadata.tables
DEVICE_DATA = TABLES["DeviceOperationalData"]
KEY = ("device_id", "timestamp")
COLUMNS = ("device_id", "timestamp", "battery_level")


def azure() -> Any:
    """The dialect as it is once a server has told its version."""
    dialect: Any = mssql
    found = dialect.dialect()
    found.server_version_info = (16,)
    found._setup_version_attributes()
    return found


AZURE = azure()


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


def test_azure_sql_without_its_driver_names_the_extra():
    with pytest.raises(StoreError, match=r"pip install -e '\.\[mssql\]'"):
        Store("mssql://u:secret@h/d")
