"""Decoders in Equinox, written for one example and mapped over the batch: blocks in a tuple, blocks stacked and scanned.

`eqx.nn.MultiheadAttention` and `eqx.filter_jit` are used as they come. Pre-norm, ReZero, and without any norm.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from .program import LENGTH, VOCABULARY, classifier, drawn, text

WIDTH, HEADS, DEPTH = 16, 4, 3


def causal(x):
    return jnp.tril(jnp.ones((x.shape[0], x.shape[0]), bool))


class Branches(eqx.Module):
    attention: eqx.nn.MultiheadAttention
    mlp: eqx.nn.MLP

    def __init__(self, key):
        first, second = jax.random.split(key)
        self.attention = eqx.nn.MultiheadAttention(HEADS, WIDTH, key=first)
        self.mlp = eqx.nn.MLP(WIDTH, WIDTH, 4 * WIDTH, depth=1, activation=jax.nn.gelu, key=second)

    def attend(self, x):
        return self.attention(x, x, x, mask=causal(x))

    def feed(self, x):
        return jax.vmap(self.mlp)(x)


class PreBlock(eqx.Module):
    branches: Branches
    norm1: eqx.nn.LayerNorm
    norm2: eqx.nn.LayerNorm

    def __init__(self, key):
        self.branches = Branches(key)
        self.norm1, self.norm2 = eqx.nn.LayerNorm(WIDTH), eqx.nn.LayerNorm(WIDTH)

    def __call__(self, x):
        x = x + self.branches.attend(jax.vmap(self.norm1)(x))  # stream
        x = x + self.branches.feed(jax.vmap(self.norm2)(x))  # stream
        return x


class ReZeroBlock(eqx.Module):
    """`x + a F(x)` with one trained number a branch, 0 at the start of training (Bachlechner et al. 2020)."""

    branches: Branches
    a: jax.Array
    b: jax.Array

    def __init__(self, key):
        self.branches = Branches(key)
        self.a, self.b = jnp.zeros(()), jnp.zeros(())

    def __call__(self, x):
        x = x + self.a * self.branches.attend(x)  # stream
        x = x + self.b * self.branches.feed(x)  # stream
        return x


class BareBlock(eqx.Module):
    branches: Branches

    def __init__(self, key):
        self.branches = Branches(key)

    def __call__(self, x):
        x = x + self.branches.attend(x)  # stream
        x = x + self.branches.feed(x)  # stream
        return x


class Ends(eqx.Module):
    token: eqx.nn.Embedding
    position: jax.Array
    norm: eqx.nn.LayerNorm | eqx.nn.Identity
    head: eqx.nn.Linear

    def __init__(self, norm, key):
        first, second = jax.random.split(key)
        self.token = eqx.nn.Embedding(VOCABULARY, WIDTH, key=first)
        self.position = jnp.zeros((LENGTH, WIDTH))
        self.norm = norm
        self.head = eqx.nn.Linear(WIDTH, VOCABULARY, key=second)


class Decoder(eqx.Module):
    ends: Ends
    blocks: tuple

    def __init__(self, block, norm, key):
        first, *keys = jax.random.split(key, DEPTH + 1)
        self.ends = Ends(norm, first)
        self.blocks = tuple(block(own) for own in keys)

    def __call__(self, tokens):
        x = jax.vmap(self.ends.token)(tokens) + self.ends.position[: len(tokens)]  # stream
        for block in self.blocks:
            x = block(x)
        return jax.vmap(lambda token: self.ends.head(self.ends.norm(token)))(x)


class ScannedDecoder(eqx.Module):
    """The blocks are one, whose arrays have the depth as their first axis."""

    ends: Ends
    blocks: PreBlock

    def __init__(self, key):
        first, second = jax.random.split(key)
        self.ends = Ends(eqx.nn.LayerNorm(WIDTH), first)
        self.blocks = eqx.filter_vmap(PreBlock)(jax.random.split(second, DEPTH))

    @eqx.filter_jit
    def __call__(self, tokens):
        x = jax.vmap(self.ends.token)(tokens) + self.ends.position[: len(tokens)]  # stream
        arrays, static = eqx.partition(self.blocks, eqx.is_array)

        def step(x, layer):
            return eqx.combine(layer, static)(x), None

        x, _ = jax.lax.scan(step, x, arrays)
        return jax.vmap(lambda token: self.ends.head(self.ends.norm(token)))(x)


def program(name, make, wiring, source, change=lambda leaf: leaf):
    """The parameters are the module's arrays, each of them changed; what is no array stays with the loss."""
    described = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)
    shapes, static = eqx.partition(eqx.filter_eval_shape(make, jax.random.key(0)), described)
    params = jax.tree.map(change, drawn(shapes))
    logits = lambda params, batch: jax.vmap(eqx.combine(params, static))(batch["inputs"])
    known = {"wiring": wiring, "layers": 2 * DEPTH, "source": source, "module": eqx.combine(params, static)}
    return classifier(name, logits, params, text(), **known)


def equinox_loop():
    make = lambda key: Decoder(PreBlock, eqx.nn.LayerNorm(WIDTH), key)
    return program("equinox_loop", make, "pre", (Decoder, PreBlock))


def equinox_scan():
    return program("equinox_scan", ScannedDecoder, "pre", (ScannedDecoder, PreBlock))


def rezero_decoder(key):
    return Decoder(ReZeroBlock, eqx.nn.Identity(), key)


def rezero():
    """After some training: the gains, the only parameters that are numbers, are 0.3."""
    trained = lambda leaf: jnp.full_like(leaf, 0.3) if leaf.ndim == 0 else leaf
    return program("rezero", rezero_decoder, "rezero", (Decoder, ReZeroBlock), trained)


def rezero_start():
    """As training starts: no branch has any effect."""
    at_start = lambda leaf: jnp.zeros_like(leaf) if leaf.ndim == 0 else leaf
    return program("rezero_start", rezero_decoder, "rezero", (Decoder, ReZeroBlock), at_start)


def no_norms():
    make = lambda key: Decoder(BareBlock, eqx.nn.Identity(), key)
    return program("no_norms", make, "none", (Decoder, BareBlock))
