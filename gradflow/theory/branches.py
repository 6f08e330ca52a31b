"""What a branch at initialization does to a Gram matrix: the matrices, what acts between them, the heads.

Axes: as in `gram`: rows N are example, token; n draws of attention heads; T tokens; h features a head.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..model.branches import branch as branches
from ..model.branches.attention import Attention
from ..model.layers import layer as layers
from ..model.layers import norms
from ..model.parameters.initializers import normal
from ..model.parameters.keys import at
from ..model.parameters.names import named
from ..model.stacks import encoder_decoder
from .gram import Gram, Push, Response, TheoryContext, acts_by_row, factor, response
from .kernels import kernel, mean


def inside(layer, hidden: Gram, average, place: TheoryContext) -> Response:
    """Returns the response of a layer that acts between matrices, on features of the mean `average` [N] that are not Gaussian.

    What LayerNorm subtracts is that mean; a tangent has none.

    Errors: NotImplementedError for a layer that does more to a row than multiply it.
    """
    if not acts_by_row(layer):
        raise NotImplementedError(
            f"no theory for {type(layer).__name__} inside a branch: gains and norms have one; measure it"
        )
    normalizing = layer.norm if isinstance(layer, norms.ScaledNorm) else layer
    if isinstance(normalizing, norms.LayerNorm):
        hidden = hidden - jnp.outer(average, average)
    return response(layer, hidden, place)


def branch(
    layer,
    sigma: Gram,
    place: TheoryContext,
    hidden: Gram,
    paths: dict[str, Push],
    average=None,
    sources_at_hidden: dict[str, Gram] | None = None,
) -> Response:
    """Returns the response of a layer made of matrices, the last of which reads `hidden`, all others the input.

    `paths` takes the Gram matrix of a tangent at the output of each matrix but the last to `hidden`, whose mean is `average`.
    What acts on `hidden` is the branch's `head_gain` and `inner`. Of gains of heads no gradient is predicted: a norm behind them
    takes what they share, one direction of as many as there are heads. It is NaN, not a guess.
    """
    shapes = layer.matrix_shapes(place.width)
    gains = layer.gains(place.width)
    last = list(shapes)[-1]
    if average is None:
        average = jnp.zeros(len(sigma))
    heads = inside(layer.layer_at("head_gain"), hidden, average, place)
    inner = inside(layer.layer_at("inner"), heads.value, average, place)

    def from_hidden(k: Gram) -> Gram:
        return gains[last] * inner.push(heads.push(k))

    def from_matrix(name: str, k: Gram) -> Gram:
        if name == last:
            return k
        return from_hidden(paths[name](k))

    def push(k: Gram) -> Gram:
        pushed = jnp.zeros_like(k)
        for name in paths:
            pushed = pushed + from_matrix(name, gains[name] * k)
        return pushed

    sources = {}
    for name, (fan_in, *_) in shapes.items():
        input_gram = inner.value if name == last else sigma
        sources[name] = from_matrix(name, fan_in * input_gram)
    for name in layer.with_bias(shapes):
        sources[f"{name}.bias"] = from_matrix(name, jnp.ones_like(sigma))
    for name, g in (sources_at_hidden or {}).items():
        sources[name] = from_hidden(g)
    for name, g in inner.sources.items():
        sources[f"inner.{name}"] = gains[last] * g
    return Response(gains[last] * inner.value, push, sources)


@response.register
def _(layer: branches.FeedForward, sigma: Gram, place: TheoryContext) -> Response:
    variance = layer.gains(place.width)["up"] * sigma
    value, slope = kernel(layer.activation, variance)
    average = mean(layer.activation, jnp.diag(variance))

    def by_up(k: Gram) -> Gram:
        return slope * k

    return branch(layer, sigma, place, value, {"up": by_up}, average)


@response.register
def _(layer: branches.GatedFeedForward, sigma: Gram, place: TheoryContext) -> Response:
    gains = layer.gains(place.width)
    value, slope = kernel(layer.activation, gains["gate"] * sigma)
    linear = gains["up"] * sigma

    def by_gate(k: Gram) -> Gram:
        return linear * slope * k

    def by_up(k: Gram) -> Gram:
        return value * k

    return branch(layer, sigma, place, value * linear, {"gate": by_gate, "up": by_up})


@response.register
def _(layer: Attention, sigma: Gram, place: TheoryContext) -> Response:
    """Returns the response of many heads of finite width: the mean over `draws` of them.

    Queries and keys are drawn as Gaussian processes. With A the attention of one head, v and o = A v its values and outputs,
    and c a change of its scores, the outputs change by `A dv`, and by `Σ_u A_tu (v_u − o_t) c_tu`. For a change of the query,
    `c_tu = dq_t · k_u/√h`, the sum over v is taken in closed form; for one of the keys, `c_tu = q_t · dk_u/√h`, v is drawn.
    The direction of dq and dk in the head is drawn and pushed through norm and rotation. The mean is unbiased. `scale`, where it
    is given, stands for 1/√h. Scores stand still where the value is differentiated (`mean_cotangent`): what they add to a
    gradient's square is 0.05% in six blocks without norms. Of the logits of sinks no gradient is predicted.

    Cost: eight products of T³ a draw and pair of examples.

    Errors: NotImplementedError for a norm on the values, for values of two blocks, and for scores with a cap.
    """
    if layer.value_norm != layers.Identity():
        raise NotImplementedError("no theory for a norm on the values of heads of finite width: measure it")
    if layer.mixes_values:
        raise NotImplementedError("no theory for values that are mixed with those of another block: measure it")
    if layer.softcap is not None:
        raise NotImplementedError("no theory for scores with a cap: measure it")
    queries, keys, v = _heads(layer, jax.lax.stop_gradient(sigma), place)
    scores = _dot(queries.value, keys.value, layer.scale)
    if not layer.mask.sees_all:
        scores = jnp.where(layer.mask.seen(scores.shape[-2:]), scores, -jnp.inf)
    a = _softmax(scores, layer.sink)
    gains = layer.gains(place.width)
    values = gains["value"] * sigma
    o = a @ v[..., None]
    v_less_o = v[..., None, :] - o

    def by_change_of_query(change):
        c = _dot(change, keys.value, layer.scale)
        weighted = a * c
        total = weighted.sum(-1, keepdims=True)
        return mixed(weighted - total * a, values)

    def by_change_of_key(change, k: Gram) -> Gram:
        c = _dot(queries.value, change, layer.scale)
        weighted = a * c
        return mixed(weighted * v_less_o, k)

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
    return branch(layer, sigma, place, mixed(a, values), paths, sources_at_hidden=sources)


def mixed(a: Float[Array, "draw example token token"], k: Gram) -> Gram:
    """Returns `A K Aᵀ`, the tokens of every example mixed by its own A, mean over draws."""
    draws, examples, tokens, _ = a.shape
    pairs = k.reshape(examples, tokens, examples, tokens)
    left = jnp.einsum("netu,eufv->netfv", a, pairs)
    both = jnp.einsum("netfv,nfsv->etfs", left, a)
    return both.reshape(examples * tokens, -1) / draws


@response.register
def _(layer: encoder_decoder.CrossAttention, sigma: Gram, place: TheoryContext) -> Response:
    """Refuses: attention it is, but of a memory."""
    raise NotImplementedError("no theory for CrossAttention: the Gram matrix of its memory is not carried, measure it")


def _softmax(scores, sink: float | None):
    """Returns the attention of one head, beside the logit of its sink where it has one."""
    if sink is None:
        return jax.nn.softmax(scores, axis=-1)
    aside = jnp.full_like(scores[..., :1], sink)
    return jax.nn.softmax(jnp.concatenate([scores, aside], axis=-1), axis=-1)[..., :-1]


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


def _heads(layer: Attention, sigma: Gram, place: TheoryContext) -> tuple[Vectors, Vectors, Array]:
    """Returns queries and keys of the drawn heads, normalized and turned by position, and a feature of the values [n, E, T]."""
    size = layer.size(place.width)
    gains = layer.gains(place.width)
    std = {name: gain**0.5 for name, gain in gains.items()}

    def draw(name: str, *shape: int):
        key = at(place.key, name)
        drawn = normal(key, place.draws, *shape)
        return drawn.astype(sigma.dtype)

    features = 2 * size + 1
    independent = draw("process", len(sigma), features)
    independent = independent.at[..., -1].apply(jnp.sign)
    process = factor(sigma) @ independent
    by_example = process.reshape(place.draws, -1, place.tokens, features)
    q, k, v = jnp.split(by_example, (size, 2 * size), axis=-1)
    direction = draw("direction", 1, 1, size)
    signs = jnp.sign(direction)
    q = std["query"] * q
    k = std["key"] * k
    v = std["value"] * v[..., 0]
    queries = _vectors(layer, "query_norm", q, signs)
    keys = _vectors(layer, "key_norm", k, signs)
    return queries, keys, v


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
