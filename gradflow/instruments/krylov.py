"""Spectra from pushes and pulls alone, for what is too large for its matrix.

Golub-Kahan bidiagonalization from random probes (Golub and Kahan 1965), whose singular values and first components are a Gauss
quadrature of the spectrum (stochastic Lanczos quadrature: Ubaru, Chen and Saad 2017, section 3). An error is the jackknife over
probes, together with what changed when the iterations were doubled. What did not converge is NaN, never a number.

Axes: m probes; k iterations.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from matfree import decomp, lstsq
from scipy import stats

from ..model.numerics.precision import wide
from ..model.parameters.initializers import normal
from ..model.parameters.keys import at
from .functionals import CLEAR, deficits, extremes, functionals, ranked, rounding, with_errors
from .matrices import one_by_one
from .operators import Operator, dimension, project

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


def estimated(op: Operator, key, size: int, krylov: Krylov) -> dict:
    """Everything that is read from a spectrum, with errors, from pushes and pulls alone; as `exactly`.

    How many directions are lost can't be counted so: where one may be, what depends on it is NaN.
    """
    through, start = narrow(op)
    starts = jax.vmap(start)(jax.random.split(at(key, "starts"), krylov.probes))
    steps = min(2 * krylov.iterations, op.size)
    small = jax.vmap(lambda v: bidiagonal(through, v, steps))(starts)
    full, half = (quadrature(small[:, :j, :j], op.rank) for j in (steps, max(1, steps // 2)))
    read, errors = _converged(jackknife(*full, op.rank), jackknife(*half, op.rank)[0], krylov.probes)
    largest, before = full[0].max(), half[0].max()
    smallest, uncertain = smallest_singular_value(through, start, largest, at(key, "smallest"), krylov)
    onto = op.rank == jnp.minimum(dimension(op.domain), dimension(op.range))
    in_the_stream = (a.astype(op.like.dtype) for a in full)
    read = ranked(read | extremes(largest, smallest), onto & clear(*in_the_stream))
    known = ~jnp.isnan(read["log_volume"]) | ~jnp.isnan(read["smallest_singular_value"])
    errors |= {"largest_singular_value": jnp.abs(largest - before), "smallest_singular_value": uncertain}
    errors["condition_number"] = (jnp.abs(largest - before) + largest * uncertain / smallest) / smallest
    return {
        "singular_values": jnp.full(size, jnp.nan, op.like.dtype),
        **deficits(op, op.rank, known),
        **with_errors(read, errors),
        "spectrum_probes": jnp.asarray(krylov.probes, jnp.int32),
    }


def clear(nodes, weights):
    """Whether every node that counts is clear of rounding: else a direction is lost, or could be, and the rank is not known."""
    counted = weights > jnp.finfo(weights.dtype).eps * weights.sum()
    return jnp.all(~counted | (nodes > CLEAR * rounding(nodes.max(), nodes.shape[-1])))


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
        v = project(normal(key, *op.like.shape).astype(jnp.result_type(float)), side)
        return v / jnp.linalg.norm(v.ravel())

    return through, start


def widened(linear, dtype):
    """`linear`, a map of arrays of that type, as one of the default type, which matfree allocates."""
    return lambda v: linear(v.astype(dtype)).astype(wide(dtype, jnp.zeros(()).dtype))


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
