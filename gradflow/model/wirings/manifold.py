"""Wirings of several lanes whose mixing matrix lies on a set, feature gates between lanes, and lanes that are fractions."""

from dataclasses import replace

from ..layers.feature_gates import Cut, GatedRead, GatedWrite, Merged, SharingRead
from ..layers.lanes import LaneGains, PerLane, Then, gathered, mixed, spread
from ..layers.layer import Layer, ScalarGain
from ..layers.manifolds import Balanced, Kronecker, OnSet, Opened, Permuted, Rotated, Spread
from ..layers.norms import LayerNorm, RMSNorm
from ..parameters.depth import Steps
from .multi_lane import READS_THE_STREAM, mhc
from .placement import Placement, Stage
from .wiring import Wiring


def mhc_lite(norm: Layer = LayerNorm(), lanes: int = 4) -> Placement:
    """MHC-lite: A(X) a mixture of all permutations of the lanes, doubly stochastic to rounding and without Sinkhorn (`Permuted`).

    At the start A is the identity but for 1%, and a sublayer reads, and writes to, one lane in turn more than the others: 0.73
    and 0.27 of each, 1.46 and 0.54. The sum of the lanes is read out. As in the authors' code.
    """
    return _in_turn(
        "mhc_lite",
        norm,
        Permuted(lanes),
        equation="X' = A(X) X + B(X) F(N(C(X) X)), A = Σ_r a_r P_r",
        source="Yang and Gao 2026 (mHC-lite), arXiv 2601.05732, and the authors' code",
    )


def kromhc(norm: Layer = LayerNorm(), lanes: int = 4) -> Placement:
    """KromHC: A(X) a Kronecker product of doubly stochastic 2 × 2 matrices (`Kronecker`); else as mHC-lite."""
    return _in_turn(
        "kromhc",
        norm,
        Kronecker(lanes),
        equation="X' = A(X) X + B(X) F(N(C(X) X)), A = U₁ ⊗ U₂",
        source="Zhou et al. 2026 (KromHC), arXiv 2601.21579, and the authors' code",
    )


def _in_turn(name: str, norm: Layer, mixing: OnSet, equation: str, source: str) -> Placement:
    """Returns the placement with that mixing, whose sublayers begin at one lane in turn."""
    ones = (1.0,) * mixing.lanes
    of_block = []
    for number in (1, 2):
        lane = Steps(2, number - 1)
        of_block.append(
            Wiring(
                f"{name}_{number}",
                skip=mixing,
                read=Opened(mixing.lanes, lane),
                norm_in=norm,
                write=Spread(mixing.lanes, lane),
                enter=spread(*ones),
                leave=Then((gathered(*ones), norm)),
            )
        )
    return Placement(name, (Stage(tuple(of_block)),), equation=equation, jacobian=READS_THE_STREAM, source=source)


def jpmhc(norm: Layer = LayerNorm(), lanes: int = 4) -> Wiring:
    """JPmHC's orthogonal form: A(X) a rotation of the lanes, by Cayley's transform (`Rotated`), I at the start.

    Reads and writes are those of mHC, which the paper was not seen to settle: the mean of the lanes, and 1 to each, at the start;
    the mean is read out. So it begins as pre-norm.
    """
    return replace(
        mhc(norm, lanes),
        name="jpmhc",
        skip=Rotated(lanes),
        equation="X' = A(X) X + B(X) F(N(C(X) X)), A orthogonal",
        source="Sengupta et al. 2026 (JPmHC), arXiv 2602.18308",
    )


def mhc_v4(norm: Layer = RMSNorm(), lanes: int = 4) -> Wiring:
    """MHC as in DeepSeek-V4: softmax before Sinkhorn's rounds, which end on columns (`Balanced`); gates read the lanes out.

    Biases are 0 at the start: every lane takes a quarter of each, a sublayer reads half of their sum and writes to all. The maps
    of the stream start at 0 here, at 0.02 · normal in transformers.
    """
    return Wiring(
        "mhc_v4",
        skip=Balanced(lanes),
        read=Opened(lanes, alpha=1.0, least=1e-6),
        norm_in=norm,
        write=Spread(lanes, alpha=1.0),
        enter=spread(*(1.0,) * lanes),
        leave=Then((Opened(lanes, alpha=1.0, least=1e-6), norm)),
        equation="X' = A(X) X + B(X) F(N(C(X) X)), A doubly stochastic",
        jacobian=READS_THE_STREAM,
        source="DeepSeek-AI 2026 (DeepSeek-V4), as in transformers; Xie et al. 2025 (mHC)",
    )


def gated_residual(norm: Layer = RMSNorm(), lanes: int = 4, rank: int = 32) -> Wiring:
    """Gated Residual: a branch reads normalized lanes, gated feature by feature, and each lane takes a share of what it puts out.

    As in the code of Qwen's experimental model, where four lanes begin alike. Gates read the lanes by a map of low `rank`, 320
    there. Matrices have fan-in weights, 0.02 · normal in transformers, whose norms have a gain of 1 + w.
    """
    return Wiring(
        "gated_residual",
        read=SharingRead(lanes, rank, norm),
        write=GatedWrite(lanes, rank, norm),
        enter=spread(*(1.0,) * lanes),
        leave=GatedRead(lanes, rank, norm),
        equation="x_i' = x_i + s_i(X) F(mean_j G_j(X) ⊙ N x_j)",
        jacobian="I + s J_F C J_N + (∂s) F + s J_F (∂G) N X",
        source="Qwen Team 2026 (Gated Residual), as qwen4_exp in transformers",
    )


def frac_connections(norm: Layer = LayerNorm(), fractions: int = 4) -> Wiring:
    """Static Frac-Connections: hyper-connections between the fractions of one stream, which is no wider than before.

    Fractions of the features are lanes: a branch reads a mixture of them, merged, and writes to each its own, times a trained
    number. Unit matrices and ones at the start: it begins as pre-norm. The dynamic form is not here.
    """
    unit = [[float(i == j) for j in range(fractions)] for i in range(fractions)]
    rows = tuple(tuple(row) for row in unit)
    return Wiring(
        "frac_connections",
        skip=mixed(*rows, kind=LaneGains),
        read=Then((mixed(*rows, kind=LaneGains), Merged())),
        norm_in=norm,
        write=Then((Cut(fractions), PerLane((ScalarGain(1.0),) * fractions))),
        enter=Cut(fractions),
        leave=Then((Merged(), norm)),
        equation="X' = A X + B F(N(Y X)), X fractions of x",
        jacobian="A + B J_F J_N Y",
        source="Zhu et al. 2025 (Frac-Connections), arXiv 2503.14125",
    )
