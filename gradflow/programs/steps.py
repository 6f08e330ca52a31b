"""A program's sublayers as a stack, so that every instrument of Jacobians takes them as they are.

    (of, *_), examples = stacks(loss_fn, params, batch)         one model a trunk, and the batch as instruments read it
    chain.lyapunov(of, params, examples)

A sublayer is a function of one array, from one position of the stream to the next; everything that it has no part in is held as
it was in the forward pass. Instruments are for one example: so the program is traced again for a batch of one, which has to make
the stream that it makes of the whole batch (`examples`), and runs for each example as an instrument asks for it.

Of the parts of equation (1) a program shows three: skip, branch (with its norms and gains), and what stands on the trunk after
the sum, `norm_out`. So `FACTORS` are those of the wiring; the others are not told apart. A program that rounds to 16 bits is
differentiated as it is written: its Jacobians have the precision of its numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from ..instruments.meters.visits import at_bottom, first
from ..model.equation.sublayer import PARTS, walk
from ..model.layers.layer import FEATURES, Identity, Layer
from ..model.stacks.stack import Segment, Stack
from ..model.stacks.stack import Sublayer as Instance
from ..model.wirings.wiring import Wiring
from .examples import Batch, OneExample, one_example, values_of
from .held import Held, HeldNorm, Traits, traits_of_parts
from .layout import Layout, layout
from .pieces import Piece, between
from .positions import top
from .sublayers import Sublayer, at_turn, context_values, runs, sublayers
from .trunk import Trunk

FACTORS = ("norm_out", "fork", "sublayer")


# ---- the model ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ProgramStack:
    """A trunk of a program for one example, as a `Model`: its parameters are the program's, an example's inputs its batch."""

    program: Any = field(repr=False)
    trunk: Trunk = field(repr=False)
    batch: Batch = field(repr=False)
    layout: Layout
    stack: Stack = field(repr=False)
    sublayers: tuple[Sublayer, ...] = field(repr=False)

    @cached_property
    def rest(self) -> Piece:
        """The program from the top of the stream to the loss."""
        return between(self.trunk.graph, top(self.trunk), self.trunk.graph.outputs[0])

    @cached_property
    def held(self) -> Callable:
        """`held(params, inputs)`: the values of the forward pass that sublayers and the rest take, loops' turns in front."""
        pieces = [self.rest]
        for sublayer in self.sublayers:
            pieces += sublayer.pieces
        first = pieces[1]
        values = {**context_values(pieces), first.below: first.graph}

        def arrays(params, inputs):
            return values_of(self.program, values, params, self.batch.of_one(inputs))

        compiled = jax.jit(arrays)

        def held(params, inputs) -> dict:
            return dict(zip(values, compiled(params, inputs), strict=True))

        return held

    def enter(self, params, inputs):
        """Returns the bottom of the stream."""
        first = self.sublayers[0]
        return self.layout.of_example(at_turn(first.fork.below, first.turn, self.held(params, inputs)))

    def with_context(self, params, inputs) -> dict:
        """Returns what sublayers and the rest take from the forward pass, stacked as `walk` reads it."""
        held = self.held(params, inputs)
        segments = []
        start = 0
        for segment in self.stack.segments:
            block = len(segment.block)
            above = start + block * segment.repeats
            stacked = {}
            for place, instance in enumerate(segment.block):
                contexts = [contexts_of(sublayer, held) for sublayer in self.sublayers[start + place : above : block]]
                stacked[instance.kind] = jax.tree.map(lambda *arrays: jnp.stack(arrays), *contexts)
            segments.append(stacked)
            start = above
        rest = tuple(at_turn(value, (), held) for value in self.rest.context)
        return {"stack": tuple(segments), "rest": rest}

    def leave(self, params, x):
        """Returns the top of the stream: what is read out of it belongs to the loss."""
        return x

    def loss(self, params, out, targets):
        """Returns the program's loss of a batch of this example alone."""
        return self.rest(params["rest"], self.layout.in_program(out, self.rest.below))


def contexts_of(sublayer: Sublayer, held: dict) -> dict:
    """Returns the contexts of the parts of equation (1), of one sublayer."""
    contexts: dict[str, tuple] = dict.fromkeys(PARTS, ())
    for name, part in sublayer.parts.items():
        contexts[name] = tuple(placed.context(held) for placed in part)
    return contexts


# ---- from a program -------------------------------------------------------------------------------------------


def stacks(loss_fn, params, batch) -> tuple[tuple[ProgramStack, ...], dict]:
    """Returns the trunks of a loss as models, in the order in which they run, and the batch as their instruments read it.

    The arrays of `batch` have examples in front: all those that are as long as the first of them.
    What a part does (does it couple tokens, is it a norm) is seen in the first example of this batch, with these parameters.

    Cost: two forward passes of the program, compiled for the batch and for one example, and some pushes through each sublayer.
    Errors: ValueError, one line, where examples interact or the stream changes its shape; `NoTrunk` where there is none.
    """
    one = one_example(loss_fn, params, batch)
    examples = one.batch.whole(batch)
    models = []
    for trunk, axis in zip(one.trunks, one.axes, strict=True):
        model = _model(one, trunk, axis, batch)
        models.append(_with_traits(model, params, examples))
    return tuple(models), examples


def _model(one: OneExample, trunk: Trunk, axis: int | None, batch) -> ProgramStack:
    """Returns a trunk as a model of which nothing is known but its parts."""
    found = sublayers(trunk)
    shapes = dict.fromkeys(sublayer.fork.below.shape for sublayer in found) | dict.fromkeys([top(trunk).shape])
    if len(shapes) > 1:
        raise ValueError(
            f"the stream changes its shape, {' to '.join(map(str, shapes))}: Jacobians are of one that keeps it"
        )
    of_stream = layout(found[0].fork.below.shape, axis, batch)
    segments = []
    for start, block, repeats in runs(found):
        kinds = _kinds(found[start : start + block])
        instances = []
        for kind, sublayer in zip(kinds, found[start : start + block], strict=True):
            instances.append(_instance(kind, sublayer, of_stream))
        segments.append(Segment(tuple(instances), repeats))
    return ProgramStack(one.program, trunk, one.batch, of_stream, Stack(tuple(segments)), tuple(found))


def _kinds(block: list[Sublayer]) -> list[str]:
    """Returns the lines of the sublayers of a block, numbered where they are the same."""
    kinds: list[str] = []
    for sublayer in block:
        line = str(sublayer.fork.line)
        others = sum(kind.split(" ")[0] == line for kind in kinds)
        kinds.append(f"{line} ({others + 1})" if others else line)
    return kinds


def _instance(kind: str, sublayer: Sublayer, of_stream: Layout) -> Instance:
    """Returns a sublayer as an instance of equation (1)."""
    layers: dict[str, Layer] = {}
    for name, part in sublayer.parts.items():
        layers[name] = Held(tuple(placed.piece for placed in part), of_stream) if part else Identity()
    wiring = Wiring("program", skip=layers["skip"], norm_out=layers["norm_out"])
    return Instance(kind, wiring, layers["branch"])


def _with_traits(model: ProgramStack, params, examples) -> ProgramStack:
    """Returns the model with what its parts do: read in the first example, of all sublayers."""

    def read(params, inputs):
        used, bottom = at_bottom(model, params, inputs)
        _, reports = walk(model.stack, used["stack"], bottom, traits_of_parts)
        return reports

    reports = jax.device_get(jax.jit(read)(params, first(examples["inputs"])))
    segments = []
    start = 0
    for segment in model.stack.segments:
        block = len(segment.block)
        above = start + block * segment.repeats
        instances = []
        for place, instance in enumerate(segment.block):
            at_turns = jax.tree.map(lambda a, rows=slice(start + place, above, block): a[rows], reports)
            instances.append(_seen(instance, at_turns))
        segments.append(replace(segment, block=tuple(instances)))
        start = above
    return replace(model, stack=Stack(tuple(segments)))


def _seen(instance: Instance, reports: dict) -> Instance:
    """Returns a sublayer with what its parts do at all of its turns."""
    skip = _layer(instance.wiring.skip, reports["skip"])
    norm_out = _layer(instance.wiring.norm_out, reports["norm_out"])
    branch = _layer(instance.branch, reports["branch"])
    return Instance(instance.kind, replace(instance.wiring, skip=skip, norm_out=norm_out), branch)


def _layer(layer: Layer, seen: Traits) -> Layer:
    """Returns a part that is known to couple no tokens, or to be a norm, where it is."""
    if not isinstance(layer, Held) or seen.couples_tokens.any():
        return layer
    if seen.is_layer_norm.all() or seen.is_rms_norm.all():
        return HeldNorm(layer.pieces, layer.layout, FEATURES, bool(seen.is_layer_norm.all()))
    return replace(layer, couples=FEATURES)
