"""What a branch at initialization does to a Gram matrix: the matrices, what acts between them, the heads.

Axes: as in `gram`: rows N are example, token; n draws of attention heads; T tokens; h features a head.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..model.branches import branch as branches
from ..model.layers import layer as layers
from ..model.layers import norms
from ..model.layers.functional import seen
from ..model.parameters.initializers import normal
from ..model.parameters.keys import at
from ..model.parameters.names import named
from ..model.stacks import encoder_decoder
from .gram import Gram, Push, Response, TheoryContext, acts_by_row, factor, response
from .kernels import kernel, mean


def inside(layer, hidden: Gram, average, place: TheoryContext) -> Response:
    """The response of a layer that acts between matrices, on features of the mean `average` [N] that are not Gaussian.

    What LayerNorm subtracts is that mean; a tangent has none.

    Errors: NotImplementedError for a layer that does more to a row than multiply it.
    """
    if not acts_by_row(layer):
        raise NotImplementedError(
            f"no theory for {type(layer).__name__} inside a branch: gains and norms have one; measure it"
        )
    subtracts = isinstance(layer.norm if isinstance(layer, norms.ScaledNorm) else layer, norms.LayerNorm)
    return response(layer, hidden - jnp.outer(average, average) if subtracts else hidden, place)


def branch(
    layer, sigma: Gram, place: TheoryContext, hidden: Gram, paths: dict[str, Push], average=None, own=None
) -> Response:
    """The response of a layer made of matrices, the last of which reads `hidden`, all others the input.

    `paths` takes the Gram matrix of a tangent at the output of each matrix but the last to `hidden`, whose mean is `average`;
    `own` are sources there. What acts on `hidden` is the branch's `head_gain` and `inner`. Of gains of heads no gradient is
    predicted: a norm behind them takes what they share, one direction of as many as there are heads. It is NaN, not a guess.
    """
    sides, gains = layer.matrix_shapes(place.width), layer.gains(place.width)
    last = list(sides)[-1]
    average = jnp.zeros(len(sigma)) if average is None else average
    heads = inside(layer.layer_at("head_gain"), hidden, average, place)
    inner = inside(layer.layer_at("inner"), heads.value, average, place)
    onward = lambda k: gains[last] * inner.push(heads.push(k))
    after = lambda path: lambda k: onward(path(k))
    ends: dict[str, Push] = {**{name: after(path) for name, path in paths.items()}, last: lambda k: k}
    read = {**dict.fromkeys(paths, sigma), last: inner.value}
    sources = {name: ends[name](sides[name][0] * read[name]) for name in sides}
    if layer.bias:
        sources |= {f"{name}.bias": ends[name](jnp.ones_like(sigma)) for name in sides}
    sources |= {name: onward(g) for name, g in (own or {}).items()}
    sources |= {f"inner.{name}": gains[last] * g for name, g in inner.sources.items()}
    push = lambda k: sum((ends[name](gains[name] * k) for name in paths), jnp.zeros_like(k))
    return Response(gains[last] * inner.value, push, sources)


@response.register
def _(layer: branches.FeedForward, sigma: Gram, place: TheoryContext) -> Response:
    variance = layer.gains(place.width)["up"] * sigma
    value, slope = kernel(layer.activation, variance)
    return branch(layer, sigma, place, value, {"up": lambda k: slope * k}, mean(layer.activation, jnp.diag(variance)))


@response.register
def _(layer: branches.GatedFeedForward, sigma: Gram, place: TheoryContext) -> Response:
    gains = layer.gains(place.width)
    value, slope = kernel(layer.activation, gains["gate"] * sigma)
    linear = gains["up"] * sigma
    paths: dict[str, Push] = {"gate": lambda k: linear * slope * k, "up": lambda k: value * k}
    return branch(layer, sigma, place, value * linear, paths)


@response.register
def _(layer: branches.Attention, sigma: Gram, place: TheoryContext) -> Response:
    """Many heads of finite width: the mean over `draws` of them, queries and keys drawn as Gaussian processes.

    With A the attention of one head, v and o = A v its values and outputs, and c a change of its scores, the outputs change
    by `A dv`, and by `Σ_u A_tu (v_u − o_t) c_tu`. For a change of the query, `c_tu = dq_t · k_u/√h`, the sum over v is taken
    in closed form; for one of the keys, `c_tu = q_t · dk_u/√h`, v is drawn. The direction of dq and dk in the head is drawn
    and pushed through norm and rotation. The mean is unbiased. `scale`, where it is given, stands for 1/√h. Scores stand still
    where the value is differentiated (`lean`): what they add to a gradient's square is 0.05% in six blocks without norms.

    Cost: eight products of T³ a draw and pair of examples.

    Errors: NotImplementedError for a norm on the values, and for scores with a cap.
    """
    if layer.value_norm != layers.Identity():
        raise NotImplementedError("no theory for a norm on the values of heads of finite width: measure it")
    if layer.softcap is not None:
        raise NotImplementedError("no theory for scores with a cap: measure it")
    gains, (q, k, v) = layer.gains(place.width), _heads(layer, jax.lax.stop_gradient(sigma), place)
    masked = lambda scores: jnp.where(seen(scores.shape[-2:], layer.window), scores, -jnp.inf)
    scores = _dot(q.value, k.value, layer.scale)
    a = jax.nn.softmax(masked(scores) if layer.causal else scores, axis=-1)
    values, of_v = gains["value"] * sigma, v[..., None, :] - (a @ v[..., None])

    def by_query(change):
        c = a * _dot(change, k.value, layer.scale)
        return mixed(c - c.sum(-1, keepdims=True) * a, values)

    by_key = lambda change, moved: mixed(a * _dot(q.value, change, layer.scale) * of_v, moved)
    query = by_query(q.direction)
    paths: dict[str, Push] = {
        "query": lambda moved: query * moved,
        "key": lambda moved: by_key(k.direction, moved),
        "value": lambda moved: mixed(a, moved),
    }
    own = {f"query_norm.{name}": by_query(change) for name, change in q.norm.items()}
    own |= {f"key_norm.{name}": by_key(change, jnp.ones_like(sigma)) for name, change in k.norm.items()}
    return branch(layer, sigma, place, mixed(a, values), paths, own=own)


def mixed(a: Float[Array, "draw example token token"], k: Gram) -> Gram:
    """`A K Aᵀ`, the tokens of every example mixed by its own A, mean over draws."""
    draws, examples, tokens, _ = a.shape
    k = k.reshape(examples, tokens, examples, tokens)
    left = jnp.einsum("netu,eufv->netfv", a, k)
    return jnp.einsum("netfv,nfsv->etfs", left, a).reshape(examples * tokens, -1) / draws


@response.register
def _(layer: encoder_decoder.CrossAttention, sigma: Gram, place: TheoryContext) -> Response:
    """None: attention it is, but of a memory."""
    raise NotImplementedError("no theory for CrossAttention: the Gram matrix of its memory is not carried, measure it")


def _dot(q, k, scale: float | None):
    """`scale q_t · k_u` [n, E, T, T], by default with 1/√h."""
    return jnp.einsum("neth,neuh->netu", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)


class Vectors(NamedTuple):
    """Queries or keys of the drawn heads, and how they change, each [n, E, T, h].

    `direction` is the change when the matrix's output moves along a random sign vector, `norm` when a parameter of the norm
    does, by name.
    """

    value: Array
    direction: Array
    norm: dict[str, Array]


def _heads(layer: branches.Attention, sigma: Gram, place: TheoryContext) -> tuple[Vectors, Vectors, Array]:
    """Queries and keys of the drawn heads, normalized and turned by position, and a feature of the values [n, E, T]."""
    gains, size = layer.gains(place.width), layer.size(place.width)
    drawn = lambda name, *shape: normal(at(place.key, name), place.draws, *shape).astype(sigma.dtype)
    process = drawn("process", len(sigma), 2 * size + 1).at[..., -1].apply(jnp.sign)
    process = (factor(sigma) @ process).reshape(place.draws, -1, place.tokens, 2 * size + 1)
    q, k, v = jnp.split(process, (size, 2 * size), axis=-1)
    signs = jnp.sign(drawn("direction", 1, 1, size))
    std = {name: gain**0.5 for name, gain in gains.items()}
    made = [_vectors(layer, f"{name}_norm", std[name] * u, signs) for name, u in (("query", q), ("key", k))]
    return (*made, std["value"] * v[..., 0])


def _vectors(layer: branches.Attention, norm: str, u, signs) -> Vectors:
    """Through the norm and the rotation, with both kinds of change."""
    acts = layer.layer_at(norm)
    params = jax.tree.map(lambda a: a.astype(u.dtype), acts.init(None, u.shape[-1]))

    def rotated(x):
        return layer.rotary(x[:, None])[:, 0] if layer.rotary else x

    def through(params, u):
        return jax.vmap(jax.vmap(rotated))(acts(params, u))

    value, push = jax.linearize(through, params, u)
    nothing, still = jax.tree.map(jnp.zeros_like, params), jnp.zeros_like(u)
    direction = push(nothing, jnp.broadcast_to(signs, u.shape))
    leaves, shape = jax.tree.flatten(nothing)
    moved = lambda i: jax.tree.unflatten(shape, [signs[0, 0, 0] + a if j == i else a for j, a in enumerate(leaves)])
    return Vectors(value, direction, {name: push(moved(i), still) for i, name in enumerate(named(params))})
