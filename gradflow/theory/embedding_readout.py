"""Both ends of the stack in theory: the Gram matrix of real tokens at its bottom, of the loss's cotangent at the readout.

Axes: rows N = E examples × T tokens, V classes.
"""

from typing import Any

import jax
import jax.numpy as jnp

from ..model.layers.lanes import Lanes, PerLane, Then
from ..model.layers.layer import Identity
from ..model.layers.norms import ScaledNorm, Squash, Standard
from ..model.parameters.depth import resolved
from ..model.parameters.initializers import Matrix, normal
from ..model.stacks.embedding_readout import Embedding
from ..model.stacks.transformer import Transformer
from ..model.wirings.wiring import Wiring
from .gram import Gram, Response, TheoryContext, factor, response
from .mean_cotangent import GramPair, energy

LOGITS = 16384


def embedded(embedding: Embedding, inputs) -> Response:
    """The bottom of the stream for tokens [E, T]: rows are alike where token, or position, is the same.

    The response to nothing: `push` is not used; `sources` are the tables.
    """
    examples, tokens = inputs.shape
    same = lambda a: (a.ravel()[:, None] == a.ravel()[None, :]).astype(jnp.result_type(float))
    sources = {"token": same(inputs)}
    if embedding.context:
        sources["position"] = same(jnp.broadcast_to(jnp.arange(tokens), (examples, tokens)))
    if embedding.types:
        sources["type"] = jnp.ones_like(sources["token"])
    return Response(embedding.rms**2 * sum(sources.values()) / len(sources), lambda k: k, sources)


def readout(model: Transformer, out: Gram, targets, key) -> dict:
    """Loss, and its cotangent at what is read out, D and Δ of `lean`, for targets [E, T]; one that is negative is none.

    Logits z are Gaussian with covariance `std² fan_in Σ`, softmax(z) − target is the cotangent of a logit, and the readout's
    transpose takes it back. The classes are exchangeable, so `E p_t[y] = 1/V` whatever the target; `E Σ_a p_ta p_sa` is
    taken from draws of V logits, `LOGITS` in all or V, if that is more.

    `along` is where the lean starts: `E g_t = std² (1 − E Σ p²) out_t/N`, of which it is d times what stands before out_t. D is
    half of it on the diagonal. A norm takes it from all below; its own gain feels it (`leaning`).
    """
    classes = model.embedding.vocabulary
    weights = resolved(model.readout, model.depth)
    gain = weights.std(Matrix("readout", model.width, classes, model.width)) ** 2 * model.width
    z = normal(key, -(-LOGITS // classes), len(out), classes).astype(out.dtype)
    z = gain**0.5 * jnp.einsum("ts,nsa->nta", factor(out), z)
    p = jax.nn.softmax(z, axis=-1)
    same = targets.ravel()[:, None] == targets.ravel()[None, :]
    alike = jnp.einsum("nta,nsa->ts", p, p) / len(p)
    asked = (targets.ravel() >= 0).astype(out.dtype)
    weight = asked / asked.sum()  # of a token in the mean over all targets
    residual = (alike - 2 / classes + same) * jnp.outer(weight, weight)
    along = gain * (1 - jnp.diag(alike)) * weight
    d = jnp.diag(along) / 2
    return {
        "loss": jnp.mean((jax.nn.logsumexp(z, axis=-1) - z.mean(-1)) @ weight),
        "cotangent": GramPair(d, gain * residual + energy(d, out, model.width)),
        "readout": jnp.vdot(model.width * out, residual),
        "along": along,
    }


def leaning(last: Wiring, sigma: Gram, along, place: TheoryContext) -> dict[str, Gram]:
    """`{parameter: [N, N]}`: what a cotangent that leans along what is read out adds to the squared gradients of norms' gains.

    Of a norm whose output y reaches the readout, out = Σ w y + …, through gains between lanes alone: by pairs of tokens
    `Σ_i E (Σ_t w y_ti E g_ti)²`, with the covariance C of w y and out, features Gaussian, without what would be there if y and g
    were independent. `sigma` is the stream's at the top.
    """
    steps: list[tuple[str, Any, Gram]] = [("norm_out", last.norm_out, sigma)]
    for name, layer in _in_turn("leave", last.leave):
        steps.append((name, layer, response(layer, steps[-1][2], place).value))
    weights = jnp.ones(1)  # with which lanes are read out
    gathers = [i for i, (_, layer, _) in enumerate(steps) if isinstance(layer, Lanes)]
    if gathers:
        behind = steps[gathers[-1] + 1 :]
        if any(_is_norm(layer) for _, layer, _ in behind):
            steps = behind
        else:
            weights, steps = steps[gathers[-1]][1].numbers(sigma.dtype), steps[: gathers[-1]]
    lanes, top = len(weights), steps[-1][2]
    u = top.reshape(lanes, len(top) // lanes, lanes, -1)
    found = {}
    for lane in range(lanes):
        norm = _last_norm(steps, lane)
        if norm:
            cross = weights[lane] * jnp.einsum("tks,k->ts", u[lane], weights)
            pairs = jnp.outer(jnp.diag(cross), jnp.diag(cross)) + cross * cross.T
            found[f"{norm}.scale"] = jnp.outer(along, along) * pairs / place.width
    return found


def _in_turn(name: str, layer) -> list[tuple[str, Any]]:
    """A layer, or those that it is made of one after the other, by the full names of their parameters."""
    inner = enumerate(layer.layers, 1) if isinstance(layer, Then) else ()
    return [(f"{name}.{i}", one) for i, one in inner] or [(name, layer)]


def _last_norm(steps, lane: int) -> str | None:
    """The name of the last layer on a lane that is no identity, where it is a norm."""
    for name, layer, _ in reversed(steps):
        several = isinstance(layer, PerLane)
        own = layer.layers[lane] if several else layer
        if own != Identity():
            full = f"{name}.{lane + 1}" if several else name
            return full if _is_norm(own) else None
    return None


def _is_norm(layer) -> bool:
    return isinstance(layer, Standard | ScaledNorm | Squash)
