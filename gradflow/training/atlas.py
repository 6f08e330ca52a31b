"""The atlas: the gradient flow of many wirings side by side, at initialization and after a short training, with its theory.

    models = gf.transformers(*gf.wirings().index, depth=12, width=64, context=32)
    gf.plot.atlas(gf.atlas(models, gf.data.text(context=32, batch=4), predict=gf.predict))

Three trees of one schema have a node for each wiring: `training` (over `step`, 0 and the last, and `seed`), `start` (stream
gradients at initialization of more seeds, all on the theory's batch) and `theory`. Weights and batches are paired by seed. A
wiring that theory refuses, one that diverges and one that fails do not affect the others.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.sharding import Mesh

from ..instruments.jacobians.chain import partial_jacobian
from ..instruments.jacobians.spectrum import Krylov, window
from ..instruments.measurement import SHARED, by_node
from ..instruments.seeds import concat_seeds, seed_keys
from ..model.inputs import size
from ..model.inputs.batch import checked
from ..model.numerics import devices
from ..model.numerics.settings import here, set_to, usual_settings
from ..model.parameters.keys import root
from ..model.parameters.names import coordinates, parameter_count
from ..model.stacks.admin_profiling import profiled
from ..model.wirings.catalogue import family, wirings
from ..results.arguments import answering, function, whole
from ..results.cells import Cells
from ..results.configuration import dumps, encode
from ..results.description import describe
from ..results.digest import digest
from ..results.executors import Threads
from ..results.grid import Cell, Made, each
from ..results.resources import Clock
from ..results.tree import Readings, label, with_resources
from .loop import train
from .plan import Plan
from .recipe import Recipe, recipe

TOGETHER = 3  # wirings made at a time: some wait for the compiler while another computes
KEPT = 16  # wirings whose programs are kept: a system allows a process some 65,000 memory maps, and a program holds hundreds
# Replicas of a theory, whose Monte Carlo error is then below 1%, a tenth of the scatter of the seeds it stands beside.
REPLICAS = 2
WINDOW = 2  # tokens, the first, whose Jacobian has its spectrum taken: 128 × 128 a lane at width 64
DENSE = 512
ENDS = ("largest_singular_value", "smallest_singular_value")
COMPARED = ("loss", "stream_gradient", "readout_gradient")


def ends(model, params, batch) -> dict:
    """Returns σ_max and σ_min of every sublayer's Jacobian [S, jacobian] on the spaces where it acts, for the first tokens.

    Of the first `WINDOW` tokens. Exact up to `DENSE` entries of the stream, two tokens on four lanes of width 64. Beyond, σ_max
    of attention is an estimate and σ_min is NaN.
    """
    quick = Krylov(probes=2, iterations=16, solves=0)
    spectrum = window(model, params, batch, tokens=WINDOW, factors=("sublayer",), dense=DENSE, krylov=quick)
    return {name: spectrum[name] for name in ENDS}


READ = ("backward", partial_jacobian, ends)


@answering()
@usual_settings()
def atlas(
    models: Mapping,
    data,
    optimizer=Recipe(),
    *,
    steps: int = 20,
    seeds: int = 4,
    scatter: int = 16,
    key=0,
    predict: Callable[..., xr.DataTree] | None = None,
    executor: Executor | int | None = None,
    folder: str | Path | None = None,
    mesh: Mesh | None = None,
) -> xr.DataTree:
    """Returns `training`, `start` and `theory` of every wiring, paired by seed; see the head of this module.

    Parameters
    ----------
    models, data : `{name: Transformer}`, of one shape; a `Text`
    optimizer : as `train` takes it; Adam at 1e-3 without warm-up
    scatter : seeds behind `start`: a mean square over four is no match for a theory
    predict : `gf.predict`, or a function with the same arguments and result; None for no theory
    executor : what makes the wirings, as `gf.grid` takes it; by default a few at a time in this process
    folder : keeps one file a wiring, each whole or not there; those already there are not made again
    mesh : devices, as `train` takes it; wirings are then made one at a time, since all of them need all devices

    The reason of a theory's refusal is the attribute `no_theory` of the wiring's node in `training`, beside `equation`, `source`
    and `family`; the wirings that failed are in the root's attribute `failed`, by name, in a line each, and in `tracebacks`.

    Cost: 23 s a wiring on two cores, the mean of 50 at 12 blocks of width 64, 4 × 32 tokens; those that read over depth compile
    for minutes.
    Errors: ValueError as `train`, and for a mesh beside an executor; FileExistsError where the folder holds a wiring of another
    configuration; the first wiring's own where none could be made.
    """
    devices.check_alone(mesh, executor)
    scatter, clock = whole("scatter", scatter, least=2), Clock()
    if predict is not None:
        function("predict", predict)
    size.refuse("the start", "take a smaller scatter", keys=size.KEY * scatter)
    plan = Plan.of(data, recipe(optimizer), key, seeds, steps, (0, steps), READ, mesh)
    devices.check_divides(plan.mesh, devices.SEED, scatter, "seeds of the scatter")
    models, _ = by_node(models)
    _check_some(plan, models)
    models = profiled(models, data, key)
    cells = {}
    for name, model in models.items():
        options = {"scatter": scatter, "theory": predict is not None}
        arguments = {"name": name, "model": model, "plan": plan, "key": key, "scatter": scatter, "predict": predict}
        cells[name] = Cell(_one, arguments, encode({**plan.configuration({name: model}, key), **options}))
    files = Cells.of(folder, "wiring's file of an atlas", _is_wiring)
    makes: Any = nullcontext(executor)
    if executor is None:
        makes = Threads(TOGETHER if mesh is None else 1, KEPT, jax.clear_caches, partial(set_to, here()))
    with makes as chosen:
        made = each(cells, executor=chosen, files=files, what="atlas", unit="wiring")
    return _joined(made, clock.used())


def _check_some(plan: Plan, models: Mapping) -> None:
    """Raises the first model's error where none can read the data, or fits; a single one fails when its turn comes."""
    refused: list[ValueError] = []
    for name, model in models.items():
        try:
            plan.check({name: model})
        except ValueError as error:
            refused.append(error)
    if len(refused) == len(models):
        raise refused[0]


def _one(name: str, model, plan: Plan, key, scatter: int, predict) -> xr.DataTree:
    """Returns the three trees of one wiring."""
    options = {"record": plan.kept, "seeds": len(plan.keys), "key": key, "readings": READ, "mesh": plan.mesh}
    run = train({name: model}, plan.data, plan.recipe, steps=plan.steps, **options)[1]
    trees = {"training": run, "start": _started(name, model, plan, key, scatter)}
    root_attributes = dict(run.attrs)
    attributes = _from_the_catalogue(name, model)
    on_mesh = {} if plan.mesh is None else {"mesh": plan.mesh}
    if predict is not None:
        try:
            asked = {"quantities": ("stream",), "replicas": REPLICAS, "key": key, **on_mesh}
            trees["theory"] = predict({name: model}, plan.data, **asked)
            root_attributes["theory"] = trees["theory"].attrs["theory"]
        except (ValueError, NotImplementedError) as refusal:
            attributes["no_theory"] = str(refusal).splitlines()[0]
    nodes: dict[str, xr.Dataset] = {"/": xr.Dataset(attrs=root_attributes)}
    for place, tree in trees.items():
        nodes[place] = tree.to_dataset().drop_attrs(deep=False)
        nodes[f"{place}/{name}"] = tree.children[name].to_dataset(inherit=False)
    nodes[f"training/{name}"] = nodes[f"training/{name}"].assign_attrs(attributes)
    return xr.DataTree.from_dict(nodes)


def _started(name: str, model, plan: Plan, key, seeds: int) -> xr.DataTree:
    """Returns stream gradients at initialization of many seeds, on the batch of the theory, by the program that trains.

    As many seeds at a time as are trained, so that programs which are compiled already draw their weights.
    """
    step = replace(plan.step(model), dropout=0.0, attention_dropout=0.0)
    keys = seed_keys(key, seeds)
    shared = checked(plan.data.batch(root(key), 0), {name: model})
    readings: list = []
    for first in range(0, seeds, len(plan.keys)):
        some_keys = keys[first : first + len(plan.keys)]
        batch = jax.tree.map(partial(_repeated, times=len(some_keys)), shared)
        start = step.start(some_keys)
        readings += step.over_groups(step.groups(start), batch, some_keys, plan.rates[0], 0)[1]
    of_all_seeds = jax.device_get(concat_seeds(readings))
    arrays = {quantity: of_all_seeds[quantity] for quantity in COMPARED}
    number = parameter_count(start["params"], len(some_keys))
    return label(
        {name: Readings(arrays, coordinates(model, start["params"]), model, number)},
        leading={"seed": np.arange(seeds)},
        batches=SHARED,
        batch_sha256=digest(shared),
    )


def _repeated(array, times: int):
    """Returns the same array for every seed."""
    return jnp.broadcast_to(array, (times, *array.shape))


def _from_the_catalogue(name: str, model) -> dict[str, str]:
    """Returns equation, citation and family of a wiring: those of the table of names, or its sublayers' own and no family."""
    table = wirings()
    if name in table.index:
        return {said: str(table.loc[name, said]) for said in ("equation", "source", "family")}
    described = describe(encode(model))["wirings"]
    equations = dict.fromkeys(wiring["equation"] for wiring in described)
    sources = dict.fromkeys(wiring["source"] for wiring in described)
    return {"equation": "; ".join(equations), "source": "; ".join(sources), "family": family(name)}


def _is_wiring(tree: xr.DataTree, name: str) -> bool:
    """Returns whether a tree is what is kept of the wiring of that name."""
    return {f"/training/{name}", f"/start/{name}"} <= set(tree.groups)


def _joined(made: Made, resources: Mapping) -> xr.DataTree:
    """Returns one tree of all wirings; the root has the attributes of the first, the failures, and what the whole took."""
    nodes: dict[str, xr.Dataset] = {"/": xr.Dataset()}
    for tree in made.trees.values():
        nodes["/"].attrs = {**tree.attrs, **nodes["/"].attrs}
        for node in tree.subtree:
            nodes.setdefault(node.path, node.to_dataset(inherit=False))
    failures = {"failed": dumps(made.lines()), "tracebacks": dumps(made.tracebacks())}
    nodes["/"] = with_resources(nodes["/"], resources).assign_attrs(failures)
    return xr.DataTree.from_dict(nodes)
