"""Layers of a user's with a registered theory, and stacks over different tokens, for the tests of the theory."""

from dataclasses import dataclass

import jax.numpy as jnp

from gradflow.model.branches.branch import Branch
from gradflow.model.parameters.initializers import FanIn, Initialization
from gradflow.published.stacks import different_tokens as different_tokens
from gradflow.published.stacks import of_branches as stack  # noqa: F401
from gradflow.theory.gram import Response, response

# ---- uniform attention, without an output matrix ------------------------------------------------------------


@dataclass(frozen=True)
class UniformAttention(Branch):
    """Every token receives the mean of all values."""

    weights: Initialization = FanIn()
    bias: bool = False

    def matrix_shapes(self, width: int):
        return {"value": (width, width)}

    def __call__(self, params, x):
        return jnp.broadcast_to(params["value"](x).mean(0), x.shape)


@response.register
def _(layer: UniformAttention, sigma, place):
    """One example a row of blocks: the mean over its tokens."""
    gain = layer.gains(place.width)["value"]
    examples = len(sigma) // place.tokens
    mean = jnp.kron(jnp.eye(examples), jnp.full((place.tokens, place.tokens), 1 / place.tokens))
    mixed = lambda k: mean @ k @ mean.T
    return Response(gain * mixed(sigma), lambda k: gain * mixed(k), {"value": place.width * mixed(sigma)})
