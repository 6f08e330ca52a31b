"""Norms of parameters, or of their gradients, by name and sublayer.

    ‖W‖_F = √Σ|w|²

Axes: S sublayers, P parameter names.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ...model.equation.sublayer import walk
from ...model.numerics.precision import common, in_float32
from ...model.parameters.names import named, parameter_names
from .meter import GAIN, norm, squared_modulus


def frobenius(leaf, gain: float = GAIN):
    """Returns `‖W‖_F = √Σ|w|²`, from squares at the meters' gain, so that float32 does not underflow."""
    squares = jnp.sum(squared_modulus(2.0**gain * in_float32(leaf)))
    return norm(squares, gain)


def parameter_norms(stack, grads):
    """Returns `‖g‖_F` [S, P] of every parameter of every sublayer; NaN where a sublayer has none of that name."""
    return by_parameter(stack, grads, frobenius)


def by_parameter(stack, params, of: Callable):
    """Returns `of(leaf)` [S, P] of every parameter of every sublayer; NaN where a sublayer has none of that name.

    A walk over the parameters: what `bind` hands the visit are those of the sublayer.
    """
    names = parameter_names(stack, params)
    if not names:
        return np.zeros((0, 0))

    def visit(x, of_sublayer, _):
        values = {name: of(leaf) for name, leaf in named(of_sublayer).items()}
        missing = jnp.full_like(x, jnp.nan)
        row = [values.get(name, missing) for name in names]
        return x, jnp.stack(row)

    def params_alone(layers, of_sublayer):
        return of_sublayer

    widest = common(jnp.float32, *jax.tree.leaves(params))
    zero = jnp.zeros((), jnp.finfo(widest).dtype)  # real, as norms of complex parameters are
    _, rows = walk(stack, params, zero, visit, bind=params_alone)
    return rows


def outer_norms(grads):
    """Returns `‖g‖_F` [outer] of every parameter outside the stack, in the order of `outer_names`."""
    return by_outer(grads, frobenius)


def by_outer(params, of: Callable):
    """Returns `of(leaf)` [outer] of every parameter outside the stack, in the order of `outer_names`."""
    outside = {key: tree for key, tree in params.items() if key != "stack"}
    values = [of(leaf) for leaf in named(outside).values()]
    if not values:
        return jnp.zeros(0)
    return jnp.stack(values)
