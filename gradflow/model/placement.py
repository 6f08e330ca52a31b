"""Placements: how a whole stack is wired, where one wiring for every sublayer does not say it.

A stage is a share of the blocks, from the bottom up, with one wiring for every sublayer of its blocks, or with one for
each: a stack whose first quarter is post-norm has two stages, one whose attention and feed-forward differ has two wirings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from ..results.configuration import registered
from .layers import FeatureGain, Layer
from .norms import LayerNorm
from .wiring import Wiring, post, pre


@registered
@dataclass(frozen=True)
class Stage:
    """A share of the blocks, and the wirings of their sublayers: one each in the block's order, or one for all."""

    wirings: tuple[Wiring, ...]
    share: float = 1.0


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
        total = sum(stage.share for stage in self.stages)
        if not self.stages or min(stage.share for stage in self.stages) <= 0 or abs(total - 1) > 1e-9:
            raise ValueError(f"{self.name}: the shares of the stages must be positive and sum to 1, not to {total}")

    def counts(self, depth: int) -> tuple[int, ...]:
        """How many of `depth` blocks each stage has."""
        return shared_out(depth, [stage.share for stage in self.stages])


def shared_out(depth: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Whole numbers of blocks that add up to `depth`, about in proportion to `shares`: edges between them are rounded."""
    if depth < 1:
        raise ValueError(f"depth is {depth}: a stack needs at least 1 block")
    edges = [round(share * depth / sum(shares)) for share in accumulate(shares, initial=0.0)]
    return tuple(above - below for below, above in pairwise(edges))


def wirings_of(stage: Stage, sublayers: int, name: str) -> tuple[Wiring, ...]:
    """One wiring for each of the sublayers of a block."""
    if len(stage.wirings) not in (1, sublayers):
        raise ValueError(
            f"{name} has {len(stage.wirings)} wirings for a block of {sublayers} sublayers: give 1 or {sublayers}"
        )
    return stage.wirings if len(stage.wirings) == sublayers else stage.wirings * sublayers


def mix_ln(norm: Layer = LayerNorm()) -> Placement:
    """Mix-LN: post-norm in the first quarter of the blocks, pre-norm after it."""
    return Placement(
        "mix_ln",
        (Stage((post(norm),), 0.25), Stage((pre(norm),), 0.75)),
        equation="N(x + F x) below a quarter of the depth, x + F(N x) above",
        jacobian="J_N (I + J_F), then I + J_F J_N",
        source="Li et al. 2025 (Mix-LN), with their share α = 0.25",
    )


def normformer(norm: Layer = LayerNorm()) -> Placement:
    """NormFormer: pre-norm, with a norm and a gain a head on attention's output, and a norm inside the feed-forward."""
    attention = Wiring(
        "normformer_attention",
        norm_in=norm,
        norm_branch=norm,
        within=(("head_gain", FeatureGain(1.0)),),
        leave=norm,
    )
    mlp = Wiring("normformer_mlp", norm_in=norm, within=(("inner", norm),), leave=norm)
    return Placement(
        "normformer",
        (Stage((attention, mlp)),),
        equation="y = x + N(γ F₁(N x)), x' = y + W N(f(N y)), F₂ = W f",
        jacobian="(I + W J_N J_f J_N) (I + J_N J_F₁ J_N)",
        source="Shleifer et al. 2021 (NormFormer), from secondary sources",
    )


def hybrid_norm(norm: Layer = LayerNorm()) -> Placement:
    """HybridNorm: norms on queries, keys and values of each head, one after attention's sum, none on the feed-forward's.

    HybridNorm*, whose first block differs, is not among the names: its definition could not be verified. A final norm reads
    the stream out.
    """
    inside = tuple((name, norm) for name in ("query_norm", "key_norm", "value_norm"))
    attention = Wiring("hybrid_norm_attention", norm_out=norm, within=inside, leave=norm)
    mlp = Wiring("hybrid_norm_mlp", leave=norm)
    return Placement(
        "hybrid_norm",
        (Stage((attention, mlp)),),
        equation="y = N(x + F₁ x), x' = y + F₂ y, with norms of queries, keys and values in F₁",
        jacobian="(I + J_F₂) J_N (I + J_F₁)",
        source="Zhuo et al. 2025 (HybridNorm), from secondary sources",
    )
