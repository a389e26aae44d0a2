"""What is made ahead by a thread: in order, closed by the thread that made it, and failing where it is used."""

import threading
from collections.abc import Generator

import pytest

from resources.background import ahead


def numbers(count: int, seen: list[str]) -> Generator[int, None, None]:
    """Counts, and says which threads were at work."""
    try:
        for number in range(count):
            seen.append(threading.current_thread().name)
            yield number
        raise LookupError("there are no more")
    finally:
        seen.append(f"closed by {threading.current_thread().name}")


def test_items_come_in_order_and_what_fails_does_so_behind_those_that_were_made():
    made = ahead(numbers(3, []))
    assert [next(made) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(LookupError, match="no more"):
        next(made)


def test_whoever_stops_has_the_generator_closed_by_its_own_thread():
    seen = list[str]()
    made = ahead(numbers(10**9, seen))
    assert next(made) == 0
    made.close()
    assert len(seen) <= 3
    assert seen[-1] == f"closed by {seen[0]}" != f"closed by {threading.current_thread().name}"
