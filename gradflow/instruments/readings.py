"""Readings taken of models: `measure` at one moment, `sweep` over total depth.

A reading is a pure function `(model, params, batch) -> {quantity: array}`. `measure` draws the weights of all seeds,
maps the readings over them in one compiled call, and hands the arrays to `results.label`.

Seeds change the weights; at initialization all seeds and all models see the same batch.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from ..model.init import at, root
from ..model.names import coordinates
from ..model.profile import profiled
from ..results.arguments import suggestions
from ..results.provenance import provenance
from ..results.quantities import QUANTITIES
from ..results.tree import Readings, described, label
from . import chain, composite, experts, gradients, spectrum
from .loss import measure_function
from .meter import RESOLVED

Reading = Callable[..., dict]

AT_ONCE = 2**30  # bytes of weights
SHARED, OWN = "shared by seeds", "one a seed"
# What can be asked for by name: these, and every quantity that one of them yields.
READINGS: dict[str, Reading] = {
    "backward": gradients.reading,
    "economy": gradients.economy,
    "rematerialized": gradients.rematerialized,
    "parameter_gradient_per_example": gradients.per_example,
    "heldout_loss": gradients.heldout_loss,
    "partial_jacobian": chain.partial_jacobian,
    "spectrum": spectrum.spectrum,
    "spectrum_window": spectrum.window,
    "lyapunov": chain.lyapunov,
    "alignment": chain.alignment,
    "end_to_end": chain.end_to_end,
    "composite_gain": composite.gain,
    "expert_load": experts.load,
}


def readings(quantities: Iterable[str | Reading], known: Mapping[str, Reading] = READINGS) -> tuple[Reading, ...]:
    """The reading functions behind names, of readings or of what they yield; a reading function passes through."""
    named = {name: known[row.reading] for name, row in QUANTITIES.items() if row.reading in known} | dict(known)
    chosen = []
    for quantity in quantities:
        if isinstance(quantity, str) and quantity not in named:
            raise ValueError(f"no reading {quantity!r}: {suggestions(quantity, known, also=named)}")
        chosen.append(named[quantity] if isinstance(quantity, str) else quantity)
    return tuple(dict.fromkeys(chosen))


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


def seed_keys(key, seeds: int):
    """One key a seed: seed i's is a function of the root key and i, whatever the number of seeds."""
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}: at least 1 is needed")
    return jax.vmap(lambda i: at(root(key), "seed", i))(jnp.arange(seeds))


def drawn(model, keys) -> Iterator:
    """Weights of all seeds, drawn at once where they take at most `AT_ONCE` bytes, else part by part."""
    size = sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(jax.eval_shape(model.init, keys[0])))
    parts = min(len(keys), max(1, -(-len(keys) * size // AT_ONCE)))
    length = -(-len(keys) // parts)
    for start in range(0, len(keys), length):
        yield jax.vmap(model.init)(keys[start : start + length])


def over(given, seeds: int) -> list:
    """Weights that are given, for all seeds: as they are, or, where there is one set for several, once a seed."""
    sets = len(jax.tree.leaves(given)[0])
    if sets not in (1, seeds):
        raise ValueError(
            f"weights for {sets} seeds are given, but there are {seeds}: give one set for all, or one a seed"
        )
    return [given] * (seeds // sets)


def _read(model, chosen: tuple[Reading, ...], sets: Iterable, batch, batch_axis: int | None) -> dict:
    """The readings in `chosen` of all seeds, whose weights come in parts."""
    arrays, start = [], 0
    for weights in sets:
        end = start + len(jax.tree.leaves(weights)[0])
        own = batch if batch_axis is None else jax.tree.map(lambda a, part=slice(start, end): a[part], batch)
        arrays.append(jax.device_get(over_seeds(model, chosen, weights, own, batch_axis)))
        start = end
    return jax.tree.map(lambda *a: np.concatenate(a), *arrays)


def measure(models, data, batch=None, **options) -> xr.DataTree:
    """Labelled readings of one model, of several, or of somebody's own loss.

    `measure(model, data)` and `measure({name: model}, data)`:

    models : `Transformer`, `interop.functions.FunctionStack`, or anything with their methods; an `EncoderDecoder`, whose
        sides become the nodes `encoder` and `decoder`
    data : a `Text`, or a batch `{"inputs": [B, …], "targets": [B, …]}`, the same for all seeds and models
    seeds : number of draws of the weights (8)
    key : integer or JAX key that all randomness derives from (0)
    params : given weights instead of fresh ones, with a leading seed axis; `{name: params}` for several models, of which one that
        isn't named draws fresh weights
    batches : "shared by seeds", or "one a seed": a `Text` is cut seed by seed, a batch has a leading seed axis. Given weights may
        then be one set for all seeds, and what scatters is the text
    quantities : names in `READINGS` or reading functions; by default what one backward pass gives

    `measure(loss_fn, params, batch, dials=…, stacked=…)`, for any differentiable `loss_fn(params, batch)`:
    see `measure_function`.

    Returns a `DataTree`: one node a model, `seed` at the root with the provenance.
    """
    if isinstance(models, Mapping):
        return measure_models(models, data, **options)
    if hasattr(models, "sides"):
        params = options.pop("params", None)
        given = params and {name: side.arranged(params) for name, side in models.sides.items()}
        return measure_models(models.sides, data, params=given, **options)
    if hasattr(models, "segments"):
        params = options.pop("params", None)
        return measure_models({"model": models}, data, params=params and {"model": params}, **options)
    if callable(models):
        return measure_function(models, data, batch, **options)
    raise TypeError(
        f"measure takes a model, a dict of them, or a loss function (params, batch), not {type(models).__name__}"
    )


def measure_models(
    models: Mapping,
    data,
    *,
    seeds: int = 8,
    key=0,
    params: Mapping | None = None,
    batches: str = SHARED,
    quantities: Sequence[str | Reading] = ("backward",),
) -> xr.DataTree:
    """`measure` for models: see there."""
    origin, chosen, given = provenance(), readings(quantities), params or {}
    if batches not in (SHARED, OWN):
        raise ValueError(f"no batches {batches!r}: {suggestions(batches, (SHARED, OWN))}")
    of_all, own = batches == SHARED, isinstance(data, Mapping)
    if of_all:
        seeds = max((len(jax.tree.leaves(weights)[0]) for weights in given.values()), default=seeds)
    elif own:
        seeds = len(jax.tree.leaves(data)[0])
    keys = seed_keys(key, seeds)
    batch = data if own else data.batch(root(key), 0) if of_all else data.batches(keys, 0)
    first = batch if of_all else jax.tree.map(lambda a: a[0], batch)
    models = models if params is not None else profiled(models, first, key)
    measured = {}
    for name, model in models.items():
        sets = over(given[name], seeds) if name in given else drawn(model, keys)
        found = _read(model, chosen, sets, batch, None if of_all else 0)
        _warn_of_underflow(name, found)
        shapes = given[name] if name in given else jax.eval_shape(model.init, keys[0])
        measured[name] = Readings(found, coordinates(model, shapes), model)
    return label(
        measured,
        leading={"seed": np.arange(seeds)},
        provenance=origin,
        data=described(data),
        key=str(key),
        batches=batches,
        **({} if params is None else {"weights": "given"}),
    )


def _warn_of_underflow(name: str, arrays) -> None:
    """A reading near the meters' floor may be an upper bound, not a value: say so, and what to do."""
    stream = np.asarray(arrays.get("stream_gradient", 1.0))
    if ((stream > 0) & (stream < RESOLVED)).any():
        warnings.warn(
            f"{name}: some stream gradients are below {RESOLVED:.0e}, what float32 squares resolve, and are upper "
            f"bounds: cast the parameters to float64 under jax_enable_x64",
            stacklevel=3,
        )


def sweep(
    models: Mapping,
    data,
    *,
    depth: Sequence[int] = (),
    width: Sequence[int] = (),
    take: Callable[..., xr.DataTree] = measure_models,
    **options,
) -> xr.DataTree:
    """What `take` (`measure`, `predict`) gives against the total depth, or against the width: a node for each model and size.

    The nodes are `model/depth_n` for each number of blocks n, or `model/width_n`. The models are rebuilt at each size (numbers
    such as DeepNorm's α follow the depth) and share their first blocks. Without sizes, the depths are 6, 12 and 24. `options`
    are those of `take`. `results.against_total_depth` picks one entry of each profile.
    """
    family = {f"{name}/depth_{n}": model.at_depth(n) for n in depth for name, model in models.items()}
    family |= {f"{name}/width_{n}": replace(model, width=n) for n in width for name, model in models.items()}
    if not family:
        return sweep(models, data, depth=(6, 12, 24), take=take, **options)
    nodes: dict[str, xr.Dataset] = {}
    for path, model in tqdm(family.items(), desc="sweep", unit="stack", delay=1, leave=False):
        tree = take({"model": model}, data, **options)
        nodes.setdefault("/", tree.to_dataset())
        node = tree.children["model"].to_dataset(inherit=False)
        nodes[path] = node.assign_attrs(total_depth=model.depth, width=model.width)
    return xr.DataTree.from_dict(nodes)
