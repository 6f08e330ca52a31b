"""Policy of the tests: float64, no windows, warnings are errors (pyproject.toml), shapes at public boundaries checked."""

import os

os.environ.setdefault("MPLBACKEND", "agg")

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)

install_import_hook(["gradflow.model", "gradflow.instruments"], "typecheck.shaped")
