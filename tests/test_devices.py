"""Readings on several devices are those of one: in processes of their own, whose devices can be chosen."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import gradflow as gf
from gradflow.instruments.seeds import init_seeds
from gradflow.model.numerics import devices

ROOT = Path(__file__).parents[1]

SAME = """
import sys
from gradflow.compiler import use_fast_compilation
use_fast_compilation()
import jax, numpy as np
import gradflow as gf
from gradflow.instruments.seeds import seed_keys

WITHIN = {"float32": 1e-6, "float64": 1e-12}[sys.argv[1]]
MESHES = (
    {"seed": 1, "example": 1, "model": 1},
    {"seed": 2},
    {"example": 2},
    {"model": 2},
    {"seed": 2, "model": 2},
    {"model": 2, "example": 2, "seed": 2},
)

def mesh(shape):
    size = int(np.prod(list(shape.values())))
    return jax.make_mesh(tuple(shape.values()), tuple(shape), devices=jax.devices()[:size])

def same(one, other, what):
    assert one.groups == other.groups
    for path in one.groups:
        for name, values in one[path].data_vars.items():
            whole, divided = values.values, other[path][name].values
            if whole.dtype.kind != "f":
                np.testing.assert_array_equal(divided, whole, err_msg=f"{what}: {name}")
                continue
            of_what = one[path].data_vars.get(name.removesuffix("_sem"), values)  # an error is one of its quantity
            largest = np.nanmax(np.abs(of_what.values), initial=0)
            if values.attrs["units"] == "nat":  # a difference of logs up to 16: in float32 their last bit is 1e-6
                largest = max(largest, 4.0)
            np.testing.assert_allclose(divided, whole, rtol=WITHIN, atol=WITHIN * largest, err_msg=f"{what}: {name}")

models = gf.transformers("post", depth=2, width=8, heads=2, context=4)
data = gf.data.text(context=4, batch=4)

def cast(leaf):
    return jax.device_put(np.asarray(leaf, sys.argv[1]))

params = {name: jax.tree.map(cast, jax.vmap(model.init)(seed_keys(0, 2))) for name, model in models.items()}

def measured(**on):
    return gf.measure(models, data, params=params, quantities=QUANTITIES, **on)

def trained(**on):
    return gf.train(models, data, gf.Recipe(lr=1e-3), steps=1, seeds=2, readings="economy", **on)[1]

def predicted(**on):
    return gf.predict(models, data, quantities=("stream",), draws=1, replicas=2, **on)

QUANTITIES = ("backward", "partial_jacobian")
for take in (measured, trained, predicted)[: 1 if WITHIN < 1e-9 else 3]:
    whole = take()
    shapes = MESHES if take is measured else MESHES[-1:]
    for shape in shapes:
        divided = take(mesh=mesh(shape))
        same(whole, divided, f"{take.__name__}, {shape}")
        print(take.__name__, shape)
"""


def child(program: str, *arguments: str, devices: int = 8, **environment: str) -> str:
    """What a program prints in a process with so many devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    changed = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, **environment}
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, env=changed)
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stdout


@pytest.mark.long
@pytest.mark.parametrize(("dtype", "compared"), [("float32", 8), ("float64", 6)])
def test_every_reading_is_the_same_number_whatever_the_mesh(dtype, compared):
    """Of 1, 2, 4 and 8 devices: to 1e-6 of a quantity's largest entry in float32 (logs to 4e-6 nats), to 1e-12 in float64."""
    printed = child(SAME, dtype, JAX_ENABLE_X64=str(int(dtype == "float64")))
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


@pytest.mark.further
def test_arrays_are_divided_and_no_seed_is_computed_twice():
    assert child(DIVIDED) == "divided\n"


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
