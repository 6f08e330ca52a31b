"""A function over many cells, here or on a cluster: `grid`, and the processes of this machine.

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

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import xarray as xr
from tqdm.auto import tqdm

from .arguments import function as is_function
from .arguments import shown, whole
from .cells import Cells
from .configuration import dumps, encode
from .naming import check_names

FAILED = "failed"
PAUSE = (
    0.05  # seconds between two looks at the cells on their way: not every executor's futures can be waited for together
)


@runtime_checkable
class Described(Protocol):
    """Data that say what they are, as a `Text` does."""

    def description(self) -> dict:
        """Returns it as plain data."""


@runtime_checkable
class Submits(Protocol):
    """What runs cells: `submit(function, *arguments)` returns a future with `done`, `result`, `exception` and `cancel`."""

    def submit(self, function: Callable, /, *arguments):
        """Returns the future of `function(*arguments)`."""


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
    one of its processes is killed, loses the cells that were not done.

    Errors: FileExistsError for a cell in the folder that was made from other arguments; RuntimeError where no cell could be made.
    """
    made, failed = each(function, cells, executor=executor, folder=folder)
    if failed and not made:
        name, trace = next(iter(failed.items()))
        raise RuntimeError(f"no cell could be made; {name}: {trace.strip().splitlines()[-1]}")
    nodes: dict[str, xr.Dataset] = {"/": xr.Dataset(attrs={FAILED: dumps(failed)})}
    for name in cells:
        if name in made:
            for node in made[name].subtree:
                nodes[f"{name}{node.path}".rstrip("/")] = node.to_dataset(inherit=False)
    return xr.DataTree.from_dict(nodes)


def each(
    function: Callable[..., xr.DataTree],
    cells: Mapping[str, Mapping[str, Any]],
    *,
    executor: Executor | int | None = None,
    folder: str | Path | None = None,
) -> tuple[dict[str, xr.DataTree], dict[str, str]]:
    """Returns the tree of each cell that could be made, and the traceback of each that failed, by name; see `grid`."""
    is_function("function", function)
    check_names(cells)
    configurations = {name: _configuration(name, function, arguments) for name, arguments in cells.items()}
    files = None if folder is None else Cells.at(folder)
    failed: dict[str, str] = {}
    with files.locked() if files else nullcontext():
        trees = files.saved(configurations) if files else {}
        calls = {}
        for name, arguments in cells.items():
            if name not in trees:
                calls[name] = partial(_made, function, dict(arguments), name, files, configurations[name])
        done = _as_completed(calls, executor)
        for name, future in tqdm(done, total=len(calls), desc="grid", unit="cell", delay=1, leave=False):
            error = future.exception()
            if error is None:
                trees[name] = future.result() if files is None else files.read(name, configurations[name])
                continue
            failed[name] = "".join(traceback.format_exception(error))
            if files:
                files.fail(name, failed[name])
    return {name: trees[name] for name in cells if name in trees}, failed


def _configuration(name: str, function: Callable, arguments: Mapping[str, Any]) -> dict:
    """Returns what a cell is made from, as plain data; of a text or another set of data what it says of itself."""
    if not isinstance(arguments, Mapping):
        raise TypeError(f"the cell {name} is {shown(arguments)}: the arguments of the function by name are expected")
    described = {}
    for argument, value in arguments.items():
        described[argument] = value.description() if isinstance(value, Described) else value
    return encode({"function": function, "arguments": described})


def _made(function: Callable, arguments: dict, name: str, files: Cells | None, configuration: dict):
    """Returns the tree of a cell; nothing where it was written into its file, by the process that made it."""
    tree = function(**arguments)
    if not isinstance(tree, xr.DataTree):
        raise TypeError(f"the cell {name} gave {shown(tree)}: an xarray.DataTree is expected, as gf.measure returns it")
    if files is None:
        return tree
    files.save(name, tree, configuration)
    return None


def _as_completed(calls: Mapping[str, Callable], executor: Submits | int | None) -> Iterator[tuple[str, Any]]:
    """Yields the name and the future of every call as it is done."""
    if executor is None:
        for name, call in calls.items():
            yield name, _here(call)
    elif isinstance(executor, int):
        with Processes(executor) as processes:
            yield from _submitted(calls, processes)
    elif isinstance(executor, Submits):
        yield from _submitted(calls, executor)
    else:
        raise TypeError(
            f"executor is {shown(executor)}: a concurrent.futures.Executor, a number of processes, or None is expected"
        )


def _here(call: Callable) -> Future:
    """Returns the future of a call that is made now."""
    future: Future = Future()
    try:
        future.set_result(call())
    except Exception as error:
        future.set_exception(error)
    return future


def _submitted(calls: Mapping[str, Callable], executor: Submits) -> Iterator[tuple[str, Any]]:
    """Yields the name and the future of every call as an executor has done it; what is left is cancelled at the end."""
    waiting: dict[str, Any] = {}
    try:
        for name, call in calls.items():
            waiting[name] = _future(executor, call)
        while waiting:
            done = [name for name, future in waiting.items() if future.done()]
            for name in done:
                yield name, waiting.pop(name)
            if not done:
                time.sleep(PAUSE)
    finally:
        for future in waiting.values():
            future.cancel()


def _future(executor: Submits, call: Callable):
    """Returns the future of a call; that of its refusal where the executor is broken already."""
    try:
        return executor.submit(call)
    except BrokenExecutor as error:
        future: Future = Future()
        future.set_exception(error)
        return future


class Processes(Executor):
    """Processes of this machine, started afresh (spawned), each of which is an executor of its own: one that dies fails alone."""

    def __init__(self, workers: int):
        self._threads = ThreadPoolExecutor(whole("executor", workers))
        self._mine = threading.local()
        self._pools: list[ProcessPoolExecutor] = []

    def submit(self, function: Callable, /, *arguments, **options) -> Future:
        """Returns the future of `function(*arguments)` in the next process that is free."""
        return self._threads.submit(self._call, function, arguments, options)

    def _call(self, function: Callable, arguments: tuple, options: dict):
        pool = self._pool()
        try:
            return pool.submit(function, *arguments, **options).result()
        except BrokenExecutor:
            del self._mine.pool
            raise

    def _pool(self) -> ProcessPoolExecutor:
        """Returns this thread's process, started where it has none."""
        if "pool" not in self._mine.__dict__:
            self._mine.pool = ProcessPoolExecutor(1, get_context("spawn"))
            self._pools.append(self._mine.pool)
        return self._mine.pool

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the processes, once what they do is done."""
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        for pool in self._pools:
            pool.shutdown(wait, cancel_futures=cancel_futures)
