"""All seeds of a model: their keys, their weights, drawn or given, and the readings that are taken of each.

Seeds change the weights; at initialization all seeds and all models see the same batch.
"""

import math
from collections.abc import Iterable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..model.inputs import size
from ..model.numerics.settings import usual_settings
from ..model.parameters.keys import at, root
from ..results.arguments import whole
from . import gradients
from .readings import Reading

AT_ONCE = 2**30  # bytes of weights


@partial(jax.jit, static_argnums=(0, 1, 4))
def over_seeds(model, chosen: tuple[Reading, ...], params, batch, batch_axis: int | None) -> dict:
    """All the readings in `chosen` of every seed, in one compiled call; `batch_axis` None where seeds share the batch.

    What one backward pass gives is read of all seeds at once; other readings, which may hold matrices, of one seed after
    the other.
    """
    arrays: dict = {}
    for reading in chosen:
        if reading in (gradients.reading, gradients.economy):
            arrays |= jax.vmap(partial(reading, model), (0, batch_axis))(params, batch)
        elif batch_axis is None:
            arrays |= jax.lax.map(lambda p, reading=reading: reading(model, p, batch), params)
        else:
            arrays |= jax.lax.map(lambda both, reading=reading: reading(model, *both), (params, batch))
    return arrays


@usual_settings()
def seed_keys(key, seeds: int):
    """One key a seed: seed i's is a function of the root key and i, whatever the number of seeds."""
    whole("seeds", seeds, most=2**31 - 1)
    size.refuse("a run", "take fewer seeds", keys=size.KEY * seeds)
    return jax.vmap(lambda i: at(root(key), "seed", i))(jnp.arange(seeds))


def init_seeds(model, keys) -> Iterator:
    """Weights of all seeds, drawn at once where they take at most `AT_ONCE` bytes, else part by part."""
    size = sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(jax.eval_shape(model.init, keys[0])))
    parts = min(len(keys), max(1, -(-len(keys) * size // AT_ONCE)))
    length = -(-len(keys) // parts)
    for start in range(0, len(keys), length):
        yield jax.vmap(model.init)(keys[start : start + length])


def over(given, seeds: int) -> list:
    """Weights that are given, for all seeds: as they are, or, where there is one set for several, once a seed."""
    return [given] * (seeds // len(jax.tree.leaves(given)[0]))


def read(model, chosen: tuple[Reading, ...], sets: Iterable, batch, batch_axis: int | None) -> dict:
    """The readings in `chosen` of all seeds, whose weights come in parts."""
    arrays, start = [], 0
    for weights in sets:
        end = start + len(jax.tree.leaves(weights)[0])
        own = batch if batch_axis is None else jax.tree.map(lambda a, part=slice(start, end): a[part], batch)
        arrays.append(jax.device_get(over_seeds(model, chosen, weights, own, batch_axis)))
        start = end
    return jax.tree.map(lambda *a: np.concatenate(a), *arrays)
