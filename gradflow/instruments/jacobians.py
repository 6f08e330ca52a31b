"""Jacobians of residual sublayers, exact at small sizes, and of the whole stack by probes.

One sublayer is one instance of equation (1), so its Jacobian has the form of its wiring:

    J = J_N_out (A + B J_N_branch J_F J_N_in C)          pre: I + J_F J_N     post: J_N (I + J_F)

Here each factor is the matrix of the linear map recorded where (1) calls the part, and `fork`, `branch_term` and
`sublayer` are equation (1) itself on those matrices. `partial` needs no matrix: a probe pulled down once reads all depths.

Axes: n = T·d entries of the stream of one example; matrices are [outputs, inputs]; m probes; S sublayers.
"""

from functools import partial

import jax
import jax.numpy as jnp

from ..model.equation import Part, recorded, sublayer, terms, walk
from ..model.init import at, root
from ..model.stack import parts_at
from ..results.quantities import JACOBIANS, PROBES
from .gradients import dials
from .meter import metered, norm

LARGEST = 2048
# Below this share of σ_max a singular value counts as zero. A norm with eps leaves eps/σ² (1e-5) in the direction of its
# radius, so the bound is one of the field, not of the arithmetic.
VANISHING = 1e-4


def matrices(parts, x) -> dict[str, jax.Array]:
    """Dense Jacobians at `x` of one sublayer: of its seven parts, and of what equation (1) makes of them.

    `skip_term` and `branch_term` sum to `fork` (`A + B J_N_branch J_F J_N_in C`); `norm_out @ fork` is `sublayer`. Each is
    [outputs, inputs], entries flattened in the order of the array. Cost: one linearization and n pushes; memory O(n²)
    a factor, so n = T·d is at most 2048.
    """
    if x.size > LARGEST:
        raise ValueError(
            f"a dense Jacobian of {x.size} = tokens × features entries is beyond {LARGEST}: use a shorter context or a "
            f"smaller width, or `partial_jacobian`, which needs no matrix"
        )
    _, records = recorded(parts, x, at=lambda part, u: _with_shape(u, jax.linearize(part, u)))
    dense = {name: _matrix(push, like) for name, (like, push) in records.items()}
    maps: dict[str, Part] = {name: partial(jnp.matmul, matrix) for name, matrix in dense.items()}
    inside: dict[str, Part] = {**maps, "norm_out": lambda u: u}
    eye = jnp.eye(x.size, dtype=x.dtype)
    skip_term, branch_term = terms(inside, eye)
    whole = {"fork": sublayer(eye, **inside), "sublayer": sublayer(eye, **maps)}
    return {**dense, "skip_term": skip_term, "branch_term": branch_term, **whole}


def _with_shape(u, value_and_push):
    value, push = value_and_push
    return value, (jax.ShapeDtypeStruct(u.shape, u.dtype), push)


def _matrix(push, like):
    """The matrix of a linear map, by its action on a basis of arrays shaped `like`."""
    basis = jnp.eye(like.size, dtype=like.dtype).reshape(like.size, *like.shape)
    return jax.vmap(lambda e: push(e).ravel(), out_axes=1)(basis)


def at_sublayer(model, params, inputs, position: int) -> dict[str, jax.Array]:
    """`matrices` of the sublayer at `position` (0 … S − 1; negative from the top), for the inputs of one example."""
    _, streams = walk(
        model.segments,
        params["stack"],
        model.enter(params, inputs),
        lambda x, parts, _: (sublayer(x, **parts), x),
    )
    return matrices(parts_at(model.segments, params["stack"], position), streams[position])


def spectrum(model, params, batch) -> dict:
    """`singular_values` [S, jacobian, n], `jacobian_gain` and `rank_deficit` [S, jacobian] of every sublayer.

    Of the first example of the batch. Dense: n = T·d at most 2048, O(S n³) time; one sublayer's matrices in memory at a time.
    """

    def visit(x, parts, _):
        dense = matrices(parts, x)
        if any(dense[name].shape != (x.size, x.size) for name in JACOBIANS):
            raise ValueError("the parts of a stream with several lanes differ in size: use `jacobians.matrices`")
        stacked = jnp.stack([dense[name] for name in JACOBIANS])
        return sublayer(x, **parts), jnp.linalg.svd(stacked, compute_uv=False)

    x = model.enter(params, jax.tree.map(lambda a: a[0], batch["inputs"]))
    _, values = walk(model.segments, params["stack"], x, visit)
    return {
        "singular_values": values,
        "jacobian_gain": jnp.mean(values**2, axis=-1),
        "rank_deficit": jnp.sum(values < VANISHING * values[..., :1], axis=-1),
    }


def partial_jacobian(model, params, batch, *, probes: int = 8, key=0) -> dict:
    """`partial_jacobian` [S+1, probe] and its standard error: `‖∂x_S/∂x_l‖_F²/size` for all l at once.

    The averaged partial Jacobian norm (Doshi, He and Gromov 2023, eq. 4). An isotropic probe is drawn on the sphere in all
    T·d entries; a token-common one is the same vector of features on every token. Each is pulled down the stack once
    from x_S, and the meters read it at every depth. Both are 1 at l = S, exactly. Mean over examples and probes; the
    error is that of the mean over probes, for these weights and inputs. Cost: `probes` backward passes a kind of probe.
    """
    if probes < 2:
        raise ValueError(f"probes is {probes}: an error needs at least 2")
    x = jax.vmap(model.enter, (None, 0))(params, batch["inputs"])
    through = lambda x, d: walk(model.segments, params["stack"], x, metered, d)[0]
    settings = dials(model, params, batch)["stack"]
    top, pull = jax.vjp(lambda d: jax.vmap(through, (0, None))(x, d), settings)
    shared = (*top.shape[:-2], 1, top.shape[-1]) if top.ndim > 2 else top.shape  # no tokens: nothing to share
    drawn_as = {"isotropic": top.shape, "token_common": shared}

    def gains(probe):
        drawn = jax.random.normal(at(root(key), "probe", probe), (probes, *drawn_as[probe]), top.dtype)
        directions = jax.vmap(on_sphere)(jnp.broadcast_to(drawn, (probes, *top.shape)))
        read = jax.vmap(pull)(directions)[0]["stream"]
        squares = norm(read.reshape(*read.shape[:2], -1).sum(-1)) ** 2
        return jnp.concatenate([squares, jnp.ones_like(squares[:, :1])], axis=1)

    each = jnp.stack([gains(probe) for probe in PROBES], axis=-1)
    return {"partial_jacobian": each.mean(0), "partial_jacobian_sem": each.std(0, ddof=1) / probes**0.5}


def on_sphere(v):
    """`v/‖v‖`. On the sphere the reading at the top is 1 exactly, and the estimate below has less variance."""
    return v / jnp.sqrt(jnp.sum(v**2))
