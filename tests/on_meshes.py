"""Numbers on meshes of devices beside those of one device: a script for a process whose devices can be chosen.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python tests/on_meshes.py float32
    XLA_FLAGS=--xla_force_host_platform_device_count=2 python tests/on_meshes.py float32 PROCESS PORT    # each of two

prints a line for each call and mesh that gave the same numbers: to 1e-6 of a quantity's own size in float32, in float64 to 1e-12,
but for those of `LOOSER`, and of probes.
"""

import sys

import jax
import numpy as np

import gradflow as gf
from gradflow.compiler import use_fast_compilation
from gradflow.instruments.readings import READINGS
from gradflow.instruments.seeds import seed_keys

WITHIN = {"float32": 1e-6, "float64": 1e-12}
MESHES = (
    {"seed": 1, "example": 1, "model": 1},
    {"seed": 2},
    {"example": 2},
    {"model": 2},
    {"seed": 2, "model": 2},
    {"model": 2, "example": 2, "seed": 2},
)
BY_SIZE = tuple(MESHES[i] for i in (0, 3, 4, 5))  # of 1, 2, 4 and 8 devices
LARGEST = MESHES[-1:]
OF_TWO_PROCESSES = ({"seed": 2, "example": 2},)
SHAPE = {"width": 8, "heads": 2, "context": 4}
EXAMPLES = 4
LOSS = 5.5  # nat, of bytes that are not learnt
# Of Adam, which divides by |g| + ε where |g| may be no larger; and of ratios whose denominators almost vanish.
UPDATES = ("update_norm", "update_to_weight", "update_angle")
LOOSER = dict.fromkeys((*UPDATES, *(f"outer_{name}" for name in UPDATES), "stream_change", "output_change"), 10)
LOOSER["gradient_noise_scale_sem"] = 1e4
PROBED = 1e-6  # of what probes read: they are drawn in float32, and rounded as their program is compiled
OTHERS = (
    "economy",
    "rematerialized",
    "expert_load",
    "rounding",
)  # parts of backward; of experts; what depends on all order


def mesh(shape):
    size = int(np.prod(list(shape.values())))
    return jax.make_mesh(tuple(shape.values()), tuple(shape), devices=jax.devices()[:size])


def own_size(node, name, values) -> float:
    """What a quantity's rounding is of: its largest entry; of differences of losses a loss; of logs at least one nat."""
    quantity = name.removesuffix("_sem")  # an error is one of its quantity
    if quantity in ("sublayer_removal", "block_removal"):
        return LOSS
    largest = np.nanmax(np.abs(node.data_vars.get(quantity, values).values), initial=0)
    return max(largest, 1.0) if values.attrs["units"] == "nat" else largest


def well_conditioned(name, values):
    """Numbers with the rounding of what they are made of: `σ_min/σ_max`, and `|G|²` over `‖E g‖²`."""
    if name == "condition_number":
        return 1 / values
    if name == "gradient_noise_scale":
        return 1 / (1 + values / EXAMPLES)
    return values


def compare(one, other, within: float, what: str) -> None:
    assert one.groups == other.groups
    for path in one.groups:
        for name, values in one[path].data_vars.items():
            whole, divided = values.values, other[path][name].values
            if whole.dtype.kind != "f":
                np.testing.assert_array_equal(divided, whole, err_msg=f"{what}: {name}")
                continue
            near = max(within * LOOSER.get(name, 1), PROBED if "probe" in values.dims else 0.0)
            bounds = {"rtol": near, "atol": near * own_size(one[path], name, values)}
            whole, divided = well_conditioned(name, whole), well_conditioned(name, divided)
            np.testing.assert_allclose(divided, whole, **bounds, err_msg=f"{what}: {name}")


def calls(dtype: str):
    """Yields calls that take `mesh=`, and the meshes on which each is made: in float64 what the others are made of."""
    models = gf.transformers("post", depth=2, **SHAPE)
    data = gf.data.text(context=4, batch=EXAMPLES)

    def cast(leaf):
        return jax.device_put(np.asarray(leaf, dtype))

    params = {name: jax.tree.map(cast, jax.vmap(model.init)(seed_keys(0, 2))) for name, model in models.items()}

    def measured(**on):
        return gf.measure(models, data, params=params, quantities=("backward", "partial_jacobian"), **on)

    yield measured, MESHES
    if dtype == "float64":
        return

    def everything(**on):
        every = [name for name in READINGS if name not in OTHERS]
        return gf.measure(models, data, params=params, quantities=every, **on)

    def routed(**on):
        experts = gf.experts.Experts(gf.experts.SigmoidRouter(4, 2), ratio=2)
        routers = gf.transformers("pre", depth=1, mlp=experts, **SHAPE)
        return gf.measure(routers, data, seeds=2, quantities=("expert_load",), **on)

    def trained(**on):
        readings = ("backward", "update", "change")
        return gf.train(models, data, gf.Recipe(lr=1e-3), steps=1, seeds=2, readings=readings, **on)[1]

    def predicted(**on):
        return gf.predict(models, data, quantities=("backward", "partial_jacobian"), draws=1, replicas=2, **on)

    yield everything, BY_SIZE
    yield routed, LARGEST
    yield trained, LARGEST
    yield predicted, LARGEST


def joined(process: str, port: str) -> None:
    """Makes this process one of two, which send each other what programs gather by Gloo over loopback."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(process))


def main(dtype: str, *process_and_port: str) -> None:
    if process_and_port:
        joined(*process_and_port)
    for take, meshes in calls(dtype):
        if process_and_port:
            meshes = OF_TWO_PROCESSES if take.__name__ in ("measured", "trained", "predicted") else ()
        whole = take() if meshes else None
        for shape in meshes:
            compare(whole, take(mesh=mesh(shape)), WITHIN[dtype], f"{take.__name__}, {shape}")
            print(take.__name__, shape, flush=True)


if __name__ == "__main__":
    use_fast_compilation()
    main(*sys.argv[1:])
