"""Tensors of a folder in the safetensors format, one file or several with an index; nothing is read before it is asked for.

A file is mapped, so that what is read is one tensor at a time. Other formats are refused: a pickle can run code.

What lies in such a folder was written by others: JSON is read up to a size and a depth, names are escaped where they would not
print, and what a library says of a file is one line.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np

from ...results.arguments import shown
from ...results.files import printable, regular

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
OTHERS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.gguf", "*.npz")
FLOATS = ("F64", "F32", "F16", "BF16")
WHOLE_NUMBERS = ("I64", "I32")
FLOAT8 = "F8_E4M3"  # a number beside it says what it is multiplied by, block by block
LARGEST = 2**26  # bytes of a JSON file; the longest index that is known has a seventh of it
DEEPEST = 30  # objects and lists in each other
NAMED = 4  # names in a line
ROOM = 160  # characters of them
LONGEST = 120  # characters of a name, or of what a library says


class Stored(Protocol):
    """A tensor in a file, of which `tensor[slices]` reads a part."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        ...

    @property
    def dtype(self) -> str:
        """The type of its numbers, as safetensors calls it."""
        ...

    def __getitem__(self, index) -> np.ndarray:
        """Returns the part."""
        ...


@dataclass(frozen=True)
class Tensor:
    """What a file's header says of one of its tensors, and the open file, of which `tensor[slices]` reads a part."""

    file: Any
    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: str

    def __getitem__(self, index) -> np.ndarray:
        if self.dtype == FLOAT8:
            return _float8(self)[index]
        return self.file.get_slice(self.name)[index]

    @property
    def entries(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def _float8(tensor: Tensor) -> np.ndarray:
    """Returns the numbers of 8 bits of a tensor, which the library does not hand to NumPy, from where the header has them."""
    with tensor.path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        begin, end = json.loads(file.read(length))[tensor.name]["data_offsets"]
        file.seek(8 + length + begin)
        return np.frombuffer(file.read(end - begin), jnp.float8_e4m3fn).reshape(tensor.shape)


def json_of(path: Path) -> dict:
    """Returns the JSON object in a file.

    Errors: ValueError where there is none.
    """
    own = f"{path.name} of {printable(path.parent)}"
    try:
        size = regular(path).stat().st_size
    except OSError as error:
        raise ValueError(f"{error}: a folder with config.json and safetensors is expected") from None
    if size > LARGEST:
        raise ValueError(f"{own} has {size} bytes: at most {LARGEST} are read")
    try:
        found = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{own} is not JSON: {plain(str(error))}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{own} holds a {type(found).__name__}: a JSON object is expected")
    if _deeper(found, DEEPEST):
        raise ValueError(f"{own} is not JSON of a model: it has more than {DEEPEST} objects in each other")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict:
    """Returns the object, no name of which is there twice."""
    entries: dict[str, Any] = {}
    for name, value in pairs:
        if name in entries:
            raise ValueError(f"{plain(name)} is there twice")
        entries[name] = value
    return entries


def _deeper(value, most: int) -> bool:
    """Returns whether objects and lists are in each other more than so many times."""
    level = [value]
    for _ in range(most):
        level = _inside(level)
    return any(isinstance(one, dict | list) for one in level)


def _inside(values: list) -> list:
    """Returns what lies in the objects and lists among some values."""
    entries: list = []
    for value in values:
        if isinstance(value, dict):
            entries += value.values()
        elif isinstance(value, list):
            entries += value
    return entries


def plain(words: str) -> str:
    """Returns a name, or what a library says, for a line of text: as it is, where it is short and prints."""
    if words.isprintable() and 0 < len(words) <= LONGEST:
        return words
    return shown(words)


def several(words: list[str], between: str = ", ") -> str:
    """Returns the first of them for a line of text, and how many more there are."""
    fits, length = words[:1], sum(map(len, words[:1]))
    for word in words[1:NAMED]:
        length += len(word)
        if length < ROOM:
            fits.append(word)
    text = between.join(fits)
    if len(words) > len(fits):
        text += f" and {len(words) - len(fits)} more"
    return text


def sums(folder: Path) -> dict[str, str]:
    """Returns `{file: SHA-256}` of the files that hold the tensors of a folder."""
    found = {}
    for path in parts(folder):
        with regular(path).open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def tensors(folder: Path) -> dict[str, Tensor]:
    """Returns `{name: Tensor}` of all the safetensors files that make up the model in a folder.

    Errors: ValueError for a folder without such a file, for one that is not whole, and for tensors that are there twice.
    """
    found: dict[str, Tensor] = {}
    for path in parts(folder):
        for name, tensor in read_header(path):
            if name in found:
                raise ValueError(f"{printable(folder)} has {plain(name)} in more than one file")
            found[name] = tensor
    return found


def parts(folder: Path) -> list[Path]:
    """Returns the files that hold the tensors."""
    if folder.is_file():
        return [folder]
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    if (folder / INDEX).is_file():
        return indexed(folder)
    single = sorted(folder.glob("*.safetensors"))
    if len(single) == 1:
        return single
    if single:
        raise ValueError(
            f"{printable(folder)} has {len(single)} safetensors files and no {INDEX} that says how they belong together"
        )
    other = sorted(path.name for pattern in OTHERS for path in folder.glob(pattern))
    if other:
        raise ValueError(
            f"{printable(folder)} has {plain(other[0])}, and only safetensors is read (a pickle can run code): convert it where "
            f"you trust it, in Python with transformers: AutoModel….from_pretrained(folder).save_pretrained(new_folder)"
        )
    raise ValueError(f"{printable(folder)} has no {WHOLE}: a folder with config.json and safetensors is expected")


def indexed(folder: Path) -> list[Path]:
    """Returns the files that an index names, each of which must be there."""
    named = json_of(folder / INDEX).get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(file, str) for file in named.values()):
        raise ValueError(f"{INDEX} of {printable(folder)} has no weight_map from tensors to files")
    files = sorted(set(named.values()))
    outside = [file for file in files if Path(file).name != file or not file.endswith(".safetensors")]
    if outside:
        raise ValueError(
            f"{INDEX} of {printable(folder)} names {shown(outside[0])}: a safetensors file beside it is expected"
        )
    absent = [file for file in files if not os.path.isfile(folder / file)]  # whatever the name
    if absent:
        raise ValueError(f"{printable(folder)} lacks {several([plain(one) for one in absent])}, which {INDEX} names")
    return [folder / file for file in files]


def read_header(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Returns `(name, Tensor)` of every tensor in a file."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise ImportError("reading checkpoints needs safetensors: pip install 'gradflow-jax[hf]'") from None
    try:
        regular(path)
    except OSError as error:
        raise ValueError(str(error)) from None
    try:
        file = safe_open(path, framework="numpy")
        for name in file.keys():  # noqa: SIM118  (it is no dict)
            part = file.get_slice(name)
            yield name, Tensor(file, path, name, tuple(part.get_shape()), str(part.get_dtype()))
    except (SafetensorError, OSError, ValueError) as error:
        own = f"{plain(path.name)} of {printable(path.parent)}"
        raise ValueError(f"{own} is not a whole safetensors file: {plain(str(error))}") from None
