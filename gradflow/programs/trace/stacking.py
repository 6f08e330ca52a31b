"""A program whose streams are one: the lanes of every frontier are stacked to one array, which is all that goes on from there.

    X = [v_1 … v_k],      v_i = X_i

so that what holds for a stream of one array holds for it: positions, meters, Jacobians. Where a residual sublayer ends in a
frontier, X is the sum of its skip, which is linear in the X below, and of its branches. It is the same function as it was
written; sums of more than two terms may be added up in another order, and so differ in the last bit.

The axis of lanes stands before tokens and features, as in gradflow's own: [batch, lane, token, feature].
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from .evaluation import WRAPPED, as_it_was, value_in, written_at
from .graph import CALLS, Graph, Level, Path, Value, is_inside, opened, scan_counts


@dataclass(frozen=True, eq=False)
class Stacking:
    """Frontiers by level and by the equation that they stand behind, and loops that carry them, by path."""

    frontiers: dict[Path, dict[int, list]] = field(default_factory=dict)
    loops: dict[Path, Any] = field(default_factory=dict)
    levels: dict[Path, Level] = field(default_factory=dict)
    numbers: dict[Any, int] = field(default_factory=dict)

    def add(self, of: Graph, lanes) -> None:
        """Adds the frontiers and loops of a body, and of those in it."""
        self.levels.update(of.levels)
        for frontier in lanes.frontiers:
            self._put(frontier)
        for loop in lanes.loops:
            self.loops[loop.operation.path] = loop
            self.add(loop.body, loop.inner)
            self._put(loop.start)
            self._put(loop.end)

    def _put(self, frontier) -> None:
        if frontier not in self.numbers:
            self.numbers[frontier] = len(self.numbers)
            behind = self.frontiers.setdefault(frontier.level, {})
            behind.setdefault(frontier.after, []).append(frontier)

    def is_in(self, path: Path) -> bool:
        """Returns whether anything is to be done in the call at a path."""
        return any(is_inside(level, path) for level in (*self.frontiers, *self.loops))


def stacked(program, stacking: Stacking):
    """Returns the program with its frontiers stacked."""

    def run(*arguments):
        made, _ = _run(stacking, program, arguments, (), {})
        return made

    shapes = [jax.ShapeDtypeStruct(variable.aval.shape, variable.aval.dtype) for variable in opened(program)[0].invars]
    return jax.make_jaxpr(run)(*shapes)


def axis_of_lanes(dimensions: int) -> int:
    """Returns where the axis of lanes is, for lanes of so many dimensions: before tokens and features."""
    return max(dimensions - 2, 0)


def stack(lanes: Sequence):
    """Returns arrays as lanes of one."""
    axis = axis_of_lanes(jnp.ndim(lanes[0]))
    return jax.lax.concatenate([jax.lax.expand_dims(lane, (axis,)) for lane in lanes], axis)


def unstacked(whole, lanes: int, like: Value) -> list:
    """Returns the lanes of an array; that of a frontier of one value is the array itself."""
    axis = axis_of_lanes(len(like.shape))
    if lanes == 1:
        whole = jax.lax.expand_dims(whole, (axis,))
    parts = jax.lax.split(whole, (1,) * lanes, axis=axis)
    return [jax.lax.squeeze(part, (axis,)) for part in parts]


# ---- evaluation -----------------------------------------------------------------------------------------------


def _run(stacking: Stacking, program, arguments, path: Path, wholes: Mapping[int, Any]):
    """Returns what the body at a path makes, and the stacks of its frontiers by their numbers, and those given."""
    jaxpr, constants = opened(program)
    env: dict = {}
    known = dict(wholes)
    behind = stacking.frontiers.get(path, {})

    def meet(after: int) -> None:
        for frontier in behind.get(after, ()):
            _stack(stacking, frontier, env, known)

    env.update(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *arguments), strict=True))
    meet(-1)
    for index, equation in enumerate(jaxpr.eqns):
        here = (*path, index)
        taken = [value_in(env, variable) for variable in equation.invars]
        with written_at(equation):
            made, inside = _equation(stacking, equation, taken, here, known)
            known |= inside
            env.update(zip(equation.outvars, made, strict=True))
        meet(index)
    return [value_in(env, variable) for variable in jaxpr.outvars], known


def _equation(stacking: Stacking, equation, taken: list, path: Path, wholes: Mapping[int, Any]):
    """Returns what an equation makes, and the stacks of frontiers in it."""
    if not stacking.is_in(path):
        return as_it_was(equation, taken), {}
    if equation.primitive.name == "scan":
        return _looped(stacking, equation, taken, path)

    def body(arguments, wholes, _):
        return _run(stacking, equation.params[CALLS[equation.primitive.name]], arguments, path, wholes)

    return WRAPPED[equation.primitive.name](body, equation.params)(taken, dict(wholes), {})


def _looped(stacking: Stacking, equation, taken: list, path: Path):
    """Returns what a loop makes that carries lanes as one array, and the stack above it."""
    loop = stacking.loops[path]
    params = equation.params
    constants, carried = scan_counts(params)
    first, start, rest = taken[:constants], taken[constants : constants + carried], taken[constants + carried :]
    others = [place for place in range(carried) if place not in loop.places]
    beside = [start[place] for place in others]
    whole = stack([start[place] for place in loop.places])
    lowest, highest = stacking.numbers[loop.start], stacking.numbers[loop.end]

    def in_place(lanes, beside) -> list:
        """Returns all that is carried, in its order."""
        carry = dict(zip((*loop.places, *others), (*lanes, *beside), strict=True))
        return [carry[place] for place in range(carried)]

    def body(carry, slices):
        whole, beside = carry
        lanes = unstacked(whole, len(loop.places), loop.start.values[0])
        arguments = [*first, *in_place(lanes, beside), *slices]
        made, known = _run(stacking, params["jaxpr"], arguments, path, {lowest: whole})
        return (known[highest], [made[place] for place in others]), made[carried:]

    options = {name: params[name] for name in ("length", "reverse", "unroll")}
    (top, beside), sequences = jax.lax.scan(body, (whole, beside), rest, **options)
    lanes = unstacked(top, len(loop.places), loop.start.values[0])
    return [*in_place(lanes, beside), *sequences], {stacking.numbers[loop.above]: top}


# ---- a frontier -----------------------------------------------------------------------------------------------


def _stack(stacking: Stacking, frontier, env: dict, known: dict) -> None:
    """Stacks a frontier, unless its stack is given, and puts the lanes of the stack in the place of its values."""
    level = stacking.levels[frontier.level]
    number = stacking.numbers[frontier]
    with _behind(level, frontier):
        if number not in known:
            known[number] = _whole(stacking, frontier, level, env, known)
        if len(frontier.values) == 1:
            return
        lanes = unstacked(known[number], len(frontier.values), frontier.values[0])
        for value, lane in zip(frontier.values, lanes, strict=True):
            for variable in level.variables(value):
                if variable in env:
                    env[variable] = lane


def _behind(level: Level, frontier):
    """Returns a context in which what is traced has the lines of the equation that a frontier stands behind, if any."""
    if frontier.after < 0:
        return nullcontext()
    return written_at(opened(level.body)[0].eqns[frontier.after])


def _whole(stacking: Stacking, frontier, level: Level, env: dict, known: Mapping[int, Any]):
    """Returns the stack of a frontier: the sum of skip and branches where a sublayer ends in it."""

    def value_of(value: Value):
        if value.constant is not None:
            return value.constant
        return next(env[variable] for variable in level.variables(value) if variable in env)

    if not frontier.sums:
        arrays = [value_of(value) for value in frontier.values]
        return arrays[0] if len(arrays) == 1 else stack(arrays)
    below = frontier.below
    lanes = unstacked(known[stacking.numbers[below]], len(below.values), below.values[0])
    lower = dict(zip(below.values, lanes, strict=True))
    skips, branches = [], []
    for value, of_lane in zip(frontier.values, frontier.sums, strict=True):
        zero = jnp.zeros(value.shape, value.aval.dtype)
        linear = [(term.sign, _again(term, lower, value_of)) for term in of_lane.skips]
        skips.append(_total(linear, zero))
        branches.append(_total([(term.sign, value_of(term.value)) for term in of_lane.branches], zero))
    return stack(skips) + stack(branches)


def _again(term, lower: Mapping[Value, Any], value_of):
    """Returns a skip from these lower lanes."""
    arrays = dict(lower)
    for operation in reversed(term.operations):
        taken = [arrays[value] if value in arrays else value_of(value) for value in operation.inputs]
        arrays |= zip(operation.outputs, as_it_was(operation.equation, taken), strict=True)
    return arrays[term.value]


def _total(terms: list, zero):
    """Returns a sum of terms with their signs."""
    if not terms:
        return zero
    total = None
    for sign, array in terms:
        signed = array if sign > 0 else -array
        total = signed if total is None else total + signed
    return total
