"""A trained model, the text that it reads, and what is measured of it: what `gradflow inspect` puts together.

What is impossible is refused before weights are read: arguments, then the text, then config.json and the headers of the files,
then the tokens.
"""

import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from ..instruments.jacobians.spectrum import DENSE
from ..instruments.measurement import measure
from ..instruments.readings import Reading
from ..instruments.readings import readings as functions
from ..model.branches.branch import Attention
from ..model.stacks.embedding_readout import Readout
from ..model.stacks.transformer import Transformer
from ..results.arguments import shown, whole
from ..results.configuration import dumps, encode
from ..results.description import describe
from ..results.files import printable
from ..training import corpus, data
from . import tokenizer
from .pretrained import Saved, saved
from .tokenizer import MASKS, TOKENIZER, Cut, Marks, by_rule, to_text
from .tokens import digest, of_file

AUTO, NOTHING = "auto", "none"


@dataclass(frozen=True)
class Trained:
    """A trained model with its weights, the text that it reads, what is read of it, and what all this was made of."""

    name: str
    model: Transformer
    params: Any
    text: data.Tokens
    quantities: tuple[Reading, ...]
    sources: dict

    def measured(self) -> xr.DataTree:
        """What `measure` returns, one seed."""
        given = jax.tree.map(lambda a: a[None], self.params)
        tree = measure({self.name: self.model}, self.text, params={self.name: given}, quantities=self.quantities)
        tree.attrs["checkpoint"] = dumps(self.sources)
        return tree

    def to_text(self) -> list[str]:
        """Returns lines about the model and its text: each placement with its equation, the sizes, and the text."""
        description = describe(encode(self.model))
        lines = []
        for wiring in description["wirings"]:
            placement = f"placement {wiring['name']}, {wiring['equation']}"
            lines.append(f"{self.name}: {placement}; Jacobian of a sublayer {wiring['jacobian']}")
        norm = description["texts"]["norm"].replace("none", "no norm")
        blocks = f"{description['blocks']} blocks of {description['branches']}"
        lines.append(f"  {blocks}; {norm}; width {description['width']}, vocabulary {description['vocabulary']}")
        lines.append(f"  {'; '.join([self.text.name, *self.text.notes])}")
        return lines


def opened(
    folder: str | Path,
    *,
    text: str | Path | None = None,
    tokens: str | Path | None = None,
    context: int = 64,
    batch: int = 8,
    readings: Sequence[str] = (),
    mask: int | None = None,
    begin: str | int = AUTO,
    tied: bool = False,
    precision: str | None = None,
) -> Trained:
    """A trained model from its folder, and its text.

    Parameters
    ----------
    folder : as for `checkpoint`, and, where a text is to be cut, tokenizer.json
    text, tokens : a file of text, or one of whole numbers; by default the text that CPython ships
    context, batch : tokens of an example, its marks among them, and examples
    readings : names, as for `measure`; by default what is quick
    mask : the token that hides what a model that sees all tokens is asked for; by default the one that the folder names
    begin : what is put in front of every example: "auto", what the tokenizer puts around a text, "none", or a token
    tied : read the logits by the token table, whatever head the files have
    precision : as for `checkpoint`

    Errors: ValueError, ImportError and OSError, one line or a list. What a reader should know is said in warnings.
    """
    asked, context, batch = functions(readings), whole("context", context, 2), whole("batch", batch)
    first, source = start(begin), read(text, tokens)
    own = saved(folder, readout=Readout() if tied else None, precision=precision)
    causal, known = _fits(own, context)
    hides = mask if mask is None else _known("mask", whole("mask", mask, 0), known)
    unknown = first == AUTO or (hides is None and not causal)
    ids, found = cut(own.folder, source, unknown)
    _within(source.name, ids, known)
    marks = marked(own, found, first, causal)
    for name, several in (("begin", marks.begin), ("end", marks.end)):
        for token in several:
            _known(name, token, known)
    sequence = data.tokens(
        ids,
        name=source.name,
        sha256=source.sha256,
        context=context,
        batch=batch,
        ahead=int(causal),
        mask=hides if causal else hidden_by(found, hides, known),
        begin=marks.begin,
        end=marks.end,
        notes=(*source.notes, marks.note),
    )
    sources = {
        "config_sha256": hashlib.sha256((own.folder / "config.json").read_bytes()).hexdigest(),
        "weights_sha256": own.sums(),
        "text_sha256": source.sha256,
        "tokens_sha256": digest(ids),
        "marks": {"begin": list(marks.begin), "end": list(marks.end)},
    }
    return Trained(own.folder.resolve().name, own.model, own.params(), sequence, quantities(asked, own.model), sources)


# ---- what it reads ------------------------------------------------------------------------------------------


class Source(NamedTuple):
    """A text, or tokens, as they lie in a file: of both one is there."""

    name: str
    sha256: str
    text: str | None
    ids: np.ndarray | None
    notes: tuple[str, ...]


def read(text, tokens) -> Source:
    """The text or the tokens that are asked for. What was replaced in a text is said in a warning."""
    if text and tokens:
        raise ValueError("a text and tokens: give one of them")
    if tokens:
        ids = of_file(tokens)
        return Source(printable(Path(tokens).name), digest(ids), None, ids, ())
    name, content, sha256, notes = corpus.read(text)
    words, more = tokenizer.decoded(content, name)
    for note in more:
        warnings.warn(f"{name}: {note}", stacklevel=3)
    return Source(name, sha256, words, None, (*notes, *more))


def cut(folder: Path, source: Source, unknown: bool) -> tuple[np.ndarray, Cut]:
    """The tokens of what is read, and what the folder's tokenizer says; it is asked for a text, or where something is unknown."""
    nothing = np.empty(0, np.int64)
    there = os.path.lexists(folder / TOKENIZER)  # a link to nothing is not the same as nothing
    if source.ids is not None:
        if not unknown:
            return source.ids, Cut(nothing)
        return source.ids, _asked(folder, "") if there else tokenizer.by_vocabulary(folder)
    if not there:
        raise ValueError(
            f"{printable(folder)} has no {TOKENIZER}: give the tokens themselves (--tokens), a file of whole numbers"
        )
    found = _asked(folder, source.text or "")
    return found.ids, found


def _asked(folder: Path, text: str) -> Cut:
    """What the tokenizer says of a text, of the tokens that hide, and of the one that its settings have in front."""
    _, word = tokenizer.beginning(folder)
    return tokenizer.cut(folder, text, [*MASKS, *([] if word is None else [word])])


def start(begin: str | int) -> str | int:
    """What is put in front of every example: `AUTO`, `NOTHING`, or a token's number."""
    if isinstance(begin, str) and begin not in (AUTO, NOTHING):
        if not (begin.isascii() and begin.isdigit() and len(begin) < 20):
            raise ValueError(f"begin is {shown(begin)}: {AUTO}, {NOTHING} or the number of a token is expected")
        return int(begin)
    return begin if isinstance(begin, str) else whole("begin", begin, 0)


def marked(own: Saved, found: Cut, first: str | int, causal: bool) -> Marks:
    """What every example has in front and behind."""
    if isinstance(first, int):
        return Marks((first,), (), f"{to_text((first,), (), {})}, as asked for")
    if first == NOTHING:
        return Marks(note=f"{Marks.note}, as asked for")
    found = replace(found, end=()) if causal else found  # an example ends within a text
    marks = by_rule(found, *tokenizer.beginning(own.folder))
    named, known = own.config.values.get("bos_token_id"), own.model.embedding.vocabulary
    if marks.begin or type(named) is not int or not 0 <= named < known:
        return marks
    return replace(marks, note=f"{marks.note}; config.json names {named} as a beginning: --begin {named} puts it there")


def hidden_by(found: Cut, mask: int | None, known: int) -> int | None:
    """The token that hides others, one of `known`; without one a warning says that nothing is hidden."""
    mask = found.mask if mask is None else mask
    if mask is None:
        warnings.warn(
            "this model sees all tokens, and nothing is masked: --mask names the token that hides", stacklevel=3
        )
        return None
    return _known("mask", mask, known)


def _fits(own: Saved, context: int) -> tuple[bool, int]:
    """Whether the model sees the past alone, and how many tokens it knows; a context that it has not learned is refused."""
    learned = own.model.embedding.context
    if learned and context > learned:
        raise ValueError(f"context is {context}: the model has learned {learned} positions")
    if context > own.context:
        warnings.warn(f"context is {context}: the model is meant for {own.context} tokens", stacklevel=3)
    branches = [sub.branch for sub in own.model.sublayers]
    causal = all(branch.causal for branch in branches if isinstance(branch, Attention))
    return causal, own.model.embedding.vocabulary


def _known(name: str, token: int, known: int) -> int:
    """The token, where it is one of the model's."""
    if token >= known:
        raise ValueError(f"{name} is {shown(token)}: the model knows tokens 0 to {known - 1}")
    return token


def _within(name: str, ids: np.ndarray, known: int) -> None:
    """Whether the model knows all these tokens."""
    if len(ids) and not 0 <= ids.min() <= ids.max() < known:
        raise ValueError(f"{name} has tokens from {ids.min()} to {ids.max()}: the model knows 0 to {known - 1}")


# ---- what is read of it -------------------------------------------------------------------------------------


def quantities(asked: tuple[Reading, ...], model: Transformer) -> tuple[Reading, ...]:
    """The reading functions; where none is asked for the default ones, of which a warning says what was left out."""
    if asked:
        return asked
    if model.width <= DENSE:
        return functions(("backward", "partial_jacobian", "spectrum_window"))
    warnings.warn(f"spectra are left out at width {model.width}: --readings spectrum_window has them", stacklevel=3)
    return functions(("backward", "partial_jacobian"))
