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

from ...model.parameters.names import by_part, check_stacked, in_turn, name, part_of, stacked_keys
from ...results.arguments import shown
from ...results.provenance import provenance
from ...results.tree import Readings, label
from ..meters.meter import GAIN, norm, unread
from ..meters.parameter_norms import frobenius
from ..meters.resolution import warn_of_nonfinite
from ..meters.uses import shared_dials

TAKEN = ("loss", "parameter_gradient", "outer_gradient", "parameter", "outer", "seed", "step")


# What tells a module of another library from a function, and how it is measured.
ALONE = "measure it by itself, gf.measure(module, {arguments}), or its loss, gf.measure(loss_fn, params, batch)"
FRAMEWORKS = {
    "flax.nnx": ALONE.format(arguments="batch"),
    "flax.linen": ALONE.format(arguments="variables, batch"),
    "equinox": ALONE.format(arguments="batch"),
    "torch": "its gradients are not JAX's: load its weights with gf.checkpoint(folder), or write its loss in JAX",
    "haiku": "transform it, and measure its loss: gf.measure(lambda params, batch: loss(net.apply(params, …)), params, batch)",
}


def refuse_module(thing) -> None:
    """Refuses, and says what to do instead, where somebody's module stands in the place of a model or a loss function."""
    library = library_of(thing)
    if library is not None:
        raise TypeError(f"{type(thing).__name__} is a module of {library}: {FRAMEWORKS[library]}")


def library_of(thing) -> str | None:
    """Returns the library, of `FRAMEWORKS`, whose module a thing is; None for anything else, such as a function."""
    for library in FRAMEWORKS:
        wraps_a_function = library == "equinox" and not has_arrays(thing)
        if _comes_from(library, thing) and not wraps_a_function:
            return library
    return None


def _comes_from(library: str, thing) -> bool:
    """Returns whether the class of a thing, or one that it inherits from, is defined in that library."""
    return any(f"{cls.__module__}.".startswith(f"{library}.") for cls in type(thing).__mro__)


def has_arrays(thing) -> bool:
    """Returns whether there is an array among the leaves of a pytree."""
    return any(map(_is_array, jax.tree.leaves(thing)))


def _is_array(leaf) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


def measure_function(
    loss_fn,
    params,
    batch,
    *,
    dials: Mapping | None = None,
    stacked: str | tuple[str, ...] | None = None,
) -> xr.DataTree:
    """Returns the gradient norms of somebody's own model, labelled: every parameter's, and what meters of theirs read.

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
    origin = provenance()
    keys = stacked_keys(stacked)
    check_parameters(params)
    check_stacked(_leaves(params), keys)
    loss, grads, squares = _backward(loss_fn, params, batch, _checked_dials(dials))
    arrays = {"loss": loss}
    dims = {}
    for dial, square in squares.items():
        arrays[dial] = norm(square)
        dims[dial] = [f"{dial}_{axis}" for axis in range(np.ndim(square))]
    norms = jax.device_get(jax.tree_util.tree_map_with_path(partial(_norms, keys), grads))
    parts = by_part(norms, keys)
    outside = parts.pop(None, {})
    inside = in_turn(list(parts.values()))
    coords: dict = {"dims": dims}
    if inside:
        arrays["parameter_gradient"] = np.stack(list(inside.values()), axis=-1)
        coords["parameter"] = ("parameter", list(inside))
    if outside:
        arrays["outer_gradient"] = np.stack(list(outside.values()), axis=-1)
        coords["outer"] = ("outer", list(outside))
    arrays = jax.device_get(arrays)
    warn_of_nonfinite("model", arrays)
    return label({"model": Readings(arrays, coords)}, provenance=origin)


def _leaves(params) -> list:
    """Returns the leaves with their paths."""
    try:
        return jax.tree_util.tree_leaves_with_path(params)
    except ValueError as error:
        if "sorting pytree dictionary keys" not in str(error):
            raise
        raise ValueError("a dict among the parameters has keys that can't be sorted: name all by texts") from None


def _norms(stacked: tuple[str, ...], path, leaf):
    """Returns the norm of a leaf, or of each of its layers."""
    if part_of(path, stacked):
        return jax.vmap(frobenius)(leaf)
    return frobenius(leaf)


def check_parameters(params) -> None:
    """Refuses parameters of which one has no gradient."""
    for path, leaf in _leaves(params):
        if isinstance(leaf, float | complex):
            continue
        dtype = getattr(leaf, "dtype", type(leaf).__name__)
        if _has_gradient(dtype):
            continue
        raise ValueError(
            f"the parameter {name(path)} is {dtype}: gradients are of floating and complex arrays alone; keep the rest out of "
            f"params (eqx.partition(model, eqx.is_inexact_array), nnx.split(module, nnx.Param, ...)) and merge it in the loss"
        )


def _has_gradient(dtype) -> bool:
    """Returns whether arrays of that type have gradients; not the name of a class that is none of an array."""
    return not isinstance(dtype, str) and jnp.issubdtype(dtype, jnp.inexact)


def check_loss(call, *arguments) -> None:
    """Refuses a function of parameters (and more) whose value, or the first of several values, is no real floating number."""
    out = _shape_of(call, *arguments)
    first = out[0] if isinstance(out, tuple) and out else out
    if not _is_real_number(first):
        raise ValueError(
            f"the loss is {_to_text(out)}: one real floating number is needed, alone or first of a tuple (loss, …)"
        )


def _checked_dials(dials) -> dict | None:
    """Returns dials as `{name: array}`, named as variables of a result can be."""
    if dials is None:
        return None
    if not isinstance(dials, Mapping):
        raise ValueError(f"dials is {shown(dials)}: {{name: array}} is expected, {{'stream': jnp.zeros(depth + 1)}}")
    if not dials:
        raise ValueError("dials is empty: {name: array} is expected, or nothing")
    for dial_name, dial in dials.items():
        _check_dial(dial_name, dial)
    return dict(dials)


def _check_dial(dial_name, dial) -> None:
    """Refuses a dial whose name no variable can have, and one that is no array of meters."""
    if not isinstance(dial_name, str) or not dial_name.isidentifier() or dial_name in TAKEN:
        raise ValueError(
            f"a dial is named {shown(dial_name)}: a name of a variable is needed, and not {', '.join(TAKEN)}"
        )
    if np.size(dial) == 0:
        raise ValueError(f"the dial {dial_name} is empty: it needs an element for every meter")
    if not (_is_array(dial) or isinstance(dial, int | float)):
        raise ValueError(
            f"the dial {dial_name} is a {type(dial).__name__}: an array of the shape of what is read is needed"
        )


def _backward(loss_fn, params, batch, dials: dict | None):
    """Returns loss, gradients and the meters' squared norms.

    Refuses meters that read nothing, and those that share a dial.
    """

    def call(params, dials_as_set):
        if dials is None:
            return loss_fn(params, batch)
        return loss_fn(params, batch, dials_as_set)

    def set_to(gain: float) -> dict:
        return jax.tree.map(lambda dial: jnp.full_like(dial, gain, jnp.float32), dict(dials or {}))

    @jax.jit
    def loss_and_gradients(gain):
        return jax.value_and_grad(call, (0, 1))(params, set_to(gain))

    out = _shape_of(call, params, set_to(0.0))
    if not _is_real_number(out):
        raise ValueError(f"the loss is {_to_text(out)}: one real floating number is needed, without anything beside it")
    shared = shared_dials(partial(call, params), set_to(0.0))
    if shared:
        raise ValueError(
            f"these dials are read by more than one meter, and would hold the sum of their squares: {', '.join(shared)}; "
            f"give every position a dial of its own (an index beyond the end of an array is taken for the last)"
        )
    _, (_, squares) = loss_and_gradients(jnp.nan)
    silent = unread(squares)
    if silent:
        names = ", ".join(silent)
        raise ValueError(f"these meters read nothing, since the loss does not depend on what passes them: {names}")
    loss, (grads, squares) = loss_and_gradients(GAIN)
    return loss, grads, squares


def _shape_of(call, *arguments):
    """Returns shape and type of what the loss returns."""
    try:
        return jax.eval_shape(call, *arguments)
    except TypeError as error:
        if "not a valid JAX type" not in str(error):
            raise
        raise ValueError(
            "the loss is no array: one real floating number is needed, without anything beside it"
        ) from None


def _is_real_number(out) -> bool:
    """Returns whether a function returns one real floating number."""
    return isinstance(out, jax.ShapeDtypeStruct) and out.shape == () and jnp.issubdtype(out.dtype, jnp.floating)


def _to_text(out) -> str:
    """Returns what a function returns, in few words."""
    if isinstance(out, jax.ShapeDtypeStruct):
        return f"{out.dtype}{list(out.shape)}"
    return f"a {type(out).__name__}"
