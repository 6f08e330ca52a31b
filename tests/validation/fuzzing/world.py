"""What cases are made of: tiny models, texts, finished runs, and the checks that what ran is right; made once a process.

A check takes what a case returned, and raises `Wrong` where that is not so. `names` is what a line of code may say.
"""

import contextlib
import fcntl
import functools
import io
import json
import math
import os
import pickle
import shutil
import signal
import sys
import types
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
import xarray as xr

import gradflow as gf
from gradflow import cli

from . import running
from .checks import need

SHAPE = {"depth": 1, "width": 8, "heads": 2, "context": 8}
ROOT = Path()
SAVEFIG = matplotlib.figure.Figure.savefig


class Refused(Exception):
    """A command that left with an exit code of its own; `fault` says what is wrong with how it did."""

    def __init__(self, printed: str, fault: str):
        super().__init__(printed)
        self.fault = fault


class Unmade(Exception):
    """What a case needs could not be made."""


def stand_in(root: Path) -> None:
    """Where shared things lie from now on."""
    global ROOT
    ROOT = root
    (root / "shared").mkdir(exist_ok=True)
    os.environ["COLUMNS"] = "80"
    jax.devices()  # the compiler starts before memory is limited
    names()  # and what is imported is on no case's clock


def settled() -> None:
    """Ends what a case may have left open."""
    plt.close("all")
    for name, value in SETTINGS.items():
        jax.config.update(name, value)
    matplotlib.figure.Figure.savefig = SAVEFIG
    matplotlib.rcParams.update(matplotlib.rcParamsDefault)
    matplotlib.use("agg")


SETTINGS = {
    "jax_enable_x64": False,
    "jax_numpy_rank_promotion": "allow",
    "jax_numpy_dtype_promotion": "standard",
    "jax_debug_nans": False,
    "jax_disable_jit": False,
}


# ---- models, texts and results ------------------------------------------------------------------------------


def sample() -> Path:
    """A text of 1,024 bytes."""
    path = ROOT / "shared" / "text.bin"
    if not path.exists():
        part = path.with_name(f"{os.getpid()}.part")
        part.write_bytes(np.random.default_rng(0).integers(32, 127, 1024, np.uint8).tobytes())
        os.replace(part, path)
    return path


@functools.cache
def text(context: int = 8, batch: int = 2):
    """That text, cut."""
    return gf.data.text(sample(), context=context, batch=batch)


@functools.cache
def two():
    """Two models."""
    return gf.transformers("pre", "post", **SHAPE)


def one():
    """The first of them."""
    return two()["pre"]


@functools.cache
def bidirectional():
    """One that sees all tokens."""
    return gf.transformer("post", **SHAPE, attention=gf.branches.Attention(2, causal=False))


@functools.cache
def both_sides():
    """An encoder and a decoder."""
    small = gf.architecture("transformer-base").scaled(depth=1, width=8, vocabulary=256)
    return small.model()


@functools.cache
def weights(seeds: int = 1, model=None):
    """Weights of the first model, with a leading seed axis."""
    return jax.vmap((model or one()).init)(jax.random.split(jax.random.key(5), seeds))


@functools.cache
def ran():
    """A training run of both."""
    return gf.train(two(), text(), gf.Recipe(), steps=2, seeds=2, record=(0, 1, 2))[1]


@functools.cache
def started():
    """A measurement of both."""
    return gf.measure(two(), text(), seeds=2)


@functools.cache
def foretold():
    """The theory of it."""
    return gf.predict(two(), text(), draws=1, replicas=2)


@functools.cache
def swept():
    """Against the depth."""
    return gf.sweep(two(), text(), depth=(1, 2), seeds=2)


@functools.cache
def widened():
    """Against the width."""
    return gf.sweep(two(), text(), width=(8, 16), seeds=2)


@functools.cache
def widened_theory():
    """The theory of it."""
    return gf.sweep(two(), text(), width=(8, 16), take=gf.predict, draws=1, replicas=2)


@functools.cache
def spectral():
    """With all that is read of Jacobians."""
    return gf.measure(two(), text(), seeds=2, quantities=("backward", "spectrum", "lyapunov", "alignment"))


@functools.cache
def tried_out():
    """Two recipes side by side."""
    return gf.experiments.warmup(two(), text(), lrs=(1e-3,), warmups=(0, 1), steps=2, seeds=2)


# ---- commands -----------------------------------------------------------------------------------------------


def command(*words: str, encoding: str = "utf-8", stub: bool = True) -> str:
    """What the command line printed with these words; pictures are not drawn to the last unless `stub` is off.

    `Refused` where it left with an exit code that is not 0.
    """
    if stub:
        matplotlib.figure.Figure.savefig = _stubbed
    before, sys.argv = sys.argv, ["gradflow", *words]
    out, errors = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True) for _ in range(2))
    code = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            try:
                cli.main()
            except SystemExit as stop:
                code = stop.code
    finally:
        sys.argv = before
    printed, told = (stream.buffer.getvalue().decode(encoding, "replace") for stream in (out, errors))
    if code in (0, None):
        need("Traceback (most" not in told + printed, f"a traceback on the screen: {told[-200:]}")
        return printed
    told = "\n".join(line.rpartition("\r")[2] for line in told.split("\n")).strip()  # without bars
    raise Refused(told, _fault(code, told, printed))


def _fault(code, told: str, printed: str) -> str:
    if code != 2:
        return f"exit code {code!r}: {told[-200:]}"
    if "Traceback (most" in told:
        return f"a traceback: {told[-200:]}"
    lines = told.splitlines()
    if not lines or len(lines) > running.LINES or len(told) > 2 * running.CHARACTERS:
        return f"a refusal of {len(lines)} lines, {len(told)} characters: {' / '.join(lines)[:200]}"
    return f"printed before it was refused: {printed[:100]!r}" if printed.strip() else ""


def _stubbed(figure, path, *_, **__) -> None:
    """In the place of `savefig`: a file under that name."""
    Path(path).write_bytes(b"%PDF-1.4 stub")


def complete(out: str, *words: str, **options) -> None:
    """The command wrote its whole folder: a finished manifest, whose sums are those of the files, and numbers that load."""
    printed = command(*words, "--out", out, **options)
    manifest = json.loads((Path(out) / "manifest.json").read_text(encoding="utf-8"))
    need("finished" in manifest, "a manifest without an end")
    absent = [name for name in manifest["outputs"] if not (Path(out) / name).exists()]
    need(not absent, f"named, but not there: {absent}")
    tree = gf.results.load(Path(out) / "results.nc")
    losses = [np.asarray(node["loss"]) for node in tree.leaves if "loss" in node]
    need(bool(losses) and all(np.isfinite(loss).all() and (loss > 0).all() for loss in losses), "losses are no numbers")
    need(bool(printed.strip()), "nothing was told")


# ---- what takes time, made once for all processes -----------------------------------------------------------


def prepared(name: str) -> Path:
    """A folder of that name, made by the function of that name in `folders`, by whichever process comes first."""
    from . import folders

    place = ROOT / "shared" / name
    with (ROOT / "shared" / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        failed = place.with_suffix(".failed")
        if failed.exists():  # once is enough
            raise Unmade(failed.read_text(encoding="utf-8"))
        if not place.exists():
            made = ROOT / "shared" / f"{name}.{os.getpid()}.part"
            shutil.rmtree(made, ignore_errors=True)
            try:
                folders.MADE[name](made)
            except BaseException as error:
                failed.write_text(f"{name} could not be made: {type(error).__name__}: {error}", encoding="utf-8")
                raise Unmade(failed.read_text(encoding="utf-8")) from error
            os.replace(made, place)
    return place


@functools.cache
def names() -> dict:
    """The names of a line."""
    from . import batches, checks, commands, damages, files, folders, functions, trees

    shown = {name: value for name, value in globals().items() if not name.startswith("_")}
    own = [vars(module) for module in (checks, damages, trees, functions, batches, commands, files, folders)]
    found = {name: value for table in own for name, value in table.items() if not name.startswith("_")}
    return {**found, **shown}


__all__ = ["Decimal", "Fraction", "datetime", "jnp", "math", "optax", "pd", "pickle", "signal", "types", "xr"]
