"""A translator in Linen after the manner of T5: an encoder, and a decoder that also reads what the encoder made. Pre-norm.

There are two streams: the encoder's, and the decoder's beside the encoder's output, which every block of the decoder reads.
`layers` counts both. Seen from the encoder's x_0, the decoder's is the only one alive from its last reading of that output.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from .program import LENGTH, VOCABULARY, classifier, drawn, text

WIDTH, HEADS, DEPTH = 16, 2, 2


class FeedForward(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(WIDTH, use_bias=False)(nn.relu(nn.Dense(4 * WIDTH, use_bias=False)(x)))


def attention():
    return nn.MultiHeadDotProductAttention(HEADS, use_bias=False)


class EncoderBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x + attention()(nn.RMSNorm()(x))  # stream
        x = x + FeedForward()(nn.RMSNorm()(x))  # stream
        return x


class DecoderBlock(nn.Module):
    @nn.compact
    def __call__(self, y, memory):
        y = y + attention()(nn.RMSNorm()(y), mask=nn.make_causal_mask(y[..., 0]))  # stream
        y = y + attention()(nn.RMSNorm()(y), memory)  # stream
        y = y + FeedForward()(nn.RMSNorm()(y))  # stream
        return y


class Translator(nn.Module):
    @nn.compact
    def __call__(self, source, tokens):
        embed, positions = nn.Embed(VOCABULARY, WIDTH), nn.Embed(LENGTH, WIDTH)(jnp.arange(LENGTH))
        x = embed(source) + positions  # stream
        for _ in range(DEPTH):
            x = EncoderBlock()(x)
        memory = nn.RMSNorm()(x)
        y = embed(tokens) + positions  # stream
        for _ in range(DEPTH):
            y = DecoderBlock()(y, memory)
        return nn.Dense(VOCABULARY)(nn.RMSNorm()(y))


def encoder_decoder():
    model, batch = Translator(), {"source": text(seed=1)["inputs"], **text()}
    variables = drawn(jax.eval_shape(model.init, jax.random.key(0), batch["source"], batch["inputs"]))
    logits = lambda params, batch: model.apply({"params": params}, batch["source"], batch["inputs"])
    known = {"wiring": "pre", "layers": 5 * DEPTH, "source": (Translator, EncoderBlock, DecoderBlock)}
    return classifier("encoder_decoder", logits, variables["params"], batch, module=model, variables=variables, **known)
