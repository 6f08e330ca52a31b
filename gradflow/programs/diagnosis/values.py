"""The values of a program at its own parameters and batch, each computed when it is first asked for.

Along a trunk they are computed piece by piece (`compiled`); what is beside it, operation by operation: so the cost of
compiling does not grow with depth. A turn of a loop has values of its own.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..trace.evaluation import as_it_was
from ..trace.graph import Graph, Value, scan_counts
from ..trace.pieces import Piece, between
from ..trunk.trunk import Loop, Step
from .compiled import bound


class Values:
    """The values of a graph whose inputs are known."""

    def __init__(self, graph: Graph, inputs, steps: tuple[Step, ...] = ()):
        self.graph = graph
        self.known: dict[Value, Any] = dict(zip(graph.inputs, inputs, strict=True))
        self.steps: dict[Value, Step] = {}
        for step in steps:
            if step.above is not step.below:
                self.steps[step.above] = step

    def __call__(self, wanted: Value):
        """Returns a value."""
        waiting = [wanted]
        while waiting:
            value = waiting[-1]
            if value in self.known:
                waiting.pop()
                continue
            missing = [below for below in self._needs(value) if below not in self.known]
            if missing:
                waiting += missing
            else:
                self._compute(value)
        return self.known[wanted]

    def bound(self, of: Piece) -> Callable:
        """Returns a piece as a function of its lower value, what it takes from elsewhere being what it is."""
        return bound(of, [self(value) for value in of.context])

    def _needs(self, value: Value) -> tuple[Value, ...]:
        """Returns what a value is computed from."""
        if value.constant is not None:
            return ()
        step = self.steps.get(value)
        if step is None or isinstance(step, Loop):
            return self.graph.makers[value].inputs
        of = between(self.graph, step.below, step.above)
        return (of.below, *of.context)

    def _compute(self, value: Value) -> None:
        if value.constant is not None:
            self.known[value] = jnp.asarray(value.constant, value.aval.dtype)
            return
        step = self.steps.get(value)
        if step is None or isinstance(step, Loop):
            operation = self.graph.makers[value]
            made = as_it_was(operation.equation, [self.known[below] for below in operation.inputs])
            self.known.update(zip(operation.outputs, made, strict=True))
            return
        of = between(self.graph, step.below, step.above)
        self.known[value] = self.bound(of)(self.known[of.below])


def number_of(value: Value, values: Values) -> float:
    """Returns the number that all entries of a value are; NaN where they differ."""
    array = value.constant
    if array is None:
        array = values(value)
    array = np.asarray(array, np.float32)
    first = array.flat[0]
    if np.all(array == first):
        return float(first)
    return math.nan


def turns(loop: Loop, outside: Values, most: int) -> list[Values]:
    """Returns the values of the first turns of a loop, at most so many."""
    params = loop.operation.params
    constants, carried = scan_counts(params)
    inputs = [outside(value) for value in loop.operation.inputs]
    first, carry, stacked = inputs[:constants], inputs[constants : constants + carried], inputs[constants + carried :]
    found: list[Values] = []
    for turn in range(min(most, loop.repeats)):
        if found:
            carry = [found[-1](value) for value in loop.body.outputs[:carried]]
        place = turn
        if params["reverse"]:
            place = loop.repeats - 1 - turn
        slices = [jax.lax.index_in_dim(rows, place, keepdims=False) for rows in stacked]
        found.append(Values(loop.body, [*first, *carry, *slices], loop.steps))
    return found
