"""Decoders in plain functions with unusual ends: one-hot tokens, readouts at every depth, x_0 added again before each layer.

Their one kind of sublayer is short: a causal convolution over tokens with a gated feed-forward behind it. Pre-norm.
"""

import jax
import jax.numpy as jnp

from .program import VOCABULARY, Program, classifier, cross_entropy, drawn, text

WIDTH, DEPTH, TAPS = 16, 3, 3


def shapes():
    layer = {"norm_scale": (WIDTH,), "taps": (TAPS, WIDTH), "in": (WIDTH, 2, 2 * WIDTH), "out": (2 * WIDTH, WIDTH)}
    return {"embedding": (VOCABULARY, WIDTH), "layers": [layer] * DEPTH, "norm_scale": (WIDTH,)}


def norm(x, scale):
    return x / jnp.sqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-6) * scale


def branch(x, p):
    """Each token sees itself and those just in front of it; then gates."""
    padded = jnp.pad(x, ((0, 0), (TAPS - 1, 0), (0, 0)))
    mixed = sum(padded[:, tap : tap + x.shape[1]] * p["taps"][tap] for tap in range(TAPS))
    gate, value = jnp.moveaxis(jnp.einsum("btd,dnf->btnf", mixed, p["in"]), 2, 0)
    return (jax.nn.sigmoid(gate) * value) @ p["out"]


def one_hot_forward(params, tokens):
    """The embedding as a product with one-hot vectors, as on TPUs; its transpose is the readout."""
    x = jax.nn.one_hot(tokens, VOCABULARY, dtype=jnp.float32) @ params["embedding"]  # stream
    for p in params["layers"]:
        x = x + branch(norm(x, p["norm_scale"]), p)  # stream
    return norm(x, params["norm_scale"]) @ params["embedding"].T


def every_readout(params, tokens):
    """Logits after every layer, each read out by the same norm and matrix (deep supervision)."""
    x = params["embedding"][tokens]  # stream
    read = []
    for p in params["layers"]:
        x = x + branch(norm(x, p["norm_scale"]), p)  # stream
        read.append(norm(x, params["norm_scale"]) @ params["embedding"].T)
    return read


def x0_forward(params, tokens):
    """Every layer reads a mixture of the stream and x_0, as in the speed runs of GPT-2: x_0 is alive beside the stream."""
    x = x0 = norm(params["embedding"][tokens], 1.0)  # stream
    for p, mix in zip(params["layers"], params["mix"], strict=True):
        x = mix[0] * x + mix[1] * x0
        x = x + branch(norm(x, p["norm_scale"]), p)  # stream
    return norm(x, params["norm_scale"]) @ params["embedding"].T


def one_hot():
    logits = lambda params, batch: one_hot_forward(params, batch["inputs"])
    known = {"wiring": "pre", "layers": DEPTH, "source": (one_hot_forward,)}
    return classifier("one_hot", logits, drawn(shapes()), text(), **known)


def early_exits():
    """The loss is the mean over the readouts: all but the last leave the stream on its way."""
    logits = lambda params, batch: every_readout(params, batch["inputs"])[-1]

    def loss(params, batch):
        losses = [cross_entropy(read, batch["targets"]) for read in every_readout(params, batch["inputs"])]
        return sum(losses) / len(losses)

    known = {"wiring": "pre", "layers": DEPTH, "source": (every_readout,)}
    return Program("early_exits", loss, logits, drawn(shapes()), text(), **known)


def x0_again():
    params = drawn(shapes()) | {"mix": jnp.asarray([[0.9, 0.1], [0.8, 0.3], [1.1, 0.2]], jnp.float32)}
    logits = lambda params, batch: x0_forward(params, batch["inputs"])
    known = {"wiring": "pre", "layers": DEPTH, "source": (x0_forward,)}
    return classifier("x0_again", logits, params, text(), **known)
