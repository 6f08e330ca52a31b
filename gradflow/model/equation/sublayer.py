"""Equation (1), written once, and one walk over depth: everything else in gradflow is a reading of these.

    x' = norm_out( skip(x) + write( norm_branch( branch( norm_in( read(x) )))))                          (1)

with `skip` = A, `read` = C and `write` = B the gains, and `branch` = F attention or a feed-forward network.
The seven are *parts*: callables of one argument. A gain that reads the stream, A(x), B(x) or C(x), is bound at x first
(`bind_dynamic_gains`), so that it is one too. Three kinds of thing go through the same function:

- arrays: the forward pass;
- linear maps: each part replaced by what it is, to first order, at the point where (1) calls it (`linearized`);
  the skip term and the branch term of `J dx` are then (1) with `write` or `skip` put to zero, and what gains that read the
  stream add goes where the skip does (`terms`);
- token Gram matrices, for the theory.

An *instrument* decorates a part; a *visit* is what is done at one sublayer. Equation (1) hears of neither.

Axes: x is [tokens, features], or [lanes, tokens, features] where the stream has several lanes; S sublayers.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ..contracts import Contextual
from ..numerics.precision import in_precision_of
from ..parameters.depth import at_layer

Part = Callable[[Any], Any]
Parts = Mapping[str, Part]
PARTS = ("skip", "read", "norm_in", "branch", "norm_branch", "write", "norm_out")
STREAM_ALONE = jax.checkpoint_policies.nothing_saveable  # between the passes


def products(primitive, *operands, **how) -> bool:
    """Returns whether a result is kept for the backward pass: products with weights; on the CPU those no wider than their input.

    The rest (norms, activations, scores, a hidden layer) is computed again, which takes less time than to write it down and
    read it back, and a quarter of the memory. A policy of `jax.checkpoint`.
    """
    if not jax.checkpoint_policies.dots_with_no_batch_dims_saveable(primitive, *operands, **how):
        return False
    (_, contracted), _ = how["dimension_numbers"]
    weights = operands[1]
    narrow = weights.size <= math.prod(weights.shape[axis] for axis in contracted) ** 2
    return narrow or jax.default_backend() != "cpu"


def sublayer(x, *, skip, read, norm_in, branch, norm_branch, write, norm_out):
    """`x'` of equation (1). The only residual add of the project."""
    return norm_out(skip(x) + write(norm_branch(branch(norm_in(read(x))))))


def residual(x, parts: Parts):
    """Returns `x'` of (1) from the parts of a sublayer, its gains bound at `x`."""
    return sublayer(x, **bind_dynamic_gains(parts, x))


def forward(x, parts: Parts, _):
    """Visit: the forward pass, no report."""
    return residual(x, parts), None


def bind(layers: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Part]:
    """Returns the parts of (1): each layer `(params, x) -> x` with its parameters, used in the stream's precision, filled in."""
    params = resolve_shared_params(layers, params)
    return {name: layer.bound(params[name]) for name, layer in layers.items()}


@dataclass(frozen=True)
class OfStream:
    """A gain that reads the stream x: it becomes a part where x is known, `layer.at_stream(params, x)`."""

    layer: Any
    params: Any

    def at(self, x) -> Part:
        """Returns the part at `x`."""
        return self.layer.at_stream(in_precision_of(x, self.params), x)

    def __call__(self, u):
        """Refused: nothing says where the stream is."""
        raise TypeError(
            "a gain that reads the stream acts where it is known: use `residual(x, parts)` or `bind_dynamic_gains(parts, x)`"
        )


def bind_dynamic_gains(parts: Parts, x) -> Parts:
    """Returns the parts with those that read the stream bound at `x`; the parts themselves where none does."""
    dynamic = {name: part.at(x) for name, part in parts.items() if isinstance(part, OfStream)}
    return {**parts, **dynamic} if dynamic else parts


def resolve_shared_params(layers: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters of each part, which may be those of another (`Layer.params_from`)."""
    return {name: params[layer.params_from(name)] for name, layer in layers.items()}


def applied(layer, params, x):
    """Returns the layer at `x`, its weights in the precision of `x`."""
    return layer(in_precision_of(x, params), x)


def walk(stack, params, x, visit=forward, extra=None, bind=bind, kept=products):
    """Returns the stream after the last sublayer, and the visits' reports in depth order.

    Parameters
    ----------
    stack : a `Stack`, or what has its `resolved` segments
        Each with `block`, a tuple of sublayers (`kind`, `layers`), and `repeats`.
    params : tuple of `{kind: {part: params}}`
        One entry a segment; every leaf is stacked over `repeats`.
    x : array [tokens, features], or whatever the parts act on
    visit : `(x, parts, extra) -> (x', report)`
        What is done at a sublayer; every visit reports the same structure.
    extra : pytree of arrays [S, ...], optional
        What each visit gets besides, in depth order (dials, keys, probes).
    bind : `(layers, params) -> parts`
    kept : policy of `jax.checkpoint`
        What is kept for the backward pass, besides the stream between blocks.

    Returns
    -------
    x_S, and a pytree of arrays [S, ...]

    One `lax.scan` a segment, so the cost of compiling does not grow with depth. Nothing else scans over sublayers.
    """
    reports = []
    sublayers_below, blocks_below = 0, 0
    for segment, stacked in zip(stack.resolved, params, strict=True):
        kinds = len(segment.block)
        above = sublayers_below + segment.repeats * kinds
        rows = jax.tree.map(partial(_by_block, sublayers_below, above, kinds), extra)
        numbers = None
        if _varies(segment.block):
            numbers = jnp.arange(blocks_below, blocks_below + segment.repeats) + 1
        step = jax.checkpoint(partial(_block, segment.block, visit, bind), policy=kept, prevent_cse=False)
        x, report = jax.lax.scan(step, x, (stacked, rows, numbers))
        reports.append(jax.tree.map(_by_sublayer, report))
        sublayers_below = above
        blocks_below += segment.repeats
    return x, jax.tree.map(lambda *parts: jnp.concatenate(parts), *reports)


def _by_block(start: int, stop: int, kinds: int, rows):
    """Returns rows `start` … `stop` of [S, …], one a sublayer, as [blocks, kinds, …]."""
    return rows[start:stop].reshape(-1, kinds, *rows.shape[1:])


def _by_sublayer(rows):
    """Returns [blocks, kinds, …] as [S, …], one row a sublayer."""
    return rows.reshape(-1, *rows.shape[2:])


def _varies(block) -> bool:
    """Returns whether a number in a layer of the block depends on how deep it lies."""
    layers = [layer for sub in block for layer in sub.layers.values()]
    return any(at_layer(layer, 1) is not layer for layer in layers)


def _at_layer(layers: Mapping, number) -> dict:
    """Returns the layers with every number that depends on the block filled in."""
    return {name: at_layer(layer, number) for name, layer in layers.items()}


def _block(block, visit, bind, x, at_depth):
    """One step of the scan: the sublayers of a block in turn; reports stacked over them."""
    params, extra, number = at_depth
    reports = []
    for i, sub in enumerate(block):
        parts = bind(_at_layer(sub.layers, number), params[sub.kind])
        rows_of_sublayer = jax.tree.map(lambda rows, i=i: rows[i], extra)
        x, report = visit(x, parts, rows_of_sublayer)
        reports.append(report)
    return x, jax.tree.map(lambda *rows: jnp.stack(rows), *reports)


def with_context(model, params, inputs):
    """Returns the parameters as one example uses them: `model.with_context(params, inputs)` where there is one.

    What a sublayer reads besides the stream is put in the place of a parameter of its own, so that equation (1) keeps one input:
    in this way cross-attention closes over the encoder's memory. A gradient is taken with respect to `params`, outside of
    this function: it counts nothing that is given as trained, and goes on to the parameters that made it.
    """
    return model.with_context(params, inputs) if isinstance(model, Contextual) else params


def decorated(parts: Parts, instrument: Callable[[str, Part], Part]) -> dict[str, Part]:
    """Returns the parts with `instrument(name, part)` in the place of each."""
    return {name: instrument(name, part) for name, part in parts.items()}


@dataclass(frozen=True)
class WithRecords:
    """A value on its way through (1), and the records of the parts that made it, by their names."""

    value: Any
    records: dict[str, Any]

    def __add__(self, other: "WithRecords") -> "WithRecords":
        return WithRecords(jax.tree.map(jnp.add, self.value, other.value), {**self.records, **other.records})


def recorded(parts: Parts, x, at: Callable[[Part, Any], tuple[Any, Any]]):
    """Returns `x'` of (1), and `{part: record}`: `at(part, u) -> (part(u), record)` looks at each part where (1) calls it."""

    def instrument(name, part):
        def with_record(u: WithRecords) -> WithRecords:
            y, record = at(part, u.value)
            return WithRecords(y, {**u.records, name: record})

        return with_record

    done = sublayer(WithRecords(x, {}), **decorated(bind_dynamic_gains(parts, x), instrument))
    return done.value, done.records


def linearized(parts: Parts, x):
    """Returns `x'` of (1), and each part as the linear map it is at the point where (1) calls it. Cost: one forward pass."""
    return recorded(parts, x, at=jax.linearize)


def gains_map(parts: Parts, x) -> Part:
    """Returns the map from `dx` to the change of skip plus branch through gains that read the stream, the `x` they act on fixed.

    Zero where no gain reads it. Cost: one forward pass where one does.
    """
    if bind_dynamic_gains(parts, x) is parts:
        return partial(_zero_behind, parts["skip"])
    inside = {**parts, "norm_out": _same}

    def through_gains(seen):
        return sublayer(x, **bind_dynamic_gains(inside, seen))

    _, push = jax.linearize(through_gains, x)
    return push


def _zero_behind(part: Part, u):
    behind = jax.eval_shape(part, u)
    return jnp.zeros(behind.shape, behind.dtype)


def _same(u):
    return u


def _nothing(u):
    return 0


def terms(maps: Parts, gains: Part, dx):
    """Returns `(skip term, branch term, gains term)` of `J dx`, from `linearized` and `gains_map`; their sum is exactly `J dx`.

    For pre-norm `(dx, J_F J_N dx, 0)`; for post-norm `(J_N dx, J_N J_F dx, 0)`.
    """
    return (
        sublayer(dx, **{**maps, "write": _nothing}),
        sublayer(dx, **{**maps, "skip": _nothing}),
        sublayer(dx, **{**maps, "skip": gains, "write": _nothing}),
    )


def forked(parts: Parts, maps: Parts, x) -> Part:
    """Returns the map from `dx` to skip plus branch, all of `J dx` but `norm_out`: (1) on the maps.

    Where a gain reads x it is linearized as a whole.
    """
    if bind_dynamic_gains(parts, x) is parts:
        return partial(sublayer, **{**maps, "norm_out": _same})
    _, push = jax.linearize(partial(residual, parts={**parts, "norm_out": _same}), x)
    return push
