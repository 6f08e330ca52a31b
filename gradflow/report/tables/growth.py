"""How the stream grows with depth: its mean square, with the power of the position that it follows."""

import numpy as np
import pandas as pd
import xarray as xr

from ... import laws
from .fits import fitting
from .profiles import long, profiles_of


def variance(tree, *, steps=None) -> pd.DataFrame:
    """Returns the mean square of the stream at positions from 1 on, with its law `a l^k` (column `law`, in words in `text`).

    A geometric mean over seeds with its interval, as a norm has. Of what has no law the text is empty.
    """
    frames = []
    for name, values in profiles_of(tree, "stream_rms", None, steps, {}).items():
        squares = (values.isel(depth=slice(1, None)) ** 2).rename("stream_mean_square")
        if "step" not in squares.dims:
            frames.append(_with_law(name, squares))
            continue
        for step in squares["step"].values:
            frames.append(_with_law(name, squares.sel(step=step, drop=True)).assign(step=int(step)))
    return pd.concat(frames, ignore_index=True)


def _with_law(name: str, squares: xr.DataArray) -> pd.DataFrame:
    """Returns the table of one model at one step."""
    table = long({name: squares})
    table["law"], table["text"] = np.nan, ""
    usable = fitting(squares, "depth")
    if usable is None:
        return table
    fitted = laws.fit(usable, laws.monomial, over="depth")
    curve = laws.curve(fitted, laws.monomial, table["depth"].to_numpy())
    return table.assign(law=curve, text=laws.sentence(fitted))
