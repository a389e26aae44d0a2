"""Which version holds, against a plain evaluation of the definition."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from assets.bitemporal import AsOf, holding

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
UTC_US = pl.Datetime("us", "UTC")
VERSIONS = pl.Schema(
    {"id": pl.Int64(), "valid_from": UTC_US, "known_at": UTC_US, "is_deleted": pl.Boolean(), "value": pl.Int64()}
)
Version = tuple[int, datetime, datetime, bool, int]

keys = st.sampled_from([0, 1, 2, 5, 2**63 - 1, -(2**63)])
dense_keys = st.integers(1, 4)
moments = st.integers(0, 8).map(lambda minutes: START + timedelta(minutes=minutes))


def versions_of(key: st.SearchStrategy[int]) -> st.SearchStrategy[list[Version]]:
    version = st.tuples(key, moments, moments, st.booleans(), st.integers(0, 99))
    # A load knows a key and an instant once.
    return st.lists(version, max_size=25, unique_by=lambda each: each[:3])


queries = st.lists(st.tuples(st.none() | keys | dense_keys, moments, moments), min_size=1, max_size=25)


def plainly(versions: list[Version], key: int | None, at: datetime, known_by: datetime) -> int | None:
    """The value that holds, by the definition."""
    counted = [each for each in versions if each[0] == key and each[1] <= at and each[2] <= known_by]
    if not counted:
        return None
    _, _, _, is_deleted, value = max(counted, key=lambda each: each[1:3])
    return None if is_deleted else value


def frame(versions: list[Version]) -> pl.DataFrame:
    return pl.DataFrame(versions, schema=VERSIONS, orient="row")


def assert_as_defined(versions: list[Version], asked: list[tuple[Any, ...]], *, is_prepared: bool) -> None:
    as_of = AsOf(frame(versions), "id")
    if is_prepared:
        as_of.prepare()
    rows = pl.DataFrame(asked, schema={"id": pl.Int64, "at": UTC_US, "known_by": UTC_US}, orient="row")
    found = as_of.rows_of(rows["id"], rows["at"], rows["known_by"])
    assert as_of.versions["value"].gather(found).to_list() == [plainly(versions, *each) for each in asked]


@given(versions_of(keys), queries, st.booleans())
def test_the_version_that_holds_is_the_one_of_the_definition(versions, asked, is_prepared):
    assert_as_defined(versions, asked, is_prepared=is_prepared)


@given(versions_of(dense_keys), queries, st.booleans())
def test_the_same_where_keys_lie_close_together(versions, asked, is_prepared):
    assert_as_defined(versions, asked, is_prepared=is_prepared)


@given(versions_of(dense_keys), moments, moments)
def test_all_that_holds_at_once_is_what_holds_for_each(versions, at, known_by):
    found = holding(frame(versions), "id", at, known_by)
    each = {key: plainly(versions, key, at, known_by) for key in (1, 2, 3, 4)}
    assert dict(found.select("id", "value").iter_rows()) == {key: v for key, v in each.items() if v is not None}


def test_a_correction_and_a_backdated_version_count_only_once_they_are_known():
    hour = timedelta(hours=1)
    told: list[Version] = [
        (1, START, START, False, 10),
        (1, START + 4 * hour, START + 4 * hour, False, 20),
        # Five hours after the start it becomes known that another value held from two hours on, and that the first was
        # wrong.
        (1, START + 2 * hour, START + 5 * hour, False, 15),
        (1, START, START + 5 * hour, False, 11),
        (1, START + 6 * hour, START + 6 * hour, True, 0),
    ]
    asked = [(1, START + hours * hour, START + known * hour) for hours in range(8) for known in (4, 5, 9)]
    assert_as_defined(told, asked, is_prepared=True)
    values = [plainly(told, *each) for each in asked]
    assert values[:9] == [10, 11, 11, 10, 11, 11, 10, 15, 15]
    assert values[-3:] == [20, 20, None]


def test_no_version_at_all_is_no_error():
    assert_as_defined([], [(1, START, START), (None, START, START)], is_prepared=True)
