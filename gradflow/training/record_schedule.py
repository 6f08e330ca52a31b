"""Schedules of recording: the steps at which a run is recorded, and readings that are taken at some of them only.

A schedule is a tuple of steps, or a function of the number of steps: `every(10)`, `logarithmic(3)`, `early`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..model.inputs import size
from ..results.arguments import shown, whole

LEAST = 1000  # bytes of a record, at the least
DENSEST = 10_000  # records a decade
MOST = 2**31 - 2  # steps, which are counted in int32

Schedule = Sequence[int] | Callable[[int], Sequence[int]]


def early(steps: int) -> tuple[int, ...]:
    """Returns 0, 1, 2, 5, then 10, 25, 50 and their multiples by ten, and the last step.

    >>> early(100)
    (0, 1, 2, 5, 10, 25, 50, 100)
    """
    marks = {0, 1, 2, 5}
    for power in range(len(str(steps))):
        marks |= {10 * 10**power, 25 * 10**power, 50 * 10**power}
    return tuple(sorted(mark for mark in marks | {steps} if mark <= steps))


def every(n: int) -> Callable[[int], tuple[int, ...]]:
    """Returns a schedule of every n-th step from 0, and the last.

    >>> every(40)(100)
    (0, 40, 80, 100)
    """
    n = whole("every(n): n", n)

    def marks(steps: int) -> tuple[int, ...]:
        size.refuse(f"a record every {n} of {steps} steps", "record fewer", records=LEAST * (steps // n))
        return tuple(sorted({*range(0, steps + 1, n), steps}))

    return marks


def logarithmic(per_decade: int = 4) -> Callable[[int], tuple[int, ...]]:
    """Returns a schedule of 0, then that many steps a decade, and the last.

    >>> logarithmic(2)(100)
    (0, 1, 3, 10, 32, 100)
    """
    per_decade = whole("logarithmic(per_decade): per_decade", per_decade, most=DENSEST)

    def marks(steps: int) -> tuple[int, ...]:
        chosen = {0, steps}
        for i in range(per_decade * len(str(steps))):
            mark = round(10 ** (i / per_decade))
            if mark <= steps:
                chosen.add(mark)
        return tuple(sorted(chosen))

    return marks


def named(words: Sequence[str]) -> Schedule:
    """Returns the schedule of these words: steps, or one of "early", "every:10" and "logarithmic:4"."""
    if all(word.isdecimal() for word in words):
        return tuple(map(int, words))
    name, _, number = words[0].partition(":")
    if len(words) == 1 and name == "early" and not number:
        return early
    if len(words) == 1 and name in ("every", "logarithmic") and number.isdecimal():
        if name == "every":
            return every(int(number))
        return logarithmic(int(number))
    raise ValueError(f"record is {' '.join(words)!r}: give steps, or early, every:N or logarithmic:N")


def steps_of(schedule: Schedule | None, steps: int) -> tuple[int, ...]:
    """Returns the steps of a schedule (by default `early`) in a run of that many, in order.

    Errors: ValueError where there is none, or one that the run doesn't reach.
    """
    steps = whole("steps", steps, most=MOST)
    asked = early if schedule is None else schedule
    marks: Any = asked(steps) if callable(asked) else asked
    if not isinstance(marks, Iterable) or isinstance(marks, str):
        raise ValueError(
            f"record is {shown(marks)}: steps are needed, (0, 10, 100), or a schedule of gf.record_schedule"
        )
    chosen = tuple(sorted({whole("a step of record", step, least=0) for step in marks}))
    if not chosen or chosen[-1] > steps:
        raise ValueError(f"record = {shown(chosen)} must lie between 0 and steps = {steps}")
    return chosen


@dataclass(frozen=True)
class At:
    """Readings taken at some of the recorded steps only, NaN at the others: `At((0, 100), "spectrum")`.

    Readings that are part of training's backward pass cost no pass of their own, and are taken at every recorded step.
    """

    steps: tuple[int, ...]
    readings: tuple

    def __init__(self, steps: Sequence[int], *readings):
        object.__setattr__(self, "steps", tuple(whole("a step of At", step, least=0) for step in steps))
        object.__setattr__(self, "readings", readings)
