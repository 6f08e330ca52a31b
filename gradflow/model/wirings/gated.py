"""Wirings of one lane whose gains are more than numbers: of the step, of a condition, of the stream, or with a rule backward."""

from ..layers.gates import (
    Beside,
    ConditionGain,
    Gate,
    Geodesic,
    LowRank,
    Modulated,
    Preserved,
    ShutGate,
    StepGain,
)
from ..layers.layer import Identity, Layer, ScalarGain
from ..layers.norms import LayerNorm
from ..parameters.depth import OfLayer
from .wiring import Wiring


def huginn(norm: Layer = LayerNorm()) -> Wiring:
    """Huginn's block, which is looped: post-norm with a second norm in front of the branch, Keel's sublayer with α = 1.

    The authors' class is called a sandwich, and is none. The wiring alone: that one block is gone through again and again, with
    the embedding given to it each time, is a stack that shares weights, which is not here.
    """
    return Wiring(
        "huginn",
        norm_in=norm,
        norm_out=norm,
        leave=norm,
        equation="N(x + F(N x))",
        jacobian="J_N (I + J_F J_N)",
        source="Geiping et al. 2025 (Huginn), as in the authors' code",
    )


def gpas(norm: Layer = LayerNorm()) -> Wiring:
    """GPAS on pre-norm: the stream made smaller behind every sum, and its gradient left as it is (`Preserved`).

    g = 0 at the start, so that it begins as pre-norm. In the authors' code both sublayers of a block share one g; here each has
    its own, as in the paper's formula. Budget and Jacobians are those of the declared rule; a model `as_computed()` has those
    of the function.
    """
    return Wiring(
        "gpas",
        norm_in=norm,
        norm_out=Preserved(),
        leave=norm,
        equation="y − SiLU(g) stop(y), y = x + F(N x)",
        jacobian="I + J_F J_N by its rule, (1 − SiLU(g)) (I + J_F J_N) as computed",
        source="Chen et al. 2025 (GPAS), eq. 3, and the authors' code",
    )


def prores(norm: Layer = LayerNorm()) -> Wiring:
    """ProRes on pre-norm: a branch at block l is let in over the first 1000 l steps of training (`StepGain`).

    The step comes with the batch (`gf.data.WithStep`): a batch without one is of step 0, where no branch is in.
    """
    return Wiring(
        "prores",
        norm_in=norm,
        write=StepGain(OfLayer(1, 1)),
        leave=norm,
        equation="x + α(l, t) F(N x), α = min(t/(T l), 1)",
        jacobian="I + α J_F J_N",
        source="Chen et al. 2026 (ProRes), eqs. 2 and 3, T = 1000",
    )


def adaln_zero(norm: Layer = LayerNorm()) -> Wiring:
    """DiT's adaLN-zero: norms scaled and shifted, and branches gated, by linear maps of a condition, all zero at the start.

    The condition [d] comes with the batch, one an example; a batch without one has the zero condition. DiT has one linear map a
    block for its six outputs: the same function. The final norm is modulated too. DiT's norms have no gain and eps 1e-6: use
    `LayerNorm(1e-6, "none", bias=False)`.
    """
    return Wiring(
        "adaln_zero",
        norm_in=Modulated(norm),
        write=ConditionGain(),
        leave=Modulated(norm),
        equation="x + α(c) ⊙ F((1 + γ(c)) ⊙ N x + β(c))",
        jacobian="I + diag(α) J_F diag(1 + γ) J_N",
        source="Peebles and Xie 2023 (DiT), section 3.2, and the authors' code",
    )


def highway(norm: Layer = Identity()) -> Wiring:
    """Highway: a gate of the stream decides feature by feature how much is the branch's and how much stays; no norm.

    The bias of the gate starts at −2; its matrix has the fan-in of any other.
    """
    return Wiring(
        "highway",
        skip=ShutGate(),
        write=Gate(),
        equation="(1 − τ(x)) ⊙ x + τ(x) ⊙ F x",
        jacobian="diag(1 − τ) + diag(τ) J_F + diag(F x − x) J_τ",
        source="Srivastava et al. 2015 (Highway Networks), eqs. 2 and 3",
    )


def laurel(norm: Layer = LayerNorm()) -> Wiring:
    """LAuReL-RW+LR on pre-norm: trained numbers on branch and skip, and a low-rank map beside the skip (`LowRank`).

    Both numbers at 1 and the low-rank map at zero at the start: it begins as pre-norm. The paper may bound the numbers (by a
    sigmoid or a softmax); the third form, of previous activations, is not here.
    """
    return Wiring(
        "laurel",
        skip=LowRank(),
        norm_in=norm,
        write=ScalarGain(1.0),
        leave=norm,
        equation="α F(N x) + β (x + B A x)",
        jacobian="β (I + B A) + α J_F J_N",
        source="Menghani et al. 2025 (LAuReL), sections 2.1 and 2.2",
    )


def geonorm(norm: Layer = LayerNorm()) -> Wiring:
    """GeoNorm: the stream moves along the sphere on which it lies, towards the branch's output (`Geodesic`).

    The update is no sum of a skip and a branch: skip and write lay x and F beside each other, and the step is a map of the two,
    in the place of a norm of the sum. So the fork's budget is that of the pair. How far it goes, `θ = ‖v‖/‖x‖`, and that the
    branch reads the stream without a norm, are ours where the paper could not be read; so is that steps do not decay with depth.
    """
    return Wiring(
        "geonorm",
        skip=Beside(0),
        write=Beside(1),
        norm_out=Geodesic(),
        enter=norm,
        leave=norm,
        equation="x cos θ + ‖x‖ sin θ v̂, v = F x − ⟨F x, x̂⟩ x̂",
        jacobian="J_U [I, J_F]ᵀ",
        source="Zheng 2026 (GeoNorm), eqs. 3 to 5",
    )
