"""Drug safety: reactions by drug, age groups, overdoses, and signals of disproportionate reporting."""

from collections.abc import Callable, Sequence

import polars as pl
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dashboard import history
from dashboard.charts.bars import bars, columns
from dashboard.charts.forest import PAIR, forest
from dashboard.charts.svg import NARROW, WIDE, Size
from dashboard.files import file_of
from dashboard.pages import page, render, site_of

DRUGS, REACTIONS, SIGNALS, IN_FOREST = 300, 12, 50, 15
AGE_GROUPS = ("0-1", "2-11", "12-17", "18-44", "45-64", "65-74", "75+", "unknown")
_SIZES = (WIDE, NARROW)


@page("safety")
def safety(request: Request) -> Response:
    """All reports, or those of one drug."""
    lake = site_of(request).lake
    drugs = history.drugs(lake, DRUGS)
    drug = request.query_params.get("drug", "").strip() or None
    substance = request.query_params.get("substance", "").strip() or None
    if drug is not None and drug not in drugs:
        raise HTTPException(400, "No report names this drug. Choose one of the list.")
    signals = history.safety_signals(lake, substance)
    return render(
        request,
        "safety.html",
        drugs=drugs,
        drug=drug or "",
        substances=history.safety_signals(lake)["substance"].unique().sort().to_list(),
        substance=substance or "",
        signals=signals.head(SIGNALS).to_dicts(),
        signal_count=int(signals["is_signal"].sum()),
        pair_count=signals.height,
        reactions=_reactions(history.reactions(lake, drug, REACTIONS), drug),
        ages=_ages(history.age_groups(lake)),
        overdoses=_overdoses(history.overdoses(lake, drug)),
        forest=_forest(signals),
    )


@page("safety")
def safety_file(request: Request) -> Response:
    """A table of the page as a file."""
    lake = site_of(request).lake
    return file_of(
        request,
        {
            "signals": lambda: history.safety_signals(lake),
            "reactions": lambda: history.reactions(lake, None, 1_000_000),
            "age_groups": lambda: history.age_groups(lake),
            "overdoses": lambda: history.overdoses(lake),
        },
    )


def _drawn(rows: pl.DataFrame, draw: Callable[[Size], str]) -> list[str]:
    return [] if rows.is_empty() else [draw(size) for size in _SIZES]


def _reactions(rows: pl.DataFrame, drug: str | None) -> list[str]:
    label = pl.col("reactionmeddrapt") if drug else pl.format("{}: {}", "drug_name", "reactionmeddrapt")
    shown = rows.select(label=label, value="reports", part="serious")
    return _drawn(shown, lambda size: bars(shown, "Reports; dark: serious", said="reports", size=size))


def _ages(rows: pl.DataFrame) -> list[str]:
    counted = rows.group_by("age_group").agg(pl.col("report_count").sum())
    order = pl.DataFrame({"age_group": AGE_GROUPS})
    shown = order.join(counted, on="age_group", how="left").select(
        label="age_group", value=pl.col("report_count").fill_null(0)
    )
    title = "Reports of a reaction by age in years"
    return _drawn(rows, lambda size: columns(shown, title, said="reports and reactions", size=size))


def _overdoses(rows: pl.DataFrame) -> list[str]:
    months = rows.group_by("month").agg(pl.col("report_count").sum()).sort("month")
    every = months.upsample("month", every="1mo") if months.height > 1 else months
    shown = every.select(label=pl.col("month").dt.strftime("%b %y"), value=pl.col("report_count").fill_null(0))
    title = "Reports of overdoses by month"
    return _drawn(shown, lambda size: columns(shown, title, said="reports and drugs", size=size))


def _forest(signals: pl.DataFrame) -> list[str]:
    """The strongest pairs whose ratio is defined."""
    shown = (
        signals.drop_nulls(["prr", "prr_lower", "prr_upper"])
        .head(IN_FOREST)
        .select(
            label=pl.concat_str("substance", "reactionmeddrapt", separator=PAIR),
            estimate="prr",
            lower="prr_lower",
            upper="prr_upper",
            count="a",
            is_signal="is_signal",
        )
    )
    return _drawn(shown, lambda size: forest(shown, "Proportional reporting ratios", measure="PRR", size=size))


ROUTES: Sequence[BaseRoute] = [
    Route("/safety", safety),
    Route("/safety/{table}.{format}", safety_file),
]
