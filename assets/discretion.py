"""What may be told of an error in code that has read patients' data: its type and its place, never its text.

The text of an exception may quote a value, and Dagster stores and shows what reaches it.
"""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import polars as pl

FRAMES = 4

T = TypeVar("T")


def told_of(error: BaseException) -> str:
    """The type of an error and where it was raised, innermost first, without its text."""
    frames = reversed(traceback.extract_tb(error.__traceback__)[-FRAMES:])
    places = " ← ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    return f"{type(error).__name__} at {places}"


def without_text(failure: Callable[[str], Exception], work: Callable[[], T]) -> T:
    """The result of the work; an error in it becomes one without text, and without the original one attached.

    Args:
        failure: makes the error from what may be told of the original one.
        work: what may fail.
    """
    try:
        return work()
    except (Exception, pl.exceptions.PanicException) as error:
        told = told_of(error)
    # Outside of the handler, since what is raised within it carries the original error along.
    raise failure(told)
