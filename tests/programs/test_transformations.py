"""A metered program is a pure function, and stays what the program is: bits of loss and gradients, transformations, shards."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import as_users
from programs.models import PROGRAMS

import gradflow as gf

FEW = ("plain_remat", "scan_blocks")
MORE = (
    "plain_jit",
    "plain_custom_vjp",
    "moe",
    "lm1b_dropout",
    "bert",
    "resnet",
    "gemma2",
    "nnx_scan_remat",
    "equinox_scan",
)


@pytest.mark.parametrize("name", [*FEW, *(pytest.param(name, marks=pytest.mark.further) for name in MORE)])
def test_loss_and_gradients_are_those_of_the_program(name):
    """To the bit where XLA allows; it may fuse a sum otherwise beside a meter, so within 1e-6 of the largest entry."""
    program = PROGRAMS[name]()
    loss, gradients = jax.jit(jax.value_and_grad(program.loss))(program.params, program.batch)
    metered = gf.metered(program.loss, program.params, program.batch)
    value, found, _ = jax.jit(metered)(program.params, program.batch)
    np.testing.assert_allclose(value, loss, rtol=1e-6)
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(gradients))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(gradients), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 * largest)


@pytest.fixture(scope="module")
def made():
    """A program, its metered loss, and what that reads."""
    program = PROGRAMS["scan_blocks"]()
    metered = gf.metered(program.loss, program.params, program.batch)
    return program, metered, jax.jit(metered)(program.params, program.batch)


def test_under_vmap_over_weights(made):
    program, metered, (_, _, reading) = made
    weights = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), program.params)
    _, _, found = jax.jit(jax.vmap(metered, (0, None)))(weights, program.batch)
    for name, value in found.items():
        np.testing.assert_allclose(value[1], reading[name], rtol=1e-5, atol=1e-7, err_msg=name)


def test_beside_a_rematerialized_loop_meters_take_no_memory_to_speak_of():
    """Of its stacked gradients no array as large as they are."""
    blocks, width = 16, 96

    def loss(kernels, x):
        block = jax.checkpoint(lambda x, kernel: (x + jnp.tanh(x @ kernel), None))
        return jnp.square(jax.lax.scan(block, x, kernels)[0]).mean()

    kernels, x = jnp.ones((blocks, width, width)) / width, jnp.ones((2, 4, width))
    memory = []
    for step in (jax.value_and_grad(loss), gf.metered(loss, kernels, x)):
        program = as_users(step).lower(kernels, x).compile()
        memory.append(program.memory_analysis().temp_size_in_bytes)
    bare, metered = memory
    assert metered - bare < kernels.nbytes / 4


def test_in_a_scanned_training_step_with_accumulated_gradients(made):
    program, metered, (_, _, reading) = made

    def step(params, _):
        def accumulate(total, tokens):
            _, gradients, read = metered(params, tokens)
            return jax.tree.map(jnp.add, total, gradients), read

        zero = jax.tree.map(jnp.zeros_like, params)
        twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), program.batch)
        gradients, reads = jax.lax.scan(accumulate, zero, twice)
        return jax.tree.map(lambda w, g: w - 0.01 * g, params, gradients), reads

    _, history = jax.jit(lambda params: jax.lax.scan(step, params, None, length=2))(program.params)
    assert history["stream_gradient"].shape == (2, 2, *reading["stream_gradient"].shape)
    np.testing.assert_allclose(history["stream_gradient"][0, 1], reading["stream_gradient"], rtol=1e-5)
    assert not np.allclose(history["stream_gradient"][1, 0], reading["stream_gradient"], rtol=1e-3)


def test_what_a_loss_returns_besides_comes_back(made):
    program, _, (value, _, reading) = made

    def loss(params, batch):
        return program.loss(params, batch), {"logits": program.logits(params, batch)}

    (same, rest), _, found = jax.jit(gf.metered(loss, program.params, program.batch))(program.params, program.batch)
    assert same == pytest.approx(float(value), rel=1e-6)
    assert rest["logits"].shape[:2] == program.batch["inputs"].shape
    np.testing.assert_allclose(found["stream_gradient"], reading["stream_gradient"], rtol=1e-5)


def test_other_shapes_are_found_anew(made):
    program, metered, (_, _, reading) = made
    shorter = jax.tree.map(lambda leaf: leaf[:, :4], program.batch)
    _, _, found = jax.jit(metered)(program.params, shorter)
    assert found["stream_gradient_by_token"].shape == (len(reading["stream_gradient"]), 4)


SHARDS = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
import gradflow as gf
from programs.models import PROGRAMS

program = PROGRAMS["scan_blocks"]()
whole = jax.jit(gf.metered(program.loss, program.params, program.batch))(program.params, program.batch)
mesh = jax.make_mesh((2,), ("shard",), axis_types=(jax.sharding.AxisType.Auto,))
half = jax.tree.map(lambda leaf: leaf[:1], program.batch)
metered = gf.metered(program.loss, program.params, half)

def close(one, other, what):
    np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6, err_msg=what)

# under shard_map: the sum of two losses, each the mean over half of the batch, so twice the mean's gradient
local = jax.shard_map(
    lambda params, batch: metered(params, batch)[1:], mesh=mesh, in_specs=(P(), P("shard")), out_specs=(P(), P())
)
gradients, reading = jax.jit(local)(program.params, program.batch)
for one, other in zip(jax.tree.leaves(gradients), jax.tree.leaves(whole[1])):
    close(one / 2, other, "gradients")
close(reading["stream_gradient"] / 2, whole[2]["stream_gradient"], "stream gradient")
for name in ("loss", "budget", "split", "stream_rms", "token_cosine", "branch_to_skip"):
    close(reading[name], whole[2][name], name)

# automatic sharding
sharded = jax.device_put(program.batch, NamedSharding(mesh, P("shard")))
_, _, reading = jax.jit(gf.metered(program.loss, program.params, program.batch))(program.params, sharded)
for name in reading:
    close(reading[name], whole[2][name], name)

# pmap, and shard_map without its check: each shard's own
by_device = jax.tree.map(lambda leaf: leaf[:, None], program.batch)
_, _, reading = jax.pmap(lambda batch: metered(program.params, batch))(by_device)
total = jnp.linalg.norm(reading["stream_gradient"], axis=0)
close(total / 2, whole[2]["stream_gradient"], "pmap")

# a meter of one's own, its dial replicated
def loss(dial, x):
    return jax.lax.psum(jnp.sum(gf.meter(x, dial) ** 2), "shard")

x = jnp.arange(4.0)
for check in (True, False):
    total = jax.shard_map(loss, mesh=mesh, in_specs=(P(), P("shard")), out_specs=P(), check_vma=check)
    try:
        found = jax.grad(total)(0.0, x)
        assert check and float(found) == float(jnp.sum((2 * x) ** 2)), (check, found)
    except ValueError as error:
        assert not check and "check_vma=False" in str(error), error
# shard_map inside of the loss, which is the mean over shards: looked into
inside = jax.shard_map(
    lambda params, batch: jax.lax.pmean(program.loss(params, batch), "shard"),
    mesh=mesh, in_specs=(P(), P("shard")), out_specs=P(),
)
value, gradients, reading = jax.jit(gf.metered(inside, program.params, program.batch))(program.params, program.batch)
for one, other in zip(jax.tree.leaves(gradients), jax.tree.leaves(whole[1])):
    close(one, other, "gradients")
for name in reading:
    close(reading[name], whole[2][name], name)
for take in (gf.diagnose, lambda *given: gf.measure(*given, quantities="lyapunov")):
    try:
        take(inside, program.params, program.batch)
        raise AssertionError("taken")
    except ValueError as error:
        assert "inside of a shard_map" in str(error), error
unchecked = jax.shard_map(program.loss, mesh=mesh, in_specs=(P(), P("shard")), out_specs=P(), check_vma=False)
try:
    gf.metered(unchecked, program.params, program.batch)(program.params, program.batch)
    raise AssertionError("taken")
except ValueError as error:
    assert "check_vma=False" in str(error), error
print("as one device")
"""


@pytest.mark.further
def test_on_two_devices(tmp_path):
    """In a process of its own, whose devices can be chosen."""
    flags = "--xla_force_host_platform_device_count=2"
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "XLA_FLAGS": flags, "JAX_ENABLE_X64": "0"}
    done = subprocess.run([sys.executable, "-c", SHARDS], capture_output=True, text=True, env=environment)
    assert done.stdout == "as one device\n", done.stderr[-2000:]


def test_a_view_between_two_additions_of_a_residual_sum():
    def loss(params, x):
        for w in params:
            x = (x + jnp.tanh(x @ w)).reshape(2, 2, 4).reshape(4, 4) + jnp.sin(x @ w)
        return jnp.sum(x**2)

    params, x = [jnp.eye(4), jnp.eye(4)], jnp.arange(16.0).reshape(4, 4) / 16
    _, _, reading = gf.metered(loss, params, x)(params, x)
    np.testing.assert_allclose(reading["split"].sum(-1), 1, rtol=1e-5)
    assert (reading["split"][:, 0] > 0).all()
