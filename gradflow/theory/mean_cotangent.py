"""The mean of the cotangent, which lies along the stream: the one way in which a backward pass knows the forward pass.

The loss gradient has a nonzero mean along the activations. At infinite width the expected loss is a function of the Gram matrix
Σ of the tokens at any place, and its gradient with respect to the features there has the mean, over all weights further up,

    E g_t = (2/d) Σ_s D_ts x_s,        D = ∂(expected loss)/∂Σ

Of the energy E⟨g_t, g_s⟩ this is `(4/d) D Σ D`: one part in d of the rest, but alike on tokens that are alike, so that attention
amplifies it as often as there are tokens; and where no norm keeps the stream small it grows with the stream.

Δ, pulled down as if cotangent and weights knew nothing of each other, needs it in three places. The weights of a branch bring it
anew. A norm takes the radius of every token out of it. And where two ways down meet, their means add up as vectors.

Axes: rows N of a Gram matrix are (lane,) example, token; d features.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from ..model.layers.depth_attention import DynamicRead
from ..model.layers.history import BetweenLanes, Replaced
from ..model.layers.lanes import Lanes
from ..model.layers.manifolds import OnSet
from .gram import LINEAR, Gram, Response, TheoryContext, response

BETWEEN_LANES = (Lanes, BetweenLanes, Replaced, DynamicRead, OnSet)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GramPair:
    """What goes up together: the Gram matrix Σ of the stream, and K of a tangent. Backward, D and Δ come down in their places."""

    stream: Gram
    tangent: Gram

    def __add__(self, other: "GramPair") -> "GramPair":
        return jax.tree.map(jnp.add, self, other)


def energy(d: Gram, sigma: Gram, width: int, other: Gram | None = None) -> Gram:
    """Returns `(4/d) D Σ D`, what the mean cotangent adds to Δ; with `other` between two of them, `(4/d) D Σ D'`.

    D is symmetrized.
    """
    left = d + d.T
    right = left if other is None else other + other.T
    return left @ sigma @ right / width


def passed(layer, u: GramPair, place: TheoryContext, fresh: bool = False) -> tuple[GramPair, Response]:
    """Returns `u` behind a layer, and the layer's response. `fresh`: its weights, drawn anew, make the mean that it hands down.

    Backward, of (D', Δ'): D by the derivative of the value, and Δ by the transpose of `push`, to which is added what the mean has
    more than `push` hands down: `(4/d)(D Σ D − D° Σ D°)`, D° the D' that `push` hands down, nothing where weights are fresh.
    A linear layer, between lanes too, hands down all.
    """
    if isinstance(layer, (*LINEAR, *BETWEEN_LANES)):
        linear = response(layer, u.stream, place)
        tangent = linear.push(u.tangent)
        return GramPair(linear.value, tangent), linear
    sigma, k, nothing = _with_mean(u.stream, u.tangent, place.width)
    fixed = jax.lax.stop_gradient(sigma)  # K is zero where derivatives are taken
    here = response(layer, fixed, place)
    value = response(layer, sigma, place).value
    if not fresh:
        value = value + here.push(nothing)
    return GramPair(value, here.push(k)), here


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _with_mean(sigma: Gram, k: Gram, width: int) -> tuple[Gram, Gram, Gram]:
    """Returns `(Σ, K, 0)`; backward, of (D, Δ, D°), `(D, Δ + (4/d)(D Σ D − D° Σ D°))`."""
    return sigma, k, jnp.zeros_like(sigma)


def _with_mean_up(sigma, k, width):
    """Returns the value, and Σ for the way down."""
    return _with_mean(sigma, k, width), sigma


def _with_mean_down(width, sigma, pulled):
    """Returns D and Δ from what comes down."""
    d, delta, handed = pulled
    needed = energy(d, sigma, width)
    already_there = energy(handed, sigma, width)
    return d, delta + needed - already_there


_with_mean.defvjp(_with_mean_up, _with_mean_down)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def shared(x: GramPair, width: int) -> tuple[GramPair, GramPair]:
    """Returns `x` for each of two ways up. Backward `(D₁ + D₂, Δ₁ + Δ₂ + (4/d)(D₁ Σ D₂ + D₂ Σ D₁))`: the means of both add up."""
    return x, x


def _shared_up(x, width):
    """Returns the value, and Σ for the way down."""
    return (x, x), x.stream


def _shared_down(width, sigma, pulled):
    """Returns the sum of what comes down both ways, with the product of their means."""
    one, other = pulled
    cross = energy(one.stream, sigma, width, other.stream)
    between = GramPair(jnp.zeros_like(sigma), cross + cross.T)
    return (one + other + between,)


shared.defvjp(_shared_up, _shared_down)
