"""One name, one file: what a model, a figure or a part of a run is called on disk."""

import hashlib
import re

_PLAIN = re.compile(r"\w(?:[\w.-]{0,78}[\w-])?", re.ASCII)


def stem(name: str) -> str:
    """The file name, without an ending, that stands for `name` in every file system; different names have different ones.

    Letters, digits, `_`, `-` and inner dots stay as they are; of any other name a readable part and eight digits of its SHA-256.
    An ending is put behind it by `+`, not by `Path.with_suffix`, which takes what follows the last dot for one.

    >>> stem("Llama-3.2-1B"), stem("x/y")
    ('Llama-3.2-1B', 'x-y-bd3c9047')
    """
    if _PLAIN.fullmatch(name):
        return name
    readable = re.sub(r"[^\w-]+", "-", name, flags=re.ASCII).strip("-")[:60]
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("-")
