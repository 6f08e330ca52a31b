"""Policy of the tests: float64, no windows, warnings are errors (pyproject.toml), shapes at public boundaries checked."""

import os

os.environ.setdefault("MPLBACKEND", "agg")

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)

install_import_hook(["gradflow.model", "gradflow.instruments"], "typecheck.shaped")


@pytest.fixture(scope="module")
def quickly_compiled():
    """At toy size compiling is all there is to wait for: for whole runs, whose programs are compared with nothing else."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_are_let_go():
    """A file's programs are not kept for the next: a whole run would hold several gigabytes."""
    yield
    jax.clear_caches()
