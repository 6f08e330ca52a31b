"""Parameters and tensors brought together: which is which, what is wrong, and the arrays.

Every parameter comes from one tensor a block, and every tensor goes somewhere.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding

from ...model.parameters.names import name
from .files import FLOAT8, Stored, plain, several
from .sources import From, Layout

OLD = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}


class Leaf(NamedTuple):
    """A parameter: our name, the shape of one block's, and the numbers of the blocks, None outside the stack."""

    name: str
    shape: tuple[int, ...]
    blocks: range | None


def leaves(params) -> list[Leaf]:
    """Returns all parameters of a model, in the order of the tree, from their shapes.

    Those of a side of an encoder and decoder have its name in front.
    """
    found = []
    for key in sorted(params):
        own = params[key]
        if key == "stack":
            found += _stacked(own)
        elif isinstance(own, Mapping) and "stack" in own:
            found += [leaf._replace(name=f"{key}.{leaf.name}") for leaf in leaves(own)]
        else:
            for path, leaf in jax.tree_util.tree_leaves_with_path({key: own}):
                found.append(Leaf(name(path), leaf.shape, None))
    return found


def _stacked(segments) -> list[Leaf]:
    """Returns the parameters of a stack's segments."""
    below = 0
    starts = []
    for kinds in segments:
        repeats = jax.tree.leaves(kinds)[0].shape[0]
        starts.append(range(below, below + repeats))
        below += repeats
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(segments):
        own = f"{path[1].key}.{name(path[2:])}"
        found.append(Leaf(own, leaf.shape[1:], starts[path[0].idx]))
    return found


class Problem(NamedTuple):
    """What is wrong with a tensor."""

    kind: str
    what: str


class Match:
    """The parameters of a model, the tensors of its files, and the layout that says which is which."""

    def __init__(
        self,
        layout: Layout,
        leaves: list[Leaf],
        tensors: Mapping[str, Stored],
        replaced: bool = False,
        block: tuple[int, int] | None = None,
    ):
        self.layout, self.leaves, self.tensors, self.replaced = layout, leaves, tensors, replaced
        self.block = block  # of matrices of 8 bits, what has one scale
        self.bare = not any(name.startswith(layout.prefix) for name in tensors)
        self.own = {leaf.name for leaf in leaves}
        self.lost: list[str] = []

    def there(self, theirs: str) -> str:
        """Returns the name that a tensor has in these files: without the prefix, or the old one."""
        if self.bare:
            theirs = theirs.removeprefix(self.layout.prefix)
        if theirs in self.tensors:
            return theirs
        for new, was in OLD.items():
            old = theirs.replace(new, was)
            if theirs.endswith(new) and old in self.tensors:
                return old
        return theirs

    def source(self, leaf: Leaf) -> From:
        """Returns where the layout has a parameter's tensors."""
        if leaf.name not in self.layout.table:
            raise ValueError(f"the layout of this model type has no parameter {leaf.name!r}")
        return self.layout.table[leaf.name]

    def sources(self, leaf: Leaf) -> list[str]:
        """Returns the tensors of a parameter, block by block."""
        names = []
        for block in leaf.blocks or (0,):
            names += self.source(leaf).names(block)
        return list(map(self.there, names))

    def copies(self) -> Iterator[tuple[str, Leaf]]:
        """Tensors that are there as copies of a parameter, which must be among ours."""
        by_name = {leaf.name: leaf for leaf in self.leaves}
        own = {self.source(leaf).name for leaf in self.leaves}
        for theirs, ours in self.layout.copies.items():
            if self.there(theirs) in self.tensors and ours in by_name and theirs not in own and not self.replaced:
                yield self.there(theirs), by_name[ours]

    # ---- what is wrong

    def ignored_tensors(self) -> list[str]:
        """Tensors of other heads, and of the files' own head where another stands in for it."""
        other = self.matching(self.layout.beside)
        if self.replaced:
            head = set(map(self.there, self.layout.copies))
            for ours, theirs in self.layout.table.items():
                if ours.startswith("readout") and ours not in self.own:
                    head.add(self.there(theirs.name))
            other |= head & self.tensors.keys()
        return sorted(other)

    def matching(self, patterns: tuple[str, ...]) -> set[str]:
        """Returns the tensors whose names are of one of these patterns."""
        return {one for one in self.tensors if any(re.fullmatch(pattern, one) for pattern in patterns)}

    def problems(self) -> str:
        """Returns what is missing, misshaped, of another type, unknown, or a copy that differs; empty where nothing is."""
        found, used = [], set()
        for leaf in self.leaves:
            expected_shapes = self.source(leaf).shapes(leaf.shape) * len(leaf.blocks or (0,))
            for theirs, expected in zip(self.sources(leaf), expected_shapes, strict=True):
                used |= {theirs, scale_of(theirs)}
                found += self.wrong(theirs, expected, leaf)
        for theirs, leaf in self.copies():
            used.add(theirs)
            found += self.differing(theirs, leaf)
        for constant, numbers in self.layout.constants.items():
            theirs = self.there(constant)
            used.add(theirs)
            if theirs in self.tensors and not np.array_equal(self.tensors[theirs][:], numbers):
                found.append(Problem("not as the configuration says", theirs))
        explained = used | self.matching(self.layout.buffers) | set(self.ignored_tensors())
        for theirs in sorted(self.tensors.keys() - explained):
            found.append(Problem("unknown", f"{plain(theirs)} {_shape(self.tensors[theirs].shape)}"))
        by_kind: dict[str, list[str]] = {}
        for problem in found:
            by_kind.setdefault(problem.kind, []).append(problem.what)
        return "; ".join(f"{kind}: {several(tensors)}" for kind, tensors in by_kind.items())

    def wrong(self, theirs: str, expected: tuple[int, ...], leaf: Leaf) -> "list[Problem]":
        """Returns what is wrong with the tensor of a parameter."""
        tensor, dtypes = self.tensors.get(theirs), self.source(leaf).dtypes
        if tensor is None:
            return [Problem("missing", f"{theirs} {_shape(expected)}, our {leaf.name}")]
        if tensor.shape != expected:
            return [Problem("misshaped", f"{theirs} {_shape(tensor.shape)}, expected {_shape(expected)}")]
        if tensor.dtype == FLOAT8 and self.block is not None:
            return self.unscaled(theirs, tensor)
        if tensor.dtype not in dtypes:
            return [Problem(f"not of {', '.join(dtypes)}", f"{theirs}, {tensor.dtype}")]
        return []

    def unscaled(self, theirs: str, tensor: Stored) -> "list[Problem]":
        """Returns what is wrong with the scales of a matrix of 8 bits, one for each block of it."""
        scale = self.tensors.get(scale_of(theirs))
        expected = tuple(-(-size // part) for size, part in zip(tensor.shape, self.block or (), strict=False))
        if scale is None:
            return [Problem("missing", f"{scale_of(theirs)} {_shape(expected)}, the scales of {theirs}")]
        if scale.shape != expected or len(tensor.shape) != 2:
            return [Problem("misshaped", f"{scale_of(theirs)} {_shape(scale.shape)}, expected {_shape(expected)}")]
        return []

    def differing(self, theirs: str, leaf: Leaf) -> "list[Problem]":
        """Returns what is wrong with a copy of a parameter."""
        original = self.sources(leaf)[0]
        copy, own = self.tensors[theirs], self.tensors.get(original)
        if own is None or self.wrong(theirs, own.shape, leaf):
            return self.wrong(theirs, self.source(leaf).shape(leaf.shape), leaf)
        if np.array_equal(copy[:], own[:], equal_nan=True):
            return []
        return [Problem("not tied", f"{theirs} differs from {original}, of which it should be a copy")]

    # ---- the arrays

    def array(self, leaf: Leaf, dtype, last: slice = slice(None)) -> Any:
        """Returns the parameter, its blocks stacked, or the entries `last` of its last axis; read block by block.

        What is not finite in it, or not as a number of that type, enters `lost`.
        """
        source, blocks = self.source(leaf), leaf.blocks or (0,)
        shape = leaf.shape or (1,)  # a number is an array of one in a file
        features = len(range(shape[-1])[last])
        stacked = np.empty((len(blocks), *shape[:-1], features), dtype)
        for of_block, block in zip(stacked, blocks, strict=True):
            names = list(map(self.there, source.names(block)))
            with np.errstate(over="ignore"):  # what does not fit is counted below
                of_block[...] = source([self.numbers(theirs) for theirs in names], last)
            for theirs, part in zip(names, source.parts_of(of_block), strict=True):
                bad = part.size - np.count_nonzero(np.isfinite(part))
                if bad:
                    self.lost.append(f"{theirs} (our {leaf.name}): {bad} of {part.size} entries")
        if not leaf.shape:
            stacked = stacked[..., 0]
        return stacked[0] if leaf.blocks is None else stacked

    def placed(self, leaf: Leaf, dtype, sharding: NamedSharding) -> jax.Array:
        """Returns the parameter divided along its last axis: of the files each shard is read once, for all of its devices."""
        shape = leaf.shape if leaf.blocks is None else (len(leaf.blocks), *leaf.shape)

        @cache
        def between(start: int, stop: int):
            return self.array(leaf, dtype, slice(start, stop))

        def shard(index: Any):
            if not leaf.shape:
                return self.array(leaf, dtype)[index]
            start, stop, _ = index[-1].indices(shape[-1])
            return between(start, stop)

        return jax.make_array_from_callback(shape, sharding, shard, dtype=dtype)

    def numbers(self, theirs: str):
        """Returns a tensor, of whose numbers a part can be read; of a matrix of 8 bits its numbers times their scales."""
        tensor = self.tensors[theirs]
        if tensor.dtype != FLOAT8:
            return tensor
        scales = self.tensors[scale_of(theirs)][:].astype(np.float32)
        for axis, part in enumerate(self.block or ()):
            scales = np.repeat(scales, part, axis)
        rows, columns = tensor.shape
        return tensor[:].astype(np.float32) * scales[:rows, :columns]


def scale_of(theirs: str) -> str:
    """Returns the name of the scales of a matrix of 8 bits."""
    return f"{theirs}_scale_inv"


def _shape(shape) -> str:
    return f"[{', '.join(map(str, shape))}]"
