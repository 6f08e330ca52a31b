"""Where the trunk of a program begins and ends: the longest that there is from the batch to the loss, one for each stack."""

from collections.abc import Iterator
from dataclasses import replace

from ..trace.graph import Graph, Operation, Path, Value, among, floating, gradient_inputs, graph, reached
from ..trace.schedule import scheduled
from ..trace.stacking import Stacking, stacked
from .choices import with_choices_in_branches
from .frontiers import Lanes, lanes
from .trunk import Loop, Map, Step, Trunk, places_in, products, products_within, steps

FIRST_USES = 8


class NoTrunk(ValueError):
    """There is no residual stream to be found; the message says what goes past what."""


def trunks(program, parameters: int) -> list[Trunk]:
    """Returns the trunks of a program `(*parameters, *batch) -> loss`, its first `parameters` arrays being learned.

    One for a stack; of an encoder and decoder one each, in the order in which they run. Each is the longest that there is between
    a value in which the batch enters differentiably (an embedding, an image) and a term of the loss.

    Where most products of matrices lie inside of one step, several values are looked for that a layer hands on beside one another
    (`frontiers`). The trunks are then those of the same program with these as lanes of one array, `trunk.graph.program`; so it is
    where a `cond` chooses a sublayer (`choices`). Inside of a `shard_map` streams of one value are found, and no others.
    """
    program = with_choices_in_branches(program)
    of = graph(program)
    found, candidates = _of_one_value(of, parameters)
    if any(map(_wide_step, candidates)) and of.sharded is None:
        found = _with_lanes(program, parameters, found)
    if not found:
        raise NoTrunk(_what_goes_past(candidates))
    return found


def _of_one_value(of: Graph, parameters: int) -> tuple[list[Trunk], list[Trunk]]:
    """Returns the trunks of a graph, and all candidates for them."""
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
    taken: set[Path] = set()
    for candidate in sorted(candidates, key=_size, reverse=True):
        own = _below(candidate, taken)
        if _is_one(own):
            chosen.append(own)
            taken.update(place.fork.operations[-1].path for place in own.places)
    return sorted(chosen, key=_begin), candidates


def _sublayers(found: Trunk) -> int:
    return found.sublayers


# ---- lanes ----------------------------------------------------------------------------------------------------


def _with_lanes(program, parameters: int, found: list[Trunk]) -> list[Trunk]:
    """Returns the trunks of the program whose streams of several values are stacked to one, where it then has more sublayers.

    Errors: `NoTrunk` where it would have, were these values of one shape and type.
    """
    ordered = scheduled(program)
    of = graph(ordered)
    _, candidates = _of_one_value(of, parameters)
    count = sum(map(_sublayers, found))
    best = _lanes(of, candidates, parameters)
    if best is not None:
        stacking = Stacking()
        stacking.add(of, best)
        again, _ = _of_one_value(graph(stacked(ordered, stacking)), parameters)
        if sum(map(_sublayers, again)) > count:
            return [_with_dimensions(trunk, best.dimensions) for trunk in again]
    unlike = _lanes(of, candidates, parameters, alike=False)
    if unlike is not None and unlike.sublayers > count:
        raise NoTrunk(_unlike_lanes(unlike))
    return found


def _lanes(of: Graph, candidates: list[Trunk], parameters: int, *, alike: bool = True) -> Lanes | None:
    """Returns the frontiers of a graph with most residual sublayers, inside of a step with most products of matrices."""
    learned = reached(of.operations, set(of.inputs[:parameters]))
    wide: dict[Step, int] = {}
    for candidate in candidates:
        step = _wide_step(candidate)
        if step is not None:
            wide[step] = products_within(step.operations)
    best = None
    for step, count in wide.items():
        if count < max(wide.values()):
            continue
        found = lanes(of, step.below, step.above, learned, alike=alike)
        if found is not None and (best is None or found.sublayers > best.sublayers):
            best = found
    return best


def _unlike_lanes(found: Lanes) -> str:
    """Returns the line that says of which shapes the streams are."""
    of_lanes = [f"{value.aval.dtype}{list(value.shape)}" for value in found.frontiers[-1].values]
    return (
        f"no trunk here: a layer hands on several arrays that are not alike, {', '.join(dict.fromkeys(of_lanes))}; lanes of one "
        "stream have one shape and type"
    )


def _with_dimensions(found: Trunk, dimensions: int) -> Trunk:
    """Returns a trunk with the number of dimensions of a lane, where its values are stacks of these."""
    if any(len(place.fork.above.shape) > dimensions for place in found.places):
        return replace(found, lane_dimensions=dimensions)
    return found


def _wide_step(candidate: Trunk) -> Step | None:
    """Returns the step that most products of matrices are in; None where they are in several."""
    counts = {step: products_within(step.operations) for step in candidate.steps}
    widest = max(counts, key=lambda step: counts[step], default=None)
    if widest is None or 2 * counts[widest] <= sum(counts.values()) or isinstance(widest, Loop):
        return None
    return widest


def _trunk(of: Graph, source: Value, sink: Value, learned: set[Value]) -> Trunk:
    """Returns the steps between two values."""
    weights = learned - reached(of.operations, {source})
    return Trunk(of, source, sink, steps(of, source, sink, learned), weights)


def _past_what_rides_along(candidate: Trunk) -> Iterator[Value]:
    """Yields what is made of a value that layers read beside the stream, such as x_0 mixed into each: the stream without it.

    What rides along is then held, as parameters are: the gradient at a position is that of the stream there, without what layers
    further up give to x_0 directly. That is the same number as for a layer's own copy of x_0 among its parameters, and what
    follows from it (log-gains, Jacobians of sublayers) is of one array. It is looked for where one step is most of the path, and
    among the first uses, since a stream that begins later is shorter.
    """
    lengths: dict[Step, int] = {}
    for step in candidate.steps:
        if not isinstance(step, Loop):
            lengths[step] = len(step.operations)
    widest = max(lengths, key=lambda step: lengths[step], default=None)
    if widest is None or 2 * lengths[widest] <= sum(lengths.values()):
        return
    inside = set(widest.operations)
    uses = [operation for operation, _ in candidate.graph.users[widest.below] if operation in inside]
    for operation in uses[:FIRST_USES]:
        yield from floating(operation.outputs)


def _below(candidate: Trunk, taken: set[Path]) -> Trunk:
    """Returns a trunk up to the first sublayer that holds a residual sum of another, those being given by their paths."""
    own = []
    sink = candidate.source
    for step in candidate.steps:
        if _holds_any(step, candidate.graph, taken):
            break
        own.append(step)
        sink = step.above
    return replace(candidate, sink=sink, steps=tuple(own))


def _holds_any(step: Step, of: Graph, paths: set[Path]) -> bool:
    """Returns whether one of the operations at these paths stands in a residual sublayer of a step."""
    for place in places_in((step,), of):
        for operation in place.fork.operations:
            if operation.path in paths:
                return True
    return False


def _size(found: Trunk) -> tuple[int, int]:
    return found.sublayers, len(found.steps)


def _begin(found: Trunk) -> int:
    """Returns when the first residual sublayer of a trunk runs."""
    first = next(step for step in found.steps if not isinstance(step, Map))
    return found.graph.operations.index(found.graph.makers[first.above])


def _is_one(candidate: Trunk) -> bool:
    """Returns whether there are residual sublayers, and more than one sum of the batch itself and what is made from it."""
    if candidate.sublayers == 1:
        (place,) = candidate.places
        return place.fork.below in candidate.graph.makers
    return candidate.sublayers > 1


def _what_goes_past(candidates: list[Trunk]) -> str:
    """Returns what stands in the way of a trunk: what waits beside what is made of it, where something does."""
    if not candidates:
        return "no path goes from the batch to the loss: nothing that derivatives go through is made from the batch"
    endless = _endless_loop(candidates)
    if endless is not None:
        return (
            "no trunk here: the stream goes through a loop whose number of turns is not known beforehand, "
            f"{endless.line}, and has no gradient there; write it as `lax.scan`, or `lax.fori_loop` between two numbers"
        )
    longest = max(candidates, key=lambda candidate: len(candidate.steps))
    widest = max(longest.steps, key=lambda step: len(step.operations))
    waiting = ", ".join(dict.fromkeys(_waiting(longest.graph, widest)))
    if waiting:
        return f"no trunk here: no one array is all that a layer hands to the next; these go past what is made of them: {waiting}"
    return (
        "no residual sublayer: no value on the way from the batch to the loss is added to what a branch makes of it, nor are "
        "several that go beside one another"
    )


def _endless_loop(candidates: list[Trunk]) -> Operation | None:
    """Returns the first `while` that a stream goes through."""
    for candidate in candidates:
        for step in candidate.steps:
            for operation in step.operations:
                if operation.name == "while":
                    return operation
    return None


def _waiting(of: Graph, step: Step) -> list[str]:
    """Returns the lines of the values of a step that wait for several products of what is made of them."""
    places = {operation: place for place, operation in enumerate(step.operations)}
    found = []
    for operation in step.operations:
        uses = _uses(of, operation, places)
        if uses and products(step.operations[min(uses) : max(uses)]) > 1:
            found.append(str(operation.line))
    return found


def _uses(of: Graph, operation: Operation, places: dict[Operation, int]) -> list[int]:
    """Returns the places of the operations that use what an operation makes, of those that have one."""
    found = []
    for value in operation.outputs:
        for user, _ in of.users.get(value, ()):
            if user in places:
                found.append(places[user])
    return found


def _sources(of: Graph, fed: set[Value], sink: Value) -> list[Value]:
    """Returns the values on the way to `sink` in which the batch first takes part differentiably."""
    fed_differentiably = set(floating(fed))
    on_way = fed_differentiably & _needed(of, sink)
    found = among(of.inputs, on_way)
    for operation in of.operations:
        if fed_differentiably.isdisjoint(operation.inputs):
            found += among(operation.outputs, on_way)
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
    left = [loss]
    while left:
        operation = of.makers.get(left.pop())
        if operation is None or operation.name not in ("add", "add_any", "sub", "mul", "div", "neg"):
            continue
        terms = [value for value in floating(operation.inputs) if value.constant is None]
        left += terms
        if len(terms) > 1:  # one alone is what it is made of, times a number
            found += terms
    return list(dict.fromkeys(found))
