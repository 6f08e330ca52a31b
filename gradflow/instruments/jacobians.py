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

from ..model.equation.sublayer import Part, gains_map, recorded, residual, terms, walk, with_context
from ..model.numerics.precision import in_float32

LARGEST = 2048


def matrices(parts, x) -> dict[str, jax.Array]:
    """Dense Jacobians at `x` of one sublayer: of its seven parts, and of what equation (1) makes of them.

    `skip_term`, `branch_term` and `gains_term` (of gains that read the stream, else zero) sum to `fork`, which is
    `A + B J_N_branch J_F J_N_in C` where no gain does; `norm_out @ fork` is `sublayer`. Each is [outputs, inputs], entries
    flattened in the order of the array. Cost: one linearization and n pushes; memory O(n²) a factor, so n = T·d is at most 2048.
    """
    if x.size > LARGEST:
        raise ValueError(
            f"a dense Jacobian of {x.size} = tokens × features entries is beyond {LARGEST}: use a shorter context or a "
            f"smaller width, or `spectrum` and `partial_jacobian`, which need no matrix"
        )
    _, records = recorded(parts, x, at=lambda part, u: _with_shape(u, jax.linearize(part, u)))
    dense = {name: _matrix(push, like) for name, (like, push) in records.items()}
    maps: dict[str, Part] = {name: partial(jnp.matmul, matrix) for name, matrix in dense.items()}
    inside: dict[str, Part] = {**maps, "norm_out": lambda u: u}
    eye = jnp.eye(x.size, dtype=x.dtype)
    three = terms(inside, partial(jnp.matmul, _matrix(gains_map(parts, x), x)), eye)
    named = dict(zip(("skip_term", "branch_term", "gains_term"), three, strict=True))
    return {**dense, **named, "fork": sum(three), "sublayer": dense["norm_out"] @ sum(three)}


def _with_shape(u, value_and_push):
    value, push = value_and_push
    return value, (jax.ShapeDtypeStruct(u.shape, u.dtype), push)


def _matrix(push, like):
    """The matrix of a linear map, by its action on a basis of arrays shaped `like`."""
    basis = jnp.eye(like.size, dtype=like.dtype).reshape(like.size, *like.shape)
    return jax.vmap(lambda e: push(e).ravel(), out_axes=1)(basis)


def at_sublayer(model, params, inputs, position: int) -> dict[str, jax.Array]:
    """`matrices` of the sublayer at `position` (0 … S − 1; negative from the top), for the inputs of one example."""
    own = with_context(model, params, inputs)
    _, streams = walk(
        model.stack,
        own["stack"],
        in_float32(model.enter(params, inputs)),
        lambda x, parts, _: (residual(x, parts), x),
    )
    return matrices(model.stack.parts_at(own["stack"], position), streams[position])
