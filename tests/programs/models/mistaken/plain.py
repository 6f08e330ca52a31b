"""A pre-norm decoder in plain functions, and the same with one mistake each."""

from functools import partial

import jax
import jax.numpy as jnp

from ..program import LENGTH, VOCABULARY, classifier, drawn, text
from .mutant import DEPTH, composed, mutants_of

WIDTH, HEADS, EPS = 16, 4, 1e-5


def shapes():
    norm = {"scale": (WIDTH,), "bias": (WIDTH,)}
    branches = {"qkv": (WIDTH, 3 * WIDTH), "out": (WIDTH, WIDTH), "up": (WIDTH, 4 * WIDTH), "down": (4 * WIDTH, WIDTH)}
    layers = [{"norm1": norm, "norm2": norm, **branches} for _ in range(DEPTH)]
    embedding = {"token": (VOCABULARY, WIDTH), "position": (LENGTH, WIDTH)}
    return {**embedding, "layers": layers, "norm": norm, "head": (WIDTH, VOCABULARY)}


def norm(x, p):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + EPS) * p["scale"] + p["bias"]


def split(x, p):
    """Queries, keys and values, [batch head token feature]."""
    heads = lambda y: y.reshape(*x.shape[:2], HEADS, -1).swapaxes(1, 2)
    return [heads(y) for y in jnp.split(x @ p["qkv"], 3, axis=-1)]


def causal(scores):
    return jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -jnp.inf)


def attention(x, p):
    q, k, v = split(x, p)
    scores = q @ k.mT / (WIDTH // HEADS) ** 0.5
    mixed = jax.nn.softmax(causal(scores)) @ v
    return mixed.swapaxes(1, 2).reshape(x.shape) @ p["out"]


def mlp(x, p):
    return jax.nn.gelu(x @ p["up"]) @ p["down"]


def block(x, p, attend=attention, normed=norm):
    x = x + attend(normed(x, p["norm1"]), p)  # stream
    x = x + mlp(normed(x, p["norm2"]), p)  # stream
    return x


def norm_on_path(x, p):
    x = norm(x, p["norm1"])  # mistake
    x = x + attention(x, p)  # stream
    x = norm(x, p["norm2"])  # mistake
    x = x + mlp(x, p)  # stream
    return x


def no_add(x, p):
    x = x + attention(norm(x, p["norm1"]), p)  # stream
    x = mlp(norm(x, p["norm2"]), p)  # mistake  # stream
    return x


def norm_after_branch(x, p):
    x = x + norm(attention(x, p), p["norm1"])  # mistake  # stream
    x = x + norm(mlp(x, p), p["norm2"])  # mistake  # stream
    return x


def double_norm(x, p):
    def normed_attention(x):
        x = norm(x, p["norm1"])  # mistake
        return attention(x, p)

    x = x + normed_attention(norm(x, p["norm1"]))  # stream
    x = x + mlp(norm(x, p["norm2"]), p)  # stream
    return x


def sum_from_norm(x, p):
    x = x + attention(norm(x, p["norm1"]), p)  # stream
    h = norm(x, p["norm2"])
    x = h + mlp(h, p)  # mistake  # stream
    return x


def shared_norm(x, p):
    x = x + attention(norm(x, p["norm1"]), p)  # stream
    x = x + mlp(norm(x, p["norm1"]), p)  # mistake  # stream
    return x


def attention_over_heads(x, p):
    q, k, v = (y.reshape(*x.shape[:2], HEADS, -1) for y in jnp.split(x @ p["qkv"], 3, axis=-1))  # mistake
    scores = q @ k.mT / (WIDTH // HEADS) ** 0.5
    mixed = jax.nn.softmax(causal(scores)) @ v
    return mixed.reshape(x.shape) @ p["out"]


def unscaled_attention(x, p):
    q, k, v = split(x, p)
    scores = q @ k.mT  # mistake
    mixed = jax.nn.softmax(causal(scores)) @ v
    return mixed.swapaxes(1, 2).reshape(x.shape) @ p["out"]


def unmasked_attention(x, p):
    q, k, v = split(x, p)
    scores = q @ k.mT / (WIDTH // HEADS) ** 0.5
    mixed = jax.nn.softmax(scores) @ v  # mistake
    return mixed.swapaxes(1, 2).reshape(x.shape) @ p["out"]


def added_twice(x, p):
    attended = x + attention(norm(x, p["norm1"]), p)
    x = x + attended  # mistake  # stream
    x = x + mlp(norm(x, p["norm2"]), p)  # stream
    return x


def norm_with_eps_outside(x, p):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / (jnp.sqrt(variance) + EPS) * p["scale"] + p["bias"]  # mistake


def post_for_pre(x, p):
    x = norm(x + attention(x, p), p["norm1"])  # mistake  # stream
    x = norm(x + mlp(x, p), p["norm2"])  # mistake  # stream
    return x


def forward(params, tokens, blocks):
    x = params["token"][tokens] + params["position"][: tokens.shape[-1]]  # stream
    for this_block, p in zip(blocks, params["layers"], strict=True):
        x = this_block(x, p)
    return norm(x, params["norm"]) @ params["head"]


def forward_without_norm(params, tokens, blocks):
    x = params["token"][tokens] + params["position"][: tokens.shape[-1]]  # stream
    for this_block, p in zip(blocks, params["layers"], strict=True):
        x = this_block(x, p)
    return x @ params["head"]  # mistake


BLOCKS = {
    "norm_on_path": (norm_on_path,),
    "no_add": (no_add,),
    "norm_after_branch": (norm_after_branch,),
    "double_norm": (double_norm,),
    "sum_from_norm": (sum_from_norm,),
    "shared_norm": (shared_norm,),
    "heads_for_tokens": (partial(block, attend=attention_over_heads), attention_over_heads),
    "unscaled_scores": (partial(block, attend=unscaled_attention), unscaled_attention),
    "no_final_norm": (block,),
    "no_causal_mask": (partial(block, attend=unmasked_attention), unmasked_attention),
    "added_twice": (added_twice,),
    "eps_outside": (partial(block, normed=norm_with_eps_outside), norm_with_eps_outside),
    "post_for_pre": (post_for_pre,),
}


def made(name, mistake, only_layer):
    blocks, run, known = composed(mistake, only_layer, block, BLOCKS, (forward, forward_without_norm))
    logits = lambda params, batch: run(params, batch["inputs"], blocks)
    return classifier(name, logits, drawn(shapes()), text(), **known)


def right():
    return made("plain", "", None)


MUTANTS = mutants_of("plain", made)
