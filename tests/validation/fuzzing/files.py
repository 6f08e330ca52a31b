"""Files: texts, tokens, tokenizers, configurations, weights and results, whole and not, and what is no file at all."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import h5py
import numpy as np

import gradflow as gf
from gradflow.interop.tokenizer import cut as cut_text
from gradflow.interop.tokens import of_file

from . import world
from .cases import EITHER, REFUSED, Line
from .checks import need
from .contents import ARRAYS, CONFIGS, NUMBERS, OTHERS, RAW, RESULTS, SIZES, TENSORS, TEXTS, TOKENIZERS, VALUES, WEIGHTS
from .damages import flipped

# ---- texts and tokens ---------------------------------------------------------------------------------------


def put_file(content: bytes, name: str = "file.txt") -> Path:
    """A file with that content."""
    Path(name).write_bytes(content)
    return Path(name)


def text_of(path, context: int = 8) -> None:
    """A text holds the bytes of its file, and its batches come from them."""
    data = gf.data.text(path, context=context, batch=2)
    content = Path(path).read_bytes()
    need(data.tokens.tobytes() == content, "other bytes than the file's")
    row = bytes(np.asarray(data.batch(0, 0)["inputs"])[0].astype(np.uint8))
    need(row in content, "a batch that is not of the text")


def tokens_of(path, expected=None) -> None:
    """The tokens in a file are the numbers that were written there."""
    found = of_file(path)
    need(found.ndim == 1 and found.dtype.kind in "iu", f"{found.dtype} of shape {found.shape}")
    if expected is not None:
        need(found.tolist() == list(expected), f"{found.tolist()[:5]} for {list(expected)[:5]}")


def array_file(array, name: str = "file.npy") -> Path:
    """An array in a file."""
    np.save(name, array, allow_pickle=True)
    return Path(name)


def claiming(shape: str, descr: str = "<i8") -> Path:
    """An array's file whose header claims a shape that its data have not."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}"
    body = header.ljust(117) + "\n"
    return put_file(b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body.encode() + b"\0" * 64, "file.npy")


def socket_file() -> str:
    """The address of a socket."""
    import socket

    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
    return "socket"


# ---- a model's folder ---------------------------------------------------------------------------------------


def folder_of(name: str = "toy") -> Path:
    """A copy of a trained model's folder."""
    import shutil

    return Path(shutil.copytree(world.prepared(name), "model"))


def configured(**changed):
    """`gf.checkpoint` of the toy, with some values of its configuration changed; `...` takes one away."""
    folder = folder_of()
    told = json.loads((folder / "config.json").read_text()) | changed
    kept = {name: value for name, value in told.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(kept))
    return read(folder)


def read(folder: Path):
    """The model and its weights; its parameters have the shapes that the model says."""
    import jax

    model, params = gf.checkpoint(folder)
    shapes = [a.shape for a in jax.tree.leaves(model.shapes)]
    need([a.shape for a in jax.tree.leaves(params)] == shapes, "parameters of other shapes than the model's")
    return model, params


def config_of(content: bytes):
    """`gf.checkpoint` with that for a configuration."""
    folder = folder_of()
    (folder / "config.json").write_bytes(content)
    return read(folder)


def weights_of(content=None, **changed):
    """`gf.checkpoint` with that for weights; or with tensors changed: `...` takes one away."""
    folder = folder_of()
    path = folder / "model.safetensors"
    if content is None:
        from safetensors.numpy import load_file, save_file

        held = {**load_file(path), **{name.replace("__", "."): value for name, value in changed.items()}}
        save_file({name: value for name, value in held.items() if value is not ...}, path)
    else:
        path.write_bytes(content(path.read_bytes()))
    return read(folder)


def header(**changed):
    """What changes the header of a file of weights, of the first tensor."""

    def make(raw: bytes) -> bytes:
        size = int.from_bytes(raw[:8], "little")
        told = json.loads(raw[8 : 8 + size])
        first = next(name for name in told if name != "__metadata__")
        told[first] |= changed
        written = json.dumps(told).encode()
        return len(written).to_bytes(8, "little") + written + raw[8 + size :]

    return make


def tokenized(content: bytes) -> None:
    """Tokens of a text by a tokenizer that may be hostile."""
    folder = folder_of()
    (folder / "tokenizer.json").write_bytes(content)
    found = cut_text(folder, "a b c a").ids
    need(found.dtype.kind in "iu" and (found >= 0).all(), "tokens that are none")


def tokenizer() -> dict:
    """One that can be read."""
    return json.loads((world.prepared("toy") / "tokenizer.json").read_text())


def tokenizer_with(*path, value) -> bytes:
    """It, changed in one place."""
    told = tokenizer()
    place = told
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(told).encode()


# ---- results ------------------------------------------------------------------------------------------------


def results_with(change) -> None:
    """Results whose file was changed by hand, read."""
    path = world.names()["kept"]()
    with h5py.File(path, "a") as file:
        change(file)
    gf.results.load(path)


def external_link(file) -> None:
    """A group that is another file's."""
    other = world.names()["kept"]().rename("other.nc") if not Path("other.nc").exists() else Path("other.nc")
    file["elsewhere"] = h5py.ExternalLink(str(other), "/")


def external_data(file) -> None:
    """Numbers that are those of another file's bytes."""
    made = file["pre"].create_dataset("secret", (16,), "u1", external=[("/etc/hostname", 0, 16)])
    made.attrs["long_name"] = "secret"


def huge(shape: tuple, chunks=True):
    """A variable of a size that no machine holds, of which nothing is there."""

    def change(file) -> None:
        place = file["pre"]
        made = place.create_dataset("large", shape, "f8", chunks=(1,) * len(shape) if chunks else None, fillvalue=1.0)
        made.attrs["long_name"] = "large"

    return change


def hard_link_loop(file) -> None:
    """A group inside itself."""
    file["pre"]["again"] = file["pre"]


def soft_link(file) -> None:
    """A link to nowhere."""
    file["pre"]["nowhere"] = h5py.SoftLink("/nothing")


def without(name: str):
    """A variable less."""

    def change(file) -> None:
        del file["pre"][name]

    return change


def attribute(name: str, value):
    """Another attribute of the root."""

    def change(file) -> None:
        file.attrs[name] = value

    return change


def lines(chance: Random) -> Iterator[Line]:
    """Of all of these; then bytes changed anywhere, without end."""
    toy = ("toy",)
    yield from (Line(f"text_of({code})", verdict) for code, verdict in TEXTS.items())
    yield from (Line(f"tokens_of(put_file({code}), {right})", verdict) for code, (verdict, right) in NUMBERS.items())
    yield from (Line(f"tokens_of({code}, {right})", verdict) for code, (verdict, right) in ARRAYS.items())
    yield from (
        Line(f"tokens_of({code})", verdict)
        for code, verdict in TEXTS.items()
        if verdict == REFUSED and "b''" not in code and "/dev/null" not in code
    )
    yield from (Line(f"configured({code})", verdict, toy) for code, verdict in CONFIGS.items())
    yield from (Line(f"config_of({code})", REFUSED, toy) for code in RAW)
    yield from (Line(f"weights_of({code})", verdict, toy) for code, verdict in WEIGHTS.items())
    yield from (Line(f"weights_of({code})", verdict, toy) for code, verdict in TENSORS.items())
    yield from (Line(f"tokenized({code})", REFUSED, toy) for code in RAW)
    yield from (Line(f"tokenized(tokenizer_with(*{code}))", EITHER, toy) for code in TOKENIZERS)
    yield from (Line(f"results_with({code})", verdict) for code, verdict in RESULTS.items())
    for name in SIZES:
        for value in VALUES:
            yield Line(f"configured({name}={value})", EITHER if value == "..." else REFUSED, toy)
    for name in OTHERS:
        for value in VALUES:
            yield Line(f"configured({name}={value})", EITHER, toy)
    while True:
        place, what = chance.random(), chance.choice(("flipped", "shortened", "emptied_at"))
        target = chance.choice(("config.json", "model.safetensors", "tokenizer.json", "results.nc"))
        seed = chance.randrange(1000)
        yield Line(f"changed_file({target!r}, {what}, {place:.4f}, {seed})", EITHER, toy)


def shortened(raw: bytes, place: float, _: int) -> bytes:
    """Cut off there."""
    return raw[: int(place * len(raw))]


def emptied_at(raw: bytes, place: float, seed: int) -> bytes:
    """Some bytes set to zero there."""
    start = int(place * len(raw))
    return raw[:start] + b"\0" * min(1 + seed % 64, len(raw) - start) + raw[start + 1 + seed % 64 :]


def changed_file(name: str, change, place: float, seed: int) -> None:
    """A file whose bytes were changed, read: refused, or of the shapes that it says."""
    path = world.names()["kept"]() if name == "results.nc" else folder_of() / name
    path.write_bytes(change(path.read_bytes(), place, seed))
    if name == "results.nc":
        gf.results.load(path)
    elif name == "tokenizer.json":
        cut_text(path.parent, "a b c")
    else:
        read(path.parent)


__all__ = ["flipped", "os"]
