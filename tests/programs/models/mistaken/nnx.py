"""A pre-norm decoder in NNX with `jax.nn.dot_product_attention`, and the same with one mistake each."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from ..program import LENGTH, VOCABULARY, classifier, drawn, text
from .mutant import composed, mutants_of

WIDTH, HEADS = 16, 4


class Attention(nnx.Module):
    def __init__(self, rngs):
        self.qkv = nnx.Linear(WIDTH, 3 * WIDTH, rngs=rngs)
        self.out = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

    def split(self, x):
        """Queries, keys and values, [batch token head feature]."""
        return jnp.split(self.qkv(x).reshape(*x.shape[:2], 3 * HEADS, -1), 3, axis=2)

    def __call__(self, x):
        q, k, v = self.split(x)
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.reshape(x.shape))


class Mlp(nnx.Module):
    def __init__(self, rngs):
        self.gate, self.up = (nnx.Linear(WIDTH, 2 * WIDTH, rngs=rngs) for _ in range(2))
        self.down = nnx.Linear(2 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x):
        return self.down(nnx.silu(self.gate(x)) * self.up(x))


class Block(nnx.Module):
    def __init__(self, rngs, attention=Attention, norm=nnx.RMSNorm):
        self.norm1, self.norm2 = norm(WIDTH, rngs=rngs), norm(WIDTH, rngs=rngs)
        self.attention, self.mlp = attention(rngs), Mlp(rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm1(x))  # stream
        x = x + self.mlp(self.norm2(x))  # stream
        return x


class NormOnPath(Block):
    def __call__(self, x):
        x = self.norm1(x)  # mistake
        x = x + self.attention(x)  # stream
        x = self.norm2(x)  # mistake
        x = x + self.mlp(x)  # stream
        return x


class NoAdd(Block):
    def __call__(self, x):
        x = x + self.attention(self.norm1(x))  # stream
        x = self.mlp(self.norm2(x))  # mistake  # stream
        return x


class NormAfterBranch(Block):
    def __call__(self, x):
        x = x + self.norm1(self.attention(x))  # mistake  # stream
        x = x + self.norm2(self.mlp(x))  # mistake  # stream
        return x


class NormedAttention(Attention):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.norm = nnx.RMSNorm(WIDTH, rngs=rngs)

    def __call__(self, x):
        x = self.norm(x)  # mistake
        return super().__call__(x)


class SumFromNorm(Block):
    def __call__(self, x):
        x = x + self.attention(self.norm1(x))  # stream
        normed = self.norm2(x)
        x = normed + self.mlp(normed)  # mistake  # stream
        return x


class SharedNorm(Block):
    def __call__(self, x):
        x = x + self.attention(self.norm1(x))  # stream
        x = x + self.mlp(self.norm1(x))  # mistake  # stream
        return x


class AttentionOverHeads(Attention):
    """Heads in front of tokens, which other libraries expect."""

    def __call__(self, x):
        q, k, v = (y.swapaxes(1, 2) for y in self.split(x))  # mistake
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.swapaxes(1, 2).reshape(x.shape))


class UnscaledAttention(Attention):
    def __call__(self, x):
        q, k, v = self.split(x)
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True, scale=1.0)  # mistake
        return self.out(mixed.reshape(x.shape))


class UnmaskedAttention(Attention):
    def __call__(self, x):
        q, k, v = self.split(x)
        mixed = jax.nn.dot_product_attention(q, k, v)  # mistake
        return self.out(mixed.reshape(x.shape))


class AddedTwice(Block):
    def attend(self, x):
        return x + self.attention(self.norm1(x))

    def __call__(self, x):
        x = x + self.attend(x)  # mistake  # stream
        x = x + self.mlp(self.norm2(x))  # stream
        return x


class NormWithEpsOutside(nnx.RMSNorm):
    def __call__(self, x):
        rms = jnp.sqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True))
        return x / (rms + self.epsilon) * self.scale[...]  # mistake


class PostForPre(Block):
    def __call__(self, x):
        x = self.norm1(x + self.attention(x))  # mistake  # stream
        x = self.norm2(x + self.mlp(x))  # mistake  # stream
        return x


class Decoder(nnx.Module):
    def __init__(self, blocks, rngs):
        self.tokens, self.positions = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs), nnx.Embed(LENGTH, WIDTH, rngs=rngs)
        self.blocks = nnx.List([block(rngs) for block in blocks])
        self.norm = nnx.RMSNorm(WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, VOCABULARY, rngs=rngs)

    def run(self, tokens):
        x = self.tokens(tokens) + self.positions(jnp.arange(tokens.shape[1]))  # stream
        for block in self.blocks:
            x = block(x)
        return x

    def __call__(self, tokens):
        return self.head(self.norm(self.run(tokens)))


class WithoutNorm(Decoder):
    def __call__(self, tokens):
        return self.head(self.run(tokens))  # mistake


BLOCKS = {
    "norm_on_path": (NormOnPath, NormOnPath),
    "no_add": (NoAdd, NoAdd),
    "norm_after_branch": (NormAfterBranch, NormAfterBranch),
    "double_norm": (partial(Block, attention=NormedAttention), NormedAttention),
    "sum_from_norm": (SumFromNorm, SumFromNorm),
    "shared_norm": (SharedNorm, SharedNorm),
    "heads_for_tokens": (partial(Block, attention=AttentionOverHeads), AttentionOverHeads),
    "unscaled_scores": (partial(Block, attention=UnscaledAttention), UnscaledAttention),
    "no_final_norm": (Block, WithoutNorm),
    "no_causal_mask": (partial(Block, attention=UnmaskedAttention), UnmaskedAttention),
    "added_twice": (AddedTwice, AddedTwice),
    "eps_outside": (partial(Block, norm=NormWithEpsOutside), NormWithEpsOutside),
    "post_for_pre": (PostForPre, PostForPre),
}
"""The block of each mistake, and the code that has the mistaken line."""


def made(name, mistake, only_layer):
    blocks, decoder, known = composed(mistake, only_layer, Block, BLOCKS, (Decoder, WithoutNorm), also=(Decoder,))
    graph, shapes = nnx.split(nnx.eval_shape(lambda: decoder(blocks, nnx.Rngs(0))))
    params = drawn(shapes)
    logits = lambda params, batch: nnx.merge(graph, params)(batch["inputs"])
    return classifier(name, logits, params, text(), module=nnx.merge(graph, params), **known)


def right():
    return made("nnx", "", None)


MUTANTS = mutants_of("nnx", made)
