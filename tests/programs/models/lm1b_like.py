"""A language model in Linen after the manner of Flax's example LM1B: sinusoidal positions, `nn.scan` over rematerialized blocks.

Pre-norm or post-norm; and in a Python loop with dropout, whose key is in the batch.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .program import VOCABULARY, classifier, drawn, text

WIDTH, HEADS, DEPTH = 16, 2, 3


def sinusoids(length):
    angle = np.arange(length)[:, None] / 10000.0 ** (np.arange(0, WIDTH, 2) / WIDTH)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1).astype(np.float32)


class Attention(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x):
        mask = nn.make_causal_mask(jnp.zeros(x.shape[:2]))
        return nn.MultiHeadDotProductAttention(HEADS, dropout_rate=self.rate, deterministic=self.rate == 0)(
            x, mask=mask
        )


class Mlp(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x):
        h = nn.relu(nn.Dense(4 * WIDTH)(x))
        h = nn.Dropout(self.rate, deterministic=self.rate == 0)(h)
        return nn.Dense(WIDTH)(h)


class PreBlock(nn.Module):
    rate: float = 0.0

    @nn.compact
    def __call__(self, x, _=None):
        drop = nn.Dropout(self.rate, deterministic=self.rate == 0)
        x = x + drop(Attention(self.rate)(nn.LayerNorm()(x)))  # stream
        x = x + drop(Mlp(self.rate)(nn.LayerNorm()(x)))  # stream
        return x, None


class PostBlock(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        x = nn.LayerNorm()(x + Attention(0.0)(x))  # stream
        x = nn.LayerNorm()(x + Mlp(0.0)(x))  # stream
        return x, None


class Scanned(nn.Module):
    block: type[nn.Module]
    final_norm: bool

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(VOCABULARY, WIDTH)(tokens) + sinusoids(tokens.shape[1])  # stream
        blocks = nn.scan(nn.remat(self.block), variable_axes={"params": 0}, split_rngs={"params": True}, length=DEPTH)
        x, _ = blocks(name="blocks")(x, None)
        if self.final_norm:
            x = nn.LayerNorm(name="norm")(x)
        return nn.Dense(VOCABULARY, name="head")(x)


class Looped(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(VOCABULARY, WIDTH)(tokens) + sinusoids(tokens.shape[1])
        x = nn.Dropout(self.rate, deterministic=False)(x)  # stream
        for depth in range(DEPTH):
            x, _ = PreBlock(self.rate, name=f"block_{depth}")(x)
        x = nn.LayerNorm(name="norm")(x)
        return nn.Dense(VOCABULARY, name="head")(x)


def program(name, model, wiring, source, batch):
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = drawn(jax.eval_shape(model.init, keys, batch["inputs"]))

    def logits(params, batch):
        rngs = {"dropout": batch["dropout"]} if "dropout" in batch else None
        return model.apply({"params": params}, batch["inputs"], rngs=rngs)

    known = {"wiring": wiring, "layers": 2 * DEPTH, "source": source, "module": model, "variables": variables}
    return classifier(name, logits, variables["params"], batch, **known)


def lm1b_pre():
    return program("lm1b_pre", Scanned(PreBlock, final_norm=True), "pre", (Scanned, PreBlock), text())


def lm1b_post():
    return program("lm1b_post", Scanned(PostBlock, final_norm=False), "post", (Scanned, PostBlock), text())


def lm1b_dropout():
    batch = {**text(), "dropout": jax.random.key(2)}
    return program("lm1b_dropout", Looped(rate=0.1), "pre", (Looped, PreBlock), batch)
