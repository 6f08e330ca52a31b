"""The compiler: what it is told by which release of jaxlib, and that sums are right in this one."""

import os
import subprocess
import sys
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import as_users

from gradflow import compiler
from gradflow.model.layers.functional import standardized


@pytest.mark.parametrize(
    ("jaxlib", "told"), [("0.10.1", False), ("0.10.2", True), ("0.11.0", True), ("0.12.0.1", False), ("1.0", False)]
)
def test_releases_that_sum_wrongly_are_told(jaxlib, told, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--other=1")
    compiler.apply_cpu_workaround(jaxlib)
    compiler.apply_cpu_workaround(jaxlib)
    assert os.environ["XLA_FLAGS"] == ("--other=1 " + compiler.REMEDY if told else "--other=1")


def test_who_decided_otherwise_is_left_alone(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"{compiler.FLAG}=individual_dot")
    compiler.apply_cpu_workaround("0.10.2")
    assert os.environ["XLA_FLAGS"] == f"{compiler.FLAG}=individual_dot"


def test_in_a_hurry_the_compiler_is_told_what_nobody_decided(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=3 --other=1")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    compiler.use_fast_compilation()
    compiler.use_fast_compilation()
    told = ["--xla_llvm_disable_expensive_passes=true", "--xla_disable_hlo_passes=tree_reduction_rewriter"]
    assert os.environ["XLA_FLAGS"].split() == ["--xla_backend_optimization_level=3", "--other=1", *told]
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"


def test_in_a_hurry_who_gave_lapack_threads_is_left_alone(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    compiler.use_fast_compilation()
    assert os.environ["OPENBLAS_NUM_THREADS"] == "4"


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_norm_pushes_many_tangents_as_it_pushes_one(dtype):
    """What jaxlib 0.10.2 makes wrong by itself, from 256 tangents of this size on."""
    x = jax.random.normal(jax.random.key(0), (16, 64), dtype)
    _, push = jax.linearize(lambda x: standardized(x, 1e-5, True), x)
    tangents = jax.random.normal(jax.random.key(1), (1024, 16, 64), dtype)
    together = as_users(jax.vmap(push))(tangents)
    apart = as_users(lambda tangents: jax.lax.map(push, tangents, batch_size=16))(tangents)
    np.testing.assert_allclose(together, apart, atol=1e-5)


@pytest.mark.skipif(not version("jaxlib").startswith("0.10.2"), reason="this jaxlib sums rightly")
def test_it_is_too_late_once_jax_ran_and_that_is_an_error():
    program = (
        "import jax.numpy as jnp; jnp.ones(3) + 1\nfrom gradflow.results.provenance import provenance; provenance()"
    )
    bare = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    late = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=bare)
    assert late.returncode
    assert late.stderr.splitlines()[-1].startswith(
        "gradflow.compiler.Unusable: this jaxlib sums wrongly on the CPU (jax issue 39103): import gradflow before JAX is first"
    )


def test_a_program_is_told_what_its_jaxlib_knows_and_nobody_decided(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    assert compiler.options(compiler.OFTEN, "0.10.2") == compiler.OFTEN
    assert compiler.options(compiler.ONCE, "0.12.0") == {"xla_backend_optimization_level": 0}
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=3")
    assert "xla_backend_optimization_level" not in compiler.options(compiler.OFTEN, "0.10.2")
    compiler.use_fast_compilation()
    monkeypatch.setenv("XLA_FLAGS", " ".join(compiler.QUICKLY))
    assert compiler.options(compiler.OFTEN, "0.10.2") == compiler.OFTEN
