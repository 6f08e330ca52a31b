"""The numbers that a run's summary and tables print, at full precision: a long table, one row a number with its interval.

Columns: `model`, `step` (where there are steps), `quantity`, `mean`, `low`, `high`, and `n`, the seeds that are finite there.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr

from ...results.statistics import band
from ...results.tree import nodes, variable
from . import extremes, jacobians
from .profiles import compared, digits, interval, signed

BOTTOM = "bottom / readout"
FINAL_NORM = "final norm"
EXPONENT = "leading Lyapunov exponent"
VOLUMES = {"fork": "log-volume, skip + branch", "norm_out": "log-volume, norm", "sublayer": "log-volume, whole"}
COLUMNS = ("mean", "low", "high", "n")
# How numbers are written: log-gains with their sign, Lyapunov exponents with three decimals; all others by `digits`.
SIGNED = ("norm", "fork", "net", FINAL_NORM, *VOLUMES.values())


def results(run, ends_of_models: Mapping[str, Mapping[str, xr.Dataset]]) -> pd.DataFrame:
    """Returns the table of a run; `ends_of_models` are those of its `outcome`.

    The gradient at the bottom relative to the readout, the budget, the final norm, the loss; what was read of Jacobians, of
    attention, of massive activations and of layer removal; and the first of these against the first model's, paired over seeds.
    """
    frames = []
    for name, ends in ends_of_models.items():
        budget = ends["budget"]
        bands = {BOTTOM: ends["bottom"]}
        for part in budget["part"].values:
            bands[str(part)] = budget.sel(part=part)
        bands |= {FINAL_NORM: ends["leave_gain"], "loss": ends["loss"]}
        bands |= _jacobians(nodes(run)[name])
        bands |= extremes.bands(nodes(run)[name])
        bands |= _against_the_first(run, name)
        for quantity, numbers in bands.items():
            frames.append(rows(name, quantity, numbers))
    return pd.concat(frames, ignore_index=True)


def rows(model: str, quantity: str, numbers: xr.Dataset) -> pd.DataFrame:
    """Returns a band as rows of the table, one a step."""
    bare = numbers[list(COLUMNS)].reset_coords(drop=True)
    if "step" not in bare.dims:
        bare = bare.expand_dims("row")
    frame = bare.to_dataframe().reset_index().drop(columns="row", errors="ignore")
    frame.insert(0, "model", model)
    frame.insert(list(frame.columns).index("mean"), "quantity", quantity)
    return frame


def _jacobians(node) -> dict[str, xr.Dataset]:
    """Returns the leading Lyapunov exponent and the log-volumes over the whole stack, where they were measured."""
    found = {}
    if "lyapunov_exponent" in node:
        found[EXPONENT] = band(variable(node, "lyapunov_exponent").isel(direction=0, drop=True))
    if "log_volume" in node and "lost_directions" in node:
        totals = jacobians.stack_volumes(node)
        for factor, quantity in VOLUMES.items():
            found[quantity] = band(totals.sel(jacobian=factor))
    return found


def _against_the_first(run, name: str) -> dict[str, xr.Dataset]:
    """Returns a model's gradient at the bottom over the first model's, and their correlation over seeds."""
    first = next(iter(nodes(run)))
    if name == first:
        return {}
    log_ratio = compared(run, name, first)
    with np.errstate(over="ignore"):
        ratio = xr.Dataset({name: np.exp(log_ratio[name]) for name in ("mean", "low", "high")}).assign(n=log_ratio["n"])
    unknown = xr.full_like(log_ratio["mean"], np.nan)
    correlation = xr.Dataset({"mean": log_ratio["correlation"], "low": unknown, "high": unknown, "n": log_ratio["n"]})
    return {f"{BOTTOM}, over that of {first}": ratio, f"correlation with {first}": correlation}


def shown(quantity: str | None) -> Callable[[float], str]:
    """Returns the function that writes a number of that quantity, or of any other."""
    if quantity in SIGNED:
        return signed
    if quantity == EXPONENT:
        return partial(signed, places=3)
    return digits


def written(row: Mapping) -> str:
    """Returns a row's number as tables print it: `0.52 [0.48, 0.57]`."""
    return interval(row, shown(row["quantity"]))
