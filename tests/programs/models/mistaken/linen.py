"""A pre-norm decoder in Linen, and the same with one mistake each."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..program import LENGTH, VOCABULARY, classifier, drawn, text
from .mutant import composed, mutants_of

WIDTH, HEADS, EPS = 16, 4, 1e-6
HEAD = WIDTH // HEADS


class Norm(nn.Module):
    """RMSNorm."""

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, (WIDTH,))
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPS) * scale


class Attention(nn.Module):
    def setup(self):
        self.query, self.key, self.value, self.out = (nn.Dense(WIDTH) for _ in range(4))

    def __call__(self, x):
        """Heads are put in front of the tokens, and back."""
        q, k, v = (self.heads(project(x)) for project in (self.query, self.key, self.value))
        scores = jnp.einsum("bhqk,bhtk->bhqt", q / HEAD**0.5, k)
        mixed = jnp.einsum("bhqt,bhtk->bqhk", nn.softmax(self.causal(scores)), v)
        return self.out(mixed.reshape(x.shape))

    def heads(self, y):
        return y.reshape(*y.shape[:2], HEADS, HEAD).transpose(0, 2, 1, 3)

    def causal(self, scores):
        return jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -1e9)


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(WIDTH)(nn.relu(nn.Dense(4 * WIDTH)(x)))


class Block(nn.Module):
    attention_kind: type[nn.Module] = Attention
    norm_kind: type[nn.Module] = Norm

    def setup(self):
        self.norm1, self.norm2 = self.norm_kind(), self.norm_kind()
        self.attention, self.mlp = self.attention_kind(), Mlp()

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
    def setup(self):
        super().setup()
        self.norm = Norm()

    def __call__(self, x):
        x = self.norm(x)  # mistake
        return super().__call__(x)


class SumFromNorm(Block):
    def __call__(self, x):
        x = x + self.attention(self.norm1(x))  # stream
        x = self.norm2(x)
        x = x + self.mlp(x)  # mistake  # stream
        return x


class SharedNorm(Block):
    def __call__(self, x):
        x = x + self.attention(self.norm1(x))  # stream
        x = x + self.mlp(self.norm1(x))  # mistake  # stream
        return x


class AttentionOverHeads(Attention):
    def __call__(self, x):
        split = lambda y: y.reshape(*y.shape[:2], HEADS, HEAD)  # mistake
        q, k, v = (split(project(x)) for project in (self.query, self.key, self.value))
        scores = jnp.einsum("bhqk,bhtk->bhqt", q / HEAD**0.5, k)
        mixed = jnp.einsum("bhqt,bhtk->bhqk", nn.softmax(self.causal(scores)), v)
        return self.out(mixed.reshape(x.shape))


class UnscaledAttention(Attention):
    def __call__(self, x):
        q, k, v = (self.heads(project(x)) for project in (self.query, self.key, self.value))
        scores = jnp.einsum("bhqk,bhtk->bhqt", q, k)  # mistake
        mixed = jnp.einsum("bhqt,bhtk->bqhk", nn.softmax(self.causal(scores)), v)
        return self.out(mixed.reshape(x.shape))


class UnmaskedAttention(Attention):
    def __call__(self, x):
        q, k, v = (self.heads(project(x)) for project in (self.query, self.key, self.value))
        scores = jnp.einsum("bhqk,bhtk->bhqt", q / HEAD**0.5, k)
        mixed = jnp.einsum("bhqt,bhtk->bqhk", nn.softmax(scores), v)  # mistake
        return self.out(mixed.reshape(x.shape))


class AddedTwice(Block):
    def attend(self, x):
        return x + self.attention(self.norm1(x))

    def __call__(self, x):
        x = x + self.attend(x)  # mistake  # stream
        x = x + self.mlp(self.norm2(x))  # stream
        return x


class NormWithEpsOutside(nn.Module):
    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, (WIDTH,))
        return x / (jnp.sqrt(jnp.mean(x * x, -1, keepdims=True)) + EPS) * scale  # mistake


class PostForPre(Block):
    def __call__(self, x):
        x = self.norm1(x + self.attention(x))  # mistake  # stream
        x = self.norm2(x + self.mlp(x))  # mistake  # stream
        return x


class Decoder(nn.Module):
    blocks: tuple

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(VOCABULARY, WIDTH)(tokens) + nn.Embed(LENGTH, WIDTH)(jnp.arange(LENGTH))  # stream
        for block in self.blocks:
            x = block()(x)
        return nn.Dense(VOCABULARY)(Norm()(x))


class WithoutNorm(Decoder):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(VOCABULARY, WIDTH)(tokens) + nn.Embed(LENGTH, WIDTH)(jnp.arange(LENGTH))  # stream
        for block in self.blocks:
            x = block()(x)
        return nn.Dense(VOCABULARY)(x)  # mistake


BLOCKS = {
    "norm_on_path": (NormOnPath, NormOnPath),
    "no_add": (NoAdd, NoAdd),
    "norm_after_branch": (NormAfterBranch, NormAfterBranch),
    "double_norm": (partial(Block, attention_kind=NormedAttention), NormedAttention),
    "sum_from_norm": (SumFromNorm, SumFromNorm),
    "shared_norm": (SharedNorm, SharedNorm),
    "heads_for_tokens": (partial(Block, attention_kind=AttentionOverHeads), AttentionOverHeads),
    "unscaled_scores": (partial(Block, attention_kind=UnscaledAttention), UnscaledAttention),
    "no_final_norm": (Block, WithoutNorm),
    "no_causal_mask": (partial(Block, attention_kind=UnmaskedAttention), UnmaskedAttention),
    "added_twice": (AddedTwice, AddedTwice),
    "eps_outside": (partial(Block, norm_kind=NormWithEpsOutside), NormWithEpsOutside),
    "post_for_pre": (PostForPre, PostForPre),
}
"""The block of each mistake, and the code that has the mistaken line."""


def made(name, mistake, only_layer):
    blocks, decoder, known = composed(mistake, only_layer, Block, BLOCKS, (Decoder, WithoutNorm))
    model, batch = decoder(blocks), text()
    variables = drawn(jax.eval_shape(model.init, jax.random.key(0), batch["inputs"]))
    logits = lambda params, batch: model.apply({"params": params}, batch["inputs"])
    return classifier(name, logits, variables["params"], batch, module=model, variables=variables, **known)


def right():
    return made("linen", "", None)


MUTANTS = mutants_of("linen", made)
