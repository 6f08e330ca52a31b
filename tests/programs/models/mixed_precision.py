"""A decoder in Linen whose activations are bfloat16, and whose norms and logits are float32: as trained on accelerators."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from .program import VOCABULARY, classifier, drawn, text

WIDTH, HEADS, DEPTH = 16, 2, 3
HALF = jnp.bfloat16


class Norm(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.RMSNorm(dtype=jnp.float32)(x).astype(x.dtype)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        mask = nn.make_causal_mask(x[..., 0])
        x = x + nn.MultiHeadDotProductAttention(HEADS, dtype=HALF, use_bias=False)(Norm()(x), mask=mask)  # stream
        h = Norm()(x)
        gate, up = (nn.Dense(2 * WIDTH, dtype=HALF, use_bias=False)(h) for _ in range(2))
        x = x + nn.Dense(WIDTH, dtype=HALF, use_bias=False)(nn.silu(gate) * up)  # stream
        return x, None


class Decoder(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(VOCABULARY, WIDTH, dtype=HALF)(tokens)  # stream
        blocks = nn.scan(nn.remat(Block), variable_axes={"params": 0}, split_rngs={"params": True}, length=DEPTH)
        x, _ = blocks()(x, None)
        return nn.Dense(VOCABULARY, dtype=jnp.float32)(Norm()(x))


def bfloat16():
    model, batch = Decoder(), text()
    variables = drawn(jax.eval_shape(model.init, jax.random.key(0), batch["inputs"]))
    logits = lambda params, batch: model.apply({"params": params}, batch["inputs"])
    known = {"wiring": "pre", "layers": 2 * DEPTH, "source": (Decoder, Block)}
    return classifier("bfloat16", logits, variables["params"], batch, module=model, variables=variables, **known)
