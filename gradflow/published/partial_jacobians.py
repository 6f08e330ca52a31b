"""Averaged partial Jacobian norms by depth: a power under pre-norm, an exponential under post-norm, a stretched one with DyT."""

import numpy as np
import pandas as pd
import xarray as xr

from ..laws.fitting import fit
from ..laws.law import Law, exponential, monomial, stretched
from ..model.layers.norms import DyT
from ..model.wirings.wiring import Wiring
from ..programs.measurement import measure
from ..results.reproduction import DERIVED, READ, Equals, Scales, Source, Within
from ..results.tree import variable
from . import rows
from .entry import Entry
from .stacks import different_tokens, feed_forward

L0 = 2.0  # q₀/C of a ReLU stack
# `χ = (1 + E φ'²)/(1 + E φ²)` at unit pre-activation.
GAINS = {"relu": 1.0, "gelu": 1.0215, "tanh": 1.050}
LOWEST = 4  # sublayers left out of the fits with DyT, where it is nearly linear


def _misfit(profile: xr.DataArray, law: Law) -> np.ndarray:
    """Returns the rms misfit of the law to the log of every seed's profile."""
    misfits = []
    for i in range(profile.sizes["seed"]):
        misfits.append(float(fit(profile.isel(seed=[i]), law)["residual"]))
    return np.array(misfits)


def _exponents(*, depth: int, width: int, seeds: int) -> pd.DataFrame:
    """Returns partial Jacobians of feed-forward stacks under pre-norm, post-norm and dynamic tanh."""
    models = {"pre": feed_forward("pre", depth, width), "dyt": feed_forward(_with_dyt(), depth, width)}
    for activation in GAINS:
        models[f"post, {activation}"] = feed_forward("post", depth, width, activation)
    tree = measure(models, different_tokens(16), seeds=seeds, quantities=("partial_jacobian",))
    profiles = {}
    made = []
    for name, node in tree.children.items():
        profiles[name] = variable(node, "partial_jacobian").sel(probe="isotropic", drop=True)
        made += rows.curve(name, profiles[name], "depth")
    moved = profiles["pre"].assign_coords(depth=1 + profiles["pre"]["depth"].values / L0)
    made.append(rows.exponent("pre: exponent in 1 + l/l₀", moved, monomial, over="depth"))
    for activation in GAINS:
        of_post = profiles[f"post, {activation}"]
        ratio = of_post.isel(depth=0) / of_post.isel(depth=-1)
        made.append(rows.number(f"post, {activation}: gain of a sublayer", np.exp(np.log(ratio) / depth)))
    upper = profiles["dyt"].isel(depth=slice(min(LOWEST, depth - 3), None))
    of_stretched = _misfit(upper, stretched)
    for law in (monomial, exponential):
        worse = np.log(_misfit(upper, law) / of_stretched)
        made.append(rows.number(f"dyt: log of misfit, {law.name} over stretched", worse))
    return rows.table(made)


def _with_dyt() -> Wiring:
    """Returns pre-norm with dynamic tanh in the norm's place; none at the top, where it would act on the readout alone."""
    return Wiring("dyt", norm_in=DyT(1.0))


EXPONENTS = Entry(
    name="partial-jacobian-exponents",
    title="Partial Jacobian norms by depth under pre-norm, post-norm and dynamic tanh",
    source=Source(
        "Doshi, He and Gromov",
        2023,
        "2111.12143",
        "Critical Initialization of Wide and Deep Neural Networks using Partial Jacobians",
        "section on residual networks with LayerNorm; for DyT Alekseev 2026, arXiv:2604.11890",
    ),
    published_setting="infinite width, large depth",
    our_setting="{depth} feed-forward sublayers, width {width}, 16 tokens, {seeds} seeds; DyT with α = 1",
    reduced="width 128 and 64 sublayers in the place of limits",
    claims=(
        Equals(
            "pre: exponent in 1 + l/l₀",
            "J^(L,l) ∝ (L/l)^ζ, ζ = 1 for ReLU: exponent −1",
            READ,
            value=-1.0,
            resolution=0.05,
            allowance=3 / 128,
        ),
        Equals("post, relu: gain of a sublayer", "χ = 1", DERIVED, GAINS["relu"], resolution=0.005, allowance=1 / 128),
        Equals(
            "post, gelu: gain of a sublayer", "χ = 1.0215", DERIVED, GAINS["gelu"], resolution=0.005, allowance=1 / 128
        ),
        Equals(
            "post, tanh: gain of a sublayer", "χ = 1.050", DERIVED, GAINS["tanh"], resolution=0.005, allowance=1 / 128
        ),
        Within("dyt: log of misfit, monomial over stretched", "exp(√(l/λ)), not a power of l", READ, least=0.0),
        Within("dyt: log of misfit, exponential over stretched", "exp(√(l/λ)), not an exponential", READ, least=0.0),
    ),
    measure=_exponents,
    scales=Scales("sublayer", "partial Jacobian norm to the top", log_y=True),
    sizes={
        "full": {"depth": 64, "width": 128, "seeds": 40},
        "quick": {"depth": 48, "width": 64, "seeds": 8},
        "toy": {"depth": 5, "width": 8, "seeds": 2},
    },
    minutes=1.7,
)
