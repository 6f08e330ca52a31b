"""Dropout, as an instrument: it decorates the part behind the branch, so that no layer and no model knows of it.

    y = x ⊙ m / (1 − rate),     m Bernoulli(1 − rate), a mask of its own for every example, sublayer, token and feature

on every branch's output, before it is normalized or added to the skip, and on the embedding (Vaswani et al. 2017,
section 5.4). The probabilities of attention are not dropped.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...model.equation.sublayer import decorated


class Dropout(NamedTuple):
    """How much is dropped, and the key that masks are drawn from."""

    rate: float
    key: Any


def dropped(x, rate: float, key):
    """Returns `x` with a random share `rate` of its entries put to zero, the rest scaled so that the mean stays."""
    kept = jax.random.bernoulli(key, jnp.float32(1 - rate), x.shape)  # drawn in float32, whatever JAX's default
    return jnp.where(kept, x / (1 - rate), 0)


def with_dropout(visit: Callable, rate: float) -> Callable:
    """Returns `visit` with dropout behind every branch; its extra is `(extra, key)`."""

    def dropping(x, parts, extra_and_key):
        extra, key = extra_and_key

        def instrument(name, part):
            if name != "norm_branch":
                return part

            def thinned(u):
                return part(dropped(u, rate, key))

            return thinned

        return visit(x, decorated(parts, instrument), extra)

    return dropping
