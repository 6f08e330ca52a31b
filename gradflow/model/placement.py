"""Placements: how a whole stack is wired, where one wiring for every sublayer does not say it; and all names of the field.

A stage is a share of the blocks, from the bottom up, with one wiring for every sublayer of its blocks, or with one for
each: a stack whose first quarter is post-norm has two stages, one whose attention and feed-forward differ has two wirings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import pandas as pd

from ..results.configuration import registered, suggestions
from .init import InTurn
from .lanes import LaneGains, PerLane, Then, gathered, mixed, spread
from .layers import Identity, Layer
from .norms import LayerNorm
from .wiring import WIRINGS, Wiring, post, pre


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


def b2t(norm: Layer = LayerNorm()) -> Placement:
    """Bottom-to-top connection: post-norm, and the block's input added again before the last norm of the block.

    On two lanes: the stream, and what the block began with, which the attention lays aside and the feed-forward takes up.
    """
    lay_aside = Wiring(
        "b2t_attention",
        skip=mixed((1.0, 0.0), (1.0, 0.0)),
        read=gathered(1.0, 0.0),
        write=spread(1.0, 0.0),
        norm_out=PerLane((norm, Identity())),
        enter=spread(1.0, 0.0),
        leave=gathered(1.0, 0.0),
    )
    take_up = replace(lay_aside, name="b2t_mlp", skip=mixed((1.0, 1.0), (0.0, 0.0)))
    return Placement(
        "b2t",
        (Stage((lay_aside, take_up)),),
        equation="y = N(x + F₁ x), x' = N(y + F₂ y + x)",
        jacobian="J_N₂ ((I + J_F₂) J_N₁ (I + J_F₁) + I)",
        source="Takase et al. 2023 (B2T connection)",
    )


def hyper_connections(norm: Layer = LayerNorm(), lanes: int = 4) -> Placement:
    """Static hyper-connections: pre-norm branches that read from, and write to, several lanes by trained matrices.

    At the start every sublayer reads one lane in turn and writes to all, and lanes keep to themselves: so all lanes are the
    stream of pre-norm, whose function this is at initialization. The sum of the lanes is read out. For blocks of two sublayers.
    """
    ones = (1.0,) * lanes
    unit = tuple(tuple(float(i == j) for j in range(lanes)) for i in range(lanes))

    def connection(start: int) -> Wiring:
        in_turn = (InTurn(lane, lanes, start, stride=2) for lane in range(lanes))
        return Wiring(
            f"hyper_connections_{start + 1}",
            skip=mixed(*unit, kind=LaneGains),
            read=gathered(*in_turn, kind=LaneGains),
            norm_in=norm,
            write=spread(*ones, kind=LaneGains),
            enter=spread(*ones),
            leave=Then((gathered(*ones), norm)),
        )

    return Placement(
        "hyper_connections",
        (Stage((connection(0), connection(1))),),
        equation="X' = A X + B F(N(C X)), X of several lanes",
        jacobian="A + B J_F J_N C",
        source="Zhu et al. 2024 (Hyper-Connections), from secondary sources",
    )


PLACEMENTS: dict[str, Callable[..., Wiring | Placement]] = {
    **WIRINGS,
    "mix_ln": mix_ln,
    "b2t": b2t,
    "hyper_connections": hyper_connections,
}


def placement(name: str | Wiring | Placement, norm: Layer | None = None) -> Placement:
    """The placement of that name with `norm` in its places; a wiring stands everywhere; one given as a value passes through."""
    if isinstance(name, str):
        if name not in PLACEMENTS:
            raise ValueError(f"no wiring {name!r}: {suggestions(name, PLACEMENTS)}")
        name = PLACEMENTS[name]() if norm is None else PLACEMENTS[name](norm)
    return name if isinstance(name, Placement) else Placement(name.name, (Stage((name,)),))


def wirings(*own: Wiring | Placement) -> pd.DataFrame:
    """The table of all named wirings, and of your `own`: name, equation, Jacobian of a sublayer or block, source.

    >>> wirings().loc["pre", "equation"]
    'x + F(N x)'
    """
    made = [make() for make in dict.fromkeys(PLACEMENTS.values())]
    rows = [{"name": w.name, "equation": w.equation, "jacobian": w.jacobian, "source": w.source} for w in (*made, *own)]
    return pd.DataFrame(rows).set_index("name")
