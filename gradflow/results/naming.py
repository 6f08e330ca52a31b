"""Names of models, and the file names that stand for them on disk."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .arguments import shown

MOST = 200  # characters of a name
TAKEN = ("seed", "step", "recipe")  # coordinates that stand at the root, beside the models
_DEVICES = r"(?!(?i:con|prn|aux|nul|com\d|lpt\d)(?:\.|$))"  # which Windows takes for something else
_PLAIN = re.compile(_DEVICES + r"\w(?:[\w.-]{0,78}[\w-])?", re.ASCII)


def stem(name: str) -> str:
    """Returns the file name, without an ending, that stands for `name` in every file system; different names have different ones.

    Letters, digits, `_`, `-` and inner dots stay as they are; of any other name a readable part and eight digits of its SHA-256.
    An ending is put behind it by `+`, not by `Path.with_suffix`, which takes what follows the last dot for one.

    >>> stem("Llama-3.2-1B"), stem("x/y")
    ('Llama-3.2-1B', 'x-y-bd3c9047')
    """
    if _PLAIN.fullmatch(name):
        return name
    readable = re.sub(r"[^\w-]+", "-", name, flags=re.ASCII).strip("-")[:60]
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("-")


def check_names(models: Any, taken: Iterable[str] = TAKEN) -> None:
    """Raises for names of models that a result can't carry: they become nodes of a tree, where `/` leads to an inner node.

    Errors: TypeError for what is no mapping; ValueError for an empty one, for a name that is no printable text or begins with a
    coordinate in `taken`, and where one lies inside another.
    """
    if not isinstance(models, Mapping):
        raise TypeError(f"the models are {shown(models)}: {{name: model}} is expected")
    if not models:
        raise ValueError("no model is given: {name: model} is expected, one at least")
    for name in models:
        _check_name(name, taken)
    lower_case: dict[str, str] = {}
    for name in models:
        other = lower_case.setdefault(name.lower(), name)
        if other != name:
            raise ValueError(
                f"{shown(other)} and {shown(name)} differ in case alone, and would share files: rename one"
            )
    for name in models:
        for other in models:
            if other.startswith(f"{name}/"):
                raise ValueError(
                    f"{shown(other)} lies inside {shown(name)}, and both are models: give them names side by side"
                )


def _check_name(name: Any, taken: Iterable[str]) -> None:
    """Raises where one name can't be a node of a tree, or is that of a coordinate."""
    parts = name.split("/") if isinstance(name, str) else [""]
    if parts[0] in taken:
        raise ValueError(f"a model is named {shown(name)}, as a coordinate of results is: give it another name")
    if not all(part.strip(". ") for part in parts) or not name.isprintable() or len(name) > MOST:
        raise ValueError(
            f"a model is named {shown(name)}: a text of 1 to {MOST} printable characters is needed, "
            f"with names on both sides of a '/'"
        )
