"""A trunk step by step, its loops turn by turn: what stands between residual sums, in the order in which it runs.

    stretch 0, fork 0, stretch 1, fork 1, …, fork n − 1, stretch n

A stretch is what lies on the path between two sums. Of a loop the first turns are evaluated; of later ones the last of these
is taken to tell.
"""

from dataclasses import dataclass, field
from typing import Any

from ..trace.graph import Graph, Value, reached
from ..trunk.trunk import CONTRACTIONS, Fork, Loop, Map, Step, Trunk
from .passages import Part, passage
from .values import Values, turns

EVALUATED = 2  # turns of a loop


@dataclass(frozen=True, eq=False)
class Room:
    """A graph with its values; the values in it that the batch has a part in, and those that parameters have."""

    graph: Graph = field(repr=False)
    values: Values = field(repr=False)
    fed: set[Value] = field(repr=False)
    learned: set[Value] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Stretch:
    """The parts on the path between two residual sums."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, eq=False)
class Unrolled:
    """The forks of a trunk in order, each with its room, and the stretches around them: one more than forks."""

    forks: tuple[tuple[Fork, Room], ...]
    stretches: tuple[Stretch, ...]


def unrolled(trunk: Trunk, room: Room) -> Unrolled:
    """Returns a trunk's forks and the stretches around them, up to the first matrix above the last fork."""
    items = list(_items(trunk.steps, room))
    last = max(place for place, (step, _) in enumerate(items) if isinstance(step, Fork))
    forks = []
    stretches: list[list] = [[]]
    for place, (step, own) in enumerate(items):
        if isinstance(step, Fork):
            forks.append((step, own))
            stretches.append([])
        else:
            stretches[-1].append((step, own))
            if place > last and isinstance(step, Map) and _has_matrix(step):
                break
    known: dict[Any, tuple[Part, ...]] = {}
    return Unrolled(tuple(forks), tuple(_stretch(maps, known) for maps in stretches))


def _items(steps: tuple[Step, ...], room: Room):
    """Yields steps that are no loops, each with its room."""
    for step in steps:
        if not isinstance(step, Loop):
            yield step, room
            continue
        rooms = [_inside(step, room, values) for values in turns(step, room.values, EVALUATED)]
        for turn in range(step.repeats):
            yield from _items(step.steps, rooms[min(turn, len(rooms) - 1)])


def _inside(loop: Loop, outside: Room, values: Values) -> Room:
    """Returns the room of a turn of a loop."""
    body = loop.body
    pairs = list(zip(body.inputs, loop.operation.inputs, strict=True))
    fed = reached(body.operations, {inner for inner, outer in pairs if outer in outside.fed})
    learned = {inner for inner, outer in pairs if outer in outside.learned and outer not in outside.fed}
    return Room(body, values, fed, reached(body.operations, learned))


def _has_matrix(step: Map) -> bool:
    return any(operation.name in CONTRACTIONS for operation in step.operations)


def _stretch(maps, known: dict) -> Stretch:
    """Returns the parts of maps that follow one another; those of one body are one passage."""
    parts: list[Part] = []
    run: list[tuple[Map, Room]] = []
    for step, room in [*maps, (None, None)]:
        if run and (room is not run[-1][1] or step.below is not run[-1][0].above):
            first, last, own = run[0][0].below, run[-1][0].above, run[0][1]
            if (own, first, last) not in known:
                known[own, first, last] = tuple(passage(own.graph, own.values, first, last))
            parts += known[own, first, last]
            run = []
        run.append((step, room))
    return Stretch(tuple(parts))
