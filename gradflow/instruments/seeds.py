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

from ..compiling.jitted import for_few_calls
from ..model.inputs import size
from ..model.inputs.weights import shapes
from ..model.numerics.devices import (
    EXAMPLE,
    MODEL,
    SEED,
    everywhere,
    in_turn,
    kept_weights,
    place,
    place_weights,
    ways,
)
from ..model.numerics.settings import usual_settings
from ..model.numerics.threads import side_by_side
from ..model.parameters.keys import at, root
from ..results.arguments import whole
from .backward import gradients
from .readings import Reading

AT_ONCE = 2**30  # bytes of weights
ONE_PASS = (gradients.reading, gradients.economy)  # what one backward pass gives
Calls = Iterator[tuple[tuple, float]]  # arguments of `over_seeds`, and how often it is called with such


@for_few_calls(0, 1, 4, 5)
def over_seeds(model, chosen: tuple[Reading, ...], params, batch, batch_axis: int | None, mesh=None) -> dict:
    """Returns all the readings in `chosen` of some seeds, from one compiled call; `batch_axis` None where they share the batch.

    What one backward pass gives is read of all of them at once; other readings, which may hold matrices, of one seed after
    the other, on a mesh each device's.
    """
    arrays: dict = {}
    for reading in chosen:
        if reading in ONE_PASS:
            at_once = jax.vmap(partial(reading, model), (0, batch_axis))
            arrays |= at_once(params, batch)
        else:
            arrays |= _in_turn(partial(reading, model), params, batch, batch_axis, ways(mesh, SEED))
    return everywhere(mesh, arrays)


def each_seed(model, chosen: tuple[Reading, ...], params, batch, batch_axis: int | None, mesh=None) -> dict:
    """Returns all the readings in `chosen` of every seed, by as many programs as are `passes`."""
    arrays: dict = {}
    for some, length in passes(chosen, seeds_of(params), mesh):
        groups = split_seeds(params, length)
        batches = [batch] * len(groups) if batch_axis is None else split_seeds(batch, length)
        read = partial(_of_group, model, some, batch_axis, mesh)
        arrays |= concat_seeds(side_by_side(mesh, read, groups, batches))
    return arrays


def _of_group(model, chosen: tuple[Reading, ...], batch_axis: int | None, mesh, params, batch) -> dict:
    return over_seeds(model, chosen, params, batch, batch_axis, mesh)


def passes(chosen: tuple[Reading, ...], seeds: int, mesh=None) -> list[tuple[tuple[Reading, ...], int]]:
    """Returns which readings one program takes, and of how many seeds.

    On a CPU those that take more than one backward pass are taken of single seeds, side by side.
    """
    if mesh is not None or not _one_by_one():
        return [(chosen, seeds)]
    at_once = tuple(reading for reading in chosen if reading in ONE_PASS)
    alone = tuple(reading for reading in chosen if reading not in ONE_PASS)
    return [(some, length) for some, length in ((at_once, seeds), (alone, 1)) if some]


def first_calls(model, chosen: tuple[Reading, ...], weights, batch, batch_axis: int | None, mesh=None) -> Calls:
    """Yields the calls of `over_seeds` that `each_seed` makes, the first of each program; `weights` are shapes."""
    seeds = seeds_of(weights)
    for some, length in passes(chosen, seeds, mesh):
        of_some = jax.eval_shape(partial(some_seeds, start=0, end=length), weights)
        seen = batch if batch_axis is None else some_seeds(batch, 0, length)
        yield (model, some, of_some, seen, batch_axis, mesh), seeds / length


def _in_turn(reading: Callable, params, batch, batch_axis: int | None, at_once: int) -> dict:
    """Returns `reading(params, batch)` of one seed after the other, so many at once."""
    if batch_axis is None:
        return in_turn(lambda of_seed: reading(of_seed, batch), params, at_once)
    return in_turn(lambda of_seed: reading(*of_seed), (params, batch), at_once)


@usual_settings()
def seed_keys(key, seeds: int):
    """Returns one key a seed: seed i's is a function of the root key and i, whatever the number of seeds."""
    whole("seeds", seeds, most=2**31 - 1)
    size.refuse("a run", "take fewer seeds", keys=size.KEY * seeds)
    origin = root(key)

    def key_of(seed):
        return at(origin, "seed", seed)

    return jax.vmap(key_of)(jnp.arange(seeds))


@for_few_calls(0, 2)
def drawn(model, keys, mesh=None):
    """Returns the weights of all seeds, with a leading seed axis: those of one seed whatever the number of seeds.

    On a mesh each device draws what it holds of them.
    """
    return kept_weights(mesh, jax.vmap(model.init)(keys), SEED)


def init_seeds(model, keys, multiple: int = 1, mesh=None) -> Iterator:
    """Yields the weights of all seeds, drawn at once where they take at most `AT_ONCE` bytes, else part by part.

    A part has a multiple of so many seeds, as has their number. They are drawn on the mesh where that divides weights.
    """
    length = drawn_at_once(model, len(keys), multiple)
    divided = mesh if ways(mesh, MODEL) > 1 else None
    for start in range(0, len(keys), length):
        yield drawn(model, place(divided, keys[start : start + length], SEED), divided)


def drawn_at_once(model, seeds: int, multiple: int = 1) -> int:
    """Returns of how many seeds, a multiple of so many, the weights are drawn at once."""
    bytes_of_all = seeds * _bytes(model)
    parts = max(1, math.ceil(bytes_of_all / AT_ONCE))
    length = math.ceil(seeds / min(seeds, parts))
    return math.ceil(length / multiple) * multiple


def _bytes(model) -> int:
    """Returns how many bytes the weights of one seed take."""
    total = 0
    for leaf in jax.tree.leaves(shapes(model)):
        total += math.prod(leaf.shape) * leaf.dtype.itemsize
    return total


def given_weights(weights, seeds: int, multiple: int = 1) -> Iterator:
    """Yields weights that are given, for all seeds: as they are, or, where there is one set for several, so often at a time."""
    given = seeds_of(weights)
    if given == 1 and multiple > 1:
        weights = jax.tree.map(partial(jnp.repeat, repeats=multiple, axis=0), weights)
        given = multiple
    for _ in range(seeds // given):
        yield weights


def read_seeds(model, chosen: tuple[Reading, ...], parts: Iterable, batch, batch_axis: int | None, mesh=None) -> dict:
    """Returns the readings in `chosen` of all seeds, whose weights come in parts."""
    arrays = []
    if batch_axis is None:
        batch = place(mesh, batch, EXAMPLE)
    start = 0
    for weights in parts:
        end = start + seeds_of(weights)
        seen = batch if batch_axis is None else place(mesh, some_seeds(batch, start, end), SEED, EXAMPLE)
        readings = each_seed(model, chosen, place_weights(mesh, weights, SEED), seen, batch_axis, mesh)
        arrays.append(jax.device_get(readings))
        start = end
    return jax.tree.map(_concatenated, *arrays)


def seeds_of(tree) -> int:
    """Returns how many seeds a tree has: the length of its leading axis."""
    return len(jax.tree.leaves(tree)[0])


# ---- groups of seeds ------------------------------------------------------------------------------------------


def some_seeds(tree, start: int, end: int):
    """Returns the seeds `start` … `end − 1` of a tree with a leading seed axis."""
    return jax.tree.map(operator.itemgetter(slice(start, end)), tree)


def split_seeds(tree, at_once: int = 1) -> list:
    """Returns a tree with a leading seed axis as groups of so many seeds; on an accelerator, or several processes, as one group.

    By NumPy, as is `concat_seeds`: several groups exist on the CPU of one process alone, where arrays are shared with it, and JAX
    would compile a program for each shape.
    """
    seeds = seeds_of(tree)
    if not _one_by_one() or seeds == at_once:
        return [tree]
    rows = jax.tree.map(_on_host, tree)
    return [some_seeds(rows, seed, seed + at_once) for seed in range(0, seeds, at_once)]


def _one_by_one() -> bool:
    """Returns whether seeds are computed one by one: on the CPU of one process."""
    return jax.default_backend() == "cpu" and jax.process_count() == 1


def _on_host(array):
    """Returns the array as NumPy's; random keys, which NumPy doesn't have, unchanged."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return array
    return np.asarray(array)


def concat_seeds(groups: list):
    """Returns the groups of `split_seeds` as one tree again."""
    if len(groups) == 1:
        return groups[0]
    return jax.device_put(jax.tree.map(_concatenated, *groups))


def _concatenated(*rows):
    return np.concatenate(rows)
