"""The page about a load date: what it counts, and that nothing in it is taken for HTML."""

from datetime import UTC, date, datetime

import polars as pl

from assets.clinical.quality import Check, quality_page

DAY = date(2026, 11, 20)
LOADS = pl.DataFrame(
    {
        "source": ["ehr", "trials"],
        "load_id": ["1", "2"],
        "loaded_at": [datetime(2026, 11, 20, tzinfo=UTC)] * 2,
        "row_count": [1200, 30],
        "quarantined_count": [5, 30],
        "reasons": ["bad_value:reading", "column '<b>' is missing"],
        "is_rejected": [False, True],
    }
)
REASONS = pl.DataFrame({"table": ["quarantine/ehr"], "reason": ["bad_value:reading"], "rows": [5]})


def test_a_page_counts_loads_rows_and_checks():
    checks = [
        Check("silver/ehr", "keys_unique", True, "0 rows"),
        Check("bronze/ehr", "columns_as_declared", False, "x"),
    ]
    page = quality_page(DAY, LOADS, REASONS, checks)
    assert (
        "2 loads with 1,230 rows, of which 35 are rejected; 1 loads rejected as a whole; 1 of 2 checks failed" in page
    )
    assert '<td class="bad">failed</td>' in page
    assert '<p class="bad">' in page
    assert "column &#x27;&lt;b&gt;&#x27; is missing" in page


def test_a_page_of_a_day_without_loads_says_so():
    page = quality_page(DAY, LOADS.clear(), REASONS.clear(), [])
    assert page.count("<p>None.</p>") == 3
    assert '<p class="good">0 loads' in page
