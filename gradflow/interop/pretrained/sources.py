"""What makes a parameter of tensors: a name, a turn, a part of what is stored together; and the table of a model type.

Our names are those of `model.names`: outside the stack `token`, `leave.scale`, …; inside it the sublayer's kind and the
parameter, `attention.query`, `mlp.norm_in.scale`. Theirs have `{}` for the number of the block, from 0.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from .files import FLOATS, WHOLE_NUMBERS


@dataclass(frozen=True)
class Part:
    """One of the parts that lie side by side in the features of each of `heads` heads, as `sizes` to each other.

    Rotary features that are turned in neighbouring pairs are sorted into halves: the first `interleaved` of a head.
    """

    which: int
    sizes: tuple[int, ...]
    heads: int = 1
    interleaved: int = 0

    def whole(self, features: int) -> int:
        """Returns how many features all parts have together, from those of this one."""
        return features * sum(self.sizes) // self.sizes[self.which]

    def __call__(self, array):
        """Returns the part, of an array whose last axis has all."""
        by_head = array.reshape(*array.shape[:-1], self.heads, -1)
        unit = by_head.shape[-1] // sum(self.sizes)
        start = unit * sum(self.sizes[: self.which])
        own = by_head[..., start : start + unit * self.sizes[self.which]]
        if self.interleaved:
            pairs, rest = np.split(own, [self.interleaved], -1)
            own = np.concatenate([pairs[..., 0::2], pairs[..., 1::2], rest], -1)
        return own.reshape(*array.shape[:-1], -1)


@dataclass(frozen=True)
class From:
    """A tensor's name, and what makes a parameter of it: `transposed` from [out, in], a `part` of its last axis.

    With `each`, a parameter is so many tensors a block, stacked, or one `below` the other, each of as many rows but the last,
    which has the rest: the second `{}` of the name counts them.
    """

    name: str
    transposed: bool = False
    part: Part | None = None
    each: int | None = None
    below: bool = False

    dtypes: ClassVar[tuple[str, ...]] = FLOATS

    def names(self, block: int) -> list[str]:
        """Returns the tensors of one block."""
        return [self.name.format(block, one) for one in range(self.each or 1)]

    def shape(self, own: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape of the first of its tensors, from the parameter's."""
        shape = own[1:] if self.each else own or (1,)  # a number is an array of one there
        if self.below:
            shape = (self.rows(own[0])[0], *own[1:])
        if self.part:
            shape = (*shape[:-1], self.part.whole(shape[-1]))
        return shape[::-1] if self.transposed else shape

    def shapes(self, own: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Returns the shapes of the tensors of one block, from the parameter's."""
        if self.below:
            return [(rows, *own[1:]) for rows in self.rows(own[0])]
        return [self.shape(own)] * (self.each or 1)

    def rows(self, whole: int) -> list[int]:
        """Returns how many of the rows each tensor has, where one lies below the other."""
        number = self.each or 1
        most = -(-whole // number)
        return [max(0, min(most, whole - most * i)) for i in range(number)]

    def parts_of(self, own):
        """Returns what each tensor makes of one block of a parameter."""
        if self.below:
            return np.split(own, np.cumsum(self.rows(len(own)))[:-1])
        return own if self.each else own[None]

    def __call__(self, tensors, last: slice = slice(None)):
        """Returns the parameter of one block, or the entries `last` of its last axis, from its tensors.

        Of a tensor no more is read than lies between the first and the last of them.
        """
        parts = [self._read(tensor, last) for tensor in tensors]
        if self.below:
            return np.concatenate(parts)
        return np.stack(parts) if self.each else parts[0]

    def _read(self, tensor, last: slice):
        """Returns those entries of what one tensor makes."""
        wanted = np.arange(tensor.shape[0 if self.transposed else -1])
        if self.part:
            wanted = self.part(wanted)
        wanted = wanted[last]
        between = slice(int(wanted.min()), int(wanted.max()) + 1)
        if self.transposed:
            read = tensor[between].T
        else:
            read = tensor[(*[slice(None)] * (len(tensor.shape) - 1), between)]
        if np.array_equal(wanted, np.arange(between.start, between.stop)):
            return read
        return np.take(read, wanted - between.start, axis=-1)


@dataclass(frozen=True)
class OfLanes(From):
    """A tensor whose first axis, once it is turned, has the features of so many `lanes`."""

    lanes: int = 1

    def shape(self, own: tuple[int, ...]) -> tuple[int, ...]:
        """Returns a tensor's shape, from the parameter's."""
        lanes, features, *rest = own
        return super().shape((lanes * features, *rest))

    def __call__(self, tensors, last: slice = slice(None)):
        """Returns the parameter of one block, or the entries `last` of its last axis."""
        read = super().__call__(tensors, last)
        return read.reshape(self.lanes, -1, *read.shape[1:])


@dataclass(frozen=True)
class Counted(From):
    """A tensor with `number` whole numbers a row: the parameter counts how often a row names each of `kinds`."""

    number: int = 1
    kinds: int = 1

    dtypes: ClassVar[tuple[str, ...]] = WHOLE_NUMBERS

    def shape(self, own: tuple[int, ...]) -> tuple[int, ...]:
        """Returns a tensor's shape, from the parameter's."""
        return (*own[:-1], self.number)

    def __call__(self, tensors, last: slice = slice(None)):
        """Returns the counts, or the entries `last` of their last axis.

        Errors: ValueError for a number that is no kind.
        """
        (named,) = (tensor[:] for tensor in tensors)
        if named.size and not 0 <= named.min() <= named.max() < self.kinds:
            own = self.name.format("…")
            raise ValueError(
                f"{own} names {named.min()} to {named.max()}: numbers from 0 to {self.kinds - 1} are expected"
            )
        return (named[..., None] == np.arange(self.kinds)[last]).sum(-2)


@dataclass(frozen=True)
class Layout:
    """The table of one model type.

    `prefix` may be missing from all names of a file. `copies` are tensors that may be there as copies of a parameter to which
    the configuration ties them, `buffers` patterns of names that are no parameters, `beside` of names that belong to other heads.
    `constants` are whole numbers that may be there too, which follow from the configuration.
    """

    table: dict[str, From]
    prefix: str
    copies: dict[str, str] = field(default_factory=dict)
    buffers: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    constants: dict[str, tuple[int, ...]] = field(default_factory=dict)


def linear(ours: str, theirs: str, bias: bool = True) -> dict[str, From]:
    """Returns a matrix that is stored [out, in], and its bias where a model has one."""
    table = {ours: From(f"{theirs}.weight", transposed=True)}
    if bias:
        table[f"{ours}.bias"] = From(f"{theirs}.bias")
    return table


QKV = ("query", "key", "value")


def fused(
    place: str,
    names: tuple[str, ...],
    theirs: str,
    sizes: tuple[int, ...] = (),
    *,
    heads: int = 1,
    transposed: bool = True,
) -> dict[str, From]:
    """Returns matrices of one sublayer that lie side by side in one, of equal or the given sizes, and their biases likewise.

    With `heads` they lie so in each head; not `transposed` they are stored [in, out].
    """
    table = {}
    for which, name in enumerate(names):
        part = Part(which, sizes or (1,) * len(names), heads)
        table[f"{place}.{name}"] = From(f"{theirs}.weight", transposed, part)
        table[f"{place}.{name}.bias"] = From(f"{theirs}.bias", part=part)
    return table


def norm(ours: str, theirs: str) -> dict[str, From]:
    """Returns a norm's gain, and its shift where it has one."""
    return {f"{ours}.scale": From(f"{theirs}.weight"), f"{ours}.bias": From(f"{theirs}.bias")}


def joined(*tables: dict[str, From]) -> dict[str, From]:
    """Returns one table of several."""
    whole: dict[str, From] = {}
    for table in tables:
        whole.update(table)
    return whole
