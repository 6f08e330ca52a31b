"""Measurements: `measure` at one moment, `sweep` over total depth or width.

`measure` draws the weights of all seeds, maps the readings over them in one compiled call, and has the arrays labelled.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, overload

import jax
import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from ..model.contracts import Drawable, Model, Sided
from ..model.inputs import size
from ..model.inputs.batch import checked, checked_data, readable, the_batch
from ..model.inputs.weights import check_weights, shapes
from ..model.numerics.settings import usual_settings
from ..model.parameters.names import coordinates
from ..model.stacks.admin_profiling import profiled
from ..results.arguments import answering, check_options, function, open_ended, options_of, whole
from ..results.arguments import known as one_of
from ..results.digest import digest
from ..results.naming import check_names
from ..results.provenance import provenance
from ..results.tree import Readings, described, label
from .loss import measure_function, refuse_module
from .readings import Reading, readings
from .resolution import resolved, warn_of_nonfinite, warn_of_underflow
from .seeds import init_seeds, over, read, seed_keys

SHARED, OWN = "shared by seeds", "one a seed"


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
        weights = over(given[name], seeds) if name in given else init_seeds(model, keys)
        found = read(model, chosen, weights, batch, None if batches == SHARED else 0)
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
