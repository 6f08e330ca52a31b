"""Wirings that carry something earlier beside the stream: the embedding, a block's input, the first values, blocks below."""

from dataclasses import replace

from ..layers.history import Appended, Joined, PickLane, Replaced
from ..layers.lanes import LaneGains, PerLane, Then, gathered, mixed, spread
from ..layers.layer import Identity, Layer
from ..layers.norms import LayerNorm, RMSNorm
from ..parameters.depth import AtBlock, Mirror, Ramp, Steps, Whole
from .multi_lane import input_laid_aside
from .placement import Placement, Stage
from .wiring import Wiring


def span_norm(norm: Layer = LayerNorm()) -> Placement:
    """SpanNorm: post-norm attention, and a feed-forward that is added to the block's input: its skip spans the whole block.

    On two lanes: the stream, and what the block began with. The wiring alone: the paper's scaling of weights is not here.
    """
    norm_out = PerLane((norm, Identity()))
    attention = input_laid_aside("span_norm_attention", norm_out=norm_out, leave=gathered(1.0, 0.0))
    mlp = replace(attention, name="span_norm_mlp", skip=mixed((0.0, 1.0), (0.0, 0.0)))
    return Placement(
        "span_norm",
        (Stage((attention, mlp)),),
        equation="y = N(x + F₁ x), x' = N(x + F₂ y)",
        jacobian="J_N₂ (I + J_F₂ J_N₁ (I + J_F₁))",
        source="Wang et al. 2026 (SpanNorm), eqs. 5 to 8",
    )


def nanochat(norm: Layer = RMSNorm(scale="none")) -> Placement:
    """Nanochat's residual: pre-norm, before each block stream and embedding are weighed, at the end the middle is taken off.

    x ← λ x + λ₀ x_0, λ from 1.15 down to 1.05 and λ₀ from 0.20 down to 0.05 over the blocks, trained; and of what is read out,
    minus 0.2 of the stream behind block ⌊L/2⌋ + 1. On three lanes: stream, embedding, middle. The weights of what is read out are
    trained all three, the authors' code trains the last. Its smear, value embeddings and zero matrices are not here.
    """
    weighed = gathered(Ramp(1.15, 1.05), Ramp(0.20, 0.05), 0.0, kind=LaneGains)
    middle = Whole(0.5, more=1)
    here = AtBlock(middle)
    attention = Wiring(
        "nanochat_attention",
        skip=Replaced(weighed, 0, 3),
        read=weighed,
        norm_in=norm,
        write=spread(1.0, 0.0, 0.0),
        enter=Then((norm, spread(1.0, 1.0, 0.0))),
        leave=Then((gathered(1.0, 0.0, -0.2, kind=LaneGains), norm)),
    )
    mlp = replace(
        attention,
        name="nanochat_mlp",
        skip=mixed((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (here, 0.0, AtBlock(middle, 0.0, 1.0))),
        read=gathered(1.0, 0.0, 0.0),
        write=spread(1.0, 0.0, here),
    )
    return Placement(
        "nanochat",
        (Stage((attention, mlp)),),
        equation="y = z + F₁(N z), z = λ x + λ₀ x_0, x' = y + F₂(N y); read out x_S − λ_b x_m",
        jacobian="(I + J_F₂ J_N) (I + J_F₁ J_N) [λ, λ₀]",
        source="Karpathy 2025 (nanochat), as in its code; Jordan et al. 2024 (modded-nanogpt)",
    )


def value_residual(norm: Layer = LayerNorm()) -> Placement:
    """Value residual (ResFormer): pre-norm whose attention reads half its own values and half those of the first block.

    On two lanes: the stream, and the values of the first block, which its attention writes; to the empty lane below it nothing
    comes down. The halves are those of the paper's
    identity form; they stand in `value_mix`, and `LaneGains` in their place train them. Grouped values leave the rest of
    the lane empty.
    """
    own, first = AtBlock(1, 1.0, 0.5), AtBlock(1, 0.0, 0.5)
    attention = Wiring(
        "value_residual_attention",
        skip=mixed((1.0, 0.0), (0.0, AtBlock(1, 0.0, 1.0))),
        norm_in=PerLane((norm, Identity())),
        write=mixed((1.0, 0.0), (0.0, AtBlock(1))),
        enter=spread(1.0, 0.0),
        leave=Then((gathered(1.0, 0.0), norm)),
        inner_layers=(("value_mix", gathered(own, first)),),
    )
    mlp = replace(
        attention,
        name="value_residual_mlp",
        skip=Identity(),
        read=gathered(1.0, 0.0),
        norm_in=norm,
        write=spread(1.0, 0.0),
        inner_layers=(),
    )
    return Placement(
        "value_residual",
        (Stage((attention, mlp)),),
        equation="y = x + W_O A (V + V₁)/2, V = W_V N x, in the first block W_O A V; x' = y + F₂(N y)",
        jacobian="(I + J_F₂ J_N) (I + J_F₁ [J_N, V₁])",
        source="Zhou et al. 2024 (Value Residual Learning), ResFormer",
    )


def unet(norm: Layer = RMSNorm(scale="none")) -> Placement:
    """U-Net skips on pre-norm: a block above the middle begins with its input plus a multiple of the block across.

    Block L/2 + i reads what came out of block L/2 + 1 − i, times a trained number that starts at 1, as in modded-nanogpt until
    later versions kept one such skip. Where L is odd, the last block has none. One lane for each block below the middle.
    """
    half = Whole(0.5)
    lanes = Whole(0.5, more=1)
    written = Steps(1, 1, most=lanes)  # the stream, and the blocks below
    store = Steps(1, 1)
    joined = Joined(Mirror(half))
    attention = Wiring(
        "unet_attention",
        skip=Replaced(joined, 0, written),
        read=joined,
        norm_in=norm,
        write=Appended(lanes, (0,)),
        enter=Then((norm, Appended(lanes, (0,)))),
        leave=Then((PickLane(0), norm)),
    )
    mlp = replace(
        attention,
        name="unet_mlp",
        skip=Replaced(PickLane(0), store, written),
        read=PickLane(0),
        write=Appended(lanes, (0, store)),
    )
    return Placement(
        "unet",
        (Stage((attention, mlp)),),
        equation="y = z + F₁(N z), z = x + w x_m, x' = y + F₂(N y), m across the middle",
        jacobian="(I + J_F₂ J_N) (I + J_F₁ J_N) [I, w]",
        source="Jordan et al. 2024 (modded-nanogpt), records of November 2024",
    )
