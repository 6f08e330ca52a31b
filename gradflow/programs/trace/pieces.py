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
    zero_paths = {use.path for use in zero_uses}
    again: list[Operation] = []
    for operation in reversed(operations):
        if not changed.isdisjoint(operation.inputs) or operation.path in zero_paths:
            again.append(operation)
            changed.update(operation.outputs)
    context: dict[Value, None] = {}
    for operation in again:
        for value in operation.inputs:
            if value not in changed and not is_number(value):
                context[value] = None
    return Piece(of, below, above, tuple(again), tuple(context), zero_uses, zero_values)


def _window(of: Graph, below: Value, above: Value) -> tuple[Operation, ...]:
    """Returns the operations that run after a value is made, up to the one that makes another."""
    start = _after(of, below)
    end = max(start, _after(of, above))
    return of.operations[start:end]


def _after(of: Graph, value: Value) -> int:
    """Returns the place behind the operation that makes a value; 0 for one that none makes."""
    if value not in of.makers:
        return 0
    return of.places[of.makers[value]] + 1


def check_whole(of: Graph) -> None:
    """Refuses a program with a `shard_map`, whose pieces can't be evaluated outside of it.

    Errors: ValueError, one line.
    """
    if of.sharded is not None:
        raise ValueError(
            f"{of.sharded.line} is inside of a shard_map: sublayers are evaluated as functions of whole arrays; give the "
            "function that it maps, on one shard's batch"
        )


# ---- evaluation -----------------------------------------------------------------------------------------------


def applied(equation, values) -> list:
    """Returns what an equation makes of these values; where only a pull is given for it, it can be pushed through too."""
    if not equation.primitive.name.startswith("custom_vjp"):
        return as_it_was(equation, values)
    floating = {}
    for place, value in enumerate(values):
        if jnp.issubdtype(jnp.result_type(value), jnp.inexact):
            floating[place] = value

    def of_floating(*arrays):
        taken = list(values)
        for place, array in zip(floating, arrays, strict=True):
            taken[place] = array
        return as_it_was(equation, taken)

    return pushable(of_floating)(*floating.values())


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
