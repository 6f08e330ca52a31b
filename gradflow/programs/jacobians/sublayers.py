"""The sublayers of a trunk in depth order, each in the parts of equation (1) that a program shows.

    x' = norm_out(skip(x) + branch(x))

`norm_out` is what stands on the trunk between a residual sum and the next sublayer, or the top: a norm, a cast, nothing. Each
turn of a loop is a sublayer of its own.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp

from ..trace.graph import Graph, Value
from ..trace.pieces import Piece, between, text
from ..trunk.positions import ends, use_of_skip
from ..trunk.trunk import Fork, Loop, Step, Trunk

PARTS = ("skip", "branch", "norm_out")
Turn = tuple[int, ...]


class Placed(NamedTuple):
    """A piece of the program, and the turn of each loop around it."""

    piece: Piece
    turn: Turn

    def context(self, held: dict) -> tuple:
        """Returns the piece's context at its turn, from the values of the forward pass, loops' turns in front."""
        return tuple(at_turn(value, self.turn, held) for value in self.piece.context)


def at_turn(value: Value, turn: Turn, held: dict):
    """Returns a value at a turn; one that stands in the program is always the same."""
    if value.constant is not None:
        return jnp.asarray(value.constant)
    return held[value][turn]


class Sublayer(NamedTuple):
    """A residual sublayer: its fork, the turn of each loop around it, and its parts, pieces in a row; none is the identity."""

    fork: Fork
    turn: Turn
    parts: dict[str, tuple[Placed, ...]]

    @property
    def pieces(self) -> list[Piece]:
        """The pieces of all parts."""
        pieces = []
        for part in self.parts.values():
            for placed in part:
                pieces.append(placed.piece)
        return pieces


class _Element(NamedTuple):
    """A step of the trunk as it runs."""

    step: Step
    graph: Graph
    turn: Turn


def sublayers(trunk: Trunk) -> list[Sublayer]:
    """Returns the sublayers of a trunk, bottom up."""
    _, own, _ = ends(trunk)
    groups: list[list[_Element]] = []
    for element in _elements(own, trunk.graph, ()):
        if isinstance(element.step, Fork):
            groups.append([element])
        elif groups:
            groups[-1].append(element)
    known: dict = {}
    return [_sublayer(group, known) for group in groups]


def _elements(steps, graph: Graph, turn: Turn) -> Iterator[_Element]:
    """Yields the steps as they run, loops turn by turn."""
    for step in steps:
        if isinstance(step, Loop):
            turns = list(range(step.repeats))
            if step.operation.params["reverse"]:
                turns.reverse()
            for number in turns:
                yield from _elements(step.steps, step.body, (*turn, number))
        else:
            yield _Element(step, graph, turn)


def _sublayer(group: list[_Element], known: dict) -> Sublayer:
    """Returns the sublayer of a fork and the maps that follow it; pieces are made once for all turns."""
    (fork, graph, turn), *maps = group
    assert isinstance(fork, Fork)
    if fork not in known:
        known[fork] = _skip(graph, fork), _branch(graph, fork)
    skip, branch = known[fork]
    skips: tuple[Placed, ...] = ()
    if skip is not None:
        skips = (Placed(skip, turn),)
    after = []
    for element in maps:
        step = element.step
        if step not in known:
            known[step] = between(element.graph, step.below, step.above)
        after.append(Placed(known[step], element.turn))

    parts = {"skip": skips, "branch": (Placed(branch, turn),), "norm_out": tuple(after)}
    return Sublayer(fork, turn, parts)


def context_values(pieces_of_stack) -> dict[Value, Graph]:
    """Returns every value that pieces take from the forward pass, and the graph that it stands in."""
    values = {}
    for piece in pieces_of_stack:
        for value in piece.context:
            if value.constant is None:
                values[value] = piece.graph
    return values


# ---- skip and branch ------------------------------------------------------------------------------------------


def _skip(of: Graph, fork: Fork) -> Piece | None:
    """Returns the skip of a residual sum, every branch put to zero; None where it is the identity."""
    if len(fork.skips) > 1:
        raise ValueError(f"the residual sum at {fork.line} has several skips: one is told apart from the branch")
    (term,) = fork.skips
    if not term.chain:
        return None
    branches = frozenset(branch.value for branch in fork.branches)
    return between(of, fork.below, fork.above, zero_values=branches)


def _branch(of: Graph, fork: Fork) -> Piece:
    """Returns the branches of a residual sum, the skip put to zero."""
    return between(of, fork.below, fork.above, zero_uses=frozenset({use_of_skip(of, fork)}))


# ---- alike ----------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """`repeats` times a block of sublayers that are the same functions, beginning at the sublayer `start`."""

    start: int
    block: int
    repeats: int


def runs(found: list[Sublayer]) -> list[Run]:
    """Returns the sublayers in runs of blocks that repeat, so that each is compiled once, whether the program loops or not."""
    texts: dict[Piece, str] = {}
    numbers: dict[tuple, int] = {}
    kinds = []
    for sublayer in found:
        sign = _sign(sublayer, texts)
        kinds.append(numbers.setdefault(sign, len(numbers)))
    result = []
    start = 0
    while start < len(kinds):
        longest = _longest_run(kinds, start)
        result.append(longest)
        start += longest.block * longest.repeats
    return result


def _sign(sublayer: Sublayer, texts: dict) -> tuple:
    """Returns what tells sublayers apart: the text of all pieces of their parts."""
    signs = []
    for name in PARTS:
        of_part = []
        for piece, _ in sublayer.parts[name]:
            if piece not in texts:
                texts[piece] = text(piece)
            of_part.append(texts[piece])
        signs.append(tuple(of_part))
    return tuple(signs)


def _longest_run(kinds: list[int], start: int) -> Run:
    """Returns the run from `start` that goes furthest; of those the one with the shortest block."""
    best = Run(start, 1, 1)
    left = len(kinds) - start
    for block in range(1, left // 2 + 1):
        first = kinds[start : start + block]
        repeats = 1
        while kinds[start + repeats * block : start + (repeats + 1) * block] == first:
            repeats += 1
        if repeats > 1 and block * repeats > best.block * best.repeats:
            best = Run(start, block, repeats)
        if best.block * best.repeats == left:
            break
    return best
