"""Programs that are compiled while others run.

A compiler uses one core for a program, so that several programs, or one beside a run, take less time together than in turn. They
are traced here and now, under the caller's settings, and compiled in threads; a call that comes later finds its program there.
"""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from .operations import Operations, operations, speed

AT_ONCE = 8  # programs at most: each takes some hundred megabytes while it is compiled


class Ahead:
    """Programs on their way, by name, and the operations of all of them.

    with Ahead() as ahead:
        for name, model in models.items():
            ahead.compile(name, function, model, shapes)
        for name, model in models.items():
            ahead.wait(name)
            function(model, arrays)
    """

    def __init__(self):
        self._together = min(AT_ONCE, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._together, "compile")
        self._on_their_way: dict[str, list[Future]] = {}
        self._programs = 0
        self._counted = Operations()

    def compile(self, name: str, function: Any, *arguments, times: float = 1) -> None:
        """Traces a jitted function at these arguments, or their shapes, and has it compiled; raises what tracing raises.

        `times` is how often it will be called.
        """
        lowered = self.count(function, *arguments, times=times).lower()
        self._on_their_way.setdefault(name, []).append(self._pool.submit(lowered.compile))

    def count(self, function: Any, *arguments, times: float = 1) -> Any:
        """Returns the traced program of a jitted function, which is compiled at its call; its operations are counted."""
        traced = function.trace(*arguments)
        speed()  # is timed while nothing else runs
        self._counted += operations(traced.jaxpr).times(times)
        self._programs += 1
        return traced

    @property
    def seconds(self) -> float:
        """The seconds that all programs are estimated to take, several compiled at a time; 0 where there is none.

        Within a factor of three.
        """
        if not self._programs:
            return 0.0
        together = min(self._programs, self._together)
        return speed().running(self._counted) + speed().compiling(self._counted) / together

    def wait(self, name: str) -> None:
        """Returns once the programs of that name are there; raises what the compiler raises."""
        for program in self._on_their_way.pop(name, []):
            program.result()

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(wait=error is None, cancel_futures=True)
