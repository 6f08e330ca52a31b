"""Wirings whose reads go back over depth: to the outputs of all blocks or sublayers below, each in a lane of its own.

A stack of L blocks has a lane for each of them, so that memory grows with the square of the depth. For blocks of attention and
feed-forward.
"""

from dataclasses import replace

from ..layers.depth_attention import DenseRead, DepthAttention, FeatureRead, Way, Ways
from ..layers.history import Appended, Kept, PickLane, Replaced, Together, Weighed
from ..layers.lanes import PerLane, Then
from ..layers.layer import Layer
from ..layers.norms import LayerNorm, RMSNorm
from ..parameters.depth import Groups, Steps, Whole
from .placement import Placement, Stage
from .wiring import Wiring

BLOCKS = Whole(1, more=1)  # a lane for the embedding, and one a block
HERE, WITH_HERE = Steps(1, 1), Steps(1, 2)  # the lane of this block, or how many are below; how many with this one


def denseformer(norm: Layer = LayerNorm()) -> Placement:
    """DenseFormer: what enters a block is a weighted average of the outputs of all blocks below and of the embedding.

    The weights are trained numbers, 1 for the block below and 0 for the others at the start: so it begins as pre-norm. The
    block's two sublayers are pre-norm. Without dilation or period.
    """
    bottom, average = PickLane(0), Weighed(BLOCKS, HERE)
    mlp = Wiring(
        "denseformer_mlp",
        skip=Kept(WITH_HERE),
        read=PickLane(HERE),
        norm_in=norm,
        write=Appended(BLOCKS, (HERE,)),
        enter=Appended(BLOCKS, (0,)),
        leave=Then((Weighed(BLOCKS, BLOCKS), norm)),
    )
    first = replace(mlp, name="denseformer_first", skip=Replaced(bottom, 1, 1), read=bottom)
    attention = replace(mlp, name="denseformer_attention", skip=Replaced(average, HERE, HERE), read=average)
    return Placement(
        "denseformer",
        (Stage((first, mlp), blocks=1), Stage((attention, mlp))),
        equation="y_l = z + F₂(N z), z = x + F₁(N x), x = Σ_{i<l} α_li y_i",
        jacobian="of y_l to y_i: α_li (I + J_F₂ J_N) (I + J_F₁ J_N)",
        source="Pagliardini et al. 2024 (DenseFormer), section 3, and the authors' code",
    )


def muddformer(norm: Layer = RMSNorm()) -> Placement:
    """MUDDFormer: queries, keys, values and residual of a block each read all blocks below, by weights of the newest, by token.

    At the start every way reads the block below alone: it begins as pre-norm. Queries, keys and values have norms of their own,
    as in the authors' code; its feed-forward grows with depth, and its maps have as many outputs as there are lanes below, which
    are not here. The first block reads the embedding.
    """
    bottom, ways = PickLane(0), DenseRead(4, BLOCKS, HERE)
    mlp = Wiring(
        "muddformer_mlp",
        skip=Kept(WITH_HERE),
        read=PickLane(HERE),
        norm_in=norm,
        write=Appended(BLOCKS, (HERE,)),
        enter=Appended(BLOCKS, (0,)),
        leave=Then((Way(DenseRead(1, BLOCKS, BLOCKS), 0), norm)),
    )
    first = replace(mlp, name="muddformer_first", skip=Replaced(bottom, 1, 1), read=bottom)
    attention = replace(
        mlp,
        name="muddformer_attention",
        skip=Replaced(Way(ways, 3), HERE, HERE),
        read=Ways(ways, 3),
        norm_in=PerLane((norm,) * 3),
    )
    return Placement(
        "muddformer",
        (Stage((first, mlp), blocks=1), Stage((attention, mlp))),
        equation="y_l = z + F₂(N z), z = r + F₁(N q, N k, N v), (q, k, v, r) = Σ_{i<l} A_i(y_{l−1}) y_i",
        jacobian="(I + J_F₂ J_N) (A_r + J_F₁ J_N A_qkv + (∂A) y)",
        source="Xiao et al. 2025 (MUDDFormer), section 2, and the authors' code",
    )


def deep_cross_attention(norm: Layer = RMSNorm()) -> Placement:
    """DeepCrossAttention: queries, keys and values of a block each read all blocks below, feature by feature (`FeatureRead`).

    A lane has what a block adds, F₁ + F₂, and the reads make the sum: at the start each reads all, so that it begins as pre-norm.
    The feed-forward reads attention's output and what the queries read, which has a lane. All blocks are kept; the paper keeps
    the first and the last few. From code by others.
    """
    lanes, queried = Whole(1, more=2), Whole(1, more=1)
    ways = FeatureRead(3, lanes, HERE)
    mlp = Wiring(
        "deep_cross_attention_mlp",
        skip=Kept(WITH_HERE),
        read=Together((HERE, queried)),
        norm_in=norm,
        write=Appended(lanes, (HERE,)),
        enter=Appended(lanes, (0,)),
        leave=Then((Way(FeatureRead(1, lanes, BLOCKS), 0), norm)),
    )
    attention = replace(
        mlp,
        name="deep_cross_attention_attention",
        skip=Replaced(Way(ways, 0), queried, HERE),
        read=Ways(ways, 3),
        norm_in=PerLane((norm,) * 3),
    )
    return Placement(
        "deep_cross_attention",
        (Stage((attention, mlp)),),
        equation="y_l = z + F₂(N (z + q)), z = F₁(N q, N k, N v), (q, k, v) = Σ_{i<l} (b_i + ReLU⟨N y_i, w⟩) ⊙ y_i",
        jacobian="J_F₁ J_N B_qkv + J_F₂ J_N (B_q + J_F₁ J_N B_qkv) + (∂B) y",
        source="Heddes et al. 2025 (DeepCrossAttention), from code by others",
    )


def attn_res(norm: Layer = RMSNorm()) -> Placement:
    """AttnRes: a sublayer reads all outputs below by attention over depth, each token by its own weights (`DepthAttention`).

    The stream is no sum: every output is a lane of its own. At the start a sublayer reads their mean. What is read out is one
    more such read, of all lanes, with a final norm.
    """
    return _attended("attn_res", norm, Whole(2, more=1), 1)


def block_attn_res(norm: Layer = RMSNorm(), blocks: int = 8) -> Placement:
    """Block AttnRes: sublayers are summed by groups, and a sublayer reads the embedding, the groups below and its own so far.

    About `blocks` groups, the paper's 8, of as many sublayers each as that takes; up to four blocks deep it is AttnRes.
    """
    return _attended("block_attn_res", norm, Groups(blocks), Whole(2 / blocks, more=1 - 1 / blocks))


def _attended(name: str, norm: Layer, lanes: Whole, size: int | Whole) -> Placement:
    """Returns the placement whose sublayers are summed in groups of `size`, a lane each."""
    of_block = []
    for number in (1, 2):
        written = Steps(2, number - 2, size, more=2)
        of_block.append(
            Wiring(
                f"{name}_{number}",
                skip=Kept(written),
                read=DepthAttention(written),
                norm_in=norm,
                write=Appended(lanes, (Steps(2, number - 1, size, more=1),)),
                enter=Appended(lanes, (0,)),
                leave=Then((DepthAttention(lanes), norm)),
            )
        )
    return Placement(
        name,
        (Stage(tuple(of_block)),),
        equation="y_l = F(N Σ_{i<l} α_i y_i), α = softmax_i ⟨w_l, N y_i⟩",
        jacobian="of y_l to y_i: J_F J_N (α_i + Σ_j y_j ∂α_j/∂y_i)",
        source="Kimi Team 2026 (Attention Residuals), arXiv 2603.15031",
    )
