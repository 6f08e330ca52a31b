"""What is read from a spectrum, and what of it is rounding.

A spectrum is a *measure*: nodes σ with weights. Every number here is a functional of it, known exactly or estimated.

A map computed in finite precision is never quite singular: a direction that it takes to zero comes out at rounding. What is
below `rounding` is such a direction, and lost; what is less than `CLEAR` times above it could be one. Only where none is in
between is it known how many are left, and only then are there numbers that depend on it. In float32 a σ that is not zero but
about a millionth of the largest, or less, counts as lost too: nothing there tells the two apart, and float64 does.
"""

import jax.numpy as jnp

from ...results.quantities import LOG_SIGMA, QUANTILES, SCHATTEN
from .operators import Operator

CLEAR = 32.0  # times rounding, from where a singular value is one, and known to a few percent at the worst
OF_THE_RANK = (
    "log_volume",
    "singular_value_quantiles",
    "spectral_density",
    "smallest_singular_value",
    "condition_number",
)


def rounding(largest, size: int):
    """Returns the most that rounding makes of a σ that is zero, in a matrix of that size.

    8 ε σ_max, or √size ε σ_max if that is more. Up to size 1000 it was seen to make 2 ε σ_max of it at most, in sublayers of
    many kinds.
    """
    return max(8.0, size**0.5) * jnp.finfo(largest.dtype).eps * largest


def functionals(nodes, weights, directions) -> dict:
    """Returns numbers of the spectrum with these nodes σ and weights, which sum to r, of a map of so many directions.

    Formulas in `results.quantities`. NaN where no direction is left, but for those that are then 0.
    """
    counted = ~(weights <= 0)  # NaN counts, and shows
    least = jnp.min(nodes, initial=jnp.inf, where=counted)
    nodes = jnp.where(counted, nodes, least)

    def total(values):
        weighted = weights * values
        return jnp.sum(jnp.where(counted, weighted, 0.0))

    def unless_empty(values):
        return jnp.where(jnp.isnan(left), jnp.nan, values)

    number = total(jnp.ones_like(nodes))
    left = jnp.where(counted.any(), number, jnp.nan)
    nuclear = total(nodes)
    logs = jnp.where(nodes > 0, jnp.log(nodes), 0.0)
    entropy = total(nodes * logs)
    order = jnp.argsort(jnp.where(weights > 0, nodes, -jnp.inf))
    ascending = nodes[order]
    share = weights[order] / left
    quantiles = _quantiles(ascending, share)
    density = _density(ascending, share)
    gain = total(nodes**2) / directions
    log_volume = total(jnp.log(nodes))
    schatten = [total(nodes**p) ** (1 / p) for p in SCHATTEN]
    return {
        "jacobian_gain": gain,
        "log_volume": unless_empty(log_volume),
        "schatten_norm": jnp.stack(schatten),
        "effective_rank": jnp.exp(jnp.log(nuclear) - entropy / nuclear),
        "singular_value_quantiles": unless_empty(quantiles),
        "spectral_density": unless_empty(density),
    }


def _quantiles(ascending, share):
    """Returns the nodes at `QUANTILES`, of nodes in ascending order with their shares; between two of them interpolated."""
    below = jnp.cumsum(share) - share / 2
    quantiles = jnp.interp(jnp.asarray(QUANTILES), below, ascending)
    return quantiles.astype(ascending.dtype)


def _density(ascending, share):
    """Returns the shares of the nodes in bins around `LOG_SIGMA`."""
    width = LOG_SIGMA[1] - LOG_SIGMA[0]
    ends = jnp.asarray(LOG_SIGMA[:-1]) + width / 2
    in_bin = jnp.searchsorted(ends, jnp.log10(ascending))
    empty = jnp.zeros(len(LOG_SIGMA), ascending.dtype)
    return empty.at[in_bin].add(share)


def extremes(largest, smallest) -> dict:
    """Returns both ends of a spectrum, and their ratio."""
    return {
        "largest_singular_value": largest,
        "smallest_singular_value": smallest,
        "condition_number": largest / smallest,
    }


def ranked(values: dict, known) -> dict:
    """Returns `values`, with NaN in the place of those that depend on the rank where that is not `known`."""
    masked = dict(values)
    for name in OF_THE_RANK:
        if name in values:
            masked[name] = jnp.where(known, values[name], jnp.nan)
    return masked


def deficits(op: Operator, left, known) -> dict:
    """Returns what is missing, where `left` directions are left: of all n, and of the larger of the two spaces.

    −1 where it is not `known` how many are left.
    """
    larger = jnp.maximum(op.domain.dimension, op.range.dimension)

    def missing_of(directions):
        return jnp.where(known, directions - left, -1).astype(jnp.int32)

    return {"rank_deficit": missing_of(op.domain.entries), "lost_directions": missing_of(larger)}


def with_errors(values: dict, errors: dict) -> dict:
    """Returns each value with its `_sem`: the error given, or 0; NaN where there is no value."""
    both = dict(values)
    for name, value in values.items():
        if name in errors:
            both[f"{name}_sem"] = errors[name]
        else:
            both[f"{name}_sem"] = jnp.where(jnp.isnan(value), jnp.nan, 0.0).astype(value.dtype)
    return both
