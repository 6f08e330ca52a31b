"""Labelled results: one `xarray.DataTree`, one node a model; `label` is the only place that makes labelled data.

The root holds what all models share (`seed`, `step`, provenance, configuration); children inherit it. Of its attributes each
node has those that say how it was made: a node that is cut out leaves the root behind. Measurement and theory use the same
names, so comparing them is subtraction.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from .arguments import shown, suggestions
from .configuration import dumps, encode
from .description import describe
from .naming import TAKEN, check_names
from .quantities import FIXED, row


class Readings(NamedTuple):
    """The readings of one model: arrays by quantity, with the `leading` dimensions in front; coordinates; the configuration.

    `parameters` is how many the model has, for its description.
    """

    arrays: Mapping[str, Any]
    coords: Mapping[str, Any]
    configuration: Any = None
    parameters: int | None = None


def label(models: Mapping[str, Readings], *, leading: Mapping[str, Any] | None = None, **attributes) -> xr.DataTree:
    """Returns the tree of results: a node for every entry of `models` (names may be paths, `t5/encoder`).

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
    shared = {}
    for name, value in attributes.items():
        root.attrs[name] = plain_attribute(value)
        if name != "provenance":
            shared[name] = root.attrs[name]
    nodes = {"/": root}
    for name in models:  # in the order of the models, nested ones too
        nodes[name.split("/")[0]] = xr.Dataset()
    for name, readings in models.items():
        nodes[name] = _node(readings, tuple(leading)).assign_attrs(shared)
    return xr.DataTree.from_dict(nodes)


def with_resources(root: xr.Dataset, resources: Mapping[str, Any]) -> xr.Dataset:
    """Returns the root of a tree whose provenance says what the whole took; unchanged where it has no provenance."""
    origin = decoded_attribute(root.attrs.get("provenance"))
    if not isinstance(origin, dict):
        return root
    return root.assign_attrs(provenance=plain_attribute({**origin, "resources": dict(resources)}))


def side_by_side(dim: str, trees: Mapping[Any, xr.DataTree], **columns) -> xr.DataTree:
    """Returns trees of the same models, steps and seeds joined along a new first dimension, with `columns` as its coordinates.

    The root keeps the attributes of the first; those in which the trees differ are there in the plural, by name.
    """
    first = next(iter(trees.values()))
    for tree in trees.values():
        if not first.to_dataset().coords.equals(tree.to_dataset().coords):
            raise ValueError(f"{', '.join(map(str, trees))} were not recorded at the same steps and seeds")
    names = pd.Index(list(trees), name=dim)
    along = {name: (dim, values) for name, values in columns.items()}
    differing = _differing_attributes(trees)
    how: dict[str, Any] = {"join": "exact", "combine_attrs": "override", "coords": "minimal", "compat": "override"}
    nodes = {"/": first.to_dataset().assign_attrs(differing)}
    for name in first.children:
        each = [tree.children[name].to_dataset(inherit=False) for tree in trees.values()]
        joined = xr.concat(each, names, data_vars="all", **how)
        nodes[name] = joined.assign_coords(along).assign_attrs(differing)
    return xr.DataTree.from_dict(nodes)


def in_one_tree(names, trees) -> xr.DataTree:
    """Returns trees of different models and the same seeds as one, in the order of `names`, with the root of the first."""
    nodes = {"/": trees[0].to_dataset()}
    nodes.update({f"/{name.split('/')[0]}": xr.Dataset() for name in names})
    for tree in trees:
        for node in tree.descendants:
            nodes[node.path] = node.to_dataset(inherit=False)
    return xr.DataTree.from_dict(nodes)


def _differing_attributes(trees: Mapping[Any, xr.DataTree]) -> dict[str, Any]:
    """Returns the attributes of the first tree in which the others differ, each in the plural, by the names of the trees."""
    first = next(iter(trees.values()))
    recorded = {name: settings(tree) for name, tree in trees.items()}
    differing = {}
    for key in first.attrs:
        values = {name: attributes.get(key) for name, attributes in recorded.items()}
        different = {dumps(value) for value in values.values()}
        if key != "provenance" and len(different) > 1:
            differing[f"{key}s"] = plain_attribute(values)
    return differing


def entries(tree: xr.DataTree, model: str, dim: str = "recipe", **more: xr.Dataset) -> xr.DataTree:
    """Returns a tree with a node for every entry of one model along a dimension, and the nodes given in `more`."""
    node = tree[model].to_dataset()
    nodes = {"/": tree.to_dataset().drop_dims(dim, errors="ignore")}
    for name in node[dim].values:
        nodes[str(name)] = node.sel({dim: name}).drop_vars(dim)
    return xr.DataTree.from_dict({**nodes, **more})


def plain_attribute(value):
    """Returns `value` as an attribute of a netCDF file: text and numbers unchanged, everything else as JSON.

    A file's name may hold bytes that are not UTF-8, which the format can't: they become escapes.
    """
    plain = encode(value)
    if plain is None or isinstance(plain, (bool, list, dict)):
        plain = json.dumps(plain, ensure_ascii=False)
    if isinstance(plain, str):
        return plain.encode("utf-8", "backslashreplace").decode()
    return plain


def described(data) -> dict:
    """Returns the entry about the data in a result file."""
    if isinstance(data, Mapping):
        return {"name": "a batch", "shapes": _shapes(data)}
    return data.description()


def _shapes(data):
    """Returns the shapes of the arrays in nested mappings."""
    if isinstance(data, Mapping):
        return {name: _shapes(array) for name, array in data.items()}
    return list(np.shape(data))


def _node(readings: Readings, leading: tuple[str, ...]) -> xr.Dataset:
    """Returns one model's variables with dimensions, coordinates, long name, unit and formula from the table of quantities."""
    variables = {}
    for name, values in readings.arrays.items():
        quantity = row(name)
        if quantity is None:
            dims = tuple(readings.coords.get("dims", {}).get(name, ()))
            attributes = {"long_name": name, "units": "", "formula": "the user's own meter"}
        else:
            dims = quantity.dims
            attributes = {"long_name": quantity.long_name, "units": quantity.units, "formula": quantity.formula}
        array = np.asarray(values)
        if array.ndim != len(leading) + len(dims):
            raise ValueError(f"{name} has shape {array.shape}, but its dimensions are {(*leading, *dims)}")
        variables[name] = ((*leading, *dims), array, attributes)
    node = xr.Dataset(variables)
    coordinates = {dim: list(FIXED[dim]) for dim in node.dims if dim in FIXED}
    node = node.assign_coords(coordinates)
    for name, coordinate in readings.coords.items():
        if name != "dims" and _fits(name, coordinate, node):
            node = node.assign_coords({name: coordinate})
    if readings.configuration is not None:
        configuration = encode(readings.configuration)
        node.attrs["configuration"] = dumps(configuration)
        description = describe(configuration, readings.parameters)
        if description:
            node.attrs["description"] = dumps(description)
    return node


def _fits(name: str, coordinate, node: xr.Dataset) -> bool:
    """Returns whether the node has the dimension of a coordinate: the one of its name, or the first of a pair."""
    if isinstance(coordinate, tuple):
        return coordinate[0] in node.dims
    return name in node.dims


def variable(node: Any, name: str) -> xr.DataArray:
    """Returns the quantity of that name; an error that lists the others where there is none."""
    if not isinstance(node, xr.DataTree | xr.Dataset):
        raise TypeError(f"{shown(node)} holds no results: one model's are needed, measured['name']")
    held = dict(node.data_vars)
    if not isinstance(name, str) or name not in held:
        raise KeyError(f"no {shown(name)} here: {suggestions(str(name), map(str, held))}")
    return held[name]


def relative(node: xr.DataTree | xr.Dataset, name: str, to: str | None = "readout") -> xr.DataArray:
    """Returns the quantity divided by the gradient at the readout (`to="readout"`), at the top of the stack ("top"), or by 1."""
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


def nodes(tree) -> dict[str, Any]:
    """Returns the models of a tree by name, in order: its leaves, by their paths; a single model's node is its own leaf."""
    if not isinstance(tree, xr.DataTree):
        _check_nodes(tree)
        return dict(tree)
    if not tree.children:
        return {tree.name or "model": tree}
    leaves: dict[str, Any] = {}
    for name, child in tree.children.items():
        if not child.children:
            leaves[name] = child
            continue
        for path, node in nodes(child).items():
            leaves[f"{name}/{path}"] = node
    return leaves


def dimensions(tree) -> list[str]:
    """Returns the names of the dimensions of a tree's quantities, in order."""
    names: dict[str, None] = {}
    for node in nodes(tree).values():
        names.update(dict.fromkeys(map(str, node.dims)))
    return list(names)


def check_tree(what: str, tree) -> None:
    """Raises for anything but a tree of results."""
    if not isinstance(tree, xr.DataTree):
        raise TypeError(f"{what} is {shown(tree)}: an xarray.DataTree is needed, as gf.measure returns it")


def _check_nodes(tree) -> None:
    """Raises for anything but a mapping from names to one model's results each."""
    is_mapping = isinstance(tree, Mapping) and not isinstance(tree, xr.Dataset)
    if not is_mapping or not tree or not all(isinstance(node, xr.DataTree | xr.Dataset) for node in tree.values()):
        raise TypeError(f"{shown(tree)} holds no results: an xarray.DataTree is needed, as gf.measure returns it")


def on_its_own(tree: xr.DataTree, *, inherited: bool = True) -> xr.DataTree:
    """Returns a copy of a tree that lies in a larger one, by default with the attributes of the trees above it."""
    copy = tree.copy()
    copy.attrs = _attributes(tree) if inherited else dict(tree.attrs)
    return copy


def settings(tree: xr.DataTree) -> dict:
    """Returns how results were made: attributes of the root, of nodes below it, and of this one, the nearest first.

    JSON strings are decoded to plain data: lists, mappings, truth values and None. Text that happens to be one of these in JSON
    (`null`, `[1]`) is taken for it.
    """
    return {name: decoded_attribute(value) for name, value in _attributes(tree).items()}


def mapping_of(tree: xr.DataTree, name: str) -> dict[str, Any]:
    """Returns the setting of that name, such as `data` or `provenance`, where it is a mapping; else an empty one."""
    found = settings(tree).get(name)
    return found if isinstance(found, dict) else {}


def decoded_attribute(value):
    """Returns the plain data of a JSON string; any other value unchanged."""
    if not isinstance(value, str):
        return value
    if value[:1] not in ("[", "{") and value not in ("true", "false", "null"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _attributes(tree: xr.DataTree) -> dict:
    """Returns the attributes of a node and of all above it, the nearest first."""
    attributes: dict = {}
    for node in (*reversed(tree.parents), tree):
        attributes |= node.attrs
    return attributes
