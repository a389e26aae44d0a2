"""Pages for people: HTML that stands alone, without a script or anything that is loaded. Pure: frames in, text out.

All text is escaped. A page follows the reader's light or dark, is read on a telephone, and prints.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from html import escape

import polars as pl

_STYLE = """
:root{color-scheme:light dark;--page:#f5f7f9;--card:#fff;--ink:#17202a;--soft:#55616e;--line:#d9dfe5;--bar:#2f6fad;
--good:#1b6e3c;--bad:#a3201a;--good-page:#e5f3ea;--bad-page:#fbe9e7}
@media (prefers-color-scheme:dark){:root{--page:#12171c;--card:#1b2229;--ink:#e6ebf0;--soft:#a3afbb;--line:#343e48;
--bar:#6fa8dc;--good:#7fd09c;--bad:#ff9d94;--good-page:#16301f;--bad-page:#3a1c1a}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:1rem/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:64rem;margin:0 auto;padding:1.5rem 1rem 3rem}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .25rem}h2{font-size:1.15rem;margin:0 0 .5rem}
h3{font-size:1rem;margin:1rem 0 .25rem}p{margin:.25rem 0 .75rem}.soft{color:var(--soft)}
section{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:1rem;margin-top:1rem}
.verdict{font-weight:600;border-left:.35rem solid}.verdict ul{font-weight:400;margin:.5rem 0 0;padding-left:1.2rem}
.is-good{background:var(--good-page);border-left-color:var(--good)}
.is-bad{background:var(--bad-page);border-left-color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem;margin:1rem 0 0;padding:0}
.tiles div{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem}
.tiles dt{color:var(--soft);font-size:.875rem}.tiles dd{margin:0;font-size:1.4rem;font-weight:600}
.tiles dd.soft{font-size:.875rem;font-weight:400}details summary{cursor:pointer;margin:.25rem 0}
.scrolls{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{padding:.35rem .7rem .35rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600;vertical-align:bottom}td.n,th.n{text-align:right}
td.n{font-variant-numeric:tabular-nums;white-space:nowrap}
td.t{white-space:nowrap}.bad{color:var(--bad);font-weight:600}.good{color:var(--good)}
.bars{list-style:none;margin:0;padding:0;font-size:.9rem}
.bars li{display:grid;grid-template-columns:minmax(0,14rem) minmax(0,1fr) 4rem;gap:.75rem;align-items:center}
.bars li>span{overflow-wrap:anywhere}.bars .count{text-align:right;font-variant-numeric:tabular-nums}
.bars .bar{height:.6rem;border-radius:.2rem;background:var(--bar);min-width:2px;print-color-adjust:exact}
@media (max-width:30rem){.bars li{grid-template-columns:minmax(0,1fr) 4rem}.bars .of{grid-column:1/3}}
footer{color:var(--soft);font-size:.875rem;margin-top:1.5rem}
@media print{:root{color-scheme:light;--page:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--bar:#555;
--good:#000;--bad:#000;--good-page:#fff;--bad-page:#fff}body{font-size:10pt}main{max-width:none;padding:0}
.scrolls{overflow:visible}thead{display:table-header-group}tr,.bars li,.tiles div{break-inside:avoid}
h2{break-after:avoid}}
"""
GOOD, BAD = "passed", "failed"
"""Texts that stand in a table in green and in red."""


def page(title: str, lead: str, parts: Iterable[str], footer: str) -> str:
    """A page.

    Args:
        title: what it is of.
        lead: what it says, in a sentence or two.
        parts: what the other functions of this module return.
        footer: where the figures come from.
    """
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>",
            f'<h1>{escape(title)}</h1>\n<p class="soft">{escape(lead)}</p>',
            *parts,
            f"<footer>{escape(footer)}</footer>\n</main>\n</body>\n</html>\n",
        )
    )


def verdict(good: str, problems: Sequence[str]) -> str:
    """What the reader has to know first: that all is well, or what is not."""
    if not problems:
        return f'<section class="verdict is-good">{escape(good)}</section>'
    things = "One thing needs" if len(problems) == 1 else f"{len(problems):,} things need"
    listed = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
    return f'<section class="verdict is-bad">{things} attention.<ul>{listed}</ul></section>'


def tiles(figures: Sequence[tuple[str, str, str]]) -> str:
    """A few figures: what each counts, the figure, and what else there is to say of it."""
    each = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
        + (f'<dd class="soft">{escape(more)}</dd>' if more else "")
        + "</div>"
        for name, value, more in figures
    )
    return f'<dl class="tiles">{each}</dl>'


def section(heading: str, about: str, *parts: str) -> str:
    """A part of a page, and what it is about."""
    explained = f'<p class="soft">{escape(about)}</p>' if about else ""
    return f"<section><h2>{escape(heading)}</h2>{explained}{''.join(parts)}</section>"


def table(rows: pl.DataFrame, label: str) -> str:
    """Rows as a table; it scrolls for itself where it is wider than the page.

    Args:
        rows: columns are headed by their names, with blanks instead of underscores.
        label: what a screen reader calls it.
    """
    if rows.is_empty():
        return "<p>None.</p>"
    kinds = ["n" if type_.is_numeric() else "t" if type_.is_temporal() else "" for type_ in rows.dtypes]
    head = "".join(
        f'<th scope="col"{_class(kind if kind == "n" else "")}>{escape(name.replace("_", " "))}</th>'
        for name, kind in zip(rows.columns, kinds, strict=True)
    )
    body = "".join(
        f"<tr>{''.join(_cell(value, kind) for value, kind in zip(row, kinds, strict=True))}</tr>"
        for row in rows.iter_rows()
    )
    return (
        f'<div class="scrolls" role="region" tabindex="0" aria-label="{escape(label)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def folded(summary: str, content: str) -> str:
    """What is shown once the reader asks for it."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def bars(counts: Sequence[tuple[str, int]]) -> str:
    """Counts as bars, each as long as its share of the greatest."""
    if not counts:
        return "<p>None.</p>"
    most = max(1, *(count for _, count in counts))
    each = "".join(
        f'<li><span class="of">{escape(name)}</span>'
        f'<span class="bar" style="width:{100 * count / most:.1f}%"></span><span class="count">{count:,}</span></li>'
        for name, count in counts
    )
    return f'<ul class="bars">{each}</ul>'


def shown(value: object) -> str:
    """A value as people read it; instants are in UTC."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.2f}"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M}"
        case date():
            return value.isoformat()
    return str(value)


def _cell(value: object, kind: str) -> str:
    tone = {GOOD: "good", BAD: "bad"}.get(value, "") if isinstance(value, str) else ""
    return f"<td{_class(tone or kind)}>{escape(shown(value))}</td>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""
