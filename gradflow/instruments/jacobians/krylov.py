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

from ...model.layers.layer import PAST
from ...model.numerics.precision import wide
from ...model.parameters.initializers import normal
from ...model.parameters.keys import at
from . import triangular
from .functionals import CLEAR, deficits, extremes, functionals, ranked, rounding, with_errors
from .matrices import one_by_one
from .operators import Operator
from .spaces import dimension, project

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
    """Returns everything that is read from a spectrum, with errors, from pushes and pulls alone; as `exactly`.

    How many directions are lost can't be counted so: where one may be, what depends on it is NaN.
    """
    through, start = narrow(op)
    keys = jax.random.split(at(key, "starts"), krylov.probes)
    starts = jax.vmap(start)(keys)
    steps = min(2 * krylov.iterations, op.size)
    half = max(1, steps // 2)
    small = jax.vmap(lambda v: bidiagonal(through, v, steps))(starts)
    nodes, weights = quadrature(small, op.rank)
    nodes_at_half, weights_at_half = quadrature(small[:, :half, :half], op.rank)
    estimate = jackknife(nodes, weights, op.rank)
    estimate_at_half, _ = jackknife(nodes_at_half, weights_at_half, op.rank)
    numbers, errors = _converged(estimate, estimate_at_half, krylov.probes)
    largest = nodes.max()
    moved = jnp.abs(largest - nodes_at_half.max())
    smallest, uncertainty, volume = _smallest(op, through, start, largest, at(key, "smallest"), krylov)
    dtype = op.like.dtype
    noise = rounding(largest.astype(dtype), op.size)
    is_exact = jnp.isfinite(volume)
    seen = jnp.min(nodes, initial=jnp.inf, where=weights > jnp.finfo(dtype).eps * weights.sum())
    least = jnp.where(jnp.isnan(smallest), seen, smallest)
    numbers["log_volume"] = jnp.where(is_exact, volume, numbers["log_volume"])
    errors["log_volume"] = jnp.where(is_exact, noise / least, errors["log_volume"])
    smaller = jnp.minimum(dimension(op.domain), dimension(op.range))
    is_onto = op.rank == smaller
    is_clear = clear(nodes.astype(dtype), weights.astype(dtype))
    is_clear = jnp.where(is_exact, least > CLEAR * noise, is_clear)
    numbers = numbers | extremes(largest, smallest)
    numbers = ranked(numbers, is_onto & is_clear)
    has_volume = ~jnp.isnan(numbers["log_volume"])
    has_smallest = ~jnp.isnan(numbers["smallest_singular_value"])
    known = has_volume | has_smallest
    errors["largest_singular_value"] = moved
    errors["smallest_singular_value"] = uncertainty
    errors["condition_number"] = (moved + largest * uncertainty / smallest) / smallest
    return {
        "singular_values": jnp.full(size, jnp.nan, dtype),
        **deficits(op, op.rank, known),
        **with_errors(numbers, errors),
        "spectrum_probes": jnp.asarray(krylov.probes, jnp.int32),
    }


def _smallest(op: Operator, through, start, largest, key, krylov: Krylov):
    """Returns the smallest singular value, its error, and the log-volume: that of a block triangular map, else NaN."""
    unknown = jnp.full_like(largest, jnp.nan)
    if not krylov.solves:
        return unknown, unknown, unknown
    tolerance = max(4 * float(jnp.finfo(largest.dtype).eps), 1e-12)
    search = partial(smallest_singular_value, start=start, largest=largest, key=key, steps=krylov.solves)

    def by_lsmr():
        solve = _lsmr(through, start(key), tolerance, krylov.solver_iterations)
        return *search(solve, tolerance=tolerance), unknown

    def by_substitution():
        exact = triangular.inverse(op, largest.astype(op.like.dtype))
        apply = widened(exact.apply, op.like.dtype)

        def solve(b):
            y = apply(b)
            return y, jnp.all(jnp.isfinite(y))

        rounded = rounding(jnp.ones((), op.like.dtype), op.size).astype(largest.dtype)
        return *search(solve, tolerance=rounded), exact.log_volume.astype(largest.dtype)

    if op.couples != PAST:
        return by_lsmr()
    return jax.lax.cond(triangular.fits(op), by_substitution, by_lsmr)


def clear(nodes, weights):
    """Returns whether every node that counts is clear of rounding.

    Else a direction is lost, or could be, and the rank is not known.
    """
    negligible = jnp.finfo(weights.dtype).eps * weights.sum()
    counted = weights > negligible
    least = CLEAR * rounding(nodes.max(), nodes.shape[-1])
    return jnp.all(~counted | (nodes > least))


def _converged(estimate: tuple[dict, dict], before: dict, probes: int) -> tuple[dict, dict]:
    """Returns the estimate, values and errors, with the change since `before`, at half the iterations, in its errors.

    A number that moved by more than half of its 95% interval did not converge and is NaN; the shares of a histogram and
    its quantiles move with every node, and keep the larger error.
    """
    values, errors = estimate
    half_interval = stats.t.ppf(0.975, probes - 1)
    converged = {}
    larger = {}
    for name, value in values.items():
        error = errors[name]
        moved = jnp.abs(value - before[name])
        larger[name] = jnp.hypot(error, moved)
        if name in ("log_volume", "schatten_norm", "effective_rank"):
            allowed = half_interval * error + 1e-3 * jnp.abs(value)
            value = jnp.where(moved <= allowed, value, jnp.nan)
        converged[name] = value
    return converged, larger


def narrow(op: Operator):
    """Returns the operator from its smaller side, so that it takes no direction to zero, and `start(key)`.

    A start is a random unit vector on that side.
    """
    flipped = dimension(op.range) < dimension(op.domain)
    side = jnp.where(flipped, op.range, op.domain)

    def pull(v):
        (pulled,) = jax.linear_transpose(op.apply, op.like)(v)
        return pulled

    def from_smaller_side(v):
        return jax.lax.cond(flipped, pull, op.apply, v)

    def start(key):
        drawn = normal(key, *op.like.shape).astype(jnp.result_type(float))
        v = project(drawn, side)
        return v / jnp.linalg.norm(v.ravel())

    return widened(from_smaller_side, op.like.dtype), start


def widened(linear, dtype):
    """Returns `linear`, a map of arrays of that type, as one of the default type, which matfree allocates."""
    widest = wide(dtype, jnp.zeros(()).dtype)

    def of_widest(v):
        return linear(v.astype(dtype)).astype(widest)

    return of_widest


def bidiagonal(through, start, steps: int):
    """Returns `B` [k, k] of `A V = U B` from `start`, k = `steps`; zero from where the Krylov space is used up.

    Beyond that point the iteration follows rounding: what comes after an entry that is zero to rounding is no part of A.
    """
    small = decomp.bidiag(steps)(through, start).J_small
    alphas = jnp.diagonal(small)
    betas = jnp.append(jnp.diagonal(small, 1), 0.0)
    entries = jnp.stack([alphas, betas], axis=1).ravel()  # α₁ β₁ α₂ β₂ …
    rounding_of_one = 10 * start.size**0.5 * jnp.finfo(small.dtype).eps
    least = rounding_of_one * jnp.nanmax(entries)
    alive = jnp.cumprod(entries > least).reshape(-1, 2)
    on_diagonal = jnp.diag(alive[:, 0])
    above_diagonal = jnp.diag(alive[:-1, 1], 1)
    kept = jnp.where(on_diagonal + above_diagonal, small, 0.0)
    failed = jnp.isnan(small[0, 0])
    return jnp.where(failed, jnp.nan, kept)


def quadrature(small, rank) -> tuple[jax.Array, jax.Array]:
    """Returns nodes and weights [m, k] of the spectrum from bidiagonal matrices [m, k, k]; each probe's weights sum to `rank`."""
    _, nodes, right = one_by_one(jnp.linalg.svd)(small)
    first_components = right[:, :, 0]
    return nodes, rank * first_components**2


def jackknife(nodes, weights, rank) -> tuple[dict, dict]:
    """Returns `functionals` of the probes' mean measure, and their standard errors.

    Jackknife over probes (Efron 1982, eq. 3.1).
    """
    probes = len(nodes)
    is_left = 1 - jnp.eye(probes + 1, probes, -1)  # row 0: all probes; row i: all but probe i
    left = jnp.where(jnp.arange(probes + 1) > 0, probes - 1, probes)
    shares = is_left / left[:, None]

    def of_shares(share):
        weighted = share[:, None] * weights
        return functionals(nodes.ravel(), weighted.ravel(), rank)

    def error(values):
        without_one = values[1:]
        deviations = without_one - without_one.mean(0)
        variance = (probes - 1) * jnp.mean(deviations**2, axis=0)
        return jnp.sqrt(variance)

    every = jax.vmap(of_shares)(shares)
    return jax.tree.map(lambda values: values[0], every), jax.tree.map(error, every)


def smallest_singular_value(inverse, *, start, largest, key, steps: int, tolerance):
    """Returns `(σ_min, error)` by Lanczos on `(AᵀA)⁻¹`, twice from different starts; NaN where it did not converge.

    `inverse(b)` returns `(AᵀA)⁻¹ b` and whether it was solved. With θ = ⟨v, (AᵀA)⁻¹v⟩ of the leading Ritz vector v an eigenvalue
    lies within `‖(AᵀA)⁻¹v − θv‖` of θ (Parlett 1980, theorem 4.5.1), and σ = θ^(−1/2). The error is what follows from it, or the
    difference of the two runs, and what the solves' tolerance leaves, `σ_max` times it. Converged means that it is below 0.5% of
    σ, and that no solve was given up or left a direction out.
    """
    run = partial(_inverse_lanczos, inverse, start, steps)
    keys = jax.random.split(key, 2)
    values, errors = jax.lax.map(run, keys)
    difference = jnp.abs(values[0] - values[1])
    larger = jnp.maximum(errors.max(), difference)
    error = larger + tolerance * largest
    smallest = values.min()
    has_converged = error < 5e-3 * smallest
    return jnp.where(has_converged, smallest, jnp.nan), jnp.where(has_converged, error, jnp.nan)


def _lsmr(through, like, tolerance: float, most: int):
    """Returns `inverse(b)` for `smallest_singular_value`, by Aᵀ z = b and A y = z: LSMR of at most so many iterations."""
    solve = lstsq.lsmr(atol=tolerance, btol=tolerance, ctol=0.0, maxiter=most, custom_vjp=False)

    def pull(u):
        (pulled,) = jax.linear_transpose(through, like)(u)
        return pulled

    def inverse(b):
        # A direction that a solve leaves out, as its σ is below the tolerance, is left in its residual: about 1/√n of a start.
        z, up = solve(through, b)
        y, down = solve(pull, z)
        least = 1e-2 * b.size**-0.5 * jnp.linalg.norm(b.ravel())
        whole = up["norm_residual"] < least
        up_was_solved = up["istop"] != GIVEN_UP
        down_was_solved = down["istop"] != GIVEN_UP
        return y, whole & up_was_solved & down_was_solved

    return inverse


def _inverse_lanczos(inverse, start, steps: int, key):
    """Returns σ and its error from the leading Ritz vector of `(AᵀA)⁻¹`; the error is infinite where a solve failed."""
    first = start(key)

    def inverse_alone(b):
        y, _ = inverse(b)
        return y

    steps = min(steps, first.size)
    lanczos = decomp.tridiag_sym(steps, custom_vjp=False)(inverse_alone, first)
    _, vectors = jnp.linalg.eigh(lanczos.J_small)
    ritz = jnp.einsum("k,k...->...", vectors[:, -1], lanczos.Q_tall)
    ritz = ritz / jnp.linalg.norm(ritz.ravel())
    both = jnp.stack([ritz, first])
    (image, _), solved = jax.lax.map(inverse, both)
    theta = jnp.vdot(ritz, image)
    difference = image - theta * ritz
    residual = jnp.linalg.norm(difference.ravel()) / theta
    smallest = theta**-0.5
    return smallest, jnp.where(solved.all(), smallest * residual / 2, jnp.inf)
