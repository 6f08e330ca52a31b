"""A section of a program: the function of one value that lies between it and a later one, the rest as it is.

    above = f(below; beside)

`beside` are the values that f uses and that are not made from `below`: weights, masks, positions. Sections of the same operations
are compiled once, so that a stack costs what a layer of each kind does.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax

from ..trace.evaluation import as_it_was
from ..trace.graph import Graph, Operation, Value

COMPILED: dict[tuple, Callable] = {}
MOST_COMPILED = 1024
# Parameters of operations that are functions of Python's own, and say nothing that the programs beside them do not.
FUNCTIONS = ("jvp_jaxpr_fun", "jvp_jaxpr_thunk", "fwd_jaxpr_thunk", "bwd", "out_trees", "policy")


@dataclass(frozen=True, eq=False)
class Section:
    """The function from `below` to `above`."""

    graph: Graph = field(repr=False)
    below: Value
    above: Value
    operations: tuple[Operation, ...] = field(repr=False)

    @cached_property
    def beside(self) -> tuple[Value, ...]:
        """The values it uses that are not made from `below`, known constants of one number aside."""
        made = {value for operation in self.operations for value in operation.outputs}
        found: dict[Value, None] = {}
        for operation in self.operations:
            for value in operation.inputs:
                if value not in made and value is not self.below and not is_number(value):
                    found[value] = None
        return tuple(found)

    @cached_property
    def key(self) -> tuple:
        """What tells apart the functions of two sections: their operations, and which values go where."""
        numbers: dict[Value, int] = {value: place for place, value in enumerate((self.below, *self.beside))}
        shapes = tuple(str(value.aval) for value in numbers)
        written: list = [shapes]
        for operation in self.operations:
            taken = tuple(numbers[value] if value in numbers else _number(value) for value in operation.inputs)
            for value in operation.outputs:
                numbers[value] = len(numbers)
            written.append((operation.name, _params(operation), taken))
        return (*written, numbers[self.above])

    def __call__(self, below, beside):
        """Returns `above`."""
        if self.key not in COMPILED:
            if len(COMPILED) >= MOST_COMPILED:
                COMPILED.clear()
            COMPILED[self.key] = jax.jit(partial(_run, self.operations, self.below, self.beside, self.above))
        return COMPILED[self.key](below, list(beside))


def _run(operations, below: Value, beside: tuple[Value, ...], above: Value, at_below, at_beside):
    """Returns the value `above`, from those below and beside."""
    env = dict(zip(beside, at_beside, strict=True))
    env[below] = at_below
    for operation in operations:
        values = [env.get(value, value.constant) for value in operation.inputs]
        env.update(zip(operation.outputs, as_it_was(operation.equation, values), strict=True))
    return env[above]


def section(of: Graph, below: Value, above: Value) -> Section:
    """Returns the section between two values, the first of which all that makes the other from the batch goes through."""
    maker = of.makers.get(below)
    start = -1 if maker is None else of.places[maker]
    needed: dict[Operation, None] = {}
    open_values = [above]
    while open_values:
        operation = of.makers.get(open_values.pop())
        if operation is not None and operation not in needed and of.places[operation] > start:
            needed[operation] = None
            open_values += operation.inputs
    made = {below}
    chosen = []
    for operation in sorted(needed, key=of.places.__getitem__):
        if not made.isdisjoint(operation.inputs):
            made.update(operation.outputs)
            chosen.append(operation)
    return Section(of, below, above, tuple(chosen))


def is_number(value: Value) -> bool:
    """Returns whether it is one number that is known without running the program."""
    return value.constant is not None and value.shape == ()


def _number(value: Value) -> str:
    return f"{value.aval} {value.constant!r}"


def _params(operation: Operation) -> str:
    """Returns the parameters of an operation as a text, without addresses in memory."""
    told = {name: _told(value) for name, value in operation.params.items() if name not in FUNCTIONS}
    return re.sub(r" at 0x[0-9a-f]+", "", str(sorted(told.items())))


def _told(value: Any) -> str:
    """Returns a parameter as a text; a program's constants are told apart by what holds them."""
    constants = getattr(value, "consts", ())
    return f"{value} {[id(constant) for constant in constants]}"
