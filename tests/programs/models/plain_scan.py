"""Llama in plain functions whose layers are stacked and scanned over: RMSNorm, rotary positions, a gated feed-forward.

One sublayer a step, a block of two a step, two blocks a step, one block's weights at every step, and a `fori_loop`. Pre-norm.
"""

from functools import partial

import jax
import jax.numpy as jnp

from .program import VOCABULARY, classifier, drawn, text

WIDTH, HEADS, DEPTH = 16, 2, 4
HEAD = WIDTH // HEADS


def attention_shapes(*depth):
    return {
        "norm1": {"scale": (*depth, WIDTH)},
        "qkv": (*depth, WIDTH, 3, HEADS, HEAD),
        "out": (*depth, HEADS, HEAD, WIDTH),
    }


def mlp_shapes(*depth):
    return {
        "norm2": {"scale": (*depth, WIDTH)},
        "gate": (*depth, WIDTH, 3 * WIDTH),
        "up": (*depth, WIDTH, 3 * WIDTH),
        "down": (*depth, 3 * WIDTH, WIDTH),
    }


def shapes(layers):
    return {
        "embedding": (VOCABULARY, WIDTH),
        "layers": layers,
        "norm": {"scale": (WIDTH,)},
        "head": (WIDTH, VOCABULARY),
    }


def rms_norm(x, p, eps=1e-6):
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps) * p["scale"]


def rotated(x):
    """Queries or keys [batch token head feature], turned by the angle of their position."""
    half = x.shape[-1] // 2
    frequency = 10000.0 ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = jnp.arange(x.shape[1], dtype=jnp.float32)[:, None, None] * frequency
    left, right = x[..., :half], x[..., half:]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.concatenate([left * cos - right * sin, left * sin + right * cos], axis=-1)


def attention(x, p):
    q, k, v = jnp.moveaxis(jnp.einsum("btd,dnhk->btnhk", x, p["qkv"]), 2, 0)
    scores = jnp.einsum("bqhk,bthk->bhqt", rotated(q), rotated(k)) / HEAD**0.5
    causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    probabilities = jax.nn.softmax(scores, where=causal, axis=-1)
    return jnp.einsum("bhqt,bthk,hkd->bqd", probabilities, v, p["out"])


def mlp(x, p):
    return (jax.nn.silu(x @ p["gate"]) * (x @ p["up"])) @ p["down"]


def attention_alone(x, p):
    x = x + attention(rms_norm(x, p["norm1"]), p)  # stream
    return x, None


def block(x, p):
    x = x + attention(rms_norm(x, p["norm1"]), p)  # stream
    x = x + mlp(rms_norm(x, p["norm2"]), p)  # stream
    return x, None


def forward(params, tokens, stack):
    x = params["embedding"][tokens]  # stream
    x = stack(x, params["layers"])
    return rms_norm(x, params["norm"]) @ params["head"]


def scanned(x, layers, step):
    return jax.lax.scan(step, x, layers)[0]


def scanned_by_two(x, layers):
    """Two blocks a step, the first of them rematerialized."""
    pairs = jax.tree.map(lambda leaf: leaf.reshape(-1, 2, *leaf.shape[1:]), layers)

    def two(x, pair):
        first, second = (jax.tree.map(lambda leaf, i=i: leaf[i], pair) for i in range(2))
        x, _ = jax.checkpoint(block)(x, first)
        return block(x, second)

    return jax.lax.scan(two, x, pairs)[0]


def same_layer(x, layer):
    """The Universal Transformer's: one block's weights at every depth."""
    return jax.lax.scan(lambda x, _: block(x, layer), x, length=DEPTH)[0]


def looped(x, layers):
    def body(depth, x):
        return block(x, jax.tree.map(lambda leaf: leaf[depth], layers))[0]

    return jax.lax.fori_loop(0, DEPTH, body, x)


def program(name, stack, layers, step=block):
    logits = lambda params, batch: forward(params, batch["inputs"], stack)
    positions = DEPTH if step is attention_alone else 2 * DEPTH
    known = {"wiring": "pre", "layers": positions, "source": (forward, step)}
    return classifier(name, logits, drawn(shapes(layers)), text(), **known)


def scan_attention_alone():
    stack = partial(scanned, step=attention_alone)
    return program("scan_attention_alone", stack, attention_shapes(DEPTH), attention_alone)


def scan_blocks():
    return program("scan_blocks", partial(scanned, step=block), attention_shapes(DEPTH) | mlp_shapes(DEPTH))


def scan_remat():
    kept = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    step = jax.checkpoint(block, policy=kept, prevent_cse=False)
    return program("scan_remat", partial(scanned, step=step), attention_shapes(DEPTH) | mlp_shapes(DEPTH))


def scan_two_blocks():
    return program("scan_two_blocks", scanned_by_two, attention_shapes(DEPTH) | mlp_shapes(DEPTH))


def scan_same_layer():
    return program("scan_same_layer", same_layer, attention_shapes() | mlp_shapes())


def scan_fori():
    return program("scan_fori", looped, attention_shapes(DEPTH) | mlp_shapes(DEPTH))
