"""What a result says of how it was made, turned back into models, keys, seeds and readings."""

import json
from collections.abc import Mapping
from typing import Any

from ..instruments.backward.updates import UPDATES
from ..instruments.readings import READINGS
from ..results.configuration import decode
from ..training.atlas import ends

KNOWN = {**READINGS, **UPDATES, "ends": ends}


def model(node) -> Any:
    """Returns the model of a node, built from its description alone; a side of an encoder-decoder is a model of its own.

    Errors: ValueError, one line, for a program, and for a model that a function of the author's is a part of.
    """
    configuration = json.loads(node.attrs.get("configuration", "null"))
    if not isinstance(configuration, dict) or "type" not in configuration:
        raise ValueError("it is a program of the author's, whose code is not in the bundle")
    return decode(configuration)


def key(recorded: Mapping[str, Any]) -> int:
    """Returns the integer that all draws came from."""
    text = str(recorded.get("key"))
    if not text.isdecimal():
        raise ValueError(f"its key is {text}, which is no whole number")
    return int(text)


def seeds(node) -> int:
    """Returns how many seeds a result has.

    Errors: ValueError where some were left out of it: how many there were is not known.
    """
    labels = node["seed"].values.tolist()
    if labels != list(range(len(labels))):
        raise ValueError(f"its seeds are {labels}, a choice of those that were made")
    return len(labels)


def readings(names: list[str]) -> tuple:
    """Returns reading functions by name."""
    missing = [name for name in names if name not in KNOWN]
    if missing:
        raise ValueError(f"its reading {missing[0]} is a function of the author's, whose code is not in the bundle")
    return tuple(KNOWN[name] for name in names)
