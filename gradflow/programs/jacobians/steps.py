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

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from ...instruments.meters.visits import at_bottom, first
from ...model.equation.sublayer import PARTS, walk
from ...model.layers.layer import FEATURES, Identity, Layer
from ...model.numerics.precision import wide
from ...model.stacks.stack import Segment, Stack
from ...model.stacks.stack import Sublayer as Instance
from ...model.wirings.wiring import Wiring
from ..trace.graph import Value
from ..trace.pieces import Piece, between
from ..trunk.positions import top
from ..trunk.trunk import Trunk
from .examples import Batch, OneExample, axis_of_examples, one_example, values_of
from .held import Held, HeldNorm, traits
from .layout import Layout, layout
from .sublayers import Placed, Sublayer, at_turn, context_values, runs, sublayers

FACTORS = ("norm_out", "fork", "sublayer")


# ---- the model ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ProgramStack:
    """A trunk of a program for one example, as a `Model`: its parameters are the program's, an example's inputs its batch."""

    program: Any = field(repr=False)
    trunk: Trunk = field(repr=False)
    batch: Batch = field(repr=False)
    layouts: dict[Value, Layout] = field(repr=False)
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
        """Returns the bottom of the stream, in the widest precision that the stream has anywhere."""
        first = self.sublayers[0]
        x = at_turn(first.fork.below, first.turn, self.held(params, inputs))
        dtype = jnp.result_type(*[value.aval.dtype for value in self.layouts])
        return self.layouts[first.fork.below].of_example(x).astype(wide(dtype))

    def with_context(self, params, inputs) -> dict:
        """Returns what sublayers and the rest take from the forward pass, stacked as `walk` reads it."""
        held = self.held(params, inputs)
        segments = []
        for segment, turns in _turns(self.stack):
            stacked = {}
            for instance, rows in zip(segment.block, turns, strict=True):
                contexts = [contexts_of(sublayer, held) for sublayer in self.sublayers[rows]]
                stacked[instance.kind] = jax.tree.map(lambda *arrays: jnp.stack(arrays), *contexts)
            segments.append(stacked)
        return {"stack": tuple(segments), "rest": Placed(self.rest, ()).context(held)}

    def leave(self, params, x):
        """Returns the top of the stream: what is read out of it belongs to the loss."""
        return x

    def loss(self, params, out, targets):
        """Returns the program's loss of a batch of this example alone."""
        return self.rest(params["rest"], self.layouts[self.rest.below].in_program(out, self.rest.below))


def _turns(stack: Stack) -> Iterator[tuple[Segment, list[slice]]]:
    """Yields the segments, and for each instance of a segment's block where its turns are among all sublayers."""
    start = 0
    for segment in stack.segments:
        block = len(segment.block)
        above = start + block * segment.repeats
        yield segment, [slice(place, above, block) for place in range(start, start + block)]
        start = above


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
    for trunk, whole in zip(one.trunks, one.whole, strict=True):
        model = _model(one, trunk, whole, batch)
        models.append(_with_traits(model, params, examples))
    return tuple(models), examples


def _model(one: OneExample, trunk: Trunk, whole: Trunk, batch) -> ProgramStack:
    """Returns a trunk as a model of which nothing is known but its parts."""
    found = sublayers(trunk)
    layouts = _layouts(trunk, whole, found, batch)
    positions = [sublayer.fork.below for sublayer in found]
    shapes = dict.fromkeys(layouts[position].stream for position in (*positions, top(trunk)))
    if len(shapes) > 1:
        raise ValueError(
            f"the stream changes its shape, {' to '.join(map(str, shapes))}: Jacobians are of one that keeps it"
        )
    segments = []
    for start, block, repeats in runs(found):
        own = found[start : start + block]
        instances = []
        for kind, sublayer in zip(_kinds(own), own, strict=True):
            instances.append(_instance(kind, sublayer, layouts))
        segments.append(Segment(tuple(instances), repeats))
    return ProgramStack(one.program, trunk, one.batch, layouts, Stack(tuple(segments)), tuple(found))


def _layouts(trunk: Trunk, whole: Trunk, found: list[Sublayer], batch) -> dict[Value, Layout]:
    """Returns the layouts of the stream at both ends of every piece, and at the top."""
    pairs = {top(trunk): top(whole)}
    for sublayer, of_whole in zip(found, sublayers(whole), strict=True):
        for piece, piece_of_whole in zip(sublayer.pieces, of_whole.pieces, strict=True):
            pairs[piece.below] = piece_of_whole.below
            pairs[piece.above] = piece_of_whole.above
    layouts = {}
    for value, value_of_whole in pairs.items():
        layouts[value] = layout(value.shape, axis_of_examples(value_of_whole, value), batch)
    return layouts


def _kinds(block: list[Sublayer]) -> list[str]:
    """Returns the lines of the sublayers of a block, numbered where they are the same."""
    kinds: list[str] = []
    for sublayer in block:
        line = str(sublayer.fork.line)
        others = sum(kind.split(" ")[0] == line for kind in kinds)
        kinds.append(f"{line} ({others + 1})" if others else line)
    return kinds


def _instance(kind: str, sublayer: Sublayer, layouts: dict[Value, Layout]) -> Instance:
    """Returns a sublayer as an instance of equation (1)."""
    layers: dict[str, Layer] = {}
    for name, part in sublayer.parts.items():
        layers[name] = Identity()
        if part:
            pieces = tuple(placed.piece for placed in part)
            layers[name] = Held(pieces, layouts[pieces[0].below], layouts[pieces[-1].above])
    wiring = Wiring("program", skip=layers["skip"], norm_out=layers["norm_out"])
    return Instance(kind, wiring, layers["branch"])


def _with_traits(model: ProgramStack, params, examples) -> ProgramStack:
    """Returns the model with what its parts do: read in the first example, of all sublayers."""

    def read(params, inputs):
        used, bottom = at_bottom(model, params, inputs)
        _, reports = walk(model.stack, used["stack"], bottom, traits)
        return reports

    reports = jax.device_get(jax.jit(read)(params, first(examples["inputs"])))
    segments = []
    for segment, turns in _turns(model.stack):
        instances = []
        for instance, rows in zip(segment.block, turns, strict=True):
            at_turns = jax.tree.map(operator.itemgetter(rows), reports)
            instances.append(_seen(instance, at_turns))
        segments.append(replace(segment, block=tuple(instances)))
    return replace(model, stack=Stack(tuple(segments)))


def _seen(instance: Instance, reports) -> Instance:
    """Returns a sublayer with what its parts do at all of its turns."""
    coupling, (is_layer_norm, is_rms_norm) = reports
    layers = {"branch": instance.branch, "skip": instance.wiring.skip, "norm_out": instance.wiring.norm_out}
    for name, layer in layers.items():
        if isinstance(layer, Held) and not coupling[name].any():
            layers[name] = replace(layer, couples=FEATURES)
    norm = layers["norm_out"]
    if isinstance(norm, Held) and (is_layer_norm.all() or is_rms_norm.all()):
        layers["norm_out"] = HeldNorm(norm.pieces, norm.below, norm.above, norm.couples, bool(is_layer_norm.all()))
    wiring = replace(instance.wiring, skip=layers["skip"], norm_out=layers["norm_out"])
    return Instance(instance.kind, wiring, layers["branch"])
