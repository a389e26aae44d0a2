"""The age at a reading, against a plain evaluation."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from assets.reference.enrichments import completed_years

births = st.none() | st.dates(date(1900, 1, 1), date(2030, 1, 1))
moments = st.datetimes(datetime(1999, 1, 1), datetime(2030, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))


def plainly(born: date | None, at: date) -> int | None:
    if born is None or born > at:
        return None
    return at.year - born.year - ((at.month, at.day) < (born.month, born.day))


def ages(*given: tuple[date | None, datetime]) -> list[int | None]:
    schema = {"date_of_birth": pl.Date(), "measured_at": pl.Datetime("us", "UTC")}
    found = completed_years(pl.DataFrame(list(given), schema=schema, orient="row"))
    assert found.dtype == pl.Int64
    return found.to_list()


@given(st.lists(st.tuples(births, moments), min_size=1, max_size=10))
def test_an_age_is_in_completed_years(given):
    assert ages(*given) == [plainly(born, at.date()) for born, at in given]


def test_the_same_where_many_readings_share_dates():
    at = datetime(2026, 2, 27, 12, tzinfo=UTC)
    born = [date(2000, 2, 28) + timedelta(days=days) for days in range(4)]
    given = [(each, at + timedelta(days=days)) for each in born for days in range(5)]
    assert ages(*given * 10) == [plainly(born, moment.date()) for born, moment in given * 10]


def test_who_is_born_on_a_leap_day_is_older_on_the_first_of_march():
    born = date(2004, 2, 29)
    last, first = (datetime(2026, month, day, tzinfo=UTC) for month, day in ((2, 28), (3, 1)))
    assert ages((born, last), (born, first), (date(2026, 3, 2), first), (None, first)) == [21, 22, None, None]


def test_no_readings_are_no_error():
    assert ages() == []
