"""Programs that are compiled while others run.

A compiler uses one core for a program, so that several programs, or one beside a run, take less time together than in turn. They
are traced here and now, under the caller's settings, and compiled in threads; a call that comes later finds its program there.
"""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

AT_ONCE = 8  # programs at most: each takes some hundred megabytes while it is compiled


class Ahead:
    """Programs on their way, by name.

    with Ahead() as ahead:
        for name, model in models.items():
            ahead.compile(name, function, model, shapes)
        for name, model in models.items():
            ahead.wait(name)
            function(model, arrays)
    """

    def __init__(self):
        self._pool = ThreadPoolExecutor(min(AT_ONCE, os.cpu_count() or 1), "compile")
        self._on_their_way: dict[str, Future] = {}

    def compile(self, name: str, function: Any, *arguments) -> None:
        """Traces a jitted function at these arguments, or their shapes, and has it compiled; raises what tracing raises."""
        lowered = function.lower(*arguments)
        self._on_their_way[name] = self._pool.submit(lowered.compile)

    def wait(self, name: str) -> None:
        """Returns once that program is there, at once where there is none of that name; raises what the compiler raises."""
        program = self._on_their_way.pop(name, None)
        if program is not None:
            program.result()

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(wait=error is None, cancel_futures=True)
