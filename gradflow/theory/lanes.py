"""What lanes do to a Gram matrix: its rows are (lane, example, token), a matrix on the lane axis acts on blocks of rows.

Of a trained matrix on the lane axis no gradient is predicted: it is the inner product of the stream with its own cotangent,
summed over features, which a norm further up makes anything but that of two independent vectors. It is NaN, not a guess.
"""

import jax.numpy as jnp

from ..model.layers import lanes
from .gram import Gram, Response, TheoryContext, acts_by_row, response, scaled


def _on_lanes(matrix, k: Gram) -> Gram:
    """`(M ⊗ I) K (M ⊗ I)ᵀ` for M [lanes out, lanes in]."""
    out, into = matrix.shape
    rows = len(k) // into
    blocks = k.reshape(into, rows, into, rows)
    return jnp.einsum("ij,jakb,lk->ialb", matrix, blocks, matrix).reshape(out * rows, -1)


def _as_matrix(layer: lanes.Lanes, dtype):
    numbers = layer.numbers(dtype)
    return {"mix": numbers, "gather": numbers[None], "spread": numbers[:, None]}[layer.route]


@response.register
def _(layer: lanes.Lanes, sigma: Gram, place: TheoryContext) -> Response:
    matrix = _as_matrix(layer, sigma.dtype)
    return Response(_on_lanes(matrix, sigma), lambda k: _on_lanes(matrix, k))


@response.register
def _(layer: lanes.PerLane, sigma: Gram, place: TheoryContext) -> Response:
    """Layers that multiply entry by entry (gains, norms): each lane's factor is its layer's on the diagonal.

    Errors: NotImplementedError for others: what they do to the Gram matrix between two lanes is not known.
    """
    for one in layer.layers:
        if not acts_by_row(one):
            raise NotImplementedError(
                f"no theory for {type(one).__name__} on one of several lanes: gains and norms have one; measure it"
            )
    count = len(layer.layers)
    rows = len(sigma) // count
    own = [slice(i * rows, (i + 1) * rows) for i in range(count)]
    made = [response(one, sigma[at, at], place) for one, at in zip(layer.layers, own, strict=True)]
    root = jnp.concatenate([jnp.sqrt(jnp.diag(one.push(jnp.eye(rows, dtype=sigma.dtype)))) for one in made])
    there = lambda at, g: jnp.zeros_like(sigma).at[at, at].set(g)
    sources = {
        f"{i}.{name}": there(at, g)
        for i, (one, at) in enumerate(zip(made, own, strict=True), 1)
        for name, g in one.sources.items()
    }
    return scaled(sigma, jnp.outer(root, root), sources)


@response.register
def _(layer: lanes.Then, sigma: Gram, place: TheoryContext) -> Response:
    """One after the other."""
    made: list[Response] = []
    for one in layer.layers:
        made.append(response(one, made[-1].value if made else sigma, place))

    def onward(k: Gram, start: int) -> Gram:
        for one in made[start:]:
            k = one.push(k)
        return k

    sources = {f"{i}.{name}": onward(g, i) for i, one in enumerate(made, 1) for name, g in one.sources.items()}
    return Response(made[-1].value if made else sigma, lambda k: onward(k, 0), sources)
