"""GPT-2 in plain functions: a list of dicts of parameters, and a Python loop over the layers.

The blocks as they are, rematerialized, under `jit`, and with an activation that has a gradient of its own. Pre-norm.
"""

from functools import partial

import jax
import jax.numpy as jnp

from .program import LENGTH, VOCABULARY, classifier, drawn, text

WIDTH, HEADS, DEPTH = 16, 4, 3


def shapes():
    norm = {"scale": (WIDTH,), "bias": (WIDTH,)}
    layer = {
        "norm1": norm,
        "qkv": (WIDTH, 3 * WIDTH),
        "out": (WIDTH, WIDTH),
        "norm2": norm,
        "up": (WIDTH, 4 * WIDTH),
        "up_bias": (4 * WIDTH,),
        "down": (4 * WIDTH, WIDTH),
    }
    embedding = {"token": (VOCABULARY, WIDTH), "position": (LENGTH, WIDTH)}
    return {**embedding, "layers": [layer] * DEPTH, "norm": norm, "head": (WIDTH, VOCABULARY)}


def layer_norm(x, p, eps=1e-5):
    mean = x.mean(-1, keepdims=True)
    variance = x.var(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + eps) * p["scale"] + p["bias"]


def attention(x, p):
    batch, length, width = x.shape
    heads = lambda y: y.reshape(batch, length, HEADS, -1).swapaxes(1, 2)
    q, k, v = map(heads, jnp.split(x @ p["qkv"], 3, axis=-1))
    scores = q @ k.swapaxes(-1, -2) * (width // HEADS) ** -0.5
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e9)
    mixed = jax.nn.softmax(scores) @ v
    return mixed.swapaxes(1, 2).reshape(x.shape) @ p["out"]


def mlp(x, p, activation):
    return activation(x @ p["up"] + p["up_bias"]) @ p["down"]


def block(x, p, activation=jax.nn.gelu):
    x = x + attention(layer_norm(x, p["norm1"]), p)  # stream
    x = x + mlp(layer_norm(x, p["norm2"]), p, activation)  # stream
    return x


def forward(params, tokens, block=block):
    x = params["token"][tokens] + params["position"][: tokens.shape[-1]]  # stream
    for p in params["layers"]:
        x = block(x, p)
    return layer_norm(x, params["norm"]) @ params["head"]


@jax.custom_vjp
def squared_relu(x):
    return jnp.square(jax.nn.relu(x))


def squared_relu_forward(x):
    kept = jax.nn.relu(x)
    return jnp.square(kept), kept


def squared_relu_backward(kept, cotangent):
    return (2 * kept * cotangent,)


squared_relu.defvjp(squared_relu_forward, squared_relu_backward)


def program(name, this_block):
    logits = lambda params, batch: forward(params, batch["inputs"], this_block)
    known = {"wiring": "pre", "layers": 2 * DEPTH, "source": (forward, block)}
    return classifier(name, logits, drawn(shapes()), text(), **known)


def plain_loop():
    return program("plain_loop", block)


def plain_remat():
    return program("plain_remat", jax.checkpoint(block))


def plain_jit():
    return program("plain_jit", jax.jit(block))


def plain_custom_vjp():
    return program("plain_custom_vjp", partial(block, activation=squared_relu))
