"""A residual sublayer, taken apart: norms at either end of its branch, what multiplies skip and branch, how it couples tokens."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...results.lines import NOWHERE, Line
from ..trace.graph import Operation, Value, is_number
from ..trace.pieces import Piece, between
from ..trace.stacking import axis_of_lanes
from ..trace.sums import VIEWS, Term, is_stack
from ..trunk.trunk import Fork
from .attention import Attention, attention_in
from .coupling import Coupling, coupling, responds
from .passages import Part, origin, passage
from .unrolled import Room

ASIDE = ("view", "shift", "gain", "lanes")


@dataclass(frozen=True, eq=False)
class Sublayer:
    """A residual sublayer; norms on the path in front of it, and after its sum, are given by `path.placed`."""

    fork: Fork
    room: Room = field(repr=False)
    norms_in: tuple[Part, ...]
    norms_branch: tuple[Part, ...]
    skip: str
    write: str
    attention: Attention | None
    coupled: Coupling | None
    silent: bool  # the branch is multiplied by zero
    matrices: frozenset
    token_axes: tuple[int, ...]
    depth: int = 0
    line: Line = NOWHERE
    norms_on_path: tuple[Part, ...] = ()
    norms_out: tuple[Part, ...] = ()

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines that led to the residual sum, innermost first."""
        return self.fork.operations[-1].lines or (NOWHERE,)

    @property
    def kind(self) -> str:
        """What its branch is, and how it couples tokens."""
        words = "" if self.coupled is None else self.coupled.words
        if len(self.fork.branches) > 1 and self.attention is not None:
            return f"attention + {len(self.fork.branches) - 1} more, {words}"
        if self.attention is None:
            return words if words == "token-wise" or not words else f"tokens coupled, {words}"
        if not self.attention.of_itself:
            return "cross-attention"
        return f"attention, {words}" if words else "attention"

    @property
    def family(self) -> str:
        """Which sublayers it is compared with."""
        if self.attention is None:
            return "token-wise" if self.coupled is None or self.coupled.words == "token-wise" else "coupled"
        return "attention" if self.attention.of_itself else "cross-attention"

    @property
    def norms(self) -> list[Part]:
        """All norms of it."""
        return [*self.norms_on_path, *self.norms_in, *self.norms_branch, *self.norms_out]


def sublayer(fork: Fork, room: Room, token_axes: tuple[int, ...]) -> Sublayer:
    """Returns a residual sublayer taken apart."""
    graph, values = room.graph, room.values
    pieces = [between(graph, fork.below, term.value) for term in fork.branches]
    passages = [passage(graph, values, fork.below, term.value) for term in fork.branches]
    beginnings = [_leading_norms(parts) for parts in passages]
    endings = [_trailing_norms(parts) for parts in passages]
    attentions = [attention_in(branch, values, room.fed, room.learned) for branch in pieces]
    coupled, silent = _coupled(fork, room, pieces, passages, token_axes)
    return Sublayer(
        fork,
        room,
        norms_in=min(beginnings, key=len),
        norms_branch=min(endings, key=len),
        skip=_skip(fork, room),
        write=_write(passages, room),
        attention=next((found for found in attentions if found is not None), None),
        coupled=coupled,
        silent=silent,
        matrices=frozenset(_matrices(pieces, room)),
        token_axes=token_axes,
    )


def _leading_norms(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Returns the norms in front of the first matrix."""
    found = []
    for part in parts:
        if part.kind == "norm":
            found.append(part)
        elif part.kind not in ASIDE:
            break
    return tuple(found)


def _trailing_norms(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Returns the norms behind the last matrix, in order; none of those that the branch begins with."""
    found: list[Part] = []
    for part in reversed(parts):
        if part.kind == "norm":
            found.insert(0, part)
        elif part.kind in ("matrix", "other"):
            return tuple(found)
    return ()


def _matrices(pieces: Iterable[Piece], room: Room) -> set[Value]:
    """Returns the matrices of weights that branches use."""
    found = set()
    for branch in pieces:
        for value in branch.context:
            matrix = origin(room.graph, value)
            if value in room.learned and len(matrix.shape) > 1:
                found.add(matrix)
    return found


def with_lines(sublayers: Sequence[Sublayer]) -> list[Sublayer]:
    """Returns sublayers with the line of each: that of its sum; where that sums for several kinds, the one that calls it."""
    families: dict[Line, set[str]] = {}
    for one in sublayers:
        families.setdefault(one.lines[0], set()).add(one.family)
    made = []
    for one in sublayers:
        has_caller = len(families[one.lines[0]]) > 1 and len(one.lines) > 1
        made.append(replace(one, line=one.lines[1] if has_caller else one.lines[0]))
    return made


# ---- skip and write --------------------------------------------------------------------------------------------


def _skip(fork: Fork, room: Room) -> str:
    """Returns what multiplies the skip: of skips that are numbers the sum."""
    if any(is_stack(operation, set(operation.inputs)) for term in fork.skips for operation in term.chain):
        return _skip_of_lanes(fork, room)
    factors = [factor(term, room) for term in fork.skips]
    if len(factors) == 1:
        return factors[0]
    numbers = [float(name) for name in factors if _is_number(name)]
    return f"{sum(numbers):.4g}" if len(numbers) == len(factors) else "matrix"


def _skip_of_lanes(fork: Fork, room: Room) -> str:
    """Returns what multiplies a skip of lanes: 1 where each goes on as it is, also to several; else a matrix."""
    (skip,) = fork.skips
    x, y = (np.asarray(room.values(value)) for value in (skip.origin, skip.value))
    if x.ndim < y.ndim:
        x = np.expand_dims(x, axis_of_lanes(x.ndim))
    return "1" if np.array_equal(np.broadcast_to(x, y.shape), y) else "matrix"


def _is_number(name: str) -> bool:
    return name.replace(".", "").replace("-", "").replace("e", "").isdigit()


def factor(term: Term, room: Room) -> str:
    """Returns what a term multiplies its origin by: a number, or what is trained."""
    if term.has_matrix:
        return "matrix"
    return _product(term.chain, room)


def _product(operations: Sequence[Operation], room: Room) -> str:
    """Returns the product of the factors in a chain of operations: a number, or what is trained."""
    number = 1.0
    for operation in operations:
        if operation.name in VIEWS or operation.name in ("add", "add_any", "select_n"):
            continue
        if operation.name in ("sub", "neg"):
            number *= -1.0 if operation.name == "neg" else 1.0
            continue
        if operation.name not in ("mul", "div"):
            return "matrix"
        beside = [value for value in operation.inputs if is_number(value) or not _on_path(value, room)]
        if len(beside) != 1:
            return "gate"
        if beside[0] in room.learned:
            return "trained number" if origin(room.graph, beside[0]).aval.size == 1 else "trained gain"
        array = np.asarray(beside[0].constant if beside[0].constant is not None else room.values(beside[0]), np.float32)
        if not np.all(array == array.flat[0]):
            return "gate"
        beside_number = float(array.flat[0])
        number *= 1 / beside_number if operation.name == "div" else beside_number
    return f"{number:.4g}"


def _on_path(value: Value, room: Room) -> bool:
    """Returns whether the batch has a part in a value."""
    return value in room.fed


def _write(passages: Sequence[Sequence[Part]], room: Room) -> str:
    """Returns what multiplies the output of the branches, behind their last matrix or norm."""
    names = set()
    for parts in passages:
        operations: list[Operation] = []
        for part in reversed(parts):
            if part.kind not in ASIDE:
                break
            operations += [operation for operation in part.operations if operation.name in ("mul", "div")]
        names.add(_product(operations, room))
    return names.pop() if len(names) == 1 else "?"


# ---- tokens ----------------------------------------------------------------------------------------------------


def _coupled(fork: Fork, room: Room, pieces, passages, token_axes) -> tuple[Coupling | None, bool]:
    """Returns how the branches couple tokens, and whether their output is zero; then it is told before what multiplies them."""
    x = room.values(fork.below)
    whole = between(room.graph, fork.below, fork.above)
    if not _is_silent(fork, room, pieces, x):
        return coupling(_in_lanes_of(fork, room.values.bound(whole)), x, token_axes), False
    for branch, parts in zip(pieces, passages, strict=True):
        inner = _before_factors(branch, parts, room, x)
        if inner is not None:
            return coupling(room.values.bound(inner), x, token_axes), True
    return None, True


def _in_lanes_of(fork: Fork, f: Callable) -> Callable:
    """Returns a function of a fork's input with its output in the same dimensions: the sum of lanes, where these begin in it."""
    dimensions = len(fork.below.shape)
    if len(fork.above.shape) == dimensions:
        return f

    def summed(x):
        return f(x).sum(axis_of_lanes(dimensions))

    return summed


def _is_silent(fork: Fork, room: Room, pieces, x) -> bool:
    """Returns whether the sum is the skip alone."""
    skip = _skip(fork, room)
    if skip != "1":
        return not any(responds(room.values.bound(branch), x) for branch in pieces)
    return np.array_equal(np.asarray(room.values(fork.above)), np.asarray(x))


def _before_factors(branch: Piece, parts, room: Room, x) -> Piece | None:
    """Returns a branch without the factors at its end, where that depends on its input."""
    kept = list(parts)
    while kept and kept[-1].kind in ASIDE:
        kept.pop()
        if kept:
            inner = between(room.graph, branch.below, kept[-1].operations[-1].outputs[0])
            if responds(room.values.bound(inner), x):
                return inner
    return None


def token_axes(stream: Value, counts: Iterable[tuple[int, ...]], lane_dimensions: int | None) -> tuple[int, ...]:
    """Returns the axes of a stream's tokens: those that a batch of whole numbers has too, but the first; else all inner ones.

    Lanes that were stacked are looked at without their axis.
    """
    shape = stream.shape
    if lane_dimensions is None or len(shape) == lane_dimensions:
        return _token_axes(shape, counts)
    lanes = axis_of_lanes(lane_dimensions)
    of_lane = _token_axes((*shape[:lanes], *shape[lanes + 1 :]), counts)
    return tuple(axis + (axis >= lanes) for axis in of_lane)


def _token_axes(shape: tuple[int, ...], counts: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """Returns the axes of tokens of an array of this shape."""
    for count in counts:
        size = len(count)
        for start in range(len(shape) - size):
            if size > 1 and shape[start : start + size] == count:
                return tuple(range(start + 1, start + size))
    if len(shape) < 3:
        return tuple(range(len(shape) - 1))
    return tuple(range(1, len(shape) - 1))
