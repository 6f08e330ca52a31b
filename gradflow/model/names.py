"""Names: of parameters, in the field's words, and of the places of a stack, as the coordinates of its readings."""

import jax
import numpy as np


def named(tree) -> dict:
    """`{name: leaf}` in the field's names: `query`, `down.bias`, `norm_in.scale`; a path's words joined by dots."""
    return {name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def name(path) -> str:
    """The field's name of a leaf at a path of JAX's."""
    path = path[:-1] if path and isinstance(path[-1], jax.tree_util.GetAttrKey) else path  # a Flax variable's `.value`
    words = jax.tree_util.keystr(path, simple=True, separator=".").removeprefix("branch.").removeprefix("embedding.")
    return words.removesuffix(".kernel").removesuffix(".embedding") or "params"


def parameter_names(segments, stacked) -> list[str]:
    """Names of the parameters inside the stack, in order of first appearance."""
    trees = (params[sub.kind] for segment, params in zip(segments, stacked, strict=True) for sub in segment.block)
    return list(dict.fromkeys(name for tree in trees for name in named(tree)))


def present(segments, stacked) -> np.ndarray:
    """Which of `parameter_names` every sublayer has [S, P]: where a reading by parameter is a number, not NaN."""
    names, rows = parameter_names(segments, stacked), []
    for segment, params in zip(segments, stacked, strict=True):
        rows += [[name in named(params[sub.kind]) for name in names] for sub in segment.block] * segment.repeats
    return np.array(rows, bool)


def outer_names(params) -> list[str]:
    """Names of the parameters outside the stack."""
    return list(named({k: v for k, v in params.items() if k != "stack"}))


def coordinates(model, params) -> dict:
    """Coordinates of a model's readings: sublayers with layer, kind and relative depth; parameter names."""
    kinds = [(sub.kind, layer) for layer, sub in _in_depth_order(model.segments)]
    size = len(kinds)
    return {
        "depth": np.arange(size + 1),
        "sublayer": np.arange(1, size + 1),
        "kind": ("sublayer", [kind for kind, _ in kinds]),
        "layer": ("sublayer", [layer for _, layer in kinds]),
        "relative_depth": ("sublayer", np.arange(1, size + 1) / size),
        "parameter": ("parameter", parameter_names(model.segments, params["stack"])),
        "outer": ("outer", outer_names(params)),
    }


def _in_depth_order(segments):
    """`(layer, sublayer)` from the bottom up, layers counted from 1."""
    layer = 0
    for segment in segments:
        for _ in range(segment.repeats):
            layer += 1
            yield from ((layer, sub) for sub in segment.block)
