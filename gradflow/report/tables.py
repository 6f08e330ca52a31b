"""The numbers behind every figure, as long tables: one row a point, with the band over seeds.

A figure is drawn from its table and saved with it, so what is in the picture is in the CSV.

Columns: `model`, the position (`depth`, `sublayer`, `step`, …), and `mean`, `low`, `high`: geometric mean and 95%
t-interval for positive quantities, arithmetic for others (`results.statistics.band`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from .. import laws
from ..results.agreement import at_start, expectation
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


def long(values: Mapping[str, xr.DataArray], average: Callable[[xr.DataArray], xr.Dataset] = band) -> pd.DataFrame:
    """Bands of the same quantity of several models, one below the other."""
    frames = [average(array).to_dataframe().reset_index().assign(model=name) for name, array in values.items()]
    frame = pd.concat(frames, ignore_index=True)
    return frame[["model", *[column for column in frame.columns if column != "model"]]]


def profile(tree, quantity: str, *, relative_to: str | None = None, steps=None, theory=None, **where) -> pd.DataFrame:
    """A quantity over depth, at the recorded `steps`; `where` chooses one entry along further dimensions.

    With a prediction in `theory` there is a column of that name, and `mean`, `low` and `high` are of the average that theory
    predicts (`agreement.expectation`), not of the geometric mean.
    """
    values = _profiles(tree, quantity, relative_to, steps, where)
    frame = long(values) if theory is None else _beside(values, _profiles(theory, quantity, relative_to, None, where))
    if "depth" in frame and "kind" not in frame:  # a position of the stream is marked by the sublayer below it
        node = next(iter(nodes(tree).values()))
        kinds = (
            dict(zip(node["sublayer"].values.tolist(), node["kind"].values.tolist(), strict=True))
            if "kind" in node.coords
            else {}
        )
        frame["kind"] = [kinds.get(depth, "embedding") for depth in frame["depth"]]
    return frame.dropna(subset=["mean"])


def _beside(values: Mapping[str, xr.DataArray], theory: Mapping[str, xr.DataArray]) -> pd.DataFrame:
    """Measured profiles at the start with the predicted ones in the column `theory`."""
    missing = sorted(set(values) - set(theory))
    if missing:
        raise ValueError(f"no theory of {missing[0]!r}: predict {', '.join(values)}")
    frame = long({name: at_start(array) for name, array in values.items()}, average=expectation)
    lines = long({name: theory[name] for name in values})
    return frame.assign(theory=lines["mean"].to_numpy())


def _profiles(tree, quantity: str, relative_to, steps, where: Mapping) -> dict[str, xr.DataArray]:
    """`{model: quantity}` over depth or sublayers, perhaps steps and seeds, and nothing else."""
    chosen = {
        name: at_steps(relative(node, quantity, relative_to).sel(where), steps) for name, node in nodes(tree).items()
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
    usable = {name: values for name, values in chosen.items() if _fit_for_laws(values, "total_depth")}
    return {name: laws.fit(values, laws.monomial, over="total_depth") for name, values in usable.items()}


def total_depth_laws(sweep, quantity: str = "parameter_gradient", *, sublayer: int = -1, **where) -> dict:
    """As `law_choices`, against the number of blocks: constant, a power of it, or exponential; what `total_depth` shows."""
    where = where or {"parameter": "down"}
    chosen = against_total_depth(sweep, quantity, sublayer=sublayer, **where)
    return _choices({(name, None): values for name, values in chosen.items()}, laws.OVER_TOTAL_DEPTH, "total_depth")


def law_choices(
    tree, quantity: str = "stream_gradient", *, relative_to: str | None = "top", steps=None, **where
) -> dict[tuple[str, int | None], xr.Dataset]:
    """`{(model, step): laws.choose(…)}` for a profile, entries as in `profile`; every recorded step where None is told.

    Models and steps without a law (not positive and finite, or too few positions for one seed) are left out.
    """
    profiles: dict[tuple[str, int | None], xr.DataArray] = {}
    for name, values in _profiles(tree, quantity, relative_to, steps, where).items():
        if "step" in values.dims:
            profiles |= {(name, int(step)): values.sel(step=step, drop=True) for step in values["step"].values}
        else:
            profiles[name, None] = values
    over = "depth" if any("depth" in values.dims for values in profiles.values()) else "sublayer"
    chosen = _choices(profiles, laws.OVER_DEPTH, over)
    return {key: choice.assign_attrs(relative_to=relative_to or "nothing") for key, choice in chosen.items()}


def _choices(profiles: Mapping, candidates: Sequence[laws.Law], over: str) -> dict:
    """`laws.choose` of every profile that has what it takes."""
    alone = 2 + max(
        len(law.names) for law in candidates
    )  # the AICc of a single seed asks for more positions than these
    enough = lambda values: values.sizes.get("seed", 1) > 1 or values.sizes[over] > alone
    usable = {key: values for key, values in profiles.items() if _fit_for_laws(values, over) and enough(values)}
    return {key: laws.choose(values, candidates, over=over) for key, values in usable.items()}


def _fit_for_laws(values: xr.DataArray, over: str) -> bool:
    return values.sizes[over] > 2 and bool((np.isfinite(values) & (values > 0)).all())


def law_rows(choices: Mapping[tuple[str, int | None], xr.Dataset]) -> pd.DataFrame:
    """Every law of `law_choices` or `total_depth_laws`: one row a model, step and law, with its verdict and its score.

    `estimate`, `low` and `high` are those of the exponent k, where it is identified.
    """
    rows = []
    for (model, step), choice in choices.items():
        for name in choice["law"].values:
            law = choice.sel(law=name)
            told = {column: law[column].item() for column in ("verdict", "sentence", "score", "behind")}
            k = law[["estimate", "low", "high"]].sel(number="k").where(law["identified"] == 1)
            numbers = {column: k[column].item() for column in ("estimate", "low", "high")}
            misfit = {"rms_misfit": law["residual"].item(), "scored_by": choice.attrs["by"]}
            rows.append({"model": model, "step": step, "law": name, **told, **numbers, **misfit})
    return pd.DataFrame(rows)


def law_curves(choices: Mapping[tuple[str, int | None], xr.Dataset]) -> pd.DataFrame:
    """The chosen laws at the positions they were fitted to, for the `laws` of a plot; `told` is the law in words.

    A law whose numbers are not identified is left out.
    """
    frames = []
    for (model, step), choice in choices.items():
        law = choice.sel(law=choice.attrs["chosen"])
        if law["identified"]:
            of = {"quantity": choice.attrs["quantity"], "relative_to": choice.attrs.get("relative_to", "nothing")}
            curve = pd.DataFrame({choice.attrs["over"]: law[choice.attrs["over"]], "mean": law["curve"]})
            frames.append(curve.assign(model=model, step=step, told=laws.told(choice), **of))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({"model": [], "step": []})


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
    """`0.52 [0.48, 0.57]`, or `0.52` where there is no interval; `show` writes a number, by default `digits`."""
    show, mean = show or digits, "estimate" if "estimate" in estimate else "mean"
    centre, low, high = (float(estimate[name]) for name in (mean, "low", "high"))
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
