"""What makes a row good, what makes a reading an outlier, and what its device had said when it was taken."""

from datetime import UTC, date, datetime, timedelta
from random import Random
from statistics import median
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.clinical import silver
from assets.clinical.contract import bronze_table
from assets.clinical.silver import as_of, instant, latest, with_outliers
from assets.clinical.sources import EHR, SOURCES

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
UTC_US = pl.Datetime("us", "UTC")


def bronze(**values: Any) -> pl.DataFrame:
    """A good row of bronze/ehr with other values."""
    schema = bronze_table(EHR).schema
    row = dict.fromkeys(schema) | {
        "load_id": "a",
        "load_number": 1,
        "row_number": 0,
        "loaded_at": NOON,
        "load_date": NOON.date(),
        "revision": 1,
        "patient_id": 1,
        "timestamp": "2026-11-20 08:00:00",
        "kind": "glucose",
        "reading": 110.0,
    }
    return pl.DataFrame([row | values], schema=schema)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, None),
        ({"patient_id": None}, "missing:patient_id"),
        ({"timestamp": "yesterday"}, "bad_value:timestamp"),
        ({"timestamp": "2026-02-30 08:00:00"}, "bad_value:timestamp"),
        ({"timestamp": "2026-11-20 12:30:00"}, "in_the_future:measured_at"),
        ({"reading": None}, "missing:reading"),
        ({"reading": None, "defects": '{"reading":"n/a"}'}, "bad_value:reading"),
        ({"reading": 99_999.0}, "implausible:reading"),
        ({"reading": float("nan")}, "implausible:reading"),
        ({"kind": "steps", "reading": 99_999.0}, None),
        ({"kind": None, "reading": 99_999.0}, None),
        ({"patient_id": None, "timestamp": None}, "missing:patient_id, missing:timestamp"),
    ],
)
def test_a_row_is_quarantined_with_all_its_reasons(values, reason):
    assert silver.read_ehr(bronze(**values))["reason"].item() == reason


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1980-12-31 00:00:00", date(1980, 12, 31)),
        ("19801231", date(1980, 12, 31)),
        ("1980-02-30", None),
        ("0000-00-00", None),
        ("0001-01-01", None),
    ],
)
def test_a_date_that_stands_for_none_is_none(written, expected):
    assert pl.DataFrame({"day": [written]}).select(silver.day("day")).item() == expected


@pytest.mark.parametrize(
    ("kind", "reading", "unit", "expected"),
    [
        ("glucose", 3.0, "mmol/L", (54.0, "mg/dL", None)),
        ("Glucose", 14.2, " mmol/l", (256.0, "mg/dL", None)),
        ("glucose", 110.0, "mg/dL", (110.0, "mg/dL", None)),
        ("glucose", 3.0, None, (3.0, None, "implausible:reading")),
        ("temperature", 98.6, "°F", (37.0, "°C", None)),
        ("temperature", 39.0, "F", (3.89, "°C", "implausible:reading")),
        ("temperature", 36.6, "C", (36.6, "C", None)),
        ("lactate", 3.0, "mmol/L", (3.0, "mmol/L", None)),
    ],
)
def test_a_reading_in_another_unit_is_converted(kind, reading, unit, expected):
    read = silver.read_ehr(bronze(kind=kind, reading=reading, unit=unit))
    assert read.select("reading", "unit", "reason").row(0) == expected


@pytest.mark.parametrize("batch", SOURCES, ids=lambda batch: batch.name)
def test_every_source_gives_the_columns_of_its_silver(batch):
    schema = bronze_table(batch).schema
    parsed = batch.read(pl.DataFrame(schema=schema))
    added = batch.enrich.columns if batch.enrich else ()
    assert {*batch.silver.schema} - {*added} <= {*parsed.columns}
    assert {*batch.required} <= {*batch.columns}
    # A row without any value is quarantined, whatever its source.
    nothing = pl.DataFrame([dict.fromkeys(schema) | {"loaded_at": NOON}], schema=schema)
    assert batch.read(nothing)["reason"].item().startswith("missing:")


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20 08:05", datetime(2026, 11, 20, 8, 5, tzinfo=UTC)),
        (" 2026-11-20 08:05:06.5 ", datetime(2026, 11, 20, 8, 5, 6, 500_000, tzinfo=UTC)),
        ("2026-11-20T08:05:06Z", datetime(2026, 11, 20, 8, 5, 6, tzinfo=UTC)),
        ("2026-11-20T08:05+02:00", datetime(2026, 11, 20, 6, 5, tzinfo=UTC)),
        ("2026-11-20 08:05:06 -0530", datetime(2026, 11, 20, 13, 35, 6, tzinfo=UTC)),
        ("1931-05-01 00:00:00", datetime(1931, 5, 1, tzinfo=UTC)),
        ("0001-01-01", None),
        ("20.11.2026", None),
        ("", None),
    ],
)
def test_instants_are_read_in_the_forms_of_databases_and_apis(text, at):
    assert pl.DataFrame({"at": [text]}).select(instant("at")).item() == at


def plain_outliers(rows: list[tuple[int, str, date, float]]) -> list[tuple[float | None, bool]]:
    """The same by a plain evaluation."""
    found: list[tuple[float | None, bool]] = []
    for patient, kind, day, value in rows:
        usual = [
            other
            for who, what, when, other in rows
            if (who, what) == (patient, kind) and timedelta(0) <= day - when < timedelta(days=30)
        ]
        middle = median(usual)
        deviations = [abs(each - middle) for each in usual]
        spread, mean = median(deviations), sum(deviations) / len(deviations)
        if len(usual) < 5:
            z = None
        elif spread > 0:
            z = 0.6745 * (value - middle) / spread
        else:
            z = (value - middle) / (1.253314 * mean) if mean > 0 else 0.0
        found.append((z, z is not None and abs(z) > 3.5))
    return found


def random_readings(seed: int, count: int) -> list[tuple[int, str, date, float]]:
    rng = Random(seed)
    return [
        (
            rng.randint(1, 3),
            rng.choice(("glucose", "heart_rate")),
            date(2026, 9, 1) + timedelta(days=rng.choice((0, 1, 29, 30, 31, 60, rng.randint(0, 80)))),
            rng.choice((100.0, 100.0, 101.0, 99.5, rng.gauss(100, 5), 400.0)),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_outliers_are_those_of_a_plain_evaluation(seed):
    rows = random_readings(seed, 150)
    frame = pl.DataFrame(rows, schema=["patient_id", "kind", "event_date", "reading"], orient="row")
    found = with_outliers(frame)
    assert found.select(frame.columns).equals(frame)
    for (z, is_outlier), (expected_z, expected) in zip(
        found.select("robust_z", "is_outlier").iter_rows(), plain_outliers(rows), strict=True
    ):
        assert z == (None if expected_z is None else pytest.approx(expected_z))
        assert is_outlier == expected
    assert 0 < found["is_outlier"].sum() < len(rows) / 2


minutes = st.integers(0, 3 * 24 * 60)
devices = st.one_of(st.none(), st.integers(1, 3))


@settings(max_examples=60)
@given(
    readings=st.lists(st.tuples(devices, minutes), max_size=30),
    told=st.lists(st.tuples(st.integers(1, 3), minutes), max_size=30, unique=True),
)
def test_telemetry_is_the_last_before_a_reading_and_never_multiplies_rows(readings, told):
    rows = pl.DataFrame(
        [(number, device, NOON + timedelta(minutes=at)) for number, (device, at) in enumerate(readings)],
        schema={"number": pl.Int64, "device_id": pl.Int64, "measured_at": UTC_US},
        orient="row",
    )
    telemetry = pl.DataFrame(
        [(device, NOON + timedelta(minutes=at), f"{device}/{at}", 50.0, -60.0, "1") for device, at in told],
        schema={
            "device_id": pl.Int64,
            "measured_at": UTC_US,
            "device_status": pl.String,
            "battery_percent": pl.Float64,
            "signal_dbm": pl.Float64,
            "firmware_version": pl.String,
        },
        orient="row",
    )
    joined = as_of(rows, telemetry)
    assert joined["number"].to_list() == list(range(len(readings)))
    for (device, at), status, age in zip(readings, joined["device_status"], joined["telemetry_age_s"], strict=True):
        said = [when for who, when in told if who == device and at - 24 * 60 <= when <= at]
        assert status == (f"{device}/{max(said)}" if said else None)
        assert age == ((at - max(said)) * 60.0 if said else None)


@given(st.permutations(range(6)))
def test_the_latest_load_stands_in_whatever_order_rows_come(order):
    rows = pl.DataFrame(
        {"key": [1, 1, 1, 2, 2, 3], "load_number": [1, 2, 2, 5, 3, 4], "row_number": [0, 0, 1, 0, 9, 0]}
    ).with_row_index("number")
    assert latest(rows[list(order)], ("key",))["number"].to_list() == [2, 3, 5]


def test_a_row_that_a_rebuild_made_again_takes_the_place_of_the_old_one():
    # So many that a sort which keeps no order would mix them.
    places = pl.int_range(50_000, dtype=pl.Int64, eager=True)
    old = pl.DataFrame({"key": places, "load_number": 1, "row_number": places % 100, "made": "before"})
    new = old.with_columns(made=pl.lit("again"))
    assert latest(pl.concat([old, new]), ("key",))["made"].unique().to_list() == ["again"]
