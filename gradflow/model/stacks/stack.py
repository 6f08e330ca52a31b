"""Stacks of residual sublayers.

A stack is a sequence of segments; a segment is a block, itself a tuple of sublayers, and how often it repeats. So a stack
whose first third is post-norm, or that alternates two kinds of attention, has more than one segment.

Axes: the stream [T, d]; parameters of a segment stacked over its repeats.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from operator import methodcaller
from typing import Any

import jax
import jax.numpy as jnp

from ...results.arguments import known, real, shown, whole
from ...results.configuration import registered
from ...results.fields import field_values
from ..branches.branch import Branch
from ..equation.sublayer import PARTS, Part, bind
from ..layers.layer import Layer, as_layer
from ..numerics.precision import in_precision_of
from ..parameters.depth import OfDepth, at_layer, replaced, resolved
from ..parameters.initializers import Scaled
from ..parameters.keys import at
from ..wirings.placement import shared_out
from ..wirings.wiring import PLAIN, THROUGH, Wiring


@registered
@dataclass(frozen=True)
class Sublayer:
    """One instance of equation (1): a wiring around a branch, and the name (`kind`) results carry.

    The branch is a `Layer`, or a pure function `(params, x) -> x`.
    """

    kind: str
    wiring: Wiring
    branch: Any

    def __post_init__(self):
        if not callable(self.branch):
            raise ValueError(
                f"the branch {self.kind} is {shown(self.branch)}: a layer is needed, such as gf.branches.Attention()"
            )
        as_layer(self.branch)

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """The seven parts of (1); the branch with the wiring's `init_scales` and `inner_layers`."""
        around = field_values(self.wiring)
        branch = _rescaled(_refitted(self.branch, self.wiring.inner_layers), self.wiring.init_scales)
        return {name: as_layer(branch if name == "branch" else around[name]) for name in PARTS}

    def init(self, key, width: int, depth):
        """Returns `{part: params}` of the sublayer at block `depth`: every part draws from its own key."""
        params = {}
        for name, layer in self.layers.items():
            params[name] = at_layer(layer, depth + 1).init(at(key, self.kind, name, depth), width)
        return params


def _rescaled(branch: Any, scales) -> Any:
    if not scales:
        return branch
    if "weights" not in field_values(branch):
        raise ValueError(f"the wiring scales {[n for n, _ in scales]}, but {branch!r} has no `weights` to scale")
    return dataclasses.replace(branch, weights=Scaled(branch.weights, scales))


def _refitted(branch: Any, inner_layers) -> Any:
    missing = [place for place, _ in inner_layers if place not in field_values(branch)]
    if missing:
        raise ValueError(f"the wiring sets {missing[0]!r} inside the branch, which {branch!r} does not have")
    return dataclasses.replace(branch, **dict(inner_layers)) if inner_layers else branch


@registered
@dataclass(frozen=True)
class Segment:
    """`block`, a tuple of sublayers of different kinds, `repeats` times; `fixed` where that is so at any depth of the stack."""

    block: tuple[Sublayer, ...]
    repeats: int
    fixed: bool = False

    def __post_init__(self):
        kinds = [sub.kind for sub in self.block]
        whole("depth", self.repeats)
        if len(set(kinds)) != len(kinds) or not kinds:
            raise ValueError(f"the sublayers of a block need different kinds, not {kinds}")


def runs(blocks: Iterable[tuple[Sublayer, ...]]) -> "Stack":
    """Returns the stack of these blocks, from the bottom up, a segment for every run of blocks that are alike."""
    return Stack(tuple(Segment(block, len(list(run))) for block, run in groupby(blocks)))


@registered
@dataclass(frozen=True)
class Stack:
    """Blocks of residual sublayers in depth order, and how their stream is entered and left.

    Parameters of a stack are a tuple, for each segment `{kind: {part: params}}` with every leaf stacked over its repeats.
    `walk(stack, params, x, visit)` goes through it from the bottom up. Its first wiring says how the stream is entered, its last
    one how it is left.
    """

    segments: tuple[Segment, ...]

    def __post_init__(self):
        if not self.segments:
            raise ValueError("a stack needs at least one segment")

    def __add__(self, above: "Stack") -> "Stack":
        """Returns this stack with `above` on top of it."""
        return Stack((*self.segments, *above.segments))

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return sum(segment.repeats for segment in self.segments)

    @property
    def size(self) -> int:
        """Number S of sublayers."""
        return sum(segment.repeats * len(segment.block) for segment in self.segments)

    @cached_property
    def resolved(self) -> tuple[Segment, ...]:
        """The segments with every number that depends on the depth filled in: what `walk` goes through."""
        return resolved(self.segments, self.depth)

    @cached_property
    def different(self) -> tuple[Sublayer, ...]:
        """The sublayers of every segment's block, each once."""
        return tuple(sub for segment in self.resolved for sub in segment.block)

    @cached_property
    def sublayers(self) -> tuple[Sublayer, ...]:
        """All sublayers in depth order."""
        return tuple(self.in_depth_order(self.different))

    @property
    def layer_numbers(self) -> list[int]:
        """The number of the block that each sublayer lies in, from 1."""
        number, numbers = 0, []
        for segment in self.resolved:
            for _ in range(segment.repeats):
                number += 1
                numbers += [number] * len(segment.block)
        return numbers

    def in_depth_order(self, entries: Sequence) -> list:
        """Returns the entry of each sublayer in depth order, from one for each of the `different` ones."""
        left, ordered = iter(entries), []
        for segment in self.resolved:
            block = [next(left) for _ in segment.block]
            ordered += block * segment.repeats
        return ordered

    @property
    def entrance(self) -> Layer:
        """The layer between the embedding and the bottom of the stream."""
        return as_layer(self.different[0].wiring.enter)

    @property
    def exit(self) -> Layer:
        """The layer between the top of the stream and what is read out: the final norm, where the wiring has one."""
        return as_layer(self.different[-1].wiring.leave)

    def at_depth(self, depth: int) -> "Stack":
        """Returns a stack of `depth` blocks; segments keep their shares of it, or their blocks; one without any is left out."""
        repeats = [segment.repeats for segment in self.segments]
        fixed = [segment.repeats if segment.fixed else None for segment in self.segments]
        counts = shared_out(depth, repeats, fixed)
        pairs = zip(self.segments, counts, strict=True)
        return Stack(tuple(dataclasses.replace(segment, repeats=count) for segment, count in pairs if count))

    def as_computed(self) -> "Stack":
        """Returns the stack, of the same parameters, without backward rules of its layers' own."""
        return Stack(replaced(self.segments, Layer, methodcaller("as_computed")))

    # ---- parameters

    def init(self, key, width: int) -> dict:
        """Returns `{"enter", "stack", "leave"}`: the parameters of the stack, and of how its stream is entered and left."""
        return {
            "enter": self.entrance.init(at(key, "enter"), width),
            "stack": self.init_sublayers(at(key, "stack"), width),
            "leave": self.exit.init(at(key, "leave"), width),
        }

    def init_sublayers(self, key, width: int) -> tuple:
        """Returns the sublayers' parameters, stacked over each segment's repeats; block l of the whole draws at depth l."""
        params, start = [], 0
        for segment in self.resolved:
            params.append(
                jax.vmap(partial(_init_block, segment.block, key, width))(start + jnp.arange(segment.repeats))
            )
            start += segment.repeats
        return tuple(params)

    def with_params(self, params) -> Iterator[tuple[Sublayer, Any, int]]:
        """Yields each of the `different` sublayers with its parameters, stacked over its repeats, and how many these are."""
        for segment, of_segment in zip(self.resolved, params, strict=True):
            for sub in segment.block:
                yield sub, of_segment[sub.kind], segment.repeats

    def structured(self, entries: Sequence) -> tuple:
        """Returns one entry for each of the `different` sublayers in the structure of the parameters."""
        left = iter(entries)
        segments = []
        for segment in self.resolved:
            kinds = [sub.kind for sub in segment.block]
            segments.append({kind: next(left) for kind in kinds})
        return tuple(segments)

    def parts_at(self, params, position: int) -> dict[str, Part]:
        """Returns the seven parts of the sublayer at `position` (0 … S − 1; negative from the top), with its parameters."""
        places = []
        for segment, of_segment in zip(self.resolved, params, strict=True):
            for repeat in range(segment.repeats):
                places += [(repeat, of_segment[sub.kind]) for sub in segment.block]
        repeat, stacked = places[position]
        number = self.layer_numbers[position]
        layers = {name: at_layer(layer, number) for name, layer in self.sublayers[position].layers.items()}
        return bind(layers, jax.tree.map(lambda leaf: leaf[repeat], stacked))

    def with_context(self, params: dict, context: Mapping[str, Any]) -> dict:
        """Returns `{"enter", "stack", "leave"}` with what enters from outside beside the parameters of layers that ask for it.

        Nothing of it is trained.
        """
        inside = []
        for sub, of_sublayer, repeats in self.with_params(params["stack"]):
            asking = {}
            for part, layer in sub.layers.items():
                asking[part] = _with_context(layer, of_sublayer[part], context, repeats)
            inside.append(asking)
        ends = {}
        for name, layer in (("enter", self.entrance), ("leave", self.exit)):
            ends[name] = _with_context(layer, params[name], context)
        return {**params, **ends, "stack": self.structured(inside)}

    # ---- both ends

    def enter(self, params, x):
        """Returns the bottom of the stream from rows of the embedding; `params` are those under "enter"."""
        return self.entrance(in_precision_of(x, params), x)

    def leave(self, params, x):
        """Returns what is read out, from the top of the stream; `params` are those under "leave"."""
        return self.exit(in_precision_of(x, params), x)


def _with_context(layer: Layer, params, context: Mapping[str, Any], repeats: int | None = None):
    """Returns the parameters of a layer with what it asks for, once for each of its repeats."""
    asked = {name: context[name] for name in layer.asks if name in context}
    if repeats is not None:
        asked = {name: jnp.broadcast_to(value, (repeats, *jnp.shape(value))) for name, value in asked.items()}
    return {**params, **asked} if asked else params


def _init_block(block: tuple[Sublayer, ...], key, width: int, depth) -> dict:
    return {sub.kind: sub.init(key, width, depth) for sub in block}


def check_scales(stack: Stack, width: int) -> None:
    """Refuses a scale of a matrix that no branch has: neither one in the stack, nor one that wirings of the field scale.

    One wiring stands around branches of several kinds, so it may name what only some of them have.
    """
    scales: dict[str, Any] = {}
    for sub in stack.different:
        scales.update(sub.wiring.init_scales)
    for name, factor in scales.items():
        if not isinstance(factor, OfDepth):
            real(f"the scale of {name}", factor, least=0)
    strange = sorted(scales.keys() - {*THROUGH, "query", "key"})
    if strange and all(isinstance(sub.branch, Branch) for sub in stack.different):
        matrices: set[str] = set()
        for sub in stack.different:
            matrices |= jax.eval_shape(partial(sub.branch.init, width=width), jax.random.key(0)).keys()
        known("matrix, whose initialization is to be scaled:", strange[0], sorted(matrices))


def plain(layer: Any, depth: int, kind: str = "function") -> Stack:
    """Returns a stack of `depth` times a pure function `(params, x) -> x`: equation (1) without a skip, the function its branch.

    Its parameters, stacked over depth, go where `walk` looks for them with `plain_params`.
    """
    return Stack((Segment((Sublayer(kind, PLAIN, layer),), depth),))


def plain_params(stacked, kind: str = "function"):
    """Returns the parameters of `plain(layer, depth)` from the function's own, stacked over depth."""
    return ({kind: {name: stacked if name == "branch" else {} for name in PARTS}},)
