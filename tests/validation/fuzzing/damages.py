"""Damages: what can happen to one file of a folder; each takes the file, a place in it as a share, and a seed."""

import json
import os
import shutil
from pathlib import Path

import numpy as np


def flipped(raw: bytes, place: float, seed: int) -> bytes:
    """One bit turned over."""
    if not raw:
        return b"x"
    at = min(int(place * len(raw)), len(raw) - 1)
    return raw[:at] + bytes([raw[at] ^ (1 << seed % 8)]) + raw[at + 1 :]


def flip(path: Path, place: float, seed: int) -> None:
    """One bit turned over."""
    path.write_bytes(flipped(path.read_bytes(), place, seed))


def cut(path: Path, place: float, _: int) -> None:
    """Only the beginning is left."""
    raw = path.read_bytes()
    path.write_bytes(raw[: int(place * len(raw))])


def gone(path: Path, *_) -> None:
    """Not there."""
    path.unlink()


def emptied(path: Path, *_) -> None:
    """Nothing in it."""
    path.write_bytes(b"")


def zeros(path: Path, *_) -> None:
    """As long as before, of zeros: what a crash of a machine leaves."""
    path.write_bytes(b"\0" * path.stat().st_size)


def noise(path: Path, _: float, seed: int) -> None:
    """Random bytes."""
    path.write_bytes(np.random.default_rng(seed).bytes(path.stat().st_size))


def pipe(path: Path, *_) -> None:
    """A pipe that nobody writes to."""
    path.unlink()
    os.mkfifo(path)


def directory(path: Path, *_) -> None:
    """A folder under that name."""
    path.unlink()
    path.mkdir()


def circle(path: Path, *_) -> None:
    """A link to itself."""
    path.unlink()
    path.symlink_to(path.name)


def device(path: Path, *_) -> None:
    """A link to a device."""
    path.unlink()
    path.symlink_to("/dev/zero")


def longer(path: Path, _: float, seed: int) -> None:
    """Something behind its end."""
    path.write_bytes(path.read_bytes() + b"x" * (1 + seed % 100))


def locked(path: Path, *_) -> None:
    """Not to be read."""
    path.chmod(0)


def folder_gone(path: Path, *_) -> None:
    """The folder that it is in is not there."""
    shutil.rmtree(path.parent)


DAMAGES = (flip, flip, cut, gone, emptied, zeros, noise, pipe, directory, circle, device, longer, locked, folder_gone)
VALUES = (None, True, 3, -1, 1.5, "", "x", [], {}, [1], {"a": 1}, "x" * 10_000, 10**30)


def edited(path: Path, place: float, seed: int) -> None:
    """One value of a JSON file replaced, or taken away."""
    told = json.loads(path.read_text(encoding="utf-8"))
    spots = list(_spots(told))
    holder, key = spots[min(int(place * len(spots)), len(spots) - 1)]
    choice = seed % (len(VALUES) + 1)
    if choice == len(VALUES):
        del holder[key]
    else:
        holder[key] = VALUES[choice]
    path.write_text(json.dumps(told), encoding="utf-8")


def _spots(told):
    """Every place of nested JSON data."""
    items = told.items() if isinstance(told, dict) else enumerate(told) if isinstance(told, list) else ()
    for key, value in list(items):
        yield told, key
        yield from _spots(value)
