"""Text as the tokens of a trained model: by the tokenizer that lies in its folder, or from a file of numbers.

A tokenizer is asked for what a text is without marks of beginning and end.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

TOKENIZER, VOCABULARY = "tokenizer.json", "vocab.txt"
MASKS = ("[MASK]", "<mask>")


def of_text(folder: str | Path, content: bytes) -> np.ndarray:
    """The tokens [N] of a text by the tokenizer in a folder.

    Errors: ValueError for a folder without one; ImportError, which names the extra, without the library that reads it.
    """
    path = Path(folder) / TOKENIZER
    if not path.is_file():
        raise ValueError(f"{folder} has no {TOKENIZER}: give the tokens themselves (--tokens), a file of whole numbers")
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ImportError("reading a tokenizer needs tokenizers: pip install 'gradflow-jax[hf]'") from None
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{path} is not a tokenizer that can be read: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return np.array(tokenizer.encode(content.decode("utf-8", "replace"), add_special_tokens=False).ids, np.int64)


def mask(folder: str | Path) -> int | None:
    """The token that hides others in what a model of the folder reads; None where its tokenizer or vocabulary names none."""
    try:
        added = json.loads((Path(folder) / TOKENIZER).read_text("utf-8"))["added_tokens"]
        named = {token["content"]: int(token["id"]) for token in added}
    except (OSError, ValueError, TypeError, KeyError):
        try:
            lines = (Path(folder) / VOCABULARY).read_text("utf-8").splitlines()
        except (OSError, ValueError):
            return None
        named = {token: i for i, token in enumerate(lines)}
    return next((named[token] for token in MASKS if token in named), None)


def of_file(path: str | Path) -> np.ndarray:
    """The tokens [N] in a file: an array of whole numbers (.npy), or numbers between spaces, commas or line ends.

    Errors: ValueError for anything else, OSError for a file that can't be read.
    """
    path = Path(path)
    try:
        if path.suffix == ".npy":
            found = np.load(path, allow_pickle=False)
        else:
            found = np.array([int(word) for word in path.read_text("utf-8").replace(",", " ").split()], np.int64)
    except OSError as error:
        raise OSError(f"can't read the tokens {path} ({error.strerror}): name a file that can be read") from None
    except (ValueError, OverflowError, EOFError):
        raise ValueError(f"{path} holds no tokens: whole numbers, as text or as an array in a .npy file") from None
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise ValueError(
            f"{path} holds {found.dtype} numbers of shape {found.shape}: a line of whole numbers is expected"
        )
    return found.astype(np.int64)


def digest(tokens: np.ndarray) -> str:
    """The SHA-256 of tokens, as little-endian int64."""
    return hashlib.sha256(np.asarray(tokens, "<i8").tobytes()).hexdigest()
