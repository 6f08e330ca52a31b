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
one to one between its spaces: not where some are post-norm below others that are pre-norm, a branch alone is singular, or
`norm_out` is a map of skip and branch beside each other. A space is given by orthonormal *normals* of every token (`spaces`);
tokens that are padding are in none.
Exact for eps → 0: a norm with eps keeps a share eps/(var + eps) of the radius, which is left out. Of several lanes those have
normals that a norm of their own acts on; what gains do between lanes shows in the singular values, also where they drop a lane.

Axes: an array of the stream is [T, d] or [lanes, T, d]; by token it is [T, c], c = lanes · d; K normals a token.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...model.equation.sublayer import PARTS, bind, forked, recorded, resolve_shared_params, terms
from ...model.layers.layer import FEATURES, NOTHING, Zero, coupling
from ...results.quantities import JACOBIANS
from .spaces import Space, common, no_normals, orthogonal_to, orthonormal, without

# The parts that each factor goes through.
INNER = ("read", "norm_in", "branch", "norm_branch", "write")
THROUGH = {
    "norm_in": ("norm_in",),
    "branch": ("branch",),
    "norm_branch": ("norm_branch",),
    "norm_out": ("norm_out",),
    "branch_term": INNER,
    "fork": ("skip", *INNER),
    "sublayer": PARTS,
}

GROUPS = "groups"  # what a layer that couples tokens asks for, to say what they are each alone


class Operator(NamedTuple):
    """A linear map between tangent spaces: `apply(v)`, for arrays `v` shaped `like`.

    `rank` is the dimension of the spaces on its way, at most: what is missing to the full size of an array is the rank
    deficit by construction. `couples` is one of `COUPLINGS`. `through` names the parts of (1) on its way, without those that
    are the identity (the skip always counts). `push_within(m)` is what `push` is where groups of m tokens each change alone: the
    blocks on the diagonal of its matrix; None where a layer that couples tokens does not say it.
    """

    push: Callable
    like: jax.ShapeDtypeStruct
    domain: Space
    range: Space
    rank: Any
    couples: str
    through: tuple[str, ...]
    push_within: Callable | None = None

    def apply(self, v):
        """Returns the map of `v`, from the domain to the range."""
        within = self.domain.project(v)
        return self.range.project(self.push(within))

    @property
    def size(self) -> int:
        """How many entries an array has, n = T·c."""
        return self.like.size


class Linearized(NamedTuple):
    """A part where equation (1) calls it: its input and output, and the linear map `push` that it is there."""

    input: Any
    output: Any
    push: Callable


def _linearized(part, u):
    """Returns a part's output, and its record."""
    output, push = jax.linearize(part, u)
    return output, Linearized(u, output, push)


def operators(layers: Mapping, params: Mapping, x, stream: Space) -> tuple[Any, Space, dict[str, Operator]]:
    """Returns `x'` of (1), the space of `x'`, and the operator of every factor in `JACOBIANS` at `x`, whose space is `stream`.

    Cost: one linearization; each application of an operator is a push through its parts.
    """
    parts = bind(layers, params)
    y, records = recorded(parts, x, at=_linearized)
    pushes = _pushes(parts, records, x)
    within = _within(layers, params, x)
    spaces = _spaces(layers, resolve_shared_params(layers, params), records, stream)
    ops = {}
    for name in JACOBIANS:
        u = records[name].input if name in records else x
        domain, range_ = spaces[name]
        through = _through(layers, name)
        ops[name] = Operator(
            push=pushes[name],
            like=jax.ShapeDtypeStruct(u.shape, u.dtype),
            domain=domain,
            range=range_,
            rank=_rank(spaces, name),
            couples=coupling(*[layers[part] for part in through]),
            through=through,
            push_within=partial(_of_factor, within, name) if within else None,
        )
    _, after = spaces["sublayer"]
    return y, after, ops


def _pushes(parts: Mapping, records: Mapping[str, Linearized], x) -> dict[str, Callable]:
    """Returns the linear map of every factor: those recorded at the parts, and equation (1) on them."""
    maps: dict[str, Callable] = {part: record.push for part, record in records.items()}
    up_to_norm_out = {**maps, "norm_out": lambda u: u}
    fork = forked(parts, maps, x)

    def branch_term(v):
        _, branch, _ = terms(up_to_norm_out, jnp.zeros_like, v)
        return branch

    def whole(v):
        return maps["norm_out"](fork(v))

    return {**maps, "branch_term": branch_term, "fork": fork, "sublayer": whole}


def _within(layers: Mapping, params: Mapping, x) -> Callable | None:
    """Returns `number of tokens -> maps` of every factor where groups of so many tokens each change alone; None: not said.

    It takes a linearization of its own.
    """
    coupled = [name for name, layer in layers.items() if coupling(layer) not in (NOTHING, FEATURES)]
    if not all(GROUPS in layers[name].asks for name in coupled):
        return None

    def maps(together: int):
        groups = jnp.arange(x.shape[-2]) // together
        grouped = {name: {**params[name], GROUPS: groups} for name in coupled}
        parts = bind(layers, {**params, **grouped})
        _, records = recorded(parts, x, at=_linearized)
        return _pushes(parts, records, x)

    return maps


def _of_factor(maps: Callable, name: str, together: int):
    return maps(together)[name]


def _rank(spaces: Mapping, name: str):
    """Returns the dimension of the spaces on the way of a factor, at most."""
    passed = [*spaces[name]]
    if name == "branch_term":
        for part in INNER:
            passed += spaces[part]
    return jnp.min(jnp.stack([space.dimension for space in passed]))


def _through(layers: Mapping, name: str) -> tuple[str, ...]:
    """Returns the parts that a factor goes through, without those that are the identity; the skip always counts."""
    through = []
    for part in THROUGH[name]:
        if part == "skip" or coupling(layers[part]) != NOTHING:
            through.append(part)
    return tuple(through)


def _spaces(layers, params, records, stream: Space) -> dict[str, tuple[Space, Space]]:
    """Returns `{part or factor: (its domain, its range)}`, each of the tokens that the stream's space is of."""
    spaces = {}
    for name, (domain, range_) in _normals(layers, params, records, stream.normals).items():
        spaces[name] = orthogonal_to(domain, stream.real), orthogonal_to(range_, stream.real)
    return spaces


def _normals(layers, params, records, stream) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Returns `{part or factor: (normals of its domain, normals of its range)}`, from the values at every part."""

    def null_space(part):
        """Returns what one part takes from its input."""
        u = records[part].input
        return _columns(u, layers[part].null_directions(params[part], u))

    def across(part, incoming):
        """Returns domain and range of one part, fed from the space `incoming`."""
        y = records[part].output
        domain = without(incoming, null_space(part))
        return domain, _columns(y, layers[part].output_normals(params[part], y, incoming))

    spaces = {"read": across("read", stream)}
    _, after_read = spaces["read"]
    spaces["norm_in"] = across("norm_in", after_read)
    spaces["norm_branch"] = across("norm_branch", no_normals(records["norm_branch"].input))
    _, after_norm_in = spaces["norm_in"]
    spaces["branch"] = (after_norm_in, null_space("norm_branch"))
    _, after_norm_branch = spaces["norm_branch"]
    spaces["write"] = across("write", after_norm_branch)
    spaces["norm_out"] = across("norm_out", no_normals(records["norm_out"].input))
    first = "norm_in" if coupling(layers["read"]) == NOTHING else "read"
    into_branch, _ = spaces[first]
    _, after_write = spaces["write"]
    spaces["branch_term"] = (into_branch, after_write)
    carried = stream
    if isinstance(layers["skip"], Zero):
        carried = without(stream, null_space(first))
    elif layers["skip"].null_directions(params["skip"], records["skip"].input) is not None:
        carried = without(stream, common(null_space(first), null_space("skip")))
    spaces["fork"] = (carried, null_space("norm_out"))
    _, after_norm_out = spaces["norm_out"]
    spaces["sublayer"] = (carried, after_norm_out)
    return spaces


def _columns(x, directions):
    """Returns directions [T, c, K] of the array `x` as orthonormal columns; zeros where there are none."""
    none = no_normals(x)
    if directions is None:
        return none
    tokens, entries, number = none.shape
    return orthonormal(directions.reshape(tokens, entries, -1), keep=number)
