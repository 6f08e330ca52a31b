"""The functions that layers are made of: activations, normalization, attention; with own derivatives where that is faster.

A rule here is the derivative written out, with what it needs from the forward pass named once: what a compiler derives by
itself sums more often, and computes again what several readers share.

Axes: T tokens, d features, H heads, h features a head.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.special import erf

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "gelu": lambda u: u * (1 + erf(u / 2**0.5)) / 2,  # u Φ(u) (Hendrycks and Gimpel 2016, eq. 1); erfc is far slower
    "gelu_tanh": lambda u: jax.nn.gelu(u, approximate=True),
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "erf": erf,
    "linear": lambda u: u,
}


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def standardized(x, eps: float, centred: bool):
    """`(x − mean)/σ` over features, `σ² = mean((x − mean)²) + eps`, in float32 or better; not centred: mean 0."""
    return _hat_and_scale(x, eps, centred)[0]


@standardized.defjvp
def _(eps, centred, primals, tangents):
    """`dx̂ = (dx − mean(dx) − x̂ mean(x̂ dx))/σ`.

    Backward, the barrier is where a gradient comes out: without it a compiler computes it again for each of its readers.
    """
    (x,), (dx,) = primals, tangents
    hat, scale = _hat_and_scale(x, eps, centred)
    dx = jax.lax.optimization_barrier(dx).astype(hat.dtype)
    change = dx - hat * _mean(hat * dx)
    return hat, scale * (change - _mean(dx) if centred else change)


def _hat_and_scale(x, eps, centred):
    """`x̂` and `1/σ`."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    x = x - _mean(x) if centred else x
    scale = jax.lax.rsqrt(_mean(x * x) + eps)
    return x * scale, scale


def _mean(x):
    """Mean over features, the axis kept."""
    return jnp.mean(x, axis=-1, keepdims=True)


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def attend(q, k, v, causal: bool):
    """`softmax(q kᵀ/√h) v` per head, heads sharing keys and values in groups; the softmax in float32 or better.

    Our own lines, since the fused one of `jax.nn` takes its softmax in float32 always, which breaks float64 identities.
    Shapes: q [T, H, h]; k and v [T, K, h] with K dividing H; the value [T, H h]. Cost: O(T² H h).
    """
    return _mixed(_attention(q, k, causal), v)


@attend.defjvp
def _(causal, primals, tangents):
    """`dy = (p ⊙ ds) v − (Σ p ⊙ ds) y + p dv`, p the softmax of the scores s, which takes no sum over T² backward."""
    (q, k, v), (dq, dk, dv) = primals, tangents
    p = _attention(q, k, causal)
    y, pds = _mixed(p, v), p * (_scores(dq, k) + _scores(q, dk))
    total = pds.sum(-1).transpose(2, 0, 1).reshape(len(q), -1, 1)  # [T, H, 1]
    centre = (total * jnp.ones_like(q[0])).reshape(y.shape).astype(y.dtype)
    return y, _mixed(pds, v) + _mixed(p, dv) - centre * y


def _scores(q, k):
    """`q kᵀ/√h` [K, H/K, T, T]."""
    tokens, size = len(q), q.shape[-1]
    grouped = q.reshape(tokens, k.shape[1], -1, size) * size**-0.5
    return jnp.einsum("tkgh,skh->kgts", grouped, k, preferred_element_type=jnp.promote_types(q.dtype, jnp.float32))


def _attention(q, k, causal: bool):
    """`softmax(q kᵀ/√h)`."""
    scores = _scores(q, k)
    if causal:
        scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -jnp.inf)
    return jax.nn.softmax(scores, axis=-1)


def _mixed(p, v):
    """`p v` [T, H h], in the dtype of `v`."""
    return jnp.einsum("kgts,skh->tkgh", p.astype(v.dtype), v).reshape(len(v), -1)
