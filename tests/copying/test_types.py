"""Types and names that are hard to copy, in each kind of database."""

import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from resources.copy_columns import series
from resources.copy_mysql import MySqlSource
from tests.copying.conftest import connected
from tests.copying.sources import opened
from tests.copying.test_copy import copied
from tests.services.tds import TdsServer

TABLE = "odd `table %s"
ODD = f"""
    CREATE TABLE `{TABLE.replace("`", "``")}` (
        `select` INT UNSIGNED NOT NULL, `a b%` BIGINT UNSIGNED, `Größe` DECIMAL(38,30), huge DECIMAL(65,30),
        bit_1 BIT(1), bit_9 BIT(9), bit_64 BIT(64), at_time TIME(3), of_year YEAR, letter ENUM('x','y'),
        `set` SET('p','q'), json_text JSON, small FLOAT, wide DOUBLE, since DATETIME(6), day DATE,
        instant TIMESTAMP(6) NULL, bytes BINARY(4), place POINT, flag TINYINT(1),
        latin VARCHAR(20) CHARACTER SET latin1, columns TEXT, PRIMARY KEY (`select`)
    ) CHARACTER SET utf8mb4
"""
ROW = """
    (4294967295, 18446744073709551615, 12345678.123456789012345678901234567890, 99999999999999999999999999999999999.5,
    b'1', b'111111111', b'1111111111111111111111111111111111111111111111111111111111111111', '-100:00:00.5', 2026, 'y',
    'p,q', '{"a": 1}', 0.1, 0.1, '9999-12-31 23:59:59.999999', '2024-02-29', '2026-01-01 05:00:00.123456', x'00ff',
    POINT(1,2), 2, 'é', '😀')
"""


@pytest.mark.service
def test_types_of_mariadb_keep_their_values_by_both_drivers(lake, mariadb):
    url = mariadb.url()
    with closing(connected(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = '', time_zone = '+05:00'")
        cursor.execute(ODD)
        name = TABLE.replace("`", "``")
        cursor.execute(f"INSERT INTO `{name}` VALUES {ROW}")
        cursor.execute(
            f"INSERT INTO `{name}` (`select`, day, since) VALUES (1, '2026-00-15', '0000-00-00'), "
            "(2, '0000-00-00', '1000-01-01'), (3, NULL, NULL)"
        )
        connection.commit()
    source = opened(url)
    assert isinstance(source, MySqlSource)
    done = copied(lake, source, verify=True)[TABLE]
    assert (done.outcome, done.rows) == ("copied", 4)
    # Nothing made connectorx fail, so both drivers read the same.
    assert not source._slow
    assert done.reason == "dates that the calendar does not have are null: day 2, since 1"
    rows = pl.read_delta(f"{lake.root}/bronze/odd__table__s").sort("select")
    full = rows.row(3, named=True)
    assert full == {
        "select": 4294967295,
        "a b%": Decimal(2**64 - 1),
        "Größe": Decimal("12345678.123456789012345678901234567890"),
        "huge": "99999999999999999999999999999999999.500000000000000000000000000000",
        "bit_1": True,
        "bit_9": 511,
        "bit_64": Decimal(2**64 - 1),
        "at_time": "-100:00:00.500",
        "of_year": 2026,
        "letter": "y",
        "set": "p,q",
        "json_text": '{"a": 1}',
        "small": 0.10000000149011612,
        "wide": 0.1,
        "since": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        "day": date(2024, 2, 29),
        "instant": datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC),
        "bytes": b"\x00\xff\x00\x00",
        "place": b"\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf0?\x00\x00\x00\x00\x00\x00\x00@",
        "flag": 2,
        "latin": "é",
        "columns": "😀",
    }
    assert [value for name, value in rows.row(2, named=True).items() if name != "select"] == [None] * 21
    assert rows["since"][1] == datetime(1000, 1, 1, tzinfo=UTC)


@pytest.mark.service
def test_keys_of_texts_and_several_columns_are_read_in_the_order_of_the_database(lake, mariadb):
    url = mariadb.url()
    texts = [f"{text} {number}" for number in range(60) for text in ("ä", "Q", "a\\", "o'", "z", "%")]
    with closing(connected(url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE texts (word VARCHAR(20) NOT NULL, day DATE NOT NULL, number INTEGER NOT NULL, "
            "PRIMARY KEY (word, day, number)) CHARACTER SET utf8mb4"
        )
        cursor.executemany(
            "INSERT INTO texts VALUES (%s, '2026-01-01', 1), (%s, '2026-01-02', 1)", [(t, t) for t in texts]
        )
        connection.commit()
    source = opened(url)
    source._piece_bytes = 1_000
    done = copied(lake, source, verify=True)["texts"]
    assert (done.outcome, done.rows) == ("copied", 720)
    assert sorted(set(pl.read_delta(f"{lake.root}/bronze/texts")["word"])) == sorted(texts)


@pytest.mark.service
def test_a_key_of_dates_that_the_calendar_does_not_have_is_no_key(lake, mariadb):
    url = mariadb.url()
    with closing(connected(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        for table in ("eras", "whole_eras"):
            cursor.execute(f"CREATE TABLE {table} (day DATE NOT NULL, person INT NOT NULL, PRIMARY KEY (day, person))")
            cursor.execute(f"INSERT INTO {table} SELECT '2020-01-01' + INTERVAL seq DAY, 1 FROM seq_1_to_300")
        cursor.execute("INSERT INTO eras VALUES ('0000-00-00', 1), ('0000-00-00', 2), ('2026-00-15', 3)")
        connection.commit()
    source = opened(url)
    source._piece_bytes = 1_000
    keys = [source.describe(table).key for table in source.tables()]
    assert keys == [(), ("day", "person")]
    done = copied(lake, source, verify=True)
    assert {name: (each.outcome, each.rows) for name, each in done.items()} == {
        "eras": ("copied", 303),
        "whole_eras": ("copied", 300),
    }
    assert pl.read_delta(f"{lake.root}/bronze/eras")["day"].null_count() == 3


@pytest.mark.service
def test_the_calendar_has_no_year_0(lake, mariadb):
    url = mariadb.url()
    with closing(connected(url)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE years (id INT PRIMARY KEY, day DATE, at DATETIME(6))")
        cursor.execute("INSERT INTO years VALUES (1, '0000-12-31', '0000-12-31 23:59:59.999999')")
        cursor.execute("INSERT INTO years VALUES (2, '0001-01-01', '0001-01-01')")
        cursor.execute("CREATE TABLE days (day DATE PRIMARY KEY)")
        cursor.execute("INSERT INTO days VALUES ('0000-12-31'), ('0001-01-01')")
        connection.commit()
    done = copied(lake, opened(url), verify=True)
    assert {name: each.outcome for name, each in done.items()} == {"years": "copied", "days": "copied"}
    assert done["years"].reason == "dates that the calendar does not have are null: at 1, day 1"
    first = datetime(1, 1, 1, tzinfo=UTC)
    assert pl.read_delta(f"{lake.root}/bronze/years").sort("id").rows() == [(1, None, None), (2, first.date(), first)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "odd.sqlite"


def test_a_column_of_sqlite_gets_a_type_that_holds_what_is_in_it(lake, file):
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(
            'CREATE TABLE "group" (id INTEGER PRIMARY KEY, day DATE, price DECIMAL(10,2), count INTEGER, flag BOOLEAN, '
            "raw BLOB, at DATETIME, anything, good DECIMAL(10,2))"
        )
        connection.executemany(
            'INSERT INTO "group" VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)',
            [
                (1, "2026-02-28", 12.34, 7, 1, b"\x00\xff", "2026-01-01 10:00:00", 1, 0.1),
                (2, "2026-02-30", 12.345, "many", 2, "text", "2026-01-01T10:00:00+02:00", 2.5, 12),
                (3, None, None, None, None, None, None, b"\x01", None),
            ],
        )
        connection.commit()
    assert copied(lake, opened(f"sqlite:///{file}"))["group"].outcome == "copied"
    assert pl.read_delta(f"{lake.root}/bronze/group").sort("id").rows() == [
        (1, "2026-02-28", 12.34, "7", 1, b"\x00\xff", datetime(2026, 1, 1, 10, tzinfo=UTC), b"1", Decimal("0.10")),
        (2, "2026-02-30", 12.345, "many", 2, b"text", datetime(2026, 1, 1, 8, tzinfo=UTC), b"2.5", Decimal("12.00")),
        (3, None, None, None, None, None, None, b"\x01", None),
    ]


def test_values_that_no_number_or_text_holds_are_copied_as_they_are(lake, file):
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE note (id INTEGER PRIMARY KEY, said TEXT, amount NUMERIC, code INTEGER)")
        connection.execute("INSERT INTO note VALUES (1, CAST(x'e9' AS TEXT), 1.5, '99999999999999999999999')")
        connection.execute("INSERT INTO note VALUES (2, 'nul' || char(0) || 'é', 9007199254740993, 5)")
        connection.execute("CREATE TABLE counted (id INTEGER PRIMARY KEY, amount NUMERIC)")
        connection.execute("INSERT INTO counted VALUES (1, 1.5), (2, 9007199254740992)")
        connection.commit()
    done = copied(lake, opened(f"sqlite:///{file}"), verify=True)
    assert {name: each.outcome for name, each in done.items()} == {"note": "copied", "counted": "copied"}
    assert pl.read_delta(f"{lake.root}/bronze/note").sort("id").rows() == [
        (1, b"\xe9", "1.5", 1e23),
        (2, "nul\0é".encode(), "9007199254740993", 5.0),
    ]
    assert pl.read_delta(f"{lake.root}/bronze/counted")["amount"].to_list() == [1.5, 9007199254740992.0]


def test_a_key_of_sqlite_whose_values_have_several_types_is_no_key(lake, file):
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE codes (code PRIMARY KEY NOT NULL)")
        connection.executemany("INSERT INTO codes VALUES (?)", [(each,) for each in (*range(200), "5", "a")])
        connection.commit()
    source = opened(f"sqlite:///{file}")
    source._piece_bytes = 500
    assert copied(lake, source)["codes"].rows == 202


@pytest.mark.service
def test_keys_of_mariadb_are_of_many_types_and_an_index_serves_their_order(lake, mariadb):
    url = mariadb.url()
    with closing(connected(url)) as connection, connection.cursor() as cursor:
        for columns, values in (
            ("k BIGINT UNSIGNED NOT NULL", "18446744073709551615 - seq * 7"),
            ("k DATETIME(6) NOT NULL", "'1850-01-01 00:00:00.5' + INTERVAL seq SECOND"),
            ("k UUID NOT NULL", "UUID()"),
            ("k DATE NOT NULL", "'1850-01-01' + INTERVAL seq DAY"),
            ("k VARBINARY(20) NOT NULL", "UNHEX(MD5(seq))"),
        ):
            table = columns.split()[1].partition("(")[0].lower()
            cursor.execute(f"CREATE TABLE of_{table} ({columns}, v INT, PRIMARY KEY (k))")
            cursor.execute(f"INSERT INTO of_{table} SELECT {values}, seq FROM seq_1_to_300")
        cursor.execute("CREATE TABLE versioned (k INT PRIMARY KEY) WITH SYSTEM VERSIONING")
        cursor.execute("INSERT INTO versioned VALUES (1), (2)")
        cursor.execute("DELETE FROM versioned WHERE k = 2")
        connection.commit()
    source = opened(url)
    assert isinstance(source, MySqlSource)
    source._piece_bytes = 4_000
    for name in source.tables():
        described = source.describe(name)
        if str(name) not in ("of_varbinary", "versioned"):
            assert described.key == ("k",), name
            statement = source._select(described, after=next(source.pieces(described, None)).last, rows=10)
            [plan] = source._ask(f"EXPLAIN {statement}")
            assert "filesort" not in str(plan), name
    done = copied(lake, source, verify=True)
    assert {each.rows for name, each in done.items() if name != "versioned"} == {300}
    assert done["versioned"].rows == 1


def test_a_wide_table_of_sqlite_keeps_its_nulls_apart(lake, file):
    names = [f"column_{number}" for number in range(200)]
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"CREATE TABLE wide ({', '.join(f'{name} INTEGER' for name in names)})")
        for place in range(200):
            connection.execute(f"INSERT INTO wide ({names[place]}) VALUES (?)", [place])
        connection.commit()
    assert copied(lake, opened(f"sqlite:///{file}"), verify=True)["wide"].outcome == "copied"
    rows = pl.read_delta(f"{lake.root}/bronze/wide")
    assert sorted(rows.sum_horizontal()) == list(range(200))


def test_tables_of_sql_server_are_copied_over_its_protocol(lake):
    with TdsServer() as server:
        server.database.execute("create table dbo.Visits (id integer primary key, said varchar, day date)")
        server.database.execute(
            "insert into dbo.Visits select i, 'visit ' || i, date '2026-01-01' from range(500) t(i)"
        )
        server.database.execute('create schema lab; create table lab."Order" (id integer, said varchar)')
        server.database.execute("create view dbo.seen as select * from dbo.Visits")
        source = opened(server.url)
        source._piece_bytes = 4_000
        done = copied(lake, source)
    assert {name: (each.table, each.outcome, each.rows) for name, each in done.items()} == {
        # The stand-in says that its usual schema is another one.
        "dbo.Visits": ("bronze/dbo_Visits", "copied", 500),
        "lab.Order": ("bronze/lab_Order", "empty", 0),
    }
    assert sorted(pl.read_delta(f"{lake.root}/bronze/dbo_Visits").rows())[7] == (7, "visit 7", date(2026, 1, 1))
    assert any("TOP" in asked for asked in server.asked)


def test_texts_that_are_equal_in_the_order_of_their_column_are_all_copied(lake, file):
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE words (word TEXT NOT NULL COLLATE NOCASE)")
        connection.execute("CREATE UNIQUE INDEX exact ON words (word COLLATE BINARY)")
        words = [f"{letter}{number}" for number in range(40) for letter in "aA"]
        connection.executemany("INSERT INTO words VALUES (?)", [[word] for word in words])
        connection.commit()
    source = opened(f"sqlite:///{file}")
    source._piece_bytes = 100
    assert copied(lake, source)["words"].outcome == "copied"
    assert sorted(pl.read_delta(f"{lake.root}/bronze/words")["word"]) == sorted(words)


def test_decimals_of_all_digits_that_the_lake_can_hold_keep_them():
    values = [Decimal("-12345678.123456789012345678901234567890"), Decimal(0), None]
    assert series("price", values, pl.Decimal(38, 30)).to_list() == values
    with pytest.raises(ValueError, match="column 'price'"):
        series("price", [Decimal("0.0000000000000000000000000000001")], pl.Decimal(38, 30))


def test_a_varchar_of_sql_server_is_no_key(lake):
    with TdsServer() as server:
        server.database.execute("create table dbo.Codes (code varchar primary key, said varchar)")
        source = opened(server.url)
        [table] = source.tables()
        assert source.describe(table).key == ()


@pytest.mark.service
def test_a_database_with_certificates_is_not_read_past_them(lake, mariadb, monkeypatch):
    url = mariadb.url()
    with closing(connected(url)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE visits (id INTEGER NOT NULL PRIMARY KEY)")
        cursor.execute("INSERT INTO visits VALUES (1), (2)")
        connection.commit()
    asked = list[str]()
    monkeypatch.setattr("resources.copy_mysql.connectorx.read_sql", lambda *_, **__: asked.append("in the clear"))
    # The server has no certificate: what is tested is who is asked.
    assert copied(lake, opened(f"{url}?ssl_disabled=true"))["visits"].rows == 2
    assert not asked
