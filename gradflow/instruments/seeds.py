"""All seeds of a model: their keys, their weights, drawn or given, and the readings that are taken of each.

Seeds change the weights; at initialization all seeds and all models see the same batch.
"""

import math
import operator
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..model.inputs import size
from ..model.numerics.settings import usual_settings
from ..model.parameters.keys import at, root
from ..results.arguments import whole
from .backward import gradients
from .readings import Reading

AT_ONCE = 2**30  # bytes of weights


@partial(jax.jit, static_argnums=(0, 1, 4))
def over_seeds(model, chosen: tuple[Reading, ...], params, batch, batch_axis: int | None) -> dict:
    """Returns all the readings in `chosen` of every seed, from one compiled call; `batch_axis` None where seeds share the batch.

    What one backward pass gives is read of all seeds at once; other readings, which may hold matrices, of one seed after
    the other.
    """
    arrays: dict = {}
    for reading in chosen:
        if reading in (gradients.reading, gradients.economy):
            at_once = jax.vmap(partial(reading, model), (0, batch_axis))
            arrays |= at_once(params, batch)
        else:
            arrays |= _in_turn(partial(reading, model), params, batch, batch_axis)
    return arrays


def _in_turn(reading: Callable, params, batch, batch_axis: int | None) -> dict:
    """Returns `reading(params, batch)` of one seed after the other."""
    if batch_axis is None:
        return jax.lax.map(lambda of_seed: reading(of_seed, batch), params)
    return jax.lax.map(lambda of_seed: reading(*of_seed), (params, batch))


@usual_settings()
def seed_keys(key, seeds: int):
    """Returns one key a seed: seed i's is a function of the root key and i, whatever the number of seeds."""
    whole("seeds", seeds, most=2**31 - 1)
    size.refuse("a run", "take fewer seeds", keys=size.KEY * seeds)
    origin = root(key)

    def key_of(seed):
        return at(origin, "seed", seed)

    return jax.vmap(key_of)(jnp.arange(seeds))


def init_seeds(model, keys) -> Iterator:
    """Yields the weights of all seeds, drawn at once where they take at most `AT_ONCE` bytes, else part by part."""
    seeds = len(keys)
    bytes_of_all = seeds * _bytes(model, keys[0])
    parts = max(1, math.ceil(bytes_of_all / AT_ONCE))
    length = math.ceil(seeds / min(seeds, parts))
    init = jax.vmap(model.init)
    for start in range(0, seeds, length):
        yield init(keys[start : start + length])


def _bytes(model, key) -> int:
    """Returns how many bytes the weights of one seed take."""
    weights = jax.eval_shape(model.init, key)
    total = 0
    for leaf in jax.tree.leaves(weights):
        total += math.prod(leaf.shape) * leaf.dtype.itemsize
    return total


def given_weights(weights, seeds: int) -> Iterator:
    """Yields weights that are given, for all seeds: as they are, or, where there is one set for several, once a seed."""
    for _ in range(seeds // _seeds_of(weights)):
        yield weights


def read_seeds(model, chosen: tuple[Reading, ...], parts: Iterable, batch, batch_axis: int | None) -> dict:
    """Returns the readings in `chosen` of all seeds, whose weights come in parts."""
    arrays = []
    start = 0
    for weights in parts:
        end = start + _seeds_of(weights)
        seen = batch
        if batch_axis is not None:
            of_part = operator.itemgetter(slice(start, end))
            seen = jax.tree.map(of_part, batch)
        readings = over_seeds(model, chosen, weights, seen, batch_axis)
        arrays.append(jax.device_get(readings))
        start = end
    return jax.tree.map(lambda *parts: np.concatenate(parts), *arrays)


def _seeds_of(weights) -> int:
    """Returns for how many seeds there are weights: the length of the leading axis."""
    return len(jax.tree.leaves(weights)[0])
