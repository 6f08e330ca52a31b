"""Executors of cells: processes of this machine, threads of this process, or anybody's; and their futures as they are done."""

import threading
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from multiprocessing import get_context
from typing import Any, Protocol, runtime_checkable

from ..progress import silence
from .arguments import shown, whole

PAUSE = (
    0.05  # seconds between two looks at the cells on their way: not every executor's futures can be waited for together
)


@runtime_checkable
class Submits(Protocol):
    """What runs cells: `submit(function, *arguments)` returns a future with `done`, `result`, `exception` and `cancel`."""

    def submit(self, function: Callable, /, *arguments):
        """Returns the future of `function(*arguments)`."""


class Here(Executor):
    """The caller's own thread: a call is made when it is submitted."""

    def submit(self, function: Callable, /, *arguments, **options) -> Future:
        """Returns the future of a call that has been made."""
        future: Future = Future()
        try:
            future.set_result(function(*arguments, **options))
        except Exception as error:
            future.set_exception(error)
        return future


class Threads(ThreadPoolExecutor):
    """So many threads of this process, which make every call inside of `around()`.

    After every `each_time` calls it waits for all, and `clears` what they left.
    """

    def __init__(
        self, workers: int, each_time: int, clears: Callable[[], None], around: Callable[[], AbstractContextManager]
    ):
        super().__init__(workers)
        self._each_time, self._clears, self._around = each_time, clears, around
        self._since: list[Future] = []

    def submit(self, function: Callable, /, *arguments, **options) -> Future:
        """Returns the future of `function(*arguments)` in the next thread that is free."""
        if len(self._since) == self._each_time:
            wait(self._since)
            self._clears()
            self._since = []
        future = super().submit(self._call, function, arguments, options)
        self._since.append(future)
        return future

    def _call(self, function: Callable, arguments: tuple, options: dict):
        with self._around():
            return function(*arguments, **options)


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
            self._mine.pool = ProcessPoolExecutor(1, get_context("spawn"), silence)
            self._pools.append(self._mine.pool)
        return self._mine.pool

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the processes, once what they do is done."""
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        for pool in self._pools:
            pool.shutdown(wait, cancel_futures=cancel_futures)


def as_completed(calls: Mapping[str, Callable], executor: Submits | int | None) -> Generator[tuple[str, Any]]:
    """Yields the name and the future of every call as it is done; by default they are made here, one after the other.

    Errors: TypeError for what is no executor.
    """
    if executor is None:
        yield from _submitted(calls, Here())
    elif isinstance(executor, int):
        with Processes(executor) as processes:
            yield from _submitted(calls, processes)
    elif isinstance(executor, Submits):
        yield from _submitted(calls, executor)
    else:
        raise TypeError(
            f"executor is {shown(executor)}: a concurrent.futures.Executor, a number of processes, or None is expected"
        )


def _submitted(calls: Mapping[str, Callable], executor: Submits) -> Generator[tuple[str, Any]]:
    """Yields the name and the future of every call as an executor has done it; what is left is cancelled at the end."""
    waiting: dict[str, Any] = {}
    try:
        for name, call in calls.items():
            future = _future(executor, call)
            if future.done():
                yield name, future
            else:
                waiting[name] = future
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
