"""The numbers behind every figure, as long tables: one row a point, with the band over seeds.

A figure is drawn from its table and saved with it, so what is in the picture is in the CSV.

Columns: `model`, the position (`depth`, `sublayer`, `step`, …), and `mean`, `low`, `high`, `n`: geometric mean and 95%
t-interval for positive quantities, arithmetic for others (`results.statistics.band`), of the n seeds that are finite there.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ...results.agreement import at_start, expectation, unlike
from ...results.arguments import known
from ...results.quantities import Quantity, row
from ...results.statistics import band, paired_log_ratio
from ...results.sweeps import against_total_depth, at_labels, output_parameter
from ...results.tree import nodes, relative, variable
from .steps import at_step, at_steps

ALONG = ("layer", "relative_depth")  # what a profile can be drawn over, besides the positions themselves

THROUGH = ("token_cosine", "loss", "heldout_loss", "output_change")


def called(node) -> str:
    """Returns the name of a node's model: its path in the tree that was measured."""
    for above in node.parents:
        if "provenance" in above.attrs:
            return str(node.relative_to(above))
    return node.path.strip("/") or node.name or "model"


def described(quantity: str) -> Quantity:
    """Returns the row of the table of quantities, or a new one for a meter that the user defined."""
    return row(quantity) or Quantity(quantity, quantity, "the user's own meter", "", "1")


def are_logs(tree: Any) -> bool:
    """Returns whether results are norms that other tools logged: those of layers, and no stream gradient."""
    members = nodes(tree).values()
    return all("layer_gradient" in node and "stream_gradient" not in node for node in members)


def places(coords: Any) -> str:
    """Returns what positions in depth are, for the axis of a figure: of the stream, layers, or sublayers."""
    if "depth" in coords:
        return "stream position"
    if "kind" in coords and set(np.asarray(coords["kind"]).tolist()) == {"layer"}:
        return "layer"
    return "sublayer"


def long(values: Mapping[str, xr.DataArray], average: Callable[[xr.DataArray], xr.Dataset] = band) -> pd.DataFrame:
    """Returns bands of the same quantity of several models, one below the other, with `model` as the first column."""
    frames = []
    for name, array in values.items():
        frame = average(array).to_dataframe().reset_index()
        frame.insert(0, "model", name)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def profile(
    tree, quantity: str, *, relative_to: str | None = None, steps=None, theory=None, kinds=None, x=None, **where
) -> pd.DataFrame:
    """Returns a quantity over depth, at the recorded `steps`; `where` chooses one entry along further dimensions.

    Several entries of one dimension, `parameter=("query", "down")`, stand one below the other, with a column that names them.
    `kinds` are the kinds of sublayers that are kept. `x` is "layer" or "relative_depth": a column of that name; of the stream
    then come the positions above whole layers alone.

    With a prediction in `theory` there is a column of that name, and `mean`, `low` and `high` are of the average that theory
    predicts (`agreement.expectation`), not of the geometric mean.

    Where no seed is finite a row has no mean and `n` is 0; sublayers that have no such quantity have no row.

    Errors: ValueError for a theory of another model, of other data or of another batch.
    """
    several = [dim for dim, at in where.items() if isinstance(at, list | tuple)]
    if several:
        dim, frames = several[0], []
        for entry in where[dim]:
            options: dict[str, Any] = {"relative_to": relative_to, "steps": steps, "theory": theory, "kinds": kinds}
            rows = profile(tree, quantity, **options, x=x, **{**where, dim: entry})
            rows[dim] = entry
            frames.append(rows)
        return pd.concat(frames, ignore_index=True)
    values = profiles_of(tree, quantity, relative_to, steps, where)
    if theory is None:
        frame = long(values)
    else:
        context_differences(tree, theory)
        frame = _with_theory(values, profiles_of(theory, quantity, relative_to, None, where))
    if "depth" in frame and "kind" not in frame:
        first = next(iter(nodes(tree).values()))
        frame["kind"] = _kinds_below(first, frame["depth"])
    if x is not None:
        frame = _with_place(frame, nodes(tree), known("x", x, ALONG))
    if kinds is not None:
        frame = _of_kinds(frame, kinds)
    if "sublayer" not in frame:
        return frame
    curve = ["model", "step"] if "step" in frame else ["model"]
    finite = frame["mean"].notna()
    nowhere_finite = frame.groupby(curve)["mean"].transform("count") == 0
    return frame[finite | nowhere_finite]


def _with_place(frame: pd.DataFrame, members: Mapping[str, Any], x: str) -> pd.DataFrame:
    """Returns the table with each row's layer or relative depth; of positions of the stream those above whole layers."""
    position = "depth" if "depth" in frame else "sublayer"
    frames = []
    for name, rows in frame.groupby("model", sort=False):
        node = members[str(name)]
        if "layer" not in node.coords:
            raise ValueError(f"{name} has no layers: draw it over its {position}s, without x=")
        layers = dict(zip(node["sublayer"].values.tolist(), node["layer"].values.tolist(), strict=True))
        size = len(layers)
        layers[0] = 0
        rows = rows.assign(layer=rows[position].map(layers), relative_depth=rows[position] / size)
        if position == "depth":
            above = (rows[position] + 1).map(layers)
            rows = rows[rows["layer"] != above]
        frames.append(rows)
    other = next(name for name in ALONG if name != x)
    return pd.concat(frames, ignore_index=True).drop(columns=other)


def _of_kinds(frame: pd.DataFrame, kinds) -> pd.DataFrame:
    """Returns the rows of those kinds of sublayers.

    Errors: ValueError for a kind that there is not.
    """
    wanted = [kinds] if isinstance(kinds, str) else list(kinds)
    if "kind" not in frame:
        raise ValueError("these results have no kinds of sublayers: leave kinds= out")
    for kind in wanted:
        known("kind", kind, dict.fromkeys(frame["kind"]))
    return frame[frame["kind"].isin(wanted)]


def _kinds_below(node, depths: Iterable) -> list[str]:
    """Returns the kind of the sublayer below each position of the stream; `embedding` where there is none."""
    kinds = {}
    if "kind" in node.coords:
        kinds = dict(zip(node["sublayer"].values.tolist(), node["kind"].values.tolist(), strict=True))
    return [kinds.get(depth, "embedding") for depth in depths]


def context_differences(tree, theory) -> str:
    """Returns how the models of a tree and their predictions differ, where they may be compared all the same.

    Errors: ValueError for a model without a prediction, and as `agreement.unlike`.
    """
    measured = nodes(tree)
    predicted = nodes(theory)
    for name in measured:
        if name not in predicted:
            raise ValueError(f"no theory of {name!r}: predict {', '.join(measured)}")
    differences: list[str] = []
    for name, node in measured.items():
        difference = unlike(node, predicted[name])
        if difference and difference not in differences:
            differences.append(difference)
    return "; ".join(differences)


def _with_theory(values: Mapping[str, xr.DataArray], theory: Mapping[str, xr.DataArray]) -> pd.DataFrame:
    """Returns measured profiles at the start with the predicted ones in the column `theory`."""
    starts = {name: at_start(array) for name, array in values.items()}
    predictions = long({name: theory[name] for name in values})
    return long(starts, average=expectation).assign(theory=predictions["mean"].to_numpy())


def profiles_of(tree, quantity: str, relative_to, steps, where: Mapping) -> dict[str, xr.DataArray]:
    """Returns `{model: quantity}` over depth or sublayers, perhaps steps and seeds, and no other dimension."""
    profiles = {}
    extra: set[str] = set()
    for name, node in nodes(tree).items():
        entry = at_labels(relative(node, quantity, relative_to), where)
        profiles[name] = at_steps(entry, steps).rename(quantity)
        extra.update(str(dim) for dim in profiles[name].dims)
    extra -= {"depth", "sublayer", "step", "seed"}
    if extra:
        dimensions = sorted(extra)
        raise ValueError(f"{quantity} has the dimensions {dimensions} too: choose an entry, {dimensions[0]}=…")
    return profiles


def total_depth(sweep, quantity: str = "parameter_gradient", *, sublayer: int = -1, **where) -> pd.DataFrame:
    """Returns one entry of a profile against the number of blocks; by default the gradient of the last sublayer's output."""
    where = where or {"parameter": output_parameter}
    return long(against_total_depth(sweep, quantity, sublayer=sublayer, **where))


def training(run, quantities: Iterable[str] = THROUGH) -> pd.DataFrame:
    """Returns losses, the token cosine at the top of the stack, and the change of the output, against the step.

    The column `quantity` says which; what not all models have is left out.
    """
    frames = []
    for quantity in quantities:
        values = {}
        for name, node in nodes(run).items():
            if quantity in node:
                values[name] = variable(node, quantity)
        if len(values) < len(nodes(run)):
            continue
        if quantity == "token_cosine":
            values = {name: array.isel(depth=-1, drop=True) for name, array in values.items()}
        frames.append(long(values).assign(quantity=quantity))
    return pd.concat(frames, ignore_index=True)


def similarity(node, quantity: str = "stream_angle", *, step: int | None = None) -> pd.DataFrame:
    """Returns how alike the streams at any two positions are, at a recorded step (by default the last), as bands over seeds."""
    return long({called(node): at_step(variable(node, quantity), step)})


def heat(node, quantity: str = "stream_gradient", *, relative_to: str | None = "readout") -> xr.DataArray:
    """Returns the geometric mean over seeds of a profile, [step, depth]."""
    return band(relative(node, quantity, relative_to))["mean"].rename(quantity)


def heat_limits(run, quantity: str = "stream_gradient", *, relative_to: str | None = "readout") -> tuple[float, float]:
    """Returns the smallest and the largest positive number of the heat maps of all models: the ends of one colour scale.

    NaN where there is none.
    """
    found = []
    for node in nodes(run).values():
        means = heat(node, quantity, relative_to=relative_to).values
        found.append(means[np.isfinite(means) & (means > 0)])
    together = np.concatenate(found)
    if not together.size:
        return np.nan, np.nan
    return float(together.min()), float(together.max())


def compared(run, first: str, second: str, quantity: str = "stream_gradient") -> xr.Dataset:
    """Returns `log(first/second)` of the gradient at the bottom relative to the readout, paired over seeds, by step."""
    a = relative(run[first], quantity).isel(depth=0, drop=True)
    b = relative(run[second], quantity).isel(depth=0, drop=True)
    return paired_log_ratio(a, b)


def interval(estimate, show: Callable[[float], str] | None = None) -> str:
    """Returns `0.52 [0.48, 0.57]`, or `0.52` where there is no interval; `show` writes a number, by default `digits`.

    `not finite` where there is no number.
    """
    show = show or digits
    name = "estimate" if "estimate" in estimate else "mean"
    centre = float(estimate[name])
    low = float(estimate["low"])
    high = float(estimate["high"])
    if not np.isfinite(centre):
        return "not finite"
    if np.isnan(low):
        return show(centre)
    return f"{show(centre)} [{show(low)}, {show(high)}]"


def signed(value: float, places: int = 1) -> str:
    """Returns a log-gain with its sign and one decimal, or more: +1.7, −13.4, 0.0."""
    text = f"{value:+.{places}f}"
    if float(text) == 0:
        return text[1:]
    return text.replace("-", "−")


def digits(value: float) -> str:
    """Returns two or three significant digits, with a true minus sign: 2.8, 13.4, 0.0012, 3.1e-13."""
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    text = f"{value:.1f}" if 1 <= abs(value) < 100 else f"{value:.2g}"
    if value < 0:
        return text.replace("-", "−", 1)
    return text
