"""Functions that are compiled for as long as their programs run.

On a CPU a program of a measurement takes seconds to compile and a tenth of one to run, so XLA is told to leave out what costs
more than it saves (`compiler.OFTEN`, `compiler.ONCE`). Which of the two follows from the function and from the program's
operations alone: what is called with the same arguments is compiled in the same way, on any machine.

Of a backward reading of 12 blocks of width 64, 4 seeds, in seconds of processors:

| compiled | compiling | running |
|---|---|---|
| as JAX does | 5.4 | 0.10 |
| to run often | 2.1 | 0.10 |
| to run once | 1.0 | 0.33 |

Numbers differ by rounding, as far from float64 all three ways. Other backends compile as JAX does.

On a CPU several threads may call: jaxlib spreads the decompositions of a stack of matrices over the threads that also run the
programs, and waits for them there, so that two programs which do that at a time wait for each other for ever. They are run one
after the other.
"""

import threading
from collections.abc import Callable
from functools import cached_property, partial
from types import MethodType
from typing import Any

import jax

from .. import compiler
from .operations import Operations, decomposes_stacks, operations

# Entries written for an equation, up to which a program is compiled to run once: the 0.6 ms of compiling an equation that this
# saves, over the 2 ns that an entry takes longer.
WRITTEN = 3e5
ONE_AT_A_TIME = threading.Lock()  # of programs that decompose stacks


class Jitted:
    """A function as `jax.jit` makes it, compiled to run often; inside of another program it is compiled as that one is."""

    def __init__(self, function: Callable, static_argnums: tuple[int, ...]):
        self._jit = partial(jax.jit, function, static_argnums=static_argnums)
        self._static = static_argnums
        self._decomposes: dict[tuple, bool] = {}  # by static arguments

    @cached_property
    def _inside(self) -> Any:
        return self._jit()

    @cached_property
    def _often(self) -> Any:
        return self._jit(compiler_options=compiler.options(compiler.OFTEN))

    def _compiled_for(self, *arguments) -> Any:
        """Returns the jitted function that takes these arguments."""
        inside = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments))
        return self._inside if inside else self._often

    def __call__(self, *arguments):
        """Returns what the function returns."""
        jitted = self._compiled_for(*arguments)
        if jitted is self._inside or not self._takes_turns(*arguments):
            return jitted(*arguments)
        with ONE_AT_A_TIME:
            return jax.block_until_ready(jitted(*arguments))

    def _takes_turns(self, *arguments) -> bool:
        """Returns whether the program at these arguments is to run beside no other that takes turns."""
        static = tuple(arguments[place] for place in self._static if place < len(arguments))
        if static not in self._decomposes:
            on_cpu = jax.default_backend() == "cpu"
            self._decomposes[static] = on_cpu and decomposes_stacks(self.trace(*arguments).jaxpr)
        return self._decomposes[static]

    def __get__(self, instance, owner=None):
        return self if instance is None else MethodType(self, instance)

    def trace(self, *arguments):
        """Returns the program at these arguments, or their shapes."""
        return self._compiled_for(*arguments).trace(*arguments)

    def lower(self, *arguments):
        """Returns the program as the compiler takes it, with what it is told."""
        return self.trace(*arguments).lower()

    def programs(self) -> int:
        """Returns how many programs were compiled at a call."""
        return self._often._cache_size()


class JittedBySize(Jitted):
    """The same for a function that is called a few times: a small program is compiled to run once."""

    @cached_property
    def _once(self) -> Any:
        return self._jit(compiler_options=compiler.options(compiler.ONCE))

    def _compiled_for(self, *arguments) -> Any:
        jitted = super()._compiled_for(*arguments)
        if jitted is self._inside:
            return jitted
        traced = jitted.trace(*arguments)  # which both share
        return self._once if runs_once(operations(traced.jaxpr)) else self._often

    def programs(self) -> int:
        """Returns how many programs were compiled at a call."""
        return super().programs() + self._once._cache_size()


def runs_once(counted: Operations) -> bool:
    """Returns whether a program is done sooner if it is compiled without optimization."""
    return counted.entries < WRITTEN * counted.equations


def for_many_calls(*static_argnums: int) -> Callable[[Callable], Jitted]:
    """Returns a decorator like `jax.jit` for a function that is called many times with arguments of the same shapes."""
    return partial(Jitted, static_argnums=static_argnums)


def for_few_calls(*static_argnums: int) -> Callable[[Callable], Jitted]:
    """Returns a decorator like `jax.jit` for a function that is called once or a few times with such arguments."""
    return partial(JittedBySize, static_argnums=static_argnums)
