"""Coordinates of a trunk's readings: sublayers with their line of the user's code and their layer; names of parameters."""

from collections import Counter

import numpy as np

from .parameters import columns, outer_leaves, owned
from .positions import in_depth_order
from .trunk import Trunk


def coordinates(trunk: Trunk, names: list[str]) -> dict:
    """Returns the coordinates of a trunk's readings; `names` are those of all parameters."""
    size = trunk.sublayers
    own = owned(trunk, len(names))
    return {
        "depth": np.arange(size + 1),
        "sublayer": np.arange(1, size + 1),
        "kind": ("sublayer", lines(trunk)),
        "layer": ("sublayer", layers_of(trunk)),
        "relative_depth": ("sublayer", np.arange(1, size + 1) / size),
        "parameter": ("parameter", list(dict.fromkeys(columns(own, names).values()))),
        "outer": ("outer", [names[leaf] for leaf in outer_leaves(own, len(names))]),
    }


def lines(trunk: Trunk) -> list[str]:
    """Returns the line [S] of the residual sum of every sublayer."""
    numbers = []
    for number, place in enumerate(trunk.places):
        numbers.append(np.full(place.repeats, number))
    return [str(trunk.places[number].fork.line) for number in in_depth_order(trunk, numbers, np)]


def layers_of(trunk: Trunk) -> np.ndarray:
    """Returns the layer [S] of every sublayer from 1: how often its line has come up to there."""
    seen: Counter = Counter()
    found = []
    for line in lines(trunk):
        seen[line] += 1
        found.append(seen[line])
    return np.array(found)
