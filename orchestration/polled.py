"""Which reports were sent to the hub of adverse events, and how far the polls came: a table of the lake with its marks.

How reports are asked for and sent is in `orchestration.polling`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import dataframely as dy
import msgspec
import polars as pl

from assets.stream.contract import utc
from resources.lake import Lake
from resources.table import Table

POLLED_UNTIL, LOADED, ENDED_AT = "openfda/polled_until", "openfda/loaded", "openfda/ended_at"
"""Marks in the log of the table: two dates, as ordinals, and an instant, in seconds since 1970."""
IDENTITY = ("safetyreportid", "safetyreportversion", "receiptdate", "body_sha256")


class PolledRows(dy.Schema):
    """One version of a report that was sent to the hub. Key: all columns but the last two.

    The first three are as openFDA gives them. `body_sha256` is null but for a report without an id.
    """

    safetyreportid = dy.String(nullable=True)
    safetyreportversion = dy.String(nullable=True)
    receiptdate = dy.String(nullable=True)
    body_sha256 = dy.String(nullable=True)
    polled_at = utc()
    polled_on = dy.Date(nullable=False)


POLLED = Table("polls/openfda", PolledRows, partition_by=("polled_on",))
_NO_ROWS = pl.DataFrame(schema=POLLED.schema)


class PolledReports:
    """The table, for one writer at a time.

    Args:
        lake: where it is; it is created by `open`.
    """

    def __init__(self, lake: Lake) -> None:
        self._table = lake.table(POLLED)

    def open(self) -> None:
        """Creates the table where it is missing.

        Raises:
            SchemaError: it has columns that this version does not know.
        """
        self._table.ensure()

    def polled_until(self) -> date | None:
        """The newest date on which FDA received a report up to which all were read."""
        return _day(self._mark(POLLED_UNTIL))

    def loaded(self) -> date | None:
        """The load of openFDA after which a poll read everything."""
        return _day(self._mark(LOADED))

    def ended_at(self) -> datetime | None:
        """When the last poll ended without a failure."""
        at = self._mark(ENDED_AT)
        return None if at is None else datetime.fromtimestamp(at, UTC)

    def new(self, reports: Sequence[bytes]) -> pl.DataFrame:
        """Those that were not sent yet, each once: `number`, which is their place among the reports, and `IDENTITY`."""
        rows = pl.DataFrame(
            [(number, *_identity(report)) for number, report in enumerate(reports)],
            schema={"number": pl.Int64} | dict.fromkeys(IDENTITY, pl.String),
            orient="row",
        )
        number, day, days = pl.col("safetyreportid"), pl.col("receiptdate"), rows["receiptdate"]
        # Statistics of files and row groups by the receipt date leave out most of a large table.
        near = day.is_between(pl.lit(days.min(), pl.String), pl.lit(days.max(), pl.String)) | day.is_null()
        asked = number.is_in(rows["safetyreportid"].drop_nulls().unique().implode()) | number.is_null()
        known = self._table.scan().filter(near, asked).select(IDENTITY).collect(engine="streaming")
        once = rows.unique(IDENTITY, keep="first", maintain_order=True)
        return once.join(known, on=IDENTITY, how="anti", nulls_equal=True, maintain_order="left")

    def store(self, sent: pl.DataFrame, at: datetime) -> None:
        """Adds reports that the hub has, of which `new` gave the rows."""
        polled_at = pl.lit(at, POLLED.schema["polled_at"])
        self._table.append(sent.select(*IDENTITY, polled_at=polled_at, polled_on=at.date()), transactions={})

    def mark(self, marks: Mapping[str, int], at: datetime) -> None:
        """Sets marks, and keeps the table's files and its log few."""
        self._table.append(_NO_ROWS, transactions=marks)
        self._table.maintain([("polled_on", "=", at.date().isoformat())], today=at.date())

    def _mark(self, name: str) -> int | None:
        return self._table.transactions((name,)).get(name)


class _Named(msgspec.Struct):
    safetyreportid: Any = None
    safetyreportversion: Any = None
    receiptdate: Any = None


def _identity(report: bytes) -> tuple[str | None, str | None, str | None, str | None]:
    """What tells versions of reports apart, in the order of `IDENTITY`."""
    try:
        found = msgspec.json.decode(report, type=_Named)
    except msgspec.MsgspecError:
        # What is no report goes to the hub as well: the stream quarantines it.
        found = _Named()
    number, version, day = map(_text, (found.safetyreportid, found.safetyreportversion, found.receiptdate))
    return number, version, day, None if number else hashlib.sha256(report).hexdigest()


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _day(ordinal: int | None) -> date | None:
    return None if ordinal is None else date.fromordinal(ordinal)
