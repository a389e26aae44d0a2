"""What the engine itself does to silver, in sessions, rebuilds, replays and rederived tables, seen in the store."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import polars as pl
import pytest

from assets.adverse_events.assets import CONTRACT as REPORTS_CONTRACT
from assets.glucose.assets import CONTRACT
from assets.store_sync import StoreSync
from assets.stream.rebuild import rebuild, replay
from assets.stream.rederive import derive, swap
from assets.sync.feed import AnyFeed
from assets.vitals.assets import CONTRACT as VITALS_CONTRACT
from generator.streams import events
from resources.store import Store
from tests.store.values import GLUCOSE, REPORTS, VITALS, numbers_of_rows
from tests.stream.scenarios import NOON, hub_with, run_session, ticking
from tests.stream.test_rebuild import DAYS, three_days

pytestmark = [pytest.mark.service, pytest.mark.slow]


@pytest.fixture
def url(emptied: str) -> str:
    return emptied


@pytest.fixture
def sync(lake, store) -> StoreSync:
    return StoreSync(lake, store, clock=lambda: NOON)


def differing(sync: StoreSync, feed: AnyFeed, days: Sequence[date]) -> list[date]:
    """Ingest dates on which the store has other rows than silver."""
    compared = {day: sync.compare(feed, day) for day in days}
    assert all(found and found.lake_rows for found in compared.values()), compared
    return [day for day, found in compared.items() if found is None or not found.is_equal]


def strict_clean(decoded: pl.DataFrame) -> pl.DataFrame:
    """A clean function that takes nothing from one of the patients."""
    is_refused = pl.col("patient_id") == 1
    return CONTRACT.clean(decoded).with_columns(
        reason=pl.when(is_refused).then(pl.lit("implausible")).otherwise("reason")
    )


def rows(store: Store, feed: AnyFeed) -> int:
    return store.count(feed.table)


def test_the_store_follows_rebuilds_replays_and_rederived_tables(sync, lake, store):
    three_days(lake)
    sync.catch_up(GLUCOSE)
    silver = lake.table(CONTRACT.tables.silver)
    assert differing(sync, GLUCOSE, DAYS) == []
    assert rows(store, GLUCOSE) == (whole := silver.count())
    numbers = numbers_of_rows(store)

    rebuild(replace(CONTRACT, clean=strict_clean), lake, DAYS[1])
    sync.catch_up(GLUCOSE)
    assert differing(sync, GLUCOSE, DAYS) == []
    assert rows(store, GLUCOSE) == silver.count() < whole
    assert numbers_of_rows(store).items() <= numbers.items()

    assert replay(CONTRACT, lake)
    sync.catch_up(GLUCOSE)
    assert differing(sync, GLUCOSE, DAYS) == []
    assert rows(store, GLUCOSE) == silver.count() == whole

    stricter = replace(CONTRACT, clean=strict_clean)
    derive(stricter, lake)
    swap(stricter, lake)
    sync.catch_up(GLUCOSE)
    assert differing(sync, GLUCOSE, DAYS) == []
    assert rows(store, GLUCOSE) == silver.count() < whole


def test_vital_signs_follow_the_rules_that_a_rebuild_applies(sync, lake, store):
    bodies = [
        each.body
        for each in events(
            "vitals", start=NOON - timedelta(hours=1), spacing=timedelta(seconds=20), count=300, late=0.1
        )
    ]
    run_session(lake, hub_with(bodies), contract=VITALS_CONTRACT, clock=ticking(NOON))
    sync.catch_up(VITALS)
    assert differing(sync, VITALS, [NOON.date()]) == []
    [before] = store.query("SELECT SUM(alert), SUM(high_heart_rate), SUM(alert_occurrence) FROM patient_status")

    milder = tuple(
        replace(rule, threshold=95.0) if rule.id == "heart_rate_high" else rule for rule in VITALS_CONTRACT.rules
    )
    rebuild(replace(VITALS_CONTRACT, rules=milder, rule_table=None), lake, NOON.date())
    sync.catch_up(VITALS)
    assert differing(sync, VITALS, [NOON.date()]) == []
    [after] = store.query("SELECT SUM(alert), SUM(high_heart_rate), SUM(alert_occurrence) FROM patient_status")
    assert after[1] > before[1] > 0
    assert 0 < after[2] <= after[0]


def test_safety_reports_follow_versions_and_rebuilds(sync, lake, store):
    begin, spacing = NOON - timedelta(hours=1), timedelta(minutes=1)
    bodies = [each.body for each in events("adverse_events", start=begin, spacing=spacing, count=150, repeats=0.2)]
    hub = hub_with(bodies[:100])
    run_session(lake, hub, contract=REPORTS_CONTRACT, clock=ticking(NOON))
    sync.catch_up(REPORTS)
    for number, body in enumerate(bodies[100:]):
        hub.send([body], NOON + timedelta(days=1), number % 2)
    run_session(lake, hub, contract=REPORTS_CONTRACT, clock=ticking(NOON + timedelta(days=1)))
    sync.catch_up(REPORTS)
    assert differing(sync, REPORTS, DAYS[:2]) == []
    before = rows(store, REPORTS)
    rebuild(REPORTS_CONTRACT, lake, DAYS[0])
    sync.catch_up(REPORTS)
    assert differing(sync, REPORTS, DAYS[:2]) == []
    assert rows(store, REPORTS) == before
