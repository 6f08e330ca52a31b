"""Pieces of a program, compiled: those of the same operations once, so that a stack costs what a layer of each kind does."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from ..trace.graph import Operation, Value, opened
from ..trace.pieces import Piece

COMPILED: dict[tuple, Callable] = {}
MOST_COMPILED = 1024
# Parameters of operations that are functions of Python's own, and say nothing that the programs beside them do not.
FUNCTIONS = ("jvp_jaxpr_fun", "jvp_jaxpr_thunk", "fwd_jaxpr_thunk", "bwd", "out_trees", "policy")


def run(piece: Piece, context, x):
    """Returns what a piece makes of `x`."""
    sign = key(piece)
    if sign not in COMPILED:
        if len(COMPILED) >= MOST_COMPILED:
            COMPILED.clear()
        COMPILED[sign] = jax.jit(piece)
    return COMPILED[sign](list(context), x)


def bound(piece: Piece, context) -> Callable:
    """Returns a piece as a function of its lower value alone."""
    return partial(run, piece, context)


def key(piece: Piece) -> tuple:
    """Returns what tells apart the functions of two pieces: their operations, and which values go where."""
    numbers: dict[Value, int] = {}
    shapes = []
    for value in (piece.below, *piece.context):
        numbers[value] = len(numbers)
        shapes.append(str(value.aval))
    written: list = [tuple(shapes)]
    for operation in piece.operations:
        taken = tuple(_taken(value, numbers) for value in operation.inputs)
        for value in operation.outputs:
            numbers[value] = len(numbers)
        written.append((operation.name, _params(operation), taken))
    return (*written, numbers[piece.above])


def _taken(value: Value, numbers: dict[Value, int]) -> int | str:
    """Returns the number of a value, or what the program says of one that has none."""
    if value in numbers:
        return numbers[value]
    return f"{value.aval} {value.constant!r}"


def _params(operation: Operation) -> str:
    """Returns the parameters of an operation as a text, without addresses in memory."""
    told = []
    for name, value in sorted(operation.params.items()):
        if name not in FUNCTIONS:
            told.append((name, _told(value)))
    return re.sub(r" at 0x[0-9a-f]+", "", str(told))


def _told(value: Any) -> str:
    """Returns a parameter as a text; a program's constants are told apart by what holds them."""
    _, constants = opened(value)
    return f"{value} {[id(constant) for constant in constants]}"
