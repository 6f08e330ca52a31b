"""What a call will take, before it is made: `cost`.

    print(gf.cost(gf.measure, models, data, seeds=8))        # about 14 s, of them 9 s of compiling; 210 MB

The programs are traced, as the call itself would, and their operations counted (`operations`); nothing of them is compiled, and
the call that follows finds them traced. Memory is that of shapes (`model.inputs.size`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh

from .compiling.operations import Operations, operations, speed
from .instruments.backward import gradients
from .instruments.measurement import by_node
from .instruments.readings import readings
from .instruments.seeds import drawn_at_once, first_calls, over_seeds
from .model.contracts import Model
from .model.inputs import size, weights
from .model.inputs.batch import the_batch
from .model.numerics.devices import check_axes
from .model.numerics.settings import usual_settings
from .model.numerics.threads import at_a_time
from .model.parameters.keys import at, root
from .programs.measurement import measure
from .programs.sweep import sweep
from .results.arguments import of_class, shown
from .theory import predict as theory
from .training.loop import calls, train
from .training.plan import TRAINED, Plan
from .training.recipe import recipe


class Cost(NamedTuple):
    """Processor seconds of running, and of compiling where no program is kept, and bytes of the largest model."""

    running: float
    compiling: float
    bytes: float

    @property
    def seconds(self) -> float:
        """The seconds of both."""
        return self.running + self.compiling

    def __str__(self) -> str:
        times = f"about {_rounded(self.seconds)} s, of them {_rounded(self.compiling)} s of compiling"
        return f"{times}; {size.readable(self.bytes)}"


def _rounded(number: float) -> str:
    return f"{float(f'{number:.2g}'):g}"


@usual_settings()
def cost(function: Callable, models, data, *arguments, **options) -> Cost:
    """Returns what `function(models, data, *arguments, **options)` will take: `measure`, `predict`, `train` or `sweep`.

    Of gradflow's models. Seconds are within a factor of three (`tests/benchmarks/costs.py` compares), those of compiling less
    where `gf.cache` has the programs; bytes within two or three. With the `mesh=` of `measure` or `train`, bytes are those of
    each of its devices, which need not be here, a `jax.sharding.AbstractMesh` will do; seconds are those of all together.

    Errors: TypeError for another function; as the call itself.
    """
    nodes, _ = by_node(models if isinstance(models, Mapping) else {"model": models})
    for name, model in nodes.items():
        if not isinstance(model, Model):
            raise TypeError(f"{name} is {shown(model)}: the cost of gradflow's models alone is estimated")
    if function not in COUNTED:
        raise TypeError(
            f"the cost of {shown(function)} is not estimated: give gf.measure, gf.predict, gf.train or gf.sweep"
        )
    if options.get("mesh") is not None:
        check_axes(of_class("mesh", options["mesh"], Mesh | AbstractMesh))
    total, largest = Operations(), 0.0
    for counted, needed in COUNTED[function](nodes, data, *arguments, **options):
        total += counted
        largest = max(largest, needed)
    here = speed()
    return Cost(here.running(total), here.compiling(total), largest)


Counted = Iterator[tuple[Operations, float]]


def _measured(
    nodes: Mapping[str, Any], data, *, seeds: int = 8, key=0, quantities=("backward",), mesh=None, **others
) -> Counted:
    """Yields operations and bytes of the measurement of every model."""
    chosen = readings(quantities)
    kept = size.rematerialized if set(chosen) == {gradients.rematerialized} else size.activations
    batch = the_batch(data, nodes, key)
    for model in nodes.values():
        needed = _bytes(model, data, seeds=seeds, mesh=mesh, kept=kept)
        length = drawn_at_once(model, seeds)
        for arguments, times in first_calls(model, chosen, weights.shapes(model, length), batch, None):
            yield operations(over_seeds.trace(*arguments).jaxpr).times(times * seeds / length), needed


def _bytes(model, data, **taken) -> float:
    """Returns the bytes that weights and a backward pass take, on each device."""
    shapes = weights.shapes(model)
    return sum(size.of_a_device(model, shapes, *size.extent(data), **taken).values())


def _swept(nodes: Mapping[str, Any], data, *, depth=(), width=(), take: Callable = measure, **options) -> Counted:
    """Yields operations and bytes of what is taken of every model at every size."""
    depths = depth or (() if width else (6, 12, 24))
    for name, model in nodes.items():
        for resized in [*[model.at_depth(number) for number in depths], *[replace(model, width=n) for n in width]]:
            yield from COUNTED[take]({name: resized}, data, **options)


def _predicted(
    nodes: Mapping[str, Any],
    data,
    *,
    quantities=("backward",),
    draws: int = 4,
    replicas: int = 8,
    scatter="place",
    key=0,
    mesh=None,
) -> Counted:
    """Yields operations and bytes of the prediction for every model."""
    if mesh is not None:
        raise ValueError("the bytes of a prediction are not planned by device: leave out the mesh")
    batch = the_batch(data, nodes, key)
    keys = jax.vmap(lambda replica: at(root(key), "theory", replica))(jnp.arange(replicas))
    rows = batch["inputs"].size ** 2
    for model in nodes.values():
        traced = theory.over_replicas.trace(model, theory.readings(quantities), draws, scatter, batch, keys, None)
        grams = size.GRAMS + model.stack.size + size.DRAWN * draws
        yield operations(traced.jaxpr), 4 * rows * grams


def _trained(
    nodes: Mapping[str, Any],
    data,
    optimizer,
    *,
    steps=100,
    record=None,
    seeds=4,
    key=0,
    readings="standard",
    mesh=None,
    **others,
) -> Counted:
    """Yields operations and bytes of the training of every model, with its separate readings at the recorded steps."""
    plan = Plan.of(data, recipe(optimizer), key, seeds, steps, record, readings)
    at_once = at_a_time(seeds)
    for model in nodes.values():
        yield Operations(), _bytes(model, data, seeds=seeds, copies=TRAINED, at_once=at_once, mesh=mesh)
        for call in calls(plan, model):
            yield operations(call.function.trace(*call.arguments).jaxpr).times(call.times), 0.0


COUNTED: dict[Callable, Callable[..., Counted]] = {
    measure: _measured,
    sweep: _swept,
    theory.predict: _predicted,
    train: _trained,
}
