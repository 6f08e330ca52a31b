"""Recorded steps: which there are, which ones figures and tables show, and a quantity at some of them."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ...results.arguments import shown, whole
from ...results.tree import nodes

SHOWN = 3  # steps of a training in its figures and tables


def steps_of(tree: Any, wanted: Sequence[int] | None = None) -> tuple[int, ...]:
    """Returns the `wanted` steps that were recorded, the last one in the place of any beyond it; all where None."""
    node = next(iter(nodes(tree).values()))
    if "step" not in node.coords:
        return ()
    recorded = [int(step) for step in node["step"].values]
    if wanted is None:
        return tuple(recorded)
    chosen: list[int] = []
    for step in wanted:
        step = min(step, recorded[-1])
        if step in recorded and step not in chosen:
            chosen.append(step)
    return tuple(chosen)


def shown_steps(tree: Any) -> tuple[int, ...]:
    """Returns the steps that all figures and tables of a training show: the first, the last, and one between.

    The one between is the recorded step that is nearest to the root of the last, in ratio: 10 of 0 to 100.
    """
    recorded = steps_of(tree)
    if len(recorded) <= SHOWN:
        return recorded
    between = np.array(recorded[1:-1], float)
    away = np.abs(np.log(between) - np.log(recorded[-1]) / 2)
    return recorded[0], recorded[1 + int(away.argmin())], recorded[-1]


def at_step(values: xr.DataArray, step: int | None = None) -> xr.DataArray:
    """Returns `values` at one recorded step, by default the last, without the dimension; unchanged where there are no steps."""
    if step is not None:
        values = at_steps(values, (step,))
    if "step" in values.dims:
        values = values.isel(step=-1, drop=True)
    return values


def at_steps(values: xr.DataArray, steps: Sequence[int] | None) -> xr.DataArray:
    """Returns `values` at those steps, where they have steps; a step beyond the last means the last.

    Errors: ValueError for a step before that which was not recorded.
    """
    if steps is None:
        return values
    if isinstance(steps, str) or not isinstance(steps, Iterable):
        raise ValueError(f"steps is {shown(steps)}: whole numbers are needed, (0, 10)")
    steps = [whole("a step", step, least=0) for step in steps]
    if not steps:
        return values
    if "step" not in values.dims:
        raise ValueError("these results have no steps: leave the steps out")
    recorded = [int(step) for step in values["step"].values]
    chosen: list[int] = []
    for step in steps:
        step = min(step, recorded[-1])
        if step not in chosen:
            chosen.append(step)
    for step in chosen:
        if step not in recorded:
            raise ValueError(f"step {step} was not recorded; recorded: {', '.join(map(str, recorded))}")
    return values.sel(step=chosen)
