"""Placements: how a whole stack is wired, where one wiring for every sublayer does not say it.

A stage is a share of the blocks, from the bottom up, with one wiring for every sublayer of its blocks, or with one for
each: a stack whose first quarter is post-norm has two stages, one whose attention and feed-forward differ has two wirings. A
stage may have a number of blocks instead of a share: that of a paper whose first block differs has one, at any depth.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from ...results.arguments import whole
from ...results.configuration import registered
from ..layers.layer import FeatureGain, Gain, Identity, Layer
from ..layers.norms import LayerNorm
from ..parameters.depth import OfDepth
from .wiring import Wiring, post, pre


@registered
@dataclass(frozen=True)
class Stage:
    """A share of the blocks, and the wirings of their sublayers: one each in the block's order, or one for all.

    With `blocks`, that many of them whatever the depth, and no share: the others' shares are of what is left.
    """

    wirings: tuple[Wiring, ...]
    share: float = 1.0
    blocks: int | None = None


@registered
@dataclass(frozen=True)
class Placement:
    """Stages from the bottom up; `equation`, `jacobian` and `source` as a `Wiring` has them."""

    name: str
    stages: tuple[Stage, ...]
    equation: str = "as its wirings"
    jacobian: str = "as its wirings"
    source: str = "equation (1)"

    def __post_init__(self):
        fixed = [stage.blocks for stage in self.stages if stage.blocks is not None]
        if fixed and min(fixed) < 1:
            raise ValueError(f"{self.name}: a stage of {min(fixed)} blocks: it needs at least 1, or a share")
        shares = [stage.share for stage in self.stages if stage.blocks is None]
        if not shares or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
            raise ValueError(
                f"{self.name}: the shares of the stages must be positive and sum to 1, not to {sum(shares)}"
            )

    def counts(self, depth: int) -> tuple[int, ...]:
        """Returns how many of `depth` blocks each stage has."""
        shares = [stage.share for stage in self.stages]
        fixed = [stage.blocks for stage in self.stages]
        return shared_out(depth, shares, fixed)


def shared_out(depth: int, shares: Sequence[float], fixed: Sequence[int | None]) -> tuple[int, ...]:
    """Returns numbers of blocks that add up to `depth`: `fixed` where that is one, as far as the depth goes, from the bottom up.

    The others are about in proportion to their `shares` of what is left: edges between them are rounded.
    """
    depth = whole("depth", depth)
    held, left = [], depth
    for blocks in fixed:
        held.append(min(blocks or 0, left))
        left -= held[-1]
    portions = [share if blocks is None else 0.0 for share, blocks in zip(shares, fixed, strict=True)]
    if left and not sum(portions):
        raise ValueError(
            f"depth is {depth}: all parts of the stack have a fixed number of blocks, {depth - left} together"
        )
    whole_share = sum(portions) or 1
    edges = []
    for portion in accumulate(portions, initial=0.0):
        edges.append(round(portion * left / whole_share))
    numbers = []
    for blocks, (below, above) in zip(held, pairwise(edges), strict=True):
        numbers.append(blocks + above - below)
    return tuple(numbers)


def wirings_of(stage: Stage, sublayers: int, name: str) -> tuple[Wiring, ...]:
    """Returns one wiring for each of the sublayers of a block."""
    if len(stage.wirings) not in (1, sublayers):
        raise ValueError(
            f"{name} has {len(stage.wirings)} wirings for a block of {sublayers} sublayers: give 1 or {sublayers}"
        )
    return stage.wirings if len(stage.wirings) == sublayers else stage.wirings * sublayers


def keel(norm: Layer = LayerNorm()) -> Placement:
    """Keel: post-norm with a second norm in front of the branch, and on the skip α = 2L, the number of sublayers.

    In the first block neither sublayer has α, and attention has no norm after the sum (section 3.1): it is pre-norm. Norms have
    a gain and no shift in the paper: use `RMSNorm()`.
    """
    layer = Wiring("keel", skip=Gain(OfDepth(2, 1)), norm_in=norm, norm_out=norm)
    first = (pre(norm), replace(layer, name="keel_first", skip=Identity()))
    return Placement(
        "keel",
        (Stage(first, blocks=1), Stage((layer,))),
        equation="N(α x + F(N x)), α = 2L; in the first block y = x + F₁(N x), x' = N(y + F₂(N y))",
        jacobian="J_N (α I + J_F J_N); in the first block J_N (I + J_F₂ J_N) (I + J_F₁ J_N)",
        source="Chen and Wei 2026 (Post-LayerNorm Is Back), eq. 8, section 3.1",
    )


def mix_ln(norm: Layer = LayerNorm()) -> Placement:
    """Mix-LN: post-norm in the first quarter of the blocks, pre-norm after it.

    In the authors' code the number of post-norm blocks is given by hand: 3 of 12, 6 of 24.
    """
    return Placement(
        "mix_ln",
        (Stage((post(norm),), 0.25), Stage((pre(norm),), 0.75)),
        equation="N(x + F x) below a quarter of the depth, x + F(N x) above",
        jacobian="J_N (I + J_F), then I + J_F J_N",
        source="Li et al. 2025 (Mix-LN), with their share α = 0.25, and the authors' code",
    )


def normformer(norm: Layer = LayerNorm()) -> Placement:
    """NormFormer: pre-norm, with a norm and a gain a head on attention's output, and a norm inside the feed-forward.

    The gains stand on the heads, in front of the last matrix, as in the paper's formula; the authors' code has them after it, on
    as many groups of features. Their gain on the skip of the feed-forward, an option, is not here.
    """
    attention = Wiring(
        "normformer_attention",
        norm_in=norm,
        norm_branch=norm,
        inner_layers=(("head_gain", FeatureGain(1.0)),),
        leave=norm,
    )
    mlp = Wiring("normformer_mlp", norm_in=norm, inner_layers=(("inner", norm),), leave=norm)
    return Placement(
        "normformer",
        (Stage((attention, mlp)),),
        equation="y = x + N(γ F₁(N x)), x' = y + W N(f(N y)), F₂ = W f",
        jacobian="(I + W J_N J_f J_N) (I + J_N J_F₁ J_N)",
        source="Shleifer et al. 2021 (NormFormer); norms as in the authors' code",
    )


def hybrid_norm(norm: Layer = LayerNorm()) -> Placement:
    """HybridNorm: norms on queries, keys and values of each head, one after attention's sum, none on the feed-forward's.

    A final norm reads the stream out.
    """
    attention = Wiring("hybrid_norm_attention", norm_out=norm, inner_layers=of_heads(norm), leave=norm)
    mlp = Wiring("hybrid_norm_mlp", leave=norm)
    return Placement(
        "hybrid_norm",
        (Stage((attention, mlp)),),
        equation="y = N(x + F₁ x), x' = y + F₂ y, with norms of queries, keys and values in F₁",
        jacobian="(I + J_F₂) J_N (I + J_F₁)",
        source="Zhuo et al. 2025 (HybridNorm), as in the authors' code",
    )


def hybrid_norm_star(norm: Layer = LayerNorm()) -> Placement:
    """HybridNorm*: HybridNorm whose first block is pre-norm, with the norms of queries, keys and values all the same."""
    first = (Wiring("hybrid_norm_first", norm_in=norm, inner_layers=of_heads(norm), leave=norm), pre(norm))
    rest = hybrid_norm(norm)
    return replace(
        rest,
        name="hybrid_norm_star",
        stages=(Stage(first, blocks=1), *rest.stages),
        equation=f"{rest.equation}; in the first block y = x + F₁(N x), x' = y + F₂(N y)",
        jacobian=f"{rest.jacobian}; in the first block (I + J_F₂ J_N) (I + J_F₁ J_N)",
    )


def of_heads(norm: Layer) -> tuple[tuple[str, Layer], ...]:
    """Returns a norm each on queries, keys and values of a head."""
    return tuple((name, norm) for name in ("query_norm", "key_norm", "value_norm"))
