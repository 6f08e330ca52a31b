"""The named initializations, each with a known standard deviation.

One draws `N(0, std²)` with `std(matrix)` in closed form: theory reads the same number.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from ...results.arguments import known
from ...results.configuration import registered
from .depth import OfDepth


class Matrix(NamedTuple):
    """What an initialization may look at: the weight's name, its two sides and the width of the stream."""

    name: str
    fan_in: int
    fan_out: int
    width: int


@runtime_checkable
class Initialization(Protocol):
    """Standard deviation of the Gaussian each weight of a matrix is drawn from."""

    def std(self, matrix: Matrix) -> float:
        """Returns the standard deviation of the weights of `matrix`."""
        ...


def draw(weights: Initialization, key, matrix: Matrix) -> jax.Array:
    """Returns a float32 matrix [fan_in, fan_out] from `N(0, std²)`; one draw of `N(0, 1)` times the standard deviation."""
    return weights.std(matrix) * normal(key, matrix.fan_in, matrix.fan_out)


def normal(key, *shape: int) -> jax.Array:
    """Float32 draws from `N(0, 1)`, whatever the precision of what they are for.

    Drawn flat, so that matrices with equally many entries share a compiled sampler.
    """
    return jax.random.normal(key, (math.prod(shape),), jnp.float32).reshape(shape)


@registered
@dataclass(frozen=True)
class FanIn:
    """`std = gain / √fan_in`: a linear map keeps the mean square times gain² (LeCun 1998; gain √2 is He 2015, eq. 10)."""

    gain: float = 1.0

    def std(self, matrix: Matrix) -> float:
        """Returns the standard deviation of the weights of `matrix`."""
        return self.gain * matrix.fan_in**-0.5


@registered
@dataclass(frozen=True)
class Xavier:
    """`std = √(2 / (fan_in + fan_out))` (Glorot and Bengio 2010, eq. 12, taken as a variance; Xiong et al. 2020, section 3)."""

    def std(self, matrix: Matrix) -> float:
        """Returns the standard deviation of the weights of `matrix`."""
        return (2 / (matrix.fan_in + matrix.fan_out)) ** 0.5


@registered
@dataclass(frozen=True)
class Normal:
    """The same standard deviation for every matrix of every size."""

    sigma: float = 0.02

    def std(self, matrix: Matrix) -> float:
        """Returns the standard deviation of the weights of `matrix`."""
        return self.sigma


@registered
@dataclass(frozen=True)
class WidthScaled:
    """`std = sigma · √(width_0 / width)`: the published sigma at width_0, with the same gain at every other width."""

    sigma: float = 0.02
    at_width: int = 768

    def std(self, matrix: Matrix) -> float:
        """Returns the standard deviation of the weights of `matrix`."""
        return self.sigma * (self.at_width / matrix.width) ** 0.5


@registered
@dataclass(frozen=True)
class Scaled:
    """`base` with the standard deviation of some matrices multiplied: `factors` is a tuple of `(name, factor)`."""

    base: Initialization
    factors: tuple[tuple[str, float | OfDepth], ...]

    def std(self, matrix: Matrix) -> float:
        """Returns the standard deviation of the weights of `matrix`."""
        factor = dict(self.factors).get(matrix.name, 1.0)
        assert not isinstance(factor, OfDepth), "resolved(weights, depth) comes first"
        return factor * self.base.std(matrix)


INITIALIZATIONS: dict[str, Initialization] = {
    "fan_in": FanIn(),
    "xavier": Xavier(),
    # Xiong et al. 2020, section 3.2: Xavier with W^Q = W^K = 0, so that attention is uniform.
    "xiong": Scaled(Xavier(), (("query", 0.0), ("key", 0.0))),
    # google-research/bert, modeling.py: 0.02, here at width 768 and carried to other widths at equal gain.
    "bert": WidthScaled(0.02, 768),
    "bert_literal": Normal(0.02),
    # openai/gpt-2, src/model.py: 0.02; Radford et al. 2019, section 2.3: residual outputs times 1/√(number of residual
    # layers), which are sublayers here: (2L)^(-1/2). The paper doesn't say whether it counts those or blocks.
    "gpt2": Scaled(Normal(0.02), (("out", OfDepth(2, -0.5)), ("down", OfDepth(2, -0.5)))),
}


def initialization(name: str | Initialization) -> Initialization:
    """Returns the initialization of that name; one given as a value passes through."""
    if isinstance(name, Initialization):
        return name
    return INITIALIZATIONS[known("initialization", name, INITIALIZATIONS)]
