"""The smallest singular value of a map: one over the largest of its pseudoinverse, by Golub-Kahan bidiagonalization of that.

Axes: m starts; k steps.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from matfree import lstsq

from ...model.numerics.precision import wide
from .bidiagonal import Bidiagonal, continued
from .matrices import one_by_one

GIVEN_UP = 7  # LSMR's code for having used up its iterations
SETTLED = 1e-3  # relative error at which no more steps are made
CONVERGED = 5e-3  # relative error of what is a number


class Smallest(NamedTuple):
    """The smallest singular value and its error, NaN where it did not converge; and what it is at most, converged or not."""

    value: jax.Array
    error: jax.Array
    bound: jax.Array


class Inverse(NamedTuple):
    """The pseudoinverse of a map: `down` solves `A x = b` in least squares, `up` is its transpose; NaN where one was given up."""

    up: Callable
    down: Callable
    tolerance: Any  # of a solve, relative to σ_max


def smallest_singular_value(inverse: Inverse, starts, largest, steps: int) -> Smallest:
    """Returns σ_min from the starts [m, …], unit vectors on which `up` acts.

    With θ a singular value of B, and r what is missing to one of `A⁺` (`Bidiagonal`), one of A lies within r/θ² of 1/θ. The error
    is the largest of these, or the difference of the starts, and what the solves leave, their tolerance of σ_max. Converged
    means that it is below 0.5% of σ, and that no solve was given up or left a direction out.
    """

    def read(found: Bidiagonal):
        is_finite = jnp.isfinite(found.matrix).all(axis=(1, 2))
        matrix = jnp.where(is_finite[:, None, None], found.matrix, 0)  # of NaN LAPACK complains aloud
        left, nodes, _ = one_by_one(jnp.linalg.svd)(matrix)
        residual = jnp.abs(jnp.sum(left[:, :, 0] * found.next, axis=1))
        values = jnp.where(is_finite, 1 / nodes[:, 0], jnp.nan)
        return values, residual * values**2

    def enough(now, _):
        values, errors = now
        return jnp.all(errors < SETTLED * values)

    (values, errors), _ = continued(inverse.up, inverse.down, starts, steps, read, enough)
    difference = values.max() - values.min()
    error = jnp.maximum(errors.max(), difference) + inverse.tolerance * largest
    smallest = values.min()
    has_converged = error < CONVERGED * smallest
    value, its_error = jnp.where(has_converged, jnp.stack([smallest, error]), jnp.nan)
    return Smallest(value, its_error, smallest)


def by_lsmr(push: Callable, pull: Callable, dtype, most: int) -> Inverse:
    """Returns the pseudoinverse by LSMR (Fong and Saunders 2011), at most so many iterations a solve."""
    tolerance = max(4 * float(jnp.finfo(dtype).eps), 1e-12)
    solve = lstsq.lsmr(atol=tolerance, btol=tolerance, ctol=0.0, maxiter=most, custom_vjp=False)
    widest = wide(dtype, jnp.zeros(()).dtype)  # matfree allocates the default type

    def solved(transposed, b, *, whole: bool):
        def widened(v):
            return transposed(v.astype(dtype)).astype(widest)

        x, report = solve(widened, b.astype(widest))
        done = report["istop"] != GIVEN_UP
        if whole:
            # A direction that is left out, as its σ is below the tolerance, is left in the residual: about 1/√n of a start.
            done = done & (report["norm_residual"] < 1e-2 * b.size**-0.5 * jnp.linalg.norm(b.ravel()))
        return jnp.where(done, x, jnp.nan).astype(dtype)

    return Inverse(partial(solved, push, whole=True), partial(solved, pull, whole=False), tolerance)
