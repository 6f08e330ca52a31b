"""The contents of a bundle's `results.nc`: the trees of results by name, and the record of how the bundle is made of them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import xarray as xr

from ...results import topics
from ...results.tree import mapping_of, on_its_own
from .record import BUNDLE, Record, without_record


class Contents(NamedTuple):
    """Trees of results by name, the run first, and the record of the bundle."""

    trees: Mapping[str, xr.DataTree]
    record: Record

    @property
    def run(self) -> xr.DataTree:
        """What was trained or measured; of an atlas the training of all wirings."""
        if self.record.kind == "atlas":
            return self.trees["atlas"].children["training"]
        return self.trees["training"]

    @property
    def data(self) -> dict[str, Any]:
        """What is recorded of the data, such as its name and SHA-256; nothing of results that read none."""
        return mapping_of(self.run, "data")

    @property
    def has_its_text(self) -> bool:
        """Whether the text that was read is CPython's own, which lies in the bundle."""
        return self.data.get("name") == topics.NAME

    @property
    def weights_sha256(self) -> Mapping[str, str]:
        """The SHA-256 of every file of the trained weights that were measured, of none where none were."""
        sums = mapping_of(self.run, "checkpoint").get("weights_sha256")
        return sums if isinstance(sums, dict) else {}

    def part(self, name: str) -> xr.DataTree | None:
        """Returns the sweep or the theory, or None where there is none."""
        return self.trees.get(name)

    def to_tree(self) -> xr.DataTree:
        """Returns one tree that holds everything, as `results.nc` does."""
        if len(self.trees) > 1:
            tree = _joined(self.trees)
        else:
            tree = next(iter(self.trees.values())).copy()
        tree.attrs = {**without_record(tree.attrs), BUNDLE: self.record.to_text()}
        return tree

    @classmethod
    def of(cls, tree: xr.DataTree) -> "Contents":
        """Returns the contents of a tree that was read from a bundle.

        Errors: ValueError where it has no record, or not the parts that the record names.
        """
        record = Record.of(tree)
        if len(record.parts) == 1:
            whole = tree.copy()
            whole.attrs = without_record(tree.attrs)
            return cls({record.parts[0]: whole}, record)
        missing = [name for name in record.parts if name not in tree.children]
        if missing:
            raise ValueError(f"these results have no {', '.join(missing)}, which their record names")
        trees = {}
        for name in record.parts:
            trees[name] = on_its_own(tree.children[name], inherited=False)
            trees[name].name = None
        return cls(trees, record)


def _joined(trees: Mapping[str, xr.DataTree]) -> xr.DataTree:
    """Returns one tree with the given ones as children; its root has the attributes that all of them share."""
    first = next(iter(trees.values()))
    shared = {}
    for name, value in first.attrs.items():
        if all(tree.attrs.get(name) == value for tree in trees.values()):
            shared[name] = value
    shared["provenance"] = first.attrs.get("provenance", "{}")
    return xr.DataTree(xr.Dataset(attrs=shared), children=dict(trees))
