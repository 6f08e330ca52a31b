"""What lanes do to a Gram matrix: its rows are (lane, example, token), a matrix on the lane axis acts on blocks of rows.

Of a trained matrix on the lane axis no gradient is predicted: it is the inner product of the stream with its own cotangent,
summed over features, which a norm further up makes anything but that of two independent vectors. It is NaN, not a guess.
"""

from functools import partial, singledispatch

import jax
import jax.numpy as jnp

from ..model.layers import depth_attention, history, lanes, manifolds
from .gram import Gram, Response, TheoryContext, acts_by_row, response, scaled


def _on_lanes(matrix, k: Gram) -> Gram:
    """Returns `(M ⊗ I) K (M ⊗ I)ᵀ` for M [lanes out, lanes in]."""
    out, into = matrix.shape
    rows = len(k) // into
    blocks = k.reshape(into, rows, into, rows)
    mixed = jnp.einsum("ij,jakb,lk->ialb", matrix, blocks, matrix)
    return mixed.reshape(out * rows, -1)


def _as_matrix(layer, of_lanes: int, dtype):
    """Returns the numbers of a layer between lanes as a matrix [lanes out, lanes in]."""
    numbers = at_start(layer, of_lanes, dtype)
    if layer.route == "gather":
        return numbers[None]
    if layer.route == "spread":
        return numbers[:, None]
    return numbers


@singledispatch
def at_start(layer, of_lanes: int, dtype):
    """Returns the numbers of a layer between lanes at initialization."""
    return layer.numbers(layer.init(jax.random.key(0), 1), of_lanes, dtype)


@at_start.register
def _(layer: lanes.Lanes, of_lanes: int, dtype):
    return layer.numbers(dtype)


@at_start.register
def _(layer: history.Replaced, of_lanes: int, dtype):
    kept = jnp.diag(history.below(layer.count, of_lanes, dtype))
    return layer.row_at_place(kept, at_start(layer.reads, of_lanes, dtype))


@at_start.register
def _(layer: depth_attention.Way, of_lanes: int, dtype):
    return at_start(layer.reads, of_lanes, dtype)


@response.register(lanes.Lanes)
@response.register(history.BetweenLanes)
@response.register(history.Replaced)
@response.register(manifolds.OnSet)
@response.register(depth_attention.DepthAttention)
@response.register(depth_attention.DenseRead)
@response.register(depth_attention.FeatureRead)
@response.register(depth_attention.Way)
def _(layer, sigma: Gram, place: TheoryContext) -> Response:
    push = partial(_on_lanes, _as_matrix(layer, place.lanes(sigma), sigma.dtype))
    return Response(push(sigma), push)


@response.register
def _(layer: depth_attention.Ways, sigma: Gram, place: TheoryContext) -> Response:
    """Refused.

    Errors: NotImplementedError.
    """
    raise NotImplementedError("no theory for a branch whose queries, keys and values are read apart: measure it")


@response.register
def _(layer: lanes.PerLane, sigma: Gram, place: TheoryContext) -> Response:
    """Returns that of layers that multiply entry by entry (gains, norms): each lane's factor is its layer's on the diagonal.

    Errors: NotImplementedError for others: what they do to the Gram matrix between two lanes is not known.
    """
    for one in layer.layers:
        if not acts_by_row(one):
            raise NotImplementedError(
                f"no theory for {type(one).__name__} on one of several lanes: gains and norms have one; measure it"
            )
    size = len(sigma) // len(layer.layers)
    unit = jnp.eye(size, dtype=sigma.dtype)
    factors = []
    sources = {}
    for lane, one in enumerate(layer.layers):
        rows = slice(lane * size, (lane + 1) * size)
        on_lane = response(one, sigma[rows, rows], place)
        squares = jnp.diag(on_lane.push(unit))
        factors.append(jnp.sqrt(squares))
        for name, g in on_lane.sources.items():
            sources[f"{lane + 1}.{name}"] = jnp.zeros_like(sigma).at[rows, rows].set(g)
    factor = jnp.concatenate(factors)
    return scaled(sigma, jnp.outer(factor, factor), sources)


@response.register
def _(layer: lanes.Then, sigma: Gram, place: TheoryContext) -> Response:
    """Returns the response of layers one after the other."""
    steps: list[Response] = []
    value = sigma
    for one in layer.layers:
        step = response(one, value, place)
        steps.append(step)
        value = step.value

    def push_from(start: int, k: Gram) -> Gram:
        for step in steps[start:]:
            k = step.push(k)
        return k

    sources = {}
    for number, step in enumerate(steps, 1):
        for name, g in step.sources.items():
            sources[f"{number}.{name}"] = push_from(number, g)
    return Response(value, partial(push_from, 0), sources)
