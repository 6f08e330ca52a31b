"""A passage of a program from one value to a later one, in parts: norms, matrices, gains, and other functions.

Between consecutive cuts a program is a function of one array. A norm may go over several of these: the mean is taken off, the
root divides, the gain and the shift come after. So a norm begins at a cut with a reduction, and ends at the first cut at which
the function is one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from ...results.lines import Line
from ..trace.graph import Graph, Operation, Value, differentiable_path, is_number
from ..trace.pieces import Piece, between
from ..trace.sums import VIEWS, is_stack
from ..trunk.trunk import CONTRACTIONS, cuts
from .compiled import key
from .norms import Norm, norm_of
from .values import Values

REDUCTIONS = {"reduce_sum", "reduce_max", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "pallas_call"}
DIVISIONS = {"div", "rsqrt", "sqrt", "pow", "integer_pow", *REDUCTIONS - {"reduce_sum", "reduce_max"}}
ELEMENTWISE = (VIEWS - {"slice", "pad", "concatenate"}) | {"mul", "add", "sub", "div", "neg"}
LONGEST_NORM = 8  # cuts
TRIED = 2  # norms of the same operations that are tried; more are taken to be the same
KNOWN: dict[tuple, tuple[Piece, list[Norm]]] = {}  # a key has addresses of what the piece holds
MOST_KNOWN = 1024


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a passage; `kind` is norm, matrix, lanes (their sum with weights), gain (by a factor), shift, view, or other."""

    kind: str
    operations: tuple[Operation, ...] = field(repr=False)
    lines: tuple[Line, ...]
    norm: Norm | None = None
    learned: tuple[Value, ...] = ()

    @property
    def line(self) -> Line:
        """The innermost line of the user's code that makes it."""
        if self.lines:
            return self.lines[0]
        return self.operations[-1].line


def of_kind(parts: Iterable[Part], *kinds: str) -> tuple[Part, ...]:
    """Returns the parts of these kinds, in order."""
    return tuple(part for part in parts if part.kind in kinds)


def passage(of: Graph, values: Values, below: Value, above: Value) -> list[Part]:
    """Returns the parts of the passage from `below` to `above`, in order."""
    whole = between(of, below, above)
    path = differentiable_path(whole.operations, {below}, {above})
    stops = [below]
    for _, value in cuts(whole.operations, below, above, path):
        stops.append(value)
    return list(_parts(of, values, stops))


def _parts(of: Graph, values: Values, stops: list[Value]) -> Iterator[Part]:
    gaps = [between(of, below, above) for below, above in pairwise(stops)]
    place = 0
    while place < len(gaps):
        norm, length = _norm_from(of, values, stops, gaps, place)
        if norm is None:
            yield _plain(gaps[place])
            place += 1
            continue
        start = place
        place += length
        while place < len(gaps) and _is_affine(gaps[place], stops[place]):
            place += 1
        operations: list[Operation] = []
        learned: list[Value] = []
        for gap in gaps[start:place]:
            operations += gap.operations
            learned += gap.context
        yield Part("norm", tuple(operations), operations[-1].lines, norm, tuple(dict.fromkeys(learned)))


def _norm_from(of: Graph, values: Values, stops, gaps, place: int) -> tuple[Norm | None, int]:
    """Returns the norm that begins at a cut, and over how many cuts it goes."""
    if not names_of(gaps[place].operations) & REDUCTIONS or not stops[place].floating:
        return None, 0
    seen: set[str] = set()
    for length in range(1, min(LONGEST_NORM, len(gaps) - place) + 1):
        names = names_of(gaps[place + length - 1].operations)
        if names & CONTRACTIONS or stops[place + length].shape != stops[place].shape:
            return None, 0
        seen |= names
        if seen & DIVISIONS:
            norm = _tried(between(of, stops[place], stops[place + length]), values)
            if norm is not None:
                return norm, length
    return None, 0


def _tried(of: Piece, values: Values) -> Norm | None:
    """Returns the norm that a piece is; pieces of the same operations are tried twice."""
    if len(KNOWN) >= MOST_KNOWN:
        KNOWN.clear()
    _, known = KNOWN.setdefault(key(of), (of, []))
    if len(known) >= TRIED:
        return known[0]
    norm = norm_of(values.bound(of), of.below.shape, of.below.aval.dtype)
    if norm is not None:
        known.append(norm)
    return norm


def names_of(operations: Iterable[Operation]) -> set[str]:
    """Returns the names of operations."""
    return {operation.name for operation in operations}


def _is_affine(gap: Piece, below: Value) -> bool:
    """Returns whether it is a gain or a shift with a vector of features, or a view."""
    if not names_of(gap.operations) <= ELEMENTWISE:
        return False
    return all(origin(gap.graph, value).aval.size <= _width(below) for value in gap.context)


def _width(value: Value) -> int:
    """Returns the number of features: the length of the last axis, 1 of a number."""
    if not value.shape:
        return 1
    return value.shape[-1]


def origin(of: Graph, value: Value) -> Value:
    """Returns what a value is a view of, broadcast or cast; arithmetic with numbers, as in 1 + w, is looked through."""
    operation = of.makers.get(value)
    while operation is not None and operation.name in ELEMENTWISE:
        arrays = [below for below in operation.inputs if not is_number(below)]
        if len(arrays) != 1:
            break
        value = arrays[0]
        operation = of.makers.get(value)
    return value


def _plain(gap: Piece) -> Part:
    """Returns the part that is no norm."""
    lines: tuple[Line, ...] = ()
    if gap.operations:
        lines = gap.operations[-1].lines
    return Part(_kind(gap), gap.operations, lines, learned=gap.context)


def _kind(gap: Piece) -> str:
    """Returns the kind of a part that is no norm."""
    names = names_of(gap.operations)
    if names & CONTRACTIONS:
        if _is_of_lanes(gap):
            return "lanes"
        return "matrix"
    if names <= VIEWS:
        return "view"
    if not names <= ELEMENTWISE:
        return "lanes" if _takes_lanes_apart(gap) else "other"
    if names & {"mul", "div"}:
        return "gain"
    return "shift"


def _takes_lanes_apart(gap: Piece) -> bool:
    """Returns whether a gap takes stacked lanes apart, or stacks them, and else only scales and adds them."""
    for operation in gap.operations:
        takes_apart = operation.name == "split" and set(operation.params["sizes"]) == {1}
        if not (takes_apart or is_stack(operation, set(operation.inputs)) or operation.name in ELEMENTWISE):
            return False
    return True


def _is_of_lanes(gap: Piece) -> bool:
    """Returns whether a product is one over a few lanes, with no matrix on the features."""
    if len(gap.below.shape) <= 3:
        return False
    return all(value.aval.size < _width(gap.below) for value in gap.context)
