"""The lean of the cotangent along the stream: the one way in which a backward pass knows the forward pass.

At infinite width the expected loss is a function of the Gram matrix Σ of the tokens at any place, and its gradient with respect
to the features there has the mean, over all weights further up,

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

from ..model.layers.lanes import Lanes
from .gram import LINEAR, Gram, Response, TheoryContext, response


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GramPair:
    """What goes up together: the Gram matrix Σ of the stream, and K of a tangent. Backward, D and Δ come down in their places."""

    stream: Gram
    tangent: Gram

    def __add__(self, other: "GramPair") -> "GramPair":
        return jax.tree.map(jnp.add, self, other)


def energy(d: Gram, sigma: Gram, width: int, other: Gram | None = None) -> Gram:
    """`(4/d) D Σ D`, what the lean adds to Δ; with `other` between two of them, `(4/d) D Σ D'`. D is symmetrized."""
    other = d if other is None else other
    return (d + d.T) @ sigma @ (other + other.T) / width


def passed(layer, u: GramPair, place: TheoryContext, fresh: bool = False) -> tuple[GramPair, Response]:
    """`u` behind a layer, and the layer's response. `fresh`: its weights, drawn anew, make the mean that it hands down.

    Backward, of (D', Δ'): D by the derivative of the value, and Δ by the transpose of `push`, to which is added what the lean
    has more than `push` hands down: `(4/d)(D Σ D − D° Σ D°)`, D° the D' that `push` hands down, nothing where weights are fresh.
    A linear layer, between lanes too, hands down all.
    """
    if isinstance(layer, (*LINEAR, Lanes)):
        made = response(layer, u.stream, place)
        return GramPair(made.value, made.push(u.tangent)), made
    sigma, k, nothing = _leaning(u.stream, u.tangent, place.width)
    made = response(layer, jax.lax.stop_gradient(sigma), place)  # K is zero where derivatives are taken
    value = response(layer, sigma, place).value
    return GramPair(value if fresh else value + made.push(nothing), made.push(k)), made


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _leaning(sigma: Gram, k: Gram, width: int) -> tuple[Gram, Gram, Gram]:
    """`(Σ, K, 0)`; backward, of (D, Δ, D°), `(D, Δ + (4/d)(D Σ D − D° Σ D°))`."""
    return sigma, k, jnp.zeros_like(sigma)


def _leaning_down(width, sigma, pulled):
    d, delta, handed = pulled
    return d, delta + energy(d, sigma, width) - energy(handed, sigma, width)


_leaning.defvjp(lambda sigma, k, width: (_leaning(sigma, k, width), sigma), _leaning_down)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def shared(x: GramPair, width: int) -> tuple[GramPair, GramPair]:
    """`x` for each of two ways up. Backward `(D₁ + D₂, Δ₁ + Δ₂ + (4/d)(D₁ Σ D₂ + D₂ Σ D₁))`: the means of both add up."""
    return x, x


def _shared_down(width, sigma, pulled):
    one, other = pulled
    both = energy(one.stream, sigma, width, other.stream)
    return (one + other + GramPair(jnp.zeros_like(sigma), both + both.T),)


shared.defvjp(lambda x, width: ((x, x), x.stream), _shared_down)
