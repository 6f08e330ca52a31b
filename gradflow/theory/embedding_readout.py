"""Both ends of the stack in theory: the Gram matrix of real tokens at its bottom, of the loss's cotangent at the readout.

Axes: rows N = E examples × T tokens, V classes.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..model.inputs.context import of_embedding, tokens_of
from ..model.layers.lanes import Lanes, PerLane, Then
from ..model.layers.layer import Identity
from ..model.layers.norms import ScaledNorm, Squash, Standard
from ..model.parameters.depth import resolved
from ..model.parameters.initializers import Matrix
from ..model.stacks.embedding_readout import Embedding
from ..model.stacks.transformer import Transformer
from ..model.wirings.wiring import Wiring
from .gram import Gram, Response, TheoryContext, response, unchanged
from .mean_cotangent import GramPair, energy

LOGITS = 16384


def embedded(embedding: Embedding, inputs) -> Response:
    """Returns the bottom of the stream for the inputs of a batch: rows are alike where token, position or type is the same.

    The response to nothing: `push` is not used; `sources` are the tables.
    """
    dtype = jnp.result_type(float)
    same_token = _same(tokens_of(inputs))
    sources = {"token": same_token.astype(dtype)}
    said = jax.vmap(of_embedding)(inputs)
    shape = tokens_of(inputs).shape
    if embedding.context:
        positions = said.get("positions", jnp.arange(shape[1]))
        same_position = _same(jnp.broadcast_to(positions, shape))
        sources["position"] = same_position.astype(dtype)
    if embedding.types:
        same_type = _same(said.get("types", jnp.zeros(shape, int)))
        sources["type"] = same_type.astype(dtype)
    total = embedding.rms**2 * sum(sources.values())
    return Response(total / len(sources), unchanged, sources)


def _same(numbers):
    """Returns which pairs [N, N] of entries are equal."""
    flat = numbers.ravel()
    return flat[:, None] == flat[None, :]


def readout(model: Transformer, out: Gram, targets, place: TheoryContext) -> dict:
    """Returns the loss, and its cotangent at what is read out, for targets [E, T]; one that is negative is none.

    The cotangent is a pair, D and Δ of `mean_cotangent`.

    Logits z are Gaussian with covariance `std² fan_in Σ`, softmax(z) − target is the cotangent of a logit, and the readout's
    transpose takes it back. The classes are exchangeable, so `E p_t[y] = 1/V` whatever the target; `E Σ_a p_ta p_sa` is
    taken from draws of V logits, `LOGITS` in all or V, if that is more.

    `along` is where the mean starts: `E g_t = std² (1 − E Σ p²) out_t/N`, of which it is d times what stands before out_t. D is
    half of it on the diagonal. A norm takes it from all below; the gradient of its own gain has it (`norm_gain_correction`).
    """
    width = model.width
    classes = model.embedding.vocabulary
    weights = resolved(model.readout, model.depth)
    matrix = Matrix("readout", width, classes, width)
    std = weights.std(matrix)
    gain = std**2 * width
    draws = math.ceil(LOGITS / classes)
    independent = place.draws_by_row("readout", draws, len(out), classes)
    correlated = jnp.einsum("ts,nsa->nta", place.factor(out), independent.astype(out.dtype))
    z = gain**0.5 * correlated
    p = jax.nn.softmax(z, axis=-1)
    same_target = _same(targets)
    alike = jnp.einsum("nta,nsa->ts", p, p) / len(p)
    has_target = (targets.ravel() >= 0).astype(out.dtype)
    weight = has_target / has_target.sum()  # of a token in the mean over all targets
    product = alike - 2 / classes + same_target
    residual = product * jnp.outer(weight, weight)
    along = gain * (1 - jnp.diag(alike)) * weight
    d = jnp.diag(along) / 2
    delta = gain * residual + energy(d, out, width)
    losses = jax.nn.logsumexp(z, axis=-1) - z.mean(-1)
    return {
        "loss": jnp.mean(losses @ weight),
        "cotangent": GramPair(d, delta),
        "readout": jnp.vdot(width * out, residual),
        "along": along,
    }


class Step(NamedTuple):
    """A layer between the top of the stream and the readout: the full name of its parameters, and Σ of its output."""

    name: str
    layer: Any
    output: Gram


def norm_gain_correction(last: Wiring, sigma: Gram, along, place: TheoryContext) -> dict[str, Gram]:
    """Returns `{parameter: [N, N]}`: what the mean of the cotangent adds to the squared gradients of norms' gains.

    Of a norm whose output y reaches the readout, out = Σ w y + …, through gains between lanes alone: by pairs of tokens
    `Σ_i E (Σ_t w y_ti E g_ti)²`, with the covariance C of w y and out, features Gaussian, without what would be there if y and g
    were independent. `sigma` is the stream's at the top.
    """
    steps, weights = _read_by_lane(_steps_to_readout(last, sigma, place), sigma.dtype)
    lanes = len(weights)
    top = steps[-1].output
    rows = len(top) // lanes
    by_lane = top.reshape(lanes, rows, lanes, rows)
    added = {}
    for lane in range(lanes):
        norm = _last_norm(steps, lane)
        if norm is None:
            continue
        with_readout = jnp.einsum("tks,k->ts", by_lane[lane], weights)
        c = weights[lane] * with_readout
        on_diagonal = jnp.diag(c)
        pairs = jnp.outer(on_diagonal, on_diagonal) + c * c.T
        weighted = jnp.outer(along, along) * pairs
        added[f"{norm}.scale"] = weighted / place.width
    return added


def _steps_to_readout(last: Wiring, sigma: Gram, place: TheoryContext) -> list[Step]:
    """Returns the layers from the last sublayer's `norm_out`, whose output is the top of the stream, to the readout."""
    steps = [Step("norm_out", last.norm_out, sigma)]
    value = sigma
    for name, layer in _in_turn("leave", last.leave):
        value = response(layer, value, place).value
        steps.append(Step(name, layer, value))
    return steps


def _read_by_lane(steps: list[Step], dtype) -> tuple[list[Step], Any]:
    """Returns the steps that end with the last norm, and the weights with which the lanes of their output are read out."""
    last = None
    for number, step in enumerate(steps):
        if isinstance(step.layer, Lanes):
            last = number
    if last is None:
        return steps, jnp.ones(1)
    behind = steps[last + 1 :]
    if any(_is_norm(step.layer) for step in behind):
        return behind, jnp.ones(1)
    return steps[:last], steps[last].layer.numbers(dtype)


def _in_turn(name: str, layer) -> list[tuple[str, Any]]:
    """Returns a layer, or those that it is made of one after the other, by the full names of their parameters."""
    if not isinstance(layer, Then) or not layer.layers:
        return [(name, layer)]
    in_turn = []
    for number, inner in enumerate(layer.layers, 1):
        in_turn.append((f"{name}.{number}", inner))
    return in_turn


def _last_norm(steps: list[Step], lane: int) -> str | None:
    """Returns the name of the last layer on a lane that is no identity, where it is a norm."""
    for step in reversed(steps):
        name = step.name
        layer = step.layer
        if isinstance(layer, PerLane):
            name = f"{name}.{lane + 1}"
            layer = layer.layers[lane]
        if layer != Identity():
            return name if _is_norm(layer) else None
    return None


def _is_norm(layer) -> bool:
    return isinstance(layer, Standard | ScaledNorm | Squash)
