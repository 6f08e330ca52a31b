"""Laws of profiles as tables: which law each model, step and sweep follows, with its exponent, and its curve for a plot.

A law is of the seeds whose profile is positive and finite at every position, `n` of them; with one of them there is no interval.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
import pandas as pd
import xarray as xr

from ... import laws
from ...results.tree import against_total_depth
from .profiles import profiles_of

TOLD = ("verdict", "sentence", "score", "behind")
NUMBERS = ("estimate", "low", "high")
LAW_COLUMNS = ("model", "step", "law", *TOLD, *NUMBERS, "n", "rms_misfit", "scored_by")


def total_depth_slopes(
    sweep, quantity: str = "parameter_gradient", *, sublayer: int = -1, **where
) -> dict[str, xr.Dataset]:
    """The fitted law `a L^k` of each model, L the number of blocks; models without three depths are left out."""
    where = where or {"parameter": "down"}
    chosen = against_total_depth(sweep, quantity, sublayer=sublayer, **where)
    usable = {name: fitting(values, "total_depth") for name, values in chosen.items()}
    return {
        name: laws.fit(values, laws.monomial, over="total_depth")
        for name, values in usable.items()
        if values is not None
    }


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
    for name, values in profiles_of(tree, quantity, relative_to, steps, where).items():
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
    chosen = {}
    for key, profile in profiles.items():
        values = fitting(profile, over)
        if values is None or (values.sizes.get("seed", 1) == 1 and values.sizes[over] <= alone):
            continue
        with suppress(laws.NoFit):
            chosen[key] = laws.choose(values, candidates, over=over)
    return chosen


def fitting(values: xr.DataArray, over: str) -> xr.DataArray | None:
    """The seeds of a profile that have logarithms at every position; None where none has, or where positions are too few."""
    usable = (xr.ufuncs.isfinite(values) & (values > 0)).all(over)
    if values.sizes[over] < 3 or not usable.any():
        return None
    return values.isel(seed=np.flatnonzero(usable)) if "seed" in values.dims else values


def law_rows(choices: Mapping[tuple[str, int | None], xr.Dataset]) -> pd.DataFrame:
    """Every law of `law_choices` or `total_depth_laws`: one row a model, step and law, with its verdict and its score.

    `estimate`, `low` and `high` are those of the exponent k, where it is identified; `n` seeds were fitted, and with one there is
    no `low` and `high`.
    """
    rows = []
    for (model, step), choice in choices.items():
        for name in choice["law"].values:
            law = choice.sel(law=name)
            told = {column: law[column].item() for column in TOLD}
            k = law[list(NUMBERS)].sel(number="k").where(law["identified"] == 1)
            numbers = {column: k[column].item() for column in NUMBERS}
            misfit = {"rms_misfit": law["residual"].item(), "scored_by": choice.attrs["by"]}
            counted = {"n": choice.attrs["seeds"]}
            rows.append({"model": model, "step": step, "law": name, **told, **numbers, **counted, **misfit})
    return pd.DataFrame(rows, columns=list(LAW_COLUMNS))


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
            frames.append(curve.assign(model=model, step=step, told=laws.to_text(choice), **of))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({"model": [], "step": []})
