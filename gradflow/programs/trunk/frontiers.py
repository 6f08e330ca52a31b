"""Frontiers: several values that are all that a layer hands to the next, where no one value is. A stream of lanes.

    (v_1 … v_k) is a frontier  ⇔  no other live value on a path is used after the last of them is made

found, as cuts are, in one sweep over the operations: points at which k values are live. Two of a constant k have a residual
sublayer between them where every upper value is a sum with lower ones in it, linear in these, and one has another term that is
made with parameters:

    v'_i = Σ_j A_ij v_j + b_i,      b ≠ 0 for some i

A value that most sublayers only hand on, as x_0 where layers read it again, rides along: there are no lanes then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..trace.graph import Graph, Operation, Value, differentiable_path, graph, reached, scan_counts
from ..trace.sums import ADDITIONS
from .lane_sums import Frontier, Sum, in_order, is_sublayer, lane_sum
from .points import Point, Stretch, frontier_at, operations_between
from .points import points as live_points
from .trunk import products

MOST_LANES = 8
LOOK_BACK = 64  # points at which so many values are live, from the top of a sublayer to its bottom


@dataclass(frozen=True, eq=False)
class LaneLoop:
    """A scan whose carry is a frontier: which of the carried arrays, and the frontiers at the ends of its body, and above it."""

    operation: Operation
    places: tuple[int, ...]
    start: Frontier
    end: Frontier
    above: Frontier
    body: Graph = field(repr=False)
    inner: "Lanes" = field(repr=False)


@dataclass(frozen=True, eq=False)
class Lanes:
    """The frontiers of a body that sublayers and loops stand between."""

    frontiers: tuple[Frontier, ...]
    loops: tuple[LaneLoop, ...]

    @property
    def sublayers(self) -> int:
        """The number of residual sublayers."""
        count = sum(bool(frontier.sums) for frontier in self.frontiers)
        for loop in self.loops:
            count += loop.operation.params["length"] * loop.inner.sublayers
        return count

    @property
    def dimensions(self) -> int:
        """How many dimensions a lane has."""
        return len(self.frontiers[-1].values[0].shape)


def lanes(of: Graph, source: Value, sink: Value, learned: set[Value], *, alike: bool = True) -> Lanes | None:
    """Returns the frontiers between two values, of the size that gives most residual sublayers; None where none gives two.

    alike : whether all lanes have to have one shape and type
    """
    path = differentiable_path(of.operations, {source}, {sink})
    if sink not in path:
        return None
    stretch = Stretch(of, path, learned - reached(of.operations, {source}), alike)
    start = of.places[of.makers[source]] if source in of.makers else -1
    points = list(live_points(of.operations, start, (source,), (sink,), path))
    best = None
    for size in range(2, MOST_LANES + 1):
        chosen = [point for point in points if len(point.live) in (1, size)]
        found = _between(stretch, chosen)
        if found.sublayers > max(1, best.sublayers if best else 0):
            best = found
    return best


class Standing(NamedTuple):
    """A point, and the frontier that is there already."""

    point: Point
    frontier: Frontier | None = None


def _between(of: Stretch, points: Sequence[Point], top: tuple[Value, ...] = ()) -> Lanes:
    """Returns the frontiers, of those that points make, which residual sublayers and loops stand between.

    Lanes that are all of `top` are in its order.
    """
    kept: dict[Frontier, None] = {}
    loops: list[LaneLoop] = []
    followers: set[tuple] = set()
    lower = [Standing(points[0])]  # since the last sublayer
    for above in points[1:]:
        upper = None
        loop = _loop(of, above, operations_between(of, lower[-1].point, above))
        forked = None
        if loop is None and len(above.live) > 1:
            forked = _forked(of, lower, above, top)
        if loop is not None:
            loops.append(loop)
            upper = loop.above
        elif forked is not None:
            begin, upper = forked
            kept |= dict.fromkeys(filter(None, [upper.below]))
            if begin is not lower[0].point:
                followers.add(_written(of, lower[0].point, begin))
        if upper is not None:
            kept[upper] = None
            lower = []
        lower.append(Standing(above, upper))
    if _ride_along([frontier for frontier in kept if frontier.sums]):
        return Lanes((), ())
    top_of_last = _above_last(of, lower, followers)
    if top_of_last is not None:
        kept[top_of_last] = None
    return Lanes(tuple(kept), tuple(loops))


def _above_last(of: Stretch, above: Sequence[Standing], followers: set[tuple]) -> Frontier | None:
    """Returns the highest frontier above the last sublayer, the first of these, up to which the program is written as below."""
    if not followers:
        return None
    last = above[0].point
    for point, frontier in reversed(above[1:]):
        if frontier is None and len(point.live) == len(last.live) and _written(of, last, point) in followers:
            return frontier_at(of.graph, point)
    return None


def _written(of: Stretch, below: Point, above: Point) -> tuple:
    """Returns what tells stretches apart as they are written: their operations, and the line of the last."""
    operations = operations_between(of, below, above)
    return operations[-1].line, tuple(operation.name for operation in operations)


def _ride_along(forked: Sequence[Frontier]) -> bool:
    """Returns whether a value is handed on by as many sublayers in a row as there are lanes, so that no stream is in it."""
    for place, frontier in enumerate(forked):
        size = len(frontier.values)
        unchanged = set(frontier.values)
        row = forked[max(0, place - size + 1) : place + 1]
        for one in row:
            unchanged &= set(one.below.values if one.below else ())
        if len(row) == size and unchanged:
            return True
    return False


# ---- sublayers ------------------------------------------------------------------------------------------------


def _forked(
    of: Stretch, lower: Sequence[Standing], above: Point, top: tuple[Value, ...]
) -> tuple[Point, Frontier] | None:
    """Returns the nearest point below that a residual sublayer begins at, and the frontier above it; None where there is none."""
    if of.graph.operations[above.place].name not in ADDITIONS:
        return None
    near = lower[-LOOK_BACK:]
    for below, there in reversed(near):
        if not _may_fork(of, below, above) or (of.alike and not _are_alike((*below.live, *above.live))):
            continue
        frontier = there or frontier_at(of.graph, below)
        sums = _sublayer(of, below, above)
        if frontier is None or not sums:
            continue
        ordered = in_order(frontier.values, sums)
        if set(top) == set(sums):
            ordered = top
        of_lanes = tuple(sums[value] for value in ordered)
        upper = frontier_at(of.graph, above, ordered, below=frontier, sums=of_lanes)
        return None if upper is None else (below, upper)
    return None


def _are_alike(values: Sequence[Value]) -> bool:
    """Returns whether values have one shape and type."""
    return len({(value.shape, value.aval.dtype) for value in values}) == 1


def _sublayer(of: Stretch, below: Point, above: Point) -> dict[Value, Sum]:
    """Returns lanes as sums of those below, where a residual sublayer stands between; else none."""
    operations = operations_between(of, below, above)
    sums = _sums(of, below, above, gated=False)
    if is_sublayer(below.live, sums, operations, of.weights):
        return sums
    if products(operations):
        sums = _sums(of, below, above, gated=True)
        if is_sublayer(below.live, sums, operations, of.weights):
            return sums
    return {}


def _may_fork(of: Stretch, below: Point, above: Point) -> bool:
    """Returns whether a product of matrices stands between, and lanes may have skips: all of them, unless some begin here."""
    if not of.products_between(below, above):
        return False
    with_skip = [value for value in above.live if of.skips.get(value, -1) <= below.place]
    return bool(with_skip) and (len(with_skip) == len(above.live) or len(above.live) > len(below.live))


def _sums(of: Stretch, below: Point, above: Point, *, gated: bool) -> dict[Value, Sum]:
    """Returns lanes as sums of those below; none where one has no skip though it does not begin here."""
    sums = {}
    for value in above.live:
        sums[value] = lane_sum(of.graph, value, below.live, of.path, gated)
        if not sums[value].skips and len(below.live) == len(above.live):
            return {}
    return sums


# ---- loops ----------------------------------------------------------------------------------------------------


def _loop(of: Stretch, above: Point, operations: Sequence[Operation]) -> LaneLoop | None:
    """Returns the loop that carries lanes from a frontier to the next; None where they enter or leave it in another way."""
    if len(operations) != 1 or operations[0].name != "scan":
        return None
    (scan,) = operations
    constants, carried = scan_counts(scan.params)
    beside = (*scan.inputs[:constants], *scan.inputs[constants + carried :])
    body = graph(scan.params["jaxpr"], path=scan.path)
    state, tops = body.inputs[constants : constants + carried], body.outputs[:carried]
    places = _places(of, above, scan, body)
    sources, sinks = tuple(state[place] for place in places), tuple(tops[place] for place in places)
    leaving = tuple(scan.outputs[place] for place in places)
    if not set(above.live) <= set(leaving) or not of.path.isdisjoint(beside) or not _are_lanes(sources, sinks):
        return None
    path = differentiable_path(body.operations, set(sources), set(sinks))
    weights = _weights_inside(of, scan, body) - reached(body.operations, set(sources))
    points = list(live_points(body.operations, -1, sources, sinks, path))
    chosen = [point for point in points if len(point.live) == len(places)]
    inner = _between(Stretch(body, path, weights, True), chosen, sinks)
    start = next((one for one in inner.frontiers if one.after < 0), Frontier(sources, scan.path, -1))
    highest = next((one for one in inner.frontiers if one.values == sinks), None)
    end = highest or frontier_at(body, points[-1], sinks)
    outer = frontier_at(of.graph, above, leaving)
    if not inner.sublayers or set(points[-1].live) != set(sinks) or end is None or outer is None:
        return None
    return LaneLoop(scan, places, start, end, outer, body, inner)


def _places(of: Stretch, above: Point, scan: Operation, body: Graph) -> tuple[int, ...]:
    """Returns which of the arrays that a loop carries are lanes: they enter on the path, and are used at the point above."""
    constants, carried = scan_counts(scan.params)
    ahead, needed = set(), set()
    for place in range(carried):
        if scan.inputs[constants + place] in of.path:
            ahead.add(place)
        if scan.outputs[place] in above.live:
            needed.add(place)
    state, tops = body.inputs[constants : constants + carried], body.outputs[:carried]
    return _exchanging(body.operations, state, tops, ahead, needed)


def _are_lanes(sources: Sequence[Value], sinks: Sequence[Value]) -> bool:
    """Returns whether carried arrays are several of one shape and type, of which each turn makes another."""
    rides = any(source is sink for source, sink in zip(sources, sinks, strict=True))
    return len(sources) > 1 and _are_alike(sources) and not rides and len(set(sinks)) == len(sinks)


def _weights_inside(of: Stretch, scan: Operation, body: Graph) -> set[Value]:
    """Returns the values in a loop's body that are made from weights."""
    entering = set()
    for inside, outside in zip(body.inputs, scan.inputs, strict=True):
        if outside in of.weights:
            entering.add(inside)
    return reached(body.operations, entering)


def _exchanging(operations, state, tops, ahead: set[int], needed: set[int]) -> tuple[int, ...]:
    """Returns which of the carried arrays take from those that enter on the path, and give to those that are used above."""
    for _ in state:
        taking = differentiable_path(operations, {state[place] for place in ahead}, set(tops))
        ahead |= {place for place, value in enumerate(tops) if value in taking and value.floating}
        giving = differentiable_path(operations, set(state), {tops[place] for place in needed})
        needed |= {place for place, value in enumerate(state) if value in giving}
    return tuple(sorted(ahead & needed))
