"""The numbers behind figures of Jacobians, as long tables: spectra of sublayers and their factors, exponents, alignment.

Columns as in `tables`. Factors that do nothing in a wiring are left out. A number that did not converge is missing, and so is
the mean over seeds that it belongs to: those that converge are no fair sample. A seed that is not finite is left out, and `n`
says of how many the mean is.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import xarray as xr

from ...results.arguments import shown, whole
from ...results.statistics import band
from ...results.sweeps import at_labels
from ...results.tree import variable
from . import nonfinite
from .profiles import at_steps, called, long, nodes


def one_node(node, name: str, step: int | None, **where) -> xr.DataArray:
    """Returns a quantity of one model at one recorded step (the last where there are steps and none is named)."""
    values = at_labels(_at(variable(node, name), step), where)
    if "seed" not in values.dims or values.dtype.kind != "f":
        return values
    missing = values.isnull()
    further = [dim for dim in values.dims if dim != "seed"]
    left_out = missing.all(further) | _at(nonfinite.lost(node), step)
    not_converged = missing & ~left_out
    return values.where(~not_converged.any("seed"))


def _at(values: xr.DataArray, step: int | None) -> xr.DataArray:
    """Returns `values` at one recorded step, the last where none is named."""
    if step is not None:
        values = at_steps(values, (step,)).squeeze("step")
    elif "step" in values.dims:
        values = values.isel(step=-1)
    if "step" in values.coords:
        return values.reset_coords("step", drop=True)
    return values


def active_factors(node) -> list[str]:
    """Returns the factors of `J` that do something: their singular values are not all 1, nor do they repeat another factor."""
    largest = variable(node, "largest_singular_value")
    smallest = variable(node, "smallest_singular_value")
    gain = variable(node, "jacobian_gain")
    idle = (abs(largest - 1) < 1e-6) & (abs(smallest - 1) < 1e-6)
    nothing = (idle | largest.isnull()).all([dim for dim in idle.dims if dim != "jacobian"])
    active = [str(name) for name in idle["jacobian"].values[~nothing.values]]
    for factor, same_as in (("branch_term", "branch"), ("fork", "sublayer")):
        repeats = gain.sel(jacobian=factor, drop=True).equals(gain.sel(jacobian=same_as, drop=True))
        if repeats and factor in active:
            active.remove(factor)
    return active


def _check_sublayers(node, sublayers) -> None:
    """Raises for a sublayer that the model doesn't have."""
    if not isinstance(sublayers, Iterable):
        raise ValueError(f"sublayers is {shown(sublayers)}: whole numbers are needed, (1, 2)")
    for place in sublayers:
        if whole("a sublayer", place, least=0) not in node["sublayer"].values:
            raise ValueError(f"no sublayer {place}: they are counted from 1 to {node.sizes['sublayer']}")


def spectrum(node, *, sublayer: int, seed: int = 0, step: int | None = None) -> pd.DataFrame:
    """Returns singular values of one sublayer (1 … S) and its active factors, one seed, descending, by relative index."""
    variable(node, "singular_values")
    _check_sublayers(node, [sublayer])
    values = one_node(node, "singular_values", step, sublayer=sublayer, seed=whole("seed", seed, least=0))
    frames = []
    for factor in active_factors(node):
        kept = values.sel(jacobian=factor).dropna("index").values
        share = (np.arange(len(kept)) + 0.5) / max(len(kept), 1)
        frames.append(pd.DataFrame({"jacobian": factor, "relative_index": share, "singular_value": kept}))
    if any(len(frame) for frame in frames):
        return pd.concat(frames, ignore_index=True)
    not_finite = nonfinite.lines({called(node): node})
    if not_finite:
        raise ValueError(f"sublayer {sublayer} has no spectrum: {not_finite[0]}")
    raise ValueError(
        f"the spectrum of sublayer {sublayer} is an estimate: its singular values were not computed one by one; draw "
        f"`spectrum_bands` or `spectral_density`, or measure with dense = tokens × width"
    )


def bands(node, *, jacobian: str = "sublayer", step: int | None = None) -> pd.DataFrame:
    """Returns quantiles of the singular values of every sublayer, and the extremes: geometric means over seeds.

    Columns `sublayer`, `kind`, `smallest`, one a quantile (`0.05` … `0.95`), `largest`.
    """
    means = {}
    for name in ("singular_value_quantiles", "smallest_singular_value", "largest_singular_value"):
        means[name] = band(one_node(node, name, step, jacobian=jacobian))["mean"]
    quantiles = means["singular_value_quantiles"]
    frame = pd.DataFrame({"sublayer": node["sublayer"].values, "kind": node["kind"].values})
    frame["smallest"] = means["smallest_singular_value"].values
    for share in quantiles["quantile"].values:
        frame[f"{share:g}"] = quantiles.sel(quantile=share).values
    frame["largest"] = means["largest_singular_value"].values
    return frame


def density(node, *, jacobian: str = "sublayer", sublayers=None, step: int | None = None) -> pd.DataFrame:
    """Returns the spectral density of chosen sublayers over σ: mean share per bin over seeds.

    By default of the first and last sublayer of each kind.
    """
    values = one_node(node, "spectral_density", step, jacobian=jacobian)
    if sublayers is None:
        sublayers = _first_and_last(node)
    _check_sublayers(node, sublayers)
    chosen = list(dict.fromkeys(sublayers))
    table = long({called(node): values.sel(sublayer=chosen)})
    return table.assign(sigma=10.0 ** table["log_sigma"])


def _first_and_last(node) -> list:
    """Returns the first and the last sublayer of each kind."""
    kinds = pd.Series(node["kind"].values, index=node["sublayer"].values)
    ends = []
    for kind in dict.fromkeys(kinds):
        places = kinds.index[kinds == kind]
        ends += [places[0], places[-1]]
    return ends


def factors(node, quantity: str = "jacobian_gain", *, step: int | None = None) -> pd.DataFrame:
    """Returns one number of the spectrum of every sublayer and active factor: mean and band over seeds, column `jacobian`."""
    values = one_node(node, quantity, step)
    for dim in sorted(map(str, values.dims)):
        if dim not in ("seed", "sublayer", "jacobian"):
            raise ValueError(f"{quantity} has the dimension {dim} too: it is not one number a factor")
    return long({called(node): values.sel(jacobian=active_factors(node))})


def stack_volumes(node) -> xr.DataArray:
    """Returns log-volumes of the whole stack by factor: the sums over sublayers where they are those of the product, else NaN.

    log |det| of a product is the sum of its factors' where these are one to one, the first at least on what it keeps: where one
    loses a direction further up, the product loses it, with all that those below made of it.
    """
    lost = variable(node, "lost_directions")
    deficit = variable(node, "rank_deficit")
    one_to_one_above = (lost.isel(sublayer=slice(1, None)) == 0).all("sublayer")
    same_ends = deficit.isel(sublayer=0, drop=True) == deficit.isel(sublayer=-1, drop=True)
    known = (deficit >= 0).all("sublayer")
    sums = variable(node, "log_volume").sum("sublayer", skipna=False)
    return sums.where(one_to_one_above & same_ends & known)


def exponents(tree, *, step: int | None = None) -> pd.DataFrame:
    """Returns Lyapunov exponents of depth by direction, counted from 1: band over seeds, and `sem`, which is over sublayers.

    `sem` is the mean over seeds of the scatter of growth along the stack. Sublayers are not independent, so it is no interval
    of the exponent, and with one seed there is none.
    """
    values, errors = {}, {}
    for name, node in nodes(tree).items():
        values[name] = one_node(node, "lyapunov_exponent", step)
        errors[name] = one_node(node, "lyapunov_exponent_sem", step)
    table = long(values)
    table["sem"] = long(errors)["mean"].to_numpy()
    return table.assign(direction=table["direction"] + 1)


def alignment(tree, *, step: int | None = None) -> pd.DataFrame:
    """Returns over depth the loss cotangent's share in all tangents followed, and the first tangent's token-mean share.

    Column `quantity`: `cotangent_share`, `token_mean_share`. Bands end at 0 and 1, as shares do.
    """
    cotangents, token_means = {}, {}
    for name, node in nodes(tree).items():
        shares = one_node(node, "cotangent_share", step)
        cotangents[name] = shares.sum("direction", skipna=False).rename("cotangent_share")
        token_means[name] = one_node(node, "token_mean_share", step).isel(direction=0, drop=True)
    frames = [
        long(token_means).assign(quantity="token_mean_share"),
        long(cotangents).assign(quantity="cotangent_share"),
    ]
    table = pd.concat(frames, ignore_index=True)
    return table.assign(low=table["low"].clip(0, 1), high=table["high"].clip(0, 1))
