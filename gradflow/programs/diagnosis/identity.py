"""Which parameters a norm has: two norms have one where both use the same array, or the same part of one array."""

from collections.abc import Iterable

from ..trace.graph import Graph, Value, is_number
from .passages import Part, origin
from .unrolled import Room


def identities(room: Room, norms: Iterable[Part]) -> frozenset:
    """Returns what tells the trained parameters of norms apart."""
    found = set()
    for part in norms:
        for value in part.learned:
            if value in room.learned and value not in room.fed:
                found.add(_identity(room.graph, origin(room.graph, value)))
    return frozenset(found)


def _identity(graph: Graph, value: Value):
    """Returns an array's identity: itself, or for a part of another which part of which."""
    operation = graph.makers.get(value)
    if operation is None:
        if is_number(value):
            return str(value.constant)
        return value
    params = []
    for name, param in sorted(operation.params.items()):
        params.append((name, str(param)))
    inputs = tuple(_identity(graph, below) for below in operation.inputs)
    return operation.name, str(params), inputs
