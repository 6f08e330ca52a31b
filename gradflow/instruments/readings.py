"""Readings taken of models: `measure` at one moment, `sweep` over total depth.

A reading is a pure function `(model, params, batch) -> {quantity: array}`. `measure` draws the weights of all seeds,
maps the readings over them in one compiled call, and hands the arrays to `results.label`.

Seeds change the weights; at initialization all seeds and all models see the same batch.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from ..model.init import at, root
from ..results.configuration import suggestions
from ..results.provenance import provenance
from ..results.tree import Readings, label
from . import gradients, jacobians
from .meter import GAIN, unread

Reading = Callable[..., dict]

# Which reading yields a quantity that has to be asked for; everything else comes from the one backward pass.
READINGS: dict[str, Reading] = {
    "backward": gradients.reading,
    "parameter_gradient_per_example": gradients.per_example,
    "partial_jacobian": jacobians.partial_jacobian,
    "singular_values": jacobians.spectrum,
}


def readings(quantities: Iterable[str | Reading]) -> tuple[Reading, ...]:
    """The reading functions behind names (see `READINGS`); a reading function passes through."""
    chosen = []
    for quantity in quantities:
        if isinstance(quantity, str) and quantity not in READINGS:
            raise ValueError(f"no reading {quantity!r}: {suggestions(quantity, READINGS)}")
        chosen.append(READINGS[quantity] if isinstance(quantity, str) else quantity)
    return tuple(dict.fromkeys(chosen))


def seed_keys(key, seeds: int):
    """One key a seed: seed i's is a function of the root key and i, whatever the number of seeds."""
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}: at least 1 is needed")
    return jax.vmap(lambda i: at(root(key), "seed", i))(jnp.arange(seeds))


def coordinates(model, params) -> dict:
    """Coordinates of a model's readings: sublayers with layer, kind and relative depth; parameter names."""
    kinds = [(sub.kind, layer) for layer, sub in _in_depth_order(model.segments)]
    size = len(kinds)
    return {
        "depth": np.arange(size + 1),
        "sublayer": np.arange(1, size + 1),
        "kind": ("sublayer", [kind for kind, _ in kinds]),
        "layer": ("sublayer", [layer for _, layer in kinds]),
        "relative_depth": ("sublayer", np.arange(1, size + 1) / size),
        "parameter": ("parameter", gradients.parameter_names(model.segments, params["stack"])),
        "outer": ("outer", gradients.outer_names(params)),
    }


def _in_depth_order(segments):
    """`(layer, sublayer)` from the bottom up, layers counted from 1."""
    layer = 0
    for segment in segments:
        for _ in range(segment.repeats):
            layer += 1
            yield from ((layer, sub) for sub in segment.block)


def measure(models, data, batch=None, **options) -> xr.DataTree:
    """Labelled readings of one model, of several, or of somebody's own loss.

    `measure(model, data)` and `measure({name: model}, data)`:

    models : `Transformer`, `interop.functions.FunctionStack`, or anything with their methods
    data : a `Text`, or a batch `{"inputs": [B, …], "targets": [B, …]}`, the same for all seeds and models
    seeds : number of draws of the weights (8)
    key : integer or JAX key that all randomness derives from (0)
    params : given weights instead of fresh ones, with a leading seed axis; `{name: params}` for several models
    quantities : names in `READINGS` or reading functions; by default what one backward pass gives

    `measure(loss_fn, params, batch, dials=…, stacked=…)`, for any differentiable `loss_fn(params, batch)`:
    see `measure_function`.

    Returns a `DataTree`: one node a model, `seed` at the root with the provenance.
    """
    if isinstance(models, Mapping):
        return measure_models(models, data, **options)
    if hasattr(models, "segments"):
        given: dict[str, Any] = (
            {"params": {"model": options.pop("params")}} if options.get("params") is not None else {}
        )
        return measure_models({"model": models}, data, **given, **options)
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
    quantities: Sequence[str | Reading] = ("backward",),
) -> xr.DataTree:
    """`measure` for models: see there."""
    origin, chosen = provenance(), readings(quantities)
    keys = seed_keys(key, seeds) if params is None else None
    batch = data if isinstance(data, Mapping) else data.batch(root(key), 0)
    measured = {}
    for name, model in models.items():
        weights = params[name] if params is not None else jax.vmap(model.init)(keys)
        read = jax.jit(jax.vmap(lambda p, b, m=model: {k: v for r in chosen for k, v in r(m, p, b).items()}, (0, None)))
        arrays = jax.device_get(read(weights, batch))
        measured[name] = Readings(arrays, coordinates(model, weights), model)
    seeds = len(next(iter(measured.values())).arrays["loss"]) if params is not None else seeds
    return label(
        measured,
        leading={"seed": np.arange(seeds)},
        provenance=origin,
        data=described(data),
        key=str(key),
        batches="shared by seeds",
    )


def described(data) -> dict:
    """What a result file says of its data."""
    if isinstance(data, Mapping):
        return {"name": "a batch", "shapes": {name: list(np.shape(a)) for name, a in data.items()}}
    return data.description()


def measure_function(
    loss_fn, params, batch, *, dials: Mapping | None = None, stacked: str | None = None
) -> xr.DataTree:
    """Gradient norms of somebody's own model: every parameter's, and what meters of theirs read.

    Parameters
    ----------
    loss_fn : `(params, batch) -> scalar`, or `(params, batch, dials) -> scalar` where `dials` is given
        Inside, `x = gf.meter(x, dials["name"][l])` puts a meter on x.
    dials : `{name: array}`, of the shape of what is read, for example `{"stream_gradient": jnp.zeros(depth + 1)}`
        The values don't matter: they are set to the meters' gain.
    stacked : key of `params` whose leaves are stacked over depth
        Their norms become `parameter_gradient[sublayer, parameter]`; all others `outer_gradient[outer]`.

    Errors: ValueError naming the meters that read nothing, because the loss does not depend on what they see. A meter
    whose gradient is zero is no error.
    """
    origin, given = provenance(), dict(dials or {})
    call = (lambda p, d: loss_fn(p, batch, d)) if dials is not None else (lambda p, d: loss_fn(p, batch))
    read = jax.jit(
        lambda gain: jax.value_and_grad(call, (0, 1))(
            params, jax.tree.map(lambda d: jnp.full_like(d, gain, jnp.float32), given)
        )
    )
    silent = unread(read(jnp.nan)[1][1])
    if silent:
        raise ValueError(
            f"these meters read nothing, since the loss does not depend on what passes them: {', '.join(silent)}"
        )
    loss, (grads, squares) = read(GAIN)
    arrays = {"loss": loss, **{name: gradients.norm(square) for name, square in squares.items()}}
    coords: dict = {"dims": {name: _own_dims(name, np.ndim(square)) for name, square in squares.items()}}
    outer = {k: v for k, v in grads.items() if k != stacked} if stacked else grads
    if stacked:
        inside = gradients.named(grads[stacked])
        arrays["parameter_gradient"] = jnp.stack(
            [jax.vmap(gradients.frobenius)(leaf) for leaf in inside.values()], axis=-1
        )
        coords["parameter"] = ("parameter", list(inside))
    outside = gradients.named(outer)
    if outside:
        arrays["outer_gradient"] = jnp.stack([gradients.frobenius(leaf) for leaf in outside.values()])
        coords["outer"] = ("outer", list(outside))
    return label({"model": Readings(jax.device_get(arrays), coords)}, provenance=origin)


def _own_dims(name: str, rank: int) -> tuple[str, ...]:
    """Dimensions of a user's meter: the first is named after it, further ones numbered."""
    return tuple(name if i == 0 else f"{name}_{i}" for i in range(rank))


def sweep(
    models: Mapping,
    data,
    *,
    depth: Sequence[int] = (6, 12, 24),
    seeds: int = 8,
    key=0,
    quantities=("backward",),
) -> xr.DataTree:
    """Readings against the total depth: a node `model/depth_n` for each model and number of blocks n.

    The models are rebuilt at each depth (`at_depth`: numbers such as DeepNorm's α follow it) and share their first blocks.
    `results.against_total_depth` picks one entry of each profile.
    """
    family = {f"{name}/depth_{n}": model.at_depth(n) for n in depth for name, model in models.items()}
    origin, nodes = provenance(), {}
    for path, model in tqdm(family.items(), desc="depth sweep", unit="stack", delay=1, leave=False):
        tree = measure_models({"model": model}, data, seeds=seeds, key=key, quantities=quantities)
        nodes[path] = tree.children["model"].to_dataset(inherit=False).assign_attrs(total_depth=model.depth)
    root_node = xr.Dataset(coords=tree.coords, attrs={**tree.attrs, **label({}, provenance=origin).attrs})
    return xr.DataTree.from_dict({"/": root_node, **nodes})
