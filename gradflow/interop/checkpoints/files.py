"""Tensors of a folder in the safetensors format, one file or several with an index; nothing is read before it is asked for.

A file is mapped, so that what is read is one tensor at a time. Other formats are refused: a pickle can run code.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
OTHERS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.gguf", "*.npz")
FLOATS = ("F64", "F32", "F16", "BF16")


class Tensor(NamedTuple):
    """What a file's header says of one of its tensors, and the open file."""

    file: Any
    shape: tuple[int, ...]
    dtype: str

    @property
    def entries(self) -> int:
        """How many numbers it holds."""
        total = 1
        for size in self.shape:
            total *= size
        return total


def json_of(path: Path) -> dict:
    """The JSON object in a file.

    Errors: ValueError where there is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        why = f"({error.strerror}): a folder with config.json and safetensors is expected"
        raise ValueError(f"{path.name} of {path.parent} can't be read {why}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} of {path.parent} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} of {path.parent} holds a {type(found).__name__}: a JSON object is expected")
    return found


def tensors(folder: Path) -> dict[str, Tensor]:
    """`{name: Tensor}` of all the safetensors files that make up the model in a folder.

    Errors: ValueError for a folder without such a file, for one that is not whole, and for tensors that are there twice.
    """
    found: dict[str, Tensor] = {}
    for path in parts(folder):
        for name, tensor in read_header(path):
            if name in found:
                raise ValueError(f"{folder} has {name} in more than one file")
            found[name] = tensor
    return found


def parts(folder: Path) -> list[Path]:
    """The files that hold the tensors."""
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    if (folder / INDEX).is_file():
        return indexed(folder)
    single = sorted(folder.glob("*.safetensors"))
    if len(single) == 1:
        return single
    if single:
        raise ValueError(
            f"{folder} has {len(single)} safetensors files and no {INDEX} that says how they belong together"
        )
    other = sorted(path.name for pattern in OTHERS for path in folder.glob(pattern))
    if other:
        raise ValueError(
            f"{folder} has {other[0]}, and only safetensors is read (a pickle can run code): convert it where you trust it, "
            f"in Python with transformers: AutoModel….from_pretrained(folder).save_pretrained(new_folder)"
        )
    raise ValueError(f"{folder} has no {WHOLE}: a folder with config.json and safetensors is expected")


def indexed(folder: Path) -> list[Path]:
    """The files that an index names, each of which must be there."""
    named = json_of(folder / INDEX).get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(file, str) for file in named.values()):
        raise ValueError(f"{INDEX} of {folder} has no weight_map from tensors to files")
    files = sorted(set(named.values()))
    outside = [file for file in files if Path(file).name != file or not file.endswith(".safetensors")]
    if outside:
        raise ValueError(f"{INDEX} of {folder} names {outside[0]!r}: a safetensors file beside it is expected")
    absent = [file for file in files if not (folder / file).is_file()]
    if absent:
        raise ValueError(f"{folder} lacks {', '.join(absent)}, which {INDEX} names")
    return [folder / file for file in files]


def read_header(path: Path) -> Iterator[tuple[str, Tensor]]:
    """`(name, Tensor)` of every tensor in a file."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise ImportError("reading checkpoints needs safetensors: pip install 'gradflow-jax[hf]'") from None
    try:
        file = safe_open(path, framework="numpy")
        for name in file.keys():  # noqa: SIM118  (it is no dict)
            part = file.get_slice(name)
            yield name, Tensor(file, tuple(part.get_shape()), str(part.get_dtype()))
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path.name} of {path.parent} is not a whole safetensors file: {error}") from None
