"""Names: of parameters, in the field's words, and of the places of a stack, as the coordinates of its readings.

Parameters may be any pytree: gradflow's own, nested dicts, dataclasses, named tuples, modules of Flax or Equinox. Names within
one tree are different, always.
"""

from collections.abc import Callable

import jax
import numpy as np

from ...results.arguments import shown


def named(tree) -> dict:
    """Returns `{name: leaf}`: `query`, `down.bias`, `norm_in.scale`.

    In the field's words; where these give two leaves one name, the words of the full path, joined by dots; and where a key has
    a dot in it, so that these do too, the path as Python writes it.

    >>> named({"branch": {"down": {"kernel": 1}}, "norm_in": {"scale": 2}})
    {'down': 1, 'norm_in.scale': 2}
    >>> named({"branch": {"down": 1}, "down": 2})
    {'branch.down': 1, 'down': 2}
    """
    places = jax.tree_util.tree_leaves_with_path(tree)
    names: list[str] = []
    for form in (name, _dotted, jax.tree_util.keystr):
        names = [form(path) for path, _ in places]
        if len(set(names)) == len(names):
            return dict(zip(names, jax.tree.leaves(tree), strict=True))
    twice = next(one for one in names if names.count(one) > 1)
    raise ValueError(f"two parameters have the path {twice}: give the keys of the tree different names")


def name(path) -> str:
    """Returns the field's name of a leaf at a path of JAX's."""
    if path and path[-1] == jax.tree_util.GetAttrKey("value"):  # of a Flax variable
        path = path[:-1]
    words = _dotted(path).removeprefix("branch.").removeprefix("embedding.")
    return words.removesuffix(".kernel").removesuffix(".embedding") or "params"


def _dotted(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def parameter_names(stack, params) -> list[str]:
    """Returns the names of the parameters inside the stack, in order of first appearance."""
    names: dict[str, None] = {}
    for _, of_sublayer, _ in stack.with_params(params):
        names.update(dict.fromkeys(named(of_sublayer)))
    return list(names)


def present(stack, params) -> np.ndarray:
    """Returns which of `parameter_names` every sublayer has [S, P]: where a reading by parameter is a number, not NaN."""
    names = parameter_names(stack, params)
    of_different = []
    for _, of_sublayer, _ in stack.with_params(params):
        there = named(of_sublayer)
        of_different.append([name in there for name in names])
    return np.array(stack.in_depth_order(of_different), bool)


def outer_names(params) -> list[str]:
    """Returns the names of the parameters outside the stack."""
    return list(named({k: v for k, v in params.items() if k != "stack"}))


def coordinates(model, params) -> dict:
    """Returns the coordinates of a model's readings: sublayers with layer, kind and relative depth; parameter names."""
    stack = model.stack
    size = stack.size
    return {
        "depth": np.arange(size + 1),
        "other_depth": np.arange(size + 1),
        "sublayer": np.arange(1, size + 1),
        "block": np.arange(1, stack.depth + 1),
        "kind": ("sublayer", [sub.kind for sub in stack.sublayers]),
        "layer": ("sublayer", stack.layer_numbers),
        "relative_depth": ("sublayer", np.arange(1, size + 1) / size),
        "parameter": ("parameter", parameter_names(stack, params["stack"])),
        "outer": ("outer", outer_names(params)),
    }


def parameter_count(params, seeds: int = 1) -> int:
    """Returns how many numbers the weights of one seed are; `params`, or their shapes, are those of so many seeds."""
    return sum(leaf.size for leaf in jax.tree.leaves(params)) // seeds


# ---- of any pytree: leaves that are stacked over depth, and others -------------------------------------------


def stacked_keys(stacked: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Returns the keys below which leaves are stacked, as a tuple: one key, several, or none.

    Errors: ValueError for what is no text.
    """
    keys = (stacked,) if isinstance(stacked, str) else stacked or ()
    if not isinstance(keys, tuple | list) or not all(isinstance(key, str) for key in keys):
        raise ValueError(f"stacked is {shown(stacked)}: a key of the parameters, a tuple of keys, or None is needed")
    return tuple(keys)


def part_of(path, stacked: tuple[str, ...]) -> str | None:
    """Returns the stacked key that a leaf is below, with its place in the sequence there if it is one of segments; else None.

    A key is written as a path, `outer.inner`.
    """
    for end in range(1, len(path) + 1):
        if _dotted(path[:end]) in stacked:
            of_segments = end < len(path) and isinstance(path[end], jax.tree_util.SequenceKey)
            return _dotted(path[: end + of_segments])
    return None


def by_part(tree, stacked: tuple[str, ...]) -> dict[str | None, dict]:
    """Returns `{part: {parameter: leaf}}`, under None what is not stacked."""
    parts: dict[str | None, dict] = {}
    places = jax.tree_util.tree_leaves_with_path(tree)
    for (path, leaf), parameter in zip(places, named(tree), strict=True):
        part = parts.setdefault(part_of(path, stacked), {})
        part[parameter] = leaf
    return parts


def in_turn(parts: list[dict]) -> dict:
    """Returns `{parameter: [..., S]}`: the layers of the parts one after the other; NaN where a part lacks a parameter."""
    columns: dict[str, list] = {}
    for part in parts:
        columns.update({name: [] for name in part})
    for part in parts:
        missing = np.full_like(next(iter(part.values())), np.nan)
        for name, column in columns.items():
            column.append(part.get(name, missing))
    return {name: np.concatenate(column, axis=-1) for name, column in columns.items()}


def check_stacked(leaves, stacked: tuple[str, ...], ignored: Callable = lambda leaf: False) -> None:
    """Refuses stacked keys that are not there, or below which axis 0 is not one number of layers throughout.

    `leaves` are `(path, leaf)`; those that are `ignored` have no shape, and count as there.
    """
    missing = []
    for key in stacked:
        below = [path for path, _ in leaves if part_of(path, (key,))]
        if leaves and not below:
            missing.append(key)
    if missing:
        there = ", ".join(dict.fromkeys(_dotted(path[:1]) for path, _ in leaves))
        raise ValueError(
            f"no {missing[0]!r} to be stacked among the parameters' keys, {there}: name the one whose leaves have their "
            f"layer on axis 0, stacked='layers', or say stacked=None"
        )
    lengths: dict[str, dict] = {}
    for path, leaf in leaves:
        part = part_of(path, stacked)
        if part is not None and not ignored(leaf):
            of_part = lengths.setdefault(part, {})
            of_part[np.shape(leaf)[:1]] = _dotted(path)
    for part, of_part in lengths.items():
        if len(of_part) > 1 or () in of_part:
            raise ValueError(
                f"below {part!r} axis 0 is not the layer throughout: {of_part}; give only keys where it is"
            )
