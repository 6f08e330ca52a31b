"""Attention in a branch: its scores, by what they are multiplied and over how many numbers they are sums.

    softmax(s qᵀk)        s = 1/√d for heads of width d

The scores are the product of two arrays that are made from the branch's input (or, of cross-attention, one from another's), from
which the softmax is made. Their scale s is the product of all numbers on the way from the two projections to the softmax.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ...results.lines import Line
from ..trace.graph import Operation, Value, graph, reached
from ..trace.pieces import Piece
from ..trunk.trunk import CONTRACTIONS
from .values import Values, number_of

INSIDES = {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr", "custom_vjp_call_jaxpr": "fun_jaxpr"}
NORMS = {"rsqrt", "sqrt", "reduce_sum", "reduce_max", "integer_pow", "pow", "square"}
PRODUCTS = {"mul", "div"}


@dataclass(frozen=True)
class Attention:
    """The scores of a branch: `scale` (None where it can't be seen, and `why`), the width they are summed over, their line."""

    scale: float | None
    why: str
    width: int
    line: Line
    lines: tuple[Line, ...] = field(repr=False)
    softmax: tuple[Line, ...] = field(repr=False)
    split: tuple[Line, ...] = field(repr=False)  # where queries and keys are given their axes
    of_itself: bool  # queries and keys are of one stream


def attention_in(branch: Piece, values: Values, fed: set[Value], learned: set[Value]) -> Attention | None:
    """Returns the attention in a branch; None where no softmax is made from a product of two arrays.

    `fed` are the values that the batch has a part in, `learned` those that parameters alone have.
    """
    operations = opened(branch.operations)
    search = _Search(operations, branch, values, fed, learned)
    for operation in operations:
        if operation.name == "exp":
            found = search.scores(operation.inputs[0], {})
            if found is not None:
                return search.read(*found, operation)
    return None


def opened(operations) -> tuple[Operation, ...]:
    """Returns operations in which functions with a derivative of their own are replaced by what they do."""
    found: list[Operation] = []
    stands_for: dict[Value, Value] = {}
    for operation in operations:
        inputs = tuple(stands_for.get(value, value) for value in operation.inputs)
        inside = INSIDES.get(operation.name)
        if inside is None or inside not in operation.params:
            found.append(replace(operation, inputs=inputs))
            continue
        inner = graph(operation.params[inside], inputs)
        around = (*operation.around, operation.equation)
        for done in opened(inner.operations):
            found.append(replace(done, around=(*around, *done.around)))
        stands_for.update(zip(operation.outputs, inner.outputs, strict=True))
    return tuple(found)


class _Search:
    """What is followed back from a softmax."""

    def __init__(self, operations, branch: Piece, values: Values, fed: set[Value], learned: set[Value]):
        self.makers: dict[Value, Operation] = {}
        for operation in operations:
            for value in operation.outputs:
                self.makers[value] = operation
        self.moving = reached(operations, {branch.below})
        self.values, self.fed, self.learned = values, fed, learned

    def scores(self, value: Value, factors: dict) -> tuple[Operation, dict] | None:
        """Returns the product that a softmax's input is made from, and the factors between, by operation."""
        operation = self.makers.get(value)
        if operation is None or value not in self.moving:
            return None
        if operation.name in CONTRACTIONS:
            from_elsewhere = set(operation.inputs[:2]) - self.moving
            if from_elsewhere <= self.fed:
                return operation, factors
            return None
        if operation.name.startswith(("reduce", "cum", "scan", "while")):
            return None
        for below in operation.inputs:
            found = self.scores(below, factors | self.factor(operation))
            if found is not None:
                return found
        return None

    def factor(self, operation: Operation) -> dict[Operation, float | None]:
        """Returns the number that an operation multiplies by; None where it isn't one that is known."""
        if operation.name not in PRODUCTS:
            return {}
        one, other = operation.inputs
        if one in self.moving and other in self.moving:
            return {operation: None}
        beside = other
        if other in self.moving:
            beside = one
        if beside in self.learned:
            return {operation: None}
        number = number_of(beside, self.values)
        if math.isnan(number):
            return {}
        if operation.name == "div":
            number = 1 / number
        return {operation: number}

    def read(self, product: Operation, factors: dict, softmax: Operation) -> Attention:
        """Returns what the scores are."""
        (contracted, _), _ = product.params["dimension_numbers"]
        width = math.prod(product.inputs[0].shape[axis] for axis in contracted)
        why = ""
        split: dict[Line, None] = {}
        for value in product.inputs[:2]:
            for operation in self.behind(value):
                factors = factors | self.factor(operation)
                if operation.name in ("reshape", "transpose"):
                    split[operation.line] = None
                if operation.name in NORMS:
                    why = "queries or keys are normalized"
        if not why and None in factors.values():
            why = "they are multiplied by a trained number"
        of_itself = self.moving.issuperset(product.inputs[:2])
        scale = None
        if not why:
            scale = math.prod(factors.values())
        return Attention(scale, why, width, product.lines[0], product.lines, softmax.lines, tuple(split), of_itself)

    def behind(self, value: Value) -> Iterator[Operation]:
        """Yields the operations between a value and the products with weights that it is made from."""
        waiting, seen = [value], {value}
        while waiting:
            operation = self.makers.get(waiting.pop())
            if operation is None or operation.name in CONTRACTIONS:
                continue
            yield operation
            for below in operation.inputs:
                if below in self.moving and below not in seen:
                    seen.add(below)
                    waiting.append(below)
