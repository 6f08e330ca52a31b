"""A function over many cells, here or on a cluster: `grid`, and `each`, which sweeps, atlases and experiments stand on.

    def cell(depth, lr):                                  # in a file of yours, which the workers can import
        run = gf.train(gf.transformers("pre", "post", depth=depth), gf.data.text(), gf.Recipe(lr=lr))[1]
        return run

    cells = {f"depth {d}, lr {lr:g}": {"depth": d, "lr": lr} for d in (6, 12) for lr in (1e-4, 1e-3)}
    tree = gf.grid(cell, cells, executor=4, folder="runs")

Any `concurrent.futures.Executor` runs the cells. Those of other tools, each by a line of theirs:

    executor = submitit.AutoExecutor("logs")              # SLURM; update_parameters(timeout_min=60, …) first
    executor = dask.distributed.Client(address).get_executor()
    executor = loky.get_reusable_executor(max_workers=4)  # what joblib's processes are

    class Ray(concurrent.futures.Executor):               # Ray, whose references are futures
        def submit(self, function, /, *arguments):
            return ray.remote(function).remote(*arguments).future()

A worker writes its cell's file itself: what it made stays, whatever becomes of the others or of this process, and a cell
travels as a file on a disk that both see.
"""

import traceback
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
import xarray as xr

from ..progress import counting
from .arguments import function as is_function
from .arguments import shown
from .cells import Cells
from .configuration import dumps, encode
from .digest import digest
from .executors import Submits, as_completed
from .naming import check_names

FAILED = "failed"


@runtime_checkable
class Described(Protocol):
    """Data that say what they are, as a `Text` does."""

    def description(self) -> dict:
        """Returns it as plain data."""


class Cell(NamedTuple):
    """A call that returns a tree, and what decides its numbers, as plain data."""

    function: Callable[..., xr.DataTree]
    arguments: Mapping[str, Any]
    configuration: dict

    @classmethod
    def of(cls, function: Callable[..., xr.DataTree], arguments: Mapping[str, Any], deciding=None) -> "Cell":
        """Returns the cell whose numbers its arguments decide, or what of them is `deciding`."""
        return cls(function, arguments, encode({"function": function, "arguments": _plain(deciding or arguments)}))


def _plain(value):
    """Returns what decides a cell: of data what they say of themselves, of an array its hash; anything else unchanged."""
    if isinstance(value, Described):
        return value.description()
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | jax.Array) and value.ndim:
        return {"sha256": digest(value)}
    return value


@dataclass(frozen=True)
class Made:
    """The tree of each cell that could be made, and the exception of each that failed, by name in the cells' order."""

    trees: dict[str, xr.DataTree] = field(default_factory=dict)
    errors: dict[str, BaseException] = field(default_factory=dict)

    def tracebacks(self) -> dict[str, str]:
        """Returns the tracebacks of the failures."""
        return {name: "".join(traceback.format_exception(error)) for name, error in self.errors.items()}

    def lines(self) -> dict[str, str]:
        """Returns the failures in a line each."""
        return {name: f"{type(error).__name__}: {error}".splitlines()[0] for name, error in self.errors.items()}

    def warn(self, what: str, where: str) -> None:
        """Warns, in one line, where something failed, and says where the tracebacks are."""
        if not self.errors:
            return
        name, line = next(iter(self.lines().items()))
        total = len(self.trees) + len(self.errors)
        warnings.warn(f"{len(self.errors)} of {total} {what} failed, such as {name}: {line}; {where}", stacklevel=3)

    def attributes(self, what: str) -> dict[str, str]:
        """Returns the attribute of a result that holds the tracebacks, with a warning; none where nothing failed."""
        self.warn(what, f"tracebacks are in the root's attribute {FAILED!r}")
        return {FAILED: dumps(self.tracebacks())} if self.errors else {}


def grid(
    function: Callable[..., xr.DataTree],
    cells: Mapping[str, Mapping[str, Any]],
    *,
    executor: Executor | int | None = None,
    folder: str | Path | None = None,
) -> xr.DataTree:
    """Returns one tree with the result of `function(**arguments)` of every cell at its name.

    Parameters
    ----------
    function : returns an xarray.DataTree, as `measure`, `train`, `sweep` and `predict` do; of several processes it is one that
        they can import
    cells : `{name: arguments}`; a name with `/` is a node inside another
    executor : any `concurrent.futures.Executor`; a number of processes of this machine, each of which fails alone; by default
        the cells are made here, one after the other
    folder : keeps one file a cell, whole or not there; those already there are read, not made again

    A cell that fails, or whose process is killed, affects no other: its traceback is in the root's attribute `failed`, and in a
    file of the folder. Called again, it is tried again. An executor that breaks as a whole, as `ProcessPoolExecutor` does when
    one of its processes is killed, loses the cells whose files were not written by then.

    Errors: FileExistsError for a cell in the folder that was made from other arguments; the first cell's own where none could
    be made.
    """
    is_function("function", function)
    if not cells:
        raise ValueError("there is no cell: {name: {argument: value}} is expected, one at least")
    check_names(cells)
    for name, arguments in cells.items():
        if not isinstance(arguments, Mapping):
            raise TypeError(
                f"the cell {name} is {shown(arguments)}: the arguments of the function by name are expected"
            )
    named = {name: Cell.of(function, arguments) for name, arguments in cells.items()}
    made = each(named, executor=executor, files=Cells.of(folder))
    nodes: dict[str, xr.Dataset] = {"/": xr.Dataset(attrs={FAILED: dumps(made.tracebacks())})}
    for name, tree in made.trees.items():
        for node in tree.subtree:
            nodes[f"{name}{node.path}".rstrip("/")] = node.to_dataset(inherit=False)
    return xr.DataTree.from_dict(nodes)


def each(
    cells: Mapping[str, Cell],
    *,
    executor: Submits | int | None = None,
    files: Cells | None = None,
    what: str = "grid",
    unit: str = "cell",
) -> Made:
    """Returns the tree of each cell that could be made, and what each other failed with; see `grid`. A bar says `what`.

    Errors: as `grid`.
    """
    configurations = {name: cell.configuration for name, cell in cells.items()}
    made = Made()
    with files.locked() if files else nullcontext():
        if files:
            made.trees.update(files.saved(configurations))
        calls = {}
        for name, cell in cells.items():
            if name not in made.trees:
                calls[name] = partial(_made, cell, name, files)
        with closing(as_completed(calls, executor)) as done, counting(len(calls), unit, what) as bar:
            for name, future in done:
                error = future.exception()
                if error is not None:
                    made.errors[name] = error
                    if files:
                        files.fail(name, "".join(traceback.format_exception(error)))
                elif files:
                    made.trees[name] = files.read(name, configurations[name])
                else:
                    made.trees[name] = future.result()
                bar.update()
        if files:
            _look_again(made, files, configurations)
    ordered = Made(_in_order_of(cells, made.trees), _in_order_of(cells, made.errors))
    if ordered.errors and not ordered.trees:
        raise next(iter(ordered.errors.values()))
    return ordered


def _look_again(made: Made, files: Cells, configurations: Mapping[str, Mapping]) -> None:
    """Moves a cell from the failures where its process had written its file before the executor broke."""
    for name, tree in files.saved({name: configurations[name] for name in made.errors}).items():
        made.trees[name] = tree
        del made.errors[name]
        files.traceback(name).unlink(missing_ok=True)


def _in_order_of(cells: Mapping, values: Mapping) -> dict:
    """Returns the values of those cells that have one, in the order of the cells."""
    return {name: values[name] for name in cells if name in values}


def _made(cell: Cell, name: str, files: Cells | None):
    """Returns the tree of a cell; nothing where it was written into its file, by the process that made it."""
    tree = cell.function(**cell.arguments)
    if not isinstance(tree, xr.DataTree):
        raise TypeError(f"the cell {name} gave {shown(tree)}: an xarray.DataTree is expected, as gf.measure returns it")
    if files is None:
        return tree
    files.save(name, tree, cell.configuration)
    return None
