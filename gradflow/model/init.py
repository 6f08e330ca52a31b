"""Where random numbers come from, and the named initializations, each with a known standard deviation.

Pairing: the key of a weight is a function of the root key and of the weight's path and depth, never of what was
drawn before it (`at`). So two wirings with one seed share every weight they have in common, adding a module shifts
nothing, and a deeper stack begins with the layers of a shallower one.

An initialization draws `N(0, std²)` with `std(matrix)` in closed form: theory reads the same number.
"""

import dataclasses
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from ..results.arguments import known, whole
from ..results.configuration import registered

GENERATOR = "threefry2x32"  # whatever `jax_default_prng_impl` says


def root(key) -> jax.Array:
    """A typed key from a whole number below 2^64, the same whether or not JAX has 64 bits; a key passes through.

    Errors: ValueError for anything else.
    """
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    with jax.ensure_compile_time_eval():
        if isinstance(key, jax.Array | np.ndarray) and key.shape[-1:] == (2,) and key.dtype == np.uint32:
            return jax.random.wrap_key_data(jnp.asarray(key), impl=GENERATOR)
        number = whole("key", key, least=0, most=2**64 - 1)
        words = np.array([number >> 32, number & 0xFFFFFFFF], np.uint32)
        return jax.random.wrap_key_data(jnp.asarray(words), impl=GENERATOR)


def at(key, *path: str | int):
    """The key of a place: each step of `path`, a name or a number (traced ones too), folded into `key` in turn.

    Of what is known it is taken at once, also inside of what is compiled: a fold is a loop of its own in a CPU program.
    """
    with jax.ensure_compile_time_eval():
        for step in path:
            key = jax.random.fold_in(key, zlib.crc32(step.encode()) if isinstance(step, str) else step)
    return key


@registered
@dataclass(frozen=True)
class OfDepth:
    """The number `(base · L)^power`, with L the number of blocks: known once the stack is. See `resolved`."""

    base: float
    power: float

    def __call__(self, depth: int) -> float:
        """The number at `depth` blocks."""
        return (self.base * depth) ** self.power


@registered
@dataclass(frozen=True)
class LogOfDepth(OfDepth):
    """The number `(ln(base · L))^power`."""

    def __call__(self, depth: int) -> float:
        """The number at `depth` blocks."""
        return math.log(self.base * depth) ** self.power


@registered
@dataclass(frozen=True)
class Share(OfDepth):
    """The number `(base · L)^power`, 1 at the most: of two terms whose squares sum to one, the first."""

    def __call__(self, depth: int) -> float:
        """The number at `depth` blocks."""
        return min(super().__call__(depth), 1.0)


@registered
@dataclass(frozen=True)
class Rest(Share):
    """The number `√(1 − share²)`: the second of two terms whose squares sum to one."""

    def __call__(self, depth: int) -> float:
        """The number at `depth` blocks."""
        return (1 - super().__call__(depth) ** 2) ** 0.5


class LayerNumber:
    """A number that depends on the block, counted from the bottom, l = 1 … L: known inside `walk`. See `at_layer`."""

    def __call__(self, layer):
        """The number at block `layer`, which may be traced."""
        raise NotImplementedError


@registered
@dataclass(frozen=True)
class OfLayer(LayerNumber):
    """`(base · l)^power`."""

    base: float
    power: float

    def __call__(self, layer):
        """The number at block `layer`."""
        with jax.numpy_dtype_promotion("standard"):  # the number of a block is whole, and what comes of it has no type of its own
            return (self.base * layer) ** self.power


@registered
@dataclass(frozen=True)
class InTurn(LayerNumber):
    """1 where `(stride · (l − 1) + start) mod turns` is `turn`, else 0: what goes round, as which lane a sublayer reads."""

    turn: int
    turns: int
    start: int = 0
    stride: int = 1

    def __call__(self, layer):
        """The number at block `layer`."""
        return jnp.where((self.stride * (layer - 1) + self.start) % self.turns == self.turn, 1.0, 0.0)


@registered
@dataclass(frozen=True)
class ByBlock(LayerNumber):
    """The numbers of `values` in turn, the first at block 1; None is a number that nothing exceeds: a window without an end."""

    values: tuple[float | None, ...]

    def __call__(self, layer):
        """The number at block `layer`."""
        numbers = [math.inf if value is None else float(value) for value in self.values]
        return jnp.asarray(numbers, jnp.float32)[(layer - 1) % len(numbers)]


@registered
@dataclass(frozen=True)
class Profiled(LayerNumber):
    """A number for each block, from the stack's own forward pass (`profile.profiled`); 1 where it has not been profiled."""

    values: tuple[float, ...] = ()

    def __call__(self, layer):
        """The number at block `layer`."""
        return jnp.asarray(self.values)[layer - 1] if self.values else 1.0


def resolved(value, depth: int):
    """`value` (a dataclass, a tuple, a number) with every `OfDepth` in it replaced by its number at `depth` blocks."""
    return replaced(value, OfDepth, lambda number: number(depth))


def at_layer(value, layer):
    """`value` with every `LayerNumber` in it replaced by its number at block `layer`."""
    return replaced(value, LayerNumber, lambda number: number(layer))


def replaced(value, kind: type, make: Callable):
    """`value` with everything of that kind in it replaced by `make(it)`; the same object where there is nothing."""
    if isinstance(value, kind):
        return make(value)
    if isinstance(value, tuple):
        new = tuple(replaced(item, kind, make) for item in value)
        return new if any(a is not b for a, b in zip(new, value, strict=True)) else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        filled = {name: replaced(item, kind, make) for name, item in fields.items()}
        changed = {name: item for name, item in filled.items() if item is not fields[name]}
        return dataclasses.replace(value, **changed) if changed else value
    return value


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
        """Standard deviation of the weights of `matrix`."""
        ...


def draw(weights: Initialization, key, matrix: Matrix) -> jax.Array:
    """A float32 matrix [fan_in, fan_out] from `N(0, std²)`; one draw of `N(0, 1)` times the standard deviation."""
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
        """Standard deviation of the weights of `matrix`."""
        return self.gain * matrix.fan_in**-0.5


@registered
@dataclass(frozen=True)
class Xavier:
    """`std = √(2 / (fan_in + fan_out))` (Glorot and Bengio 2010, eq. 12, taken as a variance; Xiong et al. 2020, section 3)."""

    def std(self, matrix: Matrix) -> float:
        """Standard deviation of the weights of `matrix`."""
        return (2 / (matrix.fan_in + matrix.fan_out)) ** 0.5


@registered
@dataclass(frozen=True)
class Normal:
    """The same standard deviation for every matrix of every size."""

    sigma: float = 0.02

    def std(self, matrix: Matrix) -> float:
        """Standard deviation of the weights of `matrix`."""
        return self.sigma


@registered
@dataclass(frozen=True)
class WidthScaled:
    """`std = sigma · √(width_0 / width)`: the published sigma at width_0, with the same gain at every other width."""

    sigma: float = 0.02
    at_width: int = 768

    def std(self, matrix: Matrix) -> float:
        """Standard deviation of the weights of `matrix`."""
        return self.sigma * (self.at_width / matrix.width) ** 0.5


@registered
@dataclass(frozen=True)
class Scaled:
    """`base` with the standard deviation of some matrices multiplied: `factors` is a tuple of `(name, factor)`."""

    base: Initialization
    factors: tuple[tuple[str, float | OfDepth], ...]

    def std(self, matrix: Matrix) -> float:
        """Standard deviation of the weights of `matrix`."""
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
    """The initialization of that name; one given as a value passes through."""
    if isinstance(name, Initialization):
        return name
    return INITIALIZATIONS[known("initialization", name, INITIALIZATIONS)]
