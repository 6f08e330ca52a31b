"""The numbers behind experiments: the outcome of a run, the best recipe, differences of paired runs, and collapse over time.

A run's outcome is its loss on held-out text after the last step. It *diverged* where that is not finite, or no better than
at the start. Columns as in `tables`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from ...results.arguments import suggestions
from ...results.statistics import band, paired_difference
from ...results.sweeps import against_size
from ...results.tree import relative, variable
from .budget import NET, net_budget
from .profiles import long, nodes

THROUGH = ("bottom / readout", "norm", "fork", "token cosine", "held-out loss")


def final(node) -> xr.DataArray:
    """Returns the held-out loss after the last step [recipe, seed]; nat."""
    return variable(node, "heldout_loss").isel(step=-1, drop=True)


def diverged(node) -> xr.DataArray:
    """Returns whether the held-out loss is not finite, or not below that at the start [recipe, seed]."""
    start = variable(node, "heldout_loss").isel(step=0, drop=True)
    return ~(final(node) < start)


def outcomes(tree) -> pd.DataFrame:
    """Returns one row a model and recipe: the final held-out loss over the `n` finite seeds, and how many seeds diverged."""
    frames = []
    for name, node in nodes(tree).items():
        frame = long({name: final(node)})
        frame["diverged"] = diverged(node).sum("seed").values
        frame["seeds"] = node.sizes["seed"]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def best(tree) -> dict[str, str]:
    """Returns the recipe with the smallest mean final loss of each model, among those with no seed that diverged."""
    chosen = {}
    for name, rows in outcomes(tree).groupby("model", sort=False):
        stable = rows[(rows["diverged"] == 0) & np.isfinite(rows["mean"])]
        if not stable.empty:
            chosen[str(name)] = str(stable.loc[stable["mean"].idxmin(), "recipe"])
    return chosen


def difference(a: xr.DataArray, b: xr.DataArray) -> xr.Dataset:
    """Returns `a − b` of two models' or recipes' final losses, paired over seeds; nat."""
    return paired_difference(a.reset_coords(drop=True), b.reset_coords(drop=True))


def sensitivity(node) -> xr.Dataset:
    """Returns `mean over recipes of min(loss, loss at the start) − the smallest of them`, with its interval over seeds; nat.

    With recipes that differ in their learning rate alone it is the sensitivity to it (Wortsman et al. 2023, section 2.3).
    """
    start = variable(node, "heldout_loss").isel(step=0, drop=True)
    loss = final(node)
    finite = loss.where(np.isfinite(loss), np.inf)
    capped = xr.where(finite < start, finite, start)
    spread = (capped - capped.min("recipe")).mean("recipe")
    return band(spread.rename("loss_sensitivity"))


def amplification(swept, quantity: str = "output_change") -> pd.DataFrame:
    """Returns the mean square over seeds of the change of the output by one update, against the number of blocks.

    The column `proportional` is the line through the first one that grows as the number of blocks.
    """
    changes = against_size(swept, quantity, "total_depth")
    squares = {name: (values**2).rename(quantity) for name, values in changes.items()}
    table = long(squares)
    first = table.groupby("model", sort=False)[["mean", "total_depth"]].transform("first")
    return table.assign(proportional=first["mean"] * table["total_depth"] / first["total_depth"])


def through(run, quantities: Sequence[str] = THROUGH) -> pd.DataFrame:
    """Returns quantities of `THROUGH` against the step; the column `quantity` says which one."""
    frames = []
    for name, node in nodes(run).items():
        for quantity in quantities:
            frame = long({name: _through(node, quantity)})
            frames.append(frame.assign(quantity=quantity))
    return pd.concat(frames, ignore_index=True)


def _through(node, quantity: str) -> xr.DataArray:
    if quantity == "bottom / readout":
        return relative(node, "stream_gradient").isel(depth=0, drop=True)
    if quantity in NET:
        return net_budget(node).sel(part=quantity, drop=True)
    if quantity == "token cosine":
        return variable(node, "token_cosine").isel(depth=-1, drop=True)
    if quantity == "held-out loss":
        return variable(node, "heldout_loss")
    if quantity == "loss":
        return variable(node, "loss")
    names = ("bottom / readout", *NET, "token cosine", "held-out loss", "loss")
    raise ValueError(f"no {quantity!r} through training: {suggestions(quantity, names)}")


def ends_of_sublayers(run, kind: str = "mlp", parameter: str = "down") -> dict[str, xr.Dataset]:
    """Returns `log(first/last)` of a parameter's gradient among the sublayers of a kind, by step, as bands over seeds."""
    ratios = {}
    for name, node in nodes(run).items():
        profile = variable(node, "parameter_gradient").sel(parameter=parameter, drop=True)
        profile = profile.isel(sublayer=np.flatnonzero(node["kind"].values == kind))
        ratio = profile.isel(sublayer=0, drop=True) / profile.isel(sublayer=-1, drop=True)
        ratios[name] = band(ratio.reset_coords(drop=True).rename("parameter_gradient"))
    return ratios
