"""Lanes of a frontier as sums: of lower lanes, by functions that are linear in them, and of what branches make.

v'_i = Σ_j A_ij v_j + b_i
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..trace.graph import Graph, Operation, Path, Value, made_by
from ..trace.sums import ADDITIONS, MOST_TERMS, is_zero, linear_operations
from .trunk import products_within


class Skip(NamedTuple):
    """A term of a lane that is linear in lower lanes, by these operations, last first."""

    value: Value
    sign: int
    operations: tuple[Operation, ...]


class Addend(NamedTuple):
    """A term of a lane that is made by a branch."""

    value: Value
    sign: int


class Sum(NamedTuple):
    """A lane as a sum."""

    skips: tuple[Skip, ...]
    branches: tuple[Addend, ...]


@dataclass(frozen=True, eq=False)
class Frontier:
    """The values of a frontier, one a lane, and where it stands: behind an equation of a level, or at its start (−1).

    Where a residual sublayer ends in it, `sums` says what its lanes are of those of the frontier `below`.
    """

    values: tuple[Value, ...]
    level: Path
    after: int
    below: "Frontier | None" = None
    sums: tuple[Sum, ...] = ()


def lane_sum(of: Graph, value: Value, lower: Sequence[Value], path: set[Value], gated: bool) -> Sum:
    """Returns a lane as the sum that it is of lower ones, and of branches."""
    skips, branches = [], []
    for addend in _addends(of, value, set(lower), path):
        operations = linear_operations(of, addend.value, lower, path, gated=gated)
        if operations is None:
            branches.append(addend)
        else:
            skips.append(Skip(addend.value, addend.sign, operations))
    return Sum(tuple(skips), tuple(branches))


def _addends(of: Graph, value: Value, lower: set[Value], path: set[Value]) -> list[Addend]:
    """Returns what the outermost additions add up; the value itself where that is more than can be told apart."""
    known: dict[Value, list[Addend]] = {}

    def addends(value: Value) -> list[Addend]:
        if value not in known:
            found = parts(value)
            known[value] = found if len(found) <= MOST_TERMS else [Addend(value, 1)]
        return known[value]

    def parts(value: Value) -> list[Addend]:
        operation = of.makers.get(value)
        if value in lower or operation is None or operation.name not in ADDITIONS or value not in path:
            return [Addend(value, 1)]
        found = []
        signs = (1, -1 if operation.name == "sub" else 1)
        for below, sign in zip(operation.inputs, signs, strict=True):
            if is_zero(of, below):
                continue
            if below.shape != value.shape:
                return [Addend(value, 1)]
            for addend in addends(below):
                found.append(Addend(addend.value, sign * addend.sign))
        return found

    return addends(value)


def is_sublayer(lower: Sequence[Value], sums: dict[Value, Sum], operations, weights: set[Value]) -> bool:
    """Returns whether each lower lane is in a skip, each upper one has one, and one a branch with a product of weights in it.

    An upper lane may begin here, without a skip, where there are fewer below.
    """
    begins = len(sums) > len(lower)
    with_skip = [of_lane for of_lane in sums.values() if of_lane.skips]
    if not sums or (not begins and len(with_skip) < len(sums)):
        return False
    for value in lower:
        if not any(_is_heir(of_lane, value) for of_lane in with_skip):
            return False
    needed = {addend.value for of_lane in with_skip for addend in of_lane.branches}
    of_branches = []
    for operation in reversed(operations):
        if not needed.isdisjoint(operation.outputs):
            of_branches.append(operation)
            needed.update(value for value in operation.inputs if value not in lower)
    return products_within(of_branches) > 0 and not weights.isdisjoint(needed - made_by(operations))


def in_order(lower: Sequence[Value], sums: dict[Value, Sum]) -> tuple[Value, ...]:
    """Returns upper lanes in the order of those below that they have in their skips."""
    left = list(sums)
    ordered: list[Value] = []
    for value in lower:
        heirs = [upper for upper in left if _is_heir(sums[upper], value)]
        ordered.append((heirs or left)[0])
        left.remove(ordered[-1])
    return (*ordered, *left)


def _is_heir(of_lane: Sum, value: Value) -> bool:
    """Returns whether a lane has a lower one in its skips."""
    for skip in of_lane.skips:
        inputs = {one for operation in skip.operations for one in operation.inputs}
        if skip.value is value or value in inputs:
            return True
    return False
