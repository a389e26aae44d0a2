"""Ratios with their confidence intervals. Pure."""

import math

import polars as pl

from dashboard.charts.marks import counted, cut
from dashboard.charts.svg import MARKERS, WIDE, Plot, Scale, Size, drawing, log_ticks, rule, symbol, text

PAIR = " × "
"""What stands between the two names of a pair."""


def forest(rows: pl.DataFrame, title: str, *, measure: str, size: Size = WIDE) -> str:
    """Ratios with their confidence intervals on a logarithmic axis, and a line where there is no association.

    Args:
        rows: `label` (two names with `PAIR` between them), `estimate`, `lower` and `upper`, all above 0, `count` and
            `is_signal`.
        title: what it shows.
        measure: which ratio it is.
        size: its width counts; the height follows from the rows.
    """
    # On phones the two names of a pair stand below each other.
    height = 32 if size.is_narrow else 22
    tall = Size(size.width, 66 + height * max(rows.height, 1))
    left, right = (136, size.width - 14) if size.is_narrow else (310, size.width - 130)
    least = max(min([0.5, *rows["lower"]]), 0.05)
    most = min(max([4.0, *rows["upper"]]), 1000.0)
    plot = Plot(tall, Scale(math.log(least), math.log(most), left, right), Scale(0, 1, tall.height - 36, 24))
    parts = [text(4, 14, title, "title")]
    for tick in log_ticks(least, most):
        at = plot.x(math.log(tick))
        parts += [
            rule(at, plot.top, at, plot.bottom, "grid"),
            text(at, plot.bottom + 15, f"{tick:g}", "tick", "middle"),
        ]
    one = plot.x(0.0)
    parts.append(rule(one, plot.top, one, plot.bottom, "none"))
    for at, row in enumerate(rows.iter_rows(named=True)):
        y = plot.top + height * (at + 0.5)
        lower, estimate, upper = (plot.x.clipped(math.log(row[name])) for name in ("lower", "estimate", "upper"))
        said = f"{row['estimate']:.2f} ({row['lower']:.2f}–{row['upper']:.2f})"
        style = "signal" if row["is_signal"] else "quiet"
        told = f"{row['label']}: {measure} {said}, {counted(row['count'], 'report')}"
        names = row["label"].split(PAIR) if size.is_narrow else [row["label"]]
        for line, name in enumerate(names):
            below = y + 4 + 14 * (line - (len(names) - 1) / 2)
            parts.append(text(left - 8, below, cut(name, (left - 12) / 6.2), "tick", "end"))
        parts.append(rule(lower, y, upper, y, f"interval {style}"))
        parts.append(symbol(estimate, y, MARKERS[0 if row["is_signal"] else 2], f"estimate {style}", told))
        if row["upper"] > most:
            parts.append(symbol(upper, y, "M-6-4 0 0-6 4Z", f"estimate {style}"))
        if not size.is_narrow:
            parts.append(text(right + 10, y + 4, said, "value"))
    parts.append(text(right, tall.height - 4, f"{measure} with 95 % interval; squares are signals", "note", "end"))
    signals = int(rows["is_signal"].sum())
    return drawing(tall, "forest", title, f"{counted(rows.height, 'pair')}, {counted(signals, 'signal')}.", parts)
