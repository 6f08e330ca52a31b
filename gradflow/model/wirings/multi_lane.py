"""Wirings of several lanes: streams beside each other, which norms and gains treat apart."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ..layers.lane_mixing import DynamicGains, ManifoldGains
from ..layers.lanes import LaneGains, Lanes, PerLane, Then, gathered, mixed, spread
from ..layers.layer import Identity, Layer
from ..layers.norms import LayerNorm
from ..parameters.depth import InTurn, OfLayer
from .placement import Placement, Stage
from .wiring import Wiring

READS_THE_STREAM = "A + B J_F J_N C + (∂A) X + (∂B) F + B J_F J_N (∂C) X"  # the Jacobian, where A, B and C do


def residual(norm: Layer = LayerNorm()) -> Wiring:
    """ResiDual: a post-norm lane, and a lane without norms that collects every branch; read out as x₁ + N(x₂)."""
    return Wiring(
        "residual",
        read=gathered(1.0, 0.0),
        write=spread(1.0, 1.0),
        norm_out=PerLane((norm, Identity())),
        enter=spread(1.0, 1.0),
        leave=Then((PerLane((Identity(), norm)), gathered(1.0, 1.0))),
        equation="x₁' = N(x₁ + F x₁), x₂' = x₂ + F x₁",
        jacobian="[[J_N (I + J_F), 0], [J_F, I]]",
        source="Xie et al. 2023 (ResiDual), as in the authors' code",
    )


def siamese(norm: Layer = LayerNorm()) -> Wiring:
    """SiameseNorm: a post-norm lane and a pre-norm lane around one branch, which reads the sum of the two, normalized.

    The branch is divided by √(2l) on its way to the post-norm lane at block l = 1 … L, and the sum that is read out has a norm
    of its own, as in the authors' code for images. Summaries of the paper, which was not read itself, have √(l + 1) and no
    such norm. For language the post-norm lane is HybridNorm's.
    """
    read = Then((PerLane((Identity(), norm)), gathered(1.0, 1.0)))
    return Wiring(
        "siamese",
        read=read,
        norm_in=norm,
        write=spread(OfLayer(2, -0.5), 1.0),
        norm_out=PerLane((norm, Identity())),
        enter=Then((spread(1.0, 1.0), PerLane((norm, Identity())))),
        leave=Then((*read.layers, norm)),
        equation="z = F(N(x₁ + N x₂)), x₁' = N(x₁ + z/√(2l)), x₂' = x₂ + z",
        jacobian="[[J_N, 0], [0, I]] (I + [I/√(2l), I]ᵀ J_F J_N [I, J_N])",
        source="Li et al. 2026 (SiameseNorm), from the authors' code",
    )


def input_laid_aside(name: str, **parts) -> Wiring:
    """Returns a first sublayer on two lanes: the stream, which it reads and writes to, and what its block began with."""
    stream, first = gathered(1.0, 0.0), spread(1.0, 0.0)
    return Wiring(name, skip=mixed((1.0, 0.0), (1.0, 0.0)), read=stream, write=first, enter=first, **parts)


def parallel(norm: Layer = LayerNorm()) -> Placement:
    """Parallel attention and feed-forward: both read the block's input, each behind a norm of its own (GPT-NeoX).

    On two lanes: the stream, and what the block began with, which attention lays aside. GPT-J and PaLM have one norm for both:
    the same function at initialization, with one gain where this has two.
    """
    attention = input_laid_aside("parallel_attention", norm_in=norm, leave=Then((gathered(1.0, 0.0), norm)))
    mlp = replace(attention, name="parallel_mlp", skip=mixed((1.0, 0.0), (0.0, 0.0)), read=gathered(0.0, 1.0))
    return Placement(
        "parallel",
        (Stage((attention, mlp)),),
        equation="x + F₁(N x) + F₂(N x)",
        jacobian="I + J_F₁ J_N₁ + J_F₂ J_N₂",
        source="Wang and Komatsuzaki 2021 (GPT-J); Black et al. 2022 (GPT-NeoX); Chowdhery et al. 2022 (PaLM), section 2",
    )


def b2t(norm: Layer = LayerNorm()) -> Placement:
    """Bottom-to-top connection: post-norm, and the block's input added again before the last norm of the block.

    On two lanes: the stream, and what the block began with, which the attention lays aside and the feed-forward takes up.
    """
    lay_aside = input_laid_aside("b2t_attention", norm_out=PerLane((norm, Identity())), leave=gathered(1.0, 0.0))
    take_up = replace(lay_aside, name="b2t_mlp", skip=mixed((1.0, 1.0), (0.0, 0.0)))
    return Placement(
        "b2t",
        (Stage((lay_aside, take_up)),),
        equation="y = N(x + F₁ x), x' = N(y + F₂ y + x)",
        jacobian="J_N₂ ((I + J_F₂) J_N₁ (I + J_F₁) + I)",
        source="Takase et al. 2023 (B2T connection), as in the authors' code",
    )


def hyper_connections(norm: Layer = LayerNorm(), lanes: int = 4, kind: Callable[..., Lanes] = LaneGains) -> Placement:
    """Static hyper-connections: pre-norm branches that read from, and write to, several lanes by trained matrices.

    At the start every sublayer reads one lane in turn and writes to all, and lanes keep to themselves: so all lanes are the
    stream of pre-norm, whose function this is at initialization. The sum of the lanes is read out. For blocks of two sublayers.
    The paper's A_r is the transpose of A; its factor of √lanes on the last matrix of every branch (section 4) is not here.
    """
    ones = (1.0,) * lanes
    unit = _square(lanes, 1.0, 0.0)

    def connection(start: int) -> Wiring:
        in_turn = (InTurn(lane, lanes, start, stride=2) for lane in range(lanes))
        return Wiring(
            f"hyper_connections_{start + 1}",
            skip=mixed(*unit, kind=kind),
            read=gathered(*in_turn, kind=kind),
            norm_in=norm,
            write=spread(*ones, kind=kind),
            enter=spread(*ones),
            leave=Then((gathered(*ones), norm)),
        )

    return Placement(
        "hyper_connections",
        (Stage((connection(0), connection(1))),),
        equation="X' = A X + B F(N(C X)), X of several lanes",
        jacobian="A + B J_F J_N C",
        source="Zhu et al. 2024 (Hyper-Connections), eqs. 2 and 14",
    )


def dynamic_hyper_connections(norm: Layer = LayerNorm(), lanes: int = 4) -> Placement:
    """Dynamic hyper-connections: the matrices between the lanes read the stream, token by token (`DynamicGains`).

    At initialization those of static hyper-connections, and so pre-norm.
    """
    return replace(
        hyper_connections(norm, lanes, partial(DynamicGains, norm=norm)),
        name="dynamic_hyper_connections",
        equation="X' = A(X) X + B(X) F(N(C(X) X)), X of several lanes",
        jacobian=READS_THE_STREAM,
        source="Zhu et al. 2024 (Hyper-Connections), eqs. 10 to 14",
    )


def _square(lanes: int, diagonal: float, others: float) -> tuple[tuple[float, ...], ...]:
    """Returns the rows of a matrix that has one number on its diagonal and another everywhere else."""
    rows = []
    for lane in range(lanes):
        row = [others] * lanes
        row[lane] = diagonal
        rows.append(tuple(row))
    return tuple(rows)


def mhc(norm: Layer = LayerNorm(), lanes: int = 4) -> Wiring:
    """Manifold-constrained hyper-connections: A(X) doubly stochastic, B(X) in (0, 2), C(X) in (0, 1) (`ManifoldGains`).

    At the start a sublayer reads the mean of the lanes and writes to all, and a lane keeps 1 − 0.01 (lanes − 1) of itself, the
    rest from the others: pre-norm at initialization. These starts are ours: the paper has that of α alone, 0.01 (table 5). So is
    the mean of the lanes, which is read out; hyper-connections have the sum.
    """
    even, others = (1 / lanes,) * lanes, 0.01
    mixing = _square(lanes, 1 - others * (lanes - 1), others)
    return Wiring(
        "mhc",
        skip=mixed(*mixing, kind=ManifoldGains),
        read=gathered(*even, kind=ManifoldGains),
        norm_in=norm,
        write=spread(*(1.0,) * lanes, kind=ManifoldGains),
        enter=spread(*(1.0,) * lanes),
        leave=Then((gathered(*even), norm)),
        equation="X' = A(X) X + B(X) F(N(C(X) X)), A doubly stochastic",
        jacobian=READS_THE_STREAM,
        source="Xie et al. 2025 (mHC), eqs. 3 and 7 to 9",
    )
