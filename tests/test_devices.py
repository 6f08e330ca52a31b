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
from gradflow.instruments.readings import READINGS
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
EXAMPLES = 4

def mesh(shape):
    size = int(np.prod(list(shape.values())))
    return jax.make_mesh(tuple(shape.values()), tuple(shape), devices=jax.devices()[:size])

def size(node, name, values):
    """What a quantity's rounding is of: its largest entry; of differences of losses a loss; of logs one nat."""
    if name.removesuffix("_sem") in ("sublayer_removal", "block_removal"):
        return 6.0
    largest = np.nanmax(np.abs(node.data_vars.get(name.removesuffix("_sem"), values).values), initial=0)
    return max(largest, 1.0) if values.attrs["units"] == "nat" else largest

def well_conditioned(name, values):
    """Numbers with the rounding of what they are made of: the reciprocal of a condition number; |G|^2 over its bound."""
    if name == "condition_number":
        return 1 / values
    if name == "gradient_noise_scale":
        return 1 / (1 + values / EXAMPLES)
    return values

def same(one, other, what):
    assert one.groups == other.groups
    for path in one.groups:
        for name, values in one[path].data_vars.items():
            whole, divided = values.values, other[path][name].values
            if whole.dtype.kind != "f":
                np.testing.assert_array_equal(divided, whole, err_msg=f"{what}: {name}")
                continue
            if name == "gradient_noise_scale_sem" and WITHIN > 1e-9:  # of ratios whose denominators almost vanish
                np.testing.assert_allclose(divided, whole, rtol=1e-3, err_msg=f"{what}: {name}")
                continue
            whole, divided = well_conditioned(name, whole), well_conditioned(name, divided)
            atol = WITHIN * size(one[path], name, values)
            np.testing.assert_allclose(divided, whole, rtol=WITHIN, atol=atol, err_msg=f"{what}: {name}")

models = gf.transformers("post", depth=2, width=8, heads=2, context=4)
data = gf.data.text(context=4, batch=EXAMPLES)

def cast(leaf):
    return jax.device_put(np.asarray(leaf, sys.argv[1]))

params = {name: jax.tree.map(cast, jax.vmap(model.init)(seed_keys(0, 2))) for name, model in models.items()}

def measured(**on):
    return gf.measure(models, data, params=params, quantities=("backward", "partial_jacobian"), **on)

def everything(**on):
    return gf.measure(models, data, params=params, quantities=[name for name in READINGS if name not in OTHERS], **on)

def routed(**on):
    return gf.measure(routers, data, seeds=2, quantities=("expert_load",), **on)

def trained(**on):
    readings = ("backward", "update", "change")
    return gf.train(models, data, gf.Recipe(lr=1e-3), steps=1, seeds=2, readings=readings, **on)[1]

def predicted(**on):
    return gf.predict(models, data, quantities=("backward", "partial_jacobian"), draws=1, replicas=2, **on)

OTHERS = ("economy", "rematerialized", "expert_load")  # parts of backward; of experts alone
experts = gf.experts.Experts(gf.experts.SigmoidRouter(4, 2), ratio=2)
routers = gf.transformers("pre", depth=1, width=8, heads=2, context=4, mlp=experts)
by_size = [MESHES[i] for i in (0, 3, 4, 5)]
taken = {measured: MESHES}
if WITHIN > 1e-9:
    taken |= {everything: by_size, routed: MESHES[-1:], trained: MESHES[-1:], predicted: MESHES[-1:]}
for take, shapes in taken.items():
    whole = take()
    for shape in shapes:
        divided = take(mesh=mesh(shape))
        same(whole, divided, f"{take.__name__}, {shape}")
        print(take.__name__, shape, flush=True)
"""


def child(program: str, *arguments: str, devices: int = 8, **environment: str) -> str:
    """What a program prints in a process with so many devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    changed = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, **environment}
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, env=changed)
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stdout


@pytest.mark.long
@pytest.mark.parametrize(("dtype", "compared"), [("float32", 13), ("float64", 6)])
def test_every_reading_is_the_same_number_whatever_the_mesh(dtype, compared):
    """Of 1, 2, 4 and 8 devices: to 1e-6 of a quantity's own size in float32, to 1e-12 in float64.

    Ill-conditioned numbers are compared by what they are made of; the error of the noise scale to 1e-3 of itself.
    """
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
