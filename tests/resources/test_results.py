"""How results are written: types, nulls, what must not reach a terminal, and results larger than memory."""

import csv
import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from io import StringIO

import polars as pl
import pytest

from resources.analytics import Analytics
from resources.lake import Lake
from resources.results import Result, render, write

EVERYTHING = pl.DataFrame(
    {
        "at": pl.Series([datetime(2026, 11, 23, 12, 0, 1, 250_000, tzinfo=UTC), None], dtype=pl.Datetime("us", "UTC")),
        "local": [datetime(2026, 11, 23, 12), None],
        "on": [date(2026, 11, 23), None],
        "clock": [time(7, 30), None],
        "bytes": [b"\xff\x00", None],
        "number": [1.5, float("nan")],
        "endless": [float("inf"), float("-inf")],
        "exact": pl.Series([Decimal("1.50"), None], dtype=pl.Decimal(9, 2)),
        "huge": pl.Series([10**30, None], dtype=pl.Int128),
        "flag": [True, None],
        "text": ['Zoë, "日本"\r\n🩸', ""],
        "nothing": pl.Series([None, None], dtype=pl.Null),
    }
)


class Sink(StringIO):
    """Remembers how much was written at once."""

    largest = 0
    total = 0

    def write(self, text: str) -> int:
        self.largest, self.total = max(self.largest, len(text)), self.total + len(text)
        return len(text)


def test_json_of_every_type():
    first, second = json.loads(render(EVERYTHING, "json"))
    assert first == {
        "at": "2026-11-23T12:00:01.250Z",
        "local": "2026-11-23T12:00:00",
        "on": "2026-11-23",
        "clock": "07:30:00",
        "bytes": "/wA=",
        "number": 1.5,
        "endless": None,
        "exact": 1.5,
        "huge": 10**30,
        "flag": True,
        "text": 'Zoë, "日本"\r\n🩸',
        "nothing": None,
    }
    assert second == dict.fromkeys(EVERYTHING.columns) | {"text": ""}


def test_characters_that_end_a_line_elsewhere_are_text_in_json():
    places = [f"Ward{end}3" for end in "\u2028\u2029\x85\x0b\x0c\x1c\r\n"]
    assert json.loads(render(pl.DataFrame({"location": places}), "json")) == [{"location": place} for place in places]


def test_csv_of_every_type():
    header, first, second = csv.reader(StringIO(render(EVERYTHING, "csv"), newline=""))
    assert header == EVERYTHING.columns
    assert first == [
        *[
            "2026-11-23T12:00:01.250Z",
            "2026-11-23T12:00:00",
            "2026-11-23",
            "07:30:00",
            "/wA=",
            "1.5",
            "",
            "1.50",
            str(10**30),
        ],
        *["true", 'Zoë, "日本"\r\n🩸', ""],
    ]
    assert second == [""] * len(EVERYTHING.columns)


def test_csv_lines_end_in_lf_and_tell_null_from_empty():
    assert render(pl.DataFrame({"a": ["", None], "b,": [1, 2]}), "csv") == 'a,"b,"\n"",1\n,2\n'


FORMULAS = ["=1+1", "+49 170", "-", "@SUM(A1)", "\t=1", "\r=1", "-1-1", "+.", "-5 mg/dL", "-٥", "=", "-1\n+1"]
NO_FORMULAS = ["-5", "+3.25", "-.5", "-1e-5", "1=1", "", "'=1", " =1", "a@b", "-5."]


def test_texts_that_a_spreadsheet_runs_get_an_apostrophe_in_csv_unless_they_are_numbers():
    frame = pl.DataFrame({"=cmd": [*FORMULAS, *NO_FORMULAS, None], "at": [-1.5] * 23, "+n": pl.Series([-2] * 23)})
    header, *lines = csv.reader(StringIO(render(frame, "csv"), newline=""))
    assert header == ["'=cmd", "at", "'+n"]
    assert [line[0] for line in lines] == [*(f"'{text}" for text in FORMULAS), *NO_FORMULAS, ""]
    assert {(line[1], line[2]) for line in lines} == {("-1.5", "-2")}


def test_raw_csv_leaves_texts_as_they_are_and_so_does_json():
    frame = pl.DataFrame({"=cmd": [*FORMULAS, *NO_FORMULAS]})
    header, *lines = csv.reader(StringIO(render(frame, "csv", raw=True), newline=""))
    assert [header, *lines] == [["=cmd"], *([text] for text in frame["=cmd"])]
    assert [row["=cmd"] for row in json.loads(render(frame, "json"))] == frame["=cmd"].to_list()


def test_bytes_that_look_like_a_formula_are_texts_too():
    assert render(pl.DataFrame({"b": [b"\xf8\x00\x00"]}), "csv") == "b\n'+AAA\n"


def test_a_result_without_rows_keeps_its_columns():
    nothing = pl.DataFrame(schema={"a": pl.Int64, "b": pl.String})
    assert render(nothing, "csv") == "a,b\n"
    assert render(nothing, "json") == "[]\n"
    assert render(nothing, "table") == "a  b\n-  -\n(0 rows)\n"


def test_a_table_is_aligned_by_what_the_eye_sees():
    assert render(pl.DataFrame({"name": ["日本", "Zoë", None], "mg_dl": [5.0, 112.25, None]}), "table") == (
        "name   mg_dl\n----  ------\n日本       5\nZoë   112.25\nNULL    NULL\n(3 rows)\n"
    )


def test_what_a_device_sent_cannot_drive_the_terminal():
    text = render(pl.DataFrame({"body": ["\x1b[2J\x07\n\u202egnp"]}), "table")
    assert "\\x1b[2J\\x07\\n\\u202egnp" in text


def test_a_long_cell_is_cut_in_a_table_only():
    frame = pl.DataFrame({"body": ["x" * 500]})
    assert max(map(len, render(frame, "table").splitlines())) == 60
    assert "x" * 500 in render(frame, "csv")


@pytest.mark.parametrize(
    ("rows", "note"), [(1_000, "(1,000 rows)"), (1_001, "(the first 1,000 rows; there are more: ")]
)
def test_a_table_shows_a_thousand_rows_and_says_when_there_are_more(rows, note):
    lines = render(pl.DataFrame({"a": range(rows)}), "table").splitlines()
    assert len(lines) == 1_003
    assert lines[-1].startswith(note)


def test_frames_are_joined_without_a_seam():
    def pieces() -> Result:
        frames = [pl.DataFrame({"a": part}, schema={"a": pl.Int64}) for part in ([], [1], [], [2, 3])]
        return Result(frames[0].schema, iter(frames))

    whole = pl.DataFrame({"a": [1, 2, 3]})
    assert [render(pieces(), how) for how in ("table", "csv", "json")] == [
        render(whole, how) for how in ("table", "csv", "json")
    ]
    assert pieces().collect().equals(whole)


@pytest.fixture
def analytics(tmp_path) -> Analytics:
    return Analytics(Lake(str(tmp_path)), [])


def test_infinite_dates_are_null(analytics):
    found = analytics.query("SELECT 'infinity'::DATE AS d, 'infinity'::TIMESTAMPTZ AS t, '-infinity'::TIMESTAMP AS n")
    assert json.loads(render(found, "json")) == [{"d": None, "t": None, "n": None}]
    assert "NULL" in render(found, "table")


def test_the_last_date_of_the_calendar_is_written(analytics):
    found = analytics.query(
        "SELECT DATE '9999-12-31' AS d, TIMESTAMPTZ '9999-12-31 23:59:59.999999+00' AS t, DATE '0001-01-01' AS f"
    )
    assert json.loads(render(found, "json")) == [
        {"d": "9999-12-31", "t": "9999-12-31T23:59:59.999999Z", "f": "0001-01-01"}
    ]


@pytest.mark.parametrize("format", ["csv", "json"])
def test_many_rows_are_never_one_text(analytics, format):
    sink = Sink()
    with analytics.stream("SELECT i, 'glucose' AS what FROM range(2000000) t(i)") as result:
        write(result, format, sink)
    assert sink.total > 2_000_000 * 15
    assert sink.largest < sink.total / 10


def test_a_table_of_endless_rows_ends(analytics):
    sink = Sink()
    with analytics.stream("SELECT i FROM range(1000000000000) t(i)") as result:
        write(result, "table", sink)
    assert sink.total < 50_000


def test_a_plan_is_drawn_as_it_is(analytics):
    assert "\n│ Projections: 1" in render(analytics.query("EXPLAIN SELECT 1"), "table")
