"""Both ends of the stack in theory: the Gram matrix of real tokens at its bottom, of the loss's cotangent at the readout.

Axes: rows N = E examples × T tokens, V classes.
"""

import jax
import jax.numpy as jnp

from ..model.init import Matrix, resolved
from ..model.stack import Embedding, Transformer
from .gram import Gram, Response, factor

LOGITS = 4096


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
    """Loss, and the Gram matrix of its cotangent at what is read out, for targets [E, T].

    Logits z are Gaussian with covariance `std² fan_in Σ`, softmax(z) − target is the cotangent of a logit, and the readout's
    transpose takes it back. The classes are exchangeable, so `E p_t[y] = 1/V` whatever the target; `E Σ_a p_ta p_sa` is
    taken from draws of V logits, `LOGITS` in all or V, if that is more.

    The readout also makes the cotangent lean along what it reads, `E g_t = std² (1 − E Σ p²) out_t/N`, the one place where a
    cotangent knows the stream: smaller by 1/d than the rest, but alike on all tokens. A norm takes it from all below; its own
    gain has `radial` [N, N] more of squared gradient, `Σ_i E (Σ_t out_ti E g_ti)²` by pairs of tokens.
    """
    classes = model.embedding.vocabulary
    weights = resolved(model.readout, model.depth)
    gain = weights.std(Matrix("readout", model.width, classes, model.width)) ** 2 * model.width
    z = jax.random.normal(key, (-(-LOGITS // classes), len(out), classes), out.dtype)
    z = gain**0.5 * jnp.einsum("ts,nsa->nta", factor(out), z)
    p = jax.nn.softmax(z, axis=-1)
    same = targets.ravel()[:, None] == targets.ravel()[None, :]
    alike, square = jnp.einsum("nta,nsa->ts", p, p) / len(p), jnp.diag(out)
    residual = (alike - 2 / classes + same) / targets.size**2
    along = gain * (1 - jnp.diag(alike)) / targets.size
    return {
        "loss": jnp.mean(jax.nn.logsumexp(z, axis=-1) - z.mean(-1)),
        "cotangent": gain * residual,
        "readout": jnp.vdot(model.width * out, residual),
        "radial": jnp.outer(along, along) * (jnp.outer(square, square) + 2 * out**2) / model.width,
    }
