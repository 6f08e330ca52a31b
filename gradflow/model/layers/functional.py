"""The functions that layers are made of: activations, normalization, attention; with own derivatives where that is faster.

A rule here is the derivative written out, with what it needs from the forward pass named once: what a compiler derives by
itself sums more often, and computes again what several readers share.

Axes: T tokens, S of them keys, d features, H heads, K heads of keys, h features a head, g of a value.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import erf

from ...results.configuration import registered
from ..numerics.precision import in_float32, wide


def gelu(u):
    """Returns `u Φ(u)` (Hendrycks and Gimpel 2016, eq. 1), by erf: erfc is far slower."""
    return u * (1 + erf(u / 2**0.5)) / 2


def identity(u):
    """Returns `u`."""
    return u


ACTIVATIONS: dict[str, Callable] = {
    "relu": jax.nn.relu,
    "gelu": gelu,
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "erf": erf,
    "linear": identity,
}


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def standardized(x, eps: float, centred: bool):
    """Returns `(x − mean)/σ` over features, `σ² = mean((x − mean)²) + eps`, in float32 or better; not centred: mean 0."""
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
    if centred:
        change = change - _mean(dx)
    return hat, scale * change


def _hat_and_scale(x, eps, centred):
    """Returns `x̂` and `1/σ`."""
    x = in_float32(x)
    if centred:
        x = x - _mean(x)
    scale = jax.lax.rsqrt(_mean(x * x) + eps)
    return x * scale, scale


def _mean(x):
    """Returns the mean over features, the axis kept."""
    return jnp.mean(x, axis=-1, keepdims=True)


@registered
@dataclass(frozen=True)
class Mask:
    """Which keys a query sees: all, or where `causal` itself and those before it; of them the last `window`, or all (None).

    A window may be a traced number: one that depends on the block (`init.ByBlock`). `texts` are the numbers of the tokens' texts
    [T], −1 of padding: a token sees those of its own text alone. `groups` are numbers of groups of tokens [T], for
    derivatives: what a token reads of another group is held as it is.
    """

    causal: bool = True
    window: Any = None
    texts: Any = None
    groups: Any = None

    def of(self, params) -> "Mask":
        """Returns the mask with the texts of an example, and groups, where its parameters say them."""
        said = {name: params[name] for name in ("texts", "groups") if name in params}
        return dataclasses.replace(self, **said)

    def __post_init__(self):
        if self.window is not None and not self.causal:
            raise ValueError(f"a window of {self.window} tokens is one of the past: it needs causal=True")
        if isinstance(self.window, int) and self.window < 1:
            raise ValueError(f"window is {self.window}: a token sees at least 1, itself")


def attend(q, k, v, mask: Mask = Mask(), scale: float | None = None, softcap: float | None = None):
    """Returns `softmax(s) v` per head, `s = scale q kᵀ`, heads in groups of one key and value; the softmax in float32 or better.

    `scale` is 1/√h by default; scores are `c tanh(s/c)` where there is a `softcap` c (Gemma Team 2024, Gemma 2).
    Our own lines, since the fused one of `jax.nn` takes its softmax in float32 always, which breaks float64 identities.
    Shapes: q [T, H, h]; k [S, K, h] and v [S, K, g] with K dividing H; the value [T, H g]. Cost: O(T S H (h + g)).
    """
    scale = _scale(q, scale)
    return _attended(q, k, v, _reach(mask), mask.texts, mask.groups, mask.causal, scale, softcap)


class Scored(NamedTuple):
    """What `attend` weighs the values with: the softmax, the scores in front of mask and cap, and which keys a query sees."""

    probabilities: Any  # [H, T, S]
    scores: Any  # [H, T, S]
    seen: Any  # [T, S]


def scored(q, k, mask: Mask = Mask(), scale: float | None = None, softcap: float | None = None) -> Scored:
    """Returns the probabilities of `attend`, by the functions that it calls, and what they are made of."""
    scores = _scores(q, k, _scale(q, scale))
    probabilities = _attention(scores, _reach(mask), mask.texts, mask.causal, softcap)
    pairs = scores.shape[-2:]
    by_head = (q.shape[1], *pairs)
    visible = jnp.ones(pairs, bool)
    if mask.causal:
        visible = seen(pairs, _reach(mask))
    if mask.texts is not None:
        visible = visible & same(mask.texts)
    return Scored(probabilities.reshape(by_head), scores.reshape(by_head), visible)


def _scale(q, scale: float | None) -> float:
    """Returns the scale of the scores, 1/√h by default."""
    return q.shape[-1] ** -0.5 if scale is None else scale


def _reach(mask: Mask):
    """Returns how many tokens of the past a query sees, itself among them, as a number; None for all."""
    return None if mask.window is None else jnp.asarray(mask.window, jnp.float32)


@partial(jax.custom_jvp, nondiff_argnums=(6, 7, 8))
def _attended(q, k, v, reach, texts, groups, causal: bool, scale: float, softcap: float | None):
    return _mixed(_attention(_scores(q, k, scale), reach, texts, causal, softcap), v)


@_attended.defjvp
def _(causal, scale, softcap, primals, tangents):
    """`dy = (p ⊙ ds) v − (Σ p ⊙ ds) y + p dv`, p the softmax of the scores s, which takes no sum over T² backward.

    With groups dk and dv are those of a token's own group.
    """
    (q, k, v, reach, texts, groups), (dq, dk, dv, _, _, _) = primals, tangents
    scores = _scores(q, k, scale)
    p = _attention(scores, reach, texts, causal, softcap)
    y = _mixed(p, v)
    ds_of_keys = _scores(q, dk, scale)
    p_of_values = p
    if groups is not None:
        ds_of_keys = jnp.where(same(groups), ds_of_keys, 0)
        p_of_values = jnp.where(same(groups), p, 0)
    ds = _scores(dq, k, scale) + ds_of_keys
    if softcap is not None:
        ds = ds * (1 - jnp.tanh(scores / softcap) ** 2)
    pds = p * ds
    total = pds.sum(-1).transpose(2, 0, 1).reshape(len(q), -1, 1)  # [T, H, 1]
    centre = (total * jnp.ones((1, q.shape[1], v.shape[-1]), total.dtype)).reshape(y.shape).astype(y.dtype)
    return y, _mixed(pds, v) + _mixed(p_of_values, dv) - centre * y


def _scores(q, k, scale: float):
    """Returns `scale q kᵀ` [K, H/K, T, S]."""
    tokens, size = len(q), q.shape[-1]
    grouped = q.reshape(tokens, k.shape[1], -1, size) * scale
    return jnp.einsum("tkgh,skh->kgts", grouped, k, preferred_element_type=wide(q.dtype))


def _attention(scores, reach, texts, causal: bool, softcap: float | None):
    """Returns the softmax of the scores, capped and masked."""
    if softcap is not None:
        scores = softcap * jnp.tanh(scores / softcap)
    if causal:
        scores = jnp.where(seen(scores.shape[-2:], reach), scores, -jnp.inf)
    if texts is not None:
        scores = jnp.where(same(texts), scores, -jnp.inf)
    return jax.nn.softmax(scores, axis=-1)


def seen(shape: tuple[int, int], reach=None):
    """Returns which keys a query sees under a causal mask [T, S]: token t those from t − reach + 1, or the first, to t."""
    past = jnp.tril(jnp.ones(shape, bool))
    if reach is None:
        return past
    behind = jnp.arange(shape[0])[:, None] - jnp.arange(shape[1])[None]
    return past & (behind.astype(jnp.result_type(reach)) < reach)


def same(numbers):
    """Returns which tokens have one number [T, T], that of a text or a group; those of padding are of one: no row is empty."""
    return numbers[:, None] == numbers[None]


def _mixed(p, v):
    """Returns `p v` [T, H g], in the dtype of `v`."""
    return jnp.einsum("kgts,skh->tkgh", p.astype(v.dtype), v).reshape(p.shape[-2], -1)
