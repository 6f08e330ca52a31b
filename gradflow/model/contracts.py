"""Contracts: what instruments, theory and training ask of a model, and of the data that it reads.

A model is a stack with a way in and a way out, each for one example; one that has several stacks has *sides*, a model each.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Model(Protocol):
    """One stack; `Transformer`, the sides of an `EncoderDecoder` and `FunctionStack` are such. Parameters have a key `stack`."""

    @property
    def stack(self) -> Any:
        """Its `Stack`, which `walk` goes through."""
        ...

    def enter(self, params, inputs) -> Any:
        """Returns the bottom of the stream."""
        ...

    def leave(self, params, x) -> Any:
        """Returns what is read out, from the top of the stream."""
        ...

    def loss(self, params, out, targets) -> Any:
        """Returns the loss of one example, from what is read out."""
        ...


@runtime_checkable
class Drawable(Model, Protocol):
    """A model that draws its weights."""

    def init(self, key) -> Any:
        """Returns the parameters."""
        ...


@runtime_checkable
class Contextual(Protocol):
    """A model whose sublayers read more than the stream: a decoder's, the memory of its encoder."""

    def with_context(self, params, inputs) -> Any:
        """Returns the parameters with what is read besides the stream in the places of parameters."""
        ...


@runtime_checkable
class Sided(Protocol):
    """A model of several stacks."""

    @property
    def sides(self) -> Mapping[str, Any]:
        """Each stack as a model, with the others as functions of the weights."""
        ...


@runtime_checkable
class OfTokens(Protocol):
    """A model that reads tokens, and is asked for tokens."""

    @property
    def vocabulary(self) -> int:
        """How many different tokens there are: 0 … vocabulary − 1."""
        ...

    @property
    def positions(self) -> int | None:
        """The largest number of tokens of an example; None: any."""
        ...


@runtime_checkable
class OfTypes(Protocol):
    """A model that may be told the types of its tokens."""

    @property
    def types(self) -> int:
        """How many there are: 0 … types − 1; 0 where it knows none."""
        ...


@runtime_checkable
class OfTwoSequences(OfTokens, Protocol):
    """A model whose inputs are a source and a target."""

    @property
    def whole(self) -> Any:
        """The encoder and decoder that it is a side of."""
        ...


@runtime_checkable
class OfOneSide(Protocol):
    """A side of a model of two sequences."""

    reads: str  # which of them its stream is of, "source" or "target"


@runtime_checkable
class Data(Protocol):
    """Where batches come from: what one holds is a function of the key and the step alone."""

    def batch(self, key, step: int) -> Any:
        """Returns the batch of a step."""
        ...

    def batches(self, keys, step: int) -> Any:
        """Returns one batch a key, stacked."""
        ...

    def held_out(self) -> Any:
        """Returns examples that no batch holds."""
        ...

    def description(self) -> dict:
        """Returns what a result says of its data."""
        ...
