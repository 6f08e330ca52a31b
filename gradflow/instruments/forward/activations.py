"""Massive activations: the entries of the stream that are far larger than all others, and where they lie.

    r_ltf = |x_ltf| / median |x_l|            the median over the tokens t and features f of the same example

A few entries, of few tokens and fewer features, can be thousands of times the median: massive is one above 1000, and of size
100 at least (Sun et al. 2024, arXiv 2402.17762). They stay where they are over most of the depth, and act as constants.
Every number here is the largest over the examples of the batch, so that the largest by token and by feature are the same.

Axes: S + 1 positions of the stream, T tokens, d features. Of several lanes an entry is the largest over them, and the median
is of the lanes that are not empty.
"""

import jax
import jax.numpy as jnp

from ...model.equation.sublayer import residual, walk
from ...model.inputs.context import own_inputs, real_tokens
from ...model.numerics.precision import in_float32
from ..meters.visits import at_bottom


def massive(model, params, batch) -> dict:
    """Returns what is largest of the stream at each position, and which token and feature hold it.

    `largest_activation` [S+1] is `max |x|`, `massive_activation` [S+1] `max r`; `massive_activation_by_token` [S+1, T] and
    `massive_activation_by_feature` [S+1, d] the same of each token and of each feature; `massive_token` and `massive_feature`
    [S+1] the first of those that hold it, counted from 0; −1 where it is not finite. Padding holds nothing: its entries are 0,
    and no part of the median.

    Cost: one forward pass of each example in turn, and a sort of the stream at each position.
    """

    def of_example(inputs):
        real = real_tokens(own_inputs(model, inputs))

        def visit(x, parts, _):
            return residual(x, parts), _of_stream(x, real)

        used, bottom = at_bottom(model, params, inputs)
        top, below = walk(model.stack, used["stack"], bottom, visit)
        at_top = _of_stream(top, real)
        return jax.tree.map(lambda rows, row: jnp.concatenate([rows, row[None]]), below, at_top)

    by_example = jax.lax.map(of_example, batch["inputs"])
    largest = {name: values.max(0) for name, values in by_example.items()}
    by_token = largest["massive_activation_by_token"]
    by_feature = largest["massive_activation_by_feature"]
    return {
        **largest,
        "massive_activation": by_token.max(-1),
        "massive_token": _place(by_token),
        "massive_feature": _place(by_feature),
    }


def _of_stream(x, real=None) -> dict:
    """Returns the largest entry of one example's stream, and the largest over the median by token and by feature.

    Of `real` tokens [T] alone, where these are said.
    """
    size = jnp.abs(jnp.atleast_2d(in_float32(x)))
    size = size.reshape(-1, *size.shape[-2:])  # lanes, tokens, features
    filled = size.any((-2, -1), keepdims=True)
    if real is not None:
        filled = filled & real[None, :, None]
        size = jnp.where(filled, size, 0)
    median = jnp.nanmedian(jnp.where(filled, size, jnp.nan))
    largest = size.max(0)
    return {
        "largest_activation": largest.max(),
        "massive_activation_by_token": largest.max(-1) / median,
        "massive_activation_by_feature": largest.max(-2) / median,
    }


def _place(ratios):
    """Returns where the largest ratio lies [S+1], as whole numbers; −1 where one is not finite."""
    finite = jnp.isfinite(ratios).all(-1)
    return jnp.where(finite, ratios.argmax(-1), -1)
