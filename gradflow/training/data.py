"""Real text as bytes: CPython's own language reference, or a file of the user's.

What a batch holds is a function of the key and the step alone, so paired runs see the same data. Batches come from the
first nine tenths of the text; the last tenth is held out.

Axes: a batch is `{"inputs": [B, T], "targets": [B, T]}`, targets the next bytes; vocabulary 256.
"""

import hashlib
import stat
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ..model import size
from ..model.init import at, root
from ..model.settings import usual_settings

VOCABULARY = 256
HELD_OUT = 0.1  # share of the text, its end
WINDOWS = 64  # examples of the held-out text, at equal distances
HIDDEN = 0.15  # share of the tokens that a masked language model is asked for


@dataclass(frozen=True)
class Text:
    """A text as bytes, and how batches are cut from it. Its SHA-256 goes into every result."""

    name: str
    tokens: np.ndarray = field(repr=False, compare=False)
    sha256: str
    context: int = 64
    examples: int = 8

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
        return {"name": self.name, "bytes": len(self.tokens), "sha256": self.sha256, **shape}


@dataclass(frozen=True)
class Tokens(Text):
    """A text as tokens of a trained model's own. A target is the token `ahead`: the next, or (0) the token itself.

    The second is for models that see all tokens. With `mask`, the token that hides others, they are asked for hidden ones
    alone, as they were in training (`masked`); without it nothing is hidden, and what they were trained for is not measured.
    """

    ahead: int = 1
    mask: int | None = None

    def windows(self, offsets) -> dict[str, jax.Array]:
        """The examples that begin there."""
        both = _windows(self.tokens, offsets, self.context)
        if self.ahead:
            return both
        if self.mask is None:
            return both | {"targets": both["inputs"]}
        keys = jax.vmap(lambda offset: at(root(0), "masked", offset))(jnp.asarray(offsets))
        others = jax.vmap(lambda key: whole_numbers(at(key, "other"), self.context, len(self.tokens)))(keys)
        return jax.vmap(masked, (0, 0, 0, None))(keys, both["inputs"], jnp.asarray(self.tokens[others]), self.mask)

    def description(self) -> dict:
        """What a result says of its data."""
        told = super().description()
        told["tokens"] = told.pop("bytes")
        hidden = "none masked" if self.mask is None else f"{HIDDEN:.0%} masked, by token {self.mask}"
        return told | {"targets": "the next token" if self.ahead else f"the token itself, {hidden}"}


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


def tokens(
    array,
    *,
    name: str,
    sha256: str,
    context: int = 64,
    batch: int = 8,
    ahead: int = 1,
    mask: int | None = None,
) -> Tokens:
    """A sequence of tokens, and how batches are cut from it.

    Errors: ValueError where it is shorter than 2 (context + 1), and for a `mask` where the next token is asked for.
    """
    if context < 2 or batch < 1:
        raise ValueError(f"context is {context} and batch {batch}: at least 2 and 1 are needed")
    if ahead and mask is not None:
        raise ValueError(
            f"mask is {mask}, but the next token is asked for: only a model that sees all (ahead=0) has one"
        )
    if len(array) < 2 * (context + 1):
        raise ValueError(
            f"{name} has {len(array)} tokens, fewer than 2 (context + 1) = {2 * (context + 1)}: "
            f"give a longer text or a smaller context"
        )
    return Tokens(name, np.asarray(array), sha256, context, batch, ahead, mask)


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
    rows = tokens[np.asarray(offsets)[:, None] + np.arange(context + 1)]
    return {"inputs": jnp.asarray(rows[:, :-1], jnp.int32), "targets": jnp.asarray(rows[:, 1:], jnp.int32)}


def text(path: str | Path | None = None, *, context: int = 64, batch: int = 8) -> Text:
    """The bytes of the file at `path`, or by default the language reference that CPython ships (`pydoc_data.topics`).

    The default differs a little between Python versions: its SHA-256 is recorded.

    Errors: OSError for a file that can't be read; ValueError for one that is empty or shorter than 2 (context + 1) bytes.
    """
    if context < 2:
        raise ValueError(f"context is {context}: at least 2 tokens are needed")
    if batch < 1:
        raise ValueError(f"batch is {batch}: at least 1 example is needed")
    name, content = ("pydoc_data.topics", _topics()) if path is None else (Path(path).name, _bytes(Path(path)))
    if not content:
        raise ValueError(f"{path} is empty: give a text of at least {2 * (context + 1)} bytes")
    if len(content) < 2 * (context + 1):
        least = f"2 (context + 1) = {2 * (context + 1)}"
        raise ValueError(
            f"{path} has {len(content)} bytes, fewer than {least}: give a longer text or a smaller context"
        )
    return Text(name, np.frombuffer(content, np.uint8), hashlib.sha256(content).hexdigest(), context, batch)


def _bytes(path: Path) -> bytes:
    try:
        held = path.stat()
        if not (stat.S_ISREG(held.st_mode) or stat.S_ISDIR(held.st_mode)):
            raise ValueError(f"{path} is no file with an end, but a device or a pipe: name a text file")
        size.refuse(str(path), "cut it", text=held.st_size)
        return path.read_bytes()
    except OSError as error:
        raise OSError(f"can't read the text {path} ({error.strerror}): name a file that can be read") from None


def _topics() -> bytes:
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics)).encode()
