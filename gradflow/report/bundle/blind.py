"""Blind bundles: nothing in them tells whose they are: no path, commit, host, user or kernel, in any file."""

import getpass
import os
import platform
import re
import shlex
import socket
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import xarray as xr

from ...results.stored import load
from ...results.tree import decoded_attribute, plain_attribute

LEFT_OUT = ("gradflow_source", "working_directory")  # commits
FILES = ("text", "tokens", "folder")  # options that name files
ANONYMOUS = "anonymous"
_PATH = re.compile(r"""(?<![\w./~-])(?:~|[A-Za-z]:(?=[\\/]))?[\\/][\w.~-][^\s'"`,;:)\]}]*""")
_SHORT = 4  # letters of a name that may be part of a word


def blinded(data: Any) -> Any:
    """Returns plain data without what tells whose it is: paths are their last part, commits and hosts are left out."""
    if isinstance(data, Mapping):
        kept = {}
        for name, value in data.items():
            if name == "platform" and isinstance(value, str):
                kept[name] = value.split("-")[0]
            elif name == "command" and isinstance(value, str):
                kept[name] = _command(value)
            elif name in FILES and isinstance(value, str):
                kept[name] = _text(_name(value))
            elif name not in LEFT_OUT:
                kept[name] = blinded(value)
        return kept
    if isinstance(data, list | tuple):
        return [blinded(value) for value in data]
    if isinstance(data, str):
        return _text(data)
    return data


def _command(text: str) -> str:
    """Returns a command whose words that are paths are their last part; the folder of the result is called `out`."""
    try:
        words = shlex.split(text)
    except ValueError:
        return _text(text)
    kept: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if kept and kept[-1] == "--out":
            kept.append("out")
        elif name == "--out" and equals:
            kept.append("--out=out")
        elif equals:
            kept.append(_text(f"{name}={_name(value)}"))
        else:
            kept.append(_text(_name(word)))
    return shlex.join(kept)


def _name(path: str) -> str:
    """Returns the last part of a path; any other word unchanged."""
    if "/" not in path and "\\" not in path:
        return path
    return PurePath(path.replace("\\", "/")).name


def _text(text: str) -> str:
    """Returns text with every path as its last part, and without the names of this machine and its user."""
    text = _PATH.sub(_last_part, text)
    for word in identifying():
        text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", ANONYMOUS, text)
    return text


def _last_part(match: re.Match) -> str:
    return _name(match[0])


def identifying() -> list[str]:
    """Returns what tells of this machine and its user: names and paths that are no words of a text."""
    found = [socket.gethostname(), platform.node(), platform.release(), str(Path.cwd()), str(Path.home())]
    try:
        found.append(getpass.getuser())
    except (OSError, KeyError):  # a user without a name
        found.append("")
    found.append(os.environ.get("HOSTNAME", ""))
    told = []
    for word in found:
        if len(word) > _SHORT and word not in ("localhost", "local", "runner") and word not in told:
            told.append(word)
    return told


def blinded_tree(tree: xr.DataTree) -> xr.DataTree:
    """Returns a copy of results whose attributes are blind."""
    datasets = {}
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False).copy()
        dataset.attrs = {name: _attribute(value) for name, value in dataset.attrs.items()}
        datasets[node.relative_to(tree)] = dataset
    return xr.DataTree.from_dict(datasets)


def _attribute(value):
    """Returns one attribute blind: JSON part by part."""
    return plain_attribute(blinded(decoded_attribute(value)))


def check(files: Iterable[Path], words: Iterable[str]) -> None:
    """Raises where a file holds one of the words: in its bytes, in what a PDF or a PNG has compressed, or in an attribute.

    Errors: ValueError that names the file.
    """
    wanted = [word.encode() for word in words if word]
    for path in files:
        for content in insides(path):
            for word in wanted:
                if re.search(rb"(?<!\w)" + re.escape(word) + rb"(?!\w)", content):
                    raise ValueError(f"{path.name} would tell {word.decode()!r}, which is no blind bundle: rename it")


def insides(path: Path) -> Iterator[bytes]:
    """Yields a file's bytes, and what they hold in other words: streams of a PDF, texts of a PNG, attributes of results."""
    content = path.read_bytes()
    yield content
    if path.suffix == ".pdf":
        for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL):
            yield _inflated(stream)
    elif path.suffix == ".png":
        for chunk in re.findall(rb"(?:zTXt|iTXt)([^\0]{1,79}\0.*)", content, re.DOTALL):
            yield _inflated(chunk[chunk.index(b"\0") + 2 :])
    elif path.suffix == ".nc":
        for node in load(path).subtree:
            attributes = [node.attrs, *(variable.attrs for variable in node.variables.values())]
            yield repr([node.path, list(node.variables), attributes]).encode()


def _inflated(stream: bytes) -> bytes:
    """Returns what zlib packed, as far as it can be unpacked."""
    try:
        return zlib.decompressobj().decompress(stream)
    except zlib.error:
        return b""
