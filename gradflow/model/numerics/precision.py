"""What JAX does unasked, written out: the precision of a result, and axes in front of the smaller array.

So a stack runs under `jax_numpy_dtype_promotion="strict"` and `jax_numpy_rank_promotion="raise"` as it does without.
"""

import jax
import jax.numpy as jnp
import numpy as np


def wide(dtype, least=jnp.float32):
    """Returns the dtype itself, or `least` where it is narrower: moments, norms and logits are taken in float32 or better."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(dtype, least)


def common(*arrays):
    """Returns the dtype that JAX's usual rules give to what is computed of all of them."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*arrays)


def alike(*arrays):
    """Returns all of them in their common dtype; numbers become arrays."""
    dtype = common(*arrays)
    return [jnp.asarray(a, dtype) for a in arrays]


def in_float32(x):
    """Returns `x` in float32 or better. Weights follow the stream: so the Jacobians of a stack in bfloat16 are taken.

    A function that rounds to 8 bits at every step has no derivative; it is that of the same weights in float32.
    """
    return x.astype(wide(x.dtype))


def in_precision_of(x, params):
    """Returns the parameters in the floating dtype of `x`; as they are where `x` is not one floating array."""
    if not is_array(x) or not is_floating(x):
        return params

    def cast(leaf):
        return leaf.astype(x.dtype) if is_floating(leaf) else leaf

    return jax.tree.map(cast, params)


def is_array(value) -> bool:
    """Returns whether a value is an array of NumPy's or JAX's, which may be traced."""
    return isinstance(value, np.ndarray | jax.Array)


def is_floating(array) -> bool:
    """Returns whether an array, or a number, is of a floating type."""
    return jnp.issubdtype(jnp.result_type(array), jnp.floating)


def times(value, x):
    """Returns `value · x` in the precision of `x`, whatever that of the number, which may be traced."""
    return jnp.asarray(value, x.dtype) * x


def with_leading_axes(a, x):
    """Returns `a` with axes of length 1 in front, as many axes in all as `x` has; a number as it is."""
    missing = jnp.ndim(x) - jnp.ndim(a)
    if jnp.ndim(a) == 0 or missing == 0:
        return a
    return jnp.expand_dims(a, tuple(range(missing)))


def log_ratio(a, b):
    """Returns `log(a/b)`, nat, to the rounding of the result, of numbers from 0 on, however large or small.

    A difference of logs has the rounding of the logs, which in float32 are up to 88; a quotient may overflow. So mantissas are
    divided, and exponents subtracted: `log(m_a/m_b) + (e_a − e_b) log 2`. −∞ where a alone is 0, ∞ where b is.
    """
    mantissa_a, exponent_a = jnp.frexp(a)
    mantissa_b, exponent_b = jnp.frexp(b)
    octaves = (exponent_a - exponent_b).astype(mantissa_a.dtype)
    return jnp.log(mantissa_a / mantissa_b) + octaves * jnp.log(2.0).astype(mantissa_a.dtype)
