"""A table of numbers, for tests of what the lake does with any table."""

from datetime import date

import dataframely as dy
import polars as pl

from resources.lake import LakeTable
from resources.table import Table

MONDAY, TUESDAY = date(2026, 11, 23), date(2026, 11, 24)
APP = "stream/0"


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
