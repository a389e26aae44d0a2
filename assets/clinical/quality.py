"""The page that says how good the clinical data of a load date are: loads, checks, quarantine by reason. Pure.

It holds counts, and names of tables, columns and reasons; no value of a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from html import escape

import polars as pl

_STYLE = (
    "body{font:15px system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1b1f24}"
    "table{border-collapse:collapse;margin:.5rem 0 2rem}th,td{border:1px solid #d0d7de;padding:.3rem .6rem;"
    "text-align:left}td.n{text-align:right;font-variant-numeric:tabular-nums}th{background:#f3f5f7}"
    ".bad{color:#b3261e;font-weight:600}.good{color:#1a7f37}"
)


@dataclass(frozen=True)
class Check:
    """What a check of a table found.

    Attributes:
        table: its name.
        name: of the check.
        passed: whether all is well.
        found: in words.
    """

    table: str
    name: str
    passed: bool
    found: str


def quality_page(day: date, loads: pl.DataFrame, reasons: pl.DataFrame, checks: Sequence[Check]) -> str:
    """The page of a load date, as HTML.

    Args:
        day: the load date.
        loads: rows of `audit.clinical_loads` of that date.
        reasons: ``table``, ``reason`` and ``rows``: what is in quarantine of that date.
        checks: of all tables, as they stand now.
    """
    rows, bad = int(loads["row_count"].sum()), int(loads["quarantined_count"].sum())
    failed = sum(not check.passed for check in checks)
    rejected = int(loads["is_rejected"].sum())
    judged = "good" if not (failed or rejected) else "bad"
    return "\n".join(
        (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Clinical data of {day}</title>',
            f"<style>{_STYLE}</style><h1>Clinical data of {day}</h1>",
            f'<p class="{judged}">{loads.height:,} loads with {rows:,} rows, of which {bad:,} are rejected; '
            f"{rejected:,} loads rejected as a whole; {failed:,} of {len(checks):,} checks failed.</p>",
            "<h2>Loads</h2>",
            _table(loads.select("source", "load_id", "loaded_at", "row_count", "quarantined_count", "reasons")),
            "<h2>Checks</h2>",
            _table(
                pl.DataFrame(
                    [(each.table, each.name, "passed" if each.passed else "failed", each.found) for each in checks],
                    schema=["table", "check", "result", "found"],
                    orient="row",
                )
            ),
            "<h2>Quarantine by reason</h2>",
            _table(reasons.select("table", "reason", "rows")),
            "</html>",
        )
    )


def _table(rows: pl.DataFrame) -> str:
    if rows.is_empty():
        return "<p>None.</p>"
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in rows.columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows.iter_rows())
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    if value is None:
        return "<td></td>"
    if isinstance(value, int):
        return f'<td class="n">{value:,}</td>'
    of_class = ' class="bad"' if value == "failed" else ""
    return f"<td{of_class}>{escape(str(value))}</td>"
