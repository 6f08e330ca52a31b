"""What a layer at initialization does to the Gram matrix of its tokens, and to that of a tangent: theory, layer by layer.

At infinite width the features of a token are independent draws from one law, and all that a layer sees of its input is

    Σ[t, s] = E⟨x_t, x_s⟩/d,        K[t, s] = E⟨dx_t, dx_s⟩/d

of the stream and of a tangent that knows nothing of it. `response` says of each type of layer what Σ becomes, and which linear
map acts on K there; the Gram matrix of a cotangent, `Δ[t, s] = E⟨g_t, g_s⟩` summed over features, is pulled down by the
transpose of that map. A weight is a source of tangents: one matrix moved by unit-variance noise makes a tangent whose Gram
matrix G stands at the layer's output, and `E‖∂loss/∂W‖² = Σ_ts Δ[t, s] G[t, s]`.

A layer of yours enters by `response.register`:

    @response.register
    def _(layer: Mine, sigma, place):
        return Response(value, push)

Axes: rows N of a Gram matrix are (lane,) example, token; n draws of attention heads; T tokens; h features a head.
"""

import math
from collections.abc import Callable
from functools import singledispatch
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from ..model.layers import gates, norms
from ..model.layers import layer as layers
from ..model.layers.functional import ACTIVATIONS
from ..model.parameters.initializers import normal
from ..model.parameters.keys import at
from .kernels import expanded, kernel

ROOT = "root of a Gram matrix"
# What is kept between the passes: a product takes less time than a root.
ROOTS_ALONE = jax.checkpoint_policies.save_only_these_names(ROOT)

Gram = Float[Array, "row row"]
Push = Callable[[Gram], Gram]


class TheoryContext(NamedTuple):
    """Where a layer acts: width of the stream, tokens of an example, heads to draw, the key to draw them from, and examples.

    `features` is how many the entries of Σ are means over, and scatter with; infinite where Σ is exact. `stream_features` is with
    how many Σ is drawn behind every sublayer (`features`); infinite where it is the expected one. `texts` [E, T] are the numbers
    of the texts that tokens are of, −1 of padding; None where each example is one.
    """

    width: int
    tokens: int
    draws: int
    key: Array
    examples: int = 1
    features: float = math.inf
    stream_features: float = math.inf
    texts: Array | None = None

    def draws_by_row(self, name: str, number: int, rows: int, features: int) -> Array:
        """Returns `number` draws [n, N, features] from N(0, 1) for the rows of tokens, of a stream of one lane.

        A token has those of its place among the real ones of its example, however many stand around it.
        """
        by_token = normal(at(self.key, name), self.tokens, rows // self.tokens, number, features)
        draws = jnp.moveaxis(by_token, 0, 2)
        if self.texts is not None:
            place = jnp.cumsum(self.texts >= 0, axis=1) - 1
            draws = jnp.take_along_axis(draws, jnp.maximum(place, 0)[:, None, :, None], axis=2)
        return jnp.moveaxis(draws, 1, 0).reshape(number, rows, features)

    def factor(self, sigma: Gram) -> Gram:
        """Returns `factor(Σ)` of the rows of tokens; of real ones what it is by themselves."""
        return factor(sigma, None if self.texts is None else (self.texts >= 0).ravel())

    def lanes(self, k: Gram) -> int:
        """Returns how many lanes the rows of a Gram matrix are of."""
        return len(k) // (self.examples * self.tokens)


class Response(NamedTuple):
    """What a layer makes of a Gram matrix (`value`), its linear map on a tangent's (`push`), and its weights as `sources`."""

    value: Gram
    push: Push
    sources: dict[str, Gram] = {}  # noqa: RUF012


@singledispatch
def response(layer, sigma: Gram, place: TheoryContext) -> Response:
    """Returns the response of a layer at initialization to tokens with the Gram matrix `sigma`.

    Errors: NotImplementedError for a type that has not been registered.
    """
    raise NotImplementedError(
        f"no theory for {type(layer).__name__}: say what it does to a Gram matrix by gf.gram.response.register, or measure it"
    )


def scaled(sigma: Gram, square, sources: dict[str, Gram] | None = None) -> Response:
    """Returns the response of a map that multiplies Gram matrices, entry by entry."""

    def push(k: Gram) -> Gram:
        return square * k

    return Response(square * sigma, push, sources or {})


def unchanged(k: Gram) -> Gram:
    """Returns `k`: the linear map of a layer that leaves a tangent as it is."""
    return k


# ---- gains and norms ----------------------------------------------------------------------------------------


@response.register
def _(layer: layers.Identity, sigma: Gram, place: TheoryContext) -> Response:
    return Response(sigma, unchanged)


@response.register
def _(layer: layers.Zero, sigma: Gram, place: TheoryContext) -> Response:
    return scaled(sigma, 0.0)


@response.register
def _(layer: layers.Gain, sigma: Gram, place: TheoryContext) -> Response:
    gain = jnp.asarray(layer.value)
    return scaled(sigma, jnp.square(gain))


@response.register(layers.ScalarGain)
@response.register(layers.FeatureGain)
def _(layer, sigma: Gram, place: TheoryContext) -> Response:
    gain = jnp.asarray(layer.value)
    return scaled(sigma, jnp.square(gain), {"gain": sigma})


@response.register
def _(layer: layers.Complement, sigma: Gram, place: TheoryContext) -> Response:
    gain = 1 - jnp.asarray(layer.value)
    return scaled(sigma, jnp.square(gain), {"gain": sigma})


@response.register
def _(layer: layers.Shift, sigma: Gram, place: TheoryContext) -> Response:
    return Response(sigma, unchanged, {"shift": jnp.ones_like(sigma)})


@response.register
def _(layer: norms.RMSNorm, sigma: Gram, place: TheoryContext) -> Response:
    """Returns `Σ/(σ σᵀ)`, `σ² = diag Σ + eps`; the direction that J_N takes out is one of d."""
    variance = jnp.diag(sigma) + layer.eps
    inverse = jax.lax.rsqrt(variance)
    square = jnp.outer(inverse, inverse)
    sources = {}
    if layer.scale != "none":
        sources["scale"] = square * sigma
    return scaled(sigma, square, sources)


@response.register
def _(layer: norms.LayerNorm, sigma: Gram, place: TheoryContext) -> Response:
    """Returns what it does for RMSNorm: features that are linear in fresh weights have mean zero."""
    normed = response.dispatch(norms.RMSNorm)(layer, sigma, place)
    if not layer.bias:
        return normed
    bias = jnp.ones_like(sigma)
    return normed._replace(sources={**normed.sources, "bias": bias})


@response.register
def _(layer: norms.ScaledNorm, sigma: Gram, place: TheoryContext) -> Response:
    normed = response(layer.norm, sigma, place)
    square = jnp.square(jnp.asarray(layer.value))

    def push(k: Gram) -> Gram:
        return square * normed.push(k)

    sources = {name: square * g for name, g in normed.sources.items()}
    return Response(square * normed.value, push, sources)


@response.register
def _(layer: norms.Squash, sigma: Gram, place: TheoryContext) -> Response:
    """Returns `E φ(αu)φ(αv)` of Gaussian features, and `α² E φ'(αu)φ'(αv)` for a tangent.

    A change of α makes one of `x φ'(α x)`, a change of the shift one of `φ'(α x)`.
    """
    phi = ACTIVATIONS[layer.activation]

    def by_alpha(x):
        u = layer.alpha * x
        _, slope_at_u = jax.jvp(phi, (u,), (jnp.ones_like(u),))
        return x * slope_at_u

    def push(k: Gram) -> Gram:
        return square * slope * k

    square = layer.alpha**2
    value, slope = kernel(layer.activation, square * sigma)
    moved_by_alpha, _ = expanded(by_alpha, sigma)
    sources = {"alpha": moved_by_alpha}
    if layer.shifted:
        sources["shift"] = slope
    sources["scale"] = value
    sources["bias"] = jnp.ones_like(sigma)
    return Response(value, push, sources)


# Linear in the features, each by itself, with no weights that are drawn.
LINEAR = (
    layers.Identity,
    layers.Gain,
    layers.ScalarGain,
    layers.FeatureGain,
    layers.Complement,
    layers.Shift,
    gates.Shrunk,
    gates.StepGain,
    gates.ConditionGain,
    gates.LowRank,
)
# Layers that act on a Gram matrix by a factor for each row: on one of several lanes, too, and on features of any law.
BY_ROW = (*LINEAR, norms.LayerNorm, norms.RMSNorm)


def acts_by_row(layer) -> bool:
    """Returns whether what a layer does to a Gram matrix is a factor for each row."""
    if isinstance(layer, norms.ScaledNorm):
        return acts_by_row(layer.norm)
    return isinstance(layer, BY_ROW)


def factor(sigma: Gram, real=None) -> Gram:
    """Returns `C` with `C Cᵀ = Σ`, up to a jitter that keeps equal tokens apart: 2 N roundings of the mean square.

    Tokens that differ by less are drawn as if they differed by that; of nothing it is next to nothing. Of `real` rows [N] alone,
    where these are said: others are drawn by themselves.
    """
    number: Any = len(sigma)
    if real is not None:
        number = jnp.sum(real)
        sigma = jnp.where(real[:, None] & real[None], sigma, jnp.eye(len(sigma), dtype=sigma.dtype))
    numbers = jnp.finfo(sigma.dtype)
    rounding = 2 * number * numbers.eps
    mean_square = jnp.mean(jnp.diag(sigma), where=real)
    apart = on_diagonal(sigma, rounding * mean_square + numbers.tiny)
    return checkpoint_name(jnp.linalg.cholesky(apart), ROOT)


def on_diagonal(k: Gram, more) -> Gram:
    """Returns `K` with `more`, a number or one for each row, on its diagonal: an independent tangent at every token."""
    diagonal = jnp.diag_indices(len(k))
    return k.at[diagonal].add(more)
