"""Functions of a cell, which the processes of a grid can import."""

import os
import signal
from pathlib import Path

import numpy as np
import xarray as xr


def squares(number: int) -> xr.DataTree:
    """A tree of numbers that no two cells have alike, in two nodes."""
    values = np.random.default_rng(number).normal(size=4)
    return xr.DataTree.from_dict(
        {"/": xr.Dataset(attrs={"number": number}), "pre": xr.Dataset({"square": ("depth", values**2)})}
    )


def killed_once(number: int, victim: int, folder: str) -> xr.DataTree:
    """The same, but the process of one cell is killed, when it is first made."""
    trace = Path(folder) / f"made-{number}"
    again = trace.exists()
    trace.touch()
    if number == victim and not again:
        os.kill(os.getpid(), signal.SIGKILL)
    return squares(number)


def failing(number: int) -> xr.DataTree:
    """The same, but for cells that have no square root."""
    if number < 0:
        raise ValueError(f"{number} has no root")
    return squares(number)
