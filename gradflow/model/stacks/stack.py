"""Stacks of residual sublayers.

A stack is a tuple of segments; a segment is a block, itself a tuple of sublayers, and how often it repeats. So a stack
whose first third is post-norm, or that alternates two kinds of attention, is a tuple with more than one entry.

Axes: the stream [T, d]; parameters of a segment stacked over its repeats.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp

from ...results.arguments import known, real, shown, whole
from ...results.configuration import registered
from ..branches.branch import Branch
from ..equation.sublayer import PARTS, Part, bind
from ..layers.layer import Layer
from ..parameters.depth import OfDepth, at_layer
from ..parameters.initializers import Scaled
from ..parameters.keys import at
from ..wirings.placement import shared_out
from ..wirings.wiring import PLAIN, THROUGH, Wiring


@registered
@dataclass(frozen=True)
class Sublayer:
    """One instance of equation (1): a wiring around a branch, and the name (`kind`) results carry."""

    kind: str
    wiring: Wiring
    branch: Layer

    def __post_init__(self):
        if not callable(self.branch):
            raise ValueError(
                f"the branch {self.kind} is {shown(self.branch)}: a layer is needed, such as gf.branches.Attention()"
            )

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """The seven parts of (1); the branch with the wiring's `init_scales` and `inner_layers`."""
        parts = {name: getattr(self.wiring, name) for name in PARTS if name != "branch"}
        return {**parts, "branch": _rescaled(_refitted(self.branch, self.wiring.inner_layers), self.wiring.init_scales)}

    def init(self, key, width: int, depth):
        """`{part: params}` of the sublayer at block `depth`: every part draws from its own key."""
        where = lambda name: at(key, self.kind, name, depth)
        return {name: at_layer(layer, depth + 1).init(where(name), width) for name, layer in self.layers.items()}


def _rescaled(branch: Any, scales) -> Layer:
    if not scales:
        return branch
    if "weights" not in fields_of(branch):
        raise ValueError(f"the wiring scales {[n for n, _ in scales]}, but {branch!r} has no `weights` to scale")
    return dataclasses.replace(branch, weights=Scaled(branch.weights, scales))


def _refitted(branch: Any, within) -> Layer:
    missing = [place for place, _ in within if place not in fields_of(branch)]
    if missing:
        raise ValueError(f"the wiring sets {missing[0]!r} inside the branch, which {branch!r} does not have")
    return dataclasses.replace(branch, **dict(within)) if within else branch


def fields_of(branch) -> list[str]:
    """Names of a dataclass's fields; a function has none."""
    return [field.name for field in dataclasses.fields(branch)] if dataclasses.is_dataclass(branch) else []


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


def check_scales(stack: Sequence[Segment], width: int) -> None:
    """Refuses a scale of a matrix that no branch has: neither one in the stack, nor one that wirings of the field scale.

    One wiring stands around branches of several kinds, so it may name what only some of them have.
    """
    subs = [sub for segment in stack for sub in segment.block]
    scales = {name: factor for sub in subs for name, factor in sub.wiring.init_scales}
    for name, factor in scales.items():
        if not isinstance(factor, OfDepth):
            real(f"the scale of {name}", factor, least=0)
    strange = sorted(scales.keys() - {*THROUGH, "query", "key"})
    if strange and all(isinstance(sub.branch, Branch) for sub in subs):
        drawn = [jax.eval_shape(partial(sub.branch.init, width=width), jax.random.key(0)) for sub in subs]
        own = sorted({name for params in drawn for name in params})
        known("matrix, whose initialization is to be scaled:", strange[0], own)


def of_depth(stack: Sequence[Segment], depth: int) -> tuple[Segment, ...]:
    """A stack of `depth` blocks; segments keep their shares of it, or their blocks; one without any is left out."""
    repeats = [segment.repeats for segment in stack]
    fixed = [segment.repeats if segment.fixed else None for segment in stack]
    pairs = zip(stack, shared_out(depth, repeats, fixed), strict=True)
    return tuple(dataclasses.replace(segment, repeats=count) for segment, count in pairs if count)


def init_within(segments, key, width: int) -> dict:
    """`{"enter", "stack", "leave"}`: the parameters of a stack, and of how its stream is entered and left."""
    first, last = segments[0].block[0].wiring, segments[-1].block[-1].wiring
    return {
        "enter": first.enter.init(at(key, "enter"), width),
        "stack": init_stack(segments, at(key, "stack"), width),
        "leave": last.leave.init(at(key, "leave"), width),
    }


def init_stack(segments, key, width: int):
    """Parameters of a stack, stacked over each segment's repeats; block l of the whole stack draws at depth l."""
    params, start = [], 0
    for segment in segments:
        block = lambda depth, seg=segment: {sub.kind: sub.init(key, width, depth) for sub in seg.block}
        params.append(jax.vmap(block)(jnp.arange(start, start + segment.repeats)))
        start += segment.repeats
    return tuple(params)


def parts_at(segments, params, position: int) -> dict[str, Part]:
    """The seven parts of the sublayer at `position` (0 … S − 1; negative from the top), their parameters filled in."""
    blocks = [(i, n) for i, segment in enumerate(segments) for n in range(segment.repeats)]
    places = [(l, *where, sub) for l, where in enumerate(blocks, 1) for sub in segments[where[0]].block]
    number, segment, repeat, sub = places[position]
    layers = {name: at_layer(layer, number) for name, layer in sub.layers.items()}
    return bind(layers, jax.tree.map(lambda a: a[repeat], params[segment][sub.kind]))


def plain(layer: Any, depth: int, kind: str = "function") -> tuple[Segment, ...]:
    """A stack of `depth` times a pure function `(params, x) -> x`: equation (1) without a skip, the function its branch.

    Its parameters, stacked over depth, go where `walk` looks for them with `plain_params`.
    """
    return (Segment((Sublayer(kind, PLAIN, layer),), depth),)


def plain_params(stacked, kind: str = "function"):
    """Parameters of `plain(layer, depth)` from the function's own, stacked over depth."""
    return ({kind: {name: stacked if name == "branch" else {} for name in PARTS}},)
