"""Layers of a user's with a registered theory, and stacks over different tokens, for the tests of the theory."""

from dataclasses import dataclass

import cases
import jax.numpy as jnp
import numpy as np

from gradflow.model.init import FanIn, Initialization
from gradflow.model.layers import Branch
from gradflow.model.stack import Embedding, Segment, Sublayer, Transformer
from gradflow.theory.gram import Response, response, scaled

# ---- uniform attention, without an output matrix ------------------------------------------------------------


@dataclass(frozen=True)
class UniformAttention(Branch):
    """Every token receives the mean of all values."""

    weights: Initialization = FanIn()
    bias: bool = False

    def sides(self, width: int):
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


# ---- lanes --------------------------------------------------------------------------------------------------


@response.register
def _(layer: cases.Mix, sigma, place):
    """`M Σ Mᵀ` on the lane axis of the rows."""
    matrix = jnp.atleast_2d(jnp.array(layer.matrix))
    matrix = matrix.T if layer.spec.startswith("i,") else matrix
    lanes = matrix.shape[1]
    whole = jnp.kron(matrix, jnp.eye(len(sigma) // lanes))
    return Response(whole @ sigma @ whole.T, lambda k: whole @ k @ whole.T)


@response.register
def _(layer: cases.PerLane, sigma, place):
    """Layers that multiply entry by entry: each lane's factor is its layer's on the diagonal."""
    rows = len(sigma) // len(layer.layers)
    lane = lambda i: slice(i * rows, (i + 1) * rows)
    blocks = [response(own, sigma[lane(i), lane(i)], place) for i, own in enumerate(layer.layers)]
    factor = jnp.concatenate([jnp.sqrt(jnp.diag(made.push(jnp.eye(rows)))) for made in blocks])
    return scaled(sigma, jnp.outer(factor, factor))


@response.register
def _(layer: cases.Then, sigma, place):
    """One after the other."""
    made = []
    for own in layer.layers:
        made.append(response(own, sigma, place))
        sigma = made[-1].value

    def push(k):
        for one in made:
            k = one.push(k)
        return k

    return Response(sigma, push)


# ---- stacks -------------------------------------------------------------------------------------------------


def stack(wiring, branches: dict, depth: int, width: int) -> Transformer:
    """A stack of any branches, without positions; the stream starts at rms 1."""
    block = tuple(Sublayer(kind, wiring, branch) for kind, branch in branches.items())
    return Transformer((Segment(block, depth),), width, Embedding(256, None))


def different_tokens(tokens: int, examples: int = 1) -> dict:
    """Examples in which no token comes twice, so that the Gram matrix at the bottom is the identity."""
    rows = np.random.default_rng(0).permutation(256)[: 2 * examples * tokens].reshape(2, examples, tokens)
    return dict(zip(("inputs", "targets"), jnp.asarray(rows, jnp.int32), strict=True))
