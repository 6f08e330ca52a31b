"""Several devices: seeds, examples and weights are divided along the axes of a mesh of JAX's, and XLA does the rest.

    mesh = jax.make_mesh((2, 4), ("seed", "example"))
    gf.measure(model, data, mesh=mesh)

| axis | what is divided along it |
|---|---|
| `seed` | seeds, and the replicas of a prediction |
| `example` | the examples of a batch |
| `model` | arrays of weights, and of an optimizer's moments, along their last axis; one that doesn't divide is whole everywhere |

A mesh has one, two or all three, in any order, and the devices of one process or of several (`jax.distributed`), each of which
makes the same calls and ends with the same numbers. Programs are those of one device, partitioned by XLA ("automatic sharding"),
so every number is the same but for the order of sums. What no axis of the mesh divides is whole on each of its devices. Without
a mesh nothing here does anything.
"""

from collections.abc import Callable, Mapping
from functools import partial

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from ...results.arguments import of_class, shown

SEED, EXAMPLE, MODEL = "seed", "example", "model"
COUNTED = {SEED: "seeds", EXAMPLE: "examples"}


def automatic(mesh: Mesh | None) -> Mesh | None:
    """Returns the mesh with all axes automatic, whatever kind they were of; None unchanged.

    Errors: TypeError for what is no mesh, ValueError for an axis of another name, and where no device is this process's.
    """
    if mesh is None:
        return None
    of_class("mesh", mesh, Mesh)
    check_axes(mesh)
    if all(device.process_index != jax.process_index() for device in mesh.devices.flat):
        raise ValueError(
            f"the mesh has no device of process {jax.process_index()}, which is to take part: give it some"
        )
    return Mesh(mesh.devices, mesh.axis_names)


def check_axes(mesh: Mesh | AbstractMesh) -> None:
    """Refuses an axis of another name."""
    for name in mesh.axis_names:
        if name not in (SEED, EXAMPLE, MODEL):
            raise ValueError(
                f"the mesh has an axis {shown(name)}: its axes are {SEED}, {EXAMPLE} and {MODEL}, some or all, such as "
                f"jax.make_mesh(({mesh.size},), ({EXAMPLE!r},))"
            )


def check_alone(mesh: Mesh | None, executor) -> None:
    """Refuses a mesh beside an executor: cells that are made elsewhere, or at a time, would wait for each other's devices."""
    if mesh is not None and executor is not None:
        raise ValueError("a mesh takes all its devices for every cell: leave out the mesh, or the executor")


def sharing(mesh: Mesh | None) -> int:
    """Returns how many devices of the mesh share this machine's memory: those of a CPU do."""
    if mesh is None or jax.default_backend() != "cpu":
        return 1
    return len(mesh.local_devices)


def ways(mesh: Mesh | AbstractMesh | None, axis: str) -> int:
    """Returns into how many parts the mesh divides along an axis; 1 without one."""
    return 1 if mesh is None else mesh.shape.get(axis, 1)


def check_divides(mesh: Mesh | None, axis: str, count: int, what: str | None = None) -> None:
    """Refuses a number of seeds or examples that is no multiple of the mesh's axis."""
    parts = ways(mesh, axis)
    if count % parts:
        raise ValueError(
            f"{count} {what or COUNTED[axis]} can't be divided evenly over the mesh, whose axis {axis!r} has {parts} devices: "
            f"take a multiple of {parts}, or another mesh"
        )


def check_examples(mesh: Mesh | None, batch, leading: int = 0) -> None:
    """Refuses a batch whose examples, behind `leading` axes, are no multiple of the mesh's axis."""
    for leaf in jax.tree.leaves(batch):
        if leaf.ndim > leading:
            check_divides(mesh, EXAMPLE, leaf.shape[leading])


def place(mesh: Mesh | None, tree, *axes: str | None):
    """Returns the tree with the leading axes of its arrays divided along these axes of the mesh; without one, as it is.

    An axis that is None, or that the mesh doesn't have, is not divided.
    """
    if mesh is None:
        return tree
    there = [axis if axis in mesh.axis_names else None for axis in axes]

    def of_leaf(leaf):
        return NamedSharding(mesh, PartitionSpec(*there[: leaf.ndim]))

    return jax.device_put(tree, jax.tree.map(of_leaf, tree))


def weight_shardings(mesh: Mesh, tree, *axes: str | None):
    """Returns where the arrays of weights lie: their leading axes along these of the mesh, the last one along `model`."""
    there = [axis if axis in mesh.axis_names else None for axis in axes]
    parts = ways(mesh, MODEL)

    def of_leaf(leaf):
        spec = [*there, *[None] * leaf.ndim][: leaf.ndim]
        if parts > 1 and leaf.ndim > len(there) and leaf.shape[-1] % parts == 0:
            spec[-1] = MODEL
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(of_leaf, tree)


def place_weights(mesh: Mesh | None, tree, *axes: str | None):
    """Returns weights, or an optimizer's state, on the devices of the mesh; without one, as they are.

    Errors: ValueError where the mesh has an axis `model` and it divides no array.
    """
    if mesh is None:
        return tree
    shardings = weight_shardings(mesh, tree, *axes)
    parts = ways(mesh, MODEL)
    if parts > 1 and not any(MODEL in sharding.spec for sharding in jax.tree.leaves(shardings)):
        raise ValueError(
            f"no array of weights has a last axis that divides over the mesh, whose axis {MODEL!r} has {parts} devices: take "
            f"a width that is a multiple of {parts}, or a mesh without that axis"
        )
    return jax.device_put(tree, shardings)


def kept_weights(mesh: Mesh | None, tree, *axes: str | None):
    """Returns, inside of a program, weights that stay where `place_weights` put them."""
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, weight_shardings(mesh, tree, *axes))


def everywhere(mesh: Mesh | None, tree):
    """Returns, inside of a program, arrays that are whole on every device."""
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec()))


def in_turn(function: Callable, arrays, devices: int):
    """Returns `jax.lax.map(function, arrays)` over a leading axis that lies on so many devices: each takes its own in turn.

    Without this, all would take all, one after the other.
    """
    if devices == 1:
        return jax.lax.map(function, arrays)

    def parted(leaf):
        return leaf.reshape(devices, -1, *leaf.shape[1:])

    def joined(leaf):
        return leaf.reshape(-1, *leaf.shape[2:])

    of_device = jax.vmap(partial(jax.lax.map, function))
    return jax.tree.map(joined, of_device(jax.tree.map(parted, arrays)))


def described(mesh: Mesh | None) -> Mapping[str, dict]:
    """Returns the attribute of a result that says how many devices each axis of the mesh had; none without one."""
    return {} if mesh is None else {"mesh": dict(mesh.shape)}
