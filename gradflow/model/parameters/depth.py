"""Numbers that depend on the depth of the stack, on the block, or on a profile of the stack's own forward pass.

They stand in the fields of layers and wirings, and are replaced by plain numbers where the depth, or the block, is known.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ...results.configuration import registered
from ...results.fields import field_values


@registered
@dataclass(frozen=True)
class OfDepth:
    """The number `(base · L)^power`, with L the number of blocks: known once the stack is. See `resolved`."""

    base: float
    power: float

    def __call__(self, depth: int) -> float:
        """Returns the number at `depth` blocks."""
        return (self.base * depth) ** self.power


@registered
@dataclass(frozen=True)
class LogOfDepth(OfDepth):
    """The number `(ln(base · L))^power`."""

    def __call__(self, depth: int) -> float:
        """Returns the number at `depth` blocks."""
        return math.log(self.base * depth) ** self.power


@registered
@dataclass(frozen=True)
class Share(OfDepth):
    """The number `(base · L)^power`, 1 at the most: of two terms whose squares sum to one, the first."""

    def __call__(self, depth: int) -> float:
        """Returns the number at `depth` blocks."""
        return min(super().__call__(depth), 1.0)


@registered
@dataclass(frozen=True)
class Rest(Share):
    """The number `√(1 − share²)`: the second of two terms whose squares sum to one."""

    def __call__(self, depth: int) -> float:
        """Returns the number at `depth` blocks."""
        return (1 - super().__call__(depth) ** 2) ** 0.5


@registered
@dataclass(frozen=True)
class Whole(OfDepth):
    """The whole number `⌊base · L + more⌋`: of lanes, say, that a stack of L blocks needs."""

    power: float = 1.0
    more: float = 0.0

    def __call__(self, depth: int) -> int:
        """Returns the number at `depth` blocks."""
        return math.floor(self.base * depth + self.more + 1e-9)


@registered
@dataclass(frozen=True)
class Groups(Whole):
    """How many lanes 2L sublayers need in about `base` groups of one size, and one more."""

    def __call__(self, depth: int) -> int:
        """Returns the number at `depth` blocks."""
        size = math.ceil(2 * depth / self.base)
        return math.ceil(2 * depth / size) + 1


class LayerNumber:
    """A number that depends on the block, counted from the bottom, l = 1 … L: known inside `walk`. See `at_layer`."""

    def __call__(self, layer):
        """Returns the number at block `layer`, which may be traced."""
        raise NotImplementedError


@registered
@dataclass(frozen=True)
class OfLayer(LayerNumber):
    """`(base · l)^power`."""

    base: float
    power: float

    def __call__(self, layer):
        """Returns the number at block `layer`."""
        with jax.numpy_dtype_promotion(
            "standard"
        ):  # the number of a block is whole, and its power is of no type of its own
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
        """Returns the number at block `layer`."""
        return jnp.where((self.stride * (layer - 1) + self.start) % self.turns == self.turn, 1.0, 0.0)


@registered
@dataclass(frozen=True)
class Steps(LayerNumber):
    """The whole number `⌊(stride (l − 1) + start)/size⌋ + more`, to `most`: of a lane, or of lanes, by sublayers or blocks."""

    stride: int = 1
    start: int = 0
    size: Any = 1  # this and `most`: whole numbers, or ones of the depth
    more: int = 0
    most: Any = None

    def __call__(self, layer):
        """Returns the number at block `layer`."""
        with jax.numpy_dtype_promotion("standard"):
            number = (self.stride * (layer - 1) + self.start) // self.size + self.more
        return number if self.most is None else jnp.minimum(number, self.most)


@registered
@dataclass(frozen=True)
class Mirror(LayerNumber):
    """The whole number 2 `half` + 1 − l above block `half`, while that is positive, else 0: of the block across the middle."""

    half: Any  # a whole number, or one of the depth

    def __call__(self, layer):
        """Returns the number at block `layer`."""
        across = 2 * self.half + 1 - layer
        return jnp.where(layer > self.half, jnp.maximum(across, 0), 0)


@registered
@dataclass(frozen=True)
class Ramp(LayerNumber):
    """`first + (last − first)(l − 1)/(L − 1)`: from block 1 to block L in equal steps; `first` where there is one block."""

    first: float
    last: float
    depth: Any = Whole(1)

    def __call__(self, layer):
        """Returns the number at block `layer`."""
        with jax.numpy_dtype_promotion("standard"):
            return self.first + (self.last - self.first) * (layer - 1) / max(self.depth - 1, 1)


@registered
@dataclass(frozen=True)
class AtBlock(LayerNumber):
    """`there` at one block, `elsewhere` at all others."""

    block: Any  # a whole number, or one of the depth
    there: float = 1.0
    elsewhere: float = 0.0

    def __call__(self, layer):
        """Returns the number at block `layer`."""
        return jnp.where(layer == self.block, self.there, self.elsewhere)


@registered
@dataclass(frozen=True)
class ByBlock(LayerNumber):
    """The numbers of `values` in turn, the first at block 1; None is a number that nothing exceeds: a window without an end."""

    values: tuple[float | None, ...]

    def __call__(self, layer):
        """Returns the number at block `layer`."""
        numbers = [math.inf if value is None else float(value) for value in self.values]
        return jnp.asarray(numbers, jnp.result_type(float))[(layer - 1) % len(numbers)]


@registered
@dataclass(frozen=True)
class Profiled(LayerNumber):
    """A number for each block, from the stack's own forward pass (`profile.profiled`); 1 where it has not been profiled."""

    values: tuple[float, ...] = ()

    def __call__(self, layer):
        """Returns the number at block `layer`."""
        return jnp.asarray(self.values)[layer - 1] if self.values else 1.0


def resolved(value, depth: int):
    """Returns `value` (a dataclass, a tuple, a number) with every `OfDepth` in it replaced by its number at `depth` blocks."""
    return replaced(value, OfDepth, lambda number: number(depth))


def at_layer(value, layer):
    """Returns `value` with every `LayerNumber` in it replaced by its number at block `layer`."""
    return replaced(value, LayerNumber, lambda number: number(layer))


def replaced(value, kind: type, make: Callable):
    """Returns `value` with everything of that kind in it replaced by `make(it)`; the same object where there is nothing."""
    if isinstance(value, kind):
        return make(value)
    if isinstance(value, tuple):
        new = tuple(replaced(item, kind, make) for item in value)
        same = all(after is before for after, before in zip(new, value, strict=True))
        return value if same else new
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        values, changed = field_values(value), {}
        for field in dataclasses.fields(value):
            after = replaced(values[field.name], kind, make)
            if field.init and after is not values[field.name]:
                changed[field.name] = after
        return dataclasses.replace(value, **changed) if changed else value
    return value
