"""The dataflow graph of a traced program: which operation makes each array, which operations use it.

Calls that only organize a program (`jit`, `remat`, `shard_map`) are looked through: their operations stand in the graph one
after the other, and a value that passes a call's boundary is one value, inside of a `shard_map` each shard's part of it. Loops,
branches and functions with a derivative of their own are single operations; the body of a loop is a graph of its own (`loops`).

A place in the program is a path: the index of an equation, then of one in the body of that call, and so on.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax.numpy as jnp
from jax.extend import core

from ...results.lines import NOWHERE, Line
from .source import lines_of, scope_of

# Calls that are looked through, with the parameter that holds their program.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "shard_map": "jaxpr",
}
Path = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Value:
    """One array of the program; `constant` where it is known without running it."""

    aval: Any
    constant: Any = None

    @cached_property
    def floating(self) -> bool:
        """Whether derivatives go through it."""
        return jnp.issubdtype(self.aval.dtype, jnp.inexact)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.aval.shape


@dataclass(frozen=True, eq=False)
class Operation:
    """One equation of the program, with the values it takes and makes, and where it stands."""

    equation: Any
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    path: Path
    around: tuple[Any, ...] = ()  # the equations of the calls that it stands in, outermost first

    @property
    def name(self) -> str:
        """The name of its primitive."""
        return self.equation.primitive.name

    @property
    def params(self) -> dict:
        """The parameters of its primitive."""
        return self.equation.params

    @cached_property
    def line(self) -> Line:
        """The line of the user's code that made it; of a library's own program, the line that calls it."""
        if not self.lines:
            return NOWHERE
        return self.lines[0]

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """The lines of the user's code that led to it, innermost first."""
        found: list[Line] = []
        for equation in (self.equation, *reversed(self.around)):
            found += lines_of(equation)
        return tuple(found)

    @property
    def scope(self) -> str:
        """The names of modules and scopes around it, `Decoder/layers_3/attn`."""
        names: list[str] = []
        for equation in (*self.around, self.equation):
            names += scope_of(equation)
        return "/".join(names)


@dataclass(frozen=True, eq=False)
class Level:
    """One body as it is written: the program itself, or that of a call in it; which value each of its variables is."""

    body: Any
    values: dict = field(repr=False)

    def variables(self, value: Value) -> list:
        """Returns the variables of this body that hold a value: none, one, or several where a call returns what it got."""
        return [variable for variable, held in self.values.items() if held is value]

    @cached_property
    def born(self) -> dict[Value, int]:
        """The number of the equation here that first makes each value; −1 of what comes in."""
        jaxpr, _ = opened(self.body)
        numbers = {}
        for number, equation in enumerate(jaxpr.eqns):
            for variable in equation.outvars:
                numbers[variable] = number
        born: dict[Value, int] = {}
        for variable, value in self.values.items():
            born[value] = min(numbers.get(variable, -1), born.get(value, len(numbers)))
        return born


@dataclass(frozen=True, eq=False)
class Graph:
    """Operations in the order in which they run, and all bodies they come from by path."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    operations: tuple[Operation, ...]
    levels: dict[Path, Level] = field(repr=False)

    @property
    def program(self):
        """The program, or body, that it is the graph of."""
        return self.levels[min(self.levels, key=len)].body

    @cached_property
    def sharded(self) -> Operation | None:
        """The first operation inside of a `shard_map`, if any: what it computes is a shard's."""
        for operation in self.operations:
            if any(equation.primitive.name == "shard_map" for equation in operation.around):
                return operation
        return None

    @cached_property
    def makers(self) -> dict[Value, Operation]:
        """The operation that makes each value; inputs and constants have none."""
        makers = {}
        for operation in self.operations:
            for value in operation.outputs:
                makers[value] = operation
        return makers

    @cached_property
    def places(self) -> dict[Operation, int]:
        """When each operation runs: its place among all."""
        return {operation: place for place, operation in enumerate(self.operations)}

    def between(self, below: Value, above: Value) -> tuple[Operation, ...]:
        """The operations behind the one that makes `below`, up to the one that makes `above`."""
        start = 0
        if below in self.makers:
            start = self.places[self.makers[below]] + 1
        return self.operations[start : self.places[self.makers[above]] + 1]

    @cached_property
    def users(self) -> dict[Value, list[tuple[Operation, int]]]:
        """The uses of each value: the operation, and which of its inputs it is."""
        users: dict[Value, list[tuple[Operation, int]]] = {}
        for operation in self.operations:
            for place, value in enumerate(operation.inputs):
                users.setdefault(value, []).append((operation, place))
        return users


def is_number(value: Value) -> bool:
    """Returns whether a value is a number that stands in the program."""
    return value.constant is not None and value.shape == ()


def is_inside(path: Path, around: Path) -> bool:
    """Returns whether a place in the program is another one, or lies in the call there."""
    return path[: len(around)] == around


def opened(program) -> tuple[Any, tuple]:
    """Returns a program's equations (a jaxpr) and its constants, closed or not."""
    return getattr(program, "jaxpr", program), tuple(getattr(program, "consts", ()))


def graph(program, inputs: tuple[Value, ...] | None = None, path: Path = ()) -> Graph:
    """Returns the graph of a program as `jax.make_jaxpr` makes it, or of a body at `path`, whose paths then begin there."""
    jaxpr, _ = opened(program)
    if inputs is None:
        inputs = tuple(Value(variable.aval) for variable in jaxpr.invars)
    levels: dict[Path, Level] = {}
    operations: list[Operation] = []
    outputs = _flatten(program, inputs, path, (), levels, operations)
    return Graph(inputs, outputs, tuple(operations), levels)


def _flatten(program, inputs, path: Path, around: tuple, levels, operations) -> tuple[Value, ...]:
    """Appends the operations of a body and of the calls in it, in order, and its levels; returns its outputs."""
    jaxpr, constants = opened(program)
    values = dict(zip(jaxpr.invars, inputs, strict=True))
    for variable, constant in zip(jaxpr.constvars, constants, strict=True):
        values[variable] = Value(variable.aval, constant)
    levels[path] = Level(program, values)

    def look_up(variable) -> Value:
        if isinstance(variable, core.Literal):
            return Value(variable.aval, variable.val)
        return values[variable]

    for index, equation in enumerate(jaxpr.eqns):
        here = (*path, index)
        taken = tuple(map(look_up, equation.invars))
        name = equation.primitive.name
        if name in CALLS:
            made = _flatten(equation.params[CALLS[name]], taken, here, (*around, equation), levels, operations)
        else:
            made = tuple(Value(variable.aval) for variable in equation.outvars)
            operations.append(Operation(equation, taken, made, here, around))
        values.update(zip(equation.outvars, made, strict=True))
    return tuple(map(look_up, jaxpr.outvars))


def floating(values: Iterable[Value]) -> list[Value]:
    """Returns the values that derivatives go through."""
    return [value for value in values if value.floating]


def among(values: Iterable[Value], chosen: Collection[Value]) -> list[Value]:
    """Returns the values that are chosen ones."""
    return [value for value in values if value in chosen]


def made_by(operations: Iterable[Operation]) -> set[Value]:
    """Returns the values that operations make."""
    made: set[Value] = set()
    for operation in operations:
        made.update(operation.outputs)
    return made


def reached(operations, sources: set[Value]) -> set[Value]:
    """Returns the values that are made from `sources`, whatever their type, and these."""
    found = set(sources)
    for operation in operations:
        if not found.isdisjoint(operation.inputs):
            found.update(operation.outputs)
    return found


def differentiable_path(operations, sources: set[Value], sinks: set[Value]) -> set[Value]:
    """Returns the values on differentiable paths from any of `sources` to any of `sinks`.

    What is not differentiable (integers, comparisons, `stop_gradient`) is no path: masks, positions, the choice of experts.
    """
    ahead = set(sources)
    for operation in operations:
        if passes_gradients(operation) and not ahead.isdisjoint(operation.inputs):
            ahead.update(floating(operation.outputs))
    needed = ahead & sinks
    for operation in reversed(operations):
        if not needed.isdisjoint(operation.outputs):
            needed.update(ahead.intersection(gradient_inputs(operation)))
    return needed


# Where a derivative is zero by definition.
FLAT = {"stop_gradient", "floor", "ceil", "round", "sign", "argmax", "argmin", "is_finite"}


def passes_gradients(operation: Operation) -> bool:
    """Returns whether a derivative can go through an operation at all."""
    return operation.name not in FLAT


def gradient_inputs(operation: Operation) -> list[Value]:
    """Returns the inputs that a derivative goes to."""
    if not passes_gradients(operation):
        return []
    return floating(operation.inputs)


def scan_counts(params: dict) -> tuple[int, int]:
    """Returns how many constants and carried arrays a scan has; since jax 0.12 they are counted in trees."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    constants, carried = params["ft_in"].elts[:2]
    return len(constants), len(carried)
