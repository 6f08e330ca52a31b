"""The size of the stream: its growth by layer at initialization, and against the depth after a few steps."""

import numpy as np
import pandas as pd
import xarray as xr

from ..laws.law import monomial
from ..model.branches.attention import Attention
from ..model.branches.branch import FeedForward
from ..model.parameters.initializers import FanIn
from ..model.stacks.transformer import transformers
from ..programs.measurement import measure
from ..results.reproduction import READ, SECONDARY, Equals, Scales, Source, Within
from ..results.tree import variable
from ..theory.predict import predict
from . import rows
from .entry import Entry
from .stacks import different_tokens, feed_forward

L0 = 2.0  # q₀/C of a ReLU stack: the stream's mean square at the bottom over what a sublayer adds


def _mean_square(node) -> xr.DataArray:
    """Returns the stream's mean square, [seed, depth]."""
    return (variable(node, "stream_rms") ** 2).rename("mean_square")


PERCENTILES = {50: 0.004, 90: 0.014, 99: 0.028}  # published errors of the variance that a feed-forward network writes
RESAMPLED = 200  # times, for the intervals of percentiles


def _feed_forward_errors(seeds: int) -> list[rows.Row]:
    """Returns percentiles of |measured/predicted − 1| of the variance of feed-forward outputs, over positions and weights.

    Intervals are the basic ones of seeds drawn again with replacement (Davison and Hinkley 1997, section 5.2): percentiles
    of resampled errors have the scatter of the seeds twice, and would put the interval above the number.
    """
    ratios = []
    for gain in (0.5, 1.0, 2.0):
        model = feed_forward("pre", 4, 64, gain=gain)
        batch = different_tokens(64)
        node = measure(model, batch, seeds=seeds)["model"]
        predicted = variable(predict(model, batch, replicas=2)["model"], "branch_rms").values ** 2
        ratios.append(variable(node, "branch_rms").transpose("seed", "sublayer").values ** 2 / predicted)
    by_seed = np.concatenate(ratios, axis=1)
    draws = np.random.default_rng(0).integers(0, seeds, (RESAMPLED, seeds))
    resampled = np.abs(by_seed[draws].mean(1) - 1)
    errors = np.abs(by_seed.mean(0) - 1)
    made = []
    for percentile in PERCENTILES:
        low, high = np.quantile(np.percentile(resampled, percentile, axis=1), (0.025, 0.975))
        mean = float(np.percentile(errors, percentile))
        ends = max(2 * mean - high, 0.0), max(2 * mean - low, mean)
        made.append(rows.between(_error_name(percentile), mean, *ends, seeds))
    return made


def _error_name(percentile: int) -> str:
    return f"feed-forward variance: error at {percentile}%"


def _deepscale(*, depth: int, width: int, seeds: int, many: int) -> pd.DataFrame:
    """Returns stream variance and stream gradient of a pre-norm ReLU stack, against `1 + l/l₀`."""
    model = feed_forward("pre", depth, width)
    node = measure(model, different_tokens(32), seeds=seeds, quantities=("economy",))["model"]
    made = []
    for name, profile in (
        ("stream variance", _mean_square(node)),
        ("stream gradient", variable(node, "stream_gradient")),
    ):
        made += rows.curve(name, profile / profile.isel(depth=0, drop=True), "depth")
        moved = profile.assign_coords(depth=1 + profile["depth"].values / L0)
        made.append(rows.exponent(f"{name}: exponent in 1 + l/l₀", moved, monomial, over="depth"))
    return rows.table(made + _feed_forward_errors(many))


DEEPSCALE = Entry(
    name="deepscalelm-variance",
    title="Stream variance and gradient by layer under pre-norm; errors of the predicted variance",
    source=Source(
        "Kedia et al.",
        2024,
        "2403.09635",
        "Transformers Get Stable: An End-to-End Signal Propagation Theory for Language Models",
        "variance and gradient of a pre-norm stack, errors of the simulations",
    ),
    published_setting="pre-norm Transformers of up to 192 layers, every branch of variance 1",
    our_setting="{depth} ReLU sublayers, width {width}, LayerNorm, {seeds} seeds; a branch adds half of q₀ = 1, so l₀ = 2; "
    "errors over 12 positions in stacks of 4 sublayers, width 64, {many} seeds",
    reduced="feed-forward sublayers alone, width 128",
    claims=(
        Equals(
            "stream variance: exponent in 1 + l/l₀",
            "variance ∝ l + 1; with l₀ = q₀/C in the place of 1 where a branch adds C",
            READ,
            value=1.0,
            resolution=0.05,
            allowance=2 / 128,
        ),
        Equals(
            "stream gradient: exponent in 1 + l/l₀",
            "gradient norm ∝ (l + 1)^(−1/2)",
            READ,
            value=-0.5,
            resolution=0.05,
            allowance=2 / 128,
        ),
        *(
            Within(_error_name(percentile), f"error of the theory in simulation: {error:.1%}", READ, most=error)
            for percentile, error in PERCENTILES.items()
        ),
    ),
    measure=_deepscale,
    scales=Scales("sublayer", "relative to the bottom", log_y=True),
    sizes={
        "full": {"depth": 96, "width": 128, "seeds": 24, "many": 1024},
        "quick": {"depth": 48, "width": 128, "seeds": 12, "many": 256},
        "toy": {"depth": 3, "width": 8, "seeds": 2, "many": 2},
    },
    minutes=4.5,
)


def _scaling(*, depth: int, width: int, seeds: int) -> pd.DataFrame:
    """Returns the stream's variance by block, and exponents over the upper three quarters."""
    models = transformers("pre", "layernorm_scaling", depth=depth, width=width, context=None)
    tree = measure(models, different_tokens(8, 4), seeds=seeds, quantities=("economy",))
    made, tops = [], {}
    for name, node in tree.children.items():
        by_block = _mean_square(node).isel(depth=slice(None, None, 2))
        by_block = by_block.assign_coords(depth=np.arange(depth + 1))
        made += rows.curve(name, by_block.isel(depth=slice(1, None)), "depth")
        upper = by_block.isel(depth=slice(max(1, depth // 4), None))
        made.append(rows.exponent(f"{name}: exponent in the block", upper, monomial, over="depth"))
        tops[name] = by_block.isel(depth=-1, drop=True)
    ratio = xr.ufuncs.log(tops["layernorm_scaling"] / tops["pre"])
    made.append(rows.number("log of variance at the top, with the scaling over without", ratio))
    return rows.table(made)


LAYERNORM_SCALING = Entry(
    name="layernorm-scaling-variance",
    title="Stream variance by layer, with and without LayerNorm-Scaling",
    source=Source(
        "Sun et al.",
        2025,
        "2502.05795",
        "The Curse of Depth in Large Language Models",
        "bounds on the variance of the output",
    ),
    published_setting="bounds at any depth; LLaMA of 130M to 7B parameters, trained",
    our_setting="at the start: attention and feed-forward, {depth} blocks, width {width}, {seeds} seeds",
    reduced="fresh weights alone: the paper's figure is of trained ones",
    claims=(
        Within(
            "pre: exponent in the block",
            "pre-norm: Θ(L) ≤ σ² ≤ Θ(e^L), so at least linear (0.05 allowed for the fit)",
            SECONDARY,
            least=0.95,
        ),
        Within(
            "layernorm_scaling: exponent in the block",
            "with the scaling: at most Θ(L^(2−ε))",
            SECONDARY,
            most=2.0,
        ),
        Within(
            "log of variance at the top, with the scaling over without", "the scaling lowers it", SECONDARY, most=0.0
        ),
    ),
    measure=_scaling,
    scales=Scales("block", "stream variance", log_x=True, log_y=True),
    sizes={
        "full": {"depth": 64, "width": 64, "seeds": 16},
        "quick": {"depth": 32, "width": 32, "seeds": 24},
        "toy": {"depth": 6, "width": 8, "seeds": 2},
    },
    minutes=1.8,
)


def _peri(*, depth: int, width: int, seeds: int, gains: tuple[float, ...]) -> pd.DataFrame:
    """Returns the stream's variance by sublayer under peri-norm and pre-norm, for weights of several sizes."""
    made = []
    for gain in gains:
        branches = {"attention": Attention(4, weights=FanIn(gain)), "mlp": FeedForward(weights=FanIn(gain))}
        models = transformers("sandwich", "pre", depth=depth, width=width, context=None, **branches)
        tree = measure(models, different_tokens(8, 4), seeds=seeds, quantities=("economy",))
        for name, node in zip(("peri", "pre"), tree.children.values(), strict=True):
            square = _mean_square(node)
            made += rows.curve(f"{name}, weights × {gain:g}", square, "depth")
            added = (square.isel(depth=-1) - square.isel(depth=0)) / (2 * depth)
            made.append(rows.number(f"{name}, weights × {gain:g}: added by a sublayer", added))
        peri = _mean_square(tree["sandwich"])
        moved = peri.assign_coords(depth=1 + peri["depth"].values)
        made.append(rows.exponent(f"peri, weights × {gain:g}: exponent in 1 + l", moved, monomial, over="depth"))
    return rows.table(made)


PERI_LN = Entry(
    name="peri-ln-variance",
    title="Growth of the stream's variance under peri-norm, whatever the size of the weights",
    source=Source(
        "Kim et al.",
        2025,
        "2502.02732",
        "Peri-LN: Revisiting Normalization Layer in the Transformer Architecture",
        "growth of the variance of hidden states",
    ),
    published_setting="Transformers of 400M to 3.2B parameters, at initialization and in training",
    our_setting="at the start: {depth} blocks, width {width}, fan-in weights times {gains}, {seeds} seeds",
    reduced="fresh weights, in the place of trained ones larger weights; width 64",
    claims=(
        Equals(
            "peri, weights × 1: added by a sublayer",
            "Var x_(l+1) ≈ Var x_l + const; the norm's gain is 1, so const = 1",
            SECONDARY,
            value=1.0,
            resolution=0.05,
            allowance=0.02,
        ),
        Equals(
            "peri, weights × 3: added by a sublayer",
            "the same whatever the weights",
            SECONDARY,
            value=1.0,
            resolution=0.05,
            allowance=0.02,
        ),
        Equals(
            "peri, weights × 3: exponent in 1 + l",
            "linear growth",
            SECONDARY,
            value=1.0,
            resolution=0.05,
            allowance=0.02,
        ),
        Within(
            "pre, weights × 3: added by a sublayer",
            "pre-norm: the growth follows the weights (taken as more than twice peri-norm's)",
            SECONDARY,
            least=2.0,
        ),
    ),
    measure=_peri,
    scales=Scales("sublayer", "stream variance", log_y=True),
    sizes={
        "full": {"depth": 12, "width": 64, "seeds": 24, "gains": (1.0, 3.0)},
        "quick": {"depth": 6, "width": 64, "seeds": 12, "gains": (1.0, 3.0)},
        "toy": {"depth": 1, "width": 8, "seeds": 2, "gains": (1.0, 3.0)},
    },
    minutes=2.6,
)
