"""What the checks of alarms find when somebody changed a table, and that they find nothing otherwise."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from assets.glucose.assets import CONTRACT
from assets.reference.rules import Wanted
from assets.reference_store import put_rules
from assets.stream.alarm_checks import DESCRIPTIONS, alarm_findings
from assets.stream.checks import evaluate
from assets.stream.store import StreamStore
from resources.lake import Lake, LakeTable
from tests.alarms.test_sessions import BEGIN, LOW, MINUTE, send, until
from tests.stream.hubs import MemoryHub
from tests.stream.scenarios import NOON, lake_in, run_session, ticking

pytestmark = pytest.mark.slow

DAY, TODAY = timedelta(days=1), NOON.date()
NAMES = {name for _, name in DESCRIPTIONS}


def failed(lake: Lake, now: datetime, *, recent: bool = False) -> set[str]:
    """The checks of today that fail."""
    found = {each.name: each for each in alarm_findings(StreamStore(CONTRACT, lake), now.date(), now, recent=recent)}
    assert set(found) == NAMES
    assert all(each.table == "alarms" for each in found.values())
    return {name for name, each in found.items() if not each.passed}


def scene(folder: Path) -> Lake:
    """Patient 1 has an alarm that is over, patient 2 one that is open since ten minutes."""
    lake, hub = lake_in(folder), MemoryHub(partitions=1, take=3)
    send(hub, *LOW)
    send(hub, (40, 60), (45, 50), (50, 52), patient=2)
    run_session(lake, hub, clock=until(51))
    return lake


def change(table: LakeTable, changed: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """What no session does: all rows of a table are others."""
    rows = table.scan().collect()
    table.replace([changed(rows).select(rows.columns)], None)


def test_a_session_leaves_nothing_to_find(tmp_path: Path) -> None:
    lake = scene(tmp_path)
    for recent in (False, True):
        assert failed(lake, BEGIN + 51 * MINUTE, recent=recent) == set()
    of_all = {each.name for each in evaluate(StreamStore(CONTRACT, lake), TODAY, NOON)}
    assert of_all >= NAMES
    # Of an earlier date only its transitions are looked at.
    [finding] = alarm_findings(StreamStore(CONTRACT, lake), TODAY, NOON + DAY)
    assert (finding.name, finding.passed, finding.counts["alarms"]) == ("transitions_continuous", True, 2)


def test_a_second_open_alarm_of_a_patient_and_a_cause_is_found(tmp_path: Path) -> None:
    lake = scene(tmp_path)

    def doubled(rows: pl.DataFrame) -> pl.DataFrame:
        other = rows.filter(pl.col("entity") == 2).with_columns(pl.lit("0123456789abcdef").alias("alarm_id"))
        return pl.concat([rows, other])

    change(StreamStore(CONTRACT, lake).alarms, doubled)
    assert failed(lake, BEGIN + 51 * MINUTE) == {"one_open_alarm"}


@pytest.mark.parametrize("recent", [False, True])
def test_an_open_alarm_without_its_reading_is_found(tmp_path: Path, recent: bool) -> None:
    lake = scene(tmp_path)
    change(StreamStore(CONTRACT, lake).silver, lambda rows: rows.filter(pl.col("measured_at") != BEGIN + 40 * MINUTE))
    # The alarm of patient 1 is over, and that it has no reading is no matter.
    assert failed(lake, BEGIN + 51 * MINUTE, recent=recent) == {"raising_readings_exist"}
    # A session does not look again at what an earlier one looked at.
    assert failed(lake, BEGIN + 171 * MINUTE, recent=recent) == (set() if recent else {"raising_readings_exist"})


@pytest.mark.parametrize(
    "change_of",
    [
        lambda rows: rows.filter((pl.col("index") != 1) | pl.col("is_update")),
        lambda rows: rows.filter(~((pl.col("index") == 0) & (pl.col("entity") == 1))),
        lambda rows: pl.concat([rows, rows.filter(pl.col("kind") == "cleared")]),
    ],
    ids=["gap", "no beginning", "repeat"],
)
def test_transitions_that_are_missing_or_doubled_are_found(
    tmp_path: Path, change_of: Callable[[pl.DataFrame], pl.DataFrame]
) -> None:
    lake = scene(tmp_path)
    change(StreamStore(CONTRACT, lake).alarms, change_of)
    assert failed(lake, BEGIN + 51 * MINUTE) == {"transitions_continuous"}


def test_transitions_go_on_where_those_of_the_day_before_ended(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, (0, 60), (5, 50))
    run_session(lake, hub, clock=until(6))
    send(hub, (1440, 45), (1445, 60))
    run_session(lake, hub, clock=until(1446))
    tomorrow = BEGIN + 1446 * MINUTE
    assert failed(lake, tomorrow) == set()
    alarms = StreamStore(CONTRACT, lake).alarms
    change(alarms, lambda rows: rows.filter(~((pl.col("kind") == "worsened") & (pl.col("ingest_date") == TODAY))))
    assert failed(lake, tomorrow) == {"transitions_continuous"}


def test_a_silence_that_nobody_was_told_of_is_found(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, (0, 60))
    run_session(lake, hub, clock=until(1))
    # Nobody was there to pass the deadline.
    assert failed(lake, BEGIN + 23 * 60 * MINUTE) == set()
    assert failed(lake, BEGIN + 25 * 60 * MINUTE) == {"silence_is_told"}
    run_session(lake, hub, clock=until(25 * 60))
    assert failed(lake, BEGIN + 25 * 60 * MINUTE) == set()
    # A patient who sends other readings than those of the cause is no silent one.
    change(
        StreamStore(CONTRACT, lake).alarms,
        lambda rows: rows.filter(pl.col("cause") != "silence").with_columns(is_stale=pl.lit(False)),
    )
    assert failed(lake, BEGIN + 25 * 60 * MINUTE) == {"silence_is_told"}
    heard = pl.lit(BEGIN + 24 * 60 * MINUTE)
    change(
        StreamStore(CONTRACT, lake).silver,
        lambda rows: pl.concat(
            [rows, rows.with_columns(measured_at=heard, received_at=heard, ingest_date=heard.dt.date())],
            how="vertical_relaxed",
        ),
    )
    assert failed(lake, BEGIN + 25 * 60 * MINUTE) == set()


def test_who_is_not_watched_for_silence_may_be_silent(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, (0, 60))
    send(hub, (0, 60), patient=2)
    run_session(lake, hub, clock=until(1))
    later = BEGIN + 25 * 60 * MINUTE
    found = {each.name: each for each in alarm_findings(StreamStore(CONTRACT, lake), later.date(), later)}
    assert found["silence_is_told"].counts["silent_and_not_told"] == 2
    for patient, given in ((1, {"is_enabled": False}), (2, {"threshold": 2880.0})):
        wanted = [Wanted("glucose_silence", given, f"patient:{patient}")]
        put_rules(lake, [CONTRACT], wanted, valid_from=BEGIN - DAY, clock=lambda: BEGIN)
    assert failed(lake, later) == set()


def test_a_stream_without_alarms_has_no_such_checks(tmp_path: Path) -> None:
    plain = replace(CONTRACT, alarms=None)
    lake = lake_in(tmp_path)
    hub = MemoryHub(partitions=1)
    send(hub, *LOW)
    run_session(lake, hub, contract=plain, clock=ticking(NOON))
    assert alarm_findings(StreamStore(plain, lake), TODAY, NOON) == []
