"""A decoder in NNX whose blocks are made by `nnx.vmap` and run by `nnx.scan`, rematerialized or not. Pre-norm.

The module itself is what the loss is differentiated by: the programs' parameters are an NNX module.
"""

import jax.numpy as jnp
from flax import nnx

from .program import LENGTH, VOCABULARY, classifier, drawn, text

WIDTH, HEADS, DEPTH = 16, 2, 3


class Block(nnx.Module):
    def __init__(self, rngs):
        self.norm1, self.norm2 = (nnx.RMSNorm(WIDTH, rngs=rngs) for _ in range(2))
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, use_bias=False, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs), nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm1(x), mask=nnx.make_causal_mask(x[..., 0]))  # stream
        x = x + self.down(nnx.relu(self.up(self.norm2(x))))  # stream
        return x


@nnx.split_rngs(splits=DEPTH)
@nnx.vmap
def stacked_blocks(rngs):
    return Block(rngs)


@nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
def run(x, block):
    return block(x)


@nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
@nnx.remat
def run_rematerialized(x, block):
    return block(x)


class Decoder(nnx.Module):
    def __init__(self, run, rngs):
        self.run = run
        self.tokens = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.positions = nnx.Embed(LENGTH, WIDTH, rngs=rngs)
        self.blocks = stacked_blocks(rngs)
        self.norm = nnx.RMSNorm(WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, VOCABULARY, use_bias=False, rngs=rngs)

    def __call__(self, tokens):
        x = self.tokens(tokens) + self.positions(jnp.arange(tokens.shape[1]))  # stream
        x = self.run(x, self.blocks)
        return self.head(self.norm(x))


def program(name, run):
    graph, shapes = nnx.split(nnx.eval_shape(lambda: Decoder(run, nnx.Rngs(0))))
    model = nnx.merge(graph, drawn(shapes))
    logits = lambda model, batch: model(batch["inputs"])
    known = {"wiring": "pre", "layers": 2 * DEPTH, "source": (Decoder, Block), "module": model}
    return classifier(name, logits, model, text(), **known)


def nnx_scan():
    return program("nnx_scan", run)


def nnx_scan_remat():
    return program("nnx_scan_remat", run_rematerialized)
