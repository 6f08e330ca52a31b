"""Tokens as numbers in a file."""

import hashlib
from pathlib import Path

import numpy as np

from ..results.files import printable, regular
from ..training.data import sequence


def of_file(path: str | Path) -> np.ndarray:
    """Returns the tokens [N] in a file: an array of whole numbers (.npy), or numbers between spaces, commas or line ends.

    Errors: ValueError for anything else, OSError for a file that can't be read.
    """
    path, name = regular(path), printable(path)
    try:
        found = _array(path)
    except OSError as error:
        raise OSError(f"can't read the tokens {name} ({error.strerror}): name a file that can be read") from None
    except (ValueError, OverflowError, EOFError, SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"{name} holds no tokens: whole numbers, as text or as an array in a .npy file") from None
    if not found.size:
        raise ValueError(f"{name} is empty: whole numbers are expected")
    return sequence(found, name)


def _array(path: Path) -> np.ndarray:
    """Returns the numbers, whatever they are; a promise of more than the file has is not kept."""
    if path.suffix == ".npy":
        return np.lib.format.open_memmap(path, mode="r")
    words = path.read_bytes().decode("utf-8-sig").replace(",", " ").split()
    return np.array([int(word) for word in words], np.int64)


def digest(tokens: np.ndarray) -> str:
    """Returns the SHA-256 of tokens, as little-endian int64."""
    return hashlib.sha256(np.asarray(tokens, "<i8").tobytes()).hexdigest()
