"""Labelled results as netCDF files (HDF5). A file is walked before it is read: it may be from anywhere.

Behind what HDF5 reads, a file ends with a seal, the SHA-256 of the rest: a flipped bit is a wrong number, or sends the library
round in circles. A file without one, which others wrote, is read as it is.

In HDF5 a dataset's values may lie in any other file, a link lead to another, a few bytes stand for terabytes, and a filter load
a library. Nothing that `save` writes does any of this, so it is refused.
"""

import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from .files import as_path, printable, reason, regular, whole
from .tree import check_tree

MANY = 200_000  # groups and datasets in a file, or texts in one: the atlas of sixty wirings has some seven thousand
DEPTH = 30  # groups in one another: names of models may be paths
ROOM = 2**26  # bytes in memory beyond those in the file: what was never written takes none there
SEAL = b"\nsha256 "
BLOCK = 2**24  # bytes read at a time
PLACES = (
    "DIMENSION_LIST",
    "REFERENCE_LIST",
)  # attributes by which the format itself refers to datasets of the same file


def save(tree: xr.DataTree, path: str | Path) -> Path:
    """The netCDF file (HDF5) of the tree at `path`; it appears there whole or not at all.

    Errors: OSError where it can't be written.
    """
    check_tree("a result", tree)
    path = as_path(path)
    made = _in_memory(tree)  # where a disk is full, HDF5 crashes
    with whole(path) as part, open(part, "wb") as file:
        file.write(made)
        file.write(_seal(hashlib.sha256(made)))
    return Path(path)


def _in_memory(tree: xr.DataTree) -> bytes:
    """The file's bytes. A view of a buffer is let go at once: the buffer can't be closed while there is one."""
    made = tree.to_netcdf(None, engine="h5netcdf")
    if not isinstance(made, memoryview):
        return made
    with made:
        return bytes(made)


def _seal(digest) -> bytes:
    """What ends a file whose other bytes have this SHA-256."""
    return SEAL + digest.hexdigest().encode()


def _unbroken(path: Path) -> None:
    """ValueError where the file's seal is not that of its bytes."""
    size = path.stat().st_size - len(SEAL) - 64
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        for start in range(0, size, BLOCK):
            digest.update(file.read(min(BLOCK, size - start)))
        there = file.read(len(SEAL) + 64)
        if there.startswith(SEAL) and there != _seal(digest):
            raise ValueError("its bytes are not those that were written")


def load(path: str | Path) -> xr.DataTree:
    """The tree that `save` wrote, in memory; nothing but that file is read.

    Errors: OSError in one line for anything else, for what refers to other files, and for what claims more than it holds.
    """
    path = regular(path)
    try:
        _unbroken(path)
        with h5py.File(path, "r") as file:
            _walk(file, min(path.stat().st_size + ROOM, _memory()))
        # Times are not decoded: no quantity is one, and a unit is any file's word.
        with xr.open_datatree(path, engine="h5netcdf", phony_dims="access", decode_times=False) as tree:
            return tree.load()
    except Exception as error:  # of three libraries, each with its own
        raise OSError(
            f"{printable(path)} is no result, or damaged ({reason(error)}): name a file that gf.results.save wrote"
        ) from None


def _walk(file: h5py.File, allowed: int) -> None:
    """ValueError for the first thing in the file that `save` does not write, and where all is more bytes than are allowed."""
    seen: set[int] = set()
    taken = 0
    for name, found in _objects(file, "", DEPTH):
        place = h5py.h5o.get_info(found.id).addr
        if place in seen:
            raise ValueError(f"{name} is there under another name")
        seen.add(place)
        if len(seen) > MANY:
            raise ValueError(f"more than {MANY} groups and datasets")
        taken += sum(_attributes(found, name))
        if not isinstance(found, h5py.Group):
            _numbers_or_text(name, found.dtype)
        if isinstance(found, h5py.Dataset):
            taken += _size(found, name, allowed)
        if taken > allowed:
            raise ValueError(f"with {name} it is {taken} bytes: more than the file or this machine has")


def _objects(group: h5py.Group, name: str, depth: int) -> Iterator[tuple[str, h5py.HLObject]]:
    """The group and all in it, by hard links alone: what is a link to elsewhere is not followed."""
    yield name or "the root", group
    if depth == 0:
        raise ValueError(f"groups are more than {DEPTH} deep")
    for child in group:
        within = f"{name}/{child}"
        if not isinstance(group.get(child, getlink=True), h5py.HardLink):
            raise ValueError(f"{within} is a link to elsewhere")
        found = group[child]
        if isinstance(found, h5py.Group):
            yield from _objects(found, within, depth - 1)
        else:
            yield within, found


def _size(dataset: h5py.Dataset, name: str, allowed: int) -> int:
    """The dataset's bytes in memory; its values are in this file, as they are."""
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"the values of {name} are in other files")
    if dataset.id.get_create_plist().get_nfilters():
        raise ValueError(f"{name} is packed")
    count, size = math.prod(dataset.shape or (0,)), dataset.dtype.itemsize
    longest = max(count, math.prod(dataset.chunks or (0,)))
    if longest * size > allowed:
        raise ValueError(f"{name} claims {longest * size} bytes: more than the file or this machine has")
    if dataset.dtype.kind != "O":
        return longest * size
    return _texts(dataset, name, allowed)


def _texts(dataset: h5py.Dataset, name: str, allowed: int) -> int:
    """The bytes of texts, as an array whose every entry is as wide as the longest; in the file many may be one."""
    if dataset.size > MANY:
        raise ValueError(f"{name} is more than {MANY} texts")
    width = 0
    for index in np.ndindex(dataset.shape):
        width = max(width, len(dataset[index]))
        if width * dataset.size * 4 > allowed:
            raise ValueError(f"the texts of {name} are more than the file or this machine has")
    return width * dataset.size * 4


def _attributes(found: h5py.HLObject, name: str) -> Iterator[int]:
    """The bytes of each attribute, which are in the file; of texts, many of which may be one there, those in memory."""
    for index in range(h5py.h5a.get_num_attrs(found.id)):
        attribute = h5py.h5a.open(found.id, index=index)
        label = attribute.name.decode(errors="replace")
        if label in PLACES:
            continue
        _numbers_or_text(f"{label} of {name}", attribute.dtype)
        if attribute.dtype.kind == "O":
            yield sum(map(len, np.ravel(found.attrs[label])))
        else:
            yield attribute.get_storage_size()


def _numbers_or_text(name: str, kind: np.dtype) -> None:
    text = h5py.check_string_dtype(kind) is not None
    if not text and kind.kind not in "biufc":
        raise ValueError(f"{name} holds neither numbers nor text")


def _memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
