"""One example of a batched program: its stream as instruments take it, [tokens, features] or [lanes, tokens, features].

The last axis is taken for that of features. Rows and columns of an image are tokens; an axis beside that of the text's tokens is
one of lanes.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ...model.numerics.precision import wide
from ..trace.graph import Value


@dataclass(frozen=True)
class Layout:
    """The axis of examples of a program's stream, of length 1, or None; the shape without it; and which of its axes are lanes."""

    examples: int | None
    shape: tuple[int, ...]
    lanes: int | None

    @property
    def stream(self) -> tuple[int, ...]:
        """The shape of the stream as instruments take it."""
        return jax.eval_shape(self.of_example, jax.ShapeDtypeStruct(self.in_program_shape, jnp.float32)).shape

    @property
    def in_program_shape(self) -> tuple[int, ...]:
        """The shape of the stream as the program has it."""
        if self.examples is None:
            return self.shape
        return (*self.shape[: self.examples], 1, *self.shape[self.examples :])

    def of_example(self, y):
        """Returns a stream of the program as instruments take it, in float32 or better."""
        if self.examples is not None:
            y = jnp.squeeze(y, self.examples)
        y = y.astype(wide(y.dtype))
        if self.lanes is not None:
            return jnp.moveaxis(y, self.lanes, 0)
        if y.ndim > 2:
            return y.reshape(-1, self.shape[-1])
        return y

    def in_program(self, x, like: Value):
        """Returns the stream as the program has it."""
        if self.lanes is None:
            y = x.reshape(self.shape)
        else:
            y = jnp.moveaxis(x, 0, self.lanes)
        y = y.astype(like.aval.dtype)
        if self.examples is None:
            return y
        return jnp.expand_dims(y, self.examples)


def layout(shape: tuple[int, ...], examples: int | None, batch) -> Layout:
    """Returns the layout of a stream of that shape; `batch` is the program's."""
    own = tuple(size for axis, size in enumerate(shape) if axis != examples)
    lanes = None
    lengths = set()
    for leaf in jax.tree.leaves(batch):
        if _is_text(leaf):
            lengths.add(jnp.shape(leaf)[-1])
    if len(own) == 3 and own[0] in lengths:
        lanes = 1
    elif len(own) == 3 and own[1] in lengths:
        lanes = 0
    return Layout(examples, own, lanes)


def _is_text(leaf) -> bool:
    """Returns whether a leaf of a batch is tokens."""
    return jnp.ndim(leaf) > 0 and jnp.issubdtype(jnp.result_type(leaf), jnp.integer)
