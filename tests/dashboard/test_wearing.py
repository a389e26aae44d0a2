"""An alarm of a device is of the patient who wore it when it was raised, and nobody else sees it."""

import io
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assets.alarms.measures import ALARMS
from assets.alarms.tables import alarms_of
from assets.devices.assets import CONTRACT as DEVICES
from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.reference.tables import DEVICES as KNOWN
from assets.reference_store import put
from dashboard import history
from dashboard.access import Role, Scope
from dashboard.database import page_database
from dashboard.directory import Directory, People
from dashboard.users import User, Users
from resources.lake import Lake
from resources.table import Table
from tests.dashboard.serving import Served, served
from tests.dashboard.world import PASSWORD, now

pytestmark = pytest.mark.service

DEVICE, UNKNOWN = 101, 999
"""The first was worn by patient 1, and by patient 2 since an hour; of the other one reference data say nothing."""
BEFORE, AFTER, OPEN, OF_UNKNOWN = (letter * 16 for letter in "abcd")
MADE = now()
HANDED_OVER = MADE - timedelta(hours=1)
_DEFAULTS: dict[pl.DataType, object] = {
    pl.Int64(): 0,
    pl.Float64(): 0.0,
    pl.String(): "",
    pl.Boolean(): False,
    pl.Datetime("us", "UTC"): MADE,
    pl.Date(): MADE.date(),
}


def add(lake: Lake, table: Table, *rows: dict[str, Any]) -> None:
    """Appends rows; what they do not say is null, or nothing where it may not be."""
    empty = {name: _DEFAULTS[dtype] if name in {*table.required} else None for name, dtype in table.schema.items()}
    frame = pl.DataFrame([empty | row for row in rows], schema=table.schema)
    lake.table(table).ensure().append(frame, transactions={})


def alarm(alarm_id: str, raised_at: datetime, device: int = DEVICE, *, is_over: bool = True) -> list[dict[str, Any]]:
    of = {
        "alarm_id": alarm_id,
        "stream": DEVICES.stream,
        "entity": device,
        "cause": "silence",
        "severity": "warning",
        "raised_at": raised_at,
        "at": raised_at,
        "decided_at": raised_at,
        "note": f"a note about {alarm_id[0]}",
    }
    rows = [of | {"kind": "raised", "state": "unacknowledged"}]
    end = raised_at + timedelta(minutes=5)
    over = {"index": 1, "kind": "cleared", "state": "cleared", "at": end, "decided_at": end, "fold": 1}
    return [*rows, of | over] if is_over else rows


def test_readings_are_read_of_the_time_of_alarms_that_need_them_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[tuple[list[int], datetime, datetime]]()

    def measured(_: Lake, *of: Any) -> pl.DataFrame:
        asked.append(of)
        schema = {name: GLUCOSE.tables.silver.schema[name] for name in ("device_id", "measured_at", "patient_id")}
        return pl.DataFrame([(UNKNOWN, MADE - timedelta(minutes=1), 3)], schema=schema, orient="row")

    monkeypatch.setattr(history, "_measured", measured)
    alarms = pl.DataFrame(
        [(GLUCOSE.stream, 1, MADE - timedelta(days=400)), (DEVICES.stream, UNKNOWN, MADE)],
        schema={name: alarms_of(DEVICES.stream).schema[name] for name in ("stream", "entity", "raised_at")},
        orient="row",
    )
    found = history.with_wearers(Lake(str(tmp_path)), alarms, [GLUCOSE, DEVICES], People())
    assert found.sort("raised_at")["patient_id"].to_list() == [1, 3]
    assert asked == [([UNKNOWN], MADE - history.MEASURED_WITHIN, MADE)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("page")) as made:
        lake = made.lake
        schema = {name: KNOWN.table.schema[name] for name in KNOWN.cells}
        rows = pl.DataFrame([{"device_id": DEVICE, "patient_id": 2}], schema=schema)
        put(lake, KNOWN, rows, valid_from=HANDED_OVER, clock=now)
        made.site.directory.refresh(now())
        readings = [(1, MADE - timedelta(hours=3)), (2, MADE - timedelta(minutes=30))]
        measured = [
            {"patient_id": who, "device_id": UNKNOWN, "measured_at": at, "received_at": at} for who, at in readings
        ]
        add(lake, GLUCOSE.tables.silver, *measured)
        told = [
            *alarm(BEFORE, MADE - timedelta(hours=2)),
            *alarm(AFTER, MADE - timedelta(minutes=40)),
            *alarm(OPEN, MADE - timedelta(hours=2, minutes=1), is_over=False),
            *alarm(OF_UNKNOWN, MADE - timedelta(hours=2, minutes=2), UNKNOWN),
        ]
        add(lake, alarms_of(DEVICES.stream), *told)
        of_gold = {"stream": DEVICES.stream, "entity": DEVICE, "event_date": MADE.date(), "severity": "warning"}
        gold = [of_gold | {"alarm_id": each, "raised_at": at} for each, at in _raised(told)]
        add(lake, ALARMS, *gold)
        database = page_database(made.site.settings.root)
        users = Users(database, now)
        for number in (1, 2):
            users.add(User(f"of-{number}", Role.CAREGIVER, Scope(patients=frozenset({number}))), PASSWORD)
        database.close()
        yield made


def _raised(rows: list[dict[str, Any]]) -> list[tuple[str, datetime]]:
    return [(row["alarm_id"], row["raised_at"]) for row in rows if row["kind"] == "raised" and row["entity"] == DEVICE]


def ids(page: Served, name: str, path: str) -> set[str]:
    answer = page.of(name).get(path)
    assert answer.status_code == 200, answer.text
    return {*pl.read_parquet(io.BytesIO(answer.content))["alarm_id"]}


def test_past_alarms_are_of_who_wore_the_device_then(page: Served) -> None:
    past = "/alarms/past.parquet?days=7"
    assert [ids(page, name, past) for name in ("of-1", "of-2")] == [{BEFORE}, {AFTER}]
    assert ids(page, "wera", past) == {BEFORE, AFTER, OF_UNKNOWN}


def test_a_patients_page_and_file_have_the_alarms_of_their_own_time(page: Served) -> None:
    assert ids(page, "of-1", "/patients/1/alarms.parquet") == {BEFORE, OF_UNKNOWN}
    assert ids(page, "of-2", "/patients/2/alarms.parquet") == {AFTER}
    first, second = (page.of(f"of-{number}").get(f"/patients/{number}").text for number in (1, 2))
    assert [each in first for each in (BEFORE, AFTER, OF_UNKNOWN)] == [True, False, True]
    assert [each in second for each in (BEFORE, AFTER, OF_UNKNOWN)] == [False, True, False]
    # What is open is of concern to who wears the device now; what was noted before is not told.
    assert "from before the device was theirs" in second
    assert "a note about c" not in second
    assert "No alarm is open" in first


@pytest.mark.parametrize(
    ("name", "alarm_id", "status"),
    [
        ("of-1", BEFORE, 200),
        ("of-2", BEFORE, 404),
        ("of-1", AFTER, 404),
        ("of-2", AFTER, 200),
        ("of-2", OPEN, 404),
        ("of-1", OF_UNKNOWN, 200),
        ("of-2", OF_UNKNOWN, 404),
    ],
)
def test_what_decided_an_alarm_is_shown_to_those_whose_it_is(
    page: Served, name: str, alarm_id: str, status: int
) -> None:
    assert page.of(name).get(f"/patients/{name[-1]}/alarms/{alarm_id}").status_code == status


@pytest.mark.parametrize(
    ("name", "alarm_id", "leads_to"),
    [
        ("of-1", BEFORE, f"/patients/1/alarms/{BEFORE}"),
        ("of-2", BEFORE, ""),
        ("of-2", OPEN, "/patients/2"),
        ("of-1", OPEN, f"/patients/1/alarms/{OPEN}"),
        ("of-1", BEFORE[:12], ""),
    ],
)
def test_a_link_in_a_message_leads_where_somebody_may_look(
    page: Served, name: str, alarm_id: str, leads_to: str
) -> None:
    answer = page.of(name).get(f"/alarms/{alarm_id}")
    assert answer.headers.get("location", "") == leads_to
    assert answer.status_code == (303 if leads_to else 404)


def test_measures_count_the_alarms_of_their_own_time(page: Served) -> None:
    for name, count in (("of-1", 2), ("of-2", 1)):
        text = page.of(name).get("/alarms").text
        assert f'<dt>Alarms</dt><dd class="number">{count}</dd>' in text


def test_what_becomes_known_late_of_a_device_counts_for_the_past(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    schema = {name: KNOWN.table.schema[name] for name in KNOWN.cells}
    directory = Directory(lake)
    instants = pl.Series([MADE - timedelta(days=5), MADE], dtype=pl.Datetime("us", "UTC"))
    devices = pl.Series([DEVICE, DEVICE])
    assert directory.people.wearers_at(devices, instants).to_list() == [None, None]
    for patient, since in ((2, MADE - timedelta(days=1)), (1, MADE - timedelta(days=9))):
        rows = pl.DataFrame([{"device_id": DEVICE, "patient_id": patient}], schema=schema)
        put(lake, KNOWN, rows, valid_from=since, clock=now)
        assert directory.refresh(now())
    assert directory.people.wearers_at(devices, instants).to_list() == [1, 2]
    assert directory.people.ever_worn(1) == {DEVICE}
    assert not directory.refresh(now() + timedelta(minutes=2))
