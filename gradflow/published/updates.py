"""How far a change of all weights moves the output, against the depth."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ..laws.law import monomial
from ..model.branches.attention import Attention
from ..model.branches.branch import Branch, FeedForward
from ..model.layers.layer import Gain
from ..model.layers.norms import LayerNorm
from ..model.stacks.transformer import transformer, transformers
from ..results.reproduction import READ, RECALLED, SECONDARY, Equals, Scales, Source, Within
from ..results.sweeps import against_total_depth
from ..training.data import text
from ..training.experiments import amplification
from ..training.optimizers import SGD
from ..training.recipe import Recipe
from . import rows
from .entry import Entry


def _squares(swept) -> dict[str, xr.DataArray]:
    """Returns the mean square of the output's change, [total_depth, seed], by model."""
    changes = against_total_depth(swept, "output_change")
    return {name: (values**2).rename("output_change_squared") for name, values in changes.items()}


def _admin(*, depths: tuple[int, ...], width: int, seeds: int) -> pd.DataFrame:
    """Returns the change of the output where every weight moves by noise of a hundredth of its size."""
    models = transformers("pre", "post", depth=depths[0], width=width, context=16)
    swept = amplification(models, text(context=16, batch=8), depth=depths, seeds=seeds)
    made = []
    for name, squares in _squares(swept).items():
        made += rows.curve(name, squares, "total_depth")
        power = f"{name}: exponent in the number of blocks"
        made.append(rows.exponent(power, squares, monomial, over="total_depth"))
        logs = squares.assign_coords(total_depth=np.log(squares["total_depth"].values))
        in_logs = f"{name}: exponent in its logarithm"
        made.append(rows.exponent(in_logs, logs, monomial, over="total_depth"))
    return rows.table(made)


ADMIN = Entry(
    name="admin-amplification",
    title="Change of the output by a small change of all weights, against the number of layers",
    source=Source(
        "Liu et al.",
        2020,
        "2004.08249",
        "Understanding the Difficulty of Training Transformers",
        "section 4, the amplification effect",
    ),
    published_setting="encoders of IWSLT14, squared change of the output by a random change of the weights",
    our_setting="{depths} blocks, width {width}, real text, noise of a hundredth of every weight, {seeds} seeds",
    reduced="width 64, a decoder",
    claims=(
        Equals(
            "post: exponent in the number of blocks",
            "Var[F(x, W) − F(x, W*)] = O(N) under post-norm",
            SECONDARY,
            value=1.0,
            resolution=0.15,
            allowance=0.1,
        ),
        Within(
            "pre: exponent in its logarithm",
            "O(log N) under pre-norm: as a bound, an exponent of at most 1 in log N (0.1 allowed for the fit)",
            SECONDARY,
            most=1.1,
        ),
        Within(
            "pre: exponent in the number of blocks",
            "slower than post-norm (taken as an exponent below 0.6 at these depths)",
            SECONDARY,
            most=0.6,
        ),
    ),
    measure=_admin,
    scales=Scales("number of blocks", "mean squared change of the output", log_x=True, log_y=True),
    sizes={
        "full": {"depths": (4, 8, 16, 32), "width": 64, "seeds": 16},
        "quick": {"depths": (4, 8, 16), "width": 32, "seeds": 32},
        "toy": {"depths": (2, 3, 4), "width": 8, "seeds": 2},
    },
    minutes=6.8,
    timed="quick",
)


def _constants(blocks: int) -> list[rows.Row]:
    """Returns DeepNorm's α, and what its β multiplies values and queries by, at a number of blocks."""
    sublayers = []
    for name in ("deepnorm", "post"):
        sublayers.append(transformer(name, depth=blocks, width=8, attention=Attention(2)).sublayers[0].layers)
    (scaled, plain) = sublayers
    skip, branches = scaled["skip"], (scaled["branch"], plain["branch"])
    assert isinstance(skip, Gain)
    assert isinstance(skip.value, float)
    gains = []
    for branch in branches:
        assert isinstance(branch, Branch)
        gains.append(branch.gains(8))
    ours, unscaled = gains
    return [
        rows.exact(f"α at N = {blocks}", skip.value),
        rows.exact(f"β at N = {blocks}", (ours["value"] / unscaled["value"]) ** 0.5),
        rows.exact(f"scale of queries at N = {blocks}", (ours["query"] / unscaled["query"]) ** 0.5),
    ]


def _deepnet(*, depths: tuple[int, ...], width: int, seeds: int) -> pd.DataFrame:
    """Returns DeepNorm's constants at depth 100, and the change of the output by one step of gradient descent."""
    made = _constants(100)
    shape: dict[str, Any] = {"depth": depths[0], "width": width, "context": 16, "init": "xavier"}
    bare, mlp = LayerNorm(scale="none", bias=False), FeedForward(bias=False)
    models = transformers("post", "deepnorm", norm=bare, mlp=mlp, **shape)
    models["deepnorm, biases and norms trained too"] = transformer("deepnorm", **shape)
    recipe = Recipe(SGD(), lr=0.1)
    swept = amplification(models, text(context=16, batch=8), depth=depths, seeds=seeds, recipe=recipe)
    for name, squares in _squares(swept).items():
        change = (squares**0.5).rename("output_change")
        made += rows.curve(name, change, "total_depth")
        made.append(rows.exponent(f"{name}: exponent of ‖ΔF‖", change, monomial, over="total_depth"))
    return rows.table(made)


DEEPNET = Entry(
    name="deepnet-constants",
    title="DeepNorm's constants, and the bound on the update of the output",
    source=Source(
        "Wang et al.",
        2022,
        "2203.00555",
        "DeepNet: Scaling Transformers to 1,000 Layers",
        "figure 2, and the bound on the update",
    ),
    published_setting="encoder-only and decoder-only: α = (2N)^(1/4), β = (8N)^(−1/4); ‖ΔF‖ = Θ(η) after one step at any N",
    our_setting="constants at N = 100; one step of gradient descent at {depths} blocks, width {width}, Xavier, {seeds} seeds",
    reduced="width 64, and at most 128 blocks, where the paper goes to 1,000",
    claims=(
        Equals("α at N = 100", "α = (2N)^(1/4) = 3.761", READ, value=200**0.25, resolution=1e-9, allowance=1e-9),
        Equals("β at N = 100", "β = (8N)^(−1/4) = 0.188", READ, value=800**-0.25, resolution=1e-9, allowance=1e-9),
        Equals("scale of queries at N = 100", "β scales feed-forward, value and output alone", READ, 1.0, 1e-9, 1e-9),
        Within("post: exponent of ‖ΔF‖", "under post-norm the update grows with N", RECALLED, least=0.0),
        Within(
            "deepnorm: exponent of ‖ΔF‖",
            "‖ΔF‖ stays bounded as N grows (taken as an exponent of at most 0.1); matrices alone are trained, neither biases nor "
            "gains and shifts of norms, as in the paper's analysis",
            READ,
            most=0.1,
        ),
    ),
    measure=_deepnet,
    scales=Scales("number of blocks", "rms change of the output by one step", log_x=True, log_y=True),
    sizes={
        "full": {"depths": (8, 32, 128), "width": 64, "seeds": 12},
        "quick": {"depths": (8, 32, 128), "width": 32, "seeds": 8},
        "toy": {"depths": (1, 2, 3), "width": 8, "seeds": 2},
    },
    minutes=1.5,
    timed="quick",
)
