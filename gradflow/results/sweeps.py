"""Sweeps over a size, and single entries of profiles: one number of every model against the number of blocks or the width."""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import xarray as xr

from .arguments import known, shown, suggestions
from .tree import nodes, variable

PLACES = ("sublayer", "depth")  # dimensions whose entries are chosen by position


def against_total_depth(tree: xr.DataTree, name: str, **where) -> dict[str, xr.DataArray]:
    """Returns, from a `sweep`, `{model: quantity[total_depth, seed]}` of one entry of a profile.

    `where` chooses the entry: an integer for `sublayer` or `depth` is a position (−1 the last); everything else is a label.
    """
    return against_size(tree, name, "total_depth", **where)


def against_size(tree: xr.DataTree, name: str, size: str, **where) -> dict[str, xr.DataArray]:
    """Returns the same against the `size` that was swept: "total_depth" or "width".

    Errors: ValueError where no such size was swept.
    """
    chosen = {}
    for model, family in families(tree, size).items():
        rows = []
        for n, node in family.items():
            rows.append(_entry(variable(node, name), where).expand_dims({size: [n]}))
        chosen[model] = xr.concat(rows, size, join="exact").assign_attrs(rows[0].attrs)
    return chosen


def _entry(values: xr.DataArray, where: Mapping[str, Any]) -> xr.DataArray:
    """Returns the entry of an array at positions, which are whole numbers along `PLACES`, and at labels.

    A label may be a function of what is at the positions.
    """
    positions, labels = {}, {}
    for dim, at in where.items():
        if dim in PLACES and isinstance(at, Integral):
            positions[dim] = int(at)
        else:
            labels[dim] = at
    for dim, position in positions.items():
        places = values.sizes[known("dimension", dim, map(str, values.dims))]
        if not -places <= position < places:
            raise IndexError(f"{dim} is {shown(position)}: from {-places} to {places - 1} is possible")
    placed = values.isel(positions)
    for dim, at in labels.items():
        if callable(at):
            labels[dim] = at(placed)
    return at_labels(placed, labels).reset_coords(drop=True)


def output_parameter(values: xr.DataArray) -> str:
    """Returns the parameter that is read for a sublayer's output: `down` where it has that, else the last of those it has."""
    names = values["parameter"].values.tolist()
    if "down" in names:
        return "down"
    there = [name for name in names if values.sel(parameter=name).notnull().any()] or names
    return next(filter(_is_down, there), there[-1])


def _is_down(parameter: str) -> bool:
    return parameter.split(".")[-1] == "down"


def last_output(tree: xr.DataTree, quantity: str, size: str) -> str:
    """Returns in words which parameter is read for the last sublayer's output, of the models of a `sweep`."""
    names: dict[str, None] = {}
    for family in families(tree, size).values():
        for node in family.values():
            names[output_parameter(variable(node, quantity).isel(sublayer=-1))] = None
    if all(map(_is_down, names)):
        return "last feed-forward output"
    return f"last {' / '.join(names)}"


def at_labels(values: xr.DataArray, where: Mapping[str, Any]) -> xr.DataArray:
    """Returns the entry of an array at the labels of dimensions.

    Errors: ValueError for a dimension that it doesn't have; KeyError with the labels that there are.
    """
    for dim, label in where.items():
        labels = values[known("dimension", dim, map(str, values.dims))].values.tolist()
        if not isinstance(label, str | Real) or label not in labels:
            raise KeyError(f"no {dim} {shown(label)}: {suggestions(str(label), map(str, labels))}")
    return values.sel(where)


def families(tree: xr.DataTree, size: str) -> dict[str, dict[int, xr.DataTree]]:
    """Returns, from a `sweep`, `{model: {size: node}}`; a model's name is its path without the part that names the size."""
    by_model: dict[str, dict[int, xr.DataTree]] = {}
    for path, node in nodes(tree).items():
        if size not in node.attrs:
            raise ValueError(f"{path} is of no sweep over {size.replace('_', ' ')}: give what `gf.sweep` returned")
        n = int(node.attrs[size])
        before, _, after = f"/{path}/".rpartition(f"/{size.removeprefix('total_')}_{n}/")
        model = f"{before}/{after}".strip("/") or tree.name or "model"
        by_model.setdefault(model, {})[n] = node
    return by_model
