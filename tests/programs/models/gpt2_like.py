"""GPT-2 in NNX with its own attention: dropout whose key is in the batch, a readout tied to the embedding, norms on the heads."""

import jax
import jax.numpy as jnp
from flax import nnx

from .program import LENGTH, VOCABULARY, classifier, drawn, text

WIDTH, HEADS, DEPTH = 16, 4, 3


class Mlp(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x):
        return self.down(nnx.gelu(self.up(x)))


class Block(nnx.Module):
    def __init__(self, rate, norm_heads, rngs):
        self.ln_1 = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, normalize_qk=norm_heads, decode=False, rngs=rngs)
        self.ln_2 = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.mlp = Mlp(rngs)
        self.dropout = nnx.Dropout(rate)

    def __call__(self, x, mask, rngs):
        x = x + self.dropout(self.attention(self.ln_1(x), mask=mask), rngs=rngs)  # stream
        x = x + self.dropout(self.mlp(self.ln_2(x)), rngs=rngs)  # stream
        return x


class Gpt2(nnx.Module):
    def __init__(self, rngs, rate=0.0, norm_heads=False):
        self.wte = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.wpe = nnx.Embed(LENGTH, WIDTH, rngs=rngs)
        self.dropout = nnx.Dropout(rate)
        self.blocks = nnx.List([Block(rate, norm_heads, rngs) for _ in range(DEPTH)])
        self.ln_f = nnx.LayerNorm(WIDTH, rngs=rngs)

    def __call__(self, tokens, rngs=None):
        positions = self.wpe(jnp.arange(tokens.shape[1]))
        x = self.dropout(self.wte(tokens) + positions, rngs=rngs)  # stream
        mask = nnx.make_causal_mask(tokens)
        for block in self.blocks:
            x = block(x, mask, rngs)
        return self.wte.attend(self.ln_f(x))


def program(name, batch, **options):
    graph, shapes = nnx.split(nnx.eval_shape(lambda: Gpt2(nnx.Rngs(0), **options)))
    params = drawn(shapes)

    def logits(params, batch):
        rngs = nnx.Rngs(dropout=batch["dropout"]) if "dropout" in batch else None
        return nnx.merge(graph, params)(batch["inputs"], rngs)

    known = {"wiring": "pre", "layers": 2 * DEPTH, "source": (Gpt2, Block), "module": nnx.merge(graph, params)}
    return classifier(name, logits, params, batch, **known)


def gpt2():
    return program("gpt2", text())


def gpt2_dropout():
    return program("gpt2_dropout", {**text(), "dropout": jax.random.key(3)}, rate=0.1)


def gpt2_qk_norm():
    return program("gpt2_qk_norm", text(), norm_heads=True)
