"""Checksums inside a result: every variable and every node of a tree has its SHA-256 as the attribute `sha256`.

A node's covers its attributes, the checksums of its variables and those of the nodes below it, so the root's is that of the
whole result: two results with the same one are the same.
"""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import xarray as xr

CHECKSUM = "sha256"


def with_checksums(tree: xr.DataTree) -> xr.DataTree:
    """Returns a copy of a tree whose variables and nodes have their checksums."""
    datasets = _datasets(tree)
    for path in reversed(datasets):  # what lies below comes first
        dataset = datasets[path]
        for name, variable in dataset.variables.items():
            variable.attrs[CHECKSUM] = _of_variable(str(name), variable)
        dataset.attrs[CHECKSUM] = _of_node(path, datasets)
    return xr.DataTree.from_dict(datasets)


def checked(tree: xr.DataTree) -> xr.DataTree:
    """Returns a copy of a tree without the checksums, all of which hold; a tree that has none is returned unchanged.

    Errors: ValueError that names the first variable, or node, that is not what was written.
    """
    if CHECKSUM not in tree.attrs:
        return tree
    datasets = _datasets(tree)
    for path, dataset in datasets.items():
        for name, variable in dataset.variables.items():
            if variable.attrs.get(CHECKSUM) != _of_variable(str(name), variable):
                raise ValueError(f"{name} of {path} is not what was written")
        if dataset.attrs.get(CHECKSUM) != _of_node(path, datasets):
            raise ValueError(f"an attribute of {path}, or what it holds, is not what was written")
    for dataset in datasets.values():
        dataset.attrs.pop(CHECKSUM)
        for variable in dataset.variables.values():
            variable.attrs.pop(CHECKSUM)
    return xr.DataTree.from_dict(datasets)


def fingerprint(tree: xr.DataTree) -> str:
    """Returns the SHA-256 of a whole tree: of all its variables, names and attributes."""
    return with_checksums(tree).attrs[CHECKSUM]


def _datasets(tree: xr.DataTree) -> dict[str, xr.Dataset]:
    """Returns a copy of the dataset of every node by its path below the tree, the root first."""
    return {node.relative_to(tree): node.to_dataset(inherit=False).copy() for node in tree.subtree}


def _of_variable(name: str, variable: xr.Variable) -> str:
    """Returns the checksum of a variable: name, dimensions, type, shape, attributes and values."""
    values = np.asarray(variable.values)
    sha256 = hashlib.sha256()
    if values.dtype.kind in "biufc":
        heading = [name, list(variable.dims), values.dtype.str, list(values.shape), _plain(variable.attrs)]
        sha256.update(json.dumps(heading).encode())
        if values.dtype.kind in "fc":
            values = np.where(np.isnan(values), np.nan, values).astype(values.dtype)  # a NaN has many bit patterns
        sha256.update(np.ascontiguousarray(values).tobytes())
    else:
        text = [name, list(variable.dims), "text", list(values.shape), _plain(variable.attrs), values.tolist()]
        sha256.update(json.dumps(text, default=str).encode())
    return sha256.hexdigest()


def _of_node(path: str, datasets: Mapping[str, xr.Dataset]) -> str:
    """Returns the checksum of a node, whose variables and inner nodes have theirs already."""
    dataset = datasets[path]
    variables = {str(name): variable.attrs.get(CHECKSUM) for name, variable in dataset.variables.items()}
    inner = {}
    for other, below in datasets.items():
        if other != path and _above(other) == path:
            inner[other] = below.attrs.get(CHECKSUM)
    parts = [_plain(dataset.attrs), variables, inner]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _above(path: str) -> str:
    """Returns the path of the node above."""
    return path.rpartition("/")[0] or "."


def _plain(attributes: Mapping) -> dict:
    """Returns attributes as netCDF gives them back: numbers and texts, a list of one as the one."""
    plain = {}
    for name, value in attributes.items():
        if name != CHECKSUM:
            plain[str(name)] = np.ravel(value).tolist()
    return plain
