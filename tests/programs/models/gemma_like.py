"""Gemma in NNX: RMSNorm with gain 1 + w, the embedding times √d and tied to the readout, rotary positions.

All heads share their keys and values. Gemma 1 is pre-norm. Gemma 2 has a norm on either side of every branch, caps on scores
and logits, and every other layer sees a window alone.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from .program import VOCABULARY, classifier, drawn, text

WIDTH, HEADS, HEAD, DEPTH, WINDOW = 16, 4, 4, 2, 3
normal = nnx.initializers.normal(0.02)


class RMSNorm(nnx.Module):
    def __init__(self, width, rngs):
        self.offset = nnx.Param(nnx.initializers.zeros(rngs.params(), (width,), jnp.float32))

    def __call__(self, x):
        variance = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        return x * jax.lax.rsqrt(variance + 1e-6) * (1 + self.offset[...])


def rope(x):
    half = x.shape[-1] // 2
    angle = jnp.arange(x.shape[1], dtype=x.dtype)[:, None] * 10000.0 ** (-jnp.arange(half, dtype=x.dtype) / half)
    sin, cos = jnp.sin(angle)[:, None], jnp.cos(angle)[:, None]
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def capped(x, cap):
    return cap * jnp.tanh(x / cap)


class Attention(nnx.Module):
    """Every head has queries of its own; keys and values are one for all."""

    def __init__(self, cap, window, rngs):
        self.cap, self.window = cap, window
        self.queries = nnx.Linear(WIDTH, HEADS * HEAD, use_bias=False, rngs=rngs)
        self.keys_and_values = nnx.Linear(WIDTH, 2 * HEAD, use_bias=False, rngs=rngs)
        self.out = nnx.Linear(HEADS * HEAD, WIDTH, use_bias=False, rngs=rngs)

    def __call__(self, x):
        batch, length, _ = x.shape
        q = rope(self.queries(x).reshape(batch, length, HEADS, HEAD)) * HEAD**-0.5
        k, v = jnp.split(self.keys_and_values(x), 2, axis=-1)
        scores = jnp.einsum("bqhk,btk->bhqt", q, rope(k[:, :, None])[:, :, 0])
        if self.cap:
            scores = capped(scores, self.cap)
        behind = jnp.arange(length)[:, None] - jnp.arange(length)
        seen = (behind >= 0) & (behind < self.window)
        probabilities = nnx.softmax(jnp.where(seen, scores, -2.0e38))
        return self.out(jnp.einsum("bhqt,btk->bqhk", probabilities, v).reshape(batch, length, -1))


class FeedForward(nnx.Module):
    def __init__(self, rngs):
        self.gate = nnx.Linear(WIDTH, 2 * WIDTH, use_bias=False, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 2 * WIDTH, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(2 * WIDTH, WIDTH, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.down(nnx.gelu(self.gate(x)) * self.up(x))


class Gemma1Block(nnx.Module):
    def __init__(self, depth, rngs):
        self.attention_norm, self.mlp_norm = RMSNorm(WIDTH, rngs), RMSNorm(WIDTH, rngs)
        self.attention, self.mlp = Attention(None, 1000, rngs), FeedForward(rngs)

    def __call__(self, x):
        x += self.attention(self.attention_norm(x))  # stream
        x += self.mlp(self.mlp_norm(x))  # stream
        return x


class Gemma2Block(nnx.Module):
    def __init__(self, depth, rngs):
        self.attention_norm, self.post_attention_norm = RMSNorm(WIDTH, rngs), RMSNorm(WIDTH, rngs)
        self.mlp_norm, self.post_mlp_norm = RMSNorm(WIDTH, rngs), RMSNorm(WIDTH, rngs)
        window = WINDOW if depth % 2 == 0 else 1000
        self.attention, self.mlp = Attention(50.0, window, rngs), FeedForward(rngs)

    def __call__(self, x):
        attended = self.attention(self.attention_norm(x))
        x += self.post_attention_norm(attended)  # stream
        fed = self.mlp(self.mlp_norm(x))
        x += self.post_mlp_norm(fed)  # stream
        return x


class Gemma(nnx.Module):
    def __init__(self, block, cap, rngs):
        self.cap = cap
        self.table = nnx.Param(normal(rngs.params(), (VOCABULARY, WIDTH)))
        self.blocks = nnx.List([block(depth, rngs) for depth in range(DEPTH)])
        self.final_norm = RMSNorm(WIDTH, rngs)

    def __call__(self, tokens):
        x = self.table[...][tokens]
        x *= jnp.asarray(WIDTH**0.5, x.dtype)  # stream
        for block in self.blocks:
            x = block(x)
        logits = self.final_norm(x) @ self.table[...].T
        return capped(logits, self.cap) if self.cap else logits


def program(name, block, cap, wiring):
    graph, shapes = nnx.split(nnx.eval_shape(lambda: Gemma(block, cap, nnx.Rngs(0))))
    params = drawn(shapes)
    logits = lambda params, batch: nnx.merge(graph, params)(batch["inputs"])
    known = {"wiring": wiring, "layers": 2 * DEPTH, "source": (Gemma, block), "module": nnx.merge(graph, params)}
    return classifier(name, logits, params, text(), **known)


def gemma1():
    return program("gemma1", Gemma1Block, None, "pre")


def gemma2():
    return program("gemma2", Gemma2Block, 30.0, "sandwich")
