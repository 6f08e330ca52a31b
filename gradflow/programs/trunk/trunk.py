"""The trunk of a program: what every differentiable path from the bottom of the stream to the output goes through.

    v is a cut  ⇔  no other live value on a path is used after v is made

which one sweep over the operations, in any order in which they can run, finds exactly: a value made before v, used after it and
not made from v would be a way around v; and every way around v has such a value.

Between two consecutive cuts the program is a function of one array. Where that is a sum of which one term is the lower cut (but
for a linear operation) and another one is made with parameters, it is a residual sublayer, a `Fork`. Everything else on the
trunk, such as a norm on the path, is a `Map`; a loop that carries the trunk is a `Loop` with a trunk of its own.

The stream's positions are the inputs of the forks, and the top of the stream.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from jax.extend import core

from ...results.lines import Line
from ..trace.graph import (
    Graph,
    Operation,
    Value,
    among,
    differentiable_path,
    graph,
    made_by,
    opened,
    reached,
    scan_counts,
)
from ..trace.sums import Term, gated_terms, linear_terms, terms

CONTRACTIONS = {"dot_general", "conv_general_dilated", "ragged_dot", "ragged_dot_general"}


@dataclass(frozen=True, eq=False)
class Map:
    """What lies between two cuts and is no residual sum."""

    below: Value
    above: Value
    operations: tuple[Operation, ...] = field(repr=False)

    @property
    def line(self) -> Line:
        """The line that makes its output."""
        return self.operations[-1].line


@dataclass(frozen=True, eq=False)
class Fork:
    """A residual sublayer: `above = skip + branch`, both made from `below`."""

    below: Value
    above: Value
    operations: tuple[Operation, ...] = field(repr=False)
    skips: tuple[Term, ...]
    branches: tuple[Term, ...]

    @property
    def line(self) -> Line:
        """The line of the residual sum."""
        return self.operations[-1].line


@dataclass(frozen=True, eq=False)
class Loop:
    """A scan whose carry is the trunk: the steps of its body, `repeats` times."""

    below: Value
    above: Value
    operation: Operation
    carry: int  # which of the carried arrays
    body: Graph = field(repr=False)
    steps: tuple["Step", ...]

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The loop itself, which is one operation."""
        return (self.operation,)

    @property
    def repeats(self) -> int:
        """How often the body runs."""
        return self.operation.params["length"]

    @property
    def line(self) -> Line:
        """The line of the loop."""
        return self.operation.line


Step = Map | Fork | Loop


class Place(NamedTuple):
    """A residual sublayer as it is written: its fork, the graph that it stands in, the lengths of the loops around it."""

    fork: Fork
    graph: Graph
    repeats: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Trunk:
    """The steps from the bottom of the stream to the output.

    `lane_dimensions` is how many dimensions a lane has where its values are stacks of lanes, that were written as several values.
    """

    graph: Graph = field(repr=False)
    source: Value
    sink: Value
    steps: tuple[Step, ...]
    weights: set[Value] = field(repr=False)
    lane_dimensions: int | None = None

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """The residual sublayers as they are written, bottom up."""
        return tuple(places_in(self.steps, self.graph))

    @property
    def sublayers(self) -> int:
        """The number of residual sublayers that the stream goes through."""
        return _count(self.steps)


def places_in(steps, graph: Graph, repeats: tuple[int, ...] = ()) -> Iterator[Place]:
    """Yields the residual sublayers of the steps of a graph as they are written; those in loops have their lengths."""
    for step in steps:
        if isinstance(step, Fork):
            yield Place(step, graph, repeats)
        elif isinstance(step, Loop):
            yield from places_in(step.steps, step.body, (*repeats, step.repeats))


def _count(steps: Iterable[Step]) -> int:
    """Returns how many sublayers steps have."""
    count = 0
    for step in steps:
        if isinstance(step, Loop):
            count += step.repeats * _count(step.steps)
        elif isinstance(step, Fork):
            count += 1
    return count


def products(operations: Iterable[Operation]) -> int:
    """Returns how many of the operations are products of matrices, or convolutions."""
    return sum(operation.name in CONTRACTIONS for operation in operations)


def products_within(operations: Iterable[Operation]) -> int:
    """Returns how many products of matrices operations are, and have in their bodies, of a loop in one turn."""
    count = products(operations)
    for operation in operations:
        for body in core.jaxprs_in_params(operation.params):
            count += _products_in(body)
    return count


def _products_in(body) -> int:
    """Returns how many products of matrices a body has."""
    jaxpr, _ = opened(body)
    count = 0
    for equation in jaxpr.eqns:
        count += equation.primitive.name in CONTRACTIONS
        for inner in core.jaxprs_in_params(equation.params):
            count += _products_in(inner)
    return count


# ---- cuts -----------------------------------------------------------------------------------------------------


def cuts(operations, source: Value, sink: Value, path: set[Value]) -> list[tuple[int, Value]]:
    """Returns the cuts above `source`, each with the index of the operation that makes it."""
    last = {sink: len(operations)}
    for index in reversed(range(len(operations))):
        for value in operations[index].inputs:
            last.setdefault(value, index)
    found = []
    live = {source}
    for index, operation in enumerate(operations):
        made = among(operation.outputs, path)
        live = {value for value in (*live, *made) if last.get(value, -1) > index}
        if made and len(live) == 1 and made[-1] in live:
            found.append((index, made[-1]))
        if made and sink in made:
            break
    return found


def steps(of: Graph, source: Value, sink: Value, learned: set[Value]) -> tuple[Step, ...]:
    """Returns the steps from `source` to `sink`; `learned` are the values that parameters have a part in.

    Of these the weights are those that the trunk has no part in.
    """
    path = differentiable_path(of.operations, {source}, {sink})
    weights = learned - reached(of.operations, {source})
    found: list[Step] = []
    below, start = source, 0
    for index, above in cuts(of.operations, source, sink, path):
        window = of.operations[start : index + 1]
        between = tuple(operation for operation in window if not path.isdisjoint(operation.outputs))
        found.append(_step(of, below, above, between, path, weights))
        below, start = above, index + 1
    return tuple(found)


def _step(of: Graph, below: Value, above: Value, between, path: set[Value], weights: set[Value]) -> Step:
    """Returns what lies between two consecutive cuts."""
    if len(between) == 1 and between[0].name == "scan":
        return _loop(below, above, between[0], path, weights) or Map(below, above, between)
    fork = _fork(below, above, between, terms(of, above, below, path), weights)
    if fork is None and products(between):
        fork = _fork(below, above, between, gated_terms(of, above, below, path), weights)
    return fork or Map(below, above, between)


def _fork(below: Value, above: Value, between, found: list[Term], weights: set[Value]) -> Fork | None:
    """Returns the residual sublayer of a sum of these terms; None where none is the lower cut, or no other one is learned."""
    skips, branches = _skips_and_branches(found, below)
    if not skips:
        return None
    for term in branches:
        if _is_learned(term, between, below, weights):
            return Fork(below, above, between, skips, branches)
    return None


def _skips_and_branches(found: list[Term], below: Value) -> tuple[tuple[Term, ...], tuple[Term, ...]]:
    """Returns the terms that are the lower cut, and the others; a matrix is no skip where there is a simpler one."""
    skips = linear_terms(below, found)
    simplest = [term for term in skips if not term.has_matrix] or skips
    return tuple(simplest), tuple(term for term in found if term not in simplest)


def _is_learned(term: Term, between, below: Value, weights: set[Value]) -> bool:
    """Returns whether weights have a part in a term, beyond what they have in the lower cut."""
    needed = {term.value}
    for operation in reversed(between):
        if needed.isdisjoint(operation.outputs):
            continue
        for value in operation.inputs:
            if value is not below:
                needed.add(value)
    return not weights.isdisjoint(needed - made_by(between))


# ---- loops ----------------------------------------------------------------------------------------------------


def _loop(below: Value, above: Value, scan: Operation, path: set[Value], weights: set[Value]) -> Loop | None:
    """Returns the loop whose carry is the trunk; None where the trunk enters it in another way, or not alone.

    What enters as a constant besides rides along (`_past_what_rides_along`).
    """
    constants, carried = scan_counts(scan.params)
    entering = scan.inputs[constants:]
    entered = among(entering, path)
    if len(entered) != 1:
        return None
    carry = entering.index(entered[0])
    if carry >= carried or above is not scan.outputs[carry]:
        return None
    body = graph(scan.params["jaxpr"], path=scan.path)
    state = body.inputs[constants : constants + carried]
    if not _carries_alone(body, state, carry, carried):
        return None
    sources: set[Value] = set()
    for inside, outside in zip(body.inputs, scan.inputs, strict=True):
        if outside in weights:
            sources.add(inside)
    inner = steps(body, state[carry], body.outputs[carry], reached(body.operations, sources))
    return Loop(below, above, scan, carry, body, inner)


def _carries_alone(body: Graph, state, carry: int, carried: int) -> bool:
    """Returns whether nothing else that is carried takes from the trunk and gives back to it."""
    top = body.outputs[carry]
    path = differentiable_path(body.operations, {state[carry]}, set(body.outputs[:carried]))
    for place, value in enumerate(state):
        takes = place != carry and body.outputs[place] in path
        if takes and value.floating and top in differentiable_path(body.operations, {value}, {top}):
            return False
    return True
