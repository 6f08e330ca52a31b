"""The profiling pass: numbers of a wiring that are read from the stack's own forward pass before it is used (Admin).

ω_1² = 1,    ω_i² = 1 + Σ_{j<i} Var f_j,    f_j what sublayer j adds to its skip at ω = 1              (Liu et al. 2020, eq. 6)
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from ..equation.sublayer import recorded, walk
from ..inputs.batch import the_batch
from ..inputs.context import real_tokens
from ..numerics.precision import wide
from ..numerics.settings import usual_settings
from ..parameters.depth import Profiled, replaced
from ..parameters.keys import at, root
from .stack import Stack
from .transformer import Transformer


@usual_settings()
def profiled(models: Mapping, data, key=0) -> dict:
    """Returns the models with every number to profile filled in, from the weights of the first seed of `key` on its first batch.

    A model without such a number, or with as many as it has blocks, stays as it is. Cost: one forward pass.
    """
    waiting = [name for name, model in models.items() if _waits(model)]
    filled = dict(models)
    if not waiting:
        return filled
    batch = the_batch(data, models, key)
    first = at(root(key), "seed", 0)
    for name in waiting:
        filled[name] = _filled(models[name], batch, first)
    return filled


def _waits(model) -> bool:
    """Returns whether a number of the model was not profiled, or at another depth."""
    lengths: list[int] = []

    def seen(number):
        lengths.append(len(number.values))
        return number

    if isinstance(model, Transformer):
        replaced(model.stack, Profiled, seen)
    return any(length != model.depth for length in lengths)


def _filled(model: Transformer, batch, key) -> Transformer:
    """Returns the model with ω of each sublayer, from its own forward pass at ω = 1."""
    start = dataclasses.replace(model, stack=replaced(model.stack, Profiled, lambda number: Profiled()))
    added = np.asarray(jax.jit(_variances, static_argnums=0)(start, start.init(key), batch), float)
    omega = np.sqrt(1 + np.concatenate([[0.0], np.cumsum(added)[:-1]]))
    segments, position, below = [], 0, 0
    for segment in start.stack.segments:
        above, kinds = below + segment.repeats, len(segment.block)
        in_segment = omega[position : position + segment.repeats * kinds].reshape(segment.repeats, kinds)
        block = []
        for sub, of_sublayer in zip(segment.block, in_segment.T, strict=True):
            by_layer = np.ones(model.depth)
            by_layer[below:above] = of_sublayer
            profile = Profiled(tuple(by_layer.tolist()))
            block.append(replaced(sub, Profiled, lambda _, profile=profile: profile))
        segments.append(dataclasses.replace(segment, block=tuple(block)))
        position, below = position + in_segment.size, above
    return dataclasses.replace(start, stack=Stack(tuple(segments)))


def _variances(model: Transformer, params, batch):
    """Returns `Var f_j` [S] over real tokens and features, mean over examples."""

    def one(inputs):
        real = real_tokens(inputs)
        counted = None if real is None else real[:, None]

        def visit(x, parts, _):
            x, seen = recorded(parts, x, at=lambda part, u: (y := part(u), y))
            return x, jnp.var(seen["write"].astype(wide(x.dtype)), where=counted)

        used = model.with_context(params, inputs)
        return walk(model.stack, used["stack"], model.enter(used, inputs), visit)[1]

    return jax.vmap(one)(batch["inputs"]).mean(0)
