"""The linear maps of a sublayer and its factors, each between the spaces where it acts.

Every factor of `J = J_N_out (A + B J_N_branch J_F J_N_in C)` is a linear map recorded where equation (1) calls the part, and
`branch_term`, `fork` and `sublayer` are (1) itself on those maps. A norm makes a Jacobian singular by construction: its
output can't move along some directions of every token (LayerNorm: the mean and the radius; RMSNorm: the radius). So a
map here is restricted to the *tangent spaces* at both ends:

    stream          what the norm that made it lets it do; everything where no norm did (the bottom, pre-norm)
    skip + branch   less what neither carries on (a norm on the skip, or no skip, where the branch reads a norm)
    norm            from all that it does not take away (the complement of its kernel) to the tangent space of its output
    branch, fork    to what the norm that follows does not take away, so that the norm's effect stands apart

With these the log-volumes of `norm_out` and `fork` sum to the sublayer's, and those of sublayers to the stack's, where each is
one to one between its spaces: not where some are post-norm below others that are pre-norm, or a branch alone is singular. A space
is given by orthonormal *normals* of every token: columns [T, c, K], a zero column where there is none. Exact for
eps → 0: a norm with eps keeps a share eps/(var + eps) of the radius, which is left out. Of several lanes those have normals
that a norm of their own acts on; what gains do between lanes shows in the singular values, also where they drop a lane.

Axes: an array of the stream is [T, d] or [lanes, T, d]; by token it is [T, c], c = lanes · d; K normals a token.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..model.equation.sublayer import PARTS, bind, forked, recorded, resolve_shared_params, terms
from ..model.layers.layer import NOTHING, Zero, coupling
from ..results.quantities import JACOBIANS

NORMALS = 4  # columns kept of each lane: two norms, one at either end of a map
# The parts that each factor goes through.
INNER = ("read", "norm_in", "branch", "norm_branch", "write")
THROUGH = {
    **{part: (part,) for part in ("norm_in", "branch", "norm_branch", "norm_out")},
    "branch_term": INNER,
    "fork": ("skip", *INNER),
    "sublayer": PARTS,
}


class Operator(NamedTuple):
    """A linear map between tangent spaces: `apply(v)`, for arrays `v` shaped `like`.

    `rank` is the dimension of the spaces on its way, at most: what is missing to the full size of an array is the rank
    deficit by construction. `couples` is one of `COUPLINGS`. `through` names the parts of (1) on its way, without those that
    are the identity (the skip always counts).
    """

    push: Callable
    like: jax.ShapeDtypeStruct
    domain: jax.Array
    range: jax.Array
    rank: Any
    couples: str
    through: tuple[str, ...]

    def apply(self, v):
        """The map, from the domain to the range."""
        return project(self.push(project(v, self.domain)), self.range)

    @property
    def size(self) -> int:
        """Entries of an array, n = T·c."""
        return self.like.size


def by_token(x):
    """[T, c] from the stream's [T, d] or [lanes, T, d]; an array without tokens counts as one."""
    return jnp.moveaxis(x, -2, 0).reshape(x.shape[-2], -1) if x.ndim > 1 else x.reshape(1, -1)


def from_tokens(rows, like):
    """The array shaped `like` from `by_token`'s rows [T, c]."""
    if len(like.shape) < 2:
        return rows.reshape(like.shape)
    *lanes, tokens, features = like.shape
    return jnp.moveaxis(rows.reshape(tokens, *lanes, features), 0, -2)


def everything(x):
    """The space of all arrays shaped like `x`: no normals, [T, c, K] of zeros, K = `NORMALS` a lane."""
    rows = by_token(jnp.zeros(x.shape, x.dtype))
    return jnp.zeros((*rows.shape, NORMALS * (rows.shape[-1] // x.shape[-1])), x.dtype)


def orthonormal(*columns, keep: int = NORMALS):
    """Orthonormal columns [T, c, keep] with the span of all the given ones, zeros in the place of what is missing."""
    given = jnp.concatenate(columns, axis=-1)
    scaled = given / jnp.abs(given).max(axis=-2, keepdims=True)
    scaled = jnp.where(jnp.isfinite(scaled), scaled, 0.0)
    lengths = jnp.linalg.norm(scaled, axis=-2, keepdims=True)
    found = gram_schmidt(scaled / jnp.where(lengths > 0, lengths, 1.0))
    first = jnp.argsort(-jnp.sum(found**2, axis=-2, keepdims=True), axis=-1)
    found = jnp.take_along_axis(found, first, axis=-1)[..., :keep]
    return jnp.pad(found, ((0, 0), (0, 0), (0, keep - found.shape[-1])))


@partial(jax.jit, static_argnames="least")
def gram_schmidt(columns, least: float = 1e-3):
    """Orthonormal columns [T, c, K] by Gram-Schmidt; zero where at most `least` of a column is left."""

    def one(k, kept):
        v = columns[..., k]
        for _ in range(2):  # twice is enough (Parlett 1980, section 6.9)
            v = v - jnp.einsum("tck,tk->tc", kept, jnp.einsum("tck,tc->tk", kept, v))
        size = jnp.linalg.norm(v, axis=-1, keepdims=True)
        return kept.at[..., k].set(jnp.where(size > least, v / jnp.where(size > 0, size, 1.0), 0.0))

    return jax.lax.fori_loop(0, columns.shape[-1], one, jnp.zeros_like(columns))


def project(v, normals):
    """`v` without its components along the normals, token by token."""
    rows = by_token(v)
    return from_tokens(rows - jnp.einsum("tck,tk->tc", normals, jnp.einsum("tck,tc->tk", normals, rows)), v)


def without(normals, kernel):
    """The space with those normals, less the directions of `null_directions` (orthonormal, [T, c, K]) that lie in it.

    They are the combinations of the kernel's columns that are orthogonal to all normals: the null space of the cosines.
    """
    cosines = jnp.einsum("tck,tcj->tjk", normals, kernel)
    return orthonormal(normals, _combined(kernel, cosines), keep=normals.shape[-1])


def common(one, other):
    """The directions [T, c, K] that the spans of `one` and `other` (both orthonormal, [T, c, K]) share."""
    apart = one - jnp.einsum("tci,tki,tkj->tcj", other, other, one)
    return _combined(one, jnp.einsum("tcj,tck->tjk", apart, apart))


def _combined(columns, products):
    """Those combinations of the columns [T, c, K] whose weights are orthogonal to all of `products` [T, K, m]."""
    units = jnp.broadcast_to(jnp.eye(columns.shape[-1], dtype=columns.dtype), (len(columns), *columns.shape[-1:] * 2))
    null = gram_schmidt(jnp.concatenate([products, units], axis=-1))[..., products.shape[-1] :]
    return jnp.einsum("tcj,tji->tci", columns, null)


def dimension(normals):
    """Of the space with those normals, over all tokens."""
    tokens, size, _ = normals.shape
    return tokens * size - jnp.round(jnp.sum(normals**2)).astype(jnp.int32)


# ---- of one sublayer ----------------------------------------------------------------------------------------


def where_finite(y, read):
    """What was read of a sublayer, NaN where its output `y` is not finite: `relu'(NaN)` is 0, a number that means nothing."""
    finite = jnp.isfinite(y).all()
    return jax.tree.map(lambda a: jnp.where(finite, a, jnp.nan) if jnp.issubdtype(a.dtype, jnp.floating) else a, read)


def with_params(layers: Mapping, params: Mapping):
    """For `walk(..., bind=with_params)`: what a visit needs that asks the layers, and not only calls them."""
    return layers, params


def operators(layers: Mapping, params: Mapping, x, stream) -> tuple[Any, Any, dict[str, Operator]]:
    """`x'` of (1), the space of `x'`, and the operator of every factor in `JACOBIANS` at `x`, whose space is `stream`.

    Cost: one linearization; each application of an operator is a push through its parts.
    """
    parts = bind(layers, params)
    y, records = recorded(parts, x, at=_linearized_with_ends)
    seen = {part: (u, out) for part, (u, out, _) in records.items()}
    maps = {part: push for part, (_, _, push) in records.items()}
    inside, fork = {**maps, "norm_out": lambda u: u}, forked(parts, maps, x)
    pushes: dict[str, Callable] = {
        **{part: maps[part] for part in ("norm_in", "branch", "norm_branch", "norm_out")},
        "branch_term": lambda v: terms(inside, jnp.zeros_like, v)[1],
        "fork": fork,
        "sublayer": lambda v: maps["norm_out"](fork(v)),
    }
    spaces = _spaces(layers, resolve_shared_params(layers, params), seen, stream)
    found = {}
    for name in JACOBIANS:
        u = seen[THROUGH[name][0]][0] if name in seen else x
        like = jax.ShapeDtypeStruct(u.shape, u.dtype)
        passed = [dimension(space) for part in THROUGH[name] if part in INNER for space in spaces[part]]
        ends = spaces[name]
        rank = jnp.min(jnp.stack([dimension(space) for space in ends] + (passed if name == "branch_term" else [])))
        through = tuple(part for part in THROUGH[name] if part == "skip" or coupling(layers[part]) != NOTHING)
        found[name] = Operator(pushes[name], like, *ends, rank, coupling(*(layers[part] for part in through)), through)
    return y, spaces["sublayer"][1], found


def _linearized_with_ends(part, u):
    out, push = jax.linearize(part, u)
    return out, (u, out, push)


def _spaces(layers, params, seen, stream) -> dict[str, tuple[jax.Array, jax.Array]]:
    """`{part or factor: (normals of its domain, normals of its range)}`, from the values `seen` at every part."""

    def kernel(part):
        """What one part takes from its input."""
        u, _ = seen[part]
        return _columns(u, layers[part].null_directions(params[part], u))

    def across(part, incoming):
        """Domain and range of one part, fed from the space `incoming`."""
        _, y = seen[part]
        return without(incoming, kernel(part)), _columns(y, layers[part].output_normals(params[part], y, incoming))

    at = {"read": across("read", stream)}
    at["norm_in"] = across("norm_in", at["read"][1])
    at["norm_branch"] = across("norm_branch", everything(seen["norm_branch"][0]))
    at["branch"] = (at["norm_in"][1], kernel("norm_branch"))
    at["write"] = across("write", at["norm_branch"][1])
    at["norm_out"] = across("norm_out", everything(seen["norm_out"][0]))
    first = "norm_in" if coupling(layers["read"]) == NOTHING else "read"
    at["branch_term"] = (at[first][0], at["write"][1])
    by_skip = layers["skip"].null_directions(params["skip"], seen["skip"][0])
    carried = stream
    if isinstance(layers["skip"], Zero):
        carried = without(stream, kernel(first))
    elif by_skip is not None:
        carried = without(stream, common(kernel(first), kernel("skip")))
    at["fork"] = (carried, kernel("norm_out"))
    at["sublayer"] = (carried, at["norm_out"][1])
    return at


def _columns(x, directions):
    """Returns directions [T, c, K] of the array `x` as orthonormal columns; zeros where there are none."""
    none = everything(x)
    if directions is None:
        return none
    return orthonormal(directions.reshape(*none.shape[:2], -1), keep=none.shape[-1])
