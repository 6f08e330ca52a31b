"""Gains between lanes that read the stream: each token has a matrix M(x) of its own. Equation (1) has them bound at x.

A gain of one of these kinds stands directly in `skip`, `read` or `write`. Trained weights start at zero: so at initialization
the matrix is the static one, and nothing goes through the gains.

Axes: x is [lanes, tokens, features]; n lanes, d features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logit, logsumexp

from ...results.configuration import registered
from ..equation.sublayer import OfStream, Part
from ..numerics.precision import in_precision_of, with_leading_axes
from ..parameters.keys import at
from .functional import standardized
from .lanes import LaneGains
from .layer import Layer
from .norms import LayerNorm

# Einsums over the lane axis with a matrix for each token, by what they do with it.
BY_TOKEN = {"mix": "tij,jt...->it...", "gather": "tj,jt...->t...", "spread": "ti,t...->it..."}


class OfTokens(LaneGains):
    """What gains that read the stream share: `M(x) u`, M(x) by token."""

    def by_token(self, params, x):
        """M(x), [T, lanes, lanes] or [T, lanes], in the precision of `x` or better."""
        raise NotImplementedError

    def bound(self, params):
        """Returns the gain that waits for the stream it reads."""
        return OfStream(self, params)

    def at_stream(self, params, x) -> Part:
        """Returns the gain for the stream `x`: `u ↦ M(x) u`, in the precision of `x`."""
        return partial(jnp.einsum, BY_TOKEN[self.route], self.by_token(params, x).astype(x.dtype))

    def __call__(self, params, x):
        """Returns `M(x) x`: of a gain that acts on what it reads."""
        if self.route == "spread":
            raise TypeError("a spread that reads the stream acts on a branch's output: it can stand only in `write`")
        return self.at_stream(params, x)(x)


@registered
@dataclass(frozen=True)
class DynamicGains(OfTokens):
    """`M(x)_ij = M_ij + s tanh(⟨N(x_j), w_i⟩)` of lanes i out and j in; of a spread ⟨N(x_i), w⟩. M, w, s and N are trained.

    Zhu et al. 2024 (Hyper-Connections), eqs. 10 to 13 and algorithm 2: w starts at 0, s at 0.01. There `skip` and `read` share s,
    and all three share N.
    """

    norm: Layer = LayerNorm()
    scale: float = 0.01

    def init(self, key, width: int):
        """Returns `{"matrix": M, "weights": [d, lanes] or [d], "scale": [], "norm": those of N}`."""
        out = (len(self.matrix),) if self.route == "mix" else ()
        weights = {"weights": jnp.zeros((width, *out), jnp.float32), "scale": jnp.asarray(self.scale, jnp.float32)}
        return {**super().init(key, width), **weights, "norm": self.norm.init(at(key, "norm"), width)}

    def by_token(self, params, x):
        """Returns `M + s tanh(N(x) w)`."""
        seen = jnp.einsum("jtf,f...->t...j", self.norm(params["norm"], x), params["weights"])
        return with_leading_axes(params["matrix"], seen) + params["scale"] * jnp.tanh(seen)


@registered
@dataclass(frozen=True)
class ManifoldGains(OfTokens):
    """`M(x) = P(α RMS(vec x) Φ + b)`, P onto doubly stochastic matrices; of a gather σ, of a spread 2σ. α, Φ and b are trained.

    vec x are the features of all lanes of a token, RMS divides them by their root mean square. Φ starts at 0, and b where M is
    `matrix` (Xie et al. 2025 (mHC), eqs. 7 to 9; α = 0.01 in table 5).
    """

    alpha: float = 0.01
    eps: float = 1e-6

    def __post_init__(self):
        super().__post_init__()
        start = np.array(self.matrix, float)
        below, wanted = {
            "mix": (1, "doubly stochastic, all entries between 0 and 1"),
            "gather": (1, "numbers between 0 and 1"),
            "spread": (2, "numbers between 0 and 2"),
        }[self.route]
        sums = [start.sum(0), start.sum(1)] if self.route == "mix" else [1.0]
        inside = (start > 0).all() and (start < below).all()
        if not inside or not np.allclose(sums, 1, atol=1e-6):
            raise ValueError(f"a {self.route} on the manifold can't start at {self.matrix}: it needs {wanted}")

    def init(self, key, width: int):
        """Returns `{"bias": b, "weights": Φ, [lanes, d, lanes(, lanes)], "scale": α}`."""
        start = self.numbers(jnp.float32)
        weights = jnp.zeros((len(self.matrix), width, *start.shape), jnp.float32)
        return {"bias": _START[self.route](start), "weights": weights, "scale": jnp.asarray(self.alpha, jnp.float32)}

    def by_token(self, params, x):
        """Returns `P(α RMS(vec x) Φ + b)`."""
        lanes, tokens, width = x.shape
        rows = standardized(x.swapaxes(0, 1).reshape(tokens, -1), self.eps, False).reshape(tokens, lanes, width)
        own = in_precision_of(rows, params)
        said = jnp.einsum("tjf,jf...->t...", rows, own["weights"])
        return _ONTO[self.route](own["scale"] * said + own["bias"][None])


def sinkhorn(log_matrix, rounds: int = 20):
    """Returns `exp` of a matrix [..., n, n], columns and rows divided by their sums in turn: doubly stochastic in the limit.

    Xie et al. 2025 (mHC), eq. 9, with their 20 rounds. Rows come last and sum to 1 to rounding.
    """

    def divided(_, a):
        a = a - logsumexp(a, axis=-2, keepdims=True)
        return a - logsumexp(a, axis=-1, keepdims=True)

    return jnp.exp(jax.lax.fori_loop(0, rounds, divided, log_matrix))


_ONTO: dict[str, Callable] = {"mix": sinkhorn, "gather": jax.nn.sigmoid, "spread": lambda u: 2 * jax.nn.sigmoid(u)}
_START: dict[str, Callable] = {"mix": jnp.log, "gather": logit, "spread": lambda m: logit(m / 2)}
