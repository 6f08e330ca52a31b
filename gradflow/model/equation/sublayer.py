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
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from ..numerics.precision import in_precision_of
from ..parameters.depth import at_layer

Part = Callable[[Any], Any]
Parts = Mapping[str, Part]
PARTS = ("skip", "read", "norm_in", "branch", "norm_branch", "write", "norm_out")
STREAM_ALONE = jax.checkpoint_policies.nothing_saveable  # between the passes


def products(primitive, *operands, **how) -> bool:
    """What the forward pass keeps for the backward pass: products with weights; on the CPU those no wider than their input.

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
    """`x'` of (1) from the parts of a sublayer, its gains bound at `x`."""
    return sublayer(x, **bind_dynamic_gains(parts, x))


def forward(x, parts: Parts, _):
    """Visit: the forward pass, no report."""
    return residual(x, parts), None


def bind(layers: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Part]:
    """Each layer `(params, x) -> x` with its parameters filled in: a part. Weights are used in the stream's precision."""
    params = resolve_shared_params(layers, params)
    return {name: layer.bound(params[name]) for name, layer in layers.items()}


@dataclass(frozen=True)
class OfStream:
    """A gain that reads the stream x: it becomes a part where x is known, `layer.at_stream(params, x)`."""

    layer: Any
    params: Any

    def at(self, x) -> Part:
        """The part at `x`."""
        return self.layer.at_stream(in_precision_of(x, self.params), x)

    def __call__(self, u):
        """Refused: nothing says where the stream is."""
        raise TypeError(
            "a gain that reads the stream acts where it is known: use `residual(x, parts)` or `bind_dynamic_gains(parts, x)`"
        )


def bind_dynamic_gains(parts: Parts, x) -> Parts:
    """The parts, those that read the stream bound at `x`."""
    if not any(isinstance(part, OfStream) for part in parts.values()):
        return parts
    return {name: part.at(x) if isinstance(part, OfStream) else part for name, part in parts.items()}


def resolve_shared_params(layers: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters of each part, which may be those of another (`Layer.params_from`)."""
    return {name: params[layer.params_from(name)] for name, layer in layers.items()}


def applied(layer, params, x):
    """Returns the layer at `x`, its weights in the precision of `x`."""
    return layer(in_precision_of(x, params), x)


def walk(stack, params, x, visit=forward, extra=None, bind=bind, kept=products):
    """Stream after the last sublayer, and the visits' reports in depth order.

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
    reports, start, below = [], 0, 0
    for segment, stacked in zip(stack.resolved, params, strict=True):
        kinds = len(segment.block)
        here = slice(start, start + segment.repeats * kinds)
        rows = jax.tree.map(lambda a, s=here, k=kinds: a[s].reshape(-1, k, *a.shape[1:]), extra)
        step = jax.checkpoint(partial(_block, segment.block, visit, bind), policy=kept, prevent_cse=False)
        numbers = jnp.arange(below, below + segment.repeats) + 1 if _varies(segment.block) else None
        x, report = jax.lax.scan(step, x, (stacked, rows, numbers))
        reports.append(jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), report))
        start, below = here.stop, below + segment.repeats
    return x, jax.tree.map(lambda *parts: jnp.concatenate(parts), *reports)


def _varies(block) -> bool:
    """Whether a number in a layer of the block depends on how deep it lies."""
    return any(at_layer(layer, 1) is not layer for sub in block for layer in sub.layers.values())


def _block(block, visit, bind, x, at_depth):
    """One step of the scan: the sublayers of a block in turn; reports stacked over them."""
    params, extra, number = at_depth
    reports = []
    for i, sub in enumerate(block):
        layers = {name: at_layer(layer, number) for name, layer in sub.layers.items()}
        parts = bind(layers, params[sub.kind])
        x, report = visit(x, parts, jax.tree.map(lambda a, i=i: a[i], extra))
        reports.append(report)
    return x, jax.tree.map(lambda *r: jnp.stack(r), *reports)


@runtime_checkable
class Contextual(Protocol):
    """A model whose sublayers read more than the stream."""

    def with_context(self, params, inputs) -> Any:
        """Returns the parameters with what is read besides the stream in the places of parameters."""
        ...


def with_context(model, params, inputs):
    """Returns the parameters as one example uses them: `model.with_context(params, inputs)` where there is one.

    What a sublayer reads besides the stream is put in the place of a parameter of its own, so that equation (1) keeps one input:
    in this way cross-attention closes over the encoder's memory. A gradient is taken with respect to `params`, outside of
    this function: it counts nothing that is given as trained, and goes on to the parameters that made it.
    """
    return model.with_context(params, inputs) if isinstance(model, Contextual) else params


def decorated(parts: Parts, instrument: Callable[[str, Part], Part]) -> dict[str, Part]:
    """The parts with `instrument(name, part)` in the place of each."""
    return {name: instrument(name, part) for name, part in parts.items()}


def recorded(parts: Parts, x, at: Callable[[Part, Any], tuple[Any, Any]]):
    """`x'` of (1), and `{part: record}` where `at(part, u) -> (part(u), record)` looks at each part where (1) calls it."""
    records: dict[str, Any] = {}

    def instrument(name, part):
        def call(u):
            y, records[name] = at(part, u)
            return y

        return call

    return sublayer(x, **decorated(bind_dynamic_gains(parts, x), instrument)), records


def linearized(parts: Parts, x):
    """`x'` of (1), and each part as the linear map it is at the point where (1) calls it. Cost: one forward pass."""
    return recorded(parts, x, at=jax.linearize)


def gains_map(parts: Parts, x) -> Part:
    """`dx` to what it changes of skip plus branch through gains that read the stream, the `x` they act on standing still.

    Zero where no gain reads it. Cost: one forward pass where one does.
    """
    if bind_dynamic_gains(parts, x) is parts:
        return jnp.zeros_like
    inside = {**parts, "norm_out": lambda u: u}
    return jax.linearize(lambda seen: sublayer(x, **bind_dynamic_gains(inside, seen)), x)[1]


def terms(maps: Parts, gains: Part, dx):
    """`(skip term, branch term, gains term)` of `J dx`, from `linearized` and `gains_map`: exact, their sum is the whole.

    For pre-norm `(dx, J_F J_N dx, 0)`; for post-norm `(J_N dx, J_N J_F dx, 0)`.
    """
    nothing = lambda u: 0
    return (
        sublayer(dx, **{**maps, "write": nothing}),
        sublayer(dx, **{**maps, "skip": nothing}),
        sublayer(dx, **{**maps, "skip": gains, "write": nothing}),
    )


def forked(parts: Parts, maps: Parts, x) -> Part:
    """`dx` to skip plus branch, all of `J dx` but `norm_out`: (1) on the maps; where a gain reads x, linearized as a whole."""
    end = lambda u: u
    if bind_dynamic_gains(parts, x) is parts:
        return lambda dx: sublayer(dx, **{**maps, "norm_out": end})
    return jax.linearize(partial(residual, parts={**parts, "norm_out": end}), x)[1]
