"""The page of a report: its question, and its newest rows. Pure."""

from datetime import datetime

import polars as pl

from assets.pages import page, section, shown, table, tiles


def report_page(name: str, question: str, rows: pl.DataFrame, written_at: datetime) -> str:
    """The page of a report, as HTML.

    Args:
        name: of the report.
        question: what it answers.
        rows: the newest ones.
        written_at: when they were read, UTC.
    """
    dates = next((column for column in rows.columns if rows.schema[column] == pl.Date), None)
    days = rows[dates].drop_nulls() if dates else pl.Series([], dtype=pl.Date)
    span = f"{shown(days.min())} to {shown(days.max())}" if len(days) else "all dates"
    title = name.replace("_", " ").capitalize()
    return page(
        title,
        question,
        (
            tiles([("Rows", shown(rows.height), ""), ("Dates", span, "")]),
            section("Rows", "The newest first.", table(rows, title)),
        ),
        f"As of {shown(written_at)} UTC. Times are UTC. The same rows are beside this page as Parquet.",
    )
