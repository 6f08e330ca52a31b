"""Spectra from pushes and pulls alone, for what is too large for its matrix.

Golub-Kahan bidiagonalization from random probes (`bidiagonal`), whose singular values and first components are a Gauss
quadrature of the spectrum (stochastic Lanczos quadrature: Ubaru, Chen and Saad 2017, section 3). An error is the jackknife over
probes, together with what changed when the iterations were doubled. What did not converge is NaN, never a number.

Axes: m probes; k iterations.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from scipy import stats

from ...model.parameters.keys import at
from ..directions import draws
from . import triangular
from .bidiagonal import Bidiagonal, continued, transposed
from .functionals import CLEAR, deficits, extremes, functionals, ranked, rounding, with_errors
from .matrices import one_by_one
from .operators import Operator
from .smallest import Smallest, by_lsmr, smallest_singular_value

STILL = 1e-3  # relative change that is none
SETTLED = 1e-4  # and that of the largest singular value
CONVERGING = ("log_volume", "schatten_norm", "effective_rank")  # what has to converge to be a number


@dataclass(frozen=True)
class Krylov:
    """How a spectrum is estimated that is too large to be exact.

    `probes` random directions, and the bidiagonalization with at most `iterations`, then doubled: fewer where doubling them moved
    every number by less than its standard error. `solves` steps of it for the pseudoinverse at most, whose largest singular value
    is one over the smallest; 0 leave it out. A step is two solves: by substitution where tokens read their past alone
    (`triangular`), else LSMR of at most `solver_iterations` each.
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


class Measured(NamedTuple):
    """What the probes say of a spectrum: numbers and their standard errors, the largest σ, and the measure itself."""

    numbers: dict
    errors: dict
    largest: jax.Array
    nodes: jax.Array
    weights: jax.Array


def estimated(op: Operator, key, size: int, krylov: Krylov) -> dict:
    """Returns everything that is read from a spectrum, with errors, from pushes and pulls alone; as `exactly`.

    How many directions are lost can't be counted so: where one may be, what depends on it is NaN.
    """
    push, pull, start = narrow(op)
    starts = jax.vmap(start)(jax.random.split(at(key, "starts"), krylov.probes))

    def read(found: Bidiagonal) -> Measured:
        nodes, weights = quadrature(found.matrix, op.rank)
        numbers, errors = jackknife(nodes, weights, op.rank)
        return Measured(numbers, errors, nodes.max(), nodes, weights)

    most = min(2 * krylov.iterations, op.size)
    has_volume = bool(krylov.solves) and triangular.may_fit(op)  # by another way
    awaited = [name for name in CONVERGING if not (has_volume and name == "log_volume")]
    now, before = continued(push, pull, starts, most, read, partial(_is_still, awaited))
    numbers, errors = _converged(now, before, krylov.probes)
    largest = now.largest
    moved = jnp.abs(largest - before.largest)
    dtype = op.like.dtype
    noise = rounding(largest, op.size)
    seen = jnp.min(now.nodes, initial=jnp.inf, where=_counted(now.weights))
    smaller = jnp.minimum(op.domain.dimension, op.range.dimension)
    is_onto = op.rank == smaller
    smallest, volume = _solved(op, push, pull, start, largest, CLEAR * noise, is_onto, at(key, "smallest"), krylov)
    least = jnp.fmin(seen, smallest.bound)
    is_exact = jnp.isfinite(volume)
    numbers["log_volume"] = jnp.where(is_exact, volume, numbers["log_volume"])
    errors["log_volume"] = jnp.where(is_exact, noise / least, errors["log_volume"])
    is_clear = (is_exact | clear(now.nodes, now.weights)) & (least > CLEAR * noise)
    numbers = numbers | extremes(largest, smallest.value)
    numbers = ranked(numbers, is_onto & is_clear)
    known = ~jnp.isnan(numbers["log_volume"]) | ~jnp.isnan(numbers["smallest_singular_value"])
    errors["largest_singular_value"] = moved
    errors["smallest_singular_value"] = smallest.error
    errors["condition_number"] = (moved + largest * smallest.error / smallest.value) / smallest.value
    return {
        "singular_values": jnp.full(size, jnp.nan, dtype),
        **deficits(op, op.rank, known),
        **with_errors(numbers, errors),
        "spectrum_probes": jnp.asarray(krylov.probes, jnp.int32),
    }


def _solved(
    op: Operator, push, pull, start, largest, least, is_onto, key, krylov: Krylov
) -> tuple[Smallest, jax.Array]:
    """Returns the smallest singular value, and the log-volume where it is exact, else NaN.

    Nothing is solved where the smallest is known to be below `least`, or to be 0.
    """
    unknown = jnp.full_like(largest, jnp.nan)
    if not krylov.solves:
        return Smallest(unknown, unknown, jnp.full_like(largest, jnp.inf)), unknown
    starts = jax.vmap(start)(jax.random.split(key, 2))
    steps = min(krylov.solves, op.size)
    if not triangular.may_fit(op):
        inverse = by_lsmr(push, pull, op.like.dtype, krylov.solver_iterations)
        return smallest_singular_value(inverse, starts, largest, steps), unknown
    bound = triangular.bound(op)

    def by_substitution():
        log_volume, inverse = triangular.inverse(op, largest)
        return smallest_singular_value(inverse, starts, largest, steps), log_volume

    def not_known():
        return Smallest(unknown, unknown, bound), unknown

    is_worth_it = triangular.fits(op) & is_onto & (bound > least)
    return jax.lax.cond(is_worth_it, by_substitution, not_known)


def _counted(weights):
    """Returns which nodes have more weight than rounding."""
    return weights > jnp.finfo(weights.dtype).eps * weights.sum()


def clear(nodes, weights):
    """Returns whether every node that counts is clear of rounding.

    Else a direction is lost, or could be, and the rank is not known.
    """
    least = CLEAR * rounding(nodes.max(), nodes.shape[-1])
    return jnp.all(~_counted(weights) | (nodes > least))


def _is_still(awaited, now: Measured, before: Measured):
    """Returns whether the largest singular value hardly moved, and the numbers awaited by no more than their standard errors."""
    still = jnp.abs(now.largest - before.largest) <= SETTLED * now.largest
    for name in awaited:
        moved = jnp.abs(now.numbers[name] - before.numbers[name])
        allowed = now.errors[name] + STILL * jnp.abs(now.numbers[name])
        still = still & jnp.all(moved <= allowed)
    return still


def _converged(now: Measured, before: Measured, probes: int) -> tuple[dict, dict]:
    """Returns numbers and errors, with the change since `before`, at half the iterations, in the errors.

    A number that moved by more than half of its 95% interval did not converge and is NaN; the shares of a histogram and
    its quantiles move with every node, and keep the larger error.
    """
    half_interval = stats.t.ppf(0.975, probes - 1)
    converged = {}
    larger = {}
    for name, value in now.numbers.items():
        error = now.errors[name]
        moved = jnp.abs(value - before.numbers[name])
        larger[name] = jnp.hypot(error, moved)
        if name in CONVERGING:
            allowed = half_interval * error + STILL * jnp.abs(value)
            value = jnp.where(moved <= allowed, value, jnp.nan)
        converged[name] = value
    return converged, larger


def narrow(op: Operator):
    """Returns the operator from its smaller side, so that it takes no direction to zero, its transpose, and `start(key)`.

    A start is a random unit vector on that side.
    """
    flipped = op.range.dimension < op.domain.dimension
    side = jax.tree.map(partial(jnp.where, flipped), op.range, op.domain)
    pull_of_op = transposed(op.apply, op.like)

    def push(v):
        return jax.lax.cond(flipped, pull_of_op, op.apply, v)

    def pull(v):
        return jax.lax.cond(flipped, op.apply, pull_of_op, v)

    def start(key):
        (drawn,) = draws(key, 1, op.like)
        v = side.project(drawn)
        return v / jnp.linalg.norm(v.ravel())

    return push, pull, start


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
    is_left = 1 - jnp.eye(probes + 1, probes, -1, dtype=weights.dtype)  # row 0: all probes; row i: all but probe i
    shares = is_left / is_left.sum(axis=1, keepdims=True)

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
