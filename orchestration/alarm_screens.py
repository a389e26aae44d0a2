"""What the commands about alarms print."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from assets.alarms.tables import ACKNOWLEDGED, CLEARED, UNACKNOWLEDGED
from orchestration.alarm_texts import MAX_READINGS_SHOWN, again_told, rule_told
from orchestration.alarms import contracts_with_alarms, names_of

if TYPE_CHECKING:
    from assets.stream.alarm_history import Explained
    from assets.stream.contract import Contract
    from resources.lake import Lake

SHOWN_ID = 8
"""How much of an id is shown in a list; it names the alarm as well."""
_COLOURS = {"urgent": "red", "warning": "yellow", "info": "cyan"}


def show_alarms(out: Console, alarms: pl.DataFrame, now: datetime) -> None:
    """A line for each alarm."""
    if alarms.is_empty():
        out.print("There is no such alarm. Without --since only alarms are listed that are open.")
        return
    names = names_of(contracts_with_alarms())
    grid = Grid(
        *("alarm", "of", "cause", "severity", "state", "lasts", "value", "worst"),
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for row in alarms.iter_rows(named=True):
        is_over = row["state"] == CLEARED
        grid.add_row(
            row["alarm_id"][:SHOWN_ID],
            f"{names[row['stream']]} {row['entity']}",
            row["cause"],
            f"[{_COLOURS[row['severity']]}]{row['severity']}[/]",
            _state_of(row),
            span_of((row["at"] if is_over else now) - row["raised_at"]),
            _number(row["value"]),
            _number(row["worst_value"]),
        )
    out.print(grid)
    counts = alarms.filter(pl.col("state") != CLEARED)["severity"].value_counts().rows()
    told = ", ".join(f"{count:,} {severity}" for severity, count in sorted(counts, reverse=True)) or "none"
    out.print(
        f"Open: {told}. `pulselake explain ALARM` shows why, `pulselake ack ALARM` acknowledges.", highlight=False
    )


def _state_of(row: Mapping[str, Any]) -> str:
    state = {UNACKNOWLEDGED: "open", ACKNOWLEDGED: "ack"}.get(row["state"], str(row["state"]))
    if row["until"] is not None:
        state += f" until {row['until']:%H:%M}"
    return state + (" (stale)" if row["is_stale"] else "") + (f" (tier {row['tier']})" if row["tier"] else "")


def show_explained(out: Console, contract: "Contract", lake: "Lake", alarm: "Explained") -> None:
    """Everything that is on record of an alarm."""
    first, last = alarm.transitions.row(0, named=True), alarm.transitions.row(-1, named=True)
    who = f"{contract.entity.removesuffix('_id')} {first['entity']}"
    out.print(f"Alarm {first['alarm_id']}: {first['cause']} of {who}, {last['state']}", highlight=False)
    out.print(rule_told(contract, lake, first), highlight=False)
    grid = Grid(
        "",
        "what",
        "at (UTC)",
        "severity",
        "value",
        "threshold",
        "by",
        "note",
        title="What happened",
        title_justify="left",
    )
    for row in alarm.transitions.iter_rows(named=True):
        grid.add_row(
            str(row["index"]),
            row["kind"],
            f"{row['at']:%Y-%m-%d %H:%M:%S}",
            row["severity"],
            _number(row["value"]),
            _number(row["threshold"]),
            escape(row["actor"] or ("the clock" if row["kind"] in ("escalated", "stale") else "a reading")),
            escape(row["note"] or ""),
        )
    out.print(grid)
    _show_readings(out, contract, alarm)
    out.print(again_told(alarm), highlight=False)


def _show_readings(out: Console, contract: "Contract", alarm: "Explained") -> None:
    columns = list(dict.fromkeys(rule.column for rule in contract.rules if rule.column in alarm.readings.columns))
    decided = alarm.transitions.select("hub_epoch", "partition", "sequence_number", "event_index").unique()
    shown = alarm.readings.join(decided, on=decided.columns, how="semi").head(MAX_READINGS_SHOWN)
    if shown.is_empty():
        return
    title = f"The readings that decided, of {alarm.readings.height:,} since an hour before"
    grid = Grid("measured (UTC)", "received", *columns, "raw body", title=escape(title), title_justify="left")
    for row in shown.iter_rows(named=True):
        grid.add_row(
            f"{row['measured_at']:%m-%d %H:%M:%S}",
            f"{row['received_at']:%m-%d %H:%M:%S}",
            *(_number(row[name]) for name in columns),
            escape((row["body"] or "archived")[:200]),
        )
    out.print(grid)


def span_of(span: timedelta) -> str:
    """A time for people: ``2 d 3 h``, ``5 h 10 min``, ``12 min``."""
    minutes = max(0, int(span.total_seconds() // 60))
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {rest} min" if hours else f"{rest} min"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
