"""Streams that are held in several variables, in plain functions: lists of lanes, reversible networks, carries of two arrays.

Their branches and ends are those of `plain_loop`. A mark is where all lanes have been made.
"""

import jax
import jax.numpy as jnp

from .plain_loop import attention, layer_norm, shapes
from .plain_wirings import LANES, embedded, gelu_mlp, lane_params, program
from .program import drawn


def lanes_in_list_forward(params, tokens):
    """`X' = A X + b F(N(cᵀ X))` (Zhu et al. 2024), X a list of lanes."""
    lanes = [embedded(params, tokens)] * LANES  # stream
    for p in params["layers"]:
        gains = p["lanes"]
        for sublayer, (branch, norm) in enumerate(((attention, p["norm1"]), (gelu_mlp, p["norm2"]))):
            gathered = sum(c * x for c, x in zip(gains["read"][sublayer], lanes, strict=True))
            f = branch(layer_norm(gathered, norm), p)
            lanes = [
                sum(a * x for a, x in zip(row, lanes, strict=True)) + b * f  # stream
                for row, b in zip(gains["keep"][sublayer], gains["write"][sublayer], strict=True)
            ]
    return layer_norm(sum(lanes), params["norm"]) @ params["head"]


def reversible_forward(params, tokens):
    """`y₁ = x₁ + F(x₂)`, `y₂ = x₂ + G(y₁)` (Gomez et al. 2017; Kitaev et al. 2020), both halves with the width of the model."""
    x1 = embedded(params, tokens)
    x2 = x1 @ params["second"]  # stream
    for p in params["layers"]:
        x1 = x1 + attention(layer_norm(x2, p["norm1"]), p)  # stream
        x2 = x2 + gelu_mlp(layer_norm(x1, p["norm2"]), p)  # stream
    return layer_norm(x1 + x2, params["norm"]) @ params["head"]


def remat_two_streams_forward(params, tokens):
    """ResiDual as blocks that are computed again, each with both streams; norms are written in front of the other sum."""

    @jax.checkpoint
    def block(x, y, p):
        f = attention(x, p)
        x = layer_norm(x + f, p["norm1"])  # stream
        y = y + f
        f = gelu_mlp(x, p)
        x = layer_norm(x + f, p["norm2"])  # stream
        return x, y + f

    x = embedded(params, tokens)  # stream
    y = jnp.zeros_like(x)
    for p in params["layers"]:
        x, y = block(x, y, p)
    return (x + layer_norm(y, params["norm"])) @ params["head"]


def scan_two_streams_forward(params, tokens):
    """ResiDual whose two streams are the carry of a scan."""

    def block(streams, p):
        x, y = streams
        f = attention(x, p)
        x, y = layer_norm(x + f, p["norm1"]), y + f  # stream
        f = gelu_mlp(x, p)
        return (layer_norm(x + f, p["norm2"]), y + f), None  # stream

    x = embedded(params, tokens)  # stream
    (x, y), _ = jax.lax.scan(block, (x, x), params["layers"])
    return (x + layer_norm(y, params["norm"])) @ params["head"]


def momentum_forward(params, tokens):
    """`v' = γ v + (1 − γ) F x`, `x' = x + v'` (Sander et al. 2021): the second sum is no sublayer of its own."""
    x = embedded(params, tokens)
    v = 0.1 * (x @ params["second"])  # stream
    for p in params["layers"]:
        v = 0.9 * v + 0.1 * attention(layer_norm(x, p["norm1"]), p)
        x = x + v  # stream
        v = 0.9 * v + 0.1 * gelu_mlp(layer_norm(x, p["norm2"]), p)  # stream
        x = x + v  # stream
    return layer_norm(x, params["norm"]) @ params["head"]


def two_params():
    """The parameters of `plain_loop`, and a matrix that the second stream begins with."""
    return drawn({**shapes(), "second": (16, 16)})


def lanes_in_list():
    return program("lanes_in_list", lanes_in_list_forward, "hyper_connections", lane_params())


def reversible():
    return program("reversible", reversible_forward, "pre", two_params())


def remat_two_streams():
    return program("remat_two_streams", remat_two_streams_forward, "residual", drawn(shapes()))


def scan_two_streams():
    params = drawn(shapes())
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params["layers"])
    return program("scan_two_streams", scan_two_streams_forward, "residual", params | {"layers": stacked})


def momentum():
    return program("momentum", momentum_forward, "pre", two_params())
