"""Gram matrices of as many features as the model has: what tells tokens apart scatters, and goes on up the stack.

At finite width an entry of Σ between two tokens is a mean over d features and scatters by 1/√d. Sublayer by sublayer the stream
gets what a branch adds, drawn anew, so that a stack has one Σ of its own at every place:

    Σ' = (X + B)(X + B)ᵀ/d,    X Xᵀ/d = A Σ Aᵀ,    B = C Z,    C Cᵀ = B Σ_F Bᵀ,    Z [N, d] of normals

Rows N of a Gram matrix are (lane,) example, token; d features.
"""

import math

import jax
import jax.numpy as jnp

from ..model.layers.layer import Layer
from ..model.parameters.initializers import normal
from ..model.parameters.keys import at
from .gram import Gram, TheoryContext, factor, response


def at_bottom(sigma: Gram, place: TheoryContext) -> Gram:
    """Returns the Gram matrix of tokens that are drawn with that of `sigma` in the mean; itself where none is drawn."""
    if math.isinf(place.stream_features):
        return sigma
    tokens = drawn(at(place.key, "features"), sigma, int(place.stream_features))
    return tokens @ tokens.T


def behind(value: Gram, skip: Gram, branch: Gram, norm_out: Layer, place: TheoryContext) -> Gram:
    """Returns the Gram matrix behind a sublayer, of skip plus branch as they are drawn, with the derivative of the expected one.

    `value` is that, and what is returned where none is drawn.
    """
    if math.isinf(place.stream_features):
        return value
    fork = of_sum(at(place.key, "features"), skip, branch, int(place.stream_features))
    out = response(norm_out, fork, place._replace(key=at(place.key, "norm_out")))
    return jax.lax.stop_gradient(out.value - value) + value


def of_sum(key, skip: Gram, branch: Gram, features: int) -> Gram:
    """Returns the Gram matrix of skip plus branch where the skip's features are there, and the branch's are drawn."""
    tokens = exact(skip, features) + drawn(key, branch, features)
    return tokens @ tokens.T


def drawn(key, sigma: Gram, features: int):
    """Returns tokens [N, d] over √d, whose Gram matrix is `sigma` in the mean."""
    independent = normal(key, len(sigma), features).astype(sigma.dtype)
    return factor(sigma) @ independent * features**-0.5


def exact(sigma: Gram, features: int):
    """Returns tokens [N, d] over √d, whose Gram matrix is `sigma`, of rank d at the most."""
    if len(sigma) <= features:
        return jnp.pad(factor(sigma), ((0, 0), (0, features - len(sigma))))
    squares, vectors = jnp.linalg.eigh(sigma)
    return vectors[:, -features:] * jnp.sqrt(jnp.maximum(squares[-features:], 0))
