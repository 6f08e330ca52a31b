"""Two published decoders in Equinox: GPT-J, whose attention and feed-forward stand side by side, and OLMo 2.

OLMo 2 has its norms behind the branches, and others on queries and keys. Rotary positions; written for one example.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from .program import VOCABULARY, classifier, drawn, text

WIDTH, HEADS, DEPTH = 16, 2, 3
HEAD = WIDTH // HEADS


def linear(into, out, key):
    return eqx.nn.Linear(into, out, use_bias=False, key=key)


def per_token(layer, x):
    return jax.vmap(layer)(x)


class Attention(eqx.Module):
    query: eqx.nn.Linear
    key: eqx.nn.Linear
    value: eqx.nn.Linear
    out: eqx.nn.Linear
    rotary: eqx.nn.RotaryPositionalEmbedding
    query_norm: eqx.nn.RMSNorm | eqx.nn.Identity
    key_norm: eqx.nn.RMSNorm | eqx.nn.Identity

    def __init__(self, norm, key):
        self.query, self.key, self.value, self.out = (linear(WIDTH, WIDTH, own) for own in jax.random.split(key, 4))
        self.rotary = eqx.nn.RotaryPositionalEmbedding(HEAD)
        self.query_norm, self.key_norm = norm(), norm()

    def __call__(self, x):
        heads = lambda y: y.reshape(-1, HEADS, HEAD).swapaxes(0, 1)
        q = heads(per_token(self.query_norm, per_token(self.query, x)))
        k = heads(per_token(self.key_norm, per_token(self.key, x)))
        v = heads(per_token(self.value, x))
        scores = jax.vmap(self.rotary)(q) @ jax.vmap(self.rotary)(k).swapaxes(1, 2) * HEAD**-0.5
        causal = jnp.tril(jnp.ones(scores.shape[1:], bool))
        mixed = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf)) @ v
        return per_token(self.out, mixed.swapaxes(0, 1).reshape(x.shape))


class GptJBlock(eqx.Module):
    """One norm for both branches, whose outputs are added at once (Wang and Komatsuzaki 2021)."""

    norm: eqx.nn.LayerNorm
    attention: Attention
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, key):
        first, second, third = jax.random.split(key, 3)
        self.norm = eqx.nn.LayerNorm(WIDTH)
        self.attention = Attention(eqx.nn.Identity, first)
        self.up, self.down = linear(WIDTH, 4 * WIDTH, second), linear(4 * WIDTH, WIDTH, third)

    def __call__(self, x):
        h = per_token(self.norm, x)
        fed = per_token(self.down, jax.nn.gelu(per_token(self.up, h)))
        x = x + self.attention(h) + fed  # stream
        return x


class Olmo2Block(eqx.Module):
    attention: Attention
    attention_norm: eqx.nn.RMSNorm
    gate: eqx.nn.Linear
    up: eqx.nn.Linear
    down: eqx.nn.Linear
    mlp_norm: eqx.nn.RMSNorm

    def __init__(self, key):
        first, second, third, fourth = jax.random.split(key, 4)
        norm = lambda: eqx.nn.RMSNorm(WIDTH, use_bias=False)
        self.attention, self.attention_norm, self.mlp_norm = Attention(norm, first), norm(), norm()
        self.gate, self.up = linear(WIDTH, 3 * WIDTH, second), linear(WIDTH, 3 * WIDTH, third)
        self.down = linear(3 * WIDTH, WIDTH, fourth)

    def feed(self, token):
        return self.down(jax.nn.silu(self.gate(token)) * self.up(token))

    def __call__(self, x):
        x = x + per_token(self.attention_norm, self.attention(x))  # stream
        x = x + per_token(self.mlp_norm, per_token(self.feed, x))  # stream
        return x


class Decoder(eqx.Module):
    embedding: eqx.nn.Embedding
    blocks: list
    norm: eqx.nn.RMSNorm
    head: eqx.nn.Linear

    def __init__(self, block, key):
        first, last, *keys = jax.random.split(key, DEPTH + 2)
        self.embedding = eqx.nn.Embedding(VOCABULARY, WIDTH, key=first)
        self.blocks = [block(own) for own in keys]
        self.norm = eqx.nn.RMSNorm(WIDTH)
        self.head = linear(WIDTH, VOCABULARY, last)

    def __call__(self, tokens):
        x = per_token(self.embedding, tokens)  # stream
        for block in self.blocks:
            x = block(x)
        return per_token(self.head, per_token(self.norm, x))


def program(name, block, wiring, layers):
    described = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)
    made = eqx.filter_eval_shape(lambda: Decoder(block, jax.random.key(0)))
    shapes, static = eqx.partition(made, described)
    params = drawn(shapes)
    logits = lambda params, batch: jax.vmap(eqx.combine(params, static))(batch["inputs"])
    known = {"wiring": wiring, "layers": layers, "source": (Decoder, block), "module": eqx.combine(params, static)}
    return classifier(name, logits, params, text(), **known)


def gptj():
    return program("gptj", GptJBlock, "parallel", DEPTH)


def olmo2():
    return program("olmo2", Olmo2Block, "res_post", 2 * DEPTH)
