"""Mamba in plain functions: in every residual branch a scan over the tokens, which carries a state of the branch's own.

The stream is carried by the loop over layers, not by that over tokens. Pre-norm with RMSNorm; in a loop, and scanned over depth.
"""

import jax
import jax.numpy as jnp

from .program import VOCABULARY, classifier, drawn, text

WIDTH, INNER, STATE, TAPS, DEPTH = 16, 24, 4, 3, 3


def shapes():
    layer = {
        "norm": {"scale": (WIDTH,)},
        "in": (WIDTH, 2 * INNER),
        "taps": (TAPS, INNER),
        "taps_bias": (INNER,),
        "to_step": (INNER, INNER),
        "step_bias": (INNER,),
        "to_read": (INNER, STATE),
        "to_write": (INNER, STATE),
        "log_decay": (INNER, STATE),
        "pass": (INNER,),
        "out": (INNER, WIDTH),
    }
    stacked = jax.tree.map(lambda shape: (DEPTH, *shape), layer, is_leaf=lambda leaf: isinstance(leaf, tuple))
    return {"embedding": (VOCABULARY, WIDTH), "layers": stacked, "norm": {"scale": (WIDTH,)}}


def rms_norm(x, p):
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-5) * p["scale"]


def causal_convolution(u, p):
    padded = jnp.pad(u, ((0, 0), (TAPS - 1, 0), (0, 0)))
    return sum(padded[:, tap : tap + u.shape[1]] * p["taps"][tap] for tap in range(TAPS)) + p["taps_bias"]


def selective_scan(u, p):
    """`h_t = exp(−Δ_t A) h_(t−1) + Δ_t u_t B_t`, read as `h_t C_t`: state h [batch inner state], and Δ, B, C made from u."""
    step = jax.nn.softplus(u @ p["to_step"] + p["step_bias"])
    decay = jnp.exp(-step[..., None] * jnp.exp(p["log_decay"]))
    written = (step * u)[..., None] * (u @ p["to_write"])[:, :, None]

    def advance(h, token):
        decay, written, read = token
        h = decay * h + written
        return h, jnp.einsum("bis,bs->bi", h, read)

    tokens = [jnp.moveaxis(part, 1, 0) for part in (decay, written, u @ p["to_read"])]
    _, y = jax.lax.scan(advance, jnp.zeros_like(decay[:, 0]), tokens)
    return jnp.moveaxis(y, 0, 1) + u * p["pass"]


def mixer(x, p):
    u, gate = jnp.split(x @ p["in"], 2, axis=-1)
    u = jax.nn.silu(causal_convolution(u, p))
    return (selective_scan(u, p) * jax.nn.silu(gate)) @ p["out"]


def forward(params, tokens):
    x = params["embedding"][tokens]  # stream
    for depth in range(DEPTH):
        p = jax.tree.map(lambda leaf, depth=depth: leaf[depth], params["layers"])
        x = x + mixer(rms_norm(x, p["norm"]), p)  # stream
    return rms_norm(x, params["norm"]) @ params["embedding"].T


def layer(x, p):
    x = x + mixer(rms_norm(x, p["norm"]), p)  # stream
    return x, None


def scanned_forward(params, tokens):
    x = params["embedding"][tokens]  # stream
    x, _ = jax.lax.scan(layer, x, params["layers"])
    return rms_norm(x, params["norm"]) @ params["embedding"].T


def mamba():
    logits = lambda params, batch: forward(params, batch["inputs"])
    known = {"wiring": "pre", "layers": DEPTH, "source": (forward,)}
    return classifier("mamba", logits, drawn(shapes()), text(), **known)


def mamba_scan():
    logits = lambda params, batch: scanned_forward(params, batch["inputs"])
    known = {"wiring": "pre", "layers": DEPTH, "source": (scanned_forward, layer)}
    return classifier("mamba_scan", logits, drawn(shapes()), text(), **known)
