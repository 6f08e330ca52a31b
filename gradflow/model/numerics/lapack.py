"""LAPACK with one thread a call, while gradflow computes: beside XLA's threads its own wait for each other.

On two cores, spectra of two attention sublayers, 64 tokens of width 64, took 1.4 times as long with two.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import scipy.linalg  # noqa: F401  JAX's LAPACK on the CPU, which can be limited once it is loaded
from threadpoolctl import ThreadpoolController

LIMITING = threading.Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """LAPACK has one thread in the block, and after it what it had; within another such block, of any thread, it has already.

    Who decided in `OPENBLAS_NUM_THREADS` is left alone.
    """
    if "OPENBLAS_NUM_THREADS" in os.environ or not LIMITING.acquire(blocking=False):
        yield
        return
    try:
        with _libraries().limit(limits=1, user_api="blas"):
            yield
    finally:
        LIMITING.release()


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()
