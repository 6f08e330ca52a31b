"""The trunk of a program: what every differentiable path from the bottom of the stream to the output goes through.

    v is a cut  ⇔  no other live value on a path is used after v is made

which one sweep over the operations, in any order in which they can run, finds exactly: a value made before v, used after it and
not made from v would be a way around v; and every way around v has such a value.

Between two consecutive cuts the program is a function of one array. Where that is a sum of which one term is the lower cut (but
for a linear operation) and another one is made with parameters, it is a residual sublayer, a `Fork`. Everything else on the
trunk, such as a norm on the path, is a `Map`; a loop that carries the trunk is a `Loop` with a trunk of its own.

The stream's positions are the inputs of the forks, and the top of the stream.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from .graph import Graph, Operation, Value, differentiable_path, gradient_inputs, graph, reached
from .source import Line
from .sums import Term, gated_terms, terms

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
    def repeats(self) -> int:
        """How often the body runs."""
        return self.operation.params["length"]

    @property
    def line(self) -> Line:
        """The line of the loop."""
        return self.operation.line


Step = Map | Fork | Loop


@dataclass(frozen=True, eq=False)
class Trunk:
    """The steps from the bottom of the stream to the output."""

    graph: Graph = field(repr=False)
    source: Value
    sink: Value
    steps: tuple[Step, ...]
    weights: set[Value] = field(repr=False)

    @property
    def forks(self) -> list[tuple[Fork, tuple[int, ...]]]:
        """The residual sublayers as they are written, bottom up, each with the lengths of the loops around it."""
        return list(_forks(self.steps, ()))

    @property
    def sublayers(self) -> int:
        """The number of residual sublayers that the stream goes through."""
        return sum(_count(step) for step in self.steps)


def _forks(steps, repeats: tuple[int, ...]) -> Iterator[tuple[Fork, tuple[int, ...]]]:
    for step in steps:
        if isinstance(step, Fork):
            yield step, repeats
        elif isinstance(step, Loop):
            yield from _forks(step.steps, (*repeats, step.repeats))


def _count(step: Step) -> int:
    """Returns how many sublayers a step has."""
    if isinstance(step, Loop):
        return step.repeats * sum(map(_count, step.steps))
    return int(isinstance(step, Fork))


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
        made = [value for value in operation.outputs if value in path]
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
    path = differentiable_path(of.operations, source, {sink})
    weights = learned - reached(of.operations, {source})
    found: list[Step] = []
    below, start = source, 0
    for index, above in cuts(of.operations, source, sink, path):
        between = tuple(
            operation for operation in of.operations[start : index + 1] if not path.isdisjoint(operation.outputs)
        )
        found.append(_step(of, below, above, between, path, weights))
        below, start = above, index + 1
    return tuple(found)


def _step(of: Graph, below: Value, above: Value, between, path: set[Value], weights: set[Value]) -> Step:
    """Returns what lies between two consecutive cuts."""
    if len(between) == 1 and between[0].name == "scan":
        return _loop(below, above, between[0], path, weights) or Map(below, above, between)
    skips, branches = _skips_and_branches(terms(of, above, below, path), below)
    if skips and any(_is_learned(term, between, below, weights) for term in branches):
        return Fork(below, above, between, skips, branches)
    if any(operation.name in CONTRACTIONS for operation in between):
        skips, branches = _skips_and_branches(gated_terms(of, above, below, path), below)
        if skips and any(_is_learned(term, between, below, weights) for term in branches):
            return Fork(below, above, between, skips, branches)
    return Map(below, above, between)


def _skips_and_branches(found: list[Term], below: Value) -> tuple[tuple[Term, ...], tuple[Term, ...]]:
    """Returns the terms that are the lower cut, and the others; a matrix is no skip where there is a simpler one."""
    skips = [term for term in found if term.origin is below]
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
    made = {value for operation in between for value in operation.outputs}
    return any(value in weights for value in needed - made)


# ---- loops ----------------------------------------------------------------------------------------------------


def scan_counts(params: dict) -> tuple[int, int]:
    """Returns how many constants and carried arrays a scan has; since jax 0.12 they are counted in trees."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    constants, carried = params["ft_in"].elts[:2]
    return len(constants), len(carried)


def _loop(below: Value, above: Value, scan: Operation, path: set[Value], weights: set[Value]) -> Loop | None:
    """Returns the loop whose carry is the trunk; None where the trunk enters it in another way, or not alone.

    What enters as a constant besides rides along (`_past_what_rides_along`).
    """
    constants, carried = scan_counts(scan.params)
    entered = [place for place, value in enumerate(scan.inputs) if value in path and place >= constants]
    if len(entered) != 1:
        return None
    carry = entered[0] - constants
    if not 0 <= carry < carried or above is not scan.outputs[carry]:
        return None
    body = graph(scan.params["jaxpr"], path=scan.path)
    state = body.inputs[constants : constants + carried]
    if not _carries_alone(body, state, carry, carried):
        return None
    sources = {inside for inside, outside in zip(body.inputs, scan.inputs, strict=True) if outside in weights}
    inner = steps(body, state[carry], body.outputs[carry], reached(body.operations, sources))
    return Loop(below, above, scan, carry, body, inner)


def _carries_alone(body: Graph, state, carry: int, carried: int) -> bool:
    """Returns whether nothing else that is carried takes from the trunk and gives back to it."""
    path = differentiable_path(body.operations, state[carry], set(body.outputs[:carried]))
    taking = [state[place] for place in range(carried) if place != carry and body.outputs[place] in path]
    for value in taking:
        if value in differentiable_path(body.operations, value, {body.outputs[carry]}) and _reaches(body, value, carry):
            return False
    return True


def _reaches(body: Graph, value: Value, carry: int) -> bool:
    """Returns whether a carried value has a part in what the trunk becomes."""
    return value.floating and body.outputs[carry] in differentiable_path(body.operations, value, {body.outputs[carry]})


# ---- where it begins and ends ----------------------------------------------------------------------------------


class NoTrunk(ValueError):
    """There is no residual stream to be found; the message says what goes past what."""


def trunks(program, parameters: int) -> list[Trunk]:
    """Returns the trunks of a program `(*parameters, *batch) -> loss`, its first `parameters` arrays being learned.

    One for a stack; of an encoder and decoder one each, in the order in which they run. Each is the longest that there is between
    a value in which the batch enters differentiably (an embedding, an image) and a term of the loss.
    """
    of = graph(program)
    learned = reached(of.operations, set(of.inputs[:parameters]))
    fed = reached(of.operations, set(of.inputs[parameters:]))
    candidates = []
    for sink in _sinks(of):
        for source in _sources(of, fed, sink):
            candidate = _trunk(of, source, sink, learned)
            candidates.append(candidate)
            for above in _past_what_rides_along(candidate):
                candidates.append(_trunk(of, above, sink, learned))
    chosen: list[Trunk] = []
    for candidate in sorted(candidates, key=_size, reverse=True):
        own = _below(candidate, {fork.operations[-1].path for trunk in chosen for fork, _ in trunk.forks})
        if _is_one(own):
            chosen.append(own)
    if not chosen:
        raise NoTrunk(_what_goes_past(candidates))
    return sorted(chosen, key=_begin)


def _trunk(of: Graph, source: Value, sink: Value, learned: set[Value]) -> Trunk:
    """Returns the steps between two values."""
    weights = learned - reached(of.operations, {source})
    return Trunk(of, source, sink, steps(of, source, sink, learned), weights)


def _past_what_rides_along(candidate: Trunk) -> Iterator[Value]:
    """Yields what is made of a value that layers read beside the stream, such as x_0 mixed into each: the stream without it.

    What rides along is then held, as parameters are: the gradient at a position is that of the stream there, without what layers
    further up give to x_0 directly. That is the same number as for a layer's own copy of x_0 among its parameters, and what
    follows from it (log-gains, Jacobians of sublayers) is of one array. It is looked for where one step is most of the path.
    """
    lengths = {step: len(step.operations) for step in candidate.steps if not isinstance(step, Loop)}
    widest = max(lengths, key=lambda step: lengths[step], default=None)
    if widest is None or 2 * lengths[widest] <= sum(lengths.values()):
        return
    for operation, _ in candidate.graph.users[widest.below]:
        if operation in widest.operations:
            yield from (value for value in operation.outputs if value.floating)


def _below(candidate: Trunk, taken: set) -> Trunk:
    """Returns a trunk up to the first sublayer that holds a residual sum of another, those being given by their paths."""
    own = []
    for step in candidate.steps:
        operations = [operation for fork, _ in _forks((step,), ()) for operation in fork.operations]
        if any(operation.path in taken for operation in operations):
            break
        own.append(step)
    return replace(candidate, sink=own[-1].above if own else candidate.source, steps=tuple(own))


def _size(found: Trunk) -> tuple[int, int]:
    return found.sublayers, len(found.steps)


def _begin(found: Trunk) -> int:
    """Returns when the first residual sublayer of a trunk runs."""
    first = next(step for step in found.steps if not isinstance(step, Map))
    return found.graph.operations.index(found.graph.makers[first.above])


def _is_one(candidate: Trunk) -> bool:
    """Returns whether there are residual sublayers, and more than one sum of the batch itself and what is made from it."""
    if candidate.sublayers == 1:
        fork, _ = candidate.forks[0]
        return fork.below in candidate.graph.makers
    return candidate.sublayers > 1


def _what_goes_past(candidates: list[Trunk]) -> str:
    """Returns what stands in the way of a trunk: what is alive beside one another in the widest step."""
    if not candidates:
        return "no path goes from the batch to the loss: nothing that derivatives go through is made from the batch"
    longest = max(candidates, key=lambda candidate: len(candidate.steps))
    widest = max(longest.steps, key=lambda step: len(getattr(step, "operations", ())))
    alive = _alive_longest(longest.graph, widest)
    if len(alive) < 2:
        return (
            "no residual sublayer: no value on the way from the batch to the loss is added to what a branch makes of it (two "
            "streams beside one another, as of ResiDual, are not looked for)"
        )
    lines = ", ".join(dict.fromkeys(alive))
    return f"no trunk here: no one array is all that a layer hands to the next; these go past one another: {lines}"


def _alive_longest(of: Graph, step: Step) -> list[str]:
    """Returns the lines of the values of a step that are kept for long: used after a quarter more of it has run."""
    operations = getattr(step, "operations", ())
    places = {operation: place for place, operation in enumerate(operations)}
    found = []
    for place, operation in enumerate(operations):
        uses = [places[user] for value in operation.outputs for user, _ in of.users.get(value, ()) if user in places]
        if uses and max(uses) - place > max(2, len(operations) // 4):
            found.append(str(operation.line))
    return found


def _sources(of: Graph, fed: set[Value], sink: Value) -> list[Value]:
    """Returns the values on the way to `sink` in which the batch first takes part differentiably."""
    needed = _needed(of, sink)
    found = [value for value in of.inputs if value in fed and value.floating and value in needed]
    for operation in of.operations:
        made = [value for value in operation.outputs if value in fed and value.floating and value in needed]
        enters = not any(value in fed and value.floating for value in operation.inputs)
        if made and enters:
            found += made
    return found


def _needed(of: Graph, sink: Value) -> set[Value]:
    """Returns all floating values from which a derivative of `sink` can be taken."""
    needed = {sink}
    for operation in reversed(of.operations):
        if not needed.isdisjoint(operation.outputs):
            needed.update(gradient_inputs(operation))
    return needed


def _sinks(of: Graph) -> list[Value]:
    """Returns the loss and, where it is a sum, its terms: an auxiliary loss is a way around the trunk of the other."""
    loss = of.outputs[0]
    found = [loss]
    for value in found:
        operation = of.makers.get(value)
        if operation is not None and operation.name in ("add", "add_any", "sub", "mul", "div", "neg"):
            found += [below for below in operation.inputs if below.floating and below.constant is None]
    return list(dict.fromkeys(found))
