"""A program for one example: traced again for a batch of one, which has to make the stream that it makes of the whole batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .evaluation import Plan, Seen, evaluate
from .graph import Graph, Path, Value
from .positions import made_at, places
from .trunk import Trunk, trunks


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
            repeated = jnp.broadcast_to(jnp.asarray(leaf)[None], (self.size, *jnp.shape(leaf)))
            leaves.append(jnp.asarray(leaf) if has_examples else repeated)
        return {"inputs": jax.tree.unflatten(self.structure, leaves), "targets": jnp.zeros(self.size)}

    def of_one(self, example):
        """Returns the program's batch of one example, given without its axis."""
        leaves = []
        for leaf, has_examples in zip(jax.tree.leaves(example), self.has_examples, strict=True):
            leaves.append(leaf[None] if has_examples else leaf)
        return jax.tree.unflatten(self.structure, leaves)

    def first(self, batch):
        """Returns the program's batch of the first example alone."""
        leaves = []
        for leaf, has_examples in zip(jax.tree.leaves(batch), self.has_examples, strict=True):
            leaves.append(leaf[:1] if has_examples else leaf)
        return jax.tree.unflatten(self.structure, leaves)


def of_examples(batch) -> Batch:
    """Returns how a batch is one of examples: as many as its first leaf that is an array, of all leaves that are as long."""
    leaves, structure = jax.tree.flatten(batch)
    sizes = [jnp.shape(leaf)[0] for leaf in leaves if jnp.ndim(leaf) > 0]
    if not sizes:
        return Batch(structure, (False,) * len(leaves), 1)
    size = sizes[0]
    return Batch(structure, tuple(jnp.shape(leaf)[:1] == (size,) for leaf in leaves), size)


def of_one_example(batch) -> Batch:
    """Returns the batch of a program that is written for one example."""
    leaves, structure = jax.tree.flatten(batch)
    return Batch(structure, (False,) * len(leaves), 1)


# ---- its program ----------------------------------------------------------------------------------------------


class OneExample(NamedTuple):
    """A program for one example, its trunks, the axis of examples in the stream of each (None: it has none), and its batch."""

    program: Any
    trunks: list[Trunk]
    axes: list[int | None]
    batch: Batch


def one_example(loss_fn, params, batch) -> OneExample:
    """Returns the program of a loss for one example.

    Errors: ValueError, one line, where an example's stream depends on the others, or there is no program for one alone.
    """
    program, found = traced(loss_fn, params, batch)
    parts = of_examples(batch)
    if parts.size == 1:
        return OneExample(program, found, [_axis_of_one(trunk) for trunk in found], parts)
    first = parts.first(batch)
    try:
        program_of_one, found_in_one = traced(loss_fn, params, first)
    except Exception as error:
        raise ValueError(f"there is no program for a batch of one example; give it such a batch ({error})") from error
    axes = [_axis(*pair) for pair in zip(found, found_in_one, strict=True)]
    ours = _streams(program, found, axes, params, batch)
    alone = _streams(program_of_one, found_in_one, axes, params, first)
    if all(map(_agree, ours, alone)):
        return OneExample(program_of_one, found_in_one, axes, parts)
    if all(len(stream.shape) == 1 for stream in alone):  # [tokens, features] of a program that knows no batch
        return OneExample(program, found, [None] * len(found), of_one_example(batch))
    raise ValueError(
        "an example's stream is another one without the rest of its batch: examples interact, as through a norm over the batch, "
        "or random numbers are drawn for the batch as a whole; give a batch of one example"
    )


def traced(loss_fn, params, batch) -> tuple[Any, list[Trunk]]:
    """Returns the program of a loss for arguments of these shapes, and its trunks."""
    program = jax.make_jaxpr(loss_fn)(params, batch)
    return program, trunks(program, len(jax.tree.leaves(params)))


def _axis_of_one(trunk: Trunk) -> int | None:
    """Returns the axis of examples in the stream of a batch of one: the first, unless it may be a program that knows no batch."""
    shape = places(trunk)[0].fork.below.shape
    return 0 if len(shape) > 2 and shape[0] == 1 else None


def _axis(trunk: Trunk, of_one: Trunk) -> int | None:
    """Returns the axis in which the streams of a batch and of a batch of one differ."""
    shape, shape_of_one = (places(found)[0].fork.below.shape for found in (trunk, of_one))
    differing = [axis for axis, sizes in enumerate(zip(shape, shape_of_one, strict=True)) if len(set(sizes)) > 1]
    return differing[0] if len(differing) == 1 else None


def _streams(program, found: list[Trunk], axes, params, batch) -> list:
    """Returns the first example's stream in front of every sublayer of the trunks."""
    values: dict[Value, Graph] = {}
    axis_of: dict[Value, int | None] = {}
    for trunk, axis in zip(found, axes, strict=True):
        for fork, graph, repeats in places(trunk):
            values[fork.below] = graph
            axis_of[fork.below] = axis if axis is None else axis + len(repeats)

    def first(params, batch):
        streams = values_of(program, values, params, batch)
        return [_first(stream, axis) for stream, axis in zip(streams, axis_of.values(), strict=True)]

    return jax.jit(first)(params, batch)


def _first(stream, axis: int | None):
    return stream if axis is None else jnp.take(stream, 0, axis=axis)


def _agree(ours, alone) -> bool:
    """Returns whether two arrays are the same but for the rounding of sums in another order."""
    ours, alone = (np.asarray(array.astype(jnp.promote_types(array.dtype, jnp.float32))) for array in (ours, alone))
    tolerance = float(jnp.finfo(alone.dtype).eps) ** 0.5
    return bool(np.all(np.abs(ours - alone) <= tolerance * np.abs(alone).max()))


# ---- its values -----------------------------------------------------------------------------------------------


def values_of(program, values: Mapping[Value, Graph], params, batch) -> list:
    """Returns values of a program in its forward pass, those inside of loops with an axis of turns for each in front.

    `values` has the graph that each stands in, the program's own or that of a loop's body.
    """
    taps: dict[Path, dict[Any, tuple]] = {}
    for key, (value, graph) in enumerate(values.items()):
        level, variables = made_at(graph, value)
        at_level = taps.setdefault(level, {})
        at_level[variables[0]] = (*at_level.get(variables[0], ()), key)
    arguments = [*jax.tree.leaves(params), *jax.tree.leaves(batch)]
    keys = range(len(values))
    _, reports = evaluate(Plan(taps), _reported, program, arguments, dict.fromkeys(keys))
    return [reports[key] for key in keys]


def _reported(key, value, extra) -> Seen:
    """Tap: reports the value."""
    return Seen(value, None, value)
