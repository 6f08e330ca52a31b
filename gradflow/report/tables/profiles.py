"""The numbers behind every figure, as long tables: one row a point, with the band over seeds.

A figure is drawn from its table and saved with it, so what is in the picture is in the CSV.

Columns: `model`, the position (`depth`, `sublayer`, `step`, …), and `mean`, `low`, `high`, `n`: geometric mean and 95%
t-interval for positive quantities, arithmetic for others (`results.statistics.band`), of the n seeds that are finite there.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ...results.agreement import at_start, expectation, unlike
from ...results.arguments import shown, whole
from ...results.quantities import Quantity, row
from ...results.statistics import band, paired_log_ratio
from ...results.tree import against_total_depth, at_labels, nodes, relative, variable

NET = ("norm", "fork", "net")


def called(node) -> str:
    """The name of a node's model: its path in the tree that was measured."""
    for above in node.parents:
        if "provenance" in above.attrs:
            return str(node.relative_to(above))
    return node.path.strip("/") or node.name or "model"


def described(quantity: str) -> Quantity:
    """The row of the table of quantities, or one made up for a meter of the user's own."""
    return row(quantity) or Quantity(quantity, quantity, "the user's own meter", "", "1")


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
    if steps is None:
        return values
    if isinstance(steps, str) or not isinstance(steps, Iterable):
        raise ValueError(f"steps is {shown(steps)}: whole numbers are needed, (0, 10)")
    steps = [whole("a step", step, least=0) for step in steps]
    if not steps:
        return values
    if "step" not in values.dims:
        raise ValueError("these results have no steps: leave the steps out")
    recorded = [int(step) for step in values["step"].values]
    chosen = list(dict.fromkeys(min(step, recorded[-1]) for step in steps))
    missing = [step for step in chosen if step not in recorded]
    if missing:
        raise ValueError(f"step {missing[0]} was not recorded; recorded: {', '.join(map(str, recorded))}")
    return values.sel(step=chosen)


def long(values: Mapping[str, xr.DataArray], average: Callable[[xr.DataArray], xr.Dataset] = band) -> pd.DataFrame:
    """Bands of the same quantity of several models, one below the other."""
    frames = [average(array).to_dataframe().reset_index().assign(model=name) for name, array in values.items()]
    frame = pd.concat(frames, ignore_index=True)
    return frame[["model", *[column for column in frame.columns if column != "model"]]]


def profile(tree, quantity: str, *, relative_to: str | None = None, steps=None, theory=None, **where) -> pd.DataFrame:
    """A quantity over depth, at the recorded `steps`; `where` chooses one entry along further dimensions.

    With a prediction in `theory` there is a column of that name, and `mean`, `low` and `high` are of the average that theory
    predicts (`agreement.expectation`), not of the geometric mean.

    Where no seed is finite a row has no mean and `n` is 0; sublayers that have no such quantity have no row.

    Errors: ValueError for a theory of another model, of other data or of another batch.
    """
    values = profiles_of(tree, quantity, relative_to, steps, where)
    if theory is None:
        frame = long(values)
    else:
        context_differences(tree, theory)
        frame = _beside(values, profiles_of(theory, quantity, relative_to, None, where))
    if "depth" in frame and "kind" not in frame:  # a position of the stream is marked by the sublayer below it
        node = next(iter(nodes(tree).values()))
        kinds = (
            dict(zip(node["sublayer"].values.tolist(), node["kind"].values.tolist(), strict=True))
            if "kind" in node.coords
            else {}
        )
        frame["kind"] = [kinds.get(depth, "embedding") for depth in frame["depth"]]
    if "sublayer" in frame:
        rows = frame.groupby(["model", "step"] if "step" in frame else ["model"])["mean"]
        frame = frame[frame["mean"].notna() | (rows.transform("count") == 0)]
    return frame


def context_differences(tree, theory) -> str:
    """In what the models of a tree and their predictions are not of the same, where they may be compared all the same.

    Errors: ValueError for a model without a prediction, and as `agreement.unlike`.
    """
    measured, predicted = nodes(tree), nodes(theory)
    missing = [name for name in measured if name not in predicted]
    if missing:
        raise ValueError(f"no theory of {missing[0]!r}: predict {', '.join(measured)}")
    differ = [unlike(node, predicted[name]) for name, node in measured.items()]
    return "; ".join(dict.fromkeys(filter(None, differ)))


def _beside(values: Mapping[str, xr.DataArray], theory: Mapping[str, xr.DataArray]) -> pd.DataFrame:
    """Measured profiles at the start with the predicted ones in the column `theory`."""
    frame = long({name: at_start(array) for name, array in values.items()}, average=expectation)
    lines = long({name: theory[name] for name in values})
    return frame.assign(theory=lines["mean"].to_numpy())


def profiles_of(tree, quantity: str, relative_to, steps, where: Mapping) -> dict[str, xr.DataArray]:
    """`{model: quantity}` over depth or sublayers, perhaps steps and seeds, and nothing else."""
    chosen = {
        name: at_steps(at_labels(relative(node, quantity, relative_to), where), steps)
        for name, node in nodes(tree).items()
    }
    left = sorted({str(dim) for array in chosen.values() for dim in array.dims} - {"depth", "sublayer", "step", "seed"})
    if left:
        raise ValueError(f"{quantity} has the dimensions {left} too: choose an entry, {left[0]}=…")
    return {name: array.rename(quantity) for name, array in chosen.items()}


def net_budget(node) -> xr.DataArray:
    """Totals over the stack of the budget's log-gains [part]: norm (N_out), fork, and their sum, net; nat.

    Net alone where no budget was read.
    """
    if "budget" not in node:
        stream = variable(node, "stream_gradient")
        net = xr.ufuncs.log(stream.isel(depth=0, drop=True) / stream.isel(depth=-1, drop=True))
        return net.expand_dims(part=["net"], axis=-1).rename("budget")
    budget = variable(node, "budget")
    norm, fork = (budget.sel(factor=factor, drop=True).sum("sublayer", skipna=False) for factor in ("norm_out", "fork"))
    net = norm + fork
    parts = [part.where(np.isfinite(net)) for part in (norm, fork, net)]  # all of the same seeds, so that they add up
    return xr.concat(parts, pd.Index(NET, name="part")).rename("budget").assign_attrs(budget.attrs)


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
    gains = gains.where(np.isfinite(gains))
    summed = (
        gains.isel(sublayer=slice(None, None, -1)).cumsum("sublayer", skipna=False).isel(sublayer=slice(None, None, -1))
    )
    below = summed.drop_vars(
        [name for name in summed.coords if name in ("kind", "layer", "relative_depth", "sublayer")]
    )
    values = below.rename(sublayer="depth").pad(depth=(0, 1), constant_values=0.0)
    values = values.where(np.isfinite(values.isel(depth=-2, drop=True)))  # a seed that is lost has no zero at the top
    return long(
        {called(node): values.assign_coords(depth=node["depth"].values).rename("budget").assign_attrs(budget.attrs)}
    )


def total_depth(sweep, quantity: str = "parameter_gradient", *, sublayer: int = -1, **where) -> pd.DataFrame:
    """One entry of a profile against the number of blocks; by default the last feed-forward output matrix's gradient."""
    where = where or {"parameter": "down"}
    return long(against_total_depth(sweep, quantity, sublayer=sublayer, **where))


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


def compared(run, first: str, second: str, quantity: str = "stream_gradient") -> xr.Dataset:
    """`log(first/second)` of the gradient at the bottom relative to the readout, paired over seeds, by step."""
    bottom = {name: relative(run[name], quantity).isel(depth=0, drop=True) for name in (first, second)}
    return paired_log_ratio(bottom[first], bottom[second])


def interval(estimate, show=None) -> str:
    """`0.52 [0.48, 0.57]`, or `0.52` where there is no interval; `show` writes a number, by default `digits`.

    `not finite` where there is no number.
    """
    show, mean = show or digits, "estimate" if "estimate" in estimate else "mean"
    centre, low, high = (float(estimate[name]) for name in (mean, "low", "high"))
    if not np.isfinite(centre):
        return "not finite"
    return show(centre) if np.isnan(low) else f"{show(centre)} [{show(low)}, {show(high)}]"


def signed(value: float, places: int = 1) -> str:
    """A log-gain with its sign and one decimal, or more: +1.7, −13.4, 0.0."""
    text = f"{value:+.{places}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def digits(value: float) -> str:
    """Two or three significant digits, and a true minus sign: 2.8, 13.4, 0.0012, 3.1e-13."""
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    text = f"{value:.1f}" if 1 <= abs(value) < 100 else f"{value:.2g}"
    return text.replace("-", "−", 1) if value < 0 else text
