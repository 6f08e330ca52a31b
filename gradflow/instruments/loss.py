"""Meters in somebody's own loss: gradient norms of any differentiable function of parameters and a batch.

    def loss_fn(params, batch, dials):
        for l, layer in enumerate(params["layers"]):
            x = block(layer, gf.meter(x, dials["stream"][l]))
        ...

    gf.measure(loss_fn, params, batch, dials={"stream": jnp.zeros(depth)}, stacked="layers")

A meter that reads nothing is an error, told from one that reads zero, and so are two meters on one dial.
"""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ..model.parameters.names import by_part, check_stacked, in_turn, name, part_of, stacked_keys
from ..results.arguments import shown
from ..results.provenance import provenance
from ..results.tree import Readings, label
from .gradients import frobenius
from .meter import GAIN, norm, unread
from .resolution import warn_of_nonfinite
from .uses import shared_dials

TAKEN = ("loss", "parameter_gradient", "outer_gradient", "parameter", "outer", "seed", "step")


# What tells a module of another library from a function, and how it becomes one.
SPLIT = "gf.measure(lambda params, batch: loss(merge(params), batch), params, batch)"
FRAMEWORKS = {
    "flax.nnx": f"split it, graph, params, rest = nnx.split(module, nnx.Param, ...), and merge it in the loss: {SPLIT}",
    "flax.linen": "measure its loss: gf.measure(lambda params, batch: loss(module.apply(params, …), batch), params, batch)",
    "equinox": f"split it, params, rest = eqx.partition(module, eqx.is_inexact_array), and combine it in the loss: {SPLIT}",
    "torch": "its gradients are not JAX's: load its weights with gf.checkpoint(folder), or write its loss in JAX",
    "haiku": "transform it, and measure its loss: gf.measure(lambda params, batch: loss(net.apply(params, …)), params, batch)",
}


def refuse_module(thing) -> None:
    """An error, which says what to do instead, where somebody's module stands in the place of a model or a loss function."""
    homes = {f"{cls.__module__}." for cls in type(thing).__mro__}
    for library, remedy in FRAMEWORKS.items():
        is_one = any(home.startswith(f"{library}.") for home in homes)
        wraps_a_function = library == "equinox" and not any(map(_is_array, jax.tree.leaves(thing)))
        if is_one and not wraps_a_function:
            raise TypeError(f"{type(thing).__name__} is a module of {library}: {remedy}")


def _is_array(leaf) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


def measure_function(
    loss_fn, params, batch, *, dials: Mapping | None = None, stacked: str | tuple[str, ...] | None = None
) -> xr.DataTree:
    """Gradient norms of somebody's own model: every parameter's, and what meters of theirs read.

    Parameters
    ----------
    loss_fn : `(params, batch) -> scalar`, or `(params, batch, dials) -> scalar` where `dials` is given
        Inside, `x = gf.meter(x, dials["name"][l])` puts a meter on x.
    params : any pytree of floating or complex arrays; of a complex one the norm is `√Σ|g|²`
    dials : `{name: array}`, of the shape of what is read, for example `{"stream_gradient": jnp.zeros(depth + 1)}`
        The values don't matter: they are set to the meters' gain.
    stacked : keys of `params` whose leaves are stacked over depth, `outer.inner` for a nested one
        Their norms become `parameter_gradient[sublayer, parameter]`; all others `outer_gradient[outer]`.

    Returns one node, `model`. Cost: two backward passes, the first to see that every meter reads something.

    Errors: ValueError naming the meters that read nothing, because the loss does not depend on what they see, and the dials that
    more than one meter reads; and for parameters that have no gradient, or a loss that is no real number.
    """
    origin, keys = provenance(), stacked_keys(stacked)
    leaves = _leaves(params)
    _check_parameters(leaves)
    check_stacked(leaves, keys)
    loss, grads, squares = _read(loss_fn, params, batch, _checked_dials(dials))
    arrays = {"loss": loss, **{name: norm(square) for name, square in squares.items()}}
    coords: dict = {"dims": {name: [f"{name}_{i}" for i in range(np.ndim(a))] for name, a in squares.items()}}
    norms = jax.device_get(jax.tree_util.tree_map_with_path(partial(_norms, keys), grads))
    parts = by_part(norms, keys)
    outside = parts.pop(None, {})
    inside = in_turn(list(parts.values()))
    for quantity, dim, own in (("parameter_gradient", "parameter", inside), ("outer_gradient", "outer", outside)):
        if own:
            arrays[quantity] = np.stack(list(own.values()), axis=-1)
            coords[dim] = (dim, list(own))
    found = jax.device_get(arrays)
    warn_of_nonfinite("model", found)
    return label({"model": Readings(found, coords)}, provenance=origin)


def _leaves(params) -> list:
    """The leaves with their paths."""
    try:
        return jax.tree_util.tree_leaves_with_path(params)
    except ValueError as error:
        if "sorting pytree dictionary keys" not in str(error):
            raise
        raise ValueError("a dict among the parameters has keys that can't be sorted: name all by texts") from None


def _norms(stacked: tuple[str, ...], path, leaf):
    """The norm of a leaf, or of each of its layers."""
    return jax.vmap(frobenius)(leaf) if part_of(path, stacked) else frobenius(leaf)


def _check_parameters(leaves) -> None:
    """Every leaf has a gradient."""
    for path, leaf in leaves:
        dtype = getattr(leaf, "dtype", type(leaf).__name__)
        if dtype in ("float", "complex") or (_is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)):
            continue
        raise ValueError(
            f"the parameter {name(path)} is {dtype}: gradients are of floating and complex arrays alone; keep the rest out of "
            f"params (eqx.partition(model, eqx.is_inexact_array), nnx.split(module, nnx.Param, ...)) and merge it in the loss"
        )


def _checked_dials(dials) -> dict | None:
    """Dials as `{name: array}`, named as variables of a result can be."""
    if dials is None:
        return None
    if not isinstance(dials, Mapping):
        raise ValueError(f"dials is {shown(dials)}: {{name: array}} is expected, {{'stream': jnp.zeros(depth + 1)}}")
    if not dials:
        raise ValueError("dials is empty: {name: array} is expected, or nothing")
    for own, dial in dials.items():
        if not isinstance(own, str) or not own.isidentifier() or own in TAKEN:
            raise ValueError(
                f"a dial is named {shown(own)}: a name of a variable is needed, and not {', '.join(TAKEN)}"
            )
        if np.size(dial) == 0:
            raise ValueError(f"the dial {own} is empty: it needs an element for every meter")
        if not (_is_array(dial) or isinstance(dial, int | float)):
            raise ValueError(
                f"the dial {own} is a {type(dial).__name__}: an array of the shape of what is read is needed"
            )
    return dict(dials)


def _read(loss_fn, params, batch, dials: dict | None):
    """Loss, gradients and the meters' squared norms, once it is known that every meter reads something, and all of a dial."""
    call = (lambda p, d: loss_fn(p, batch)) if dials is None else (lambda p, d: loss_fn(p, batch, d))
    set_to = lambda gain: jax.tree.map(lambda d: jnp.full_like(d, gain, jnp.float32), dict(dials or {}))
    out = _shape_of(call, params, set_to(0.0))
    if getattr(out, "shape", None) != () or not jnp.issubdtype(out.dtype, jnp.floating):
        raise ValueError(f"the loss is {_words(out)}: one real floating number is needed, without anything beside it")
    shared = shared_dials(lambda d: call(params, d), set_to(0.0))
    if shared:
        raise ValueError(
            f"these dials are read by more than one meter, and would hold the sum of their squares: {', '.join(shared)}; "
            f"give every position a dial of its own (an index beyond the end of an array is taken for the last)"
        )
    read = jax.jit(lambda gain: jax.value_and_grad(call, (0, 1))(params, set_to(gain)))
    silent = unread(read(jnp.nan)[1][1])
    if silent:
        names = ", ".join(silent)
        raise ValueError(f"these meters read nothing, since the loss does not depend on what passes them: {names}")
    loss, (grads, squares) = read(GAIN)
    return loss, grads, squares


def _shape_of(call, params, dials):
    """What the loss returns, by shape and type."""
    try:
        return jax.eval_shape(call, params, dials)
    except TypeError as error:
        if "not a valid JAX type" not in str(error):
            raise
        raise ValueError(
            "the loss is no array: one real floating number is needed, without anything beside it"
        ) from None


def _words(out) -> str:
    """What a function returns, in few words."""
    if hasattr(out, "shape"):
        return f"{out.dtype}{list(out.shape)}"
    return f"a {type(out).__name__}"
