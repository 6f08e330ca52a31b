"""Measurements of models: weights of all seeds are drawn, the readings taken of each, and labelled."""

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import xarray as xr
from jax.sharding import Mesh

from ..compiling.ahead import Ahead
from ..model.contracts import Drawable, Model, Sided
from ..model.inputs import size
from ..model.inputs.batch import checked, checked_data, readable, the_batch
from ..model.inputs.weights import check_weights, shapes
from ..model.numerics import devices
from ..model.numerics.settings import usual_settings
from ..model.parameters.names import coordinates, parameter_count
from ..model.stacks.admin_profiling import profiled
from ..progress import Waiting
from ..results.arguments import known as one_of
from ..results.arguments import whole
from ..results.digest import digest
from ..results.naming import check_names
from ..results.provenance import provenance
from ..results.resources import Clock
from ..results.tree import Readings, described, label
from .backward.loss import refuse_module
from .meters.resolution import resolved, warn_of_nonfinite, warn_of_underflow
from .readings import Reading, name_of, readings
from .seeds import drawn_at_once, first_calls, given_weights, init_seeds, over_seeds, read_seeds, seed_keys, seeds_of

SHARED, OWN = "shared by seeds", "one a seed"


def by_node(
    models: Mapping, params: Mapping | None = None, kinds: tuple[type, ...] = (Model,)
) -> tuple[dict[str, Any], dict]:
    """Returns the models, and the weights that are given, by the nodes of a result; `kinds` are what a node may be of.

    The sides of a model lie inside of its name, `t5/encoder`; a model that stands alone, as `model`, gives its sides their own
    names.
    """
    check_names(models)
    params = params or {}
    for name in params:
        one_of("model among those measured, whose params are given:", name, models)
    nodes: dict[str, Any] = {}
    given: dict[str, Any] = {}
    for name, model in models.items():
        weights = params.get(name)
        if isinstance(model, Sided):
            prefix = "" if list(models) == ["model"] else f"{name}/"
            for side_name, side in model.sides.items():
                nodes[f"{prefix}{side_name}"] = side
                if name in params:
                    given[f"{prefix}{side_name}"] = side.arranged(weights)
        elif isinstance(model, kinds):
            nodes[name] = model
            if name in params:
                given[name] = weights
        else:
            refuse_module(model)
            raise TypeError(f"{name} is a {type(model).__name__}: a model is expected, such as gf.transformer('pre')")
    return nodes, given


@usual_settings()
def measure_models(
    models: Mapping,
    data,
    *,
    seeds: int = 8,
    key=0,
    params: Mapping | None = None,
    batches: str = SHARED,
    quantities: str | Sequence[str | Reading] = ("backward",),
    mesh: Mesh | None = None,
) -> xr.DataTree:
    """Returns labelled readings of models; see `measure`."""
    origin, clock = provenance(), Clock()
    mesh = devices.automatic(mesh)
    chosen = readings(quantities)
    nodes, given = by_node(models, params)
    one_of("batches", batches, (SHARED, OWN))
    seeds_given = {name: check_weights(name, nodes[name], weights) for name, weights in given.items()}
    seeds = whole("seeds", seeds)
    if batches == SHARED:
        seeds = max(seeds_given.values(), default=seeds)
        batch, batch_axis, first = _shared_batch(data, nodes, key, seeds, given, mesh)
    else:
        batch, batch_axis, first = _batch_a_seed(data, nodes, key, seeds, given, mesh)
        seeds = len(jax.tree.leaves(batch)[0])
    if not set(seeds_given.values()) <= {1, seeds}:
        raise ValueError(
            f"weights for {max(seeds_given.values())} seeds are given, but there are {seeds}: "
            f"give one set for all, or one a seed"
        )
    devices.check_divides(mesh, devices.SEED, seeds)
    devices.check_examples(mesh, first)
    _check_drawable(nodes, given)
    keys = seed_keys(key, seeds)
    if params is None:
        nodes = profiled(nodes, first, key)
    multiple = devices.ways(mesh, devices.SEED)
    measured = {}
    with Waiting("measure") as bar, Ahead() as ahead:
        for name, model in nodes.items():
            _foresee(ahead, name, model, chosen, seeds, batch, batch_axis, given.get(name), mesh)
            bar.expect(ahead.seconds)
        for name, model in nodes.items():
            ahead.wait(name)
            if name in given:
                parameters = given[name]
                parts = given_weights(parameters, seeds, multiple)
            else:
                parameters = shapes(model)
                parts = init_seeds(model, keys, multiple, mesh)
            arrays = read_seeds(model, chosen, parts, batch, batch_axis, mesh)
            warn_of_nonfinite(name, arrays, given.get(name))
            arrays = resolved(arrays)
            warn_of_underflow(name, arrays)
            number = parameter_count(parameters, seeds_given.get(name, 1))
            measured[name] = Readings(arrays, coordinates(model, parameters), model, number)
    attributes: dict[str, Any] = {
        "data": described(data),
        "key": str(key),
        "batches": batches,
        **devices.described(mesh),
    }
    attributes["readings"] = [name_of(reading) for reading in chosen]
    if batches == SHARED:
        attributes["batch_sha256"] = digest(batch)
    if params is not None:
        attributes["weights"] = "given"
        attributes["weights_sha256"] = {name: digest(weights) for name, weights in given.items()}
    origin["resources"] = clock.used()
    return label(measured, leading={"seed": np.arange(seeds)}, provenance=origin, **attributes)


def _foresee(ahead: Ahead, name: str, model, chosen, seeds: int, batch, batch_axis, weights, mesh) -> None:
    """Has the programs that read a model compiled; on a mesh, and of given weights, they are compiled at their calls."""
    foresees: Callable = ahead.count
    some = weights
    if weights is None:
        some = shapes(model, drawn_at_once(model, seeds))
        if mesh is None:
            foresees = partial(ahead.compile, name)
    for arguments, times in first_calls(model, chosen, some, batch, batch_axis, mesh):
        foresees(over_seeds, *arguments, times=times * seeds / seeds_of(some))


def _shared_batch(data, nodes: Mapping, key, seeds: int, given: Mapping, mesh) -> tuple[Any, None, Any]:
    """Returns the batch that all seeds share, no axis of seeds, and the batch of the first seed."""
    size.check(nodes, readable(data), seeds=seeds, given=given, mesh=mesh)
    batch = the_batch(data, nodes, key)
    return batch, None, batch


def _batch_a_seed(data, nodes: Mapping, key, seeds: int, given: Mapping, mesh) -> tuple[Any, int, Any]:
    """Returns a batch for each seed, the axis of seeds, and the batch of the first seed."""
    if isinstance(data, Mapping):
        size.check(nodes, readable(data), seeds=seeds, at_once=1, given=given, mesh=mesh)
        batches = data
    else:
        size.check(nodes, readable(data), seeds=seeds, given=given, mesh=mesh)
        batches = checked_data(data).batches(seed_keys(key, seeds), 0)
    batch = checked(batches, nodes, leading=1)
    return batch, 0, jax.tree.map(operator.itemgetter(0), batch)


def _check_drawable(nodes: Mapping, given: Mapping) -> None:
    """Refuses a model without weights that can't draw any."""
    for name, model in nodes.items():
        if name not in given and not isinstance(model, Drawable):
            raise ValueError(f"{name} has no init(key) that draws weights: give params, with a leading axis of seeds")
