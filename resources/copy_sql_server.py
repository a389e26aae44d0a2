"""SQL Server and Azure SQL as sources of copies."""

import polars as pl
import sqlalchemy as sa

from resources.copy_columns import INSTANT, MAX_DIGITS, CopyColumn
from resources.copy_source import PIECE_BYTES, CopyError, CopySource, Described, TableName, usable_key

_WHOLE = ("tinyint", "smallint", "int", "integer", "bigint")
_TEXTS = ("char", "varchar", "nchar", "nvarchar")
_BYTES = ("binary", "varbinary", "image", "timestamp", "rowversion")
_MONEY = {"money": pl.Decimal(19, 4), "smallmoney": pl.Decimal(10, 4)}


class SqlServerSource(CopySource):
    """A database of SQL Server or Azure SQL."""

    quotes = ("[", "]")

    def __init__(self, url: sa.URL, piece_bytes: int = PIECE_BYTES) -> None:
        super().__init__(url.set(drivername="mssql+pymssql"), piece_bytes)

    def all_tables(self) -> list[TableName]:
        found = self._ask(
            "SELECT TABLE_NAME, TABLE_SCHEMA, SCHEMA_NAME() FROM INFORMATION_SCHEMA.TABLES "
            "WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA <> 'sys'"
        )
        return [TableName(name, None if schema == usual else schema) for name, schema, usual in found]

    def describe(self, table: TableName) -> Described:
        schema = self._text(table.schema) if table.schema else "SCHEMA_NAME()"
        where = f"TABLE_SCHEMA = {schema} AND TABLE_NAME = {self._text(table.name)}"
        found = self._ask(
            "SELECT COLUMN_NAME, DATA_TYPE, NUMERIC_PRECISION, NUMERIC_SCALE, IS_NULLABLE "
            f"FROM INFORMATION_SCHEMA.COLUMNS WHERE {where} ORDER BY ORDINAL_POSITION",
            table,
        )
        if not found:
            raise CopyError(f"the table {table} of {self.name} is gone or cannot be looked at")
        columns = tuple(self._column(*row[:4]) for row in found)
        filled = {row[0] for row in found if row[4] == "NO"}
        keys: dict[str, list[str]] = {}
        for constraint, name in self._ask(
            "SELECT CONSTRAINT_NAME, COLUMN_NAME FROM INFORMATION_SCHEMA.KEY_COLUMN_USAGE "
            f"WHERE {where} AND CONSTRAINT_NAME IN (SELECT CONSTRAINT_NAME FROM INFORMATION_SCHEMA.TABLE_CONSTRAINTS "
            f"WHERE {where} AND CONSTRAINT_TYPE IN ('PRIMARY KEY', 'UNIQUE')) "
            "ORDER BY CONSTRAINT_NAME, ORDINAL_POSITION",
            table,
        ):
            keys.setdefault(constraint, []).append(name)
        key = usable_key([each for each in keys.values() if filled.issuperset(each)], columns)
        count = self.count(Described(table, columns, (), 0), None)
        return Described(table, columns, key, count)

    def _column(self, name: str, kind: str, digits: int | None, places: int | None) -> CopyColumn:
        column, kind = self._quoted(name), kind.lower().partition("(")[0]
        if kind in _WHOLE:
            return CopyColumn(name, pl.Int64(), column, can_be_key=True)
        if kind in _TEXTS:
            # Collations named SQL_… sort varchar in another way than they compare it with nvarchar, as literals are.
            return CopyColumn(name, pl.String(), column, can_be_key=kind in ("nchar", "nvarchar"))
        if kind in _BYTES:
            return CopyColumn(name, pl.Binary(), column)
        if kind in ("decimal", "numeric") and (digits or 0) <= MAX_DIGITS:
            return CopyColumn(name, pl.Decimal(digits, places or 0), column)
        if kind in _MONEY:
            return CopyColumn(name, _MONEY[kind], column)
        if kind in ("real", "float"):
            return CopyColumn(name, pl.Float64(), column)
        if kind == "bit":
            return CopyColumn(name, pl.Boolean(), column)
        if kind == "date":
            return CopyColumn(name, pl.Date(), column, can_be_key=True)
        if kind in ("datetime", "datetime2", "smalldatetime"):
            return CopyColumn(name, INSTANT, f"CAST({column} AS datetime2(6))")
        if kind == "datetimeoffset":
            return CopyColumn(name, INSTANT, f"CAST(SWITCHOFFSET({column}, '+00:00') AS datetime2(6))")
        return CopyColumn(name, pl.String(), f"CAST({column} AS nvarchar(max))")

    def _limited(self, columns: str, rest: str, rows: int | None) -> str:
        return f"SELECT {'' if rows is None else f'TOP {rows} '}{columns} {rest}"

    def _text(self, value: str) -> str:
        return "N'" + value.replace("'", "''") + "'"
