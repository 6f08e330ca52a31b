"""Readings against a size: of models rebuilt at each total depth or width, or of what a function makes of each.

    gf.sweep({"pre": gf.transformer("pre")}, data, depth=(6, 12, 24))
    gf.sweep(lambda depth: gf.Program(loss_of(depth), init_of(depth)), data, depth=(6, 12, 24))

Sizes are the total depth in blocks, and the width in features.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ..instruments.measurement import by_node
from ..model.contracts import Model, Sided
from ..model.inputs import size
from ..model.inputs.batch import readable
from ..model.numerics.devices import check_alone
from ..model.numerics.settings import usual_settings
from ..results.arguments import check_options, function, open_ended, options_of, whole
from ..results.cells import Cells
from ..results.grid import Cell, each
from ..results.naming import check_names
from ..results.resources import Clock
from ..results.tree import with_resources
from .measurement import measure
from .modules import is_module
from .program import Program

KINDS = (Model, Program)


class Sized(NamedTuple):
    """A model at one size, and what is known of its sizes: attributes of its node."""

    model: Any
    sizes: Mapping[str, int]


@usual_settings()
def sweep(
    models: Any,
    data,
    *,
    depth: Sequence[int] = (),
    width: Sequence[int] = (),
    take: Callable[..., xr.DataTree] = measure,
    executor: Executor | int | None = None,
    folder: str | Path | None = None,
    **options,
) -> xr.DataTree:
    """Returns what `take` (`measure`, `predict`) gives against total depth, or against width: a node for each model and size.

    Parameters
    ----------
    models : a model, which is rebuilt at each size; or a function of `depth`, or of `width`, that returns a model, a `Program`,
        or a module of NNX or Equinox; or `{name: any of these}`
        Of gradflow's models, numbers such as DeepNorm's α follow the depth, and all depths share their first blocks.
    depth, width : the sizes; without any, the depths are 6, 12 and 24
    executor, folder : what makes the models, one at a time and size a cell, and where each is kept, as `gf.grid` takes them
    options : those of `take`, `mesh` among them

    The nodes are `model/depth_n` for each number of blocks n, or `model/width_n`. `results.against_total_depth` picks one entry
    of each profile. Where cells fail, a warning says so, and the root's attribute `failed` has their tracebacks.

    Errors: ValueError or TypeError, one line; for a program there is no width or depth to change but by a function; for a mesh
    beside an executor; FileExistsError where the folder holds a cell of another configuration.
    """
    if not isinstance(models, Mapping):
        models = {"model": models}
    check_names(models)
    depth = _sizes("depth", depth)
    width = _sizes("width", width)
    function("take", take)
    if not open_ended(take):
        check_options("sweep", options, [*options_of(sweep), *options_of(take)])
    if not depth and not width:
        depth = (6, 12, 24)
    clock = Clock()
    family: dict[str, Sized] = {}
    for name, sizes in (("depth", depth), ("width", width)):
        for number in sizes:
            family |= _at_size(models, name, number)
    of_ours = {path: sized.model for path, sized in family.items() if isinstance(sized.model, Model)}
    if of_ours:
        size.check(of_ours, readable(data), seeds=1, mesh=options.get("mesh"))
    check_alone(options.get("mesh"), executor)
    is_one_call = take is measure and "params" not in options and executor is None and folder is None
    together = of_ours if is_one_call else {}
    trees: dict[str, xr.DataTree] = {}
    if together:  # their programs are compiled together
        measured = measure(together, data, **options)
        trees = dict.fromkeys(together, measured)
    cells = {}
    for path, sized in family.items():
        if path not in together:
            arguments = {"path": path, "take": take, "model": sized.model, "data": data, "options": options}
            cells[path] = Cell.of(_taken, arguments)
    made = each(cells, executor=executor, files=Cells.of(folder), what="sweep", unit="stack")
    trees |= made.trees
    nodes: dict[str, xr.Dataset] = {}
    for path, sized in family.items():
        if path in trees:
            nodes.setdefault("/", trees[path].to_dataset())
            node: Any = trees[path][path]
            nodes[path] = node.to_dataset(inherit=False).assign_attrs(sized.sizes)
    nodes["/"] = with_resources(nodes["/"], clock.used()).assign_attrs(made.attributes("cells of the sweep"))
    return xr.DataTree.from_dict(nodes)


def _taken(path: str, take: Callable[..., xr.DataTree], model, data, options: dict) -> xr.DataTree:
    """Returns what `take` gives of one model, in the node at that path.

    Errors: ValueError for a model of several streams.
    """
    tree = take(_measured_as(model), data, **options)
    if "model" not in tree.children:
        raise ValueError(
            f"{path} has several residual streams, {', '.join(tree.children)}: measure each size by itself"
        )
    return xr.DataTree.from_dict({"/": tree.to_dataset(), path: tree.children["model"].to_dataset(inherit=False)})


def _measured_as(model):
    """Returns a model under a name, as `take` reads it; a module, which is measured by itself, unchanged."""
    return {"model": model} if isinstance(model, KINDS) else model


def _at_size(models: Mapping, name: str, number: int) -> dict[str, Sized]:
    """Returns every model at one size, by its node."""
    made, modules, rebuilt = {}, {}, {}
    for model_name, model in models.items():
        if not _is_function(model):
            rebuilt[model_name] = model
            continue
        built = _called(model_name, model, name, number)
        if is_module(built):
            modules[model_name] = built
        else:
            made[model_name] = built
    swept = {"depth": "total_depth", "width": "width"}[name]
    nodes: dict[str, Sized] = {}
    for node, model in {**_by_node(made), **modules}.items():
        nodes[f"{node}/{name}_{number}"] = Sized(model, {swept: number})
    for node, model in _by_node(rebuilt).items():
        resized = _resized(node, model, name, number)
        nodes[f"{node}/{name}_{number}"] = Sized(resized, {"total_depth": resized.depth, "width": resized.width})
    return nodes


def _is_function(model) -> bool:
    """Returns whether it is a function of a size, not a model or a module, which may be called too."""
    return callable(model) and not isinstance(model, (*KINDS, Sided)) and not is_module(model)


def _called(name: str, make: Callable, size_name: str, number: int):
    """Returns what a function makes of a size, which it takes by name.

    Errors: TypeError where it takes no such size, and where it returns no model.
    """
    if not open_ended(make) and size_name not in inspect.signature(make).parameters:
        raise TypeError(f"{name} takes no {size_name}, which is swept: give a function of it, lambda {size_name}: …")
    made = make(**{size_name: number})
    if not isinstance(made, (*KINDS, Sided)) and not is_module(made):
        raise TypeError(
            f"{name}({size_name}={number}) is a {type(made).__name__}: a model, a gf.Program or a module is expected"
        )
    return made


def _by_node(models: Mapping) -> dict[str, Any]:
    """Returns the models, or their sides, by node; none of none."""
    if not models:
        return {}
    nodes, _ = by_node(models, kinds=KINDS)
    return nodes


def _resized(node: str, model, name: str, number: int):
    """Returns a model of gradflow's at another size."""
    if isinstance(model, Program):
        raise TypeError(f"{node} is a program of one {name}: give a function, lambda {name}: gf.Program(…)")
    return model.at_depth(number) if name == "depth" else replace(model, width=number)


def _sizes(name: str, sizes) -> tuple[int, ...]:
    """Returns the sizes to sweep over, each once; one number is one size."""
    if not isinstance(sizes, Sequence | np.ndarray):
        sizes = [sizes]
    return tuple(dict.fromkeys(whole(name, size) for size in sizes))
