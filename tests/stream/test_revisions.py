"""A second value for the same instant: the first stands, but an urgent one must reach a person."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.glucose.assets import CONTRACT
from assets.stream.checks import evaluate
from assets.stream.rebuild import rebuild
from assets.stream.store import StreamStore
from tests.stream.batches import as_rows, differences, flat, micro_batches, process
from tests.stream.hubs import MemoryPublisher
from tests.stream.scenarios import NOON, body, hub_with, lake_in, reading, run_session
from tests.stream.tables import assert_exact, everything, rows


def rules(lake_rows: pl.DataFrame) -> list[tuple[Any, ...]]:
    return lake_rows.select("rule", "glucose_mg_dl", "is_revision").rows()


@pytest.mark.parametrize("together", [True, False], ids=["in one session", "in two sessions"])
def test_a_revised_value_that_is_urgently_low_raises_its_alerts_and_stays_out_of_silver(
    tmp_path: Path, together: bool
) -> None:
    lake, hub, publisher = lake_in(tmp_path), hub_with([body(reading(0, 90))], partitions=1), MemoryPublisher()
    if not together:
        run_session(lake, hub, publisher=publisher)
    hub.send([body(reading(0, 47)), body(reading(0, 47))], NOON)
    run_session(lake, hub, publisher=publisher)
    assert rows(lake, "silver")["glucose_mg_dl"].to_list() == [90]
    assert rows(lake, "quarantine")["reason"].to_list() == ["conflicting_duplicate"] * 2
    assert rules(rows(lake, "alerts")) == [("glucose_low", 47.0, True), ("glucose_urgent_low", 47.0, True)]
    assert [json.loads(each)["is_revision"] for _, each in publisher.published] == [True, True]
    findings = {each.name: each.passed for each in evaluate(StreamStore(CONTRACT, lake), NOON.date(), NOON)}
    assert findings["counts_reconcile"]
    assert_exact(lake, hub)
    streamed = everything(lake)
    rebuild(CONTRACT, lake, NOON.date())
    assert everything(lake) == streamed


def test_a_revised_value_that_breaks_no_urgent_rule_raises_nothing(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(0, 90)), body(reading(0, 200))], partitions=1)
    run_session(lake, hub)
    assert rows(lake, "alerts").is_empty()


def test_a_revision_does_not_raise_again_what_the_first_value_raised(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(0, 60)), body(reading(0, 50))], partitions=1)
    run_session(lake, hub)
    assert rules(rows(lake, "alerts")) == [("glucose_low", 60.0, False), ("glucose_urgent_low", 50.0, True)]


@pytest.mark.slow
@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_revisions_match_the_oracle_however_they_are_cut(data: st.DataObject) -> None:
    some = st.builds(
        lambda minutes, value, device, patient: body(reading(minutes, value, device=device, patient=patient)),
        st.integers(0, 3),
        st.sampled_from([47, 60, 90, 130, 300]),
        st.integers(1, 2),
        st.integers(1, 2),
    )
    batches: Sequence[list[bytes]] = data.draw(st.lists(st.lists(some, min_size=1, max_size=6), min_size=1, max_size=5))
    events = micro_batches(*batches)
    assert differences(process(events), flat(events)) == []
    assert as_rows(process(events)) == as_rows(process([flat(events)]))
