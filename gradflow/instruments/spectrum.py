"""Spectra of every sublayer and of each of its factors, at any size, on the spaces where they act (`operators`).

Exact where the structure or the size allows it: where a factor couples no tokens its matrix is a `c × c` block a token,
all pushed at once; else one dense matrix of n = T·c up to a stated size. Beyond that from pushes and pulls alone: Golub-Kahan
bidiagonalization from random probes (Golub and Kahan 1965), whose singular values and first components are a Gauss
quadrature of the spectrum (stochastic Lanczos quadrature: Ubaru, Chen and Saad 2017, section 3).

A spectrum is a *measure*: nodes σ with weights that sum to the rank. Every number here is a functional of it, the same
for both ways. Its error is the jackknife over probes, together with what changed when the iterations were doubled; for an
exact spectrum it is 0. What did not converge is NaN, never a number.

Axes: n = T·c entries of the stream; m probes; k iterations; S sublayers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from matfree import decomp, lstsq
from scipy import stats

from ..model.equation import given, in_float32, walk
from ..model.init import at, root
from ..model.layers import FEATURES, NOTHING
from ..results.quantities import JACOBIANS, LOG_SIGMA, QUANTILES, SCHATTEN
from .operators import (
    Operator,
    by_token,
    dimension,
    everything,
    from_tokens,
    operators,
    project,
    where_finite,
    with_params,
)

DENSE = 1024
WINDOWED = ("norm_out", "fork", "sublayer")
GIVEN_UP = 7  # LSMR's code for having used up its iterations


@dataclass(frozen=True)
class Krylov:
    """How a spectrum is estimated that is too large to be exact.

    `probes` random directions and `iterations` of the bidiagonalization, then doubled; `solves` steps of inverse Lanczos
    for the smallest singular value, each two LSMR solves (Fong and Saunders 2011) of at most `solver_iterations`; 0 solves
    leave it out.
    """

    probes: int = 8
    iterations: int = 32
    solves: int = 16
    solver_iterations: int = 400

    def __post_init__(self):
        if self.probes < 2:
            raise ValueError(f"probes is {self.probes}: an error needs at least 2")
        if self.iterations < 1:
            raise ValueError(f"iterations is {self.iterations}: at least 1 is needed")


def spectrum(
    model,
    params,
    batch,
    *,
    factors=JACOBIANS,
    dense: int = DENSE,
    krylov: Krylov = Krylov(),
    memory: int = 2**28,
    key=0,
) -> dict:
    """The spectrum of every sublayer and factor [S, jacobian, …], and what follows from it: see `results.quantities`.

    Parameters
    ----------
    factors : those of `JACOBIANS` that are wanted; the others are NaN
    dense : largest n = T·c for which a factor that couples tokens is decomposed as a dense matrix
    krylov : how the others are estimated
    memory : bytes that pushing a basis may take for one sublayer
    key : of the probes

    Of the first example of the batch; all sublayers in one compiled call, one sublayer's matrices in memory at a time. Cost: a
    factor without token coupling O(T c³), a dense one O(n³), else about `4 · probes · iterations` passes through the
    sublayer, and `4 · solves · solver_iterations` at most for the smallest singular value.
    """
    unknown = [name for name in factors if name not in JACOBIANS]
    if unknown or not factors:
        raise ValueError(f"factors {tuple(factors)}: choose from {', '.join(JACOBIANS)}")
    inputs = jax.tree.map(lambda a: a[0], batch["inputs"])
    own, x = given(model, params, inputs), in_float32(model.enter(params, inputs))
    positions = sum(segment.repeats * len(segment.block) for segment in model.segments)

    def visit(carry, own, position):
        y, space, found = operators(*own, *carry)
        where = at(root(key), "spectrum", position)
        read = _of_factors(found, factors, lambda op: op.size <= dense, where, krylov, memory)
        return (y, space), where_finite(y, read)

    start = (x, everything(x))
    return walk(model.segments, own["stack"], start, visit, jnp.arange(positions), bind=with_params)[1]


def window(model, params, batch, *, tokens: int | None = None, factors=WINDOWED, dense: int = DENSE, **options) -> dict:
    """`spectrum` for the first `tokens` tokens alone: by default as many, one at least, as are exact (at most `dense` entries).

    Of few tokens a wide stream has its spectra in seconds, and what attention takes from tokens further up is not in them.
    Options as for `spectrum`. Cost: that of a dense one, O(n³) for n entries and each of the factors.
    """
    stream = jax.eval_shape(model.enter, params, jax.tree.map(lambda a: a[0], batch["inputs"]))
    count = tokens or max(1, dense // by_token(jnp.zeros(stream.shape)).shape[-1])
    first = jax.tree.map(lambda a: a[:1, :count], batch)
    return spectrum(model, params, first, factors=factors, dense=dense, **options)


def _of_factors(found, factors, small, key, krylov, memory) -> dict:
    """The spectra of one sublayer's factors, stacked over `JACOBIANS`; factors that are the same map are taken once."""
    first = {found[name].through or (name,): name for name in reversed(factors)}
    size = max(op.size for op in found.values())
    ops = {name: found[name] for name in first.values()}
    exact = {name: op for name, op in ops.items() if op.couples in (NOTHING, FEATURES) or small(op)}
    values = singular_values(exact, memory)
    done = {name: exactly(op, values[name], size) for name, op in exact.items()}
    done |= {name: estimated(op, key, size, krylov) for name, op in ops.items() if name not in exact}
    missing = jax.tree.map(lambda a: jnp.full_like(a, jnp.nan if a.dtype.kind == "f" else -1), done[factors[0]])
    row = lambda name: done[first[found[name].through or (name,)]] if name in factors else missing
    return jax.tree.map(lambda *rows: jnp.stack(rows), *map(row, JACOBIANS))


# ---- exact --------------------------------------------------------------------------------------------------


def singular_values(ops: Mapping[str, Operator], memory: int = 2**28) -> dict:
    """All n singular values of each operator, descending, those beyond its rank zero by construction. Cost: see `blocks`.

    Matrices of one size are decomposed one after the other. On the CPU jaxlib spreads a batch of LAPACK calls over the
    threads that also run the program, and waits for them there: two batches at a time never end. On a busy machine LAPACK's
    own threads wait for each other too; OPENBLAS_NUM_THREADS=1 is safe there.
    """
    found = {name: (jnp.arange(op.size) < op.rank).astype(op.like.dtype) for name, op in ops.items()}  # of the identity
    matrices = {name: blocks(op, memory) for name, op in ops.items() if op.through}
    for size in {m.shape[-1] for m in matrices.values()}:
        alike = {name: m for name, m in matrices.items() if m.shape[-1] == size}
        values = one_by_one(partial(jnp.linalg.svd, compute_uv=False))(jnp.concatenate(list(alike.values())))
        ends = np.cumsum([len(m) for m in alike.values()])[:-1]
        for name, own in zip(alike, jnp.split(values, ends), strict=True):
            found[name] = jnp.sort(own.ravel(), descending=True)
    return found


def one_by_one(decomposition):
    """`decomposition` of a stack of matrices, one after the other; see `singular_values` for the reason."""
    return lambda stack: jax.lax.map(decomposition, stack)


def blocks(op: Operator, memory: int = 2**28):
    """The matrix of the operator, [T, c, c] where it couples no tokens, else [1, n, n]; [outputs, inputs].

    Cost: c pushes, or n; as many at a time as `memory` bytes hold (an array and about sixteen of its size between).
    """
    tokens, features = by_token(jnp.zeros(op.like.shape)).shape
    apart = op.couples in (NOTHING, FEATURES)
    inputs = features if apart else op.size
    eye = jnp.eye(inputs, dtype=op.like.dtype)
    rows = (
        jnp.broadcast_to(eye[:, None], (inputs, tokens, features)) if apart else eye.reshape(inputs, tokens, features)
    )
    column = lambda unit: by_token(op.apply(from_tokens(unit, op.like)))
    together = max(1, min(inputs, memory // (16 * op.size * op.like.dtype.itemsize)))
    columns = jax.lax.map(column, rows, batch_size=together)
    return jnp.einsum("itc->tci", columns) if apart else columns.reshape(1, inputs, -1).mT


def exactly(op: Operator, values, size: int) -> dict:
    """Everything that is read from a spectrum known exactly, from all n singular values; padded to `size` of them."""
    weights = (jnp.arange(op.size) < op.rank).astype(values.dtype)
    vanishing = jnp.sum(weights * (values <= op.size * jnp.finfo(values.dtype).eps * values[0])).astype(jnp.int32)
    smallest = values[jnp.maximum(op.rank - 1, 0)]
    kept = jnp.where(weights > 0, values, jnp.nan)
    read = functionals(values, weights, op.rank)
    return {
        "singular_values": jnp.pad(kept, (0, size - op.size), constant_values=jnp.nan),
        "rank_deficit": op.size - op.rank + vanishing,
        **_with_errors({**read, **_extremes(values[0], smallest)}, {}),
        "spectrum_probes": jnp.zeros((), jnp.int32),
    }


def _extremes(largest, smallest) -> dict:
    ratio = largest / smallest
    return {"largest_singular_value": largest, "smallest_singular_value": smallest, "condition_number": ratio}


def _with_errors(values: dict, errors: dict) -> dict:
    """Each value with its `_sem`: the error given, or 0."""
    sems = {f"{name}_sem": errors.get(name, jnp.zeros_like(value)) for name, value in values.items()}
    return {**values, **sems}


# ---- functionals of a spectrum ------------------------------------------------------------------------------


def functionals(nodes, weights, rank) -> dict:
    """Numbers of the spectrum with these nodes σ and weights, which sum to `rank`: formulas in `results.quantities`."""
    counted = ~(weights <= 0)  # NaN counts, and shows
    nodes = jnp.where(counted, nodes, jnp.min(nodes, initial=jnp.inf, where=counted))
    where = lambda f: jnp.sum(jnp.where(counted, weights * f(nodes), 0.0))
    nuclear, entropy = where(lambda s: s), where(lambda s: s * jnp.where(s > 0, jnp.log(s), 0.0))
    order = jnp.argsort(jnp.where(weights > 0, nodes, -jnp.inf))
    share = weights[order] / rank
    below = jnp.cumsum(share) - share / 2
    in_bin = jnp.searchsorted(jnp.asarray(LOG_SIGMA[:-1]) + (LOG_SIGMA[1] - LOG_SIGMA[0]) / 2, jnp.log10(nodes[order]))
    return {
        "jacobian_gain": where(lambda s: s**2) / rank,
        "log_volume": where(jnp.log),
        "schatten_norm": jnp.stack([where(lambda s, p=p: s**p) ** (1 / p) for p in SCHATTEN]),
        "effective_rank": jnp.exp(jnp.log(nuclear) - entropy / nuclear),
        "singular_value_quantiles": jnp.interp(jnp.asarray(QUANTILES), below, nodes[order]).astype(nodes.dtype),
        "spectral_density": jnp.zeros(len(LOG_SIGMA), nodes.dtype).at[in_bin].add(share),
    }


# ---- from pushes and pulls ----------------------------------------------------------------------------------


def estimated(op: Operator, key, size: int, krylov: Krylov) -> dict:
    """Everything that is read from a spectrum, with errors, from pushes and pulls alone; as `exactly`."""
    through, start = narrow(op)
    starts = jax.vmap(start)(jax.random.split(at(key, "starts"), krylov.probes))
    steps = min(2 * krylov.iterations, op.size)
    small = jax.vmap(lambda v: bidiagonal(through, v, steps))(starts)
    full, half = (quadrature(small[:, :j, :j], op.rank) for j in (steps, max(1, steps // 2)))
    read, errors = _converged(jackknife(*full, op.rank), jackknife(*half, op.rank)[0], krylov.probes)
    onto = op.rank == jnp.minimum(dimension(op.domain), dimension(op.range))
    for name in ("log_volume", "singular_value_quantiles", "spectral_density"):
        read[name] = jnp.where(onto, read[name], jnp.nan)
    largest, before = full[0].max(), half[0].max()
    smallest, uncertain = smallest_singular_value(through, start, largest, at(key, "smallest"), krylov)
    extremes = _extremes(largest, jnp.where(onto, smallest, jnp.nan))
    errors |= {"largest_singular_value": jnp.abs(largest - before), "smallest_singular_value": uncertain}
    errors["condition_number"] = (jnp.abs(largest - before) + largest * uncertain / smallest) / smallest
    return {
        "singular_values": jnp.full(size, jnp.nan, op.like.dtype),
        "rank_deficit": op.size - op.rank,
        **_with_errors({**read, **extremes}, errors),
        "spectrum_probes": jnp.asarray(krylov.probes, jnp.int32),
    }


def _converged(estimate: tuple[dict, dict], before: dict, probes: int) -> tuple[dict, dict]:
    """`estimate` with the change since `before`, at half the iterations, in its errors.

    A number that moved by more than half of its 95% interval did not converge and is NaN; the shares of a histogram and
    its quantiles move with every node, and keep the larger error.
    """
    read, errors = estimate
    moved = {name: jnp.abs(read[name] - before[name]) for name in read}
    reach = stats.t.ppf(0.975, probes - 1)
    for name in ("log_volume", "schatten_norm", "effective_rank"):
        enough = moved[name] <= reach * errors[name] + 1e-3 * jnp.abs(read[name])
        read = {**read, name: jnp.where(enough, read[name], jnp.nan)}
    return read, {name: jnp.hypot(error, moved[name]) for name, error in errors.items()}


def narrow(op: Operator):
    """The operator from its smaller side, so that it takes no direction to zero, and `start(key)`: a random unit vector there."""
    pull = lambda v: jax.linear_transpose(op.apply, op.like)(v)[0]
    flipped = dimension(op.range) < dimension(op.domain)
    through = widened(lambda v: jax.lax.cond(flipped, pull, op.apply, v), op.like.dtype)
    side = jnp.where(flipped, op.range, op.domain)

    def start(key):
        v = project(jax.random.normal(key, op.like.shape), side)
        return v / jnp.linalg.norm(v.ravel())

    return through, start


def widened(linear, dtype):
    """`linear`, a map of arrays of that type, as one of the default type, which matfree allocates."""
    return lambda v: linear(v.astype(dtype)).astype(jnp.promote_types(dtype, jnp.zeros(()).dtype))


def bidiagonal(through, start, steps: int):
    """`B` [k, k] of `A V = U B` from `start`, k = `steps`; zero from where the Krylov space is used up.

    Beyond that point the iteration follows rounding: what comes after an entry that is zero to rounding is no part of A.
    """
    small = decomp.bidiag(steps)(through, start).J_small
    entries = jnp.stack([jnp.diagonal(small), jnp.append(jnp.diagonal(small, 1), 0.0)], axis=1).ravel()  # α₁ β₁ α₂ β₂ …
    least = 10 * start.size**0.5 * jnp.finfo(small.dtype).eps * jnp.nanmax(entries)
    alive = jnp.cumprod(entries > least).reshape(-1, 2)
    kept = jnp.diag(alive[:, 0]) + jnp.diag(alive[:-1, 1], 1)
    return jnp.where(jnp.isnan(small[0, 0]), jnp.nan, jnp.where(kept, small, 0.0))


def quadrature(small, rank) -> tuple[jax.Array, jax.Array]:
    """Nodes and weights [m, k] of the spectrum from bidiagonal matrices [m, k, k]; each probe's weights sum to `rank`."""
    _, nodes, right = one_by_one(jnp.linalg.svd)(small)
    return nodes, rank * right[:, :, 0] ** 2


def jackknife(nodes, weights, rank) -> tuple[dict, dict]:
    """`functionals` of the probes' mean measure, and their standard errors: jackknife over probes (Efron 1982, eq. 3.1)."""
    probes = len(nodes)
    left = (1 - jnp.eye(probes + 1, probes, -1)) / jnp.where(jnp.arange(probes + 1) > 0, probes - 1, probes)[:, None]
    of = lambda share: functionals(nodes.ravel(), (share[:, None] * weights).ravel(), rank)
    every = jax.vmap(of)(left)
    spread = lambda a: jnp.sqrt((probes - 1) * jnp.mean((a[1:] - a[1:].mean(0)) ** 2, axis=0))
    return jax.tree.map(lambda a: a[0], every), jax.tree.map(spread, every)


def smallest_singular_value(through, start, largest, key, krylov: Krylov):
    """`(σ_min, error)` by Lanczos on `(AᵀA)⁻¹`, twice from different starts; NaN where it did not converge.

    With θ = ⟨v, (AᵀA)⁻¹v⟩ of the leading Ritz vector v an eigenvalue lies within `‖(AᵀA)⁻¹v − θv‖` of θ (Parlett 1980,
    theorem 4.5.1), and σ = θ^(−1/2). The error is what follows from it, or the difference of the two runs, and what the
    solves' tolerance leaves, `σ_max` times it. Converged means that it is below 0.5% of σ, and that no solve was given up
    or left a direction out.
    """
    if not krylov.solves:
        return jnp.full_like(largest, jnp.nan), jnp.full_like(largest, jnp.nan)
    tolerance = max(4 * jnp.finfo(largest.dtype).eps, 1e-12)
    run = partial(_inverse_lanczos, through, start, krylov, tolerance)
    values, errors = jax.lax.map(run, jax.random.split(key, 2))
    error = jnp.maximum(errors.max(), jnp.abs(values[0] - values[1])) + tolerance * largest
    found = error < 5e-3 * values.min()
    return jnp.where(found, values.min(), jnp.nan), jnp.where(found, error, jnp.nan)


def _inverse_lanczos(through, start, krylov, tolerance, key):
    """σ and its error from the leading Ritz vector of `(AᵀA)⁻¹`; the error is infinite where a solve failed."""
    first = start(key)
    pull = lambda u: jax.linear_transpose(through, first)(u)[0]
    solve = lstsq.lsmr(atol=tolerance, btol=tolerance, ctol=0.0, maxiter=krylov.solver_iterations, custom_vjp=False)

    def inverse(b):
        """`(AᵀA)⁻¹ b`: Aᵀ z = b, then A y = z; and whether both were solved.

        A direction that a solve leaves out, since its σ is below the tolerance, is left in its residual: of a random start
        about 1/√n.
        """
        z, up = solve(through, b)
        y, down = solve(pull, z)
        whole = up["norm_residual"] < 1e-2 * b.size**-0.5 * jnp.linalg.norm(b.ravel())
        return y, whole & (up["istop"] != GIVEN_UP) & (down["istop"] != GIVEN_UP)

    found = decomp.tridiag_sym(min(krylov.solves, first.size), custom_vjp=False)(lambda b: inverse(b)[0], first)
    _, vectors = jnp.linalg.eigh(found.J_small)
    ritz = jnp.einsum("k,k...->...", vectors[:, -1], found.Q_tall)
    ritz = ritz / jnp.linalg.norm(ritz.ravel())
    (image, _), solved = jax.vmap(inverse)(jnp.stack([ritz, first]))
    theta = jnp.vdot(ritz, image)
    residual = jnp.linalg.norm((image - theta * ritz).ravel()) / theta
    return theta**-0.5, jnp.where(solved.all(), theta**-0.5 * residual / 2, jnp.inf)
