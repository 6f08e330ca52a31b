"""What attention at initialization does to a Gram matrix: heads of finite width are drawn.

Axes: as in `gram`: rows N are example, token; n draws of attention heads; T tokens; h features a head.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..model.branches.attention import Attention
from ..model.branches.cross_attention import CrossAttention
from ..model.branches.gated_attention import GatedAttention
from ..model.layers import layer as layers
from ..model.layers.attention import softmax_beside
from ..model.parameters.initializers import normal
from ..model.parameters.keys import at
from ..model.parameters.names import named
from .branches import branch
from .gram import Gram, Push, Response, TheoryContext, response

response.register(GatedAttention, response.dispatch(object))  # what a gate lets through has no theory: refused by name


@response.register
def _(layer: Attention, sigma: Gram, place: TheoryContext) -> Response:
    """Returns the response of many heads of finite width: the mean over `draws` of them.

    Queries and keys are drawn as Gaussian processes. With A the attention of one head, v and o = A v its values and outputs,
    and c a change of its scores, the outputs change by `A dv`, and by `Σ_u A_tu (v_u − o_t) c_tu`. For a change of the query,
    `c_tu = dq_t · k_u/√h`, the sum over v is taken in closed form; for one of the keys, `c_tu = q_t · dk_u/√h`, v is drawn.
    The direction of dq and dk in the head is drawn and pushed through norm and rotation. The mean is unbiased. `scale`, where it
    is given, stands for 1/√h. Scores stand still where the value is differentiated (`mean_cotangent`): what they add to a
    gradient's square is 0.05% in six blocks without norms. Of query and key matrices the scatter of Σ counts (`_scattered`).
    Of the logits of sinks no gradient is predicted.

    Cost: eight products of T³ a draw and pair of examples.

    Errors: NotImplementedError for a norm on the values, for values of two blocks, and for scores with a cap.
    """
    if layer.value_norm != layers.Identity():
        raise NotImplementedError("no theory for a norm on the values of heads of finite width: measure it")
    if layer.mixes_values:
        raise NotImplementedError("no theory for values that are mixed with those of another block: measure it")
    if layer.softcap is not None:
        raise NotImplementedError("no theory for scores with a cap: measure it")
    fixed = jax.lax.stop_gradient(sigma)
    size = _features(layer, place)
    root = place.factor(fixed)
    process = _signed(place.draws_by_row("process", place.draws, len(sigma), size))
    heads = _heads(layer, root @ process, place)
    a = _attention(layer, heads, place)
    gains = layer.gains(place.width)
    values = gains["value"] * sigma

    def by_change_of_query(change):
        return mixed(_by_change_of_query(layer, heads, a, change), values)

    def by_change_of_key(change, k: Gram) -> Gram:
        return mixed(_by_change_of_key(layer, heads, a, change), k)

    queries, keys = heads.queries, heads.keys
    query = by_change_of_query(queries.direction)

    def by_query(k: Gram) -> Gram:
        return query * k

    paths: dict[str, Push] = {
        "query": by_query,
        "key": partial(by_change_of_key, keys.direction),
        "value": partial(mixed, a),
    }
    sources = {}
    for name, change in queries.norm.items():
        sources[f"query_norm.{name}"] = by_change_of_query(change)
    for name, change in keys.norm.items():
        sources[f"key_norm.{name}"] = by_change_of_key(change, jnp.ones_like(sigma))
    if math.isfinite(place.features):
        sources |= _scattered(layer, fixed, root, place)
    return branch(layer, sigma, place, mixed(a, values), paths, sources_at_hidden=sources)


def mixed(a: Float[Array, "draw example token token"], k: Gram) -> Gram:
    """Returns `A K Aᵀ`, the tokens of every example mixed by its own A, mean over draws."""
    draws, examples, tokens, _ = a.shape
    pairs = k.reshape(examples, tokens, examples, tokens)
    left = jnp.einsum("netu,eufv->netfv", a, pairs)
    both = jnp.einsum("netfv,nfsv->etfs", left, a)
    return both.reshape(examples * tokens, -1) / draws


@response.register
def _(layer: CrossAttention, sigma: Gram, place: TheoryContext) -> Response:
    """Refuses: attention it is, but of a memory."""
    raise NotImplementedError("no theory for CrossAttention: the Gram matrix of its memory is not carried, measure it")


def _dot(q, k, scale: float | None):
    """Returns `scale q_t · k_u` [n, E, T, T], by default with 1/√h."""
    if scale is None:
        features = q.shape[-1]
        scale = features**-0.5
    products = jnp.einsum("neth,neuh->netu", q, k)
    return products * scale


class Vectors(NamedTuple):
    """Queries or keys of the drawn heads, and how they change, each [n, E, T, h].

    `direction` is the change when the matrix's output moves along a random sign vector, `norm` when a parameter of the norm
    does, by name.
    """

    value: Array
    direction: Array
    norm: dict[str, Array]


class Heads(NamedTuple):
    """Queries and keys of the drawn heads, and one feature of their values [n, E, T]."""

    queries: Vectors
    keys: Vectors
    v: Array


def _features(layer: Attention, place: TheoryContext) -> int:
    """Returns how many features are drawn of every head: those of its query and key, and one of its value."""
    return 2 * layer.size(place.width) + 1


def _signed(independent: Array) -> Array:
    """Returns draws with the signs alone of those of the values."""
    return independent.at[..., -1].apply(jnp.sign)


def _heads(layer: Attention, process, place: TheoryContext) -> Heads:
    """Returns queries and keys of the drawn heads, normalized and turned by position, from `process` [n, E T, 2h + 1]."""
    size = layer.size(place.width)
    std = {name: gain**0.5 for name, gain in layer.gains(place.width).items()}
    by_example = process.reshape(place.draws, -1, place.tokens, 2 * size + 1)
    q, k, v = jnp.split(by_example, (size, 2 * size), axis=-1)
    direction = normal(at(place.key, "direction"), place.draws, 1, 1, size)
    signs = jnp.sign(direction.astype(process.dtype))
    queries = _vectors(layer, "query_norm", std["query"] * q, signs)
    keys = _vectors(layer, "key_norm", std["key"] * k, signs)
    return Heads(queries, keys, std["value"] * v[..., 0])


def _attention(layer: Attention, heads: Heads, place: TheoryContext):
    """Returns the probabilities A [n, E, T, T] of the heads, beside the logit of its sink where one has it."""
    scores = _dot(heads.queries.value, heads.keys.value, layer.scale)
    if place.texts is not None:
        seen = jax.vmap(lambda texts: layer.mask.of({"texts": texts}).seen(scores.shape[-2:]))(place.texts)
        scores = jnp.where(seen, scores, -jnp.inf)
    elif not layer.mask.sees_all:
        scores = jnp.where(layer.mask.seen(scores.shape[-2:]), scores, -jnp.inf)
    probabilities, _ = softmax_beside(scores, layer.sink)
    return probabilities


def _by_change_of_query(layer: Attention, heads: Heads, a, change):
    """Returns the weights [n, E, T, T] with which a change of queries brings values into the output."""
    weighted = a * _dot(change, heads.keys.value, layer.scale)
    total = weighted.sum(-1, keepdims=True)
    return weighted - total * a


def _by_change_of_key(layer: Attention, heads: Heads, a, change):
    """Returns the weights [n, E, T, T] with which changes of keys come into the output."""
    o = a @ heads.v[..., None]
    return a * _dot(heads.queries.value, change, layer.scale) * (heads.v[..., None, :] - o)


def _scattered(layer: Attention, sigma: Gram, root: Gram, place: TheoryContext) -> dict[str, Gram]:
    """Returns the tangents that query and key matrices make, where Σ scatters as a mean over `place.features` does.

    Such a tangent is a product of three of its entries: of the tokens that the weight reads, of the values, and of keys or
    queries. An entry between two tokens scatters by 1/√d, and of N tokens the products of such entries add up to N/d of those of
    a token with itself. Every draw has tokens of its own, X [N, d], of Gaussian features and of the lengths that Σ says. This is
    the scatter of d features alone: what heads and sublayers further down add to it is left out.
    """
    width = int(place.features)
    features = root @ place.draws_by_row("tokens", place.draws, len(sigma), width).astype(sigma.dtype)
    lengths = jnp.linalg.norm(features, axis=-1, keepdims=True)
    tokens = features / lengths * jnp.sqrt(jnp.diag(sigma))[:, None]
    projections = _signed(normal(at(place.key, "projections"), place.draws, width, _features(layer, place)))
    heads = _heads(layer, tokens @ projections.astype(sigma.dtype), place)
    a = _attention(layer, heads, place)
    grams = jnp.einsum("nad,nbd->nab", tokens, tokens)
    shapes, gains = layer.matrix_shapes(place.width), layer.gains(place.width)

    def mean_over_draws(weights, k, g):
        return jax.vmap(lambda w, k, g: mixed(w[None], k) * g)(weights, k, g).mean(0)

    by_query = _by_change_of_query(layer, heads, a, heads.queries.direction)
    by_key = _by_change_of_key(layer, heads, a, heads.keys.direction)
    values, ones = gains["value"] * grams, jnp.ones_like(grams)
    sources = {
        "query": mean_over_draws(by_query, values, shapes["query"][0] * grams),
        "key": mean_over_draws(by_key, shapes["key"][0] * grams, ones),
    }
    of_biases = {"query": mean_over_draws(by_query, values, ones), "key": mixed(by_key, ones[0])}
    for name in of_biases.keys() & set(layer.with_bias(shapes)):
        sources[f"{name}.bias"] = of_biases[name]
    return sources


def _vectors(layer: Attention, norm: str, u, signs) -> Vectors:
    """Returns vectors behind the norm and the rotation, with both kinds of change."""
    acts = layer.layer_at(norm)
    params = acts.init(None, u.shape[-1])
    params = jax.tree.map(lambda a: a.astype(u.dtype), params)

    def rotated(x):
        if not layer.rotary:
            return x
        one_head = x[:, None]
        return layer.rotary(one_head)[:, 0]

    def through(params, u):
        normed = acts(params, u)
        return jax.vmap(jax.vmap(rotated))(normed)

    value, push = jax.linearize(through, params, u)
    params_still = jax.tree.map(jnp.zeros_like, params)
    direction = push(params_still, jnp.broadcast_to(signs, u.shape))
    leaves, structure = jax.tree.flatten(params_still)
    u_still = jnp.zeros_like(u)
    by_parameter = {}
    for i, name in enumerate(named(params)):
        moved = list(leaves)
        moved[i] = signs[0, 0, 0] + leaves[i]
        by_parameter[name] = push(jax.tree.unflatten(structure, moved), u_still)
    return Vectors(value, direction, by_parameter)
