"""A table of numbers, and time that passes, for tests of what the lake does with any table."""

import os
import re
from datetime import date
from pathlib import Path

import dataframely as dy
import polars as pl

from resources.lake import LakeTable
from resources.table import Table

MONDAY, TUESDAY = date(2026, 11, 23), date(2026, 11, 24)
APP = "stream/0"
HOUR_S = 3600


class Rows(dy.Schema):
    """One number of one day. Key: number."""

    number = dy.Int64(nullable=False)
    text = dy.String()
    ingest_date = dy.Date(nullable=False)


NUMBERS = Table("silver/numbers", Rows, ("ingest_date",))


def frame(*numbers: int, day: date = MONDAY) -> pl.DataFrame:
    rows = [(number, str(number), day) for number in numbers]
    return pl.DataFrame(rows, schema=NUMBERS.schema, orient="row")


def numbers(table: LakeTable) -> list[int]:
    return table.scan().select(pl.col("number").sort()).collect().to_series().to_list()


def age(table: LakeTable, hours: int) -> None:
    """Makes all that a table in a folder consists of older."""
    folder = Path(table.uri)
    times = {file: file.stat().st_mtime - hours * HOUR_S for file in folder.rglob("*") if file.is_file()}
    for entry in (folder / "_delta_log").glob("*.json"):
        stamps = re.compile(r'"(timestamp|deletionTimestamp)":(\d+)')
        entry.write_text(stamps.sub(lambda at: f'"{at[1]}":{int(at[2]) - hours * HOUR_S * 1000}', entry.read_text()))
    for entry in (folder / "_delta_log").glob("*.parquet"):
        older = pl.field("deletionTimestamp") - hours * HOUR_S * 1000
        pl.read_parquet(entry).with_columns(pl.col("remove").struct.with_fields(older)).write_parquet(entry)
    for file, time in times.items():
        os.utime(file, (time, time))
