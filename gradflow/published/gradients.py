"""Gradients of weights by layer, and against the number of layers."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ..laws.law import monomial
from ..model.branches.attention import Attention
from ..model.branches.branch import FeedForward, GatedFeedForward
from ..model.branches.rotary import Rotary
from ..model.layers.norms import RMSNorm
from ..model.stacks.transformer import transformers
from ..programs.measurement import measure
from ..programs.sweep import sweep
from ..results.reproduction import ABSTRACT, READ, RECALLED, Equals, Scales, Source, Within
from ..results.sweeps import against_total_depth
from ..results.tree import variable
from ..training.data import text
from ..training.experiments import before_and_after
from ..training.optimizers import Adam
from ..training.recipe import Recipe
from . import rows
from .entry import Entry
from .stacks import of_kind

XIONG = "On Layer Normalization in the Transformer Architecture"


def _last_gradient(*, depths: tuple[int, ...], width: int, seeds: int) -> pd.DataFrame:
    """Returns the gradient of the last feed-forward matrix against the number of blocks."""
    attention, mlp = Attention(1, causal=False), FeedForward(1, "relu", bias=False)
    shape: dict[str, Any] = {"depth": depths[0], "width": width, "context": 16, "init": "xiong"}
    models = transformers("pre", "post", attention=attention, mlp=mlp, **shape)
    swept = sweep(models, text(context=16, batch=8), depth=depths, seeds=seeds, quantities=("economy",))
    gradients = against_total_depth(swept, "parameter_gradient", sublayer=-1, parameter="down")
    made = []
    for name, gradient in gradients.items():
        made.append(rows.exponent(f"{name}: exponent in the number of blocks", gradient, monomial, over="total_depth"))
        made += rows.curve(name, gradient, "total_depth")
    return rows.table(made)


LAST_GRADIENT = Entry(
    name="xiong-last-gradient",
    title="Gradient of the last feed-forward matrix against the number of layers, at initialization",
    source=Source("Xiong et al.", 2020, "2002.04745", XIONG, "theorem 1 and figure 3"),
    published_setting="theorem: one head, d×d matrices, Xavier, W^Q = W^K = 0; figure: IWSLT14 De-En, 6 to 14 layers a side",
    our_setting="the theorem's, {depths} blocks, width {width}, real text, {seeds} seeds",
    reduced="",
    claims=(
        Equals(
            "pre: exponent in the number of blocks",
            "‖∂L/∂W^(2,L)‖ ≤ O(d √(ln d / L)): falls as L^(−1/2), where the bound is met; the figure falls",
            READ,
            value=-0.5,
            resolution=0.08,
            allowance=0.05,
        ),
        Equals(
            "post: exponent in the number of blocks",
            "‖∂L/∂W^(2,L)‖ ≤ O(d √(ln d)): no L in the bound; the figure is flat",
            READ,
            value=0.0,
            resolution=0.08,
            allowance=0.05,
        ),
    ),
    measure=_last_gradient,
    scales=Scales("number of blocks", "gradient of the last feed-forward matrix", log_x=True, log_y=True),
    sizes={
        "full": {"depths": (6, 8, 10, 12, 14), "width": 64, "seeds": 24},
        "quick": {"depths": (6, 10, 14), "width": 64, "seeds": 12},
        "toy": {"depths": (1, 2, 3), "width": 8, "seeds": 2},
    },
    minutes=4.2,
)


def _warm_up(*, width: int, steps: int, seeds: int) -> pd.DataFrame:
    """Returns the feed-forward gradients by block before and after the warm-up."""
    models = transformers("pre", "post", depth=6, width=width, context=32, init="xavier")
    recipe = Recipe(Adam(b2=0.98, eps=1e-9), lr=1e-3, warmup=steps)
    run = before_and_after(models, text(context=32, batch=8), recipe=recipe, seeds=seeds)
    made = []
    for name, node in run.children.items():
        down = of_kind(node, "parameter_gradient", "mlp").sel(parameter="down", drop=True)
        for step, when in ((0, "before"), (steps, "after")):
            made += rows.curve(f"{name}, {when}", down.sel(step=step, drop=True), "block")
        start, end = down.sel(step=0, drop=True), down.sel(step=steps, drop=True)
        rise = xr.ufuncs.log(start.isel(block=-1) / start.isel(block=0))
        change = xr.ufuncs.log(end.isel(block=-1) / start.isel(block=-1))
        made.append(rows.number(f"{name}: log of last over first block, before", rise))
        made.append(rows.number(f"{name}: log of after over before, last block", change))
    return rows.table(made)


WARM_UP = Entry(
    name="xiong-warm-up",
    title="Feed-forward gradient by layer before and after warm-up",
    source=Source("Xiong et al.", 2020, "2002.04745", XIONG, "figure 3"),
    published_setting="IWSLT14 De-En, 6 layers a side, width 512, Xavier, 4000 steps of warm-up, 10 seeds",
    our_setting="decoder of 6 blocks, width {width}, Xavier, real text, Adam (b2 0.98) to 1e-3 in {steps} steps, {seeds} seeds",
    reduced="width 512 → 64, 4000 → 200 steps of warm-up, one stack instead of two, bytes instead of sentence pairs",
    claims=(
        Within("post: log of last over first block, before", "post-norm: grows with the layer", READ, least=0.0),
        Within(
            "pre: log of last over first block, before",
            "pre-norm: nearly the same in all layers (taken as within a factor of 2)",
            READ,
            least=-np.log(2),
            most=np.log(2),
        ),
        Within(
            "post: log of after over before, last block",
            "post-norm: after the warm-up the gradient near the output is small",
            RECALLED,
            most=0.0,
        ),
    ),
    measure=_warm_up,
    scales=Scales("block", "gradient of the last feed-forward matrix of the block", log_y=True),
    sizes={
        "full": {"width": 64, "steps": 200, "seeds": 6},
        "quick": {"width": 32, "steps": 100, "seeds": 4},
        "toy": {"width": 8, "steps": 2, "seeds": 2},
    },
    minutes=5.7,
)


def _of_blocks(node) -> xr.DataArray:
    """Returns the norm of the gradient of all weights of every block, [seed, block]."""
    squares = (variable(node, "parameter_gradient") ** 2).sum("parameter")
    layers = node["layer"].values
    blocks = []
    for layer in np.unique(layers):
        blocks.append(squares.isel(sublayer=np.flatnonzero(layers == layer)).sum("sublayer"))
    whole = xr.concat(blocks, "block") ** 0.5
    return whole.reset_coords(drop=True).assign_coords(block=np.arange(1, len(blocks) + 1))


def _mix_ln(*, depth: int, width: int, context: int, seeds: int) -> pd.DataFrame:
    """Returns the gradient norm of every block at the start, under pre-norm, post-norm and Mix-LN."""
    attention, mlp = Attention(4, rotary=Rotary()), GatedFeedForward()
    shape: dict[str, Any] = {"depth": depth, "width": width, "context": None, "norm": RMSNorm(), "init": "bert"}
    models = transformers("pre", "post", "mix_ln", attention=attention, mlp=mlp, embedding_rms=0.02, **shape)
    tree = measure(models, text(context=context, batch=4), seeds=seeds, quantities=("economy",))
    made, spreads = [], {}
    for name, node in tree.children.items():
        gradient = _of_blocks(node)
        made += rows.curve(name, gradient, "block")
        logs = xr.ufuncs.log(gradient)
        spreads[name] = logs.max("block") - logs.min("block")
        rise = logs.isel(block=-1) - logs.isel(block=0)
        made.append(rows.number(f"{name}: log of last over first block", rise))
    for name in ("pre", "post"):
        made.append(rows.number(f"spread over blocks, Mix-LN less {name}", spreads["mix_ln"] - spreads[name]))
    return rows.table(made)


MIX_LN = Entry(
    name="mix-ln-gradient",
    title="Gradient norm by layer at the start, under pre-norm, post-norm and Mix-LN",
    source=Source(
        "Li, Yin and Liu",
        2024,
        "2412.13795",
        "Mix-LN: Unleashing the Power of Deeper Layers by Combining Pre-LN and Post-LN",
        "figure 3e and abstract",
    ),
    published_setting="LLaMA of 130M parameters: 12 layers, width 768, 256 tokens of C4",
    our_setting="LLaMA's parts (RMSNorm, rotary, SwiGLU), {depth} blocks, width {width}, weights of equal gain, "
    "{context} tokens, {seeds} seeds",
    reduced="width 768 → 64, bytes of one text instead of C4",
    claims=(
        Within("pre: log of last over first block", "pre-norm: falls with depth", READ, most=0.0),
        Within("post: log of last over first block", "post-norm: rises with depth", READ, least=0.0),
        Within(
            "spread over blocks, Mix-LN less pre", "Mix-LN: more uniform gradients across layers", ABSTRACT, most=0.0
        ),
        Within(
            "spread over blocks, Mix-LN less post", "Mix-LN: more uniform gradients across layers", ABSTRACT, most=0.0
        ),
    ),
    measure=_mix_ln,
    scales=Scales("block", "gradient of all weights of the block", log_y=True),
    sizes={
        "full": {"depth": 12, "width": 64, "context": 256, "seeds": 16},
        "quick": {"depth": 12, "width": 32, "context": 128, "seeds": 8},
        "toy": {"depth": 4, "width": 8, "context": 8, "seeds": 2},
    },
    minutes=1.7,
)
