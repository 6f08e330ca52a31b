"""Labelled results as netCDF files (HDF5). A file is checked before it is read: it may be from anywhere.

After the bytes of HDF5 a file ends with a seal, the SHA-256 of the rest: a flipped bit would be a wrong number, or an endless
loop in the library. Every variable has its own checksum inside (`checksums`), which outlives the seal. A file with neither,
which another program wrote, is read without these checks.

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

from .checksums import checked, with_checksums
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
    """Writes the tree as a netCDF file (HDF5) and returns its path; it appears there whole or not at all.

    Errors: OSError where it can't be written.
    """
    check_tree("a result", tree)
    path = as_path(path)
    made = _in_memory(with_checksums(tree))  # where a disk is full, HDF5 crashes
    with whole(path) as part, open(part, "wb") as file:
        file.write(made)
        file.write(_seal(hashlib.sha256(made)))
    return Path(path)


def _in_memory(tree: xr.DataTree) -> bytes:
    """Returns the file's bytes. A view of a buffer is released at once: the buffer can't be closed before."""
    made = tree.to_netcdf(None, engine="h5netcdf")
    if not isinstance(made, memoryview):
        return made
    with made:
        return bytes(made)


def _seal(digest) -> bytes:
    """Returns the end of a file whose other bytes have this SHA-256."""
    return SEAL + digest.hexdigest().encode()


def _check_seal(path: Path) -> None:
    """Raises ValueError where the file's seal is not that of its bytes."""
    size = path.stat().st_size - len(SEAL) - 64
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        for start in range(0, size, BLOCK):
            digest.update(file.read(min(BLOCK, size - start)))
        end = file.read(len(SEAL) + 64)
        if end.startswith(SEAL) and end != _seal(digest):
            raise ValueError("its bytes are not those that were written")


def load(path: str | Path) -> xr.DataTree:
    """Returns the tree that `save` wrote, in memory; no other file is read.

    Errors: OSError in one line for anything else, for what refers to other files, and for what claims more than it holds.
    """
    path = regular(path)
    try:
        _check_seal(path)
        with h5py.File(path, "r") as file:
            _check_contents(file, min(path.stat().st_size + ROOM, _memory()))
        # Times are not decoded: no quantity is one, and a unit is any file's word.
        with xr.open_datatree(path, engine="h5netcdf", phony_dims="access", decode_times=False) as tree:
            return checked(tree.load())
    except Exception as error:  # of three libraries, each with its own
        raise OSError(
            f"{printable(path)} is no result, or damaged ({reason(error)}): name a file that gf.results.save wrote"
        ) from None


def _check_contents(file: h5py.File, allowed: int) -> None:
    """Raises ValueError for the first thing in the file that `save` does not write, and for more bytes than are allowed."""
    seen: set[int] = set()
    taken = 0
    for name, member in _members(file, "", DEPTH):
        place = h5py.h5o.get_info(member.id).addr
        if place in seen:
            raise ValueError(f"{name} is there under another name")
        seen.add(place)
        if len(seen) > MANY:
            raise ValueError(f"more than {MANY} groups and datasets")
        taken += sum(_attributes(member, name))
        if not isinstance(member, h5py.Group):
            _numbers_or_text(name, member.dtype)
        if isinstance(member, h5py.Dataset):
            taken += _size(member, name, allowed)
        if taken > allowed:
            raise ValueError(f"with {name} it is {taken} bytes: more than the file or this machine has")


def _members(group: h5py.Group, name: str, depth: int) -> Iterator[tuple[str, h5py.HLObject]]:
    """Yields the group and all in it, by hard links alone: a link to elsewhere is not followed."""
    yield name or "the root", group
    if depth == 0:
        raise ValueError(f"groups are more than {DEPTH} deep")
    for child in group:
        path = f"{name}/{child}"
        if not isinstance(group.get(child, getlink=True), h5py.HardLink):
            raise ValueError(f"{path} is a link to elsewhere")
        member = group[child]
        if isinstance(member, h5py.Group):
            yield from _members(member, path, depth - 1)
        else:
            yield path, member


def _size(dataset: h5py.Dataset, name: str, allowed: int) -> int:
    """Returns the dataset's bytes in memory; an error where its values are packed or in other files."""
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
    """Returns the bytes of texts as an array whose every entry is as wide as the longest; in the file many may share a place."""
    if dataset.size > MANY:
        raise ValueError(f"{name} is more than {MANY} texts")
    width = 0
    for index in np.ndindex(dataset.shape):
        width = max(width, len(dataset[index]))
        if width * dataset.size * 4 > allowed:
            raise ValueError(f"the texts of {name} are more than the file or this machine has")
    return width * dataset.size * 4


def _attributes(member: h5py.HLObject, name: str) -> Iterator[int]:
    """Yields the bytes of each attribute: those in the file, but for texts, which may share one place there, those in memory."""
    for index in range(h5py.h5a.get_num_attrs(member.id)):
        attribute = h5py.h5a.open(member.id, index=index)
        label = attribute.name.decode(errors="replace")
        if label in PLACES:
            continue
        _numbers_or_text(f"{label} of {name}", attribute.dtype)
        if attribute.dtype.kind == "O":
            yield sum(map(len, np.ravel(member.attrs[label])))
        else:
            yield attribute.get_storage_size()


def _numbers_or_text(name: str, kind: np.dtype) -> None:
    text = h5py.check_string_dtype(kind) is not None
    if not text and kind.kind not in "biufc":
        raise ValueError(f"{name} holds neither numbers nor text")


def _memory() -> int:
    """Returns the bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
