"""The numbers behind experiments: what a run came to, which recipe is best, what pairs of runs differ by, through training.

A run's outcome is its loss on held-out text after the last step. It *diverged* where that is not finite, or no better than
at the start. Columns as in `tables`.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr

from ...results.arguments import suggestions
from ...results.statistics import band, paired_difference
from ...results.tree import against_size, relative, variable
from . import profiles
from .profiles import NET, long, net_budget, nodes

THROUGH = ("bottom / readout", "norm", "fork", "token cosine", "held-out loss")


def final(node) -> xr.DataArray:
    """The held-out loss after the last step [recipe, seed]; nat."""
    return variable(node, "heldout_loss").isel(step=-1, drop=True)


def diverged(node) -> xr.DataArray:
    """Whether a run came to nothing: its held-out loss is not finite, or not below that at the start [recipe, seed]."""
    start = variable(node, "heldout_loss").isel(step=0, drop=True)
    return ~(final(node) < start)


def outcomes(tree) -> pd.DataFrame:
    """One row a model and recipe: the final held-out loss over the `n` seeds where it is finite, and how many seeds diverged."""
    frames = []
    for name, node in nodes(tree).items():
        frame = long({name: final(node)})
        frames.append(frame.assign(diverged=diverged(node).sum("seed").values, seeds=node.sizes["seed"]))
    return pd.concat(frames, ignore_index=True)


def best(tree) -> dict[str, str]:
    """The recipe with the smallest mean final loss of each model, among those with no seed that diverged."""
    chosen = {}
    for name, rows in outcomes(tree).groupby("model", sort=False):
        stable = rows[(rows["diverged"] == 0) & np.isfinite(rows["mean"])]
        if not stable.empty:
            chosen[str(name)] = str(stable.loc[stable["mean"].idxmin(), "recipe"])
    return chosen


def difference(a: xr.DataArray, b: xr.DataArray) -> xr.Dataset:
    """`a − b` of two models' or recipes' final losses, paired over seeds; nat."""
    return paired_difference(a.reset_coords(drop=True), b.reset_coords(drop=True))


def sensitivity(node) -> xr.Dataset:
    """`mean over recipes of min(loss, loss at the start) − the smallest of them`, of each seed, with its interval; nat.

    With recipes that differ in their learning rate alone it is the sensitivity to it (Wortsman et al. 2023, section 2.3).
    """
    start, loss = variable(node, "heldout_loss").isel(step=0, drop=True), final(node)
    kept = loss.where(np.isfinite(loss), np.inf)
    capped = xr.where(kept < start, kept, start)
    return band((capped - capped.min("recipe")).mean("recipe").rename("loss_sensitivity"))


def amplification(swept, quantity: str = "output_change") -> pd.DataFrame:
    """The mean square over seeds of the change of the output by one update, against the number of blocks."""
    squares = {name: values**2 for name, values in against_size(swept, quantity, "total_depth").items()}
    return long({name: values.rename(quantity) for name, values in squares.items()})


def through(run, quantities: Sequence[str] = THROUGH) -> pd.DataFrame:
    """What a collapse is made of, against the step: the column `quantity` says which of `THROUGH`."""
    frames = []
    for name, node in nodes(run).items():
        frames += [long({name: _through(node, quantity)}).assign(quantity=quantity) for quantity in quantities]
    return pd.concat(frames, ignore_index=True)


def _through(node, quantity: str) -> xr.DataArray:
    found: dict[str, Callable[[], xr.DataArray]] = {
        "bottom / readout": lambda: relative(node, "stream_gradient").isel(depth=0, drop=True),
        **{part: partial(lambda part: net_budget(node).sel(part=part, drop=True), part) for part in NET},
        "token cosine": lambda: variable(node, "token_cosine").isel(depth=-1, drop=True),
        "held-out loss": lambda: variable(node, "heldout_loss"),
        "loss": lambda: variable(node, "loss"),
    }
    if quantity not in found:
        raise ValueError(f"no {quantity!r} through training: {suggestions(quantity, found)}")
    return found[quantity]()


def ends_of_sublayers(run, kind: str = "mlp", parameter: str = "down") -> dict[str, xr.Dataset]:
    """`log(first/last)` of a parameter's gradient among the sublayers of a kind, by step, as bands over seeds."""
    found = {}
    for name, node in profiles.nodes(run).items():
        profile = variable(node, "parameter_gradient").sel(parameter=parameter, drop=True)
        profile = profile.isel(sublayer=np.flatnonzero(node["kind"].values == kind))
        ratio = profile.isel(sublayer=0, drop=True) / profile.isel(sublayer=-1, drop=True)
        found[name] = band(ratio.reset_coords(drop=True).rename("parameter_gradient"))
    return found
