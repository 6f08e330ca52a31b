"""Matrices between lanes that read the stream and lie on a set by construction: mixed permutations, rotations, balanced ones.

    M(x) = P(α RMS(vec x) Φ + b),    vec x the features of all lanes of a token

as of `ManifoldGains`, with another P. Φ starts at 0, so that at first M is P(b), and nothing goes through it.

Axes: x is [lanes, tokens, features]; n lanes, K raw numbers a token.
"""

import itertools
import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ...results.configuration import registered
from ..equation.sublayer import OfStream, Part
from ..numerics.precision import in_precision_of
from .functional import standardized
from .history import Count
from .lane_mixing import BY_TOKEN
from .layer import FEATURES, Layer


class OnSet(Layer):
    """What these gains share: K raw numbers of a token, and the map `onto` the set."""

    route: ClassVar[str] = "mix"
    couples: ClassVar[str] = FEATURES
    lanes: int
    alpha: float

    def start(self) -> np.ndarray:
        """Returns b [K]."""
        raise NotImplementedError

    def onto(self, raw):
        """Returns the matrix [..., n, n], or the numbers [..., n], from raw numbers [..., K]."""
        raise NotImplementedError

    def init(self, key, width: int):
        """Returns `{"bias": b [K], "weights": Φ [n, d, K], "scale": α}`."""
        bias = jnp.asarray(self.start(), jnp.float32)
        weights = jnp.zeros((self.lanes, width, len(bias)), jnp.float32)
        return {"bias": bias, "weights": weights, "scale": jnp.asarray(self.alpha, jnp.float32)}

    def bound(self, params) -> OfStream:
        """Returns the gain that waits for the stream it reads."""
        return OfStream(self, params)

    def by_token(self, params, x):
        """Returns M(x), [T, n, n] or [T, n]."""
        lanes, tokens, width = x.shape
        rows = standardized(x.swapaxes(0, 1).reshape(tokens, -1), 1e-6, False).reshape(tokens, lanes, width)
        own = in_precision_of(rows, params)
        said = jnp.einsum("tjf,jfk->tk", rows, own["weights"])
        return self.onto(own["scale"] * said + own["bias"][None])

    def at_stream(self, params, x) -> Part:
        """Returns the gain for the stream `x`: `u ↦ M(x) u`."""
        return partial(jnp.einsum, BY_TOKEN[self.route], self.by_token(params, x).astype(x.dtype))

    def __call__(self, params, x):
        """Returns `M(x) x`."""
        return self.at_stream(params, x)(x)

    def numbers(self, params, lanes: int, dtype):
        """Returns M where Φ is zero."""
        return self.onto(params["bias"].astype(dtype))


@registered
@dataclass(frozen=True)
class Opened(OnSet):
    """A gather by `σ(raw) + least`: b is 1 for one lane and −1 for the others, or 0 for all where `lane` is None."""

    lanes: int
    lane: Count = None
    alpha: float = 0.01
    least: float = 0.0
    route: ClassVar[str] = "gather"

    def start(self):
        """Returns b."""
        if self.lane is None:
            return np.zeros(self.lanes)
        return jnp.where(jnp.arange(self.lanes) == self.lane % self.lanes, 1.0, -1.0)

    def onto(self, raw):
        """Returns `σ(raw) + least`."""
        return jax.nn.sigmoid(raw) + self.least


@registered
@dataclass(frozen=True)
class Spread(Opened):
    """A spread by `2σ(raw)`, b as of `Opened`."""

    route: ClassVar[str] = "spread"

    def onto(self, raw):
        """Returns `2σ(raw)`."""
        return 2 * super().onto(raw)


@registered
@dataclass(frozen=True)
class Permuted(OnSet):
    """`Σ_r a_r P_r` over all n! permutations, `a = softmax(raw)`, b is 0 for the identity and −8 for the others.

    Doubly stochastic to rounding (Yang and Gao 2026 (mHC-lite), as in the authors' code).
    """

    lanes: int
    alpha: float = 0.01

    def start(self):
        """Returns b [n!]."""
        bias = np.full(math.factorial(self.lanes), -8.0)
        bias[0] = 0.0
        return bias

    def onto(self, raw):
        """Returns the mixture of permutations."""
        orders = np.array(list(itertools.permutations(range(self.lanes))))
        matrices = np.eye(self.lanes)[orders]
        return jnp.einsum("...r,rij->...ij", jax.nn.softmax(raw, axis=-1), jnp.asarray(matrices, raw.dtype))


@registered
@dataclass(frozen=True)
class Kronecker(OnSet):
    """`U_1 ⊗ U_2 ⊗ …`, each `p I + (1 − p) swap` of two lanes; b is 0 for each identity and −8 for each swap.

    Doubly stochastic to rounding; a power of two lanes (Zhou et al. 2026 (KromHC), as in the authors' code).
    """

    lanes: int
    alpha: float = 0.01

    def __post_init__(self):
        if self.lanes < 2 or self.lanes & (self.lanes - 1):
            raise ValueError(f"{self.lanes} lanes for a Kronecker product of 2 × 2 matrices: a power of two is needed")

    def start(self):
        """Returns b [2 log₂ n]."""
        return np.array([0.0, -8.0] * (self.lanes.bit_length() - 1))

    def onto(self, raw):
        """Returns the Kronecker product."""
        pairs = jax.nn.softmax(raw.reshape(*raw.shape[:-1], -1, 2), axis=-1)
        product = jnp.ones((*raw.shape[:-1], 1, 1), raw.dtype)
        for k in range(pairs.shape[-2]):
            stay, swap = pairs[..., k, 0], pairs[..., k, 1]
            factor = jnp.stack([jnp.stack([stay, swap], -1), jnp.stack([swap, stay], -1)], -2)
            size = 2 * product.shape[-1]
            product = jnp.einsum("...ij,...kl->...ikjl", product, factor).reshape(*raw.shape[:-1], size, size)
        return product


@registered
@dataclass(frozen=True)
class Rotated(OnSet):
    """`(I − A)⁻¹ (I + A)` of the skew matrix A of the raw numbers, Cayley's transform: orthogonal, I at the start.

    Sengupta et al. 2026 (JPmHC) iterate where this solves; factors in A are theirs to train.
    """

    lanes: int
    alpha: float = 0.01

    def start(self):
        """Returns b [n (n − 1)/2]."""
        return np.zeros(self.lanes * (self.lanes - 1) // 2)

    def onto(self, raw):
        """Returns the rotation."""
        above = np.triu_indices(self.lanes, 1)
        places = np.zeros((len(above[0]), self.lanes, self.lanes))
        for k, (i, j) in enumerate(zip(*above, strict=True)):
            places[k, i, j], places[k, j, i] = 1.0, -1.0
        skew = jnp.einsum("...k,kij->...ij", raw, jnp.asarray(places, raw.dtype))
        unit = jnp.broadcast_to(jnp.eye(self.lanes, dtype=raw.dtype), skew.shape)
        return jnp.linalg.solve(unit - skew, unit + skew)


@registered
@dataclass(frozen=True)
class Balanced(OnSet):
    """Softmax of the raw rows, then columns and rows divided by their sums in turn; transposed, as DeepSeek-V4 uses it.

    ε is added to every entry and every sum; what an output lane takes sums to 1. b is 0 at the start, so that every lane takes as
    much of each (DeepSeek-AI 2026 (DeepSeek-V4), as in transformers).
    """

    lanes: int
    alpha: float = 1.0
    rounds: int = 20
    eps: float = 1e-6

    def start(self):
        """Returns b [n²]."""
        return np.zeros(self.lanes**2)

    def onto(self, raw):
        """Returns the balanced matrix."""
        square = raw.reshape(*raw.shape[:-1], self.lanes, self.lanes)
        matrix = self.divided(jax.nn.softmax(square, axis=-1) + self.eps, -2)
        matrix = balanced(matrix, self.rounds - 1, self.eps)
        return matrix.swapaxes(-1, -2)

    def divided(self, matrix, axis: int):
        """Returns the matrix divided by its sums along an axis."""
        return matrix / (jnp.sum(matrix, axis=axis, keepdims=True) + self.eps)


def balanced(matrix, rounds: int, eps: float):
    """Returns a matrix [..., n, n] whose rows and columns were divided by their sums, and ε, in turn."""

    def divided(_, a):
        a = a / (jnp.sum(a, axis=-1, keepdims=True) + eps)
        return a / (jnp.sum(a, axis=-2, keepdims=True) + eps)

    return jax.lax.fori_loop(0, rounds, divided, matrix)
