"""BERT in Linen: a norm on the sum of three embeddings, post-norm blocks that look both ways, and a loss on the masked tokens."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .program import LENGTH, VOCABULARY, classifier, drawn, text

WIDTH, HEADS, DEPTH = 16, 4, 2
MASK_TOKEN = 0


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, visible):
        attended = nn.MultiHeadDotProductAttention(HEADS)(x, mask=visible)
        x = nn.LayerNorm(epsilon=1e-12)(x + attended)  # stream
        h = nn.gelu(nn.Dense(4 * WIDTH)(x), approximate=False)
        x = nn.LayerNorm(epsilon=1e-12)(x + nn.Dense(WIDTH)(h))  # stream
        return x


class Bert(nn.Module):
    @nn.compact
    def __call__(self, tokens, segments, present):
        words = nn.Embed(VOCABULARY, WIDTH, name="words")
        x = words(tokens) + nn.Embed(2, WIDTH, name="segments")(segments)
        x = x + self.param("positions", nn.initializers.normal(0.02), (LENGTH, WIDTH))
        x = nn.LayerNorm(epsilon=1e-12, name="embedding_norm")(x)  # stream
        visible = nn.make_attention_mask(present, present)
        for depth in range(DEPTH):
            x = Layer(name=f"layer_{depth}")(x, visible)
        x = nn.LayerNorm(epsilon=1e-12, name="head_norm")(nn.gelu(nn.Dense(WIDTH, name="head")(x)))
        return words.attend(x) + self.param("head_bias", nn.initializers.zeros, (VOCABULARY,))


def masked_text():
    """Every fourth token hidden and to be found again; the second row is shorter than the first."""
    tokens = text()["inputs"]
    hidden = np.arange(LENGTH) % 4 == 1
    present = np.arange(LENGTH) < np.array([[LENGTH], [LENGTH - 2]])
    return {
        "inputs": jnp.where(hidden, MASK_TOKEN, tokens),
        "targets": tokens,
        "segments": jnp.asarray(np.arange(LENGTH) >= LENGTH // 2, jnp.int32) * jnp.ones_like(tokens),
        "present": jnp.asarray(present),
        "mask": jnp.asarray(hidden & present, jnp.float32),
    }


def bert():
    model, batch = Bert(), masked_text()
    inputs = lambda batch: (batch["inputs"], batch["segments"], batch["present"])
    variables = drawn(jax.eval_shape(model.init, jax.random.key(0), *inputs(batch)))
    logits = lambda params, batch: model.apply({"params": params}, *inputs(batch))
    known = {"wiring": "post", "layers": 2 * DEPTH, "source": (Bert, Layer), "causal": False}
    return classifier("bert", logits, variables["params"], batch, module=model, variables=variables, **known)
