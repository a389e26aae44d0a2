"""Two processors by turns, batch by batch, one with and one without what is measured: noise then falls on both."""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TypeVar

from benchmarks.engine import Case, Engine
from benchmarks.report import Figures

E = TypeVar("E", bound=Engine)


def by_turns(
    engines: Mapping[str, E], case: Case, prepare: Callable[[E, Sequence[bytes]], None] = lambda _, __: None
) -> dict[str, list[float]]:
    """The seconds that each processor takes for each batch of a case, without those that warm up.

    Args:
        engines: ``with`` and ``without``.
        case: the batches.
        prepare: called before each batch, outside the time that is measured.
    """
    taken: dict[str, list[float]] = {name: [] for name in engines}
    for number, bodies in enumerate(case.batches()):
        # Who comes second finds the processor's caches warm: they take turns.
        for name in sorted(engines, reverse=number % 2 == 0):
            prepare(engines[name], bodies)
            began = time.perf_counter()
            engines[name].process(bodies)
            seconds = time.perf_counter() - began
            if number >= case.warm:
                taken[name].append(seconds)
            engines[name].forget()
    return taken


def compared(taken: Mapping[str, list[float]]) -> Figures:
    """The median and the best batch, in milliseconds, of ``without`` and ``with``."""
    figures: Figures = {}
    for what, of in (("median", median), ("best", min)):
        without, with_ = (1000 * of(taken[name]) for name in ("without", "with"))
        figures[what] = {
            "without_ms": round(without, 2),
            "with_ms": round(with_, 2),
            "more_percent": round(100 * (with_ / without - 1), 1),
        }
    return figures
