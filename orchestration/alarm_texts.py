"""What is said of an alarm, on the command line and on the live page. It loads no Dagster."""

import polars as pl

from assets.stream.alarm_history import Explained
from assets.stream.contract import Contract
from resources.lake import Lake

MAX_READINGS_SHOWN = 24
"""How many of the readings that decided are shown at most."""


def rule_told(contract: Contract, lake: Lake, raised: dict[str, object], *, named: bool = True) -> str:
    """Which version of which rule raised an alarm, and why that one held.

    Args:
        contract, lake: the stream, and where its rules are.
        raised: the transition.
        named: whether it says who set the rule.
    """
    rule_id, version = raised["rule_id"], raised["rule_version"]
    if rule_id is None:
        return "No rule of the stream decided it: it is about readings that did not come, or were refused."
    rule = next((each for each in contract.rules if each.id == rule_id), None)
    if rule is not None and rule.version == version:
        return (
            f"Raised by rule {rule_id}, version {version}: {rule.column} {rule.comparison.replace('_', ' ')} "
            f"{raised['threshold']:g}. It comes with the stream, and no version for a scope or hours held."
        )
    table = contract.rule_table
    rows = (
        None
        if table is None
        else lake.table(table.table).scan().filter(pl.col("rule_id") == rule_id, pl.col("version") == version).collect()
    )
    if rows is None or rows.is_empty():
        return f"Raised by rule {rule_id}, version {version}, which is no longer on record."
    row = rows.row(0, named=True)
    hours = f", {row['hours_from']}-{row['hours_to']} local time" if row["hours_from"] else ""
    by = f" by {row['changed_by']}" if named and row["changed_by"] else ""
    return (
        f"Raised by rule {rule_id}, version {version}: {row['column']} {row['comparison'].replace('_', ' ')} "
        f"{row['threshold']:g}. It is for {row['scope']}{hours}, since {row['valid_from']:%Y-%m-%d %H:%M} UTC{by}: "
        "the most specific version that held."
    )


def again_told(alarm: Explained) -> str:
    """Whether the readings of an alarm give it again."""
    if alarm.is_same is None:
        return "It was not decided again: it is about no rule, or its readings are archived, quarantined or too many."
    if alarm.is_same:
        return (
            f"Decided again from {alarm.readings.height:,} readings: the same {alarm.transitions.height} transitions."
        )
    return (
        f"Decided again from {alarm.readings.height:,} readings: NOT the same. On record are "
        f"{', '.join(alarm.transitions['kind'])}; again it is {', '.join(alarm.again['kind']) or 'no alarm'}. "
        "Readings, rules or code have changed since; compare `pulselake rules show`, and the changelog."
    )
