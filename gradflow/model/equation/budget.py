"""The accounts of equation (1): budget and split of a backward pass, signal of a forward pass, from squares at its parts.

Measurement hands in what meters read, theory what it expects.

The budget says where, along the backward pass, the gradient gains and loses; it adds up exactly. With ‖·‖ the norms at the
inputs of the parts of equation (1), g_l the cotangent of sublayer l's output and g_{l−1} that of its input:

    norm_out:  log(‖u‖/‖g_l‖)        u the cotangent of N_out's input
    fork:      log(‖g_{l−1}‖/‖u‖)    skip plus branch
    Σ_l (norm_out + fork) = log(‖g_0‖/‖g_S‖)

and down the branch, one log-gain a part: write, norm_branch, branch, norm_in, read. These describe one arm of the fork
and are not summands of the above; nor is that of the path through gains that read the stream, `gains: log(‖g_gains‖/‖u‖)`
(NaN where none does).

    split:     ‖Aᵀu‖²/‖g_{l−1}‖² (skip) + ‖branchᵀu‖²/‖g_{l−1}‖² (branch) + ‖g_gains‖²/‖g_{l−1}‖² (gains) + interference = 1
"""

import jax.numpy as jnp

from ...results.quantities import FACTORS, TERMS
from ..numerics.precision import log_ratio

# Whose input, whose output (None: the sublayer's own): a meter sits at the input of each.
_ENDS = {
    "norm_out": ("norm_out", None),
    "fork": ("stream", "norm_out"),
    "write": ("write", "norm_out"),
    "norm_branch": ("norm_branch", "write"),
    "branch": ("branch", "norm_branch"),
    "norm_in": ("norm_in", "branch"),
    "read": ("read", "norm_in"),
    "gains": ("gains", "norm_out"),
}
METERED = ("skip", "read", "norm_in", "branch", "norm_branch", "write", "norm_out", "gains")


def budget(dials: dict, above):
    """Returns log-gains [S, factor], nat, of squared norms [S]: `dials` at inputs of parts and sublayers, `above` of outputs."""
    reach = dials["gains"]
    squares = {**dials, "gains": jnp.where(reach == 0, jnp.nan, reach), None: above}
    log_gains = []
    for factor in FACTORS:
        start, end = _ENDS[factor]
        log_gains.append(log_ratio(squares[start], squares[end]) / 2)
    return jnp.stack(log_gains, axis=-1)


def split(dials: dict):
    """Returns the shares [S, term] of the squared gradient at each fork: skip, branch, gains, interference. They sum to 1."""
    paths = {"skip": "skip", "branch": "read", "gains": "gains"}
    shares = {term: dials[part] / dials["stream"] for term, part in paths.items()}
    shares["interference"] = 1 - sum(shares.values())
    return jnp.stack([shares[term] for term in TERMS], axis=-1)


def backward(read: dict, root=jnp.sqrt) -> dict:
    """Returns what the squares along one backward pass say: stream gradients, `leave_gain`, and, of parts, budget and split.

    `read` has squared norms: `stack`, at the inputs of the parts [S] and of the sublayers (`stream`, [S] or by token
    [S, T]), `top` of the stack and `readout`. `root` takes a square to its norm.
    """
    by_token = jnp.concatenate([read["stack"]["stream"], read["top"][None]])
    total = by_token.reshape(len(by_token), -1).sum(-1)
    reading = {
        "stream_gradient": root(total),
        "readout_gradient": root(read["readout"]),
        "leave_gain": log_ratio(total[-1], read["readout"]) / 2,
    }
    if by_token.ndim > 1:
        reading["stream_gradient_by_token"] = root(by_token)
    at_parts = {**read["stack"], "stream": total[:-1]}
    if len(at_parts) > 1:
        reading["budget"] = budget(at_parts, above=total[1:])
        reading["split"] = split(at_parts)
    return reading


def signal(sublayers: dict, top: dict) -> dict:
    """Returns the rms of the stream by depth, and, where looked at, of skip and branch, their ratio, and the token cosine.

    `sublayers` has `stream_rms` and perhaps `token_cosine`, `skip_rms` and `branch_rms` [S], still mean squares, `top` what of
    the first two there is at the top of the stream.
    """
    profile = {name: jnp.append(sublayers[name], value) for name, value in top.items()}
    means = {**sublayers, **profile}
    reading = {}
    for name, mean in means.items():
        reading[name] = mean if name == "token_cosine" else jnp.sqrt(mean)
    if "branch_rms" in reading:
        reading["branch_to_skip"] = reading["branch_rms"] / reading["skip_rms"]
    return reading
