"""A pre-norm decoder in Equinox, written for one example and mapped over the batch, and the same with one mistake each."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp

from ..program import LENGTH, VOCABULARY, classifier, drawn, text
from .mutant import DEPTH, composed, mutants_of

WIDTH, HEADS = 16, 4


def head(q, k, v):
    """Attention of one head: each [token feature]."""
    scores = q @ k.T / q.shape[-1] ** 0.5
    causal = jnp.tril(jnp.ones(scores.shape, bool))
    return jax.nn.softmax(jnp.where(causal, scores, -jnp.inf)) @ v


class Attention(eqx.Module):
    qkv: eqx.nn.Linear
    out: eqx.nn.Linear

    def __init__(self, key):
        first, second = jax.random.split(key)
        self.qkv = eqx.nn.Linear(WIDTH, 3 * WIDTH, key=first)
        self.out = eqx.nn.Linear(WIDTH, WIDTH, key=second)

    def split(self, x):
        """Queries, keys and values, [token head feature]."""
        return jnp.split(jax.vmap(self.qkv)(x).reshape(len(x), 3 * HEADS, -1), 3, axis=1)

    def __call__(self, x):
        mixed = jax.vmap(head, in_axes=1, out_axes=1)(*self.split(x))
        return jax.vmap(self.out)(mixed.reshape(x.shape))


class Block(eqx.Module):
    attention: Attention
    mlp: eqx.nn.MLP
    norm1: eqx.Module
    norm2: eqx.Module

    def __init__(self, key, attention=Attention, norm=eqx.nn.LayerNorm):
        first, second = jax.random.split(key)
        self.attention = attention(first)
        self.mlp = eqx.nn.MLP(WIDTH, WIDTH, 4 * WIDTH, depth=1, activation=jax.nn.silu, key=second)
        self.norm1, self.norm2 = norm(WIDTH), norm(WIDTH)

    def __call__(self, x):
        x = x + self.attention(jax.vmap(self.norm1)(x))  # stream
        x = x + jax.vmap(self.mlp)(jax.vmap(self.norm2)(x))  # stream
        return x


class NormOnPath(Block):
    def __call__(self, x):
        x = jax.vmap(self.norm1)(x)  # mistake
        x = x + self.attention(x)  # stream
        x = jax.vmap(self.norm2)(x)  # mistake
        x = x + jax.vmap(self.mlp)(x)  # stream
        return x


class NoAdd(Block):
    def __call__(self, x):
        x = x + self.attention(jax.vmap(self.norm1)(x))  # stream
        x = jax.vmap(self.mlp)(jax.vmap(self.norm2)(x))  # mistake  # stream
        return x


class NormAfterBranch(Block):
    def __call__(self, x):
        x = x + jax.vmap(self.norm1)(self.attention(x))  # mistake  # stream
        x = x + jax.vmap(self.norm2)(jax.vmap(self.mlp)(x))  # mistake  # stream
        return x


class NormedAttention(Attention):
    norm: eqx.nn.LayerNorm

    def __init__(self, key):
        super().__init__(key)
        self.norm = eqx.nn.LayerNorm(WIDTH)

    def __call__(self, x):
        x = jax.vmap(self.norm)(x)  # mistake
        return super().__call__(x)


class SumFromNorm(Block):
    def __call__(self, x):
        x = x + self.attention(jax.vmap(self.norm1)(x))  # stream
        h = jax.vmap(self.norm2)(x)
        x = h + jax.vmap(self.mlp)(h)  # mistake  # stream
        return x


class SharedNorm(Block):
    def __call__(self, x):
        x = x + self.attention(jax.vmap(self.norm1)(x))  # stream
        x = x + jax.vmap(self.mlp)(jax.vmap(self.norm1)(x))  # mistake  # stream
        return x


class AttentionOverHeads(Attention):
    """`vmap` over the first axis, which is that of the tokens."""

    def __call__(self, x):
        mixed = jax.vmap(head)(*self.split(x))  # mistake
        return jax.vmap(self.out)(mixed.reshape(x.shape))


def unscaled_head(q, k, v):
    scores = q @ k.T  # mistake
    causal = jnp.tril(jnp.ones(scores.shape, bool))
    return jax.nn.softmax(jnp.where(causal, scores, -jnp.inf)) @ v


class UnscaledAttention(Attention):
    def __call__(self, x):
        mixed = jax.vmap(unscaled_head, in_axes=1, out_axes=1)(*self.split(x))
        return jax.vmap(self.out)(mixed.reshape(x.shape))


def unmasked_head(q, k, v):
    scores = q @ k.T / q.shape[-1] ** 0.5
    return jax.nn.softmax(scores) @ v  # mistake


class UnmaskedAttention(Attention):
    def __call__(self, x):
        mixed = jax.vmap(unmasked_head, in_axes=1, out_axes=1)(*self.split(x))
        return jax.vmap(self.out)(mixed.reshape(x.shape))


class AddedTwice(Block):
    def attend(self, x):
        return x + self.attention(jax.vmap(self.norm1)(x))

    def __call__(self, x):
        x = x + self.attend(x)  # mistake  # stream
        x = x + jax.vmap(self.mlp)(jax.vmap(self.norm2)(x))  # stream
        return x


class NormWithEpsOutside(eqx.nn.LayerNorm):
    def __call__(self, x):
        x = x - x.mean()
        return x / (jnp.sqrt(jnp.mean(x * x)) + self.eps) * self.weight + self.bias  # mistake


class PostForPre(Block):
    def __call__(self, x):
        x = jax.vmap(self.norm1)(x + self.attention(x))  # mistake  # stream
        x = jax.vmap(self.norm2)(x + jax.vmap(self.mlp)(x))  # mistake  # stream
        return x


class Decoder(eqx.Module):
    token: eqx.nn.Embedding
    position: jax.Array
    blocks: list
    norm: eqx.nn.LayerNorm
    readout: eqx.nn.Linear

    def __init__(self, blocks, key):
        first, last, *keys = jax.random.split(key, DEPTH + 2)
        self.token = eqx.nn.Embedding(VOCABULARY, WIDTH, key=first)
        self.position = jnp.zeros((LENGTH, WIDTH))
        self.blocks = [block(own) for block, own in zip(blocks, keys, strict=True)]
        self.norm = eqx.nn.LayerNorm(WIDTH)
        self.readout = eqx.nn.Linear(WIDTH, VOCABULARY, key=last)

    def run(self, tokens):
        x = jax.vmap(self.token)(tokens) + self.position[: len(tokens)]  # stream
        for block in self.blocks:
            x = block(x)
        return x

    def __call__(self, tokens):
        return jax.vmap(lambda x: self.readout(self.norm(x)))(self.run(tokens))


class WithoutNorm(Decoder):
    def __call__(self, tokens):
        return jax.vmap(self.readout)(self.run(tokens))  # mistake


BLOCKS = {
    "norm_on_path": (NormOnPath, NormOnPath),
    "no_add": (NoAdd, NoAdd),
    "norm_after_branch": (NormAfterBranch, NormAfterBranch),
    "double_norm": (partial(Block, attention=NormedAttention), NormedAttention),
    "sum_from_norm": (SumFromNorm, SumFromNorm),
    "shared_norm": (SharedNorm, SharedNorm),
    "heads_for_tokens": (partial(Block, attention=AttentionOverHeads), AttentionOverHeads),
    "unscaled_scores": (partial(Block, attention=UnscaledAttention), unscaled_head),
    "no_final_norm": (Block, WithoutNorm),
    "no_causal_mask": (partial(Block, attention=UnmaskedAttention), unmasked_head),
    "added_twice": (AddedTwice, AddedTwice),
    "eps_outside": (partial(Block, norm=NormWithEpsOutside), NormWithEpsOutside),
    "post_for_pre": (PostForPre, PostForPre),
}
"""The block of each mistake, and the code that has the mistaken line."""


def made(name, mistake, only_layer):
    blocks, decoder, known = composed(mistake, only_layer, Block, BLOCKS, (Decoder, WithoutNorm), also=(Decoder,))
    make = lambda key: decoder(blocks, key)
    described = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)
    shapes, static = eqx.partition(eqx.filter_eval_shape(make, jax.random.key(0)), described)
    params = drawn(shapes)
    logits = lambda params, batch: jax.vmap(eqx.combine(params, static))(batch["inputs"])
    return classifier(name, logits, params, text(), module=eqx.combine(params, static), **known)


def right():
    return made("equinox", "", None)


MUTANTS = mutants_of("equinox", made)
