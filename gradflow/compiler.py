"""What the compiler is told before it starts, and a check that it starts and sums rightly.

On the CPU, jaxlib 0.10.2 and 0.11 hand sums to a library that returns wrong ones, silently, where products with a broadcast
array are summed and there are enough of them to be shared between threads (jax issue 39103): the Jacobian of a norm, for
one. Without these fusions all sums are right. Releases from 0.12 on have it mended.
"""

import gc
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

FLAG = "--xla_cpu_experimental_ynn_fusion_type"
REMEDY = f"{FLAG}=-reduce"
QUICKLY = (
    "--xla_backend_optimization_level=1",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_disable_hlo_passes=tree_reduction_rewriter",  # which makes two kernels of a sum
)
# What a program is told beside the flags (`jitted`): with a kernel a fusion, made by LLVM alone, it is compiled in two thirds of
# the time, and without the rewriter in three quarters of that. Unoptimized sums go one entry after the other: they keep it.
FEWER_KERNELS = "xla_cpu_use_fusion_emitters"  # releases before 0.12 know it
# Without the expander a barrier holds: what is behind one is not computed again for each of its readers (`functional.affine`).
OFTEN = {
    FEWER_KERNELS: False,
    "xla_backend_optimization_level": 1,
    "xla_disable_hlo_passes": "tree_reduction_rewriter,cse_barrier_expander",
}
ONCE = {FEWER_KERNELS: False, "xla_backend_optimization_level": 0}
STARTS = "from jaxlib import xla_client; xla_client.CompileOptions()"  # where flags are read


class Unusable(RuntimeError):
    """JAX can't be used as it was told to be: one line that names the variable to change."""


def apply_cpu_workaround(jaxlib: str | None = None) -> None:
    """Adds `REMEDY` to `XLA_FLAGS` where this jaxlib needs it and nobody has decided otherwise; without effect once JAX ran."""
    flags = os.environ.get("XLA_FLAGS", "")
    if (0, 10, 2) <= _release(jaxlib) < (0, 12) and FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {REMEDY}".strip()


def _release(jaxlib: str | None = None) -> tuple[int, ...]:
    """Returns the numbers of a release of jaxlib, by default of this one."""
    return tuple(map(int, re.findall(r"\d+", jaxlib or version("jaxlib"))[:3]))


def options(wanted: Mapping[str, Any], jaxlib: str | None = None) -> dict[str, Any]:
    """Returns, of what a program's compiler is to be told, what this jaxlib knows and nobody decided in `XLA_FLAGS`.

    Nothing where programs run elsewhere than on the CPU. What `use_fast_compilation` put into the flags is nobody's decision.
    """
    import jax

    if jax.default_backend() != "cpu":
        return {}
    decided = set()
    for flag in os.environ.get("XLA_FLAGS", "").split():
        if flag not in QUICKLY:
            decided.add(flag.partition("=")[0].removeprefix("--"))
    if _release(jaxlib) >= (0, 12):
        decided.add(FEWER_KERNELS)
    return {name: value for name, value in wanted.items() if name not in decided}


def use_fast_compilation() -> None:
    """Has programs compiled with fewer optimizations, in about two thirds of the time: for many that each run briefly.

    Numbers move by rounding alone. Who decided otherwise in `XLA_FLAGS` is left alone; without effect once JAX ran. Garbage is
    looked for less often, since tracing makes many objects that stay; and LAPACK has one thread, unless the environment gives it
    more: beside other work its threads wait for each other. Without effect once SciPy, whose LAPACK JAX calls, is imported.
    """
    gc.set_threshold(100_000, 20, 20)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    flags = os.environ.get("XLA_FLAGS", "")
    more = [flag for flag in QUICKLY if flag.partition("=")[0] not in flags]
    os.environ["XLA_FLAGS"] = " ".join([*flags.split(), *more])


def compile_as(recorded: str) -> None:
    """Has programs compiled with fewer optimizations where those of a run were, whose `XLA_FLAGS` are recorded.

    No other flag is taken from a record, which may be anybody's: some write files.
    """
    if set(QUICKLY) <= set(recorded.split()):
        use_fast_compilation()


def check_flags() -> None:
    """Unusable for what the compiler doesn't know in `XLA_FLAGS`, which would end the process: tried in one of its own."""
    flags = os.environ.get("XLA_FLAGS", "").replace(REMEDY, "").strip()
    if not flags or "jax" in sys.modules:
        return
    tried = subprocess.run([sys.executable, "-c", STARTS], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if tried.returncode:
        named = re.search(r"XLA_FLAGS: *(.*)", tried.stderr)
        unknown = named[1] if named else flags
        raise Unusable(f"XLA_FLAGS has what this jaxlib can't read, {unknown[:80]}: correct it, or unset XLA_FLAGS")


@cache
def check() -> None:
    """Unusable where JAX doesn't start, or a norm's Jacobian comes out wrong as it does in a jaxlib with that fault.

    Once a process.
    """
    import jax
    import numpy as np

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = jax.config.values["jax_platforms"] or jax.config.values["jax_platform_name"] or "the default"
        why = (str(error).splitlines() or ["it does not say why"])[0]
        raise Unusable(
            f"JAX can't start on {asked!r} ({why[:120]}): set JAX_PLATFORMS=cpu, or unset it, or install JAX for that device"
        ) from None
    hat, v = np.random.default_rng(0).normal(size=(16, 64)), np.random.default_rng(1).normal(size=(1024, 16, 64))
    along = lambda v: hat * (hat * v).mean(-1, keepdims=True)
    if not np.allclose(jax.jit(along)(v), along(v), atol=1e-2):
        raise Unusable(
            f"this jaxlib sums wrongly on the CPU (jax issue 39103): import gradflow before JAX is first used, or set "
            f"XLA_FLAGS={REMEDY}, or use jaxlib 0.12"
        )
