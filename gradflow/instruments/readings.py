"""Readings taken of models: `measure` at one moment, `sweep` over total depth.

A reading is a pure function `(model, params, batch) -> {quantity: array}`. `measure` draws the weights of all seeds,
maps the readings over them in one compiled call, and hands the arrays to `results.label`.

Seeds change the weights; at initialization all seeds and all models see the same batch.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from ..model.contracts import Drawable, Model, Sided
from ..model.inputs import size
from ..model.inputs.batch import checked, checked_data, readable, the_batch
from ..model.inputs.weights import check_weights, shapes
from ..model.numerics.settings import usual_settings
from ..model.parameters.keys import at, root
from ..model.parameters.names import coordinates
from ..model.stacks.admin_profiling import profiled
from ..results.arguments import answering, check_options, function, open_ended, options_of, shown, whole
from ..results.arguments import known as one_of
from ..results.digest import digest
from ..results.naming import check_names
from ..results.provenance import provenance
from ..results.quantities import QUANTITIES
from ..results.tree import Readings, described, label
from . import chain, composite, experts, gradients, spectrum
from .loss import measure_function, refuse_module
from .resolution import resolved, warn_of_nonfinite, warn_of_underflow

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


def readings(quantities: str | Iterable[str | Reading], known: Mapping[str, Reading] = READINGS) -> tuple[Reading, ...]:
    """The reading functions behind names, of readings or of what they yield; a reading function passes through."""
    quantities = [quantities] if isinstance(quantities, str) or callable(quantities) else quantities
    if not isinstance(quantities, Iterable):
        raise ValueError(f"quantities is {shown(quantities)}: names or reading functions are needed, ('backward', …)")
    named = {name: known[row.reading] for name, row in QUANTITIES.items() if row.reading in known} | dict(known)
    chosen = []
    for quantity in quantities:
        if callable(quantity):
            chosen.append(quantity)
        else:
            chosen.append(named[one_of("reading", quantity, known, also=named)])
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


@usual_settings()
def seed_keys(key, seeds: int):
    """One key a seed: seed i's is a function of the root key and i, whatever the number of seeds."""
    whole("seeds", seeds, most=2**31 - 1)
    size.refuse("a run", "take fewer seeds", keys=size.KEY * seeds)
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
    return [given] * (seeds // len(jax.tree.leaves(given)[0]))


def _read(model, chosen: tuple[Reading, ...], sets: Iterable, batch, batch_axis: int | None) -> dict:
    """The readings in `chosen` of all seeds, whose weights come in parts."""
    arrays, start = [], 0
    for weights in sets:
        end = start + len(jax.tree.leaves(weights)[0])
        own = batch if batch_axis is None else jax.tree.map(lambda a, part=slice(start, end): a[part], batch)
        arrays.append(jax.device_get(over_seeds(model, chosen, weights, own, batch_axis)))
        start = end
    return jax.tree.map(lambda *a: np.concatenate(a), *arrays)


def by_node(models: Mapping, params: Mapping | None = None) -> tuple[dict[str, Any], dict]:
    """Models, and weights that are given, by the nodes of a result: the sides of a model lie inside of its name, `t5/encoder`.

    A model that stands alone, as `model`, gives its sides their own names.
    """
    check_names(models)
    nodes: dict[str, Any] = {}
    given: dict[str, Any] = {}
    for name in params or {}:
        one_of("model among those measured, whose params are given:", name, models)
    for name, model in models.items():
        if isinstance(model, Sided):
            lead = "" if list(models) == ["model"] else f"{name}/"
            for own, side in model.sides.items():
                nodes[f"{lead}{own}"] = side
                if params and name in params:
                    given[f"{lead}{own}"] = side.arranged(params[name])
        elif isinstance(model, Model):
            nodes[name] = model
            if params and name in params:
                given[name] = params[name]
        else:
            refuse_module(model)
            raise TypeError(f"{name} is a {type(model).__name__}: a model is expected, such as gf.transformer('pre')")
    return nodes, given


@usual_settings()
def measure_models(
    models: Mapping,
    data,
    *,
    seeds: int = 8,
    key=0,
    params: Mapping | None = None,
    batches: str = SHARED,
    quantities: str | Sequence[str | Reading] = ("backward",),
) -> xr.DataTree:
    """`measure` for models: see there."""
    origin, chosen = provenance(), readings(quantities)
    nodes, given = by_node(models, params)
    one_of("batches", batches, (SHARED, OWN))
    sets = {check_weights(name, nodes[name], weights) for name, weights in given.items()}
    seeds = whole("seeds", seeds)
    if batches == SHARED:
        seeds = max(sets, default=seeds)
    apart = batches == OWN and isinstance(data, Mapping)
    size.check(nodes, readable(data), seeds=seeds, at_once=1 if apart else None, given=given)
    if batches == SHARED:
        batch = first = the_batch(data, nodes, key)
    else:
        batch = _one_a_seed(data, nodes, key, seeds)
        seeds = len(jax.tree.leaves(batch)[0])
        first = jax.tree.map(lambda a: a[0], batch)
    if not sets <= {1, seeds}:
        raise ValueError(
            f"weights for {max(sets)} seeds are given, but there are {seeds}: give one set for all, or one a seed"
        )
    undrawable = [name for name, model in nodes.items() if name not in given and not isinstance(model, Drawable)]
    if undrawable:
        raise ValueError(
            f"{undrawable[0]} has no init(key) that draws weights: give params, with a leading axis of seeds"
        )
    keys = seed_keys(key, seeds)
    nodes = nodes if params is not None else profiled(nodes, first, key)
    measured = {}
    for name, model in nodes.items():
        weights = over(given[name], seeds) if name in given else drawn(model, keys)
        found = _read(model, chosen, weights, batch, None if batches == SHARED else 0)
        warn_of_nonfinite(name, found, given.get(name))
        found = resolved(found)
        warn_of_underflow(name, found)
        parameters = given[name] if name in given else shapes(model)
        measured[name] = Readings(found, coordinates(model, parameters), model)
    told: dict[str, Any] = {"batch_sha256": digest(batch)} if batches == SHARED else {}
    if params is not None:
        told |= {"weights": "given", "weights_sha256": {name: digest(weights) for name, weights in given.items()}}
    leading, described_data = {"seed": np.arange(seeds)}, described(data)
    return label(
        measured, leading=leading, provenance=origin, data=described_data, key=str(key), batches=batches, **told
    )


@overload
def measure(
    models: Model | Sided | Mapping[str, Any],
    data: Any,
    *,
    seeds: int = 8,
    key: Any = 0,
    params: Any = None,
    batches: str = SHARED,
    quantities: str | Sequence[str | Reading] = ("backward",),
) -> xr.DataTree: ...


@overload
def measure(
    models: Callable[..., Any],
    data: Any,
    batch: Any,
    *,
    dials: Mapping[str, Any] | None = None,
    stacked: str | tuple[str, ...] | None = None,
) -> xr.DataTree: ...


@answering(measure_models, measure_function)
@usual_settings()
def measure(models, data, batch=None, **options) -> xr.DataTree:
    """Labelled readings of one model, of several, or of somebody's own loss.

    `measure(model, data)` and `measure({name: model}, data)`:

    models : `Transformer`, `interop.functions.FunctionStack`, or anything with their methods; an `EncoderDecoder`, whose
        sides become the nodes `encoder` and `decoder`, inside of its name where it has one
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

    Errors: ValueError or TypeError, one line, before anything is compiled. A warning says which seeds are not finite, and where
    gradients underflowed.
    """
    if isinstance(models, Mapping | Model | Sided):
        check_options("measure of a model", options, options_of(measure_models))
    if isinstance(models, Mapping):
        return measure_models(models, data, **options)
    if isinstance(models, Model | Sided):
        params = options.pop("params", None)
        alone = {"model": models}
        return measure_models(alone, data, params=None if params is None else {"model": params}, **options)
    refuse_module(models)
    if callable(models):
        check_options("measure of a loss function", options, options_of(measure_function))
        return measure_function(models, data, batch, **options)
    raise TypeError(
        f"measure takes a model, a dict of them, or a loss function (params, batch), not {type(models).__name__}"
    )


def _one_a_seed(data, models: Mapping, key, seeds: int) -> dict:
    """A batch for each seed, on a leading axis."""
    if isinstance(data, Mapping):
        return checked(data, models, leading=1)
    return checked(checked_data(data).batches(seed_keys(key, seeds), 0), models, leading=1)


@usual_settings()
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
    models = models if isinstance(models, Mapping) else {"model": models}
    depth, width = _sizes("depth", depth), _sizes("width", width)
    function("take", take)
    if not open_ended(take):
        check_options("sweep", options, [*options_of(sweep), *options_of(take)])
    if not depth and not width:
        depth = (6, 12, 24)
    stacks, _ = by_node(models)
    family = {f"{name}/depth_{n}": model.at_depth(n) for n in depth for name, model in stacks.items()}
    family |= {f"{name}/width_{n}": replace(model, width=n) for n in width for name, model in stacks.items()}
    size.check(family, readable(data), seeds=1)
    nodes: dict[str, xr.Dataset] = {}
    for path, model in tqdm(family.items(), desc="sweep", unit="stack", delay=1, leave=False):
        tree = take({"model": model}, data, **options)
        nodes.setdefault("/", tree.to_dataset())
        node = tree.children["model"].to_dataset(inherit=False)
        nodes[path] = node.assign_attrs(total_depth=model.depth, width=model.width)
    return xr.DataTree.from_dict(nodes)


def _sizes(name: str, sizes) -> tuple[int, ...]:
    """Sizes to sweep over, each once; one number is one size."""
    listed = sizes if isinstance(sizes, Sequence | np.ndarray) else [sizes]
    return tuple(dict.fromkeys(whole(name, size) for size in listed))
