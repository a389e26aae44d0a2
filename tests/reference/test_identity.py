"""Ids of other systems: files with keys of several texts, and what holds of them as of two times."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from assets.bitemporal import AsOfTexts
from assets.reference.files import ReferenceFileError, rows_of
from assets.reference.tables import IDENTITY
from assets.reference_store import held, put
from resources.lake import Lake

HEADER = "system,kind,foreign_id,pulselake_id,patient_of_device,zone\n"
TODAY = date(2026, 6, 1)
Utc = pl.Datetime("us", "UTC")


def day(number: int) -> datetime:
    return datetime(2026, 5, number, tzinfo=UTC)


def load(
    lake: Lake, text: str, *, valid_from: datetime, loaded_at: datetime, replaces: bool = False
) -> tuple[int, ...]:
    rows = rows_of(IDENTITY, HEADER + text, TODAY)
    changes = put(lake, IDENTITY, rows, valid_from=valid_from, clock=lambda: loaded_at, replaces=replaces)
    return changes.added, changes.changed, changes.ended, changes.unchanged


def test_a_thing_is_told_apart_by_all_three_texts(tmp_path: Path):
    lake = Lake(str(tmp_path))
    first = "a,patient,x,1,,\na,device,x,2,1,\nb,patient,x,3,,Europe/Lisbon\n"
    assert load(lake, first, valid_from=day(1), loaded_at=day(1)) == (3, 0, 0, 0)
    assert load(lake, first, valid_from=day(2), loaded_at=day(2)) == (0, 0, 0, 3)
    second = "a,device,x,2,4,\nA,patient,x,5,,\n"
    assert load(lake, second, valid_from=day(3), loaded_at=day(3), replaces=True) == (1, 1, 2, 0)
    shown = held(lake, IDENTITY, day(4)).select("system", "kind", "pulselake_id", "patient_of_device").rows()
    assert shown == [("A", "patient", 5, None), ("a", "device", 2, 4)]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            "a,patient,x,1,,\na,patient,x,2,,\n",
            "line 3, column foreign_id: line 2 has the same system, kind, foreign_id",
        ),
        ("a,patient,x,1,7,\n", "line 2, column patient_of_device: a patient beside one"),
        ("a,watch,x,1,,\n", "line 2, column kind: none of the words that may stand here"),
        ("a,patient,,1,,\n", "line 2, column foreign_id: an empty cell"),
        ("a,patient,x,,,\n", "line 2, column pulselake_id: an empty cell"),
        ("a,patient,x,1,,CET-ish\n", "line 2, column zone: no known time zone"),
    ],
)
def test_a_wrong_line_is_told_of(lines: str, told: str):
    with pytest.raises(ReferenceFileError, match=told):
        rows_of(IDENTITY, HEADER + lines, TODAY)


def versions(*rows: tuple[str, int, datetime, datetime, bool]) -> pl.DataFrame:
    schema = pl.Schema(
        {"name": pl.String(), "number": pl.Int64(), "valid_from": Utc, "known_at": Utc, "is_deleted": pl.Boolean()}
    )
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(system=pl.lit("a"))


def number_of(as_of: AsOfTexts, name: str, at: datetime, known_by: datetime) -> int | None:
    [row] = as_of.rows_of([("a", name)], pl.Series([at], dtype=Utc), pl.Series([known_by], dtype=Utc))
    return None if row is None else as_of.versions["number"][row]


def test_what_holds_is_found_by_what_was_known_and_else_by_what_is_known_now():
    found = AsOfTexts(
        versions(
            ("x", 1, day(10), day(10), False),
            ("x", 2, day(15), day(20), False),
            ("y", 3, day(12), day(25), False),
            ("z", 4, day(10), day(10), False),
            ("z", 4, day(14), day(14), True),
        ),
        ["system", "name"],
    )
    # By what was known then, although more is known now.
    assert number_of(found, "x", day(16), day(16)) == 1
    assert number_of(found, "x", day(16), day(21)) == 2
    assert number_of(found, "x", day(11), day(21)) == 1
    # Before its first version that one counts.
    assert number_of(found, "x", day(1), day(21)) == 1
    # Nothing was known of it then.
    assert number_of(found, "y", day(13), day(13)) == 3
    # It had ended, and nothing else became known.
    assert number_of(found, "z", day(13), day(20)) == 4
    assert number_of(found, "z", day(16), day(20)) is None
    assert number_of(found, "nobody", day(16), day(20)) is None


def test_many_are_looked_up_at_once():
    found = AsOfTexts(
        versions(("x", 1, day(10), day(10), False), ("y", 2, day(10), day(25), False)), ["system", "name"]
    )
    names = ["x", "nobody", "y", "x"]
    at, known_by = (pl.Series([each] * len(names), dtype=Utc) for each in (day(12), day(12)))
    rows = found.rows_of([("a", name) for name in names], at, known_by)
    assert [None if row is None else found.versions["name"][row] for row in rows] == ["x", None, "y", "x"]
    assert found.rows_of([], at.clear(), known_by.clear()).is_empty()
