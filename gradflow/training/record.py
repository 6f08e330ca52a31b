"""A recorder in somebody's own optimizer: the norms of what passes where it stands, layer by layer.

    optimizer = optax.chain(gf.record("gradient"), optax.clip_by_global_norm(1.0), optax.adamw(1e-3), gf.record("update"))

    def step(carry, batch):
        ...
        return (params, opt_state), gf.recorded(opt_state)

    carry, history = jax.lax.scan(step, (params, opt_state), batches)
    gf.labelled(history, model)  # parameter_gradient, update_norm, update_to_weight, … over `step`

In front of clipping it reads the gradient, at the end ΔW: `‖u‖_F`, and `‖u‖_F/‖W‖_F` with W the weights before the update.
What passes is handed on as it came. Inside `optax.MultiSteps` a recorder sees the mean gradient of each update that is
applied, inside `optax.apply_if_finite` what is let through, inside `optax.masked` the parameters that are not masked.

Until the first update its state holds NaN, on purpose: a step of your own under `jax_debug_nans` stops there.

Axes: a leaf stacked over depth has its L layers on axis 0 and one norm a layer, [L]; any other leaf one norm, [].
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from flax import nnx

from ..instruments.meters.parameter_norms import frobenius, parameter_norms
from ..model.numerics.settings import usual_settings
from ..model.parameters.names import (
    by_part,
    check_stacked,
    coordinates,
    in_turn,
    parameter_names,
    part_of,
    stacked_keys,
)
from ..programs.labels import label_readings
from ..programs.metered import Metered
from ..results.arguments import answering, shown
from ..results.provenance import provenance
from ..results.tree import Readings, label

KNOWN_AS = {"gradient_norm": "parameter_gradient", "outer_gradient_norm": "outer_gradient"}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Recorded:
    """What a recorder saw last. Its trees are those of the parameters, with norms [L] or [] in the place of leaves."""

    name: str = field(metadata={"static": True})
    stacked: tuple[str, ...] = field(metadata={"static": True})
    count: Any  # updates seen: the last one is step count − 1, counted from 0 as in `gf.train`
    norm: Any  # ‖u‖_F; NaN before the first
    to_weight: Any  # ‖u‖_F/‖W‖_F; NaN without parameters, and where W = 0
    nonfinite_step: Any  # first step with a value that is not finite; −1: never


@answering()
def record(
    name: str = "gradient", *, stacked: str | tuple[str, ...] | None = "stack"
) -> optax.GradientTransformationExtraArgs:
    """An optax transformation that passes updates on unchanged, and keeps their norms in its state (see `Recorded`).

    Parameters
    ----------
    name : what `recorded` finds it by, and `labelled` its quantities: "gradient" in front of all else, "update" at the end
    stacked : keys of the parameters below which every leaf has its layer on axis 0, `outer.inner` for a nested one
        By default that of gradflow's models; "layers", ("dense", "experts"), … for others; None where nothing is stacked.

    Norms accumulate in float32 or better, where they hold from 1e-24 to 1e12; beyond, 0 and infinity. Cost: that of the global
    norms of updates and weights.

    Errors: ValueError where the name is no identifier, and, from `init`, where a stacked key is missing or axis 0 is not the
    layer throughout.

    >>> import jax.numpy as jnp, optax, gradflow as gf
    >>> optimizer = optax.chain(optax.sgd(0.5), gf.record("update"))
    >>> params = {"stack": jnp.ones((3, 8, 8)), "readout": jnp.ones(8)}
    >>> _, state = optimizer.update(params, optimizer.init(params), params)  # the gradient of ‖W‖²/2
    >>> gf.recorded(state)["update"].to_weight["stack"].tolist()
    [0.5, 0.5, 0.5]
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"a recorder's name becomes that of a variable, which {shown(name)} cannot be: try 'clipped'")
    keys = stacked_keys(stacked)

    @usual_settings()
    def init(params) -> Recorded:
        leaves = jax.tree_util.tree_leaves_with_path(params, is_leaf=_masked)
        check_stacked(leaves, keys, ignored=_masked)
        unread = lambda a: jnp.full(a.shape, jnp.nan, a.dtype)
        # Without leaves, params are what optax.tree_map_params looks for copies of the parameters with: norms are none.
        norms = jax.tree.map(unread, jax.eval_shape(partial(_norms, keys), params) if leaves else jnp.zeros(()))
        return Recorded(name, keys, jnp.zeros((), jnp.int32), norms, norms, jnp.full((), -1, jnp.int32))

    def update(updates, state: Recorded, params=None, **_):
        return updates, _seen(state, updates, params)

    return optax.GradientTransformationExtraArgs(init, update)


def _seen(state: Recorded, updates, params) -> Recorded:
    """The state once these updates have passed."""
    norm = _norms(state.stacked, updates)
    weight = jax.tree.map(lambda u: jnp.nan * u, norm) if params is None else _norms(state.stacked, params)
    to_weight = jax.tree.map(lambda u, w: u / jnp.where(w > 0, w, jnp.nan), norm, weight)
    cast = partial(jax.tree.map, lambda new, old: new.astype(old.dtype))
    finite = jax.tree.reduce(jnp.logical_and, jax.tree.map(lambda u: jnp.isfinite(u).all(), updates), jnp.array(True))
    return replace(
        state,
        count=optax.safe_increment(state.count),
        norm=cast(norm, state.norm),
        to_weight=cast(to_weight, state.to_weight),
        nonfinite_step=jnp.where(finite | (state.nonfinite_step >= 0), state.nonfinite_step, state.count),
    )


def recorded(state) -> dict[str, Recorded]:
    """Returns `{name: Recorded}` of every recorder in an optimizer's state, or in anything that holds one.

    Of a Flax variable its value now: an `nnx.Optimizer` writes the next one into the same variables. It keeps recorders in its
    `opt_state`; `nnx.state(optimizer)` has their numbers without their names.

    Errors: ValueError where there is none, or where two have one name.
    """
    found = [r for r in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, Recorded)) if isinstance(r, Recorded)]
    names = [r.name for r in found]
    if not found:
        raise ValueError("no recorder here: put one in the optimizer, optax.chain(gf.record('gradient'), …)")
    if len(set(names)) < len(names):
        raise ValueError(f"recorders named {', '.join(names)}: give each a name of its own, gf.record('clipped')")
    return dict(zip(names, map(_values, found), strict=True))


def _values(one: Recorded) -> Recorded:
    """Returns the record with the values of Flax's variables in their places."""
    return jax.tree.map(_value, one, is_leaf=_is_variable)


def _value(leaf):
    return leaf.get_value() if _is_variable(leaf) else leaf


def _is_variable(leaf) -> bool:
    return isinstance(leaf, nnx.Variable)


@answering()
@usual_settings()
def labelled(records, model=None, *, leading: Mapping[str, Any] | None = None) -> xr.DataTree:
    """Returns what was read in a training loop of one's own as labelled data, over `step` and `seed`, as `gf.train` does.

    `labelled(history, metered)`: what `gf.metered` read, a node a stream, `model` where there is one; figures and reports take it

    records : readings, with axes in front where they come from `lax.scan` or `vmap`; or a list, an entry a step
    model : the metered loss
    leading : coordinates of the axes in front, in their order; by default `{"step": 0, 1, …, "seed": 0, 1, …}`
        Without an axis of seeds the run is seed 0.

    `labelled(records)` and `labelled(records, model)`: what recorders saw, as one node, `model`.

    records : what `recorded` found, with axes in front or as a list, as above
    model : the gradflow model that was trained; without it, sublayers are the layers below the stacked keys, in turn
    leading : as above, as for `results.label`; by default `{"step": count − 1, "seed": 0, 1, …}`, where records of one count, as
        gradient accumulation gives, are one

    The recorder "gradient" gives `parameter_gradient` [sublayer, parameter], `outer_gradient` [outer], `gradient_to_weight`
    and `outer_gradient_to_weight`; any other, "update" for one, `update_norm`, `update_to_weight`, `outer_update_norm` and
    `outer_update_to_weight`. NaN where a sublayer has no parameter of that name.

    Errors: ValueError where the axes in front are not those of `leading`, and where recorders saw different parameters; TypeError
    for records that are no readings.
    """
    if isinstance(model, Metered):
        return label_readings(records, model, leading)
    origin = provenance()
    found = _over_steps(records)
    if leading is None:
        found = _one_a_count(found, isinstance(records, list))
    if len({(one.stacked, jax.tree.structure(one.norm)) for one in found.values()}) > 1:
        raise ValueError(f"the recorders {', '.join(found)} saw different parameters: label them one by one")
    tables = [table for one in found.values() for table in _tables(one, model)]
    arrays = {name: np.stack(list(columns.values()), axis=-1) for name, _, columns in tables}
    coords: dict[str, Any] = {dims[-1]: (dims[-1], list(columns)) for _, dims, columns in tables}
    coords |= coordinates(model, next(iter(found.values())).norm) if model else {}
    coords["dims"] = {name: dims for name, dims, _ in tables}
    return label({"model": Readings(arrays, coords, model)}, leading=_leading(found, leading), provenance=origin)


def _over_steps(records) -> dict[str, Recorded]:
    """The recorders on the host, those of a list stacked."""
    if not isinstance(records, list) or not records:
        return jax.device_get(recorded(records))
    return jax.tree.map(lambda *a: np.stack(a), *jax.device_get([recorded(each) for each in records]))


def _counts(found: Mapping[str, Recorded]) -> np.ndarray:
    """Returns how many updates were seen at each place of the axes in front, by the recorder that saw most."""
    return np.max([np.asarray(one.count) for one in found.values()], axis=0)


def _one_a_count(found: dict[str, Recorded], is_list: bool) -> dict[str, Recorded]:
    """Returns the records with one row a count along the first axis: between two updates a recorder sees nothing new."""
    counts = _counts(found)
    if counts.ndim not in (1, 2) or len(counts) == 1:
        return found
    if not is_list and (counts[0] == counts[-1]).all():
        raise ValueError("counts do not grow along the first axis: for seeds, say leading={'seed': range(…)}")
    latest = counts.reshape(len(counts), -1).max(axis=1)
    rows = np.flatnonzero(np.diff(latest, prepend=0))
    if not rows.size:  # no update at all
        rows = np.zeros(1, int)
    return jax.tree.map(lambda array: array[rows], found)


def _leading(found: Mapping[str, Recorded], leading) -> dict[str, Any]:
    """Coordinates of the axes in front: those given, or what the counts say."""
    counts = _counts(found)
    if leading is None and counts.ndim in (1, 2):
        steps = counts.reshape(len(counts), -1).max(axis=1) - 1
        leading = dict([("step", steps), ("seed", np.arange(counts.shape[-1]))][: counts.ndim])
    if len(leading or {}) != counts.ndim:
        raise ValueError(
            f"the axes in front have shape {counts.shape}, but leading names {list(leading or {})}: "
            f"say for example leading={{'step': …, 'seed': …}}"
        )
    return dict(leading or {})


def _tables(one: Recorded, model):
    """`(quantity, dimensions, {name: column})` of everything that a recorder holds."""
    for what, tree in (("norm", one.norm), ("to_weight", one.to_weight)):
        parts = by_part(tree, one.stacked)
        outside = parts.pop(None, {})
        inside = _of_model(one, tree, model) if model else in_turn(list(parts.values()))
        for prefix, dims, columns in (("", ("sublayer", "parameter"), inside), ("outer_", ("outer",), outside)):
            name = f"{prefix}{one.name}_{what}"
            if columns:
                yield KNOWN_AS.get(name, name), dims, columns


def _of_model(one: Recorded, tree, model) -> dict[str, Any]:
    """`{parameter: [..., S]}` in depth order, by a walk over the model's stack."""
    if one.stacked != ("stack",):
        raise ValueError(f"the model's layers are below 'stack', not below {one.stacked}: gf.record({one.name!r})")
    walked = partial(parameter_norms, model.stack)
    for _ in range(np.ndim(one.count)):
        walked = jax.vmap(walked)
    names = parameter_names(model.stack, tree["stack"])
    return dict(zip(names, np.moveaxis(jax.device_get(walked(tree["stack"])), -1, 0), strict=True))


def _norms(keys: tuple[str, ...], tree):
    """`‖u‖_F` of every leaf, of each layer where it is stacked."""
    norm = lambda path, leaf: (jax.vmap(frobenius) if part_of(path, keys) else frobenius)(jnp.asarray(leaf))
    return jax.tree_util.tree_map_with_path(norm, tree)


def _masked(leaf) -> bool:
    """Whether `optax.masked` took the leaf away."""
    return isinstance(leaf, optax.MaskedNode)
