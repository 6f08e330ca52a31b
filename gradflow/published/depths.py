"""The size of the final stream against the number of blocks, after a few steps of training."""

from typing import Any

import optax
import pandas as pd
import xarray as xr

from ..laws.law import monomial
from ..model.layers.layer import Gain
from ..model.layers.norms import LayerNorm
from ..model.parameters.depth import OfDepth
from ..model.parameters.initializers import WidthScaled
from ..model.stacks.transformer import transformer
from ..model.wirings.wiring import Wiring
from ..results.reproduction import READ, Equals, Scales, Source, Within
from ..results.tree import variable
from ..training.data import text
from ..training.loop import train
from . import rows
from .entry import Entry

BASE_DEPTH = 2
RATE = 1e-3  # learning rate of the base model
WEIGHTS = WidthScaled(
    0.02, 256
)  # weights and embeddings are drawn at 0.02 at width 256, and with the same gain at others
POWERS = {"standard": 0.0, "α = ½": 0.5, "α = 1": 1.0}


def completep(alpha: float) -> Wiring:
    """Returns pre-norm with each branch times `m^(−α)`, m the number of blocks over that of the base model."""
    norm = LayerNorm()
    return Wiring("completep", norm_in=norm, write=Gain(OfDepth(1 / BASE_DEPTH, -alpha)), leave=norm)


def _adam(alpha: float, depth: int, width: int) -> optax.GradientTransformation:
    """Returns Adam at 1e-3 for embedding and readout, and in the stack at `1e-3 · m^(α−1) · 256/width`; without m at α = 0.

    The last factor carries the rate of width 256 to another width (Yang and Hu 2021, table 3: a hidden matrix's rate of Adam
    goes as 1/width), as `WEIGHTS` does its standard deviation.
    """
    of_stack = RATE * WEIGHTS.at_width / width
    if alpha:
        of_stack *= (depth / BASE_DEPTH) ** (alpha - 1)
    return optax.multi_transform({"stack": optax.adam(of_stack), "ends": optax.adam(RATE)}, _parts)


def _parts(params) -> dict[str, str]:
    """Returns for each part of a Transformer's parameters whether it is the stack, or at one of its ends."""
    return {name: "stack" if name == "stack" else "ends" for name in params}


def _completep(*, depths: tuple[int, ...], width: int, seeds: int, steps: int) -> pd.DataFrame:
    """Returns the stream at the top after some steps against the number of blocks, for each α."""
    data = text(context=32, batch=4)
    made = []
    for name, alpha in POWERS.items():
        tops = []
        for depth in depths:
            shape: dict[str, Any] = {"depth": depth, "width": width, "init": WEIGHTS, "embedding_rms": WEIGHTS.sigma}
            model = transformer(completep(alpha), context=32, **shape)
            options: dict[str, Any] = {"steps": steps, "record": (steps,), "readings": ("economy",), "seeds": seeds}
            node = train({"model": model}, data, _adam(alpha, depth, width), **options)[1]["model"]
            top = variable(node, "stream_rms").isel(step=-1, depth=-1).reset_coords(drop=True)
            tops.append(top.expand_dims(total_depth=[depth]))
        against = xr.concat(tops, "total_depth")
        made += rows.curve(name, against, "total_depth")
        made.append(rows.exponent(f"{name}: exponent in the number of blocks", against, monomial, over="total_depth"))
    return rows.table(made)


COMPLETEP = Entry(
    name="completep-stream",
    title="Size of the final stream against depth after ten steps, for three powers of the branch's multiplier",
    source=Source(
        "Dey et al.",
        2025,
        "2505.01618",
        "Don't be lazy: CompleteP enables compute-efficient deep transformers",
        "figure 7",
    ),
    published_setting="mean |final stream|, depths 2 to 64, width 256, 3 seeds, 10 steps, learning rate 1e-3",
    our_setting="rms of the final stream, {depths} blocks, width {width}, {seeds} seeds, {steps} steps of Adam, weights and "
    "embeddings of std 0.02 at width 256, learning rate 1e-3 · m^(α−1) · 256/width in the stack (without m for the standard), "
    "1e-3 at the ends, m = L/2",
    reduced="width 256 → 64, with the rate that μP gives there, and depth at most 32; Adam's ε is not scaled",
    claims=(
        Within(
            "standard: exponent in the number of blocks",
            "standard: grows with depth (taken as an exponent above 0.2)",
            READ,
            least=0.2,
        ),
        Equals("α = ½: exponent in the number of blocks", "flat", READ, value=0.0, resolution=0.05, allowance=0.1),
        Equals("α = 1: exponent in the number of blocks", "flat", READ, value=0.0, resolution=0.05, allowance=0.1),
    ),
    measure=_completep,
    scales=Scales("number of blocks", "rms of the final stream", log_x=True, log_y=True),
    sizes={
        "full": {"depths": (2, 4, 8, 16, 32), "width": 64, "seeds": 6, "steps": 10},
        "quick": {"depths": (2, 8, 32), "width": 32, "seeds": 6, "steps": 10},
        "toy": {"depths": (1, 2, 3), "width": 8, "seeds": 2, "steps": 1},
    },
    minutes=1.5,
    timed="quick",
)
