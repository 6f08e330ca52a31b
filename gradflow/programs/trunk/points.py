"""Points of a program: how many values are live behind each operation, and the frontiers that they make."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from ..trace.graph import Graph, Operation, Value, among
from ..trace.sums import ADDITIONS, bends
from .lane_sums import Frontier
from .trunk import products_within


class Point(NamedTuple):
    """What is live behind an operation, and the place of this among all; −1 is in front of them."""

    place: int
    live: tuple[Value, ...]


@dataclass(frozen=True, eq=False)
class Stretch:
    """A graph, its values on the path of the lanes, the weights, and whether lanes have to be of one shape and type."""

    graph: Graph = field(repr=False)
    path: set[Value] = field(repr=False)
    weights: set[Value] = field(repr=False)
    alike: bool

    @cached_property
    def products(self) -> tuple[int, ...]:
        """How many products of matrices stand on the path in front of each operation, and of all."""
        counts = [0]
        for operation in self.graph.operations:
            on_path = not self.path.isdisjoint(operation.outputs)
            counts.append(counts[-1] + (products_within([operation]) if on_path else 0))
        return tuple(counts)

    @cached_property
    def skips(self) -> dict[Value, int]:
        """The lowest place of a point that each value may have a skip from: a term that is linear in what is live there."""
        lowest = bends(self.graph, self.path, gated=True)
        for operation in self.graph.operations:
            if operation.name in ADDITIONS:
                below = [lowest.get(value, -1) for value in among(operation.inputs, self.path)]
                for value in among(operation.outputs, self.path):
                    lowest[value] = min([lowest[value], *below])
        return lowest

    def products_between(self, below: Point, above: Point) -> int:
        """Returns how many products of matrices stand on the path between two points."""
        return self.products[above.place + 1] - self.products[below.place + 1]


def points(
    operations, start: int, sources: Sequence[Value], sinks: Sequence[Value], path: set[Value]
) -> Iterator[Point]:
    """Yields what is live at the sources, which operation `start` makes, and behind every one on the path up to the sinks."""
    last = dict.fromkeys(sinks, len(operations))
    for index in reversed(range(len(operations))):
        for value in operations[index].inputs:
            last.setdefault(value, index)
    live = list(sources)
    yield Point(start, tuple(live))
    for index in range(start + 1, len(operations)):
        made = among(operations[index].outputs, path)
        live = [value for value in (*live, *made) if last.get(value, -1) > index]
        if made:
            yield Point(index, tuple(live))
        if set(live) == set(sinks):
            break


def operations_between(of: Stretch, below: Point, above: Point) -> tuple[Operation, ...]:
    """Returns the operations on the path between two points."""
    window = of.graph.operations[below.place + 1 : above.place + 1]
    return tuple(operation for operation in window if not of.path.isdisjoint(operation.outputs))


def frontier_at(of: Graph, point: Point, values: tuple[Value, ...] | None = None, **known) -> Frontier | None:
    """Returns the frontier at a point, its lanes in an order that may be given; None where no level has all of them there."""
    values = values or point.live
    root = min(of.levels, key=len)
    if point.place < 0:
        return Frontier(values, root, -1, **known)
    here = of.operations[point.place].path
    behind = of.operations[point.place + 1].path if point.place + 1 < len(of.operations) else ()
    while len(here) > len(root):
        level, after = here[:-1], here[-1]
        born = of.levels[level].born
        if all(born.get(value, after + 1) <= after for value in values):
            return Frontier(values, level, after, **known)
        if behind[: len(level)] == level:
            return None
        here = level
    return None
