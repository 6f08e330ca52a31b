"""What visits of single examples have in common: where they start, what they are handed, and what they report.

A stack whose stream is in a low precision is read in float32: a function that rounds to 8 bits at every step has no derivative.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ...model.equation.sublayer import residual, with_context
from ...model.inputs.context import real_first
from ...model.numerics.precision import in_float32


def first(batch):
    """Returns the first example of a batch, or of any tree of arrays with examples on axis 0."""
    return jax.tree.map(lambda a: a[0], batch)


def first_text(batch):
    """Returns the first example of a batch `{"inputs", …}`, its real tokens in front of its padding."""
    return real_first(first(batch))


def of_real(x, real):
    """Returns an array of the stream [..., T, d], zero but on `real` tokens [T]; as it is, where these are not said."""
    return x if real is None else jnp.where(real[:, None], x, 0)


def at_bottom(model, params, inputs):
    """Returns the parameters as one example uses them, and the bottom of its stream in float32 or better."""
    used = with_context(model, params, inputs)
    bottom = model.enter(params, inputs)
    return used, in_float32(bottom)


def reporting_inputs(x, parts, _):
    """Visit: the forward pass; reports the sublayer's input."""
    return residual(x, parts), x


def its_input(part, u):
    """Returns a part's output and, as its record, its input: for `recorded(parts, x, at=its_input)`."""
    return part(u), u


def where_finite(y, values):
    """Returns what was read of a sublayer, NaN where its output `y` is not finite: `relu'(NaN)` is 0, which means nothing."""
    finite = jnp.isfinite(y).all()

    def masked(array):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            return array
        return jnp.where(finite, array, jnp.nan)

    return jax.tree.map(masked, values)


def with_params(layers: Mapping, params: Mapping):
    """Returns both, for `walk(..., bind=with_params)`: what a visit needs that asks the layers, and not only calls them."""
    return layers, params
