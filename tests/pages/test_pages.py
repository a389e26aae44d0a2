"""Pages for people: what they say, that nothing in them is taken for HTML, and how a browser shows them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from assets.data_quality import MAX_REASONS, Check, DayOfData, quality_page
from assets.pages import bars, shown, table
from assets.report_page import report_page
from tests.services.chromium import chromium

DAY, NOON = date(2026, 11, 20), datetime(2026, 11, 20, 12, tzinfo=UTC)
HOSTILE = "<img src=x onerror=alert(1)>\"'&</td></table><script>alert(2)</script>"


def of_day(**changes: Any) -> DayOfData:
    """A day of two streams and two loads, of which one was rejected."""
    streams = ["glucose_readings", "vitals"]
    found = DayOfData(
        DAY,
        counts=pl.DataFrame(
            {
                "stream": streams,
                "ingest_date": [DAY] * 2,
                "event_count": [1200, 30],
                "reading_count": [1200, 30],
                "silver_count": [1100, 30],
                "quarantined_count": [60, 0],
                "duplicate_count": [40, 0],
                "quarantined_percent": [5.0, 0.0],
            }
        ),
        reasons=pl.DataFrame({"table": ["quarantine/glucose_readings"], "reason": ["implausible"], "rows": [60]}),
        lag=pl.DataFrame(
            {
                "stream": streams,
                "wait_p50_seconds": [0.2] * 2,
                "wait_p99_seconds": [1.5] * 2,
                "wait_max_seconds": [9.0] * 2,
            }
        ),
        delay=pl.DataFrame(
            {
                "stream": streams[:1],
                "delay_p50_seconds": [61.0],
                "delay_p95_seconds": [90_000.0],
                "late_percent": [2.0],
            }
        ),
        loads=pl.DataFrame(
            {
                "source": ["ehr", "trials"],
                "loaded_at": [NOON] * 2,
                "row_count": [1200, 30],
                "quarantined_count": [5, 30],
                "reasons": ["bad_value:reading", f"column '{HOSTILE}' is missing"],
                "is_rejected": [False, True],
            }
        ),
        checks=[
            Check("silver/vitals", "keys_unique", True, "repeated 0"),
            Check("bronze/ehr", "columns", False, HOSTILE),
        ],
    )
    return replace(found, **changes)


def test_a_page_says_first_what_needs_attention():
    page = quality_page(of_day(), NOON)
    assert "Data quality of Friday, 20 November 2026" in page
    assert "1,230 readings came from devices and 1,230 rows from the hospital" in page
    assert "2 things need attention." in page
    assert '<dd>60</dd><dd class="soft">4.9 %</dd>' in page
    assert page.index("things need attention") < page.index("What came from devices")
    # A check that failed stands before those that passed.
    assert page.index("bronze/ehr</td>") < page.index("silver/vitals</td>")


def test_a_good_day_and_one_without_data_say_so():
    good = of_day(checks=[Check("silver/vitals", "keys_unique", True, "repeated 0")], loads=of_day().loads.head(1))
    assert "All is well: 1 checks passed, and no load was rejected." in quality_page(good, NOON)
    frames = {name: getattr(good, name).clear() for name in ("counts", "reasons", "lag", "delay", "loads")}
    empty = quality_page(replace(good, **frames, checks=[]), NOON)
    assert "0 readings came from devices" in empty
    assert empty.count("<p>None.</p>") == 5
    assert "0 checks passed" in empty


def test_what_stands_in_data_is_never_taken_for_html():
    reasons = pl.DataFrame({"table": ["quarantine/vitals"], "reason": [HOSTILE], "rows": [1]})
    rows = pl.DataFrame({HOSTILE: [HOSTILE], "event_date": [DAY]})
    for page in (quality_page(of_day(reasons=reasons), NOON), report_page("r", HOSTILE, rows, NOON)):
        assert "<img" not in page
        assert "<script" not in page
        assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_a_page_stands_alone():
    page = quality_page(of_day(), NOON)
    for outside in ("http:", "https:", "@import", "url(", "<link"):
        assert outside not in page


def test_many_reasons_are_added_up():
    names = [f"reason {number:02}" for number in range(MAX_REASONS + 3)]
    reasons = pl.DataFrame(
        {"table": ["quarantine/vitals"] * len(names), "reason": names, "rows": range(1, len(names) + 1)}
    )
    page = quality_page(of_day(reasons=reasons), NOON)
    assert '<span class="of">3 other reasons</span>' in page
    assert '<span class="count">6</span>' in page
    assert "width:100.0%" in page


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (1234567, "1,234,567"),
        (0.123, "0.12"),
        (90_000.0, "90,000"),
        (NOON, "2026-11-20 12:00"),
    ],
)
def test_values_are_shown_as_people_read_them(value, text):
    assert shown(value) == text


def test_nothing_is_none():
    assert bars([]) == table(pl.DataFrame({"a": []}), "x") == "<p>None.</p>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.mark.service
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_the_page_on_a_telephone_and_a_desk(browser, tmp_path, scheme):
    file = tmp_path / "page.html"
    many = pl.DataFrame({"table": ["quarantine/vitals"] * 2, "reason": [HOSTILE, "x" * 300], "rows": [3, 1]})
    file.write_text(quality_page(of_day(reasons=many), NOON), encoding="utf-8")
    for width in (360, 1200):
        with browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=True
        ) as context:
            page, asked, said = context.new_page(), list[str](), list[str]()
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.on("dialog", lambda dialog, said=said: (said.append(dialog.message), dialog.dismiss()))
            page.goto(file.as_uri())
            assert page.get_by_role("heading", level=1).inner_text() == "Data quality of Friday, 20 November 2026"
            assert page.get_by_text("onerror=alert(1)").first.is_visible()
            # Tables scroll for themselves, the page does not.
            assert page.evaluate("document.scrollingElement.scrollWidth") <= width
            assert (asked, said) == ([file.as_uri()], [])
            assert _violations(page) == []


def _violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {node['html'][:120]}" for each in found for node in each["nodes"]]


@pytest.mark.service
def test_a_page_prints(browser, tmp_path: Path):
    file = tmp_path / "page.html"
    file.write_text(quality_page(of_day(), NOON), encoding="utf-8")
    with browser.new_context(color_scheme="dark") as context:
        page = context.new_page()
        page.goto(file.as_uri())
        page.emulate_media(media="print")
        # Dark pages are printed in black on white.
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert page.pdf(format="A4").startswith(b"%PDF")
