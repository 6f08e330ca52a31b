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

from collections.abc import Callable
from functools import singledispatch
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..model.layers import layer as layers
from ..model.layers import norms
from ..model.layers.functional import ACTIVATIONS
from .kernels import expanded, kernel

Gram = Float[Array, "row row"]
Push = Callable[[Gram], Gram]


class TheoryContext(NamedTuple):
    """Where a layer acts: width of the stream, tokens of an example, heads to draw, and the key to draw them from."""

    width: int
    tokens: int
    draws: int
    key: Array


class Response(NamedTuple):
    """What a layer makes of a Gram matrix (`value`), its linear map on a tangent's (`push`), and its weights as `sources`."""

    value: Gram
    push: Push
    sources: dict[str, Gram] = {}  # noqa: RUF012


@singledispatch
def response(layer, sigma: Gram, place: TheoryContext) -> Response:
    """The response of a layer at initialization to tokens with the Gram matrix `sigma`.

    Errors: NotImplementedError for a type that has not been registered.
    """
    raise NotImplementedError(
        f"no theory for {type(layer).__name__}: say what it does to a Gram matrix by gf.gram.response.register, or measure it"
    )


def scaled(sigma: Gram, square, sources: dict[str, Gram] | None = None) -> Response:
    """A map that multiplies Gram matrices, entry by entry."""
    return Response(square * sigma, lambda k: square * k, sources or {})


# ---- gains and norms ----------------------------------------------------------------------------------------


@response.register
def _(layer: layers.Identity, sigma: Gram, place: TheoryContext) -> Response:
    return Response(sigma, lambda k: k)


@response.register
def _(layer: layers.Zero, sigma: Gram, place: TheoryContext) -> Response:
    return scaled(sigma, 0.0)


@response.register
def _(layer: layers.Gain, sigma: Gram, place: TheoryContext) -> Response:
    return scaled(sigma, jnp.square(jnp.asarray(layer.value)))


@response.register(layers.ScalarGain)
@response.register(layers.FeatureGain)
def _(layer, sigma: Gram, place: TheoryContext) -> Response:
    return scaled(sigma, jnp.square(jnp.asarray(layer.value)), {"gain": sigma})


@response.register
def _(layer: layers.Complement, sigma: Gram, place: TheoryContext) -> Response:
    return scaled(sigma, jnp.square(1 - jnp.asarray(layer.value)), {"gain": sigma})


@response.register
def _(layer: layers.Shift, sigma: Gram, place: TheoryContext) -> Response:
    return Response(sigma, lambda k: k, {"shift": jnp.ones_like(sigma)})


@response.register
def _(layer: norms.RMSNorm, sigma: Gram, place: TheoryContext) -> Response:
    """`Σ/(σ σᵀ)`, `σ² = diag Σ + eps`; the direction that J_N takes out is one of d."""
    inverse = jax.lax.rsqrt(jnp.diag(sigma) + layer.eps)
    square = jnp.outer(inverse, inverse)
    return scaled(sigma, square, {"scale": square * sigma} if layer.scale != "none" else {})


@response.register
def _(layer: norms.LayerNorm, sigma: Gram, place: TheoryContext) -> Response:
    """As RMSNorm: features that are linear in fresh weights have mean zero."""
    normed = response.dispatch(norms.RMSNorm)(layer, sigma, place)
    return normed._replace(sources=normed.sources | ({"bias": jnp.ones_like(sigma)} if layer.bias else {}))


@response.register
def _(layer: norms.ScaledNorm, sigma: Gram, place: TheoryContext) -> Response:
    normed, square = response(layer.norm, sigma, place), jnp.square(jnp.asarray(layer.value))
    sources = {name: square * g for name, g in normed.sources.items()}
    return Response(square * normed.value, lambda k: square * normed.push(k), sources)


@response.register
def _(layer: norms.Squash, sigma: Gram, place: TheoryContext) -> Response:
    """`E φ(αu)φ(αv)` of Gaussian features, and `α² E φ'(αu)φ'(αv)` for a tangent.

    A change of α makes one of `x φ'(α x)`, a change of the shift one of `φ'(α x)`.
    """
    square, phi = layer.alpha**2, ACTIVATIONS[layer.activation]
    slope_at = lambda u: jax.jvp(phi, (u,), (jnp.ones_like(u),))[1]
    value, slope = kernel(layer.activation, square * sigma)
    moved, _ = expanded(lambda u: u * slope_at(layer.alpha * u), sigma)
    sources = {"alpha": moved, **({"shift": slope} if layer.shifted else {})}
    sources |= {"scale": value, "bias": jnp.ones_like(sigma)}
    return Response(value, lambda k: square * slope * k, sources)


# Linear in the features, each by itself, with no weights that are drawn.
LINEAR = (
    layers.Identity,
    layers.Gain,
    layers.ScalarGain,
    layers.FeatureGain,
    layers.Complement,
    layers.Shift,
)
# Layers that act on a Gram matrix by a factor for each row: on one of several lanes, too, and on features of any law.
BY_ROW = (*LINEAR, norms.LayerNorm, norms.RMSNorm)


def acts_by_row(layer) -> bool:
    """Whether what a layer does to a Gram matrix is a factor for each row."""
    return isinstance(layer, BY_ROW) or (isinstance(layer, norms.ScaledNorm) and acts_by_row(layer.norm))


def factor(sigma: Gram) -> Gram:
    """`C` with `C Cᵀ = Σ`, up to a jitter that keeps equal tokens apart: 2 N roundings of the mean square.

    Tokens that differ by less are drawn as if they differed by that.
    """
    jitter = 2 * len(sigma) * jnp.finfo(sigma.dtype).eps * jnp.mean(jnp.diag(sigma))
    return jnp.linalg.cholesky(on_diagonal(sigma, jitter))


def on_diagonal(k: Gram, more) -> Gram:
    """`K` with `more`, a number or one for each row, on its diagonal: an independent tangent at every token."""
    return k.at[jnp.diag_indices(len(k))].add(more)
