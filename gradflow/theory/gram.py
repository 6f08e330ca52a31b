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

from ..model import layers, norms
from ..model.init import at
from .kernels import expanded, kernel

Gram = Float[Array, "row row"]
Push = Callable[[Gram], Gram]


class Place(NamedTuple):
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
def response(layer, sigma: Gram, place: Place) -> Response:
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
def _(layer: layers.Identity, sigma: Gram, place: Place) -> Response:
    return Response(sigma, lambda k: k)


@response.register
def _(layer: layers.Zero, sigma: Gram, place: Place) -> Response:
    return scaled(sigma, 0.0)


@response.register
def _(layer: layers.Gain, sigma: Gram, place: Place) -> Response:
    return scaled(sigma, jnp.square(jnp.asarray(layer.value)))


@response.register(layers.ScalarGain)
@response.register(layers.FeatureGain)
def _(layer, sigma: Gram, place: Place) -> Response:
    return scaled(sigma, jnp.square(jnp.asarray(layer.value)), {"gain": sigma})


@response.register
def _(layer: norms.RMSNorm, sigma: Gram, place: Place) -> Response:
    """`Σ/(σ σᵀ)`, `σ² = diag Σ + eps`; the direction that J_N takes out is one of d."""
    inverse = jax.lax.rsqrt(jnp.diag(sigma) + layer.eps)
    square = jnp.outer(inverse, inverse)
    return scaled(sigma, square, {"scale": square * sigma})


@response.register
def _(layer: norms.LayerNorm, sigma: Gram, place: Place) -> Response:
    """As RMSNorm: features that are linear in fresh weights have mean zero."""
    normed = response.dispatch(norms.RMSNorm)(layer, sigma, place)
    return normed._replace(sources={**normed.sources, "bias": jnp.ones_like(sigma)})


@response.register
def _(layer: norms.ScaledNorm, sigma: Gram, place: Place) -> Response:
    normed, square = response(layer.norm, sigma, place), jnp.square(jnp.asarray(layer.value))
    sources = {name: square * g for name, g in normed.sources.items()}
    return Response(square * normed.value, lambda k: square * normed.push(k), sources)


@response.register
def _(layer: norms.DyT, sigma: Gram, place: Place) -> Response:
    """`E tanh(αu) tanh(αv)` of Gaussian features, and `α² E φ'(αu)φ'(αv)` for a tangent; α makes one of `x φ'(α x)`."""
    square = layer.alpha**2
    value, slope = kernel("tanh", square * sigma)
    moved, _ = expanded(lambda u: u / jnp.square(jnp.cosh(layer.alpha * u)), sigma)
    sources = {"alpha": moved, "scale": value, "bias": jnp.ones_like(sigma)}
    return Response(value, lambda k: square * slope * k, sources)


# ---- branches -----------------------------------------------------------------------------------------------


def branch(layer: layers.Branch, sigma: Gram, place: Place, hidden: Gram, paths: dict[str, Push]) -> Response:
    """The response of a layer made of matrices, the last of which reads `hidden`, all others the input.

    `paths` takes the Gram matrix of a tangent at the output of each matrix but the last to where the last one reads.
    """
    sides, gains = layer.sides(place.width), layer.gains(place.width)
    last = list(sides)[-1]
    read = {**dict.fromkeys(paths, sigma), last: hidden}
    after = lambda path: lambda k: gains[last] * path(k)
    onward: dict[str, Push] = {**{name: after(path) for name, path in paths.items()}, last: lambda k: k}
    sources = {name: onward[name](sides[name][0] * read[name]) for name in sides}
    if layer.bias:
        sources |= {f"{name}.bias": onward[name](jnp.ones_like(sigma)) for name in sides}
    push = lambda k: sum((onward[name](gains[name] * k) for name in paths), jnp.zeros_like(k))
    return Response(gains[last] * hidden, push, sources)


@response.register
def _(layer: layers.FeedForward, sigma: Gram, place: Place) -> Response:
    gains = layer.gains(place.width)
    value, slope = kernel(layer.activation, gains["up"] * sigma)
    return branch(layer, sigma, place, value, {"up": lambda k: slope * k})


@response.register
def _(layer: layers.GatedFeedForward, sigma: Gram, place: Place) -> Response:
    gains = layer.gains(place.width)
    value, slope = kernel(layer.activation, gains["gate"] * sigma)
    linear = gains["up"] * sigma
    paths: dict[str, Push] = {"gate": lambda k: linear * slope * k, "up": lambda k: value * k}
    return branch(layer, sigma, place, value * linear, paths)


@response.register
def _(layer: layers.Attention, sigma: Gram, place: Place) -> Response:
    """Many heads of finite width: the mean over `draws` of them, queries and keys drawn as Gaussian processes.

    With A the attention of one head, v and o = A v its values and outputs, and c a change of its scores, the outputs change
    by `A dv`, and by `Σ_u A_tu (v_u − o_t) c_tu`. For a change of the query, `c_tu = dq_t · k_u/√h`, the sum over v is taken
    in closed form; for one of the keys, `c_tu = q_t · dk_u/√h`, v is drawn. The direction of dq and dk in the head is drawn,
    so that rotary positions need nothing of their own. The mean is unbiased.

    Cost: eight products of T³ a draw and pair of examples.
    """
    gains, size = layer.gains(place.width), place.width // layer.heads
    q, k, direction, v = _head(layer, sigma, place, size)
    masked = lambda scores: jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -jnp.inf)
    scores = _dot(q, k)
    a = jax.nn.softmax(masked(scores) if layer.causal else scores, axis=-1)
    by_query = a * _dot(direction, k)
    by_query -= by_query.sum(-1, keepdims=True) * a
    by_key = a * _dot(q, direction) * (v[..., None, :] - (a @ v[..., None]))
    query = mixed(by_query, gains["value"] * sigma)
    paths: dict[str, Push] = {
        "query": lambda k: query * k,
        "key": lambda k: mixed(by_key, k),
        "value": lambda k: mixed(a, k),
    }
    return branch(layer, sigma, place, gains["value"] * mixed(a, sigma), paths)


def mixed(a: Float[Array, "draw example token token"], k: Gram) -> Gram:
    """`A K Aᵀ`, the tokens of every example mixed by its own A, mean over draws."""
    draws, examples, tokens, _ = a.shape
    k = k.reshape(examples, tokens, examples, tokens)
    left = jnp.einsum("netu,eufv->netfv", a, k)
    return jnp.einsum("netfv,nfsv->etfs", left, a).reshape(examples * tokens, -1) / draws


def _dot(q, k):
    """`q_t · k_u/√h` [n, E, T, T]."""
    return jnp.einsum("neth,neuh->netu", q, k) * q.shape[-1] ** -0.5


def _head(layer: layers.Attention, sigma: Gram, place: Place, size: int):
    """Queries, keys and a direction of the head [n, E, T, h], turned by position, and a feature of the values [n, E, T]."""
    gains = layer.gains(place.width)
    normal = lambda name, *shape: jax.random.normal(at(place.key, name), (place.draws, *shape), sigma.dtype)
    process = normal("process", len(sigma), 2 * size + 1).at[..., -1].apply(jnp.sign)
    process = (factor(sigma) @ process).reshape(place.draws, -1, place.tokens, 2 * size + 1)
    q, k, v = jnp.split(process, (size, 2 * size), axis=-1)
    direction = jnp.broadcast_to(jnp.sign(normal("direction", 1, 1, size)), q.shape)
    rotary = layer.rotary or (lambda x: x)
    turned = jax.vmap(jax.vmap(lambda x: rotary(x[:, None])[:, 0]))
    std = {name: gain**0.5 for name, gain in gains.items()}
    return turned(std["query"] * q), turned(std["key"] * k), turned(direction), std["value"] * v[..., 0]


def factor(sigma: Gram) -> Gram:
    """`C` with `C Cᵀ = Σ`, up to a jitter that keeps equal tokens apart: 2 N roundings of the mean square.

    Tokens that differ by less are drawn as if they differed by that.
    """
    jitter = 2 * len(sigma) * jnp.finfo(sigma.dtype).eps * jnp.mean(jnp.diag(sigma))
    return jnp.linalg.cholesky(on_diagonal(sigma, jitter))


def on_diagonal(k: Gram, more) -> Gram:
    """`K` with `more`, a number or one for each row, on its diagonal: an independent tangent at every token."""
    return k.at[jnp.diag_indices(len(k))].add(more)
