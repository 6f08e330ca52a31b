"""Names of parameters without the number of their layer: one column for all layers."""

import re

SEPARATORS = "._/-"
NUMBER = re.compile(r"\d+(?![^\W_])")  # not the 2 of `conv2d`


def without_layers(names: list[str]) -> dict[str, str]:
    """Returns each name without the number of its layer: the leftmost number that tells it from others.

    >>> without_layers(["layers.2.up", "layers.10.up", "layers.2.w1"])
    {'layers.2.up': 'up', 'layers.10.up': 'up', 'layers.2.w1': 'w1'}
    >>> without_layers(["layers.2", "layers.10"])
    {'layers.2': 'layers', 'layers.10': 'layers'}
    >>> without_layers(["layers.0.up", "layers.0.w1"])
    {'layers.0.up': 'up', 'layers.0.w1': 'w1'}
    """
    numbers: dict[str, set[str]] = {}
    for name in names:
        for match in NUMBER.finditer(name):
            numbers.setdefault(name[: match.start()], set()).add(match[0])
    found = {}
    for name in names:
        found[name] = _without_layer(name, numbers)
    return found


def _without_layer(name: str, numbers: dict[str, set[str]]) -> str:
    """Returns what follows the first number of a name that tells it from others, or from none; what precedes one at the end."""
    for match in NUMBER.finditer(name):
        before, rest = name[: match.start()], name[match.end() :].lstrip(SEPARATORS)
        stands_alone = not before or before[-1] in SEPARATORS  # not the 1 of `w1`
        is_only_layer = match[0] == "0" and stands_alone
        if len(numbers[before]) == 1 and not is_only_layer:
            continue
        if rest:
            return rest
        if stands_alone:
            return before.rstrip(SEPARATORS) or "params"
    return name
