"""Wirings that hold a deep stack by numbers: on the skip, on the branch, or in the weights it begins with."""

from ..layers.layer import Complement, FeatureGain, Gain, Identity, Layer, ScalarGain, Shift
from ..layers.norms import LayerNorm, RMSNorm, ScaledNorm
from ..parameters.depth import OfDepth, OfLayer, Profiled, Rest, Share
from .wiring import THROUGH, Wiring


def deepnorm(norm: Layer = LayerNorm()) -> Wiring:
    """DeepNorm for N = L decoder-only or encoder-only blocks: α = (2N)^(1/4) on the skip, β = (8N)^(−1/4) on the weights.

    β multiplies the feed-forward, value and output projections alone; query and key keep their scale.
    """
    beta = OfDepth(8, -0.25)
    return Wiring(
        "deepnorm",
        skip=Gain(OfDepth(2, 0.25)),
        norm_out=norm,
        init_scales=tuple((name, beta) for name in THROUGH),
        equation="N(α x + F x)",
        jacobian="J_N (α I + J_F)",
        source="Wang et al. 2022 (DeepNet), figure 2, and the authors' code",
    )


def admin(norm: Layer = LayerNorm()) -> Wiring:
    """Admin: post-norm with a trained gain a feature on the skip, which starts at what a profiling pass finds.

    ω² is 1 plus the variance that the sublayers below add (see `profile`): later ones weigh less. `measure`, `train` and
    `predict` profile a model that has not been; without, ω = 1, which is post-norm. In the authors' code the variance of the
    embedding stands in the place of that 1, but for the first sublayer.
    """
    return Wiring(
        "admin",
        skip=FeatureGain(Profiled()),
        norm_out=norm,
        equation="N(ω ⊙ x + F x), ω_i² = 1 + Σ_{j<i} Var f_j at the start",
        jacobian="J_N (diag(ω) + J_F)",
        source="Liu et al. 2020 (Understanding the Difficulty of Training Transformers)",
    )


def rezero(norm: Layer = Identity()) -> Wiring:
    """ReZero, or SkipInit: no norm; one trained gain a branch, zero at the start, so the stack begins as the identity."""
    return Wiring(
        "rezero",
        write=ScalarGain(0.0),
        equation="x + a F x",
        jacobian="I + a J_F",
        source="Bachlechner et al. 2020, eq. 1; De and Smith 2020 (SkipInit)",
    )


def layerscale(norm: Layer = LayerNorm()) -> Wiring:
    """LayerScale: pre-norm with a trained gain a feature on the branch, 0.1 at the start (their value up to depth 18).

    The authors' code has deeper models alone, which begin with less: 1e-5 at 24 blocks, 1e-6 at 36 and 48.
    """
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
        source="Sun et al. 2025 (The Curse of Depth), as in the authors' code",
    )


def deepscale(norm: Layer = LayerNorm()) -> Wiring:
    """DeepScaleLM's residual, pre-norm: λ² + β² = 1 with β² = 2/N for N = L blocks, so that the stream keeps its size.

    Skip and branch alone; their weights, which start such that every branch has variance 1, are what `init` says here. Up to
    two blocks, β = 1 leaves no skip. 2/N and that N counts blocks could not be verified in the paper: two implementations by
    others have both; the authors' code fixes λ² = 0.995 and β² = 0.005 for figures of 192 blocks, which is 1/N.
    """
    return Wiring(
        "deepscale",
        skip=Gain(Rest(0.5, -0.5)),
        norm_in=norm,
        write=Gain(Share(0.5, -0.5)),
        leave=norm,
        equation="λ x + β F(N x), λ² + β² = 1",
        jacobian="λ I + β J_F J_N",
        source="Kedia et al. 2024 (DeepScaleLM); 2/N from secondary sources",
    )


def fixup(norm: Layer = Identity()) -> Wiring:
    """Fixup: no norm; a branch's last matrix starts at 0, the others at (2L)^(−1/(2m − 2)), with trained shifts and one gain.

    2L branches, of m matrices: attention has four, so queries, keys and values × (2L)^(−1/6); the feed-forward two, so its
    first × (2L)^(−1/2), where a gate beside it keeps its scale. A shift stands at the branch's input and in front of its last
    matrix; that in front of the activation is the first matrix's own. The classification layer, which starts at 0 in the paper,
    has the readout's own initialization here. In the authors' code attention has the first shift alone.
    """
    inner = OfDepth(2, -1 / 6)
    return Wiring(
        "fixup",
        norm_in=Shift(),
        write=ScalarGain(1.0),
        init_scales=(
            *((name, inner) for name in ("query", "key", "value")),
            ("up", OfDepth(2, -0.5)),
            ("out", 0.0),
            ("down", 0.0),
        ),
        inner_layers=(("inner", Shift()),),
        equation="x + a F(x + b), F(x) = W (f(x) + c), W = 0 at the start",
        jacobian="I + a J_F",
        source="Zhang et al. 2019 (Fixup), as in the authors' code of the Transformer",
    )


def t_fixup(norm: Layer = Identity()) -> Wiring:
    """T-Fixup, the encoder's constants for N = L blocks: no norm, weights × 0.67 N^(−1/4), the embedding × (9N)^(−1/4).

    The factor is on feed-forward, value and output projections, which are Xavier in the paper: use `init="xavier"`. Its
    decoder's, (9N)^(−1/4) on both, are for blocks with cross-attention.
    """
    factor = OfDepth(0.67**-4, -0.25)
    return Wiring(
        "t_fixup",
        enter=Gain(OfDepth(9, -0.25)),
        init_scales=tuple((name, factor) for name in THROUGH),
        equation="x + F x, W at 0.67 N^(−1/4)",
        jacobian="I + J_F",
        source="Huang et al. 2020 (T-Fixup), as in the authors' code",
    )


def ngpt(norm: Layer = RMSNorm(scale="none")) -> Wiring:
    """NGPT's normalized step: the stream moves on a sphere, by a trained share a feature of the way to the branch's output.

    α = 0.05 at the start, tokens of rms 1, which is their norm 1 in units of √d. The step alone: nGPT also normalizes weights,
    queries and keys, and scales the logits. A norm that trains a gain leaves the sphere: use `RMSNorm(scale="none")`. The
    authors train α as a number that starts at 1/√d, times 0.05 √d, and take its size: the same at the start, other steps of Adam.
    """
    return Wiring(
        "ngpt",
        skip=Complement("write", 0.05),
        norm_branch=norm,
        write=FeatureGain(0.05),
        norm_out=norm,
        enter=norm,
        equation="N((1 − α) ⊙ x + α ⊙ N(F x))",
        jacobian="J_N (diag(1 − α) + diag(α) J_N J_F)",
        source="Loshchilov et al. 2024 (nGPT), as in the authors' code",
    )
