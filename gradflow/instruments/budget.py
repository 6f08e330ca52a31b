"""The budget: where, along the real backward pass, the gradient gains and loses; it adds up exactly.

With ‖·‖ the norms the meters read at the inputs of the parts of equation (1), g_l the cotangent of sublayer l's output
and g_{l−1} that of its input:

    norm_out:  log(‖u‖/‖g_l‖)        u the cotangent of N_out's input
    fork:      log(‖g_{l−1}‖/‖u‖)    skip plus branch
    Σ_l (norm_out + fork) = log(‖g_0‖/‖g_S‖)

and down the branch, one log-gain a part: write, norm_branch, branch, norm_in, read. These describe one arm of the fork
and are not summands of the above.

    split:     ‖Aᵀu‖²/‖g_{l−1}‖² (skip) + ‖branchᵀu‖²/‖g_{l−1}‖² (branch) + interference = 1
"""

import jax.numpy as jnp

from ..results.quantities import FACTORS, TERMS

# Whose input, whose output (None: the sublayer's own): a meter sits at the input of each.
_ENDS = {
    "norm_out": ("norm_out", None),
    "fork": ("stream", "norm_out"),
    "write": ("write", "norm_out"),
    "norm_branch": ("norm_branch", "write"),
    "branch": ("branch", "norm_branch"),
    "norm_in": ("norm_in", "branch"),
    "read": ("read", "norm_in"),
}
METERED = ("skip", "read", "norm_in", "branch", "norm_branch", "write", "norm_out")


def budget(dials: dict, above):
    """Log-gains [S, factor], in nat. `dials` are squared norms [S] (with `stream`), `above` those of the sublayers' outputs."""
    ends = {**dials, None: above}
    log_gain = lambda start, end: (jnp.log(ends[start]) - jnp.log(ends[end])) / 2
    return jnp.stack([log_gain(*_ENDS[factor]) for factor in FACTORS], axis=-1)


def split(dials: dict):
    """Shares [S, term] of the squared gradient at each fork: skip, branch, interference. They sum to 1."""
    skip, branch = dials["skip"] / dials["stream"], dials["read"] / dials["stream"]
    shares = {"skip": skip, "branch": branch, "interference": 1 - skip - branch}
    return jnp.stack([shares[term] for term in TERMS], axis=-1)
