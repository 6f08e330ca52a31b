"""Dropout, as an instrument: it decorates the part behind the branch, so that no layer and no model knows of it.

    y = x ⊙ m / (1 − rate),     m Bernoulli(1 − rate), a mask of its own for every example, sublayer, token and feature

on every branch's output, before it is normalized or added to the skip, and on the embedding (Vaswani et al. 2017,
section 5.4). Where it is asked for, the probabilities of attention are dropped too, each alone (as in the code of BERT and
GPT-2): a layer that reads them finds a key beside its parameters.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...model.branches.attention import DROPOUT
from ...model.equation.sublayer import decorated


class Dropout(NamedTuple):
    """How much is dropped, the key that masks are drawn from, and how much of attention's probabilities."""

    rate: float
    key: Any
    attention: float = 0.0


def dropped(x, rate: float, key):
    """Returns `x` with a random share `rate` of its entries put to zero, the rest scaled so that the mean stays."""
    kept = jax.random.bernoulli(key, jnp.float32(1 - rate), x.shape)  # drawn in float32, whatever JAX's default
    return jnp.where(kept, x / (1 - rate), 0)


def check_drops(name: str, stack) -> None:
    """Refuses a stack without attention, whose probabilities are to be dropped."""
    if not any(DROPOUT in sub.layers["branch"].asks for sub in stack.different):
        raise ValueError(f"{name} has no attention whose probabilities could be dropped: leave attention_dropout out")


def in_attention(stack, params, rate: float, key) -> tuple:
    """Returns the parameters of a stack's sublayers with a key of its own, and the rate, beside those of every attention."""
    keys = jax.random.split(key, stack.size)
    inside, below = [], 0
    for segment, of_segment in zip(stack.resolved, params, strict=True):
        above = below + segment.repeats * len(segment.block)
        own = keys[below:above].reshape(segment.repeats, len(segment.block))
        below, dropping = above, dict(of_segment)
        for i, sub in enumerate(segment.block):
            if DROPOUT in sub.layers["branch"].asks:
                beside = {DROPOUT: {"key": own[:, i], "rate": jnp.full(segment.repeats, rate, jnp.float32)}}
                dropping[sub.kind] = {**of_segment[sub.kind], "branch": {**of_segment[sub.kind]["branch"], **beside}}
        inside.append(dropping)
    return tuple(inside)


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
