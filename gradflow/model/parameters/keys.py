"""Where random numbers come from.

Pairing: the key of a weight is a function of the root key and of the weight's path and depth, never of what was drawn before it
(`at`). So two wirings with one seed share every weight they have in common, adding a module shifts nothing, and a deeper stack
begins with the layers of a shallower one.
"""

import zlib

import jax
import jax.numpy as jnp
import numpy as np

from ...results.arguments import whole

GENERATOR = "threefry2x32"  # whatever `jax_default_prng_impl` says


def root(key) -> jax.Array:
    """Returns a typed key from a whole number below 2^64, the same whether or not JAX has 64 bits; a key passes through.

    Errors: ValueError for anything else.
    """
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    with jax.ensure_compile_time_eval():
        if isinstance(key, jax.Array | np.ndarray) and key.shape[-1:] == (2,) and key.dtype == np.uint32:
            return jax.random.wrap_key_data(jnp.asarray(key), impl=GENERATOR)
        number = whole("key", key, least=0, most=2**64 - 1)
        words = np.array([number >> 32, number & 0xFFFFFFFF], np.uint32)
        return jax.random.wrap_key_data(jnp.asarray(words), impl=GENERATOR)


def at(key, *path: str | int):
    """Returns the key of a place: each step of `path`, a name or a number (traced ones too), folded into `key` in turn.

    Of what is known it is taken at once, also inside of what is compiled: a fold is a loop of its own in a CPU program.
    """
    with jax.ensure_compile_time_eval():
        for step in path:
            key = jax.random.fold_in(key, zlib.crc32(step.encode()) if isinstance(step, str) else step)
    return key
