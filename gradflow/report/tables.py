"""The numbers behind every figure, as long tables: one row a point, with the band over seeds.

A figure is drawn from its table and saved with it, so what is in the picture is in the CSV.

Columns: `model`, the position (`depth`, `sublayer`, `step`, …), and `mean`, `low`, `high`: geometric mean and 95%
t-interval for positive quantities, arithmetic for others (`results.statistics.band`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from .. import laws
from ..results.statistics import band, paired_log_ratio
from ..results.tree import against_total_depth, relative, variable

NET = ("norm", "fork", "net")


def nodes(tree) -> dict[str, Any]:
    """The models of a tree by name; a single model's node counts as itself."""
    if isinstance(tree, Mapping) and not isinstance(tree, xr.DataTree):
        return dict(tree)
    return dict(tree.children) if tree.children else {tree.name or "model": tree}


def steps_of(tree: Any, wanted: Sequence[int] | None = None) -> tuple[int, ...]:
    """Those of the `wanted` steps that were recorded, the last one in the place of any beyond it; all where None."""
    node = next(iter(nodes(tree).values()))
    if "step" not in node.coords:
        return ()
    recorded = [int(step) for step in node["step"].values]
    chosen = recorded if wanted is None else [min(step, recorded[-1]) for step in wanted]
    return tuple(dict.fromkeys(step for step in chosen if step in recorded))


def at_steps(values: xr.DataArray, steps: Sequence[int] | None) -> xr.DataArray:
    """`values` at those steps, where they have steps; a step beyond the last means the last.

    Errors: ValueError for a step before that which was not recorded.
    """
    if not steps or "step" not in values.dims:
        return values
    recorded = [int(step) for step in values["step"].values]
    chosen = list(dict.fromkeys(min(step, recorded[-1]) for step in steps))
    missing = [step for step in chosen if step not in recorded]
    if missing:
        raise ValueError(f"step {missing[0]} was not recorded; recorded: {', '.join(map(str, recorded))}")
    return values.sel(step=chosen)


def long(values: Mapping[str, xr.DataArray]) -> pd.DataFrame:
    """Bands of the same quantity of several models, one below the other."""
    frames = [band(array).to_dataframe().reset_index().assign(model=name) for name, array in values.items()]
    frame = pd.concat(frames, ignore_index=True)
    return frame[["model", *[column for column in frame.columns if column != "model"]]]


def profile(tree, quantity: str, *, relative_to: str | None = None, steps=None, **where) -> pd.DataFrame:
    """A quantity over depth, at the recorded `steps`; `where` chooses one entry along further dimensions."""
    chosen = {
        name: at_steps(relative(node, quantity, relative_to).sel(where), steps) for name, node in nodes(tree).items()
    }
    left = {dim for array in chosen.values() for dim in array.dims} - {"depth", "sublayer", "step", "seed"}
    if left:
        raise ValueError(
            f"{quantity} has the dimensions {sorted(map(str, left))} too: choose an entry, {sorted(map(str, left))[0]}=…"
        )
    frame = long({name: array.rename(quantity) for name, array in chosen.items()})
    if "depth" in frame and "kind" not in frame:  # a position of the stream is marked by the sublayer below it
        node = next(iter(nodes(tree).values()))
        kinds = (
            dict(zip(node["sublayer"].values.tolist(), node["kind"].values.tolist(), strict=True))
            if "kind" in node.coords
            else {}
        )
        frame["kind"] = [kinds.get(depth, "embedding") for depth in frame["depth"]]
    return frame.dropna(subset=["mean"])


def net_budget(node) -> xr.DataArray:
    """Totals over the stack of the budget's log-gains [part]: norm (N_out), fork, and their sum, net; nat."""
    budget = variable(node, "budget")
    norm, fork = (budget.sel(factor=factor, drop=True).sum("sublayer") for factor in ("norm_out", "fork"))
    total = xr.concat([norm, fork, norm + fork], pd.Index(NET, name="part")).rename("budget")
    return total.assign_attrs(budget.attrs)


def ends(node) -> dict[str, xr.Dataset]:
    """Bands of what a summary tells: `bottom` (gradient there relative to the readout), `budget`, `leave_gain`, `loss`."""
    bottom = relative(node, "stream_gradient", "readout").isel(depth=0, drop=True)
    return {
        "bottom": band(bottom),
        "budget": band(net_budget(node)),
        **{q: band(node[q]) for q in ("leave_gain", "loss")},
    }


def budget_totals(tree, *, steps=None) -> pd.DataFrame:
    """`net_budget` of every model at the recorded `steps`."""
    return long({name: at_steps(net_budget(node), steps) for name, node in nodes(tree).items()})


def budget_from_top(node, *, steps=None) -> pd.DataFrame:
    """Log-gains summed from the top of the stack down to each position: norm, fork, net [depth]; 0 at the top."""
    budget = at_steps(variable(node, "budget"), steps)
    norm, fork = (budget.sel(factor=factor, drop=True) for factor in ("norm_out", "fork"))
    gains = xr.concat([norm, fork, norm + fork], pd.Index(NET, name="part"))
    summed = gains.isel(sublayer=slice(None, None, -1)).cumsum("sublayer").isel(sublayer=slice(None, None, -1))
    below = summed.drop_vars(
        [name for name in summed.coords if name in ("kind", "layer", "relative_depth", "sublayer")]
    )
    values = below.rename(sublayer="depth").pad(depth=(0, 1), constant_values=0.0)
    return long(
        {
            node.name or "model": values.assign_coords(depth=node["depth"].values)
            .rename("budget")
            .assign_attrs(budget.attrs)
        }
    )


def total_depth(sweep, quantity: str = "parameter_gradient", *, sublayer: int = -1, **where) -> pd.DataFrame:
    """One entry of a profile against the number of blocks; by default the last feed-forward output matrix's gradient."""
    where = where or {"parameter": "down"}
    return long(against_total_depth(sweep, quantity, sublayer=sublayer, **where))


def total_depth_slopes(
    sweep, quantity: str = "parameter_gradient", *, sublayer: int = -1, **where
) -> dict[str, xr.Dataset]:
    """The fitted law `a L^k` of each model, L the number of blocks; models without three depths are left out."""
    where = where or {"parameter": "down"}
    chosen = against_total_depth(sweep, quantity, sublayer=sublayer, **where)
    usable = {
        name: values for name, values in chosen.items() if values.sizes["total_depth"] > 2 and _fit_for_logs(values)
    }
    return {name: laws.fit(values, laws.monomial, over="total_depth") for name, values in usable.items()}


def _fit_for_logs(values: xr.DataArray) -> bool:
    return bool((np.isfinite(values) & (values > 0)).all())


def training(run) -> pd.DataFrame:
    """Loss and token cosine at the top of the stack against the step; the column `quantity` says which."""
    frames = []
    for quantity in ("token_cosine", "loss"):
        values = {name: variable(node, quantity) for name, node in nodes(run).items()}
        chosen = {
            name: array.isel(depth=-1, drop=True) if "depth" in array.dims else array for name, array in values.items()
        }
        frames.append(long(chosen).assign(quantity=quantity))
    return pd.concat(frames, ignore_index=True)


def heat(node, quantity: str = "stream_gradient", *, relative_to: str | None = "readout") -> xr.DataArray:
    """The geometric mean over seeds of a profile, [step, depth]."""
    return band(relative(node, quantity, relative_to))["mean"].rename(quantity)


def spectrum(node, *, sublayer: int, seed: int = 0) -> pd.DataFrame:
    """Singular values of one sublayer (1 … S) and its factors, one seed, descending, against their relative index.

    Factors that are the identity are left out.
    """
    values = variable(node, "singular_values").sel(sublayer=sublayer).sel(seed=seed)
    values = values.isel(jacobian=np.flatnonzero((values != 1).any("index").values))
    frame = values.to_dataframe(name="singular_value").reset_index()
    return frame.assign(relative_index=(frame["index"] + 0.5) / values.sizes["index"])


def compared(run, first: str, second: str, quantity: str = "stream_gradient") -> xr.Dataset:
    """`log(first/second)` of the gradient at the bottom relative to the readout, paired over seeds, by step."""
    bottom = {name: relative(run[name], quantity).isel(depth=0, drop=True) for name in (first, second)}
    return paired_log_ratio(bottom[first], bottom[second])


def law_rows(tree, *, steps=None) -> pd.DataFrame:
    """Laws of the stream gradient over depth, relative to the top: one row a model, step and law, with intervals."""
    rows = []
    for name, node in nodes(tree).items():
        profile = relative(node, "stream_gradient", "top")
        for step in steps or (None,):
            values = profile if step is None else profile.sel(step=step, drop=True)
            for law in (laws.power, laws.exponential) if _fit_for_logs(values) else ():
                fitted = laws.fit(values, law)
                if not fitted.attrs["identified"]:
                    continue
                numbers = fitted.to_dataframe()[["estimate", "low", "high"]].loc["k"].to_dict()
                text = {"sentence": laws.sentence(fitted), "rms_misfit": float(fitted["residual"])}
                rows.append({"model": name, "step": step, "law": law.name, **numbers, **text})
    return pd.DataFrame(rows)


def interval(estimate, show=None) -> str:
    """`0.52 [0.48, 0.57]`, or `0.52` where there is no interval; `show` writes a number, by default `digits`."""
    show, mean = show or digits, "estimate" if "estimate" in estimate else "mean"
    centre, low, high = (float(estimate[name]) for name in (mean, "low", "high"))
    return show(centre) if np.isnan(low) else f"{show(centre)} [{show(low)}, {show(high)}]"


def signed(value: float) -> str:
    """A log-gain with its sign and one decimal: +1.7, −13.4, 0.0."""
    return "0.0" if abs(value) < 0.05 else f"{value:+.1f}".replace("-", "−")


def digits(value: float) -> str:
    """Two or three significant digits, and a true minus sign: 2.8, 13.4, 0.0012, 3.1e-13."""
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    text = f"{value:.1f}" if 1 <= abs(value) < 100 else f"{value:.2g}"
    return text.replace("-", "−", 1) if value < 0 else text
