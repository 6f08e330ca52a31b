"""The settings of JAX under which numbers are made: its usual ones, whatever somebody's configuration says.

Entry points (`measure`, `predict`, `sweep`, `train`, `atlas`, …) are decorated with `usual_settings()`: so `jax_debug_nans`,
which stops at every NaN, though meters read some on purpose, and `jax_threefry_partitionable`, which changes what is drawn,
change no number and stop nothing. What a user hands over, a loss, a layer or `watch`, runs under them too. Left as they are:
`jax_enable_x64` and `jax_default_matmul_precision`, which are a choice of precision and are kept in the provenance, the device,
and what only tells or caches. LAPACK has one thread (`lapack`). A model that is called by itself, outside of these, runs under
the user's settings.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import jax

from .lapack import one_thread

USUAL: dict[str, tuple[Callable[[Any], AbstractContextManager], Any]] = {
    "jax_check_tracer_leaks": (jax.check_tracer_leaks, False),
    "jax_debug_infs": (jax.debug_infs, False),
    "jax_debug_key_reuse": (jax.debug_key_reuse, False),
    "jax_debug_nans": (jax.debug_nans, False),
    "jax_disable_jit": (jax.disable_jit, False),
    "jax_enable_custom_prng": (jax.enable_custom_prng, False),
    "jax_legacy_prng_key": (jax.legacy_prng_key, "allow"),
    "jax_no_tracing": (jax.no_tracing, False),
    "jax_numpy_dtype_promotion": (jax.numpy_dtype_promotion, "standard"),
    "jax_numpy_rank_promotion": (jax.numpy_rank_promotion, "allow"),
    "jax_softmax_custom_jvp": (jax.softmax_custom_jvp, False),
    "jax_threefry_partitionable": (jax.threefry_partitionable, True),
    "jax_transfer_guard_device_to_device": (jax.transfer_guard_device_to_device, "allow"),
    "jax_transfer_guard_device_to_host": (jax.transfer_guard_device_to_host, "allow"),
    "jax_transfer_guard_host_to_device": (jax.transfer_guard_host_to_device, "allow"),
}


# All that one thread may have set otherwise than another.
SETTINGS: dict[str, Callable[[Any], AbstractContextManager]] = {
    "jax_default_device": jax.default_device,
    "jax_default_matmul_precision": jax.default_matmul_precision,
    "jax_enable_x64": jax.enable_x64,
    **{name: setting for name, (setting, _) in USUAL.items()},
}


@contextmanager
def usual_settings() -> Iterator[None]:
    """The block, or the decorated function, runs under `USUAL`."""
    now = here()
    wanted = {name: value for name, (_, value) in USUAL.items() if now[name] is not None}
    with set_to(wanted), one_thread():
        yield


def here() -> Mapping[str, Any]:
    """Returns the settings of this thread, which `set_to` gives another."""
    now = jax.config.values  # which JAX collects anew at each look
    return {name: now[name] for name in SETTINGS}


@contextmanager
def set_to(wanted: Mapping[str, Any]) -> Iterator[None]:
    """The block runs under these settings. Only what differs is set, so that nothing is compiled anew."""
    now = here()
    with ExitStack() as entered:
        for name, value in wanted.items():
            if now[name] != value:
                entered.enter_context(SETTINGS[name](value))
        yield
