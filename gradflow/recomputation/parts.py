"""The parts of a bundle, one after the other: each is computed again, or says why it can't be."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import xarray as xr

from ..results.repeated import Repeated
from ..results.tree import nodes, settings
from . import repeated
from .sources import Sources

MISSING = (
    ValueError,
    TypeError,
    OSError,
    ImportError,
    NotImplementedError,
)  # what a part that can't be computed again raises
PRECISION = {
    "x64": "jax_enable_x64",
    "matmul_precision": "jax_default_matmul_precision",
}  # in the provenance, and in JAX


def recompute(
    trees: Mapping[str, xr.DataTree], record: Any, folder: Path, files: Mapping[str, Path], *, part_only: bool
) -> Iterator[Repeated]:
    """Yields every model of a bundle computed again, or why it can't be: in the training, the sweep and the theory.

    Parameters
    ----------
    trees, record : as `report.bundle` keeps them
    folder : the bundle, which may have the text in it
    files : the `text` and the folder of `weights` that the run read, where they are no longer where they were
    part_only : of every model its first steps; of a sweep the smallest size; and no theory

    Under the precision of the run: `jax_enable_x64` and `jax_default_matmul_precision` are those that its provenance says.
    """
    sources = Sources(folder, files, record.configuration)
    with _precision(record.provenance):
        if record.kind == "atlas":
            yield from _atlas(trees["atlas"], sources, part_only)
            return
        for part, tree in trees.items():
            for name, node in _chosen(part, tree, part_only).items():
                yield _repeated(f"{part}/{name}", node, sources, part_only)


@contextmanager
def _precision(provenance: Mapping[str, Any]) -> Iterator[None]:
    """The block, and threads that it starts, run under the precision that a run had."""
    before = {name: jax.config.values[name] for name in PRECISION.values()}
    try:
        for recorded, name in PRECISION.items():
            if recorded in provenance:
                value = provenance[recorded]
                jax.config.update(name, None if value == "default" else value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def _chosen(part: str, tree: xr.DataTree, part_only: bool) -> dict[str, Any]:
    """Returns the nodes to compute again: of the first steps no theory, and of a sweep the smallest sizes alone."""
    members = nodes(tree)
    if not part_only or part == "training":
        return members
    if part == "theory":
        return {}
    smallest: dict[str, str] = {}
    for path in sorted(members, key=_size):
        smallest.setdefault(path.rpartition("/")[0], path)
    return {path: members[path] for path in smallest.values()}


def _size(path: str) -> tuple[int, str]:
    """Returns the size in a node's path, `pre/depth_6`, with the path for those that have none."""
    digits = path.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else 0, path


def _repeated(part: str, node, sources: Sources, part_only: bool) -> Repeated:
    """Returns one model's readings computed again, or why they can't be."""
    try:
        return Repeated(part, node, _again(node, sources, part_only), whole=not part_only)
    except MISSING as error:
        return Repeated(part, node, why=one_line(error))


def _again(node, sources: Sources, part_only: bool) -> xr.Dataset:
    """Returns one model's readings computed again."""
    recorded = settings(node)
    if "logged" in recorded:
        raise ValueError("another tool logged these norms, and its run is not gradflow's to repeat")
    if "checkpoint" in recorded:
        (measured,) = nodes(sources.trained(node).measured()).values()
        return measured.to_dataset()
    return repeated.again(node, sources.text(node), part_only=part_only)


def _atlas(tree: xr.DataTree, sources: Sources, part_only: bool) -> Iterator[Repeated]:
    """Yields the training, the start and the theory of every wiring of an atlas."""
    for name, node in tree["training"].children.items():
        try:
            parts = repeated.of_atlas(tree, name, sources.text(node), part_only=part_only)
        except MISSING as error:
            yield Repeated(f"training/{name}", node, why=one_line(error))
            continue
        for part, again in parts.items():
            yield Repeated(f"{part}/{name}", tree[part].children[name], again, whole=not part_only)


def one_line(error: Exception) -> str:
    """Returns what an error says, as one line."""
    return " ".join(str(error).split()) or type(error).__name__
