"""Wirings: where the norms and gains of equation (1) sit, as values with their citation.

Every named wiring is a function of the norm that returns a `Wiring`; your own is one line:
`Wiring("mine", norm_in=RMSNorm(), write=Gain(0.5))`. No flag says which placement a stack has.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ..results.configuration import registered
from .init import OfDepth, OfLayer
from .lanes import PerLane, Then, gathered, spread
from .layers import FeatureGain, Gain, Identity, Layer, ScalarGain, Zero
from .norms import LayerNorm, ScaledNorm


@registered
@dataclass(frozen=True)
class Wiring:
    """The parts of equation (1) around the branch, and how the stream is entered and left.

    `enter` takes the embedding to the bottom of the stream (to its lanes, where it has several), `leave` takes the top
    of the stream to what is read out: the final norm, where the wiring needs one. `scales` multiplies the standard
    deviation of named matrices at initialization (DeepNorm's β). `equation` and `jacobian` say which instance of (1)
    it is, `source` where it comes from.
    """

    name: str
    skip: Layer = Identity()
    read: Layer = Identity()
    norm_in: Layer = Identity()
    norm_branch: Layer = Identity()
    write: Layer = Identity()
    norm_out: Layer = Identity()
    enter: Layer = Identity()
    leave: Layer = Identity()
    scales: tuple[tuple[str, float | OfDepth], ...] = ()
    equation: str = "N_out(A x + B N_branch(F(N_in(C x))))"
    jacobian: str = "J_N_out (A + B J_N_branch J_F J_N_in C)"
    source: str = "equation (1)"


def pre(norm: Layer = LayerNorm()) -> Wiring:
    """Pre-norm: an identity path from the readout to the bottom, and a final norm."""
    return Wiring(
        "pre",
        norm_in=norm,
        leave=norm,
        equation="x + F(N x)",
        jacobian="I + J_F J_N",
        source="Xiong et al. 2020, table 1 (Pre-LN); Radford et al. 2019",
    )


def post(norm: Layer = LayerNorm()) -> Wiring:
    """Post-norm: the norm on the path; the original Transformer and BERT."""
    return Wiring(
        "post",
        norm_out=norm,
        equation="N(x + F x)",
        jacobian="J_N (I + J_F)",
        source="Vaswani et al. 2017, section 3.1; Xiong et al. 2020, table 1 (Post-LN)",
    )


def res_post(norm: Layer = LayerNorm()) -> Wiring:
    """Res-post-norm: the branch's output normalized, the path left alone; Swin v2 and OLMo 2 call it post-norm."""
    return Wiring(
        "res_post",
        norm_branch=norm,
        leave=norm,
        equation="x + N(F x)",
        jacobian="I + J_N J_F",
        source="Liu et al. 2022 (Swin Transformer V2), section 3.2; OLMo et al. 2025",
    )


def sandwich(norm: Layer = LayerNorm()) -> Wiring:
    """Sandwich, or peri-LN: norms before and after the branch; Gemma 2."""
    return Wiring(
        "sandwich",
        norm_in=norm,
        norm_branch=norm,
        leave=norm,
        equation="x + N(F(N x))",
        jacobian="I + J_N J_F J_N",
        source="Kim et al. 2025 (Peri-LN); Gemma Team 2024 (Gemma 2)",
    )


def none(norm: Layer = Identity()) -> Wiring:
    """No norm at all, in the stack or after it."""
    return Wiring("none", equation="x + F x", jacobian="I + J_F", source="He et al. 2016, eq. 1")


def deepnorm(norm: Layer = LayerNorm()) -> Wiring:
    """DeepNorm for N = L decoder-only or encoder-only blocks: α = (2N)^(1/4) on the skip, β = (8N)^(−1/4) on the weights.

    β multiplies the feed-forward, value and output projections alone; query and key keep their scale.
    """
    beta = OfDepth(8, -0.25)
    return Wiring(
        "deepnorm",
        skip=Gain(OfDepth(2, 0.25)),
        norm_out=norm,
        scales=tuple((name, beta) for name in ("value", "out", "gate", "up", "down")),
        equation="N(α x + F x)",
        jacobian="J_N (α I + J_F)",
        source="Wang et al. 2022 (DeepNet), figure 2",
    )


def rezero(norm: Layer = Identity()) -> Wiring:
    """ReZero: no norm; one trained gain a branch, zero at the start, so the stack begins as the identity."""
    return Wiring(
        "rezero",
        write=ScalarGain(0.0),
        equation="x + a F x",
        jacobian="I + a J_F",
        source="Bachlechner et al. 2020, eq. 1",
    )


def layerscale(norm: Layer = LayerNorm()) -> Wiring:
    """LayerScale: pre-norm with a trained gain a feature on the branch, 0.1 at the start (their value up to depth 18)."""
    return Wiring(
        "layerscale",
        norm_in=norm,
        write=FeatureGain(0.1),
        leave=norm,
        equation="x + λ ⊙ F(N x)",
        jacobian="I + diag(λ) J_F J_N",
        source="Touvron et al. 2021 (CaiT), eq. 4",
    )


def depth_scaled(norm: Layer = LayerNorm()) -> Wiring:
    """Depth-scaled residual: pre-norm with each branch divided by √L, L the number of blocks."""
    return Wiring(
        "depth_scaled",
        norm_in=norm,
        write=Gain(OfDepth(1, -0.5)),
        leave=norm,
        equation="x + F(N x)/√L",
        jacobian="I + J_F J_N/√L",
        source="Noci et al. 2022, section 3; Yang et al. 2023 (depth-µP)",
    )


def layernorm_scaling(norm: Layer = LayerNorm()) -> Wiring:
    """LayerNorm-Scaling: pre-norm with the norm's output divided by √l at block l = 1 … L, against the curse of depth."""
    return Wiring(
        "layernorm_scaling",
        norm_in=ScaledNorm(norm, OfLayer(1, -0.5)),
        leave=norm,
        equation="x + F(N x/√l)",
        jacobian="I + J_F J_N/√l",
        source="Sun et al. 2025 (The Curse of Depth)",
    )


def keel(norm: Layer = LayerNorm()) -> Wiring:
    """Keel: post-norm with a second norm in front of the branch and α, the number of layers, on the skip.

    Layers are counted as sublayers here, α = 2L; the paper itself could not be read to verify it.
    """
    return Wiring(
        "keel",
        skip=Gain(OfDepth(2, 1)),
        norm_in=norm,
        norm_out=norm,
        equation="N(α x + F(N x))",
        jacobian="J_N (α I + J_F J_N)",
        source="Chen and Wei 2026 (Post-LayerNorm Is Back), from secondary sources",
    )


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
        source="Xie et al. 2023 (ResiDual), from secondary sources",
    )


WIRINGS: dict[str, Callable[..., Wiring]] = {
    "pre": pre,
    "post": post,
    "res_post": res_post,
    "sandwich": sandwich,
    "peri": sandwich,
    "none": none,
    "deepnorm": deepnorm,
    "rezero": rezero,
    "layerscale": layerscale,
    "depth_scaled": depth_scaled,
    "layernorm_scaling": layernorm_scaling,
    "keel": keel,
    "residual": residual,
}

# A function without a residual path, as an instance of (1): no skip, the function is the branch.
PLAIN = Wiring("plain", skip=Zero(), equation="F x", jacobian="J_F", source="any function")
