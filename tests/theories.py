"""Layers of a user's with a registered theory, and stacks over different tokens, for the tests of the theory."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from gradflow.model.branches.branch import Branch
from gradflow.model.parameters.initializers import FanIn, Initialization
from gradflow.model.stacks.embedding_readout import Embedding
from gradflow.model.stacks.stack import Segment, Stack, Sublayer
from gradflow.model.stacks.transformer import Transformer
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


# ---- stacks -------------------------------------------------------------------------------------------------


def stack(wiring, branches: dict, depth: int, width: int) -> Transformer:
    """A stack of any branches, without positions; the stream starts at rms 1."""
    block = tuple(Sublayer(kind, wiring, branch) for kind, branch in branches.items())
    return Transformer(Stack((Segment(block, depth),)), width, Embedding(256, None))


def different_tokens(tokens: int, examples: int = 1) -> dict:
    """Examples in which no token comes twice, so that the Gram matrix at the bottom is the identity."""
    rows = np.random.default_rng(0).permutation(256)[: 2 * examples * tokens].reshape(2, examples, tokens)
    return dict(zip(("inputs", "targets"), jnp.asarray(rows, jnp.int32), strict=True))
