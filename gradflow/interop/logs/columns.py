"""Columns of a record over its steps: `{key: [S]}`, or [S, L] where a value is a list.

A row counts where a norm was logged in it, so steps keep their gaps. A number that is not finite keeps its place; where a step
has no number for a key, NaN stands. Rows of one step are one: loggers write them in pieces. Where they disagree the last one
counts, as in a run that went back to a checkpoint; but a disagreement at the very first step means that there are two runs.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...results.arguments import shown
from .cells import Cell, NoNumber, cell
from .rows import Row
from .writers import some

# What tools call the step, the most explicit first: Lightning and transformers under Weights & Biases, that itself, its tables.
STEPS = (
    "trainer/global_step",
    "train/global_step",
    "global_step",
    "_step",
    "step",
    "Step",
    "iteration",
    "iter",
    "train_step",
)


@dataclass(frozen=True)
class Numbers:
    """The numbers of a record by key and row: `{key: {row: number}}`.

    `step_key` is the key of the step, with its cells by row in `steps`; `without` are the keys that have no number at all, and
    `broken` those that have numbers and, in that row, something else.
    """

    cells: Mapping[str, Mapping[int, Cell]]
    step_key: str | None
    steps: list[Any]
    without: tuple[str, ...]
    broken: Mapping[str, tuple[int, Any]]

    def first(self, key: str) -> Cell:
        """Returns the first number of a key."""
        return next(iter(self.cells[key].values()))

    def step(self, row: int) -> int | None:
        """Returns the step of a row; None where it has none."""
        if self.step_key is None:
            return 0
        try:
            number = cell(self.steps[row])
        except NoNumber:
            return None
        if isinstance(number, float) and number.is_integer():
            return int(number)
        return None


@dataclass(frozen=True)
class Columns:
    """Columns [S] or [S, L] by key, over `steps` [S]; `repeated` counts numbers that a later row replaced."""

    values: Mapping[str, np.ndarray]
    steps: np.ndarray
    repeated: int


def numbers(rows: list[Row], step: str | None) -> Numbers:
    """Returns the numbers in the rows; `step` is the key of the step, by default the first of `STEPS` that there is.

    Errors: ValueError where there is no such key.
    """
    step_key = _step_key(rows, step)
    cells: dict[str, dict[int, Cell]] = {}
    others: dict[str, tuple[int, Any]] = {}
    for i, row in enumerate(rows):
        for key, value in row.items():
            if key == step_key:
                continue
            try:
                number = cell(value)
            except NoNumber:
                others.setdefault(key, (i, value))
                continue
            if number is not None:
                cells.setdefault(key, {})[i] = number
    without = tuple(key for key in others if key not in cells)
    broken = {key: found for key, found in others.items() if key in cells}
    steps = [row.get(step_key) for row in rows] if step_key is not None else []
    return Numbers(cells, step_key, steps, without, broken)


def _step_key(rows: list[Row], step: str | None) -> str | None:
    """Returns the key of the step; None for a single row without one."""
    keys = dict.fromkeys(key for row in rows for key in row)
    if step is not None:
        if step not in keys:
            raise ValueError(f"no key step={shown(step)} in the record, which has {some(keys)}")
        return step
    for name in STEPS:
        if name in keys:
            return name
    if len(rows) == 1:
        return None
    raise ValueError(f"no key of the record is the step, as {', '.join(STEPS[:5])} would be: name it, step='…'")


def columns(found: Numbers, keys: Collection[str], beside: Collection[str] = ()) -> Columns:
    """Returns the columns of these keys, over the steps at which one of them has a number, and of those `beside` them.

    Errors: ValueError for a number without a step, for what is none among numbers, for lists of different lengths, and for two
    runs in one record.
    """
    for key in keys:
        if key in found.broken:
            row, value = found.broken[key]
            raise ValueError(
                f"{shown(key)} is {shown(value)} in row {row + 1}: a number is needed, NaN or an empty cell"
            )
    steps = _steps(found, keys)
    places: dict[int | None, int] = {int(step): i for i, step in enumerate(steps)}
    values, repeated = {}, 0
    for key in (*keys, *beside):
        values[key], again = _column(key, found, places)
        if 0 in again:
            raise ValueError(
                f"{shown(key)} has two numbers at step {steps[0]}, the first: the record holds two runs; give each its own, "
                "gf.logged({'a': …, 'b': …})"
            )
        repeated += len(again)
    return Columns(values, steps, repeated)


def _steps(found: Numbers, keys: Collection[str]) -> np.ndarray:
    """Returns the steps [S] of all rows in which one of the keys has a number, in order."""
    steps = set()
    for row in sorted({row for key in keys for row in found.cells[key]}):
        step = found.step(row)
        if step is None:
            raise ValueError(
                f"row {row + 1} of the record has norms, and {shown(found.steps[row])} for its step {shown(found.step_key)}: "
                "a whole number is needed, or the name of another key, step='…'"
            )
        steps.add(step)
    return np.array(sorted(steps))


def _column(key: str, found: Numbers, places: Mapping[int | None, int]) -> tuple[np.ndarray, list[int]]:
    """Returns the numbers of a key at the places of their steps, and the places where one replaced another."""
    cells = found.cells[key]
    column = np.full((len(places), *_shape(key, cells)), np.nan)
    seen: set[int] = set()
    again = []
    for row, number in cells.items():
        place = places.get(found.step(row))
        if place is None:  # no norm was logged at its step
            continue
        if place in seen and not np.array_equal(column[place], number, equal_nan=True):
            again.append(place)
        column[place] = number
        seen.add(place)
    return column, again


def _shape(key: str, cells: Mapping[int, Cell]) -> tuple[int, ...]:
    """Returns the shape of the numbers of a key: () or (L,)."""
    shapes = {np.shape(number) for number in cells.values()}
    if len(shapes) > 1:
        raise ValueError(
            f"{shown(key)} has values of the shapes {sorted(shapes)}: one number, or a list of one length, is needed at "
            "every step"
        )
    return shapes.pop()
