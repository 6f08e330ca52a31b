"""How the tests compile: quickly, to slower code, since compiling is nearly all there is to wait for; or as a user does."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

import jax

QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
USUALLY = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
if version("jaxlib").startswith("0.10."):  # a flag that a release doesn't know ends the process: 0.12 doesn't the first
    QUICKLY |= {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
    USUALLY |= {"xla_cpu_use_fusion_emitters": True, "xla_cpu_parallel_codegen_split_count": 32}


def use_fast_compilation() -> None:
    """Has every program compiled quickly, in child processes too; to be called before JAX is first used.

    Garbage is looked for less often: tracing makes many objects that stay, and looking through them is a tenth of the time.
    """
    gc.set_threshold(100_000, 20, 20)
    flags = [f"--{name}={str(value).lower()}" for name, value in QUICKLY.items()]
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags]).strip()


class Compiler:
    """What the compiler did in this process: programs, and seconds of tracing, lowering and compiling them."""

    def __init__(self):
        self.programs, self.seconds = 0, 0.0
        jax.monitoring.register_event_duration_secs_listener(self.heard)

    def heard(self, event: str, seconds: float, **_) -> None:
        if event.startswith("/jax/core/compile/"):
            self.seconds += seconds
            self.programs += event.endswith("backend_compile_duration")


def as_users(function, **options):
    """`jax.jit` with all optimizations: for what is said of the programs that a user gets, as bit-equality."""
    return jax.jit(function, compiler_options=USUALLY, **options)


def let_go_if_crowded(maps: int = 15_000) -> None:
    """Forgets all programs where they hold so many memory maps: at the system's limit, 65,530, the compiler crashes.

    Each holds one or two, and half a megabyte.
    """
    table = Path("/proc/self/maps")
    if table.exists() and table.read_bytes().count(b"\n") > maps:
        jax.clear_caches()
