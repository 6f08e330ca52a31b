"""Real text as bytes: CPython's own language reference, or a file of the user's.

A batch is a function of the key and the step alone, so paired runs see the same data. Batches come from the
first nine tenths of the text; the last tenth is held out.

Axes: a batch is `{"inputs": [B, T], "targets": [B, T]}`, targets the next bytes; vocabulary 256.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ..model.numerics.settings import usual_settings
from ..model.parameters.keys import at, root
from ..results.arguments import answering, whole
from . import corpus
from .stepped import WithStep as WithStep

VOCABULARY = 256
HELD_OUT = 0.1  # share of the text, its end
WINDOWS = 64  # examples of the held-out text, at equal distances
HIDDEN = 0.15  # share of the tokens that are targets of a masked language model
NONE = -1  # the target where there is none
LARGEST = 2**31 - 1  # token


@dataclass(frozen=True)
class Text:
    """A text as bytes, and how batches are cut from it. Its SHA-256, that of the file, goes into every result.

    `notes` are remarks for the reader of a result on how it was read.
    """

    name: str
    tokens: np.ndarray = field(repr=False, compare=False)
    sha256: str
    context: int = 64
    examples: int = 8
    notes: tuple[str, ...] = ()

    @usual_settings()
    def batch(self, key, step: int) -> dict[str, jax.Array]:
        """Returns `examples` windows of `context` bytes at offsets drawn from the key and the step."""
        offsets = whole_numbers(at(root(key), "batch", step), self.examples, self._split - self.context)
        return self.windows(offsets)

    @usual_settings()
    def windows(self, offsets) -> dict[str, jax.Array]:
        """Returns the examples at these offsets."""
        return _windows(self.tokens, offsets, self.context)

    @property
    def _split(self) -> int:
        """Returns where the held-out text begins; both sides have room for an example."""
        room = self.context + 1
        share = int((1 - HELD_OUT) * len(self.tokens))
        return min(max(share, room), len(self.tokens) - room)

    def held_out(self) -> dict[str, jax.Array]:
        """Returns `WINDOWS` examples of text that is in no batch: the same for all models, seeds and steps."""
        last = len(self.tokens) - self.context - 1
        offsets = np.linspace(self._split, last, WINDOWS).round().astype(int)
        return self.windows(np.unique(offsets))

    @usual_settings()
    def batches(self, keys, step: int) -> dict[str, jax.Array]:
        """Returns one batch a key, stacked: the batches of a run with several seeds at a step."""
        each = [self.batch(key, step) for key in keys]
        return jax.tree.map(lambda *arrays: jnp.stack(arrays), *each)

    def description(self) -> dict:
        """Returns the entry about the data in a result."""
        description = {
            "name": self.name,
            "bytes": len(self.tokens),
            "sha256": self.sha256,
            "context": self.context,
            "batch": self.examples,
            "reduction": "mean over all targets",
            "held_out": f"the last {HELD_OUT:.0%}, {WINDOWS} examples",
        }
        if self.notes:
            description["notes"] = list(self.notes)
        return description


@dataclass(frozen=True)
class Tokens(Text):
    """A text as tokens of a trained model. A target is the token `ahead`: the next, or (0) the token itself.

    The second is for models that see all tokens. With `mask`, the token that hides others, hidden tokens alone are targets, as
    in the model's training (`masked`); without it nothing is hidden, and the task of the training is not measured.

    Every example has `begin` in front and, where all tokens are seen, `end` behind. The context counts them: with one token
    in front an example is `[begin, t_1, …, t_(T−1)]`, its targets `[t_1, …, t_T]`. They are never targets themselves.
    """

    ahead: int = 1
    mask: int | None = None
    begin: tuple[int, ...] = ()
    end: tuple[int, ...] = ()

    def windows(self, offsets) -> dict[str, jax.Array]:
        """Returns the examples at these offsets."""
        length = self.context - len(self.begin) - len(self.end)  # tokens of text
        no_begin, no_end = (NONE,) * len(self.begin), (NONE,) * len(self.end)
        if self.ahead:
            rows = _rows(self.tokens, offsets, length + 1)
            inputs, targets = _between(self.begin, rows), _between(no_begin, rows)
            return {"inputs": inputs[:, :-1], "targets": targets[:, 1:]}
        seen = self._seen(offsets, length)
        inputs = _between(self.begin, seen["inputs"], self.end)
        targets = _between(no_begin, seen["targets"], no_end)
        return {"inputs": inputs, "targets": targets}

    def _seen(self, offsets, length: int) -> dict[str, jax.Array]:
        """Returns inputs and targets of a model that sees all tokens, `length` tokens an example."""
        rows = _rows(self.tokens, offsets, length)
        if self.mask is None:
            return {"inputs": rows, "targets": rows}
        keys = jax.vmap(lambda offset: at(root(0), "masked", offset))(jnp.asarray(offsets))
        others = jax.vmap(lambda key: whole_numbers(at(key, "other"), length, len(self.tokens)))(keys)
        return jax.vmap(masked, (0, 0, 0, None))(keys, rows, jnp.asarray(self.tokens[others]), self.mask)

    def description(self) -> dict:
        """Returns the entry about the data in a result."""
        description = super().description()
        description["tokens"] = description.pop("bytes")
        if self.ahead:
            description["targets"] = "the next token"
        elif self.mask is None:
            description["targets"] = "the token itself, none masked"
        else:
            description["targets"] = f"the token itself, {HIDDEN:.0%} masked, by token {self.mask}"
        return {**description, "begin": list(self.begin), "end": list(self.end)}


def _between(before: tuple[int, ...], rows, behind: tuple[int, ...] = ()):
    """Returns the rows [B, T] with the same tokens in front of each, and behind it."""
    front = jnp.tile(jnp.asarray(before, rows.dtype), (len(rows), 1))
    back = jnp.tile(jnp.asarray(behind, rows.dtype), (len(rows), 1))
    return jnp.concatenate([front, rows, back], axis=1)


def whole_numbers(key, count: int, below: int):
    """Returns `count` draws from 0 … below − 1, int32 whatever JAX's default: float32 and float64 read the same text."""
    return jax.random.randint(key, (count,), 0, below, jnp.int32)


def masked(key, tokens, others, mask: int) -> dict[str, jax.Array]:
    """Returns an example [T] of a masked language model: 15% of the tokens are targets, one at least.

    In the inputs 80% of these are `mask`, 10% are one of `others` [T], 10% themselves (Devlin et al. 2019, section 3.1, where
    the others are uniform in the vocabulary). The targets of all others are negative: none.
    """
    hidden = jax.random.permutation(at(key, "asked"), len(tokens)) < max(1, round(HIDDEN * len(tokens)))
    kind = jax.random.uniform(at(key, "kind"), tokens.shape, jnp.float32)
    inputs = jnp.where(kind < 0.8, mask, jnp.where(kind < 0.9, others, tokens))
    return {"inputs": jnp.where(hidden, inputs, tokens).astype(jnp.int32), "targets": jnp.where(hidden, tokens, -1)}


@answering()
def tokens(
    array,
    *,
    name: str,
    sha256: str,
    context: int = 64,
    batch: int = 8,
    ahead: int = 1,
    mask: int | None = None,
    begin: int | Iterable[int] = (),
    end: int | Iterable[int] = (),
    notes: tuple[str, ...] = (),
) -> Tokens:
    """Returns a sequence of tokens as data; see `Tokens`.

    Errors: ValueError where it holds anything but tokens or is shorter than 2 (context + 1), where the context has no room
    for text, and for a `mask` or an `end` where the next token is the target.
    """
    context, batch = whole("context", context, 2), whole("batch", batch)
    ahead = whole("ahead", ahead, 0, 1)
    first, last = _tokens("begin", begin), _tokens("end", end)
    if mask is not None:
        mask = whole("mask", mask, 0, LARGEST)
    if ahead and (mask is not None or last):
        given = f"end is {list(last)}" if mask is None else f"mask is {mask}"
        raise ValueError(f"{given}, but the next token is asked for: only a model that sees all (ahead=0) has one")
    if len(first) + len(last) >= context:
        raise ValueError(
            f"context is {context}, but {len(first) + len(last)} tokens mark an example: give a larger one"
        )
    ids = sequence(array, name)
    if len(ids) < 2 * (context + 1):
        raise ValueError(
            f"{name} has {len(ids)} tokens, fewer than 2 (context + 1) = {2 * (context + 1)}: "
            f"give a longer text or a smaller context"
        )
    return Tokens(name, ids, sha256, context, batch, tuple(notes), ahead, mask, first, last)


def sequence(array, name: str) -> np.ndarray:
    """Returns the tokens [N] as int64.

    Errors: ValueError for numbers of another shape or kind, and for one that is negative or no int32.
    """
    ids = np.asarray(array)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ValueError(f"{name} holds {ids.dtype} numbers of shape {ids.shape}: a line of whole numbers is expected")
    if len(ids) and not 0 <= ids.min() <= ids.max() <= LARGEST:
        raise ValueError(f"{name} has tokens from {ids.min()} to {ids.max()}: 0 to {LARGEST} are possible")
    return ids.astype(np.int64)


def _tokens(name: str, given: int | Iterable[int]) -> tuple[int, ...]:
    """Returns one token or several as a tuple."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        return (whole(name, given, 0, LARGEST),)
    return tuple(whole(name, token, 0, LARGEST) for token in given)


@dataclass(frozen=True)
class Halves:
    """A text for an encoder and a decoder: of every window the first half is the source, and the second is the target.

    A batch is `{"inputs": {"source": [B, T/2], "target": [B, T/2]}, "targets": [B, T/2]}`.
    """

    text: Text

    def batch(self, key, step: int) -> dict:
        """Returns the text's batch, cut into source and target."""
        return _cut(self.text.batch(key, step))

    def batches(self, keys, step: int) -> dict:
        """Returns one batch a key, stacked."""
        return _cut(self.text.batches(keys, step))

    def held_out(self) -> dict:
        """Returns the text's held-out examples, cut into source and target."""
        return _cut(self.text.held_out())

    def description(self) -> dict:
        """Returns the entry about the data in a result."""
        return {**self.text.description(), "cut": "source: first half; target: second"}


def _cut(batch: dict) -> dict:
    half = batch["inputs"].shape[-1] // 2
    source, target = batch["inputs"][..., :half], batch["inputs"][..., half:]
    return {"inputs": {"source": source, "target": target}, "targets": batch["targets"][..., half:]}


def _windows(tokens: np.ndarray, offsets, context: int) -> dict[str, jax.Array]:
    rows = _rows(tokens, offsets, context + 1)
    return {"inputs": rows[:, :-1], "targets": rows[:, 1:]}


def _rows(tokens: np.ndarray, offsets, length: int) -> jax.Array:
    """Returns `length` tokens from each offset on."""
    places = np.asarray(offsets)[:, None] + np.arange(length)
    return jnp.asarray(tokens[places], jnp.int32)


@answering()
def text(path: str | Path | None = None, *, context: int = 64, batch: int = 8) -> Text:
    """Returns the bytes of the file at `path`, or by default the language reference that CPython ships (`pydoc_data.topics`).

    The default differs a little between Python versions: its SHA-256 is recorded. A byte-order mark of UTF-8 is left out.

    Errors: OSError for a file that can't be read; ValueError for one that is empty or shorter than 2 (context + 1) bytes.
    """
    context, batch = whole("context", context, 2), whole("batch", batch)
    name, content, sha256, notes = corpus.read(path)
    if not content:
        raise ValueError(f"{name} is empty: give a text of at least {2 * (context + 1)} bytes")
    if len(content) < 2 * (context + 1):
        least = f"2 (context + 1) = {2 * (context + 1)}"
        raise ValueError(
            f"{name} has {len(content)} bytes, fewer than {least}: give a longer text or a smaller context"
        )
    return Text(name, np.frombuffer(content, np.uint8), sha256, context, batch, notes)
