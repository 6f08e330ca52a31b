"""Meters in somebody's own loss: gradient norms of any differentiable function of parameters and a batch.

    def loss_fn(params, batch, dials):
        for l, layer in enumerate(params["layers"]):
            x = block(layer, gf.meter(x, dials["stream"][l]))
        ...

    gf.measure(loss_fn, params, batch, dials={"stream": jnp.zeros(depth)}, stacked="layers")

A meter that reads nothing is an error, told from one that reads zero.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ..model.names import named
from ..results.provenance import provenance
from ..results.tree import Readings, label
from .gradients import frobenius
from .meter import GAIN, norm, unread


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

    Returns one node, `model`. Cost: two backward passes, the first to see that every meter reads something.

    Errors: ValueError naming the meters that read nothing, because the loss does not depend on what they see.
    """
    origin = provenance()
    loss, grads, squares = _read(loss_fn, params, batch, dials)
    arrays = {"loss": loss, **{name: norm(square) for name, square in squares.items()}}
    coords: dict = {"dims": {name: [f"{name}_{i}" for i in range(np.ndim(a))] for name, a in squares.items()}}
    inside = named({stacked: grads[stacked]}) if stacked else {}
    outside = named({k: v for k, v in grads.items() if k != stacked} if stacked else grads)
    if inside:
        arrays["parameter_gradient"] = jnp.stack([jax.vmap(frobenius)(leaf) for leaf in inside.values()], axis=-1)
        coords["parameter"] = ("parameter", list(inside))
    if outside:
        arrays["outer_gradient"] = jnp.stack([frobenius(leaf) for leaf in outside.values()])
        coords["outer"] = ("outer", list(outside))
    return label({"model": Readings(jax.device_get(arrays), coords)}, provenance=origin)


def _read(loss_fn, params, batch, dials: Mapping | None):
    """Loss, gradients, and the meters' squared norms, once it is known that every meter reads something."""
    call = (lambda p, d: loss_fn(p, batch)) if dials is None else (lambda p, d: loss_fn(p, batch, d))
    set_to = lambda gain: jax.tree.map(lambda d: jnp.full_like(d, gain, jnp.float32), dict(dials or {}))
    read = jax.jit(lambda gain: jax.value_and_grad(call, (0, 1))(params, set_to(gain)))
    silent = unread(read(jnp.nan)[1][1])
    if silent:
        names = ", ".join(silent)
        raise ValueError(f"these meters read nothing, since the loss does not depend on what passes them: {names}")
    loss, (grads, squares) = read(GAIN)
    return loss, grads, squares
