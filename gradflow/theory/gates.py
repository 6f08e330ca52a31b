"""What gains that are more than numbers do to a Gram matrix where they start: most let nothing through, or all.

Of one number that multiplies the stream no gradient is predicted: it is the inner product of the stream with its own cotangent,
as of a matrix between lanes. It is NaN, not a guess.

Rows N of a Gram matrix are (lane,) example, token.
"""

import jax.numpy as jnp

from ..model.layers import gates
from .gram import Gram, Response, TheoryContext, response, scaled, unchanged


@response.register
def _(layer: gates.Shrunk, sigma: Gram, place: TheoryContext) -> Response:
    """Returns that of the identity, where g starts at 0.

    Errors: NotImplementedError elsewhere, where a backward rule of its own leaves the mean of the cotangent unknown.
    """
    if layer.value != 0:
        raise NotImplementedError(
            f"no theory for {type(layer).__name__} that starts at {layer.value}: at 0, or measure it"
        )
    return Response(sigma, unchanged)


@response.register
def _(layer: gates.StepGain, sigma: Gram, place: TheoryContext) -> Response:
    """Returns that of step 0: nothing is let through."""
    return scaled(sigma, 0.0)


@response.register
def _(layer: gates.ConditionGain, sigma: Gram, place: TheoryContext) -> Response:
    """Returns that of the start and a condition of zero: nothing is let through, and the matrix sees nothing."""
    return scaled(sigma, 0.0, {"gate": jnp.zeros_like(sigma), "gate.bias": sigma})


@response.register
def _(layer: gates.Modulated, sigma: Gram, place: TheoryContext) -> Response:
    """Returns that of the norm, as it is at the start, with a condition of zero."""
    normed = response(layer.norm, sigma, place)
    nothing = jnp.zeros_like(sigma)
    sources = {f"norm.{name}": g for name, g in normed.sources.items()}
    sources |= {"scale": nothing, "scale.bias": normed.value, "shift": nothing, "shift.bias": jnp.ones_like(sigma)}
    return normed._replace(sources=sources)


@response.register
def _(layer: gates.LowRank, sigma: Gram, place: TheoryContext) -> Response:
    """Returns that of the gain alone: B is zero, so that A has no gradient and B the one of a matrix behind A."""
    square = layer.value**2
    sources = {"down": jnp.zeros_like(sigma), "up": square * layer.rank * sigma}
    return scaled(sigma, square, sources)
