"""Whose parameters are whose: the residual sublayer in whose operations a parameter takes part, found in the program.

A parameter of one sublayer belongs to it, also where it is cast, transposed or sliced on the way; so do those of what stands on
the trunk above its sum, up to the next fork. One that several use, or none, is outside: tied weights, an embedding.

In a loop, a parameter that is scanned over has an axis of turns, which is found through transpositions: a layer each.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...instruments.meters.parameter_norms import frobenius
from ..trace.graph import Graph, Value, made_by, reached, scan_counts
from .layer_names import without_layers
from .positions import ends, in_depth_order
from .trunk import Fork, Loop, Trunk

SAME_AXES = {
    "convert_element_type",
    "copy",
    "copy_p",
    "name",
    "sharding_constraint",
    "optimization_barrier",
    "reduce_precision",
    "pvary",
    "pcast",
}


class Origin(NamedTuple):
    """A parameter behind a value, or a part of it.

    Its number; its axes in the value's order, None where these are lost; the axes that loops took a turn each of; and
    `(axis, index)` of those that it was indexed along.
    """

    leaf: int
    axes: tuple[int, ...] | None
    turns: tuple[int, ...] = ()
    at: tuple[tuple[int, int], ...] = ()

    @property
    def part(self) -> "Part":
        """What part of the parameter it is."""
        return Part(self.turns, self.at)


class Part(NamedTuple):
    """A part of a parameter: a turn each along some axes, one index each along others; the whole where there are none."""

    turns: tuple[int, ...]
    at: tuple[tuple[int, int], ...]

    def size(self, shape: tuple[int, ...]) -> int:
        """Returns how many numbers it is, of one turn."""
        indexed = dict(self.at)
        size = 1
        for axis, length in enumerate(shape):
            if axis not in self.turns and axis not in indexed:
                size *= length
        return size


Origins = dict[Value, frozenset[Origin]]


Owned = dict[int, set[Part]]  # by the number of the parameter


def owned(trunk: Trunk, parameters: int) -> list[Owned]:
    """Returns the parameters, or parts of them, that each sublayer as written has to itself."""
    start: Origins = {}
    for leaf, value in enumerate(trunk.graph.inputs[:parameters]):
        start[value] = frozenset({Origin(leaf, tuple(range(len(value.shape))))})
    below, inside, above = ends(trunk)
    used: list[Owned] = []
    _collect(inside, trunk.graph, trunk.source, start, used)
    origins = _origins(trunk.graph, start, trunk.source)
    used_elsewhere = set(_behind_source(trunk, start))
    for step in (*below, *above):
        used_elsewhere |= _used(step, origins)
    elsewhere = {origin.leaf for origin in used_elsewhere}
    for leaf in range(parameters):
        if leaf in elsewhere or not _is_parted(leaf, used, trunk):
            for of_fork in used:
                of_fork.pop(leaf, None)
    return used


def _is_parted(leaf: int, used: list[Owned], trunk: Trunk) -> bool:
    """Returns whether no part of a parameter is used by two sublayers, and turns are those of the loops around each."""
    seen: list[Part] = []
    is_whole_somewhere = False
    for of_fork, place in zip(used, trunk.places, strict=True):
        for part in of_fork.get(leaf, ()):
            if len(part.turns) != len(place.repeats):
                return False
            seen.append(part)
            is_whole_somewhere |= not part.at
    if is_whole_somewhere and len(seen) > 1:
        return False
    return len(set(seen)) == len(seen)


def _collect(steps, graph: Graph, source: Value, start: Origins, found: list[Owned]) -> None:
    """Adds an entry for every fork of a body, with the parameters of it and of the maps above it.

    Maps below the first fork of a loop's body go with that one.
    """
    origins = _origins(graph, start, source)
    waiting: set[Origin] = set()
    begun = False
    for step in steps:
        if isinstance(step, Loop):
            inner_source = step.steps[0].below
            _collect(step.steps, step.body, inner_source, _entering(step, origins), found)
            begun = True
            continue
        used = _used(step, origins)
        if isinstance(step, Fork):
            found.append({})
            used |= waiting
            begun = True
        elif not begun:
            waiting |= used
            continue
        for origin in used:
            found[-1].setdefault(origin.leaf, set()).add(origin.part)


def _behind_source(trunk: Trunk, start: Origins) -> frozenset[Origin]:
    """Returns the parameters that make the trunk's first value, such as an embedding."""
    origins = _origins(trunk.graph, start, None)
    return origins.get(trunk.source, frozenset())


def _used(step, origins: Origins) -> set[Origin]:
    """Returns the parameters that take part in a step beyond what comes along the trunk."""
    made = made_by(step.operations)
    used: set[Origin] = set()
    for operation in step.operations:
        for value in operation.inputs:
            if value is not step.below and value not in made:
                used |= origins.get(value, frozenset())
    return used


def _origins(graph: Graph, start: Origins, source: Value | None) -> Origins:
    """Returns the parameters behind every value that the trunk from `source` on has no part in."""
    along = reached(graph.operations, {source}) if source else set()
    origins = dict(start)
    for operation in graph.operations:
        behind: set[Origin] = set()
        for value in operation.inputs:
            behind |= origins.get(value, frozenset())
        for value in operation.outputs:
            if behind and value not in along:
                origins[value] = frozenset(_moved(operation, origin) for origin in behind)
    return origins


def _moved(operation, origin: Origin) -> Origin:
    """Returns the origin of what an operation makes."""
    if origin.axes is None or operation.name in SAME_AXES:
        return origin
    if operation.name == "transpose":
        return origin._replace(axes=tuple(origin.axes[axis] for axis in operation.params["permutation"]))
    if operation.name == "squeeze":
        return origin._replace(axes=tuple(np.delete(origin.axes, operation.params["dimensions"])))
    if operation.name == "slice":
        return _indexed(operation, origin)
    return origin._replace(axes=None)


def _indexed(operation, origin: Origin) -> Origin:
    """Returns the origin of a slice: where it is one entry along an axis, that entry."""
    (value,) = operation.inputs
    axes = origin.axes or ()
    starts, ends = operation.params["start_indices"], operation.params["limit_indices"]
    at = origin.at
    for axis, (start, end, length) in enumerate(zip(starts, ends, value.shape, strict=True)):
        if end - start == 1 < length:
            at = (*at, (int(axes[axis]), int(start)))
        elif end - start < length:
            return origin._replace(axes=None)
    return origin._replace(at=at)


def _entering(loop: Loop, origins: Origins) -> Origins:
    """Returns the parameters behind the inputs of a loop's body; a scanned one has given its first axis to the turns."""
    constants, carried = scan_counts(loop.operation.params)
    start: Origins = {}
    for place, (inside, outside) in enumerate(zip(loop.body.inputs, loop.operation.inputs, strict=True)):
        behind = origins.get(outside, frozenset())
        if place >= constants + carried:
            behind = _scanned(behind)
        if behind and inside.floating and place != constants + loop.carry:
            start[inside] = behind
    return start


def _scanned(behind: frozenset[Origin]) -> frozenset[Origin]:
    """Returns the parameters behind one turn's slice of a value."""
    scanned = set()
    for origin in behind:
        if origin.axes:
            scanned.add(origin._replace(axes=origin.axes[1:], turns=(*origin.turns, origin.axes[0])))
        else:
            scanned.add(origin._replace(axes=None))
    return frozenset(scanned)


def outer_leaves(own: list[Owned], parameters: int) -> list[int]:
    """Returns the numbers of the parameters that no sublayer has to itself."""
    return sorted(set(range(parameters)).difference(*own))


# ---- norms ----------------------------------------------------------------------------------------------------


def columns(own: list[Owned], names: list[str]) -> dict[int, str]:
    """Returns the name of each parameter of sublayers, without its layer's number unless two of a sublayer are then alike."""
    leaves: set[int] = set().union(*own)
    full = {leaf: names[leaf] for leaf in sorted(leaves)}
    without = without_layers(list(full.values()))
    short = {}
    for leaf, name in full.items():
        short[leaf] = without[name]
    for of_fork in own:
        called = {short[leaf] for leaf in of_fork}
        if len(called) < len(of_fork):
            return full
    return short


def gradient_norms(trunk: Trunk, own: list[Owned], names: dict[int, str], gradients: list):
    """Returns `‖g‖_F` [S, P] of the gradients of sublayers' parameters, by `columns`; NaN where a sublayer has no such."""
    rows = []
    for of_fork, (_, _, repeats) in zip(own, trunk.places, strict=True):
        row = dict.fromkeys(names.values(), jnp.full(repeats, jnp.nan))
        for leaf, parts in of_fork.items():
            row[names[leaf]] = _together([norms_along(gradients[leaf], part) for part in sorted(parts)])
        rows.append(jnp.stack(list(row.values()), axis=-1))
    return in_depth_order(trunk, rows)


def entries(trunk: Trunk, own: list[Owned], names: dict[int, str], shapes: list[tuple]) -> np.ndarray:
    """Returns how many numbers [S, P] the parameters of a sublayer are, by `columns`; NaN where it has no such."""
    rows = []
    for of_fork, (_, _, repeats) in zip(own, trunk.places, strict=True):
        row = dict.fromkeys(names.values(), np.nan)
        for leaf, parts in of_fork.items():
            row[names[leaf]] = 0
            for part in parts:
                row[names[leaf]] += part.size(shapes[leaf])
        rows.append(np.tile(np.array(list(row.values()), float), (*repeats, 1)))
    return in_depth_order(trunk, rows, np)


def _together(norms: list):
    """Returns the norm of the whole from those of its parts."""
    if len(norms) == 1:
        return norms[0]
    return jnp.linalg.norm(jnp.stack(norms), axis=0)


def norms_along(gradient, part: Part = Part((), ())):
    """Returns `√Σ|g|²` of a part of a gradient over all axes but those of turns, which come first, in their order."""
    index: list = [slice(None)] * jnp.ndim(gradient)
    for axis, place in part.at:
        index[axis] = slice(place, place + 1)
    moved = jnp.moveaxis(jnp.asarray(gradient)[tuple(index)], part.turns, range(len(part.turns)))
    turns = moved.shape[: len(part.turns)]
    if not turns:
        return frobenius(moved)
    each = moved.reshape(-1, *moved.shape[len(turns) :])
    # In turn: on the CPU the squares of all layers together would be an array as large as their parameters.
    return jax.lax.map(frobenius, each).reshape(turns)
