"""The largest learning rate that a wiring bears, found on a ramp."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ..model.stacks.transformer import transformers
from ..results.reproduction import READ, Scales, Source, Within
from ..results.tree import variable
from ..training.data import text
from ..training.loop import train
from ..training.recipe import Recipe
from . import rows
from .entry import Entry

PUBLISHED = {
    "post": 3.0e-4,
    "deepnorm": 3.5e-4,
    "hybrid_norm": 4.9e-4,
    "mix_ln": 8.6e-4,
    "pre": 7.65e-3,
    "keel": 1.01e-2,
}
PEAK = 5e-2
SMOOTHED = 5  # recorded steps
LEARNT = 0.1  # nat below the entropy of single bytes


def _entropy(tokens) -> float:
    """Returns the entropy of single tokens of a text: the loss of a model that knows their frequencies alone; nat."""
    shares = np.bincount(np.asarray(tokens)) / len(tokens)
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def _borne(losses: xr.DataArray, steps: int, level: float) -> xr.DataArray:
    """Returns the learning rate of every seed at the last step where its loss is below the level; the first where it never is.

    Losses are those of the recorded steps [step, seed], each taken as the mean of the last `SMOOTHED`.
    """
    finite = losses.fillna(np.inf).transpose("step", "seed")
    smoothed = finite.rolling(step=SMOOTHED, min_periods=1).mean()
    below = (smoothed < level).values
    rates = PEAK * (losses["step"].values + 1) / steps
    last = len(below) - 1 - below[::-1].argmax(0)
    borne = np.where(below.any(0), rates[last], rates[0])
    return xr.DataArray(borne, dims="seed", coords={"seed": losses["seed"].values}, name="largest_rate")


def _largest(*, depth: int, width: int, steps: int, seeds: int, every: int) -> pd.DataFrame:
    """Returns the largest learning rate of every wiring on a linear ramp, and paired log-ratios of neighbours in the table."""
    models = transformers(*PUBLISHED, depth=depth, width=width, context=16, heads=2)
    recipe = Recipe(lr=PEAK, warmup=steps)
    recorded = tuple(range(0, steps, every))
    options: dict[str, Any] = {"steps": steps, "seeds": seeds, "record": recorded, "readings": ("economy",)}
    data = text(context=16, batch=8)
    run = train(models, data, recipe, **options)[1]
    level = _entropy(data.tokens) - LEARNT
    logs = {}
    made = []
    for i, name in enumerate(PUBLISHED):
        rates = _borne(variable(run[name], "loss"), steps, level)
        logs[name] = np.log(rates.values)
        made += rows.curve("ours", rates.expand_dims(place=[i + 1]).rename("largest_rate"), "place")
    made += rows.points("published, at 64 layers", range(1, len(PUBLISHED) + 1), list(PUBLISHED.values()))
    for one, other in (("pre", "post"), ("pre", "deepnorm"), ("pre", "mix_ln"), ("mix_ln", "post"), ("keel", "pre")):
        made.append(rows.number(f"log of largest rate, {one} over {other}", logs[one] - logs[other]))
    return rows.table(made)


KEEL = Entry(
    name="keel-largest-rate",
    title="Order of the largest learning rates of six wirings",
    source=Source("Chen and Wei", 2026, "2601.19895", "Post-LayerNorm Is Back", "table 1"),
    published_setting="64 layers, warm-up to 5e-2 over 5,000 steps; largest rate: Post 3.0e-4, DeepNorm 3.5e-4, Hybrid 4.9e-4, "
    "Mix 8.6e-4, Pre 7.65e-3, Keel 1.01e-2",
    our_setting="{depth} blocks, width {width}, real text, Adam on a ramp to 5e-2 over {steps} steps, {seeds} seeds; the "
    "last rate at which the loss is 0.1 nat below the entropy of single bytes",
    reduced="depth, width and length of the ramp: rates are compared by order alone",
    claims=(
        Within("log of largest rate, pre over post", "Post < Pre", READ, least=0.0),
        Within("log of largest rate, pre over deepnorm", "DeepNorm < Pre", READ, least=0.0),
        Within("log of largest rate, pre over mix_ln", "Mix < Pre", READ, least=0.0),
        Within("log of largest rate, mix_ln over post", "Post < Mix", READ, least=0.0),
        Within("log of largest rate, keel over pre", "Pre < Keel", READ, least=0.0),
    ),
    measure=_largest,
    scales=Scales("place in the published order", "largest learning rate", log_y=True),
    sizes={
        "full": {"depth": 16, "width": 32, "steps": 400, "seeds": 4, "every": 5},
        "quick": {"depth": 12, "width": 32, "steps": 200, "seeds": 4, "every": 4},
        "toy": {"depth": 4, "width": 8, "steps": 2, "seeds": 2, "every": 1},
    },
    minutes=8.0,
    timed="quick",
)
