"""What becomes of the tokens: rank collapse, and the threshold at which attention looks at a single one."""

import numpy as np
import pandas as pd
import xarray as xr

from ..model.branches.attention import Attention
from ..model.branches.branch import FeedForward
from ..model.layers.layer import Gain
from ..model.parameters.depth import OfDepth
from ..model.parameters.initializers import FanIn, Scaled
from ..model.wirings.placement import Placement, Stage
from ..model.wirings.wiring import Wiring
from ..programs.measurement import measure
from ..results.reproduction import ABSTRACT, DERIVED, READ, Equals, Scales, Source, Within
from ..results.tree import variable
from . import rows
from .entry import Entry
from .stacks import different_tokens, even_attention, of_branches, of_kind

TOKENS = 8
CRITICAL = 2**0.5  # β_c of tokens without overlap


def _linear_stack(gain: float | OfDepth, depth: int, width: int):
    """Returns a stack without norms: even attention and a linear feed-forward network, one gain on both branches."""
    branch = Wiring("noci", write=Gain(gain))
    mlp = FeedForward(1, "linear", bias=False)
    return of_branches(
        Placement("noci", (Stage((branch,)),)), {"attention": even_attention(), "mlp": mlp}, depth, width
    )


def _over_pairs(node) -> xr.DataArray:
    """Returns `Σ_tt' ⟨x_t, x_t'⟩` over its value at the bottom, by sublayer, from the mean square and the mean cosine."""
    together = variable(node, "stream_rms") ** 2 * (1 + (TOKENS - 1) * variable(node, "token_cosine"))
    return (together / together.isel(depth=0, drop=True)).rename("over_pairs")


def _rank_collapse(*, depth: int, width: int, seeds: int) -> pd.DataFrame:
    """Returns token cosines with and without the residual scale, and gradients of queries over those of values."""
    batch = different_tokens(TOKENS, 8)
    stacks = {
        "no scale": _linear_stack(1.0, depth, width),
        "scaled": _linear_stack(OfDepth(1, -0.5), depth, width),
    }
    tree = measure(stacks, batch, seeds=seeds)
    made = []
    for name, node in tree.children.items():
        made += rows.curve(f"token cosine, {name}", variable(node, "token_cosine"), "depth")
        made.append(rows.number(f"{name}: token cosine at the top", variable(node, "token_cosine").isel(depth=-1)))
    ratio = xr.ufuncs.log(_over_pairs(tree["scaled"]).isel(depth=-1))
    made.append(rows.number("scaled: log of the sum over pairs of tokens, top over bottom", ratio))
    branches = {"attention": Attention(4, causal=False), "mlp": FeedForward(1, "relu", bias=False)}
    with_scores = {name: of_branches(name, branches, depth, width) for name in ("post", "depth_scaled")}
    for name, node in measure(with_scores, batch, seeds=seeds, quantities=("economy",)).children.items():
        gradient = of_kind(node, "parameter_gradient", "attention")
        ratio = xr.ufuncs.log(gradient.sel(parameter="query", drop=True) / gradient.sel(parameter="value", drop=True))
        top = ratio.isel(block=-1)
        made.append(rows.number(f"{name}: log of the query's gradient over the value's, last block", top))
    return rows.table(made)


RANK_COLLAPSE = Entry(
    name="noci-rank-collapse",
    title="Rank collapse of tokens, and its cure by the residual scale 1/√L",
    source=Source(
        "Noci et al.",
        2022,
        "2206.03126",
        "Signal Propagation in Transformers: Theoretical Perspectives and the Role of Rank Collapse",
        "section 3 and abstract",
    ),
    published_setting="uniform attention and linear feed-forward, infinite width; Transformers in figures",
    our_setting="the same without norms, and softmax attention with ReLU; {depth} blocks, width {width}, 8 tokens, {seeds} seeds",
    reduced="",
    claims=(
        Within(
            "no scale: token cosine at the top", "tokens become one: cosine 1 (taken as above 0.99)", ABSTRACT, 0.99
        ),
        Within("scaled: token cosine at the top", "with 1/√L they stay apart (taken as below 0.5)", ABSTRACT, most=0.5),
        Equals(
            "scaled: log of the sum over pairs of tokens, top over bottom",
            "→ exp(α₁² + α₂²) for branch gains α/√L, so 2 at α = 1 (1.97 at 32 blocks)",
            DERIVED,
            value=2.0,
            resolution=0.1,
            allowance=0.05,
        ),
        Within(
            "post: log of the query's gradient over the value's, last block",
            "gradients of queries and keys vanish at rank collapse (taken as below a hundredth of the values')",
            ABSTRACT,
            most=np.log(1e-2),
        ),
        Within(
            "depth_scaled: log of the query's gradient over the value's, last block",
            "the scale cures it (taken as above a tenth)",
            ABSTRACT,
            least=np.log(0.1),
        ),
    ),
    measure=_rank_collapse,
    scales=Scales("sublayer", "cosine of two tokens"),
    sizes={
        "full": {"depth": 32, "width": 64, "seeds": 24},
        "quick": {"depth": 24, "width": 64, "seeds": 12},
        "toy": {"depth": 2, "width": 8, "seeds": 2},
    },
    minutes=1.9,
)


def _with_scores(strength: float, tokens: int, width: int, vocabulary: int):
    """Returns one attention sublayer whose scores scatter by `β √(ln T)`."""
    gain = strength**0.5 * np.log(tokens) ** 0.25
    weights = Scaled(FanIn(), (("query", float(gain)), ("key", float(gain))))
    attention = Attention(1, causal=False, weights=weights)
    return of_branches("pre", {"attention": attention}, 1, width, vocabulary)


def _threshold(*, tokens: tuple[int, ...], strengths: tuple[float, ...], width: int, seeds: int) -> pd.DataFrame:
    """Returns `Y = Σ_s A_ts²`, mean over tokens, and how it goes with the number of tokens, for several β.

    Y is the mean square of attention's output: tokens have no overlap, values and output projection keep their size.
    """
    vocabulary = 2 * max(tokens)
    by_strength = []
    for strength in strengths:
        shares = []
        for count in tokens:
            model = _with_scores(strength, count, width, vocabulary)
            node = measure(model, different_tokens(count, 1, vocabulary), seeds=seeds)["model"]
            share = (
                (variable(node, "branch_rms").isel(sublayer=0) ** 2)
                .reset_coords(drop=True)
                .drop_vars("sublayer", errors="ignore")
            )
            shares.append(share.expand_dims(log_tokens=[np.log(count)]))
        by_strength.append(xr.concat(shares, "log_tokens"))
    shares_of_all = xr.concat(by_strength, "strength").assign_coords(strength=list(strengths)).rename("share")
    slopes = _slopes(xr.ufuncs.log(shares_of_all))
    at_most = shares_of_all.isel(log_tokens=-1, drop=True)
    made = rows.curve(f"measured, T = {max(tokens)}", at_most, "strength")
    made += rows.points("T → ∞", strengths, [max(0.0, 1 - CRITICAL / strength) for strength in strengths])
    for strength in strengths:
        made.append(rows.number(f"β = {strength:g}: d ln Y/d ln T", slopes.sel(strength=strength)))
    strongest = max(strengths)
    made.append(rows.number(f"β = {strongest:g}: Y", at_most.sel(strength=strongest)))
    return rows.table(made)


def _slopes(logs: xr.DataArray) -> xr.DataArray:
    """Returns the slope of every seed's logarithm in that of the number of tokens."""
    fitted = logs.rename("log").polyfit("log_tokens", 1)
    return fitted["polyfit_coefficients"].sel(degree=1, drop=True)


THRESHOLD = Entry(
    name="attention-threshold",
    title="The strength of queries and keys at which attention looks at a few tokens alone",
    source=Source(
        "Giorlandino and Goldt",
        2025,
        "2505.24333",
        "Two failure modes of deep transformers and how to avoid them",
        "the threshold β_c = √(2/(1 − p)), as in the authors' notebooks",
    ),
    published_setting="queries and keys of standard deviation √β (ln T)^(1/4)/√d, T → ∞, tokens of overlap p",
    our_setting="one head of width {width}, {tokens} different tokens (p = 0, so β_c = 1.414), β in {strengths}, {seeds} seeds; "
    "Y = Σ A² is read from the size of attention's output",
    reduced="at most 128 tokens: the transition is smeared over 1/ln T",
    claims=(
        Equals(
            "β = 0.5: d ln Y/d ln T",
            "far below β_c attention is spread: Y = T^(β² − 1) (random energy model at p = 0): −0.75",
            DERIVED,
            value=-0.75,
            resolution=0.1,
            allowance=0.1,
        ),
        Equals(
            "β = 1: d ln Y/d ln T",
            "below β_c: Y = T^(−(β_c − β)²): −0.17",
            DERIVED,
            value=-((CRITICAL - 1) ** 2),
            resolution=0.1,
            allowance=0.1,
        ),
        Within(
            "β = 3: d ln Y/d ln T",
            "above β_c attention is on a few tokens however many there are: exponent 0 (taken as above −0.15)",
            READ,
            least=-0.15,
        ),
        Equals(
            "β = 3: Y",
            "above β_c: Y = 1 − β_c/β (random energy model): 0.529",
            DERIVED,
            value=1 - CRITICAL / 3,
            resolution=0.1,
            allowance=0.1,
        ),
    ),
    measure=_threshold,
    scales=Scales("β", "Y, the sum of attention's squared weights"),
    sizes={
        "full": {"tokens": (8, 32, 128), "strengths": (0.5, 1.0, 1.5, 2.0, 3.0), "width": 512, "seeds": 12},
        "quick": {"tokens": (8, 32, 128), "strengths": (0.5, 1.0, 3.0), "width": 256, "seeds": 12},
        "toy": {"tokens": (4, 8), "strengths": (0.5, 1.0, 3.0), "width": 8, "seeds": 2},
    },
    minutes=2.1,
    timed="quick",
)
