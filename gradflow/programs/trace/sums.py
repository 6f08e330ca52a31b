"""Residual sums: of a value that is a sum, the terms, and which of them is an earlier value but for linear operations.

    b = s(a) + F(a)        s the skip: the identity, a scale, a matrix on lanes; F the branch

Terms are looked for through additions, and through what is linear in one array: views, scalings by what does not depend on
`a`, casts, products with a matrix.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from .graph import Graph, Operation, Value, among

ADDITIONS = {"add", "add_any", "sub"}
# Linear in one array, entry by entry or by moving entries.
VIEWS = {
    "reshape",
    "transpose",
    "squeeze",
    "expand_dims",
    "broadcast_in_dim",
    "convert_element_type",
    "copy",
    "copy_p",
    "rev",
    "slice",
    "pad",
    "concatenate",
    "sharding_constraint",
    "optimization_barrier",
    "reduce_precision",
    "name",
    "real",
    "pvary",
    "pcast",
}
SCALINGS = {"mul", "div", "neg", "select_n", "dynamic_slice", "gather", "dynamic_update_slice"}
MATRICES = {"dot_general", "conv_general_dilated", "reduce_sum", "cumsum", "reduce_window_sum", "scatter-add"}
MOST_TERMS = 64  # where lanes held apart are added again and again, paths through sums are more than can be told apart
DIVISOR = 1  # the input of `div` that it isn't linear in


@dataclass(frozen=True, eq=False)
class Term:
    """One term of a sum: the value that is added, and the value behind it through `chain`, linear operations from there on."""

    value: Value
    origin: Value
    chain: tuple[Operation, ...]  # from the sum down to the origin
    sign: int = 1  # −1 where it is taken off

    @property
    def is_view(self) -> bool:
        """Whether the origin arrives as it is."""
        return all(operation.name in VIEWS for operation in self.chain)

    @property
    def has_matrix(self) -> bool:
        """Whether a matrix stands between."""
        return any(operation.name in MATRICES for operation in self.chain)


def linear_terms(origin: Value, found: list[Term]) -> list[Term]:
    """Returns the terms that are linear in `origin`."""
    return [term for term in found if term.origin is origin]


def linear_input(operation: Operation, path: set[Value]) -> Value | None:
    """Returns the one input on the path that an operation is linear in; None where there are several, or where it isn't."""
    on_path = among(operation.inputs, path)
    if len(on_path) != 1 or operation.name not in VIEWS | SCALINGS | MATRICES:
        return None
    if operation.name == "div" and operation.inputs[DIVISOR] is on_path[0]:
        return None
    return on_path[0]


def linear_operations(
    graph: Graph, value: Value, origins: Collection[Value], path: set[Value], *, gated: bool = False
) -> tuple[Operation, ...] | None:
    """Returns the operations, last first, by which a value is a linear function of origins; None where it is none.

    They move entries, add, and scale by what is not on the path; where `gated` also by what is. An origin itself has none.
    """
    known: dict[Operation, bool] = {}

    def leads_down(value: Value) -> bool:
        if value in origins:
            return True
        operation = graph.makers.get(value)
        if operation is None:
            return False
        if operation not in known:
            known[operation] = leads(operation)
        return known[operation]

    def leads(operation: Operation) -> bool:
        on_path = among(operation.inputs, path)
        if operation.name in SCALINGS:
            is_alone = linear_input(operation, path) is not None
            leading = [value for value in on_path if leads_down(value)]
            return (is_alone or gated) and bool(leading)
        return bool(on_path) and _adds_or_moves(graph, operation, path) and all(map(leads_down, on_path))

    if not leads_down(value):
        return None
    below = [operation for operation, is_linear in known.items() if is_linear]
    return tuple(sorted(below, key=graph.places.__getitem__, reverse=True))


def bends(graph: Graph, path: set[Value], *, gated: bool = False) -> dict[Value, int]:
    """Returns for each value on the path the place of the last operation up to it that it isn't linear behind; −1 where none is.

    A value is linear (`linear_operations`) in what is live behind operation p exactly where this is at most p: one sweep answers
    for all points of a program.
    """
    last: dict[Value, int] = {}
    for place, operation in enumerate(graph.operations):
        behind = [last.get(value, -1) for value in operation.inputs if value in path]
        bend = place
        if behind and operation.name in SCALINGS:
            if gated or linear_input(operation, path) is not None:
                bend = min(behind)
        elif behind and _adds_or_moves(graph, operation, path):
            bend = max(behind)
        last.update(dict.fromkeys(among(operation.outputs, path), bend))
    return last


def _adds_or_moves(graph: Graph, operation: Operation, path: set[Value]) -> bool:
    """Returns whether an operation adds values on the path, or moves entries of one."""
    if operation.name in ADDITIONS:
        return all(value in path or is_zero(graph, value) for value in operation.inputs)
    return operation.name in VIEWS or operation.name == "split"


def is_zero(graph: Graph, value: Value) -> bool:
    """Returns whether a value is zero as it is written."""
    while value.constant is None:
        operation = graph.makers.get(value)
        if operation is None or operation.name not in VIEWS or len(operation.inputs) != 1:
            return False
        (value,) = operation.inputs
    return not np.any(value.constant)


def is_stack(operation: Operation, path: set[Value]) -> bool:
    """Returns whether an operation puts several arrays beside one another on an axis of their own, one of them on the path."""
    if operation.name != "concatenate" or len(operation.inputs) < 2 or not among(operation.inputs, path):
        return False
    axis = operation.params["dimension"]
    return all(value.shape[axis] == 1 for value in operation.inputs)


def terms(graph: Graph, total: Value, origin: Value, path: set[Value]) -> list[Term]:
    """Returns the terms of `total`, each followed down to `origin` where it is linear in it, else ending in itself."""
    addends, ways = _counts(graph, total, origin, path)
    if addends[total] > MOST_TERMS or max(ways.values()) > MOST_TERMS:
        return [Term(total, total, ())]
    linear_path = {value for value, count in ways.items() if count}
    found: list[Term] = []
    for added, sign in _added(graph, total, origin, path):
        linear = linear_terms(origin, _followed(graph, added, added, (), origin, path, linear_path))
        for term in linear or [Term(added, added, ())]:
            found.append(replace(term, sign=sign))
    return found


def _counts(graph: Graph, total: Value, origin: Value, path: set[Value]) -> tuple[dict[Value, int], dict[Value, int]]:
    """Returns of the values up to a sum how many terms each adds up, and in how many ways each is linear in the origin."""
    addends, ways = {total: 1}, {origin: 1}
    for operation in graph.between(origin, total):
        on_path = among(operation.inputs, path)
        if operation.name in ADDITIONS or is_stack(operation, path):
            added = on_path
        else:
            added = list(filter(None, [linear_input(operation, path)]))
        count = 1
        if operation.name in VIEWS | ADDITIONS:
            count = sum(addends.get(value, 1) for value in added)
        for value in operation.outputs:
            addends[value] = count
            ways[value] = sum(ways.get(below, 0) for below in added)
    return addends, ways


def gated_terms(graph: Graph, total: Value, origin: Value, path: set[Value]) -> list[Term]:
    """Returns the terms as `terms` does, following `origin` also through products with gains that are made from it.

    Such a skip is no linear function: `H(x) x`, of hyper-connections whose gains read the stream, of a highway network.
    """
    addends, _ = _counts(graph, total, origin, path)
    if addends[total] > MOST_TERMS:
        return [Term(total, total, ())]
    found: list[Term] = []
    dead_ends: set[Value] = set()
    for added, sign in _added(graph, total, origin, path):
        chain = _gated_chain(graph, added, origin, path, dead_ends)
        if chain is None:
            found.append(Term(added, added, (), sign))
        else:
            found.append(Term(added, origin, chain, sign))
    return found


def _gated_chain(
    graph: Graph, value: Value, origin: Value, path: set[Value], dead_ends: set[Value]
) -> tuple[Operation, ...] | None:
    """Returns views, scalings and products with what is on the path, from `value` down to `origin`; None where there are none.

    `dead_ends` are the values that were found to have none.
    """
    if value is origin:
        return ()
    operation = graph.makers.get(value)
    if operation is not None and is_stack(operation, path):
        return linear_operations(graph, value, {origin}, path, gated=True)
    if operation is None or value in dead_ends or operation.name not in VIEWS | SCALINGS | {"dot_general"}:
        return None
    on_path = among(operation.inputs, path)
    if operation.name != "dot_general" or len(on_path) > 1:
        for below in on_path:
            chain = _gated_chain(graph, below, origin, path, dead_ends)
            if chain is not None:
                return (operation, *chain)
    dead_ends.add(value)
    return None


def _added(graph: Graph, total: Value, origin: Value, path: set[Value], sign: int = 1) -> list[tuple[Value, int]]:
    """Returns what the outermost additions add up, with signs, views between them looked through."""
    operation = graph.makers.get(total)
    if total is origin or operation is None:
        return [(total, sign)]
    if operation.name in ADDITIONS:
        values: list[tuple[Value, int]] = []
        for place, value in enumerate(operation.inputs):
            is_taken_off = operation.name == "sub" and place == 1
            if value in path:
                values += _added(graph, value, origin, path, -sign if is_taken_off else sign)
        return values
    below = linear_input(operation, path)
    if operation.name in VIEWS and below is not None and _is_sum(graph, below, path):
        return _added(graph, below, origin, path, sign)
    return [(total, sign)]


def _is_sum(graph: Graph, value: Value, path: set[Value]) -> bool:
    """Returns whether a value is made by an addition of values on the path, or a view of one."""
    operation = graph.makers.get(value)
    if operation is None:
        return False
    if operation.name in ADDITIONS:
        return len(among(operation.inputs, path)) > 1
    below = linear_input(operation, path)
    return operation.name in VIEWS and below is not None and _is_sum(graph, below, path)


def _followed(
    graph: Graph, added: Value, value: Value, chain, origin: Value, path: set[Value], linear_path: set[Value]
) -> list[Term]:
    """Returns the term behind an added value, or several where it is itself linear in a sum that holds the origin.

    `linear_path` are the values that are linear in the origin: others end a chain.
    """
    operation = graph.makers.get(value)
    if value is origin or operation is None or value not in linear_path:
        return [Term(added, value, chain)]
    if operation.name in ADDITIONS:
        inner: list[Term] = []
        for part in among(operation.inputs, path):
            inner += _followed(graph, added, part, (*chain, operation), origin, path, linear_path)
        if linear_terms(origin, inner):
            return inner
        return [Term(added, value, chain)]
    if is_stack(operation, path):
        through = linear_operations(graph, value, {origin}, path)
        if through is not None:
            return [Term(added, origin, (*chain, *through))]
    below = linear_input(operation, path)
    if below is None:
        return [Term(added, value, chain)]
    return _followed(graph, added, below, (*chain, operation), origin, path, linear_path)
