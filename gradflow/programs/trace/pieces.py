"""What lies between two values of a program, as a function of one array; everything else is held as it was.

    piece(context, x)       context: the values that x has no part in, computed from the parameters and the batch

What depends on `x` in any way is computed again, masks and routing too; what does not is taken from the real forward pass. Calls
that only organize a program are looked through: nothing is rematerialized here.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from .evaluation import Use, as_it_was
from .graph import Graph, Operation, Value, is_number


@dataclass(frozen=True, eq=False)
class Piece:
    """The operations from `below` to `above`, the values they take from elsewhere, and what is put to zero."""

    graph: Graph = field(repr=False)
    below: Value
    above: Value
    operations: tuple[Operation, ...] = field(repr=False)
    context: tuple[Value, ...] = field(repr=False)
    zero_uses: frozenset[Use] = frozenset()
    zero_values: frozenset[Value] = frozenset()

    def __call__(self, context, x):
        """Returns `above` from arrays for the context, in its order, and one for `below`."""
        known: dict[Value, Any] = dict(zip(self.context, context, strict=True))
        for value in self.zero_values:
            known[value] = jnp.zeros(value.shape, value.aval.dtype)
        known[self.below] = x
        for operation in self.operations:
            taken = []
            for place, value in enumerate(operation.inputs):
                array = known.get(value, value.constant)
                if Use(operation.path, place) in self.zero_uses:
                    array = jnp.zeros_like(array)
                taken.append(array)
            made = applied(operation.equation, taken)
            for value, array in zip(operation.outputs, made, strict=True):
                known.setdefault(value, array)
        return known[self.above]


def between(of: Graph, below: Value, above: Value, *, zero_uses=frozenset(), zero_values=frozenset()) -> Piece:
    """Returns the piece from one value up to a later one."""
    needed = {above}
    operations: list[Operation] = []
    for operation in reversed(_window(of, below, above)):
        if needed.isdisjoint(operation.outputs):
            continue
        operations.append(operation)
        for place, value in enumerate(operation.inputs):
            if value not in zero_values and Use(operation.path, place) not in zero_uses:
                needed.add(value)
    changed = {below, *zero_values}
    again: list[Operation] = []
    for operation in reversed(operations):
        uses = {Use(operation.path, place) for place in range(len(operation.inputs))}
        if not changed.isdisjoint(operation.inputs) or not uses.isdisjoint(zero_uses):
            again.append(operation)
            changed.update(value for value in operation.outputs if value not in zero_values)
    context: dict[Value, None] = {}
    for operation in again:
        for value in operation.inputs:
            if value not in changed and not is_number(value):
                context[value] = None
    return Piece(of, below, above, tuple(again), tuple(context), zero_uses, zero_values)


def _window(of: Graph, below: Value, above: Value) -> tuple[Operation, ...]:
    """Returns the operations that run after a value is made, up to the one that makes another."""
    places = of.places
    start = places[of.makers[below]] + 1 if below in of.makers else 0
    end = places[of.makers[above]] + 1 if above in of.makers else start
    return of.operations[start:end]


# ---- evaluation -----------------------------------------------------------------------------------------------


def applied(equation, values) -> list:
    """Returns what an equation makes of these values; where only a pull is given for it, it can be pushed through too."""
    if not equation.primitive.name.startswith("custom_vjp"):
        return as_it_was(equation, values)
    floating = [place for place, value in enumerate(values) if jnp.issubdtype(jnp.result_type(value), jnp.inexact)]

    def of_floating(*arrays):
        taken = list(values)
        for place, array in zip(floating, arrays, strict=True):
            taken[place] = array
        return as_it_was(equation, taken)

    return pushable(of_floating)(*[values[place] for place in floating])


def pushable(function):
    """Returns a function whose derivative is given as a pull with the push that is its transpose."""
    both_ways = jax.custom_jvp(function)

    @both_ways.defjvp
    def push(values, tangents):
        made, pull = jax.vjp(function, *values)
        (pushed,) = jax.linear_transpose(pull, made)(tangents)
        return made, pushed

    return both_ways


# ---- alike ----------------------------------------------------------------------------------------------------


def text(piece: Piece) -> str:
    """Returns the program of a piece and of its derivative, as text: two that read alike are the same function of context and x.

    In the derivative every rule of the user's own is written out, so that none hides behind a name.
    """

    def pulled(context, x, cotangent):
        y, pull = jax.vjp(lambda x: piece(context, x), x)
        return y, pull(cotangent)

    shapes = [
        jax.ShapeDtypeStruct(value.shape, value.aval.dtype) for value in (*piece.context, piece.below, piece.above)
    ]
    *context, below, above = shapes
    return str(jax.make_jaxpr(pulled)(tuple(context), below, above))
