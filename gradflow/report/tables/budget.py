"""The budget of a run as tables: log-gains of norms and forks over the whole stack, and summed from its top.

Columns as in `profiles`.
"""

import numpy as np
import pandas as pd
import xarray as xr

from ...results.statistics import band
from ...results.tree import nodes, relative, variable
from .profiles import at_steps, called, long

NET = ("norm", "fork", "net")


def net_budget(node) -> xr.DataArray:
    """Returns the totals over the stack of the budget's log-gains [part]: norm (N_out), fork, and their sum, net; nat.

    Net alone where no budget was read.
    """
    if "budget" not in node:
        stream = variable(node, "stream_gradient")
        net = xr.ufuncs.log(stream.isel(depth=0, drop=True) / stream.isel(depth=-1, drop=True))
        return net.expand_dims(part=["net"], axis=-1).rename("budget")
    budget = variable(node, "budget")
    norm = budget.sel(factor="norm_out", drop=True).sum("sublayer", skipna=False)
    fork = budget.sel(factor="fork", drop=True).sum("sublayer", skipna=False)
    net = norm + fork
    finite = np.isfinite(net)  # all three of the same seeds, so that they add up
    parts = [norm.where(finite), fork.where(finite), net.where(finite)]
    totals = xr.concat(parts, pd.Index(NET, name="part"))
    return totals.rename("budget").assign_attrs(budget.attrs)


def ends(node) -> dict[str, xr.Dataset]:
    """Returns the bands of a summary: `bottom` (gradient there relative to the readout), `budget`, `leave_gain`, `loss`."""
    bottom = relative(node, "stream_gradient", "readout").isel(depth=0, drop=True)
    return {
        "bottom": band(bottom),
        "budget": band(net_budget(node)),
        "leave_gain": band(_leave_gain(node)),
        "loss": band(node["loss"]),
    }


def _leave_gain(node) -> xr.DataArray:
    """Returns the log-gain of the final norm; from the gradients around it where it was not read, as of a program."""
    if "leave_gain" in node:
        return node["leave_gain"]
    top = relative(node, "stream_gradient", "readout").isel(depth=-1, drop=True)
    return xr.ufuncs.log(top).rename("leave_gain").assign_attrs(units="nat")


def budget_totals(tree, *, steps=None) -> pd.DataFrame:
    """Returns `net_budget` of every model at the recorded `steps`."""
    totals = {}
    for name, node in nodes(tree).items():
        totals[name] = at_steps(net_budget(node), steps)
    return long(totals)


def budget_from_top(node, *, steps=None) -> pd.DataFrame:
    """Returns log-gains summed from the top of the stack down to each position: norm, fork, net [depth]; 0 at the top."""
    budget = at_steps(variable(node, "budget"), steps)
    norm = budget.sel(factor="norm_out", drop=True)
    fork = budget.sel(factor="fork", drop=True)
    gains = xr.concat([norm, fork, norm + fork], pd.Index(NET, name="part"))
    gains = gains.where(np.isfinite(gains))
    upside_down = gains.isel(sublayer=slice(None, None, -1))
    sums = upside_down.cumsum("sublayer", skipna=False).isel(sublayer=slice(None, None, -1))
    of_sublayers = [name for name in sums.coords if name in ("kind", "layer", "relative_depth", "sublayer")]
    values = sums.drop_vars(of_sublayers).rename(sublayer="depth")
    values = values.pad(depth=(0, 1), constant_values=0.0)
    values = values.where(np.isfinite(values.isel(depth=-2, drop=True)))  # a seed that is lost has no zero at the top
    values = values.assign_coords(depth=node["depth"].values)
    return long({called(node): values.rename("budget").assign_attrs(budget.attrs)})
