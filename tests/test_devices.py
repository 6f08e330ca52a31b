"""Readings on several devices are those of one: in processes of their own, whose devices can be chosen."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import on_meshes
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import gradflow as gf
from gradflow.instruments.seeds import init_seeds
from gradflow.model.numerics import devices

ROOT = Path(__file__).parents[1]


def started(*words: str, devices: int = 8, **environment: str) -> subprocess.Popen:
    """Python in a process with so many devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    changed = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *words], env=changed, **pipes)


def printed_by(process: subprocess.Popen) -> str:
    """What a process prints until it ends well."""
    told, errors = process.communicate()
    assert process.returncode == 0, errors[-6000:]
    return told


def child(*words: str, **how) -> str:
    """What Python prints in a process of its own."""
    return printed_by(started(*words, **how))


@pytest.mark.long
@pytest.mark.parametrize(("dtype", "compared"), [("float32", 13), ("float64", 6)])
def test_every_reading_is_the_same_number_whatever_the_mesh(dtype, compared):
    """Of 1, 2, 4 and 8 devices: to 1e-6 of a quantity's own size in float32, to 1e-12 in float64.

    Ill-conditioned numbers are compared by what they are made of, or loosely (`on_meshes.LOOSER`).
    """
    printed = child(on_meshes.__file__, dtype, JAX_ENABLE_X64=str(int(dtype == "float64")))
    assert len(printed.splitlines()) == compared


DIVIDED = """
import jax, jax.numpy as jnp, numpy as np
from gradflow.model.numerics import devices
mesh = devices.automatic(jax.make_mesh((2, 2, 2), ("seed", "example", "model")))
assert all(kind == jax.sharding.AxisType.Auto for kind in mesh.axis_types)
assert devices.automatic(None) is None

def parts(array):
    return array.sharding.shard_shape(array.shape)

weights = {"kernel": np.ones((4, 3, 6)), "odd": np.ones((4, 3, 5)), "count": np.ones(4)}
placed = devices.place_weights(mesh, weights, "seed")
assert {name: parts(leaf) for name, leaf in placed.items()} == {"kernel": (2, 3, 3), "odd": (2, 3, 5), "count": (2,)}
try:
    devices.place_weights(mesh, {"odd": weights["odd"]}, "seed")
    raise AssertionError("placed")
except ValueError as error:
    assert "multiple of 2" in str(error)
# fresh weights are drawn by the devices that hold them, and are those of one device
import gradflow as gf
from gradflow.instruments.seeds import init_seeds, seed_keys
model, keys = gf.transformer("pre", depth=2, width=8, heads=2, context=4), seed_keys(0, 2)
(alone,), (drawn,) = init_seeds(model, keys), init_seeds(model, keys, 2, mesh)
for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(drawn), strict=True):
    np.testing.assert_allclose(other, one, rtol=1e-6)
(readout,) = jax.tree.leaves(drawn["readout"])
assert parts(readout) == (1, 8, 128) and readout.shape == (2, 8, 256)
batch = devices.place(mesh, {"inputs": np.ones((4, 8, 16))}, "seed", "example")
assert parts(batch["inputs"]) == (2, 4, 16)

# each device takes its own seeds in turn: half of the work, and no weights are sent
rows = jax.device_put(np.random.default_rng(0).normal(size=(4, 3, 64, 64)).astype(np.float32))

def power(w):
    return jnp.linalg.norm(w[0] @ w[1] @ w[2])

def compiled(rows, parts):
    return jax.jit(lambda rows: devices.in_turn(power, rows, parts)).lower(rows).compile()

alone, divided = compiled(rows, 1), compiled(devices.place(mesh, rows, "seed"), 2)
assert divided.cost_analysis()["flops"] <= alone.cost_analysis()["flops"]
assert "all-gather" not in divided.as_text() and "all-to-all" not in divided.as_text()
np.testing.assert_array_equal(divided(devices.place(mesh, rows, "seed")), alone(rows))
naive = compiled(devices.place(mesh, rows, "seed"), 1).as_text()
assert any(word in naive for word in ("all-gather", "all-reduce", "collective"))
print("divided")
"""


@pytest.fixture
def two_processes():
    """Two processes, each of which has two devices and knows the other by a port that was free; killed where the test fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = (on_meshes.__file__, "float32")
    both = [started(*words, process, port, devices=2, JAX_ENABLE_X64="0") for process in ("0", "1")]
    yield both
    for process in both:
        process.kill()


@pytest.mark.long
def test_two_processes_have_the_numbers_of_one(two_processes):
    for process in two_processes:
        told = printed_by(process)  # beside lines of Gloo's, which may begin anywhere
        assert re.findall(r"(measured|trained|predicted) \{", told) == ["measured", "trained", "predicted"]


PLANNED = """
from gradflow.compiler import use_fast_compilation
use_fast_compilation()
import jax, numpy as np
import gradflow as gf
from gradflow.instruments.readings import readings
from gradflow.instruments.seeds import over_seeds
from gradflow.model.numerics import devices

model = gf.architecture("llama-7b").scaled(depth=10, width=512, context=512).model()  # 64 million parameters
mesh = devices.automatic(jax.make_mesh((8,), ("model",)))

def lying(shapes, shardings):
    return jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), shapes, shardings)

weights = jax.eval_shape(jax.vmap(model.init), jax.random.split(jax.random.key(0), 1))
placed = lying(weights, devices.weight_shardings(mesh, weights, "seed"))
batch = {"inputs": np.zeros((1, 512), int), "targets": np.zeros((1, 512), int)}
seen = devices.place(mesh, batch)
program = over_seeds.lower(model, readings("rematerialized"), placed, seen, None, mesh).compile()
memory = program.memory_analysis()
taken = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
options = {"seeds": 1, "quantities": "rematerialized"}
planned = gf.cost(gf.measure, model, batch, **options, mesh=jax.sharding.AbstractMesh((8,), ("model",))).bytes
alone = gf.cost(gf.measure, model, batch, **options).bytes
print(planned / taken, alone / planned)
"""


@pytest.mark.long
def test_a_hundredth_of_seven_billion_parameters_takes_the_bytes_that_were_planned():
    """On each of eight devices, by the compiler's own account, to a tenth."""
    over_taken, over_planned = map(float, child("-c", PLANNED).split())
    assert over_taken == pytest.approx(1, rel=0.1)
    assert over_planned == pytest.approx(8)


@pytest.mark.further
def test_arrays_are_divided_and_no_seed_is_computed_twice():
    assert child("-c", DIVIDED) == "divided\n"


# ---- refusals, on one device ----------------------------------------------------------------------------------


class TwoAlong:
    """Stands for a mesh with two devices along an axis, where one device is there."""

    def __init__(self, axis: str):
        self.shape = {axis: 2}


@pytest.fixture
def alone():
    return Mesh(np.array(jax.devices()[:1]), ("example",))


def test_a_mesh_has_known_axes(alone):
    with pytest.raises(ValueError, match=r"axis 'data': its axes are seed, example and model.*make_mesh"):
        gf.measure(gf.transformer("pre"), gf.data.text(), mesh=Mesh(alone.devices, ("data",)))
    with pytest.raises(TypeError, match="mesh is 2: a Mesh is needed"):
        gf.predict(gf.transformer("pre"), gf.data.text(), mesh=2)


def test_what_does_not_divide_is_refused_with_the_number_that_does():
    with pytest.raises(
        ValueError, match="3 seeds can't be divided evenly .* axis 'seed' has 2 devices: take a multiple of 2"
    ):
        devices.check_divides(TwoAlong("seed"), "seed", 3)
    batch = {"inputs": np.zeros((3, 5, 4))}
    with pytest.raises(ValueError, match="5 examples can't be divided"):
        devices.check_examples(TwoAlong("example"), batch, leading=1)
    devices.check_examples(TwoAlong("seed"), batch, leading=1)


def test_parts_of_the_seeds_are_multiples_of_the_devices(monkeypatch):
    model = gf.transformer("pre", depth=1, width=8, heads=2, context=4)
    monkeypatch.setattr("gradflow.instruments.seeds.AT_ONCE", 1)
    keys = jax.random.split(jax.random.key(0), 4)
    assert [len(jax.tree.leaves(part)[0]) for part in init_seeds(model, keys, multiple=2)] == [2, 2]


def test_one_device_in_a_mesh_is_one_device(alone):
    """The axes that a mesh doesn't have divide nothing."""
    placed = devices.place(alone, np.ones((2, 3)), "seed", "example")
    assert placed.sharding == NamedSharding(devices.automatic(alone), PartitionSpec(None, "example"))
    assert devices.place(None, placed, "seed") is placed
    assert devices.described(alone) == {"mesh": {"example": 1}}
    assert devices.described(None) == {}
