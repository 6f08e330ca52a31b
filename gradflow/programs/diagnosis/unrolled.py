"""A trunk step by step, its loops turn by turn: what stands between residual sums, in the order in which it runs.

    stretch 0, fork 0, stretch 1, fork 1, …, fork n − 1, stretch n

A stretch is what lies on the path between two sums. Of a loop the first turns are evaluated; of later ones the last of these
is taken to tell.
"""

from dataclasses import dataclass, field
from typing import Any

from ..trace.graph import Graph, Value, reached
from ..trunk.trunk import CONTRACTIONS, Fork, Loop, Map, Step, Trunk
from .passages import Part, names_of, passage
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
    last = _place_of_last_fork(items)
    forks = []
    stretches: list[list] = [[]]
    for place, (step, own) in enumerate(items):
        if isinstance(step, Fork):
            forks.append((step, own))
            stretches.append([])
        else:
            stretches[-1].append((step, own))
            if place > last and isinstance(step, Map) and names_of(step.operations) & CONTRACTIONS:
                break
    known: dict[Any, tuple[Part, ...]] = {}
    return Unrolled(tuple(forks), tuple(_stretch(maps, known) for maps in stretches))


def _place_of_last_fork(items) -> int:
    last = 0
    for place, (step, _) in enumerate(items):
        if isinstance(step, Fork):
            last = place
    return last


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
    fed, learned = set(), set()
    for inner, outer in zip(body.inputs, loop.operation.inputs, strict=True):
        if outer in outside.fed:
            fed.add(inner)
        elif outer in outside.learned:
            learned.add(inner)
    return Room(body, values, reached(body.operations, fed), reached(body.operations, learned))


def _stretch(maps, known: dict) -> Stretch:
    """Returns the parts of maps that follow one another; those of one body are one passage."""
    runs: list[tuple[Room, Value, Value]] = []
    for step, room in maps:
        first = step.below
        if runs and runs[-1][0] is room and runs[-1][2] is step.below:
            _, first, _ = runs.pop()
        runs.append((room, first, step.above))
    parts: list[Part] = []
    for run in runs:
        if run not in known:
            room, first, last = run
            known[run] = tuple(passage(room.graph, room.values, first, last))
        parts += known[run]
    return Stretch(tuple(parts))
