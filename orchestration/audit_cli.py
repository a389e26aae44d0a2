"""The command `pulselake audit`."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.markup import escape

from orchestration.explained import command_settings, explained
from orchestration.instants import INSTANT, instant
from orchestration.terminal import err, out

DAYS, MAX_SHOWN = 7, 200


def audit(
    since: Annotated[
        str | None, typer.Option(metavar="INSTANT", help=f"What ended since then; default: {DAYS} days. {INSTANT}")
    ] = None,
    table: Annotated[str | None, typer.Option(help="Of one table: bronze/ehr, or bronze.ehr.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only what failed.")] = False,
) -> None:
    """Show who loaded, copied or made what anew, when, and how it ended; all of it is in SQL as audit.loads."""
    import polars as pl

    from orchestration.system import open_lake
    from resources.audit import AUDIT, FAILED

    after = instant(since, "--since") if since else datetime.now(UTC) - timedelta(days=DAYS)
    with explained():
        rows = open_lake(command_settings()).table(AUDIT).scan().filter(pl.col("ended_at") >= after)
        if table:
            rows = rows.filter(pl.col("table_name") == table.replace(".", "/", 1))
        if failed:
            rows = rows.filter(pl.col("outcome") == FAILED)
        found = rows.sort("ended_at").collect()
    _show(found.tail(MAX_SHOWN).to_dicts())
    if found.height > MAX_SHOWN:
        err.print(f"These are the newest {MAX_SHOWN} of {found.height:,}. `pulselake sql` shows all: audit.loads.")


def _show(rows: list[dict[str, object]]) -> None:
    for row in rows:
        ended = row["ended_at"]
        assert isinstance(ended, datetime)
        known = [each for each in ("in", "out", "rejected") if row[f"rows_{each}"] is not None]
        counts = ", ".join(f"{row[f'rows_{each}']:,} {each}" for each in known)
        before, after = ("–" if row[name] is None else row[name] for name in ("version_before", "version_after"))
        told = (f"{ended:%m-%d %H:%M:%S}", row["kind"], row["table_name"], counts, f"version {before} → {after}")
        out.print(escape("  ".join(str(each) for each in told if each)), highlight=False)
        source = f" from {row['source']}" if row["source"] else ""
        out.print(escape(f"      by {row['done_by']}{source}"), highlight=False)
        if row["reason"]:
            out.print(f"      [red]failed: {escape(str(row['reason']))}[/]", highlight=False)
    out.print(f"{len(rows):,} loads." if rows else "No load is on record.", highlight=False)
