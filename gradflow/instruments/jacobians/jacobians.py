"""Jacobians of one residual sublayer as dense matrices: what a reader expects to see, at small sizes.

One sublayer is one instance of equation (1), so its Jacobian has the form of its wiring:

    J = J_N_out (A + B J_N_branch J_F J_N_in C)          pre: I + J_F J_N     post: J_N (I + J_F)

Here each factor is the matrix of the linear map recorded where (1) calls the part, and `fork`, `branch_term` and
`sublayer` are equation (1) itself on those matrices. Spectra at any size are in `spectrum`, products over depth in `chain`.

Axes: n = T·d entries of the stream of one example; matrices are [outputs, inputs].
"""

from functools import partial

import jax
import jax.numpy as jnp

from ...model.equation.sublayer import Part, gains_map, recorded, terms, walk
from ...model.inputs.context import own_inputs, real_tokens
from ..meters.visits import at_bottom, reporting_inputs

LARGEST = 2048


def matrices(parts, x) -> dict[str, jax.Array]:
    """Returns dense Jacobians at `x` of one sublayer: of its seven parts, and of what equation (1) makes of them.

    `skip_term`, `branch_term` and `gains_term` (of gains that read the stream, else zero) sum to `fork`, which is
    `A + B J_N_branch J_F J_N_in C` where no gain does; `norm_out @ fork` is `sublayer`. Each is [outputs, inputs], entries
    flattened in the order of the array. Cost: one linearization and n pushes; memory O(n²) a factor, so n = T·d is at most 2048.
    """
    if x.size > LARGEST:
        raise ValueError(
            f"a dense Jacobian of {x.size} = tokens × features entries is beyond {LARGEST}: use a shorter context or a "
            f"smaller width, or `spectrum` and `partial_jacobian`, which need no matrix"
        )
    _, dense = recorded(parts, x, at=_with_matrix)
    maps: dict[str, Part] = {name: partial(jnp.matmul, matrix) for name, matrix in dense.items()}
    maps["norm_out"] = lambda u: u
    gains = partial(jnp.matmul, _matrix(gains_map(parts, x), x))
    unit = jnp.eye(x.size, dtype=x.dtype)
    skip, branch, through_gains = terms(maps, gains, unit)
    fork = sum((skip, branch, through_gains))
    return {
        **dense,
        "skip_term": skip,
        "branch_term": branch,
        "gains_term": through_gains,
        "fork": fork,
        "sublayer": dense["norm_out"] @ fork,
    }


def _with_matrix(part, u):
    """Returns a part's output and, as its record, the matrix of its Jacobian."""
    output, push = jax.linearize(part, u)
    return output, _matrix(push, u)


def _matrix(push, like):
    """Returns the matrix of a linear map, by its action on a basis of arrays shaped `like`."""
    units = jnp.eye(like.size, dtype=like.dtype)
    basis = units.reshape(like.size, *like.shape)

    def column(unit):
        return push(unit).ravel()

    return jax.vmap(column, out_axes=1)(basis)


def at_sublayer(model, params, inputs, position: int) -> dict[str, jax.Array]:
    """Returns `matrices` of the sublayer at `position` (0 … S − 1; negative from the top), for the inputs of one example.

    Of its real tokens: rows and columns of padding are zero.
    """
    used, bottom = at_bottom(model, params, inputs)
    _, streams = walk(model.stack, used["stack"], bottom, reporting_inputs)
    parts = model.stack.parts_at(used["stack"], position)
    found = matrices(parts, streams[position])
    real = real_tokens(own_inputs(model, inputs))
    if real is None:
        return found
    return {name: _of_real(matrix, real, bottom.shape[-1]) for name, matrix in found.items()}


def _of_real(matrix, real, features: int):
    """Returns a matrix [outputs, inputs] between arrays [..., T, d], zero but from and to `real` tokens [T]."""
    outputs, inputs = (real[jnp.arange(entries) // features % len(real)] for entries in matrix.shape)
    return jnp.where(outputs[:, None] & inputs[None], matrix, 0)
