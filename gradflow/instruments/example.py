"""One example of a batch, as a stack sees it: where readings start that follow single examples.

A stack whose stream is in a low precision is read in float32: a function that rounds to 8 bits at every step has no derivative.
"""

import jax

from ..model.equation.sublayer import residual, with_context
from ..model.numerics.precision import in_float32


def first(batch):
    """Returns the first example of a batch, or of any tree of arrays with examples on axis 0."""
    return jax.tree.map(lambda a: a[0], batch)


def at_bottom(model, params, inputs):
    """Returns the parameters as one example uses them, and the bottom of its stream in float32 or better."""
    used = with_context(model, params, inputs)
    bottom = model.enter(params, inputs)
    return used, in_float32(bottom)


def reporting_inputs(x, parts, _):
    """Visit: the forward pass; reports the sublayer's input."""
    return residual(x, parts), x
