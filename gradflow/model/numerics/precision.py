"""What JAX does unasked, written out: the precision of a result, and axes in front of the smaller array.

So a stack runs under `jax_numpy_dtype_promotion="strict"` and `jax_numpy_rank_promotion="raise"` as it does without.
"""

import jax
import jax.numpy as jnp


def wide(dtype, least=jnp.float32):
    """The dtype itself, or `least` where it is narrower: moments, norms and logits are taken in float32 or better."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(dtype, least)


def common(*arrays):
    """The dtype that JAX's usual rules give to what is computed of all of them."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*arrays)


def alike(*arrays):
    """All of them in their common dtype; numbers become arrays."""
    dtype = common(*arrays)
    return [jnp.asarray(a, dtype) for a in arrays]


def in_float32(x):
    """`x` in float32 or better. Of a stack whose stream is, the weights follow: so the Jacobians of one in bfloat16 are taken.

    A function that rounds to 8 bits at every step has no derivative; it is that of the same weights in float32.
    """
    return x.astype(wide(x.dtype))


def in_precision_of(x, params):
    """The parameters in the floating dtype of `x`; as they are where `x` is not one floating array."""
    dtype = getattr(x, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        return params
    return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(jnp.result_type(a), jnp.floating) else a, params)


def times(value, x):
    """`value · x` in the precision of `x`, whatever that of the number, which may be traced."""
    return jnp.asarray(value, x.dtype) * x


def with_leading_axes(a, x):
    """`a` with axes of length 1 in front, as many axes as `x` has."""
    return a if jnp.ndim(a) in (0, jnp.ndim(x)) else jnp.expand_dims(a, tuple(range(jnp.ndim(x) - jnp.ndim(a))))
