"""Wirings that hold a deep stack otherwise, in plain functions: DeepNorm, ResiDual on two streams, hyper-connections on lanes.

Their branches and ends are those of `plain_loop`.
"""

import jax
import jax.numpy as jnp

from .plain_loop import DEPTH, attention, layer_norm, mlp, shapes
from .program import classifier, drawn, text

ALPHA = (2 * DEPTH) ** 0.25  # Wang et al. 2022, of a stack of DEPTH blocks
LANES = 2


def gelu_mlp(x, p):
    return mlp(x, p, jax.nn.gelu)


def embedded(params, tokens):
    return params["token"][tokens] + params["position"][: tokens.shape[-1]]


def deepnorm_forward(params, tokens):
    """`N(α x + F x)`."""
    x = embedded(params, tokens)  # stream
    for p in params["layers"]:
        x = layer_norm(ALPHA * x + attention(x, p), p["norm1"])  # stream
        x = layer_norm(ALPHA * x + gelu_mlp(x, p), p["norm2"])  # stream
    return x @ params["head"]


def two_streams_forward(params, tokens):
    """`x' = N(x + F x)` and `y' = y + F x`, read out as x + N(y) (Xie et al. 2023): two variables are carried."""
    x = embedded(params, tokens)  # stream
    y = x
    for p in params["layers"]:
        f = attention(x, p)
        y = y + f  # stream
        x = layer_norm(x + f, p["norm1"])  # stream
        f = gelu_mlp(x, p)
        y = y + f  # stream
        x = layer_norm(x + f, p["norm2"])  # stream
    return (x + layer_norm(y, params["norm"])) @ params["head"]


def lanes_forward(params, tokens):
    """`X' = A X + b F(N(cᵀ X))` (Zhu et al. 2024): X [batch token lane feature] begins as copies, and is summed at the end."""
    x = jnp.repeat(embedded(params, tokens)[:, :, None], LANES, axis=2)  # stream
    for p in params["layers"]:
        gains = p["lanes"]
        f = attention(layer_norm(read(x, gains, 0), p["norm1"]), p)
        x = kept(x, gains, 0) + f[:, :, None] * gains["write"][0][:, None]  # stream
        f = gelu_mlp(layer_norm(read(x, gains, 1), p["norm2"]), p)
        x = kept(x, gains, 1) + f[:, :, None] * gains["write"][1][:, None]  # stream
    return layer_norm(x.sum(axis=2), params["norm"]) @ params["head"]


def read(x, gains, sublayer):
    return jnp.einsum("btnd,n->btd", x, gains["read"][sublayer])


def kept(x, gains, sublayer):
    return jnp.einsum("btnd,mn->btmd", x, gains["keep"][sublayer])


def lane_params():
    """The parameters of `plain_loop`, and the gains of the lanes, near those that training starts from."""
    params = drawn(shapes())
    moved = drawn([{"keep": (2, LANES, LANES), "read": (2, LANES), "write": (2, LANES)} for _ in params["layers"]])
    starts = {"keep": jnp.eye(LANES, dtype=jnp.float32), "read": jnp.full(LANES, 0.5, jnp.float32), "write": 1.0}
    gains = [{name: starts[name] + change for name, change in layer.items()} for layer in moved]
    layers = [p | {"lanes": own} for p, own in zip(params["layers"], gains, strict=True)]
    return params | {"layers": layers}


def program(name, forward, wiring, params):
    logits = lambda params, batch: forward(params, batch["inputs"])
    known = {"wiring": wiring, "layers": 2 * DEPTH, "source": (forward,)}
    return classifier(name, logits, params, text(), **known)


def deepnorm():
    params = drawn(shapes())
    return program("deepnorm", deepnorm_forward, "deepnorm", {k: v for k, v in params.items() if k != "norm"})


def two_streams():
    return program("two_streams", two_streams_forward, "residual", drawn(shapes()))


def lanes():
    return program("lanes", lanes_forward, "hyper_connections", lane_params())
