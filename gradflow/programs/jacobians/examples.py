"""A program for one example: traced again for a batch of one, which has to make the stream that it makes of the whole batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..metered import traced
from ..trace.evaluation import Plan, Seen, evaluate
from ..trace.graph import Graph, Path, Value
from ..trace.pieces import check_whole
from ..trunk.positions import made_at, put
from ..trunk.trunk import Trunk


@dataclass(frozen=True)
class Batch:
    """Which leaves of a batch have an axis of examples, the first; a key of random numbers or a number has none."""

    structure: Any
    has_examples: tuple[bool, ...]
    size: int

    def whole(self, batch) -> dict:
        """Returns the batch as instruments read it: every leaf with examples in front."""
        leaves = []
        for leaf, has_examples in zip(jax.tree.leaves(batch), self.has_examples, strict=True):
            array = jnp.asarray(leaf)
            if not has_examples:
                array = jnp.broadcast_to(array[None], (self.size, *array.shape))
            leaves.append(array)
        return {"inputs": jax.tree.unflatten(self.structure, leaves), "targets": jnp.zeros(self.size)}

    def of_one(self, example):
        """Returns the program's batch of one example, given without its axis."""
        return self._indexed(example, None)

    def first(self, batch):
        """Returns the program's batch of the first example alone."""
        return self._indexed(batch, slice(1))

    def _indexed(self, batch, index: slice | None):
        """Returns the program's batch with all leaves that have examples indexed."""
        leaves = jax.tree.leaves(batch)
        for place, has_examples in enumerate(self.has_examples):
            if has_examples:
                leaves[place] = leaves[place][index]
        return jax.tree.unflatten(self.structure, leaves)


def of_examples(batch) -> Batch:
    """Returns how a batch is one of examples: as many as its first leaf that is an array, of all leaves that are as long."""
    leaves, structure = jax.tree.flatten(batch)
    lengths = [jnp.shape(leaf)[:1] for leaf in leaves]  # none of a number
    if not any(lengths):
        return of_one_example(batch)
    first = next(length for length in lengths if length)
    return Batch(structure, tuple(length == first for length in lengths), first[0])


def of_one_example(batch) -> Batch:
    """Returns the batch of a program that is written for one example."""
    leaves, structure = jax.tree.flatten(batch)
    return Batch(structure, (False,) * len(leaves), 1)


# ---- its program ----------------------------------------------------------------------------------------------


class OneExample(NamedTuple):
    """A program for one example, its trunks, those of the program for the whole batch, and the batch."""

    program: Any
    trunks: list[Trunk]
    whole: list[Trunk]
    batch: Batch


def one_example(loss_fn, params, batch) -> OneExample:
    """Returns the program of a loss for one example.

    Errors: ValueError, one line, where an example's stream depends on the others, or there is no program for one alone.
    """
    program, _, found, *_ = traced(loss_fn, params, batch)
    check_whole(found[0].graph)
    parts = of_examples(batch)
    if parts.size == 1:
        return OneExample(program, found, found, parts)
    alone = parts.first(batch)
    try:
        program_of_one, _, found_in_one, *_ = traced(loss_fn, params, alone)
    except Exception as error:
        raise ValueError(f"there is no program for a batch of one example; give it such a batch ({error})") from error
    values, values_of_one = _streams(found), _streams(found_in_one)
    axes = [axis_of_examples(*pair) for pair in zip(values, values_of_one, strict=True)]
    ours = _of_first(program, values, axes, params, batch)
    theirs = _of_first(program_of_one, values_of_one, axes, params, alone)
    if all(map(_agree, ours, theirs)):
        return OneExample(program_of_one, found_in_one, found, parts)
    if all(len(value.shape) == 2 for value in values):  # [tokens, features] of a program that knows no batch
        return OneExample(program, found, found, of_one_example(batch))
    raise ValueError(
        "an example's stream is another one without the rest of its batch: examples interact, as through a norm over the batch, "
        "or random numbers are drawn for the batch as a whole; give a batch of one example"
    )


def axis_of_examples(value: Value, of_one: Value) -> int | None:
    """Returns the axis of examples: the one in which a value of the batch's program and that of a batch of one differ.

    Where they are the same, the batch is of one example: the first axis of length 1. None for [tokens, features].
    """
    sizes = list(zip(value.shape, of_one.shape, strict=True))
    for axis, (size, size_of_one) in enumerate(sizes):
        if size != size_of_one:
            return axis
    if len(sizes) > 2 and (1, 1) in sizes:
        return value.shape.index(1)
    return None


def _streams(found: list[Trunk]) -> dict[Value, Graph]:
    """Returns the stream in front of every sublayer of the trunks as written, and the graph that it stands in."""
    streams = {}
    for trunk in found:
        for fork, graph, _ in trunk.places:
            streams[fork.below] = graph
    return streams


def _of_first(program, values: Mapping[Value, Graph], axes, params, batch) -> list:
    """Returns values of a program for the first example, given their axes of examples."""

    def first(params, batch):
        arrays = values_of(program, values, params, batch)
        found = []
        for value, array, axis in zip(values, arrays, axes, strict=True):
            turns = array.ndim - len(value.shape)
            if axis is not None:
                array = jnp.take(array, 0, axis=turns + axis)
            found.append(array)
        return found

    return jax.jit(first)(params, batch)


def _agree(ours, alone) -> bool:
    """Returns whether two arrays are the same but for the rounding of sums in another order."""
    ours, alone = _on_host(ours), _on_host(alone)
    tolerance = float(jnp.finfo(alone.dtype).eps) ** 0.5
    return bool(np.all(np.abs(ours - alone) <= tolerance * np.abs(alone).max()))


def _on_host(array) -> np.ndarray:
    """Returns an array in float32 or better, for NumPy."""
    return np.asarray(array.astype(jnp.promote_types(array.dtype, jnp.float32)))


# ---- its values -----------------------------------------------------------------------------------------------


def values_of(program, values: Mapping[Value, Graph], params, batch) -> list:
    """Returns values of a program in its forward pass, those inside of loops with an axis of turns for each in front.

    `values` has the graph that each stands in, the program's own or that of a loop's body.
    """
    taps: dict[Path, dict[Any, tuple]] = {}
    for key, (value, graph) in enumerate(values.items()):
        put(taps, key, *made_at(graph, value))
    arguments = [*jax.tree.leaves(params), *jax.tree.leaves(batch)]
    keys = range(len(values))
    _, reports = evaluate(Plan(taps), _reported, program, arguments, dict.fromkeys(keys))
    return [reports[key] for key in keys]


def _reported(key, value, extra) -> Seen:
    """Tap: reports the value."""
    return Seen(value, None, value)
