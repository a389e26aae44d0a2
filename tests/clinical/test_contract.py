"""How what a source gives gets the columns of bronze: kept, reported, or refused with a reason."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import polars as pl
import pytest

from assets.clinical.contract import DEFECTS, conform
from assets.clinical.sources import EHR
from resources.batch_source import UNREADABLE, Watermark, frame_of, trusted

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def rows(*readings: Any, **more: Any) -> pl.DataFrame:
    return frame_of(
        [
            {"patient_id": 1, "timestamp": f"2026-11-{number:02} 10:00:00", "reading": reading, **more}
            for number, reading in enumerate(readings, start=1)
        ]
    )


def test_values_become_columns_of_their_types():
    frame = frame_of(
        [
            {
                "a": 1,
                "b": 1,
                "c": "x",
                "d": True,
                "e": b"\0",
                "f": date(2026, 1, 2),
                "g": datetime(2026, 1, 2),
                "h": None,
            },
            {"a": 2, "b": Decimal("2.5"), "c": None, "d": None, "e": None, "f": None, "g": NOON, "h": None},
        ]
    )
    utc = pl.Datetime("us", "UTC")
    types = [pl.Int64, pl.Float64, pl.String, pl.Boolean, pl.Binary, pl.Date, utc, pl.Null]
    assert frame.dtypes == types
    assert frame["g"].to_list() == [datetime(2026, 1, 2, tzinfo=UTC), NOON]


def test_what_has_several_types_or_is_no_object_is_kept_as_text():
    frame = frame_of([{"a": 1, "b": [1]}, {"a": "x", "b": {"c": "ü"}}, 7, "garbage", {"a": 2**70}])
    assert frame["a"].to_list() == ["1", "x", None, None, str(2**70)]
    assert frame["b"].to_list() == ["[1]", '{"c":"ü"}', None, None, None]
    assert frame[UNREADABLE].to_list() == [None, None, "7", '"garbage"', None]


def test_a_new_column_is_added_with_its_type():
    found = conform(EHR, rows(1.0, Ward="north", shift=2), {})
    assert dict(found.added) == {"ward": pl.String, "shift": pl.Int64}
    assert found.rows["ward"].to_list() == ["north"]
    assert found.wrong == ()


def test_a_column_that_bronze_gained_before_keeps_its_type():
    found = conform(EHR, rows(*[1.0] * 20, ward=7), {"ward": pl.String()})
    assert found.wrong == ("column 'ward' is String by its declaration and came as Int64",)


def test_a_column_of_another_type_is_refused_by_name():
    found = conform(EHR, rows(*(["high", "low"] * 10)), {})
    assert found.wrong == ("column 'reading' is Float64 by its declaration and came as String",)


def test_one_value_of_another_type_costs_its_row_alone_and_is_kept():
    found = conform(EHR, rows(1.0, "n/a", 3.0), {})
    assert found.wrong == ()
    assert found.rows["reading"].to_list() == [1.0, None, 3.0]
    assert [each and msgspec.json.decode(each) for each in found.rows[DEFECTS]] == [None, {"reading": "n/a"}, None]
    assert found.defects == 1


@pytest.mark.parametrize(("came", "kept"), [(7, 7.0), ("7.5", 7.5), (None, None)])
def test_what_means_the_same_is_no_defect(came, kept):
    found = conform(EHR, rows(1.5, came), {})
    assert found.rows["reading"].to_list() == [1.5, kept]
    assert found.defects == 0


@pytest.mark.parametrize("came", [2.5, "7", "x", True, 2.0**60])
def test_a_number_is_never_cut_to_fit(came):
    found = conform(EHR, frame_of([{"patient_id": came, "timestamp": "2026-11-01", "reading": 1.0}]), {})
    kept = found.rows["patient_id"].item()
    assert kept == (7 if came == "7" else None)
    assert found.defects == (came != "7")


def test_a_load_without_a_column_it_cannot_do_without_is_refused():
    found = conform(EHR, rows(1.0).drop("timestamp"), {})
    assert found.wrong == ("column 'timestamp' is missing",)


def test_names_that_no_engine_tells_apart_are_made_different():
    found = conform(EHR, rows(1.0, **{"Ward": "a", "WARD": "b", "load_id": "c", "room no.": "d"}), {})
    assert list(found.added) == ["ward", "ward_2", "load_id_of_source", "room_no"]


def test_instants_and_dates_become_text_in_utc():
    frame = frame_of([{"patient_id": 1, "timestamp": NOON, "reading": 1.0, "updated_at": date(2026, 11, 20)}])
    found = conform(EHR, frame, {}).rows
    assert found["timestamp"].item() == "2026-11-20T12:00:00.000000+00:00"
    assert found["updated_at"].item() == "2026-11-20"


@pytest.mark.parametrize(
    "at", ["2026-11-20 10:00:00", "2026-11-20T10:00:00+00:00", datetime(2026, 11, 20, 10, tzinfo=UTC), 41]
)
def test_a_watermark_survives_its_cursor(at):
    mark = Watermark()
    mark.read([("a", at), ("b", None)])
    again = Watermark.of("ehr", mark.cursor())
    assert (again.at, again.seen) == (at, {"a": at, "b": None})


def test_the_next_pull_begins_before_the_newest_row():
    starts = {at: Watermark(at).start() for at in ("2026-11-20 10:00:00", "2026-11-20T10:00:00Z", 41)}
    assert list(starts.values()) == ["2026-11-20 09:50:00", "2026-11-20T09:50:00Z", 41]


@pytest.mark.parametrize("value", ["yesterday", "2099-01-01 00:00:00", datetime(2099, 1, 1), None])
def test_a_watermark_that_no_later_row_would_reach_is_not_trusted(value):
    assert trusted(value, NOON) is None
