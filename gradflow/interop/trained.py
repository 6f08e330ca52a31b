"""A trained model, the text that it reads, and what is measured of it: what `gradflow inspect` puts together.

What is impossible is refused before weights are read: arguments, then the text, then config.json and the headers of the files,
then the tokens.
"""

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
from ..instruments.readings import Reading
from ..instruments.readings import readings as functions
from ..model.branches.attention import Attention
from ..model.parameters.names import parameter_count
from ..model.stacks.embedding_readout import Readout
from ..model.stacks.transformer import Transformer
from ..programs.measurement import measure
from ..results.arguments import shown, whole
from ..results.configuration import dumps, encode
from ..results.description import describe
from ..results.files import printable
from ..training import corpus, data
from . import tokenizer
from .pretrained import Saved, gguf_tokenizer, saved
from .tokenizer import MASKS, TOKENIZER, Cut, Marks, by_rule, to_text
from .tokens import digest, of_file

AUTO, NOTHING = "auto", "none"


@dataclass(frozen=True)
class Trained:
    """A trained model, the text that it reads, what is read of it, and what all this was made of.

    `params` are its weights; None before they are read from its files (`with_weights`).
    """

    name: str
    model: Transformer
    files: Saved
    text: data.Tokens
    quantities: tuple[Reading, ...]
    sources: dict
    params: Any = None

    def with_weights(self) -> "Trained":
        """Returns the same with its weights. What is not finite in them raises a warning."""
        return replace(self, params=self.files.params())

    def measured(self) -> xr.DataTree:
        """Returns what `measure` does, for one seed."""
        one_seed = jax.tree.map(lambda leaf: leaf[None], self.params)
        tree = measure({self.name: self.model}, self.text, params={self.name: one_seed}, quantities=self.quantities)
        tree.attrs["checkpoint"] = dumps(self.sources)
        return tree

    def to_text(self) -> list[str]:
        """Returns lines about the model and its text: each placement with its equation, the sizes, and the text."""
        description = describe(encode(self.model), parameter_count(self.model.shapes))
        lines = []
        for wiring in description["wirings"]:
            placement = f"placement {wiring['name']}, {wiring['equation']}"
            lines.append(f"{self.name}: {placement}; Jacobian of a sublayer {wiring['jacobian']}")
        norm = description["texts"]["norm"].replace("none", "no norm")
        blocks = f"{description['blocks']} blocks of {description['branches']}"
        sizes = f"width {description['width']}, vocabulary {description['vocabulary']}"
        lines.append(f"  {blocks}; {norm}; {sizes}, {description['parameters']:,} parameters")
        lines.append(f"  {'; '.join([self.text.name, *self.text.notes])}")
        return lines


def opened(folder: str | Path, **options) -> Trained:
    """Returns a trained model with its weights, from its folder, and its text; `options` as for `found`."""
    return found(folder, **options).with_weights()


def found(
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
    """Returns a trained model from its folder, and its text, before its weights are read.

    Parameters
    ----------
    folder : as for `checkpoint`, and, where a text is to be cut, tokenizer.json; a GGUF file has its own, or that beside it
    text, tokens : a file of text, or one of whole numbers; by default the text that CPython ships
    context, batch : tokens of an example, its marks among them, and examples
    readings : names, as for `measure`; by default what is quick
    mask : the token that hides what a model that sees all tokens is asked for; by default the one that the folder names
    begin : what is put in front of every example: "auto", what the tokenizer puts around a text, "none", or a token
    tied : read the logits by the token table, whatever head the files have
    precision : as for `checkpoint`

    Errors: ValueError, ImportError and OSError, one line or a list. What a reader should know is said in warnings.
    """
    asked = functions(readings)
    context, batch = whole("context", context, 2), whole("batch", batch)
    first, source = start(begin), read(text, tokens)
    files = saved(folder, readout=Readout() if tied else None, precision=precision)
    model = _of_one_text(files)
    causal, known = _fits(files, model, context)
    if mask is not None:
        mask = _known("mask", whole("mask", mask, 0), known)
    unknown = first == AUTO or (mask is None and not causal)
    with tokenizer.room(files.folder) as room:
        ids, from_tokenizer = cut(room, source, unknown, files.folder)
        settings = tokenizer.beginning(room)
    _within(source.name, ids, known)
    marks = marked(files, from_tokenizer, settings, first, causal)
    for name, around in (("begin", marks.begin), ("end", marks.end)):
        for token in around:
            _known(name, token, known)
    if not causal:
        mask = hidden_by(from_tokenizer, mask, known)
    sequence = data.tokens(
        ids,
        name=source.name,
        sha256=source.sha256,
        context=context,
        batch=batch,
        ahead=int(causal),
        mask=mask,
        begin=marks.begin,
        end=marks.end,
        notes=(*source.notes, marks.note),
    )
    sources = {
        "config_sha256": files.config_sum(),
        "weights_sha256": files.sums(),
        "weights_licence": files.licence(),
        "text_sha256": source.sha256,
        "tokens_sha256": digest(ids),
        "marks": {"begin": list(marks.begin), "end": list(marks.end)},
    }
    name, chosen = files.folder.resolve().name, quantities(asked, model)
    return Trained(name, model, files, sequence, chosen, sources)


# ---- what it reads ------------------------------------------------------------------------------------------


class Source(NamedTuple):
    """A text, or tokens, as they lie in a file: of both one is there."""

    name: str
    sha256: str
    text: str | None
    ids: np.ndarray | None
    notes: tuple[str, ...]


def read(text, tokens) -> Source:
    """Returns the text or the tokens that are asked for. What was replaced in a text is said in a warning."""
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


def cut(folder: Path, source: Source, unknown: bool, model: Path) -> tuple[np.ndarray, Cut]:
    """Returns the tokens of what is read, and what the folder's tokenizer says, if a text or something unknown needs it."""
    nothing = np.empty(0, np.int64)
    there = os.path.lexists(folder / TOKENIZER)  # a link to nothing is not the same as nothing
    if source.ids is not None:
        if not unknown:
            return source.ids, Cut(nothing)
        if there:
            return source.ids, _asked(folder, "")
        return source.ids, tokenizer.by_vocabulary(folder)
    if not there:
        lacks = f"{printable(model)} has no {TOKENIZER}"
        if model.is_file():
            lacks += f" beside it, and none inside that is read ({', '.join(gguf_tokenizer.SPLITS)})"
        raise ValueError(f"{lacks}: give the tokens themselves (--tokens), a file of whole numbers")
    found = _asked(folder, source.text or "")
    return found.ids, found


def _asked(folder: Path, text: str) -> Cut:
    """Returns what the tokenizer says of a text, of the tokens that hide, and of the one that its settings have in front."""
    names = list(MASKS)
    _, word = tokenizer.beginning(folder)
    if word is not None:
        names.append(word)
    return tokenizer.cut(folder, text, names)


def start(begin: str | int) -> str | int:
    """Returns what is put in front of every example: `AUTO`, `NOTHING`, or a token's number."""
    if not isinstance(begin, str):
        return whole("begin", begin, 0)
    if begin in (AUTO, NOTHING):
        return begin
    if not (begin.isascii() and begin.isdigit() and len(begin) < 20):
        raise ValueError(f"begin is {shown(begin)}: {AUTO}, {NOTHING} or the number of a token is expected")
    return int(begin)


def marked(files: Saved, from_tokenizer: Cut, settings: tuple, first: str | int, causal: bool) -> Marks:
    """Returns what every example has in front and behind; `settings` are what `tokenizer.beginning` found."""
    if isinstance(first, int):
        return Marks((first,), (), f"{to_text((first,), (), {})}, as asked for")
    if first == NOTHING:
        return Marks(note=f"{Marks.note}, as asked for")
    if causal:
        from_tokenizer = replace(from_tokenizer, end=())  # an example ends within a text
    marks = by_rule(from_tokenizer, *settings)
    named, known = files.config.values.get("bos_token_id"), files.model.embedding.vocabulary
    if marks.begin or type(named) is not int or not 0 <= named < known:
        return marks
    return replace(marks, note=f"{marks.note}; config.json names {named} as a beginning: --begin {named} puts it there")


def hidden_by(from_tokenizer: Cut, mask: int | None, known: int) -> int | None:
    """Returns the token that hides others, one of `known`; without one a warning says that nothing is hidden."""
    if mask is None:
        mask = from_tokenizer.mask
    if mask is None:
        warnings.warn(
            "this model sees all tokens, and nothing is masked: --mask names the token that hides", stacklevel=3
        )
        return None
    return _known("mask", mask, known)


def _of_one_text(files: Saved) -> Transformer:
    """Returns the model; refuses one of a source and a target."""
    if isinstance(files.model, Transformer):
        return files.model
    raise ValueError(
        f"{printable(files.folder)} reads a source and a target, not one text: in Python, gf.checkpoint(folder) and "
        f"gf.measure(model, {{'inputs': {{'source': …, 'target': …}}, 'targets': …}}, params=…)"
    )


def _fits(files: Saved, model: Transformer, context: int) -> tuple[bool, int]:
    """Returns whether the model sees the past alone, and how many tokens it knows; refuses a context that it has not learned."""
    learned = model.embedding.context
    if learned and context > learned:
        raise ValueError(f"context is {context}: the model has learned {learned} positions")
    if context > files.context:
        warnings.warn(f"context is {context}: the model is meant for {files.context} tokens", stacklevel=3)
    attention = [sub.branch for sub in model.sublayers if isinstance(sub.branch, Attention)]
    causal = all(branch.causal for branch in attention)
    return causal, model.embedding.vocabulary


def _known(name: str, token: int, known: int) -> int:
    """Returns the token; refuses one that the model does not know."""
    if token >= known:
        raise ValueError(f"{name} is {shown(token)}: the model knows tokens 0 to {known - 1}")
    return token


def _within(name: str, ids: np.ndarray, known: int) -> None:
    """Refuses tokens that the model does not know."""
    if len(ids) and not 0 <= ids.min() <= ids.max() < known:
        raise ValueError(f"{name} has tokens from {ids.min()} to {ids.max()}: the model knows 0 to {known - 1}")


# ---- what is read of it -------------------------------------------------------------------------------------


def quantities(asked: tuple[Reading, ...], model: Transformer) -> tuple[Reading, ...]:
    """Returns the reading functions; where none is asked for the default ones, of which a warning says what was left out."""
    if asked:
        return asked
    quick = ("backward", "attention", "activations", "partial_jacobian")
    if model.width <= DENSE:
        return functions((*quick, "spectrum_window"))
    warnings.warn(f"spectra are left out at width {model.width}: --readings spectrum_window has them", stacklevel=3)
    return functions(quick)
