"""Labelled results: one `xarray.DataTree`, one node a model; `label` is the only place that makes labelled data.

The root holds what all models share (`seed`, `step`, provenance, configuration); children inherit it. Of its attributes each
node has those that say how it was made: a node that is cut out leaves the root behind. Measurement and theory use the same
names, so comparing them is subtraction.
"""

import json
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from .arguments import known, shown, suggestions
from .configuration import dumps, encode
from .naming import TAKEN, check_names
from .quantities import FIXED, row

PLACES = ("sublayer", "depth")  # dimensions whose entries are chosen by position


class Readings(NamedTuple):
    """What one model's analyzers returned: arrays by quantity, with the `leading` dimensions in front; coordinates."""

    arrays: Mapping[str, Any]
    coords: Mapping[str, Any]
    configuration: Any = None


def label(models: Mapping[str, Readings], *, leading: Mapping[str, Any] | None = None, **attributes) -> xr.DataTree:
    """The tree of results: a node for every entry of `models` (names may be paths, `t5/encoder`).

    Parameters
    ----------
    models : `{name: Readings}`
    leading : coordinates of the dimensions in front of every array, in order: `{"seed": …}` or `{"step": …, "seed": …}`
    attributes : plain data for the root (provenance, how it was measured); kept as JSON strings where not a scalar

    Errors: ValueError for names that have no place of their own in a tree.
    """
    leading = dict(leading or {})
    check_names(models, {*TAKEN, *leading})
    root = xr.Dataset(coords={name: np.asarray(values) for name, values in leading.items()})
    root.attrs = {name: _plain(value) for name, value in attributes.items()}
    how = {name: value for name, value in root.attrs.items() if name != "provenance"}
    nodes = {name: _node(readings, tuple(leading)).assign_attrs(how) for name, readings in models.items()}
    places = {name.split("/")[0]: xr.Dataset() for name in models}  # in the order of the models, nested ones too
    return xr.DataTree.from_dict({"/": root, **places, **nodes})


def side_by_side(dim: str, trees: Mapping[str, xr.DataTree], **columns) -> xr.DataTree:
    """Trees of the same models, steps and seeds along a new first dimension with their names; `columns` are coordinates of it.

    The root keeps the attributes of the first; those in which the trees differ are there in the plural, by name.
    """
    first = next(iter(trees.values()))
    if any(not first.to_dataset().coords.equals(tree.to_dataset().coords) for tree in trees.values()):
        raise ValueError(f"{', '.join(trees)} were not recorded at the same steps and seeds")
    names, along = pd.Index(list(trees), name=dim), {name: (dim, values) for name, values in columns.items()}
    how: dict[str, Any] = {"join": "exact", "combine_attrs": "override", "coords": "minimal", "compat": "override"}
    nodes = {"/": first.to_dataset()}
    for name in first.children:
        each = [tree.children[name].to_dataset(inherit=False) for tree in trees.values()]
        nodes[name] = xr.concat(each, names, data_vars="all", **how).assign_coords(along)
    own = {key: {name: settings(tree).get(key) for name, tree in trees.items()} for key in first.attrs}
    differ = {key: values for key, values in own.items() if len({json.dumps(v) for v in values.values()}) > 1}
    plural = {f"{key}s": _plain(values) for key, values in differ.items() if key != "provenance"}
    return xr.DataTree.from_dict({path: node.assign_attrs(plural) for path, node in nodes.items()})


def entries(tree: xr.DataTree, model: str, dim: str = "recipe", **more: xr.Dataset) -> xr.DataTree:
    """A tree with a node for every entry of one model along a dimension, and the nodes given in `more`."""
    node = tree[model].to_dataset()
    nodes = {str(name): node.sel({dim: name}).drop_vars(dim) for name in node[dim].values}
    root = tree.to_dataset().drop_dims(dim, errors="ignore")
    return xr.DataTree.from_dict({"/": root, **nodes, **more})


def _plain(value):
    """`value` as an attribute of a netCDF file: text and numbers as they are, everything else as JSON.

    A file's name may hold bytes that are not UTF-8, which the format can't: they become escapes.
    """
    plain = encode(value)
    if plain is None or isinstance(plain, (bool, list, dict)):
        plain = json.dumps(plain, ensure_ascii=False)
    return plain.encode("utf-8", "backslashreplace").decode() if isinstance(plain, str) else plain


def described(data) -> dict:
    """What a result file says of its data."""
    if isinstance(data, Mapping):
        return {"name": "a batch", "shapes": _shapes(data)}
    return data.description()


def _shapes(data):
    """The shapes of the arrays in nested mappings."""
    return {name: _shapes(a) for name, a in data.items()} if isinstance(data, Mapping) else list(np.shape(data))


def _node(readings: Readings, leading: tuple[str, ...]) -> xr.Dataset:
    """One model's variables with dimensions, coordinates, long name, unit and formula from the table of quantities."""
    variables = {}
    for name, values in readings.arrays.items():
        quantity = row(name)
        array = np.asarray(values)
        if quantity is None:
            own = tuple(readings.coords.get("dims", {}).get(name, ()))
            attrs = {"long_name": name, "units": "", "formula": "the user's own meter"}
        else:
            own, attrs = (
                quantity.dims,
                {"long_name": quantity.long_name, "units": quantity.units, "formula": quantity.formula},
            )
        if array.ndim != len(leading) + len(own):
            raise ValueError(f"{name} has shape {array.shape}, but its dimensions are {(*leading, *own)}")
        variables[name] = ((*leading, *own), array, attrs)
    node = xr.Dataset(variables)
    fixed = {dim: list(FIXED[dim]) for dim in node.dims if dim in FIXED}
    given = {k: v for k, v in readings.coords.items() if k != "dims" and _fits(k, v, node)}
    node = node.assign_coords(fixed).assign_coords(given)
    if readings.configuration is not None:
        node.attrs["configuration"] = dumps(readings.configuration)
    return node


def _fits(name: str, coordinate, node: xr.Dataset) -> bool:
    """Whether the node has the dimension that the coordinate lies along: its own, or the one it names."""
    return (coordinate[0] if isinstance(coordinate, tuple) else name) in node.dims


def variable(node: Any, name: str) -> xr.DataArray:
    """The quantity of that name, or an error that lists what the node has."""
    if not isinstance(node, xr.DataTree | xr.Dataset):
        raise TypeError(f"{shown(node)} holds no results: one model's are needed, measured['name']")
    held = dict(node.data_vars)
    if not isinstance(name, str) or name not in held:
        raise KeyError(f"no {shown(name)} here: {suggestions(str(name), map(str, held))}")
    return held[name]


def relative(node: xr.DataTree | xr.Dataset, name: str, to: str | None = "readout") -> xr.DataArray:
    """The quantity divided by the gradient at the readout (`to="readout"`), at the top of the stack ("top"), or by 1."""
    values = variable(node, name)
    if to is None:
        return values
    if to not in ("readout", "top"):
        raise ValueError(f"no reference {to!r}: {suggestions(to, ('readout', 'top'))}, or None for absolute values")
    if to == "readout":
        reference = variable(node, "readout_gradient")
    else:
        reference = variable(node, "stream_gradient").isel(depth=-1, drop=True)
    ratio = values / reference
    ratio.attrs = {**values.attrs, "units": "1", "formula": f"{values.attrs.get('formula', name)} relative to {to}"}
    return ratio.rename(name)


def against_total_depth(tree: xr.DataTree, name: str, **where) -> dict[str, xr.DataArray]:
    """From `sweep`: `{model: quantity[total_depth, seed]}` of one entry of a profile, `where` chosen as in `.sel`/`.isel`.

    An integer for `sublayer` or `depth` is a position (−1 the last); everything else is a label.
    """
    return against_size(tree, name, "total_depth", **where)


def against_size(tree: xr.DataTree, name: str, size: str, **where) -> dict[str, xr.DataArray]:
    """The same against the `size` that was swept: "total_depth" or "width".

    Errors: ValueError where no such size was swept.
    """
    chosen = {}
    for model, family in families(tree, size).items():
        rows = [_entry(variable(node, name), where).expand_dims({size: [n]}) for n, node in family.items()]
        chosen[model] = xr.concat(rows, size, join="exact").assign_attrs(rows[0].attrs)
    return chosen


def _entry(values: xr.DataArray, where: Mapping[str, Any]) -> xr.DataArray:
    """The entry of an array at whole numbers, which are positions, and at labels."""
    positions = {dim: int(at) for dim, at in where.items() if dim in PLACES and isinstance(at, Integral)}
    chosen = at_labels(values, {dim: at for dim, at in where.items() if dim not in positions})
    for dim, at in positions.items():
        places = values.sizes[known("dimension", dim, map(str, values.dims))]
        if not -places <= at < places:
            raise IndexError(f"{dim} is {shown(at)}: from {-places} to {places - 1} is possible")
    return chosen.isel(positions).reset_coords(drop=True)


def at_labels(values: xr.DataArray, where: Mapping[str, Any]) -> xr.DataArray:
    """The entry of an array at the labels of dimensions.

    Errors: ValueError for a dimension that it doesn't have; KeyError with the labels that there are.
    """
    for dim, label in where.items():
        labels = values[known("dimension", dim, map(str, values.dims))].values.tolist()
        if not isinstance(label, str | Real) or label not in labels:
            raise KeyError(f"no {dim} {shown(label)}: {suggestions(str(label), map(str, labels))}")
    return values.sel(where)


def families(tree: xr.DataTree, size: str) -> dict[str, dict[int, xr.DataTree]]:
    """From `sweep`: `{model: {size: node}}`; the part of a node's path that names the size is no part of the model's name."""
    found: dict[str, dict[int, xr.DataTree]] = {}
    for path, node in nodes(tree).items():
        if size not in node.attrs:
            raise ValueError(f"{path} is of no sweep over {size.replace('_', ' ')}: give what `gf.sweep` returned")
        n = int(node.attrs[size])
        before, _, after = f"/{path}/".rpartition(f"/{size.removeprefix('total_')}_{n}/")
        found.setdefault(f"{before}/{after}".strip("/") or tree.name or "model", {})[n] = node
    return found


def nodes(tree) -> dict[str, Any]:
    """The models of a tree by name, in order: its leaves, by their paths; a single model's node counts as itself."""
    if not isinstance(tree, xr.DataTree):
        _check_nodes(tree)
        return dict(tree)
    if not tree.children:
        return {tree.name or "model": tree}
    found: dict[str, Any] = {}
    for name, child in tree.children.items():
        inside = nodes(child) if child.children else {"": child}
        found |= {f"{name}/{path}".rstrip("/"): node for path, node in inside.items()}
    return found


def dimensions(tree) -> list[str]:
    """Names of the dimensions that the quantities of a tree have, in order."""
    return list(dict.fromkeys(str(dim) for node in nodes(tree).values() for dim in node.dims))


def check_tree(what: str, tree) -> None:
    """Refuses what is no tree of results."""
    if not isinstance(tree, xr.DataTree):
        raise TypeError(f"{what} is {shown(tree)}: an xarray.DataTree is needed, as gf.measure returns it")


def _check_nodes(tree) -> None:
    """Refuses what is no mapping from names to one model's results each."""
    apart = isinstance(tree, Mapping) and not isinstance(tree, xr.Dataset)
    if not apart or not tree or not all(isinstance(node, xr.DataTree | xr.Dataset) for node in tree.values()):
        raise TypeError(f"{shown(tree)} holds no results: an xarray.DataTree is needed, as gf.measure returns it")


def on_its_own(tree: xr.DataTree) -> xr.DataTree:
    """A copy of a tree that lies in a larger one, with the attributes that lie above it."""
    own = tree.copy()
    own.attrs = _attributes(tree)
    return own


def settings(tree: xr.DataTree) -> dict:
    """How results were made: attributes of the root, of nodes below it, and of this one, the nearest first.

    JSON strings are decoded to plain data: lists, mappings, truth values and None. Text that happens to be one of these in JSON
    (`null`, `[1]`) is taken for it.
    """

    def decoded(value):
        try:
            written = isinstance(value, str) and (value[:1] in ("[", "{") or value in ("true", "false", "null"))
            return json.loads(value) if written else value
        except (ValueError, RecursionError):
            return value

    return {name: decoded(value) for name, value in _attributes(tree).items()}


def _attributes(tree: xr.DataTree) -> dict:
    """Those of a node and of all above it, the nearest first."""
    above = [*reversed(tree.parents), tree]
    return {name: value for node in above for name, value in node.attrs.items()}
