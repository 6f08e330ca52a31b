"""A decoder in plain functions whose feed-forwards are experts, of which every token takes the best two; scanned over depth.

The router's loss, which keeps the experts equally busy, leaves the stream in every layer and is added to the loss at the end.
"""

import jax
import jax.numpy as jnp

from .plain_scan import attention, attention_shapes, rms_norm
from .program import VOCABULARY, Program, cross_entropy, drawn, text

WIDTH, EXPERTS, HIDDEN, DEPTH = 16, 4, 16, 3


def shapes():
    experts = {
        "norm2": {"scale": (DEPTH, WIDTH)},
        "router": (DEPTH, WIDTH, EXPERTS),
        "up": (DEPTH, EXPERTS, WIDTH, HIDDEN),
        "down": (DEPTH, EXPERTS, HIDDEN, WIDTH),
    }
    layers = attention_shapes(DEPTH) | experts
    return {
        "embedding": (VOCABULARY, WIDTH),
        "layers": layers,
        "norm": {"scale": (WIDTH,)},
        "head": (WIDTH, VOCABULARY),
    }


def experts(x, p):
    """The output, and `E Σ_e f_e p_e`: the share of tokens that chose expert e, times its mean probability."""
    probabilities = jax.nn.softmax(x @ p["router"])
    best, chosen = jax.lax.top_k(probabilities, 2)
    taken = jax.nn.one_hot(chosen, EXPERTS, dtype=x.dtype)
    weights = jnp.einsum("btk,btke->bte", best / best.sum(-1, keepdims=True), taken)
    hidden = jax.nn.relu(jnp.einsum("btd,edf->btef", x, p["up"]))
    out = jnp.einsum("btef,efd,bte->btd", hidden, p["down"], weights)
    balance = EXPERTS * jnp.sum(taken.sum(2).mean((0, 1)) / 2 * probabilities.mean((0, 1)))
    return out, balance


def block(x, p):
    x = x + attention(rms_norm(x, p["norm1"]), p)  # stream
    out, balance = experts(rms_norm(x, p["norm2"]), p)
    x = x + out  # stream
    return x, balance


def forward(params, tokens):
    x = params["embedding"][tokens]  # stream
    x, balance = jax.lax.scan(block, x, params["layers"])
    return rms_norm(x, params["norm"]) @ params["head"], balance.mean()


def moe():
    logits = lambda params, batch: forward(params, batch["inputs"])[0]

    def loss(params, batch):
        read, balance = forward(params, batch["inputs"])
        return cross_entropy(read, batch["targets"]) + 0.01 * balance

    known = {"wiring": "pre", "layers": 2 * DEPTH, "source": (forward, block)}
    return Program("moe", loss, logits, drawn(shapes()), text(), **known)
