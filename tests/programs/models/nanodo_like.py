"""A decoder in Linen after the manner of nanodo: pre-norm without biases, its heads as axes of the kernels, a tied readout."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from .program import LENGTH, VOCABULARY, classifier, drawn, text

WIDTH, HEADS, DEPTH = 16, 4, 3


class Attention(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x_BxTxD):
        width = x_BxTxD.shape[-1]
        project = lambda name: nn.DenseGeneral((self.heads, width // self.heads), use_bias=False, name=name)
        q_BxTxHxK = project("query")(x_BxTxD) * (width // self.heads) ** -0.5
        k_BxTxHxK = project("key")(x_BxTxD)
        v_BxTxHxK = project("value")(x_BxTxD)
        scores_BxHxTxT = jnp.einsum("bqhk,bthk->bhqt", q_BxTxHxK, k_BxTxHxK)
        causal_1x1xTxT = nn.make_causal_mask(x_BxTxD[:1, :, 0], dtype=bool)
        att_BxHxTxT = jax.nn.softmax(jnp.where(causal_1x1xTxT, scores_BxHxTxT, jnp.finfo(jnp.float32).min))
        out_BxTxHxK = jnp.einsum("bhqt,bthk->bqhk", att_BxHxTxT, v_BxTxHxK)
        return nn.DenseGeneral(width, axis=(-2, -1), use_bias=False, name="out")(out_BxTxHxK)


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, x_BxTxD):
        x_BxTxF = nn.gelu(nn.Dense(4 * x_BxTxD.shape[-1], use_bias=False)(x_BxTxD))
        return nn.Dense(x_BxTxD.shape[-1], use_bias=False)(x_BxTxF)


class Block(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x_BxTxD):
        h_BxTxD = nn.LayerNorm(use_bias=False)(x_BxTxD)
        x_BxTxD += Attention(self.heads)(h_BxTxD)  # stream
        h_BxTxD = nn.LayerNorm(use_bias=False)(x_BxTxD)
        x_BxTxD += Mlp()(h_BxTxD)  # stream
        return x_BxTxD


class Decoder(nn.Module):
    @nn.compact
    def __call__(self, tokens_BxT):
        embed = nn.Embed(VOCABULARY, WIDTH)
        positions = nn.Embed(LENGTH, WIDTH)
        x_BxTxD = embed(tokens_BxT) + positions(jnp.arange(tokens_BxT.shape[1]))  # stream
        for depth in range(DEPTH):
            x_BxTxD = Block(HEADS, name=f"block_{depth}")(x_BxTxD)
        x_BxTxD = nn.LayerNorm(use_bias=False, name="norm")(x_BxTxD)
        return embed.attend(x_BxTxD)


def nanodo():
    model, batch = Decoder(), text()
    variables = drawn(jax.eval_shape(model.init, jax.random.key(0), batch["inputs"]))
    logits = lambda params, batch: model.apply({"params": params}, batch["inputs"])
    known = {"wiring": "pre", "layers": 2 * DEPTH, "source": (Decoder, Block)}
    return classifier("nanodo", logits, variables["params"], batch, module=model, variables=variables, **known)
