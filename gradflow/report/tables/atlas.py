"""The numbers of an atlas (`gf.atlas`): one row a wiring, and the points that its figure is drawn from.

A number is there at initialization and after the training: the geometric mean over seeds for positive quantities, else the
arithmetic one, of the seeds where it is finite, with its 95% interval; NaN where there is none.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from ... import laws
from ...results.agreement import against_theory
from ...results.statistics import band
from ...results.tree import check_tree, settings, variable
from . import fits
from .budget import net_budget
from .profiles import digits, signed

WHEN = ("start", "trained")


class Number(NamedTuple):
    """A column of the atlas: its heading, its value from one wiring's data [step, seed], and how a value is written."""

    heading: str
    of: Callable[[xr.Dataset], xr.DataArray]
    show: Callable[[float], str] = digits


def _net(node) -> xr.DataArray:
    return net_budget(node).sel(part="net", drop=True)


def _norm(node) -> xr.DataArray:
    return net_budget(node).sel(part="norm", drop=True)


def _fork(node) -> xr.DataArray:
    return net_budget(node).sel(part="fork", drop=True)


def _partial_jacobian(node) -> xr.DataArray:
    return variable(node, "partial_jacobian").sel(probe="isotropic", drop=True).isel(depth=0, drop=True)


def _largest_singular_value(node) -> xr.DataArray:
    return _median_of_sublayers(node, "largest_singular_value")


def _smallest_singular_value(node) -> xr.DataArray:
    return _median_of_sublayers(node, "smallest_singular_value")


def _median_of_sublayers(node, name: str) -> xr.DataArray:
    """Returns the median over sublayers of a number of the whole sublayer's spectrum; NaN where one of them has none."""
    return variable(node, name).sel(jacobian="sublayer", drop=True).median("sublayer", skipna=False)


def _token_cosine(node) -> xr.DataArray:
    return variable(node, "token_cosine").isel(depth=-1, drop=True)


def _heldout_loss(node) -> xr.DataArray:
    return variable(node, "heldout_loss")


def _three_places(value: float) -> str:
    return signed(value, 3).lstrip("+")


NUMBERS = {
    "net": Number("net budget log(g_0/g_S) (nat)", _net, signed),
    "norm": Number("its norms (nat)", _norm, signed),
    "fork": Number("its forks (nat)", _fork, signed),
    "partial_jacobian": Number("partial Jacobian at the bottom", _partial_jacobian),
    "sigma_max": Number("σ_max of a sublayer, median", _largest_singular_value),
    "sigma_min": Number("σ_min of a sublayer, median", _smallest_singular_value),
    "token_cosine": Number("token cosine at the top", _token_cosine, _three_places),
    "loss": Number("held-out loss (nat)", _heldout_loss),
}
AGREEMENT = {
    "theory_ratio": "ratio",
    "theory_sem": "ratio_sem",
    "theory_z": "z",
    "theory_depth": "depth",
    "theory_seeds": "n",
}
POINT = ["model", "family", "number", "when", "mean", "low", "high", "n"]


def ends(node) -> dict[str, xr.DataArray]:
    """Returns a node at step 0 and at the last, by the names of `WHEN`."""
    return {"start": node.isel(step=0), "trained": node.isel(step=-1)}


def points(tree: xr.DataTree) -> pd.DataFrame:
    """Returns every number of every wiring: columns `model`, `family`, `number`, `when`, `mean`, `low`, `high`, `n`.

    Families stand in the order of their first wirings, and in each the wiring that keeps most of its gradient comes first.
    `theory` is the measured over the predicted mean square of the stream gradient at the worst position, with twice its
    standard error to either side.

    Errors: TypeError for what is no tree, ValueError for one that is no atlas.
    """
    check_tree("the atlas", tree)
    if "training" not in tree.children:
        raise ValueError("the atlas has no training: give what gf.atlas returned")
    rows: list[dict[str, Any]] = []
    for name, node in _nodes(tree, "training").items():
        data = node.to_dataset()
        which = {"model": name, "family": node.attrs.get("family", "")}
        for number, column in NUMBERS.items():
            for when, values in ends(column.of(data)).items():
                of_seeds = {str(bound): float(value) for bound, value in band(values).items()}
                rows.append({**which, "number": number, "when": when, **of_seeds})
        rows.append({**which, **_theory_point(agreement(tree, name))})
    return _by_family(pd.DataFrame(rows, columns=POINT))


def _theory_point(compared: dict[str, float]) -> dict[str, Any]:
    ratio = compared["theory_ratio"]
    reach = 2 * compared["theory_sem"]
    point = {"number": "theory", "when": "start", "mean": ratio}
    return {**point, "low": ratio - reach, "high": ratio + reach, "n": compared["theory_seeds"]}


def _by_family(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the points with families in the order they come in, and the wirings of each by what they keep after training."""
    families = {family: place for place, family in enumerate(dict.fromkeys(frame["family"]))}
    net = frame[(frame["number"] == "net") & (frame["when"] == "trained")]
    kept = net.set_index("model")["mean"]
    rows = frame.assign(place=frame["family"].map(families), kept=frame["model"].map(kept))
    order = rows.sort_values(["place", "kept"], ascending=[True, False], na_position="last", kind="stable").index
    return frame.loc[order].reset_index(drop=True)


def _nodes(tree: xr.DataTree, place: str) -> dict[str, xr.DataTree]:
    """Returns the wirings below `training`, `start` or `theory`, where the tree has that place."""
    if place not in tree.children:
        return {}
    return dict(tree[place].children)


def agreement(tree: xr.DataTree, name: str) -> dict[str, float]:
    """Returns measured over predicted mean square of the stream gradient where it is farthest from 1.

    NaN without theory or with less than two seeds.
    """
    nothing = dict.fromkeys(AGREEMENT, float("nan"))
    measured = _nodes(tree, "start").get(name)
    predicted = _nodes(tree, "theory").get(name)
    if measured is None or predicted is None or measured.sizes.get("seed", 1) < 2:
        return nothing
    compared = against_theory(_alone(name, measured), _alone(name, predicted))[name].to_dataset()
    ratio = compared["ratio"].values
    distance = np.abs(np.log(ratio, where=ratio > 0, out=np.full(ratio.shape, np.nan)))
    if not np.isfinite(distance).all():
        return nothing
    worst = compared.isel(depth=int(distance.argmax()))
    return {column: float(worst[variable_name]) for column, variable_name in AGREEMENT.items()}


def _alone(name: str, node: xr.DataTree) -> xr.DataTree:
    """Returns a tree of one model."""
    return xr.DataTree.from_dict({name: node.to_dataset()})


def law(name: str, node, step: int) -> tuple[str, dict[str, float]]:
    """Returns the law of the stream gradient over depth as text, and its exponent; an empty text where none fits."""
    choice = fits.law_choices({name: node}, steps=(step,)).get((name, step))
    if choice is None:
        return "", dict.fromkeys(fits.NUMBERS, float("nan"))
    row = fits.law_rows({(name, step): choice}).query("verdict == 'chosen'").iloc[0]
    return laws.to_text(choice), {bound: float(row[bound]) for bound in fits.NUMBERS}


def table(tree: xr.DataTree, with_points: pd.DataFrame | None = None) -> pd.DataFrame:
    """Returns one row a wiring, numbers as numbers: `net_start`, `net_start_low`, `net_start_high`, `net_trained`, …

    `law_start` is the law as text and `law_start_k` its exponent; `no_theory` says why there is none, `failed` what stopped
    a wiring. The order is that of the points. `with_points` is `points(tree)`, for callers that have it.
    """
    nodes = _nodes(tree, "training")
    rows: list[dict[str, Any]] = []
    all_points = points(tree) if with_points is None else with_points
    for name, of_model in all_points.groupby("model", sort=False):
        rows.append(_row(tree, str(name), nodes[str(name)], of_model))
    for name, why in settings(tree).get("failed", {}).items():
        rows.append({"wiring": name, "failed": why})
    frame = pd.DataFrame(rows)
    texts = frame.columns.intersection(
        ["family", "equation", "source", "law_start", "law_trained", "no_theory", "failed"]
    )
    return frame.fillna(dict.fromkeys(texts, ""))


def _row(tree: xr.DataTree, name: str, node, of_model: pd.DataFrame) -> dict[str, Any]:
    """Returns the row of one wiring in `table`, from its points."""
    row: dict[str, Any] = {"wiring": name, "family": node.attrs.get("family", "")}
    row["equation"] = node.attrs.get("equation", "")
    row["source"] = node.attrs.get("source", "")
    steps = node["step"].values
    for when, step in (("start", steps[0]), ("trained", steps[-1])):
        row[f"law_{when}"], exponent = law(name, node, int(step))
        row[f"law_{when}_k"] = exponent["estimate"]
        row[f"law_{when}_k_low"] = exponent["low"]
        row[f"law_{when}_k_high"] = exponent["high"]
    for point in of_model[of_model["number"] != "theory"].itertuples():
        column = f"{point.number}_{point.when}"
        row[column] = point.mean
        row[f"{column}_low"] = point.low
        row[f"{column}_high"] = point.high
        row[f"{column}_n"] = point.n
    row |= agreement(tree, name)
    row["no_theory"] = node.attrs.get("no_theory", "")
    row["failed"] = ""
    return row
