"""Keeps one bad row from stopping the others: work that fails is tried on each half of the rows, down to a single row.

It is for work that looks at each row by itself. It is pure.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

import polars as pl

T = TypeVar("T")


def isolated(
    rows: pl.DataFrame, work: Callable[[pl.DataFrame], T], refuse: Callable[[pl.DataFrame, str], T]
) -> Iterator[T]:
    """The results of the work on all rows, in their order, in as few parts as the failing rows allow.

    A row fails if the work fails on it alone, so the outcome does not depend on the rows around it.

    Args:
        rows: what to work on.
        work: what may fail, with any exception.
        refuse: called with a single row on which the work failed, and the type of the exception. Its text is left out,
            since it may quote the row.
    """
    try:
        done = work(rows)
    except (Exception, pl.exceptions.PanicException) as error:
        failure = type(error).__name__
    else:
        yield done
        return
    if rows.height <= 1:
        yield refuse(rows, failure)
        return
    middle = rows.height // 2
    yield from isolated(rows[:middle], work, refuse)
    yield from isolated(rows[middle:], work, refuse)
