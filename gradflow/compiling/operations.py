"""Operations of a traced program, counted before it is compiled, and what one takes on this machine.

    running   = 1.5 [products · (seconds a product) + entries · (seconds an entry)]
    compiling = 0.5 equations · (seconds an equation)

`products` are multiply-adds of matrix products, `entries` all that other equations write, each times the loops around it. What
one takes is timed once a process, on a loop of matrix products of a small Transformer's size, and on one of pointwise functions.
A loop whose length depends on the numbers counts `UNKNOWN` times, or as often as it may go on; of a choice the mean of its
branches.
"""

import math
import time
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from .. import compiler

UNKNOWN = 50
OVERHEAD = 1.5  # of a program's running over that of the timed loops: 0.9 to 1.5 for a step, a reading, a prediction
SHARED = 0.5  # of compiling an equation over one of the timed loops, which are small: 0.4 to 0.6
ROWS, WIDTH, LOOPS = 512, 64, 200  # of what is timed


class Operations(NamedTuple):
    """Multiply-adds of matrix products, entries that other equations write, and equations, each once."""

    products: float = 0.0
    entries: float = 0.0
    equations: int = 0

    def __add__(self, other: "Operations") -> "Operations":  # type: ignore[override]
        return Operations(
            self.products + other.products, self.entries + other.entries, self.equations + other.equations
        )

    def times(self, number: float) -> "Operations":
        """Returns the same, run so often: it is compiled once."""
        return Operations(self.products * number, self.entries * number, self.equations)


def operations(jaxpr) -> Operations:
    """Returns the operations of a traced program, `jitted.trace(*arguments).jaxpr`."""
    total = Operations()
    for equation in jaxpr.eqns:
        total += _of_equation(equation)
    return total


def _of_equation(equation) -> Operations:
    inner = [operations(program) for program in core.jaxprs_in_params(equation.params)]
    name = equation.primitive.name
    if inner:
        total = sum(inner, Operations())
        return total.times(_how_often(equation, name, len(inner)))
    written = float(sum(math.prod(out.aval.shape) for out in equation.outvars))
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return Operations(written * math.prod(left[axis] for axis in contracted), 0.0, 1)
    return Operations(0.0, written, 1)


def _how_often(equation, name: str, programs: int) -> float:
    """Returns how often what is inside of an equation runs, of several programs each."""
    if name == "scan":
        return equation.params["length"]
    if name == "cond":
        return 1 / programs
    if name == "while":
        return min(UNKNOWN, _most(equation.params["cond_jaxpr"]))
    return 1


def _most(condition) -> float:
    """Returns how often a loop goes on at most, where it goes on below a whole number that is known."""
    most = math.inf
    for equation in condition.eqns:
        if equation.primitive.name == "lt" and isinstance(equation.invars[1], core.Literal):
            bound = np.asarray(equation.invars[1].val)
            if bound.dtype.kind == "i":
                most = min(most, float(bound))
    return most


DECOMPOSITIONS = {
    "cholesky",
    "eig",
    "eigh",
    "geqrf",
    "hessenberg",
    "householder_product",
    "lu",
    "ormqr",
    "qr",
    "schur",
    "svd",
    "triangular_solve",
    "tridiagonal",
}


def decomposes_stacks(jaxpr) -> bool:
    """Returns whether a traced program decomposes matrices many at a time."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in DECOMPOSITIONS and math.prod(equation.invars[0].aval.shape[:-2]) > 1:
            return True
        if any(map(decomposes_stacks, core.jaxprs_in_params(equation.params))):
            return True
    return False


class Speed(NamedTuple):
    """Processor seconds a multiply-add, an entry and an equation to compile, on this machine: whatever else runs on it."""

    product: float
    entry: float
    equation: float

    def running(self, counted: Operations) -> float:
        """Returns the seconds that these operations run."""
        return OVERHEAD * (counted.products * self.product + counted.entries * self.entry)

    def compiling(self, counted: Operations) -> float:
        """Returns the seconds that they are compiled."""
        return SHARED * counted.equations * self.equation


@cache
def speed() -> Speed:
    """Returns what operations take here, timed once a process; half a second."""
    x, w = jnp.ones((ROWS, WIDTH)), jnp.eye(WIDTH)
    product, _ = _timed(_multiplied, x, w)
    entry, equation = _timed(_pointwise, x, w)
    return Speed(product, entry, equation)


def _timed(function: Any, *arguments) -> tuple[float, float]:
    """Returns the seconds of a function's operation, and of compiling one of its equations."""
    traced = jax.jit(function, compiler_options=compiler.options(compiler.OFTEN)).trace(*arguments)
    counted = operations(traced.jaxpr)
    started = time.process_time()
    program = traced.lower().compile()
    compiled = time.process_time() - started
    rounds = []
    for _ in range(5):
        started = time.process_time()
        jax.block_until_ready(program(*arguments))
        rounds.append(time.process_time() - started)
    return min(rounds) / max(counted.products, counted.entries), compiled / counted.equations


def _multiplied(x, w):
    """Returns x after many matrix products."""
    return jax.lax.fori_loop(0, LOOPS, lambda _, x: x @ w, x)


def _pointwise(x, w):
    """Returns x after many steps of what stands between products: a norm, an activation, a sum."""

    def step(_, x):
        centred = x - x.mean(-1, keepdims=True)
        normed = centred * jax.lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-5)
        return x + jax.nn.gelu(normed) * w[0]

    return jax.lax.fori_loop(0, LOOPS // 4, step, x)
