"""Real text as bytes: CPython's own language reference, or a file of the user's.

What a batch holds is a function of the key and the step alone, so paired runs see the same data. Batches come from the
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

VOCABULARY = 256
HELD_OUT = 0.1  # share of the text, its end
WINDOWS = 64  # examples of the held-out text, at equal distances
HIDDEN = 0.15  # share of the tokens that a masked language model is asked for
NONE = -1  # the target where none is asked for
LARGEST = 2**31 - 1  # token


@dataclass(frozen=True)
class Text:
    """A text as bytes, and how batches are cut from it. Its SHA-256, that of the file, goes into every result.

    `notes` are what a reader should know of how it was read.
    """

    name: str
    tokens: np.ndarray = field(repr=False, compare=False)
    sha256: str
    context: int = 64
    examples: int = 8
    notes: tuple[str, ...] = ()

    @usual_settings()
    def batch(self, key, step: int) -> dict[str, jax.Array]:
        """`examples` windows of `context` bytes at offsets drawn from the key and the step."""
        offsets = whole_numbers(at(root(key), "batch", step), self.examples, self._split - self.context)
        return self.windows(offsets)

    @usual_settings()
    def windows(self, offsets) -> dict[str, jax.Array]:
        """The examples that begin there."""
        return _windows(self.tokens, offsets, self.context)

    @property
    def _split(self) -> int:
        """Where the held-out text begins; both sides have room for an example."""
        room = self.context + 1
        return min(max(int((1 - HELD_OUT) * len(self.tokens)), room), len(self.tokens) - room)

    def held_out(self) -> dict[str, jax.Array]:
        """`WINDOWS` examples of text that no batch holds: the same for all models, seeds and steps."""
        last = len(self.tokens) - self.context - 1
        return self.windows(np.unique(np.linspace(self._split, last, WINDOWS).round().astype(int)))

    @usual_settings()
    def batches(self, keys, step: int) -> dict[str, jax.Array]:
        """One batch a key, stacked: what a run with several seeds sees at a step."""
        each = [self.batch(key, step) for key in keys]
        return jax.tree.map(lambda *b: jnp.stack(b), *each)

    def description(self) -> dict:
        """What a result says of its data."""
        shape = {
            "context": self.context,
            "batch": self.examples,
            "reduction": "mean over all targets",
            "held_out": f"the last {HELD_OUT:.0%}, {WINDOWS} examples",
        }
        notes = {"notes": list(self.notes)} if self.notes else {}
        return {"name": self.name, "bytes": len(self.tokens), "sha256": self.sha256, **shape, **notes}


@dataclass(frozen=True)
class Tokens(Text):
    """A text as tokens of a trained model's own. A target is the token `ahead`: the next, or (0) the token itself.

    The second is for models that see all tokens. With `mask`, the token that hides others, they are asked for hidden ones
    alone, as they were in training (`masked`); without it nothing is hidden, and what they were trained for is not measured.

    Every example has `begin` in front and, where all tokens are seen, `end` behind. The context counts them: with one token
    in front an example is `[begin, t_1, …, t_(T−1)]`, its targets `[t_1, …, t_T]`. They are never asked for themselves.
    """

    ahead: int = 1
    mask: int | None = None
    begin: tuple[int, ...] = ()
    end: tuple[int, ...] = ()

    def windows(self, offsets) -> dict[str, jax.Array]:
        """The examples that begin there."""
        own = self.context - len(self.begin) - len(self.end)  # tokens of text
        before, behind = (NONE,) * len(self.begin), (NONE,) * len(self.end)
        if self.ahead:
            rows = _rows(self.tokens, offsets, own + 1)
            inputs, targets = _between(self.begin, rows), _between(before, rows)
            return {"inputs": inputs[:, :-1], "targets": targets[:, 1:]}
        both = self._seen(offsets, own)
        inputs, targets = _between(self.begin, both["inputs"], self.end), _between(before, both["targets"], behind)
        return {"inputs": inputs, "targets": targets}

    def _seen(self, offsets, own: int) -> dict[str, jax.Array]:
        """What a model that sees all is asked for, `own` tokens an example."""
        rows = _rows(self.tokens, offsets, own)
        if self.mask is None:
            return {"inputs": rows, "targets": rows}
        keys = jax.vmap(lambda offset: at(root(0), "masked", offset))(jnp.asarray(offsets))
        others = jax.vmap(lambda key: whole_numbers(at(key, "other"), own, len(self.tokens)))(keys)
        return jax.vmap(masked, (0, 0, 0, None))(keys, rows, jnp.asarray(self.tokens[others]), self.mask)

    def description(self) -> dict:
        """What a result says of its data."""
        told = super().description()
        told["tokens"] = told.pop("bytes")
        hidden = "none masked" if self.mask is None else f"{HIDDEN:.0%} masked, by token {self.mask}"
        told["targets"] = "the next token" if self.ahead else f"the token itself, {hidden}"
        return told | {"begin": list(self.begin), "end": list(self.end)}


def _between(before: tuple[int, ...], rows, behind: tuple[int, ...] = ()):
    """The same tokens in front of every row [B, T], and behind it."""
    sides = [jnp.tile(jnp.asarray(side, rows.dtype), (len(rows), 1)) for side in (before, behind)]
    return jnp.concatenate([sides[0], rows, sides[1]], axis=1)


def whole_numbers(key, count: int, below: int):
    """So many draws from 0 … below − 1, int32, whatever JAX's default: the same text is read in float32 and in float64."""
    return jax.random.randint(key, (count,), 0, below, jnp.int32)


def masked(key, tokens, others, mask: int) -> dict[str, jax.Array]:
    """An example [T] of a masked language model (Devlin et al. 2019, section 3.1), asked for 15% of the tokens, one at least.

    In the inputs 80% of these are `mask`, 10% are one of `others` [T] (theirs are of the vocabulary, evenly), 10% themselves.
    The targets of all others are negative: none.
    """
    asked = jax.random.permutation(at(key, "asked"), len(tokens)) < max(1, round(HIDDEN * len(tokens)))
    kind = jax.random.uniform(at(key, "kind"), tokens.shape, jnp.float32)
    inputs = jnp.where(kind < 0.8, mask, jnp.where(kind < 0.9, others, tokens))
    return {"inputs": jnp.where(asked, inputs, tokens).astype(jnp.int32), "targets": jnp.where(asked, tokens, -1)}


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
    """A sequence of tokens, and how batches are cut from it; see `Tokens`.

    Errors: ValueError where it holds anything but tokens or is shorter than 2 (context + 1), where the context has no room
    for text, and for a `mask` or an `end` where the next token is asked for.
    """
    context, batch = whole("context", context, 2), whole("batch", batch)
    ahead = whole("ahead", ahead, 0, 1)
    first, last = _tokens("begin", begin), _tokens("end", end)
    if mask is not None:
        mask = whole("mask", mask, 0, LARGEST)
    if ahead and (mask is not None or last):
        given = f"mask is {mask}" if mask is not None else f"end is {list(last)}"
        raise ValueError(f"{given}, but the next token is asked for: only a model that sees all (ahead=0) has one")
    if len(first) + len(last) >= context:
        raise ValueError(
            f"context is {context}, but {len(first) + len(last)} tokens mark an example: give a larger one"
        )
    found = sequence(array, name)
    if len(found) < 2 * (context + 1):
        raise ValueError(
            f"{name} has {len(found)} tokens, fewer than 2 (context + 1) = {2 * (context + 1)}: "
            f"give a longer text or a smaller context"
        )
    return Tokens(name, found, sha256, context, batch, tuple(notes), ahead, mask, first, last)


def sequence(array, name: str) -> np.ndarray:
    """The tokens [N], as whole numbers that a model can be given.

    Errors: ValueError for numbers of another shape or kind, and for one that is negative or no int32.
    """
    found = np.asarray(array)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise ValueError(
            f"{name} holds {found.dtype} numbers of shape {found.shape}: a line of whole numbers is expected"
        )
    if len(found) and not 0 <= found.min() <= found.max() <= LARGEST:
        raise ValueError(f"{name} has tokens from {found.min()} to {found.max()}: 0 to {LARGEST} are possible")
    return found.astype(np.int64)


def _tokens(name: str, given: int | Iterable[int]) -> tuple[int, ...]:
    """One token or several, as a tuple."""
    several = given if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    return tuple(whole(name, token, 0, LARGEST) for token in several)


@dataclass(frozen=True)
class Halves:
    """A text for an encoder and a decoder: of every window the first half is the source, and the second is what to say.

    A batch is `{"inputs": {"source": [B, T/2], "target": [B, T/2]}, "targets": [B, T/2]}`.
    """

    text: Text

    def batch(self, key, step: int) -> dict:
        """The text's own batch, cut."""
        return _cut(self.text.batch(key, step))

    def batches(self, keys, step: int) -> dict:
        """One batch a key, stacked."""
        return _cut(self.text.batches(keys, step))

    def held_out(self) -> dict:
        """The text's own held-out examples, cut."""
        return _cut(self.text.held_out())

    def description(self) -> dict:
        """What a result says of its data."""
        return {**self.text.description(), "cut": "source: first half; target: second"}


def _cut(batch: dict) -> dict:
    half = batch["inputs"].shape[-1] // 2
    source, target = batch["inputs"][..., :half], batch["inputs"][..., half:]
    return {"inputs": {"source": source, "target": target}, "targets": batch["targets"][..., half:]}


def _windows(tokens: np.ndarray, offsets, context: int) -> dict[str, jax.Array]:
    rows = _rows(tokens, offsets, context + 1)
    return {"inputs": rows[:, :-1], "targets": rows[:, 1:]}


def _rows(tokens: np.ndarray, offsets, length: int) -> jax.Array:
    """So many tokens from each offset on."""
    return jnp.asarray(tokens[np.asarray(offsets)[:, None] + np.arange(length)], jnp.int32)


@answering()
def text(path: str | Path | None = None, *, context: int = 64, batch: int = 8) -> Text:
    """The bytes of the file at `path`, or by default the language reference that CPython ships (`pydoc_data.topics`).

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
