"""The positions of the stream in a program: where its taps are, and how what they read is put in the order of depth.

Each residual sublayer, as it is written, has a number f; one in a loop stands for as many sublayers as the loop has turns. Its
taps are on its input (`Fork.below`), where skip and branch are told apart, and on the residual sum (`Fork.above`). The top of
the stream has one more: after the last residual sum, and after the maps on the trunk that belong to it, such as the norm of a
post-norm sublayer.
"""

from typing import Any

import jax.numpy as jnp

from ..trace.evaluation import Plan, Summed, Use
from ..trace.graph import Graph, Operation, Path, Value, is_inside
from ..trace.sums import ADDITIONS, VIEWS
from .trunk import CONTRACTIONS, Fork, Loop, Map, Step, Trunk

# ---- taps -----------------------------------------------------------------------------------------------------


def plan(trunks: list[Trunk]) -> Plan:
    """Returns the plan of all taps, by kind, trunk and sublayer as written: fork, sum, skip, branch; top and readout."""
    taps: dict[Path, dict[Any, tuple]] = {}
    apart: dict[Use, Any] = {}
    sums: dict[Path, dict[Any, Summed]] = {}
    for number, trunk in enumerate(trunks):
        _plan(number, trunk, taps, apart)
        for f, (fork, graph, _) in enumerate(trunk.places):
            if len(fork.branches) > 1:
                _put_sum(sums, ("branch", number, f), graph, fork)
    return Plan(taps, apart, sums)


def _put_sum(sums: dict, key, graph: Graph, fork: Fork) -> None:
    """Puts a tap on the sum of a fork's branches, where all are known, and alike, at the level of the residual sum."""
    level, above = made_at(graph, fork.above)
    variables = [graph.levels[level].variables(term.value)[:1] for term in fork.branches]
    kinds = {(term.value.shape, term.value.aval.dtype) for term in fork.branches}
    if above and all(variables) and len(kinds) == 1:
        signs = tuple(term.sign for term in fork.branches)
        at_level = sums.setdefault(level, {})
        at_level[above[0]] = Summed(key, tuple(variable for (variable,) in variables), signs)


def put(taps: dict, key, level: Path, variables: list) -> None:
    """Puts a tap on the first of the variables that hold a value at a level, if there is one."""
    for variable in variables[:1]:
        at_level = taps.setdefault(level, {})
        at_level[variable] = (*at_level.get(variable, ()), key)


def _plan(number: int, trunk: Trunk, taps: dict, apart: dict) -> None:
    """Puts the taps of one trunk."""
    for f, (fork, graph, _) in enumerate(trunk.places):
        put(taps, ("sum", number, f), *made_at(graph, fork.above))
        level = home(graph, fork)
        put(taps, ("fork", number, f), level, graph.levels[level].variables(fork.below))
        if len(fork.skips) == 1:
            put(taps, ("skip", number, f), *made_at(graph, fork.skips[0].value))
            apart[use_of_skip(graph, fork)] = ("fork", number, f)
        if len(fork.branches) == 1:
            put(taps, ("branch", number, f), *made_at(graph, fork.branches[0].value))
    put(taps, ("top", number), *made_at(trunk.graph, top(trunk)))
    put(taps, ("readout", number), *made_at(trunk.graph, readout(trunk)))


def made_at(graph: Graph, value: Value) -> tuple[Path, list]:
    """Returns the level at which a value is made, and the variables that hold it there."""
    maker = graph.makers.get(value)
    if maker is None:
        level = min(graph.levels, key=len)
    else:
        level = maker.path[:-1]
    return level, graph.levels[level].variables(value)


def home(graph: Graph, fork: Fork) -> Path:
    """Returns the innermost level that has the input of a fork, and all its uses in or below itself."""
    users = _users(graph, fork.below, fork)
    around = []
    for path, level in graph.levels.items():
        if level.variables(fork.below) and all(is_inside(user.path, path) for user in users):
            around.append(path)
    return max(around, key=len)


def _users(graph: Graph, value: Value, fork: Fork) -> list[Operation]:
    """Returns the operations of a fork that use a value, in the order in which they run."""
    found = []
    for operation, _ in graph.users.get(value, ()):
        if operation in fork.operations:
            found.append(operation)
    return found


def use_of_skip(graph: Graph, fork: Fork) -> Use:
    """Returns the one use of a fork's input that is its skip."""
    (skip,) = fork.skips
    if skip.chain:
        operation = skip.chain[-1]
    else:
        users = _users(graph, skip.value, fork)
        operation = next(user for user in users if _leads_up(graph, user, fork))
    return Use(operation.path, operation.inputs.index(fork.below))


def _leads_up(graph: Graph, operation, fork: Fork) -> bool:
    """Returns whether an operation is one of the additions, and views between them, that make the residual sum."""
    if operation.name not in ADDITIONS | VIEWS:
        return False
    (made,) = operation.outputs
    if made is fork.above:
        return True
    upward = _users(graph, made, fork)
    return len(upward) == 1 and _leads_up(graph, upward[0], fork)


# ---- the top of the stream -------------------------------------------------------------------------------------


def top(trunk: Trunk) -> Value:
    """Returns the top of the stream: above the last fork, and above what follows it there as it followed forks before.

    What follows is told by its operations and the line that it is written in: the norm of the last post-norm sublayer is made by
    the line that made those below; a norm before the readout is not.
    """
    last = _forked(trunk.steps)[-1]
    value = trunk.steps[last].above
    if isinstance(trunk.steps[last], Loop):
        return value
    followers = _followers(trunk.steps[: last + 1])
    tail = trunk.steps[last + 1 :]
    for length in range(1, len(tail) + 1):
        if not isinstance(tail[length - 1], Map):
            break
        if _written(tail[:length]) in followers:
            value = tail[length - 1].above
    return value


def _holds_fork(step: Step) -> bool:
    return isinstance(step, Fork) or (isinstance(step, Loop) and any(map(_holds_fork, step.steps)))


def _forked(steps) -> list[int]:
    """Returns the places of the steps that hold a fork."""
    found = []
    for place, step in enumerate(steps):
        if _holds_fork(step):
            found.append(place)
    return found


def _followers(steps) -> set:
    """Returns what stands between forks, as it is written."""
    found: set = set()
    between: list[Map] = []
    seen = False
    for step in steps:
        if isinstance(step, Map):
            between.append(step)
            continue
        if seen and between:
            found.add(_written(between))
        between = []
        seen = True
    return found


def _written(maps) -> tuple:
    """Returns what tells maps apart: their operations, and the line of each."""
    written = []
    for step in maps:
        names = tuple(operation.name for operation in step.operations)
        written.append((step.line, names))
    return tuple(written)


def readout(trunk: Trunk) -> Value:
    """Returns what is read out: the cut below the last product with weights, the unembedding's; the top where there is none."""
    highest = top(trunk)
    for step in reversed(trunk.steps):
        if step.above is highest:
            break
        if isinstance(step, Map) and _has_weights(step, trunk.weights):
            return step.below
    return highest


def _has_weights(step: Map, weights: set[Value]) -> bool:
    """Returns whether a step multiplies by a matrix of weights."""
    factors: set[Value] = set()
    for operation in step.operations:
        if operation.name in CONTRACTIONS:
            factors.update(operation.inputs)
    return not weights.isdisjoint(factors)


def ends(trunk: Trunk) -> tuple[list[Step], list[Step], list[Step]]:
    """Returns the steps below the bottom of the stream, those of its sublayers, and those above its top."""
    steps = list(trunk.steps)
    first = _forked(steps)[0]
    last = [step.above for step in steps].index(top(trunk))
    return steps[:first], steps[first : last + 1], steps[last + 1 :]


# ---- where positions are made ----------------------------------------------------------------------------------


def bottom(trunk: Trunk) -> Value:
    """Returns the bottom of the stream: the input of the first fork, or of the loop that it is in."""
    first = trunk.steps[_forked(trunk.steps)[0]]
    if not isinstance(first, Loop):
        return first.below
    inner = first.steps[_forked(first.steps)[0]]
    is_carry = inner.below is first.steps[0].below
    if is_carry:
        return first.below
    return inner.below


def makers(trunk: Trunk) -> list[tuple[Operation | None, tuple[int, ...]]]:
    """Returns the operation that makes each position of the stream as it is written, and the lengths of the loops around it.

    First x_0's; then, for every fork, that of the stream above it. None for an input of the program.
    """
    lowest = bottom(trunk)
    at_bottom = trunk.graph.makers.get(lowest) or trunk.places[0].graph.makers.get(lowest)
    return [(at_bottom, ()), *_makers(trunk.steps, trunk.graph, (), top(trunk))]


def _makers(steps, graph: Graph, repeats: tuple[int, ...], end: Value) -> list:
    found = []
    for index, step in enumerate(steps):
        if isinstance(step, Loop):
            found += _makers(step.steps, step.body, (*repeats, step.repeats), step.steps[-1].above)
        elif isinstance(step, Fork):
            above = _next_position(steps[index + 1 :], end)
            found.append((graph.makers[above], repeats))
    return found


def _next_position(steps, end: Value) -> Value:
    """Returns the input of the first step that holds a fork; `end` where none does."""
    for step in steps:
        if _holds_fork(step):
            return step.below
    return end


# ---- the order of depth ----------------------------------------------------------------------------------------


def in_depth_order(trunk: Trunk, by_fork: list, library=jnp):
    """Returns arrays by fork as written, each with its loops' axes in front, as one array with an axis of sublayers in front.

    `library` is NumPy for what is known without running anything.
    """
    return library.concatenate(_ordered(trunk.steps, iter(by_fork), 0, library))


def _ordered(steps, values, loops: int, library) -> list:
    """Returns arrays with an axis of sublayers after the axes of `loops` loops."""
    rows = []
    for step in steps:
        if isinstance(step, Fork):
            rows.append(library.expand_dims(next(values), loops))
        elif isinstance(step, Loop) and _holds_fork(step):
            turns = library.concatenate(_ordered(step.steps, values, loops + 1, library), axis=loops + 1)
            shape = turns.shape
            rows.append(turns.reshape(*shape[:loops], shape[loops] * shape[loops + 1], *shape[loops + 2 :]))
    return rows
