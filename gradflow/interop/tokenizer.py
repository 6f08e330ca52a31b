"""What the tokenizer in a folder makes of a text, and what it puts around one; asked in a process of its own (`cutter`).

The marks around a text, its beginning and its end, are asked for apart: a text is cut into many examples, and each of them should
begin as the texts did that the model was trained on. The rule is that of tokenizer.json, or, where that has none, of
tokenizer_config.json (`add_bos_token`), or of BERT's vocabulary.
"""

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..results.arguments import shown
from ..results.files import printable, regular
from .pretrained import gguf_tokenizer
from .pretrained.files import json_of, plain

TOKENIZER, SETTINGS, VOCABULARY = "tokenizer.json", "tokenizer_config.json", "vocab.txt"
MASKS = ("[MASK]", "<mask>")
BERT = ("[CLS]", "[SEP]")
LARGEST = 2**28  # bytes of a file; the longest tokenizer.json that is known has an eighth of it
SECONDS, SPEED = 60, 50_000  # what a tokenizer may take: so long, and a second more for so many bytes
MEMORY, EACH = 2**32, 200  # so many bytes, and so many more for each byte that it reads
UTF = {BOM_UTF32_LE: "UTF-32", BOM_UTF32_BE: "UTF-32", BOM_UTF16_LE: "UTF-16", BOM_UTF16_BE: "UTF-16"}  # longest first
BROKEN = re.compile("[\udc80-\udcff]")  # what stands for a byte that is not UTF-8


@dataclass(frozen=True)
class Marks:
    """The tokens in front of every example, and those behind it, with a note that says so, and by which rule."""

    begin: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    note: str = "nothing is put around an example"


@dataclass(frozen=True)
class Cut:
    """What a tokenizer says: the tokens of a text [N], those in front of one and behind it, their words, others by name."""

    ids: np.ndarray
    begin: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    words: Mapping[int, str] = field(default_factory=dict)
    known: Mapping[str, int] = field(default_factory=dict)

    @property
    def mask(self) -> int | None:
        """The token that hides others; None where none is named."""
        for name in MASKS:
            if name in self.known:
                return self.known[name]
        return None


def decoded(content: bytes, name: str) -> tuple[str, list[str]]:
    """Returns the text, and a note where some of its bytes are not UTF-8: these are replaced.

    Errors: ValueError for a text that says itself that it is something else.
    """
    for mark, encoding in UTF.items():
        if content.startswith(mark):
            raise ValueError(f"{name} begins with the byte-order mark of {encoding}: give a text in UTF-8")
    notes = []
    broken = len(BROKEN.findall(content.decode("utf-8", "surrogateescape")))
    if broken:
        notes.append(f"{broken} of its {len(content)} bytes are not UTF-8, and are replaced")
    return content.decode("utf-8", "replace"), notes


@contextmanager
def room(place: Path) -> Iterator[Path]:
    """Yields the folder with the tokenizer of a folder, or of a GGUF file: one that has it in its metadata, or the file's own."""
    said = gguf_tokenizer.tokenizer(place) if place.is_file() else None
    if said is None:
        yield place.parent if place.is_file() else place
        return
    with tempfile.TemporaryDirectory() as made:
        named = Path(made) / place.name  # as a message will have it
        named.mkdir()
        (named / TOKENIZER).write_text(json.dumps(said), encoding="utf-8")
        yield named


def cut(folder: Path, text: str = "", names: Sequence[str] = MASKS) -> Cut:
    """Returns what the tokenizer in a folder makes of a text, and which tokens have these names.

    Errors: ValueError for a tokenizer that does not work; ImportError, which names the extra, without the library that reads it.
    """
    path, content = folder / TOKENIZER, text.encode("utf-8")
    if importlib.util.find_spec("tokenizers") is None:
        raise ImportError("reading a tokenizer needs tokenizers: pip install 'gradflow-jax[hf]'")
    title = f"{TOKENIZER} of {printable(folder)}"
    size = regular(path).stat().st_size
    if size > LARGEST:
        raise ValueError(f"{title} has {size} bytes: at most {LARGEST} are read")
    asked = {"path": str(path.resolve()), "names": list(names), "memory": MEMORY + EACH * (size + len(content))}
    seconds = SECONDS + (size + len(content)) / SPEED
    program = [sys.executable, "-P", str(Path(__file__).with_name("cutter.py"))]
    try:
        done = subprocess.run(
            program, input=json.dumps(asked).encode() + b"\n" + content, capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"{title} does not come to an end: it was stopped after {seconds:.0f} s") from None
    if done.returncode:
        why = f"it ended with {done.returncode}"
        if done.returncode == 3:
            why = done.stdout.decode("utf-8", "replace")
        raise ValueError(f"{title} is not a tokenizer that can be read: {plain(why)}")
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as arrays:
        begin, end = tuple(arrays["begin"].tolist()), tuple(arrays["end"].tolist())
        words = dict(zip((*begin, *end), map(str, arrays["words"]), strict=True))
        known = {}
        for name, token in zip(names, arrays["known"].tolist(), strict=True):
            if token >= 0:
                known[name] = token
        return Cut(arrays["ids"], begin, end, words, known)


def by_vocabulary(folder: Path) -> Cut:
    """Returns what BERT's vocabulary, one token a line, says of marks and of the token that hides; nothing without one."""
    nothing = Cut(np.empty(0, np.int64))
    if not os.path.lexists(folder / VOCABULARY):
        return nothing
    try:
        lines = regular(folder / VOCABULARY).read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{VOCABULARY} of {printable(folder)} is not UTF-8: a token a line is expected") from None
    known = {token.rstrip("\r"): i for i, token in enumerate(lines)}
    if not known.keys() >= set(BERT):
        return Cut(nothing.ids, known=known)
    first, last = map(known.__getitem__, BERT)
    return Cut(nothing.ids, (first,), (last,), dict(zip((first, last), BERT, strict=True)), known)


def beginning(folder: Path) -> tuple[bool | None, str | None]:
    """Returns `add_bos_token` of a folder's tokenizer_config.json and the name of that token; None where it doesn't say."""
    if not os.path.lexists(folder / SETTINGS):
        return None, None
    settings = json_of(folder / SETTINGS)
    asked, word = settings.get("add_bos_token"), settings.get("bos_token")
    if isinstance(word, dict):
        word = word.get("content")
    if not isinstance(asked, bool | None):
        raise ValueError(
            f"{SETTINGS} of {printable(folder)}: add_bos_token is {shown(asked)}; true or false is expected"
        )
    return asked, word if isinstance(word, str) else None


def by_rule(found: Cut, asked: bool | None, word: str | None) -> Marks:
    """Returns the marks, by what the tokenizer says and by what its settings say (`beginning`)."""
    if found.begin or found.end:
        note = f"{to_text(found.begin, found.end, found.words)}, the tokenizer's rule"
        if asked is False and found.begin:
            note += f", though {SETTINGS} has add_bos_token false"
        return Marks(found.begin, found.end, note)
    if not asked:
        return Marks()
    if word is None or word not in found.known:
        raise ValueError(
            f"{SETTINGS} has add_bos_token, but bos_token {shown(word)} is no token here: --begin names its number"
        )
    begin = (found.known[word],)
    return Marks(begin, (), f"{to_text(begin, (), {begin[0]: word})}, as {SETTINGS} has add_bos_token")


def to_text(begin: Sequence[int], end: Sequence[int], words: Mapping[int, str]) -> str:
    """Returns the marks as text."""
    parts = []
    if begin:
        parts.append(f"begin with {_named(begin, words)}")
    if end:
        parts.append(f"end with {_named(end, words)}")
    return f"examples {' and '.join(parts)}"


def _named(tokens: Sequence[int], words: Mapping[int, str]) -> str:
    """Returns the tokens as text, each with its word where it has one."""
    parts = []
    for token in tokens:
        parts.append(f"{token}")
        if words.get(token):
            parts.append(plain(words[token]))
    return " ".join(parts)
