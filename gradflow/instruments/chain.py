"""What the sublayers' Jacobians do one after the other, from the bottom of the stack to its top.

Axes: m probes; S sublayers; k leading directions.
"""

import jax
import jax.numpy as jnp

from ..model.equation import walk
from ..model.init import at, root
from ..results.quantities import PROBES
from .gradients import dials
from .meter import metered, norm


def partial_jacobian(model, params, batch, *, probes: int = 8, key=0) -> dict:
    """`partial_jacobian` [S+1, probe] and its standard error: `‖∂x_S/∂x_l‖_F²/size` for all l at once.

    The averaged partial Jacobian norm (Doshi, He and Gromov 2023, eq. 4). An isotropic probe is drawn on the sphere in all
    T·d entries; a token-common one is the same vector of features on every token. Each is pulled down the stack once
    from x_S, and the meters read it at every depth. Both are 1 at l = S, exactly. Mean over examples and probes; the
    error is that of the mean over probes, for these weights and inputs. Cost: `probes` backward passes a kind of probe.
    """
    if probes < 2:
        raise ValueError(f"probes is {probes}: an error needs at least 2")
    x = jax.vmap(model.enter, (None, 0))(params, batch["inputs"])
    through = lambda x, d: walk(model.segments, params["stack"], x, metered, d)[0]
    settings = dials(model, params, batch)["stack"]
    top, pull = jax.vjp(lambda d: jax.vmap(through, (0, None))(x, d), settings)
    shared = (*top.shape[:-2], 1, top.shape[-1]) if top.ndim > 2 else top.shape  # no tokens: nothing to share
    drawn_as = {"isotropic": top.shape, "token_common": shared}

    def gains(probe):
        drawn = jax.random.normal(at(root(key), "probe", probe), (probes, *drawn_as[probe]), top.dtype)
        directions = jax.vmap(on_sphere)(jnp.broadcast_to(drawn, (probes, *top.shape)))
        read = jax.vmap(pull)(directions)[0]["stream"]
        squares = norm(read.reshape(*read.shape[:2], -1).sum(-1)) ** 2
        return jnp.concatenate([squares, jnp.ones_like(squares[:, :1])], axis=1)

    each = jnp.stack([gains(probe) for probe in PROBES], axis=-1)
    return {"partial_jacobian": each.mean(0), "partial_jacobian_sem": each.std(0, ddof=1) / probes**0.5}


def on_sphere(v):
    """`v/‖v‖`. On the sphere the reading at the top is 1 exactly, and the estimate below has less variance."""
    return v / jnp.sqrt(jnp.sum(v**2))
