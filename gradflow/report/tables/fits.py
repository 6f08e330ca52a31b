"""Laws of profiles as tables: which law each model, step and sweep follows, with its exponent, and its curve for a plot.

A law is fitted to the seeds whose profile is positive and finite at every position, `n` of them; a single one has no interval.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ... import laws
from ...results.sweeps import against_total_depth, output_parameter
from .profiles import profiles_of

NUMBERS = ("estimate", "low", "high")
LAW_COLUMNS = [
    "model",
    "step",
    "law",
    "verdict",
    "sentence",
    "score",
    "behind",
    *NUMBERS,
    "n",
    "rms_misfit",
    "scored_by",
]
Key = tuple[str, int | None]  # a model and a step


def total_depth_slopes(
    sweep, quantity: str = "parameter_gradient", *, sublayer: int = -1, **where
) -> dict[str, xr.Dataset]:
    """Returns the fitted law `a L^k` of each model, L the number of blocks; models without three depths are left out."""
    where = where or {"parameter": output_parameter}
    slopes = {}
    for name, values in against_total_depth(sweep, quantity, sublayer=sublayer, **where).items():
        usable = fitting(values, "total_depth")
        if usable is not None:
            slopes[name] = laws.fit(usable, laws.monomial, over="total_depth")
    return slopes


def total_depth_laws(
    sweep, quantity: str = "parameter_gradient", *, sublayer: int = -1, **where
) -> dict[Key, xr.Dataset]:
    """Returns the laws of each model in the number of blocks, as `law_choices`: constant, a power of it, or exponential."""
    where = where or {"parameter": output_parameter}
    profiles: dict[Key, xr.DataArray] = {}
    for name, values in against_total_depth(sweep, quantity, sublayer=sublayer, **where).items():
        profiles[name, None] = values
    return _choices(profiles, laws.OVER_TOTAL_DEPTH, "total_depth")


def law_choices(
    tree, quantity: str = "stream_gradient", *, relative_to: str | None = "top", steps=None, **where
) -> dict[Key, xr.Dataset]:
    """Returns `{(model, step): laws.choose(…)}` for a profile, entries as in `profile`; by default of every recorded step.

    Models and steps without a law (not positive and finite, or too few positions for one seed) are left out.
    """
    profiles: dict[Key, xr.DataArray] = {}
    over = "sublayer"
    for name, values in profiles_of(tree, quantity, relative_to, steps, where).items():
        if "depth" in values.dims:
            over = "depth"
        if "step" not in values.dims:
            profiles[name, None] = values
            continue
        for step in values["step"].values:
            profiles[name, int(step)] = values.sel(step=step, drop=True)
    chosen = _choices(profiles, laws.OVER_DEPTH, over)
    reference = relative_to or "nothing"
    return {key: choice.assign_attrs(relative_to=reference) for key, choice in chosen.items()}


def _choices(profiles: Mapping[Key, xr.DataArray], candidates: Sequence[laws.Law], over: str) -> dict[Key, xr.Dataset]:
    """Returns `laws.choose` of every profile that a law can be fitted to."""
    most_numbers = max(len(law.names) for law in candidates)
    enough = most_numbers + 3  # positions that the AICc of a single seed asks for
    chosen = {}
    for key, profile in profiles.items():
        values = fitting(profile, over)
        if values is None:
            continue
        if values.sizes.get("seed", 1) == 1 and values.sizes[over] < enough:
            continue
        with suppress(laws.NoFit):
            chosen[key] = laws.choose(values, candidates, over=over)
    return chosen


def fitting(values: xr.DataArray, over: str) -> xr.DataArray | None:
    """Returns the seeds of a profile that have logarithms at every position.

    None where there is no such seed, or where positions are too few.
    """
    usable = (xr.ufuncs.isfinite(values) & (values > 0)).all(over)
    if values.sizes[over] < 3 or not usable.any():
        return None
    if "seed" not in values.dims:
        return values
    return values.isel(seed=np.flatnonzero(usable))


def law_rows(choices: Mapping[Key, xr.Dataset]) -> pd.DataFrame:
    """Returns one row a model, step and law of `law_choices` or `total_depth_laws`, with its verdict and its score.

    `estimate`, `low` and `high` are those of the exponent k, where it is identified; `n` seeds were fitted, and a single one
    has no `low` and `high`.
    """
    rows = []
    for (model, step), choice in choices.items():
        for name in choice["law"].values:
            law = choice.sel(law=name)
            exponent = law[list(NUMBERS)].sel(number="k").where(law["identified"] == 1)
            row: dict[str, Any] = {"model": model, "step": step, "law": name}
            for column in ("verdict", "sentence", "score", "behind"):
                row[column] = law[column].item()
            for column in NUMBERS:
                row[column] = exponent[column].item()
            row["n"] = choice.attrs["seeds"]
            row["rms_misfit"] = law["residual"].item()
            row["scored_by"] = choice.attrs["by"]
            rows.append(row)
    return pd.DataFrame(rows, columns=LAW_COLUMNS)


def law_curves(choices: Mapping[Key, xr.Dataset]) -> pd.DataFrame:
    """Returns the chosen laws at the positions they were fitted to, for the `laws` of a plot; `text` is the law in words.

    A law whose numbers are not identified is left out.
    """
    frames = []
    for (model, step), choice in choices.items():
        law = choice.sel(law=choice.attrs["chosen"])
        if not law["identified"]:
            continue
        over = choice.attrs["over"]
        curve = pd.DataFrame({over: law[over], "mean": law["curve"]})
        curve = curve.assign(model=model, step=step, text=laws.to_text(choice))
        curve["quantity"] = choice.attrs["quantity"]
        curve["relative_to"] = choice.attrs.get("relative_to", "nothing")
        frames.append(curve)
    if not frames:
        return pd.DataFrame({"model": [], "step": []})
    return pd.concat(frames, ignore_index=True)
