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
from ...results.tree import at_labels, variable
from . import nonfinite
from .profiles import at_steps, called, long, nodes


def one_node(node, name: str, step: int | None, **where) -> xr.DataArray:
    """A quantity of one model at one recorded step (the last where there are steps and none is named)."""
    values = at_labels(_at(variable(node, name), step), where)
    out = values.isnull().all([dim for dim in values.dims if dim != "seed"]) | _at(nonfinite.lost(node), step)
    failed = values.isnull() & ~out
    return values.where(~failed.any("seed")) if "seed" in values.dims and values.dtype.kind == "f" else values


def _at(values: xr.DataArray, step: int | None) -> xr.DataArray:
    """`values` at one recorded step, the last where none is named."""
    if step is not None:
        values = at_steps(values, (step,)).squeeze("step")
    elif "step" in values.dims:
        values = values.isel(step=-1)
    return values.reset_coords("step", drop=True) if "step" in values.coords else values


def active_factors(node) -> list[str]:
    """The factors of `J` that do something: their singular values are not all 1, nor are they the same map as another."""
    extremes = [variable(node, f"{which}_singular_value") for which in ("largest", "smallest")]
    idle = (abs(extremes[0] - 1) < 1e-6) & (abs(extremes[1] - 1) < 1e-6)
    missing = extremes[0].isnull()
    left = ~(idle | missing).all([dim for dim in idle.dims if dim != "jacobian"])
    gain = variable(node, "jacobian_gain")
    same = lambda one, other: bool(gain.sel(jacobian=one, drop=True).equals(gain.sel(jacobian=other, drop=True)))
    repeated = {one for one, other in (("branch_term", "branch"), ("fork", "sublayer")) if same(one, other)}
    return [str(name) for name in idle["jacobian"].values[left.values] if name not in repeated]


def _there(node, sublayers) -> None:
    """An error for a sublayer that the model doesn't have."""
    if not isinstance(sublayers, Iterable):
        raise ValueError(f"sublayers is {shown(sublayers)}: whole numbers are needed, (1, 2)")
    for place in sublayers:
        if whole("a sublayer", place, least=0) not in node["sublayer"].values:
            raise ValueError(f"no sublayer {place}: they are counted from 1 to {node.sizes['sublayer']}")


def spectrum(node, *, sublayer: int, seed: int = 0, step: int | None = None) -> pd.DataFrame:
    """Singular values of one sublayer (1 … S) and its active factors, one seed, descending, by relative index."""
    variable(node, "singular_values")
    _there(node, [sublayer])
    values = one_node(node, "singular_values", step, sublayer=sublayer, seed=whole("seed", seed, least=0))
    frames = []
    for factor in active_factors(node):
        kept = values.sel(jacobian=factor).dropna("index").values
        share = (np.arange(len(kept)) + 0.5) / max(len(kept), 1)
        frames.append(pd.DataFrame({"jacobian": factor, "relative_index": share, "singular_value": kept}))
    table = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    if table.empty and (found := nonfinite.lines({called(node): node})):
        raise ValueError(f"sublayer {sublayer} has no spectrum: {found[0]}")
    if table.empty:
        raise ValueError(
            f"the spectrum of sublayer {sublayer} is an estimate: its singular values were not computed one by one; draw "
            f"`spectrum_bands` or `spectral_density`, or measure with dense = tokens × width"
        )
    return table


def bands(node, *, jacobian: str = "sublayer", step: int | None = None) -> pd.DataFrame:
    """Quantiles of the singular values of every sublayer, and the extremes: geometric means over seeds.

    Columns `sublayer`, `kind`, `smallest`, one a quantile (`0.05` … `0.95`), `largest`.
    """
    pick = lambda name: band(one_node(node, name, step, jacobian=jacobian))["mean"]
    quantiles = pick("singular_value_quantiles")
    frame = pd.DataFrame({"sublayer": node["sublayer"].values, "kind": node["kind"].values})
    frame["smallest"] = pick("smallest_singular_value").values
    for share in quantiles["quantile"].values:
        frame[f"{share:g}"] = quantiles.sel(quantile=share).values
    return frame.assign(largest=pick("largest_singular_value").values)


def density(node, *, jacobian: str = "sublayer", sublayers=None, step: int | None = None) -> pd.DataFrame:
    """Spectral density of chosen sublayers over σ: mean share a bin over seeds; the first and last of each kind by default."""
    values = one_node(node, "spectral_density", step, jacobian=jacobian)
    kinds = pd.Series(node["kind"].values, index=node["sublayer"].values)
    ends = [place for kind in dict.fromkeys(kinds) for place in kinds.index[kinds == kind][[0, -1]]]
    chosen = ends if sublayers is None else sublayers
    _there(node, chosen)
    chosen = list(dict.fromkeys(chosen))
    table = long({called(node): values.sel(sublayer=chosen)})
    return table.assign(sigma=10.0 ** table["log_sigma"])


def factors(node, quantity: str = "jacobian_gain", *, step: int | None = None) -> pd.DataFrame:
    """One number of the spectrum of every sublayer and active factor: mean and band over seeds, column `jacobian`."""
    values = one_node(node, quantity, step)
    extra = {str(dim) for dim in values.dims} - {"seed", "sublayer", "jacobian"}
    if extra:
        raise ValueError(f"{quantity} has the dimension {sorted(extra)[0]} too: it is not one number a factor")
    return long({called(node): values.sel(jacobian=active_factors(node))})


def stack_volumes(node) -> xr.DataArray:
    """Log-volumes of the whole stack by factor: the sums over sublayers where they are those of the product, else NaN.

    log |det| of a product is the sum of its factors' where these are one to one, the first at least on what it keeps: where one
    loses a direction further up, the product loses it, with all that those below made of it.
    """
    lost, missing = variable(node, "lost_directions"), variable(node, "rank_deficit")
    above = lost.isel(sublayer=slice(1, None))
    onto = missing.isel(sublayer=0, drop=True) == missing.isel(sublayer=-1, drop=True)
    whole = (above == 0).all("sublayer") & onto & (missing >= 0).all("sublayer")
    return variable(node, "log_volume").sum("sublayer", skipna=False).where(whole)


def exponents(tree, *, step: int | None = None) -> pd.DataFrame:
    """Lyapunov exponents of depth by direction, counted from 1: band over seeds, and `sem`, which is over sublayers.

    `sem` is the mean over seeds of the scatter of growth along the stack. Sublayers are not independent, so it is no interval
    of the exponent, and with one seed there is none.
    """
    table = long({name: one_node(node, "lyapunov_exponent", step) for name, node in nodes(tree).items()})
    errors = long({name: one_node(node, "lyapunov_exponent_sem", step) for name, node in nodes(tree).items()})
    table["sem"] = errors["mean"].to_numpy()
    return table.assign(direction=table["direction"] + 1)


def alignment(tree, *, step: int | None = None) -> pd.DataFrame:
    """Over depth: the share of the loss's cotangent in all directions followed, and the first direction's token-mean share.

    Column `quantity`: `cotangent_share`, `token_mean_share`. Bands end at 0 and 1, as shares do.
    """
    shares = {}
    for name, node in nodes(tree).items():
        cotangent = one_node(node, "cotangent_share", step).sum("direction", skipna=False).rename("cotangent_share")
        mean = one_node(node, "token_mean_share", step).isel(direction=0, drop=True)
        shares[name] = {"cotangent_share": cotangent, "token_mean_share": mean}
    pick = lambda quantity: long({name: own[quantity] for name, own in shares.items()}).assign(quantity=quantity)
    table = pd.concat([pick("token_mean_share"), pick("cotangent_share")], ignore_index=True)
    return table.assign(low=table["low"].clip(0, 1), high=table["high"].clip(0, 1))
