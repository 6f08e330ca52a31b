"""Wirings: where the norms and gains of equation (1) sit, as values with their citation; those that differ in the norms alone.

Every named wiring is a function of the norm that returns a `Wiring`; your own is one line:
`Wiring("mine", norm_in=RMSNorm(), write=Gain(0.5))`. No flag says which placement a stack has.
"""

from dataclasses import dataclass

from ...results.arguments import shown
from ...results.configuration import registered
from ...results.fields import field_values
from ..layers.layer import Identity, Layer, Zero, as_layer
from ..layers.norms import LayerNorm
from ..parameters.depth import LogOfDepth, OfDepth

# The matrices on the way through a branch, which several papers scale at initialization; queries and keys decide what is mixed.
THROUGH = ("value", "out", "gate", "up", "down")


LAYERS = ("skip", "read", "norm_in", "norm_branch", "write", "norm_out", "enter", "leave")


@registered
@dataclass(frozen=True)
class Wiring:
    """The parts of equation (1) around the branch, and how the stream is entered and left.

    `enter` takes the embedding to the bottom of the stream (to its lanes, where it has several), `leave` takes the top
    of the stream to what is read out: the final norm, where the wiring needs one. `init_scales` multiplies the standard
    deviation of named matrices at initialization (DeepNorm's β), `inner_layers` sets layers inside the branch, by its fields
    (Sub-LN's inner norm). `equation` and `jacobian` say which instance of (1) it is, `source` where it comes from.
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
    init_scales: tuple[tuple[str, float | OfDepth], ...] = ()
    inner_layers: tuple[tuple[str, Layer], ...] = ()
    equation: str = "N_out(A x + B N_branch(F(N_in(C x))))"
    jacobian: str = "J_N_out (A + B J_N_branch J_F J_N_in C)"
    source: str = "equation (1)"

    def __post_init__(self):
        values = field_values(self)
        around = [(part, values[part]) for part in LAYERS]
        for part, layer in [*around, *self.inner_layers]:
            if not callable(layer):
                raise ValueError(f"{part} of the wiring {self.name} is {shown(layer)}: a layer is needed")
            as_layer(layer)


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
    """Res-post-norm: the branch's output normalized, the path left alone; Swin v2 and OLMo 2 call it post-norm.

    In the code of Swin v2 the gain of the norm starts at 0, so that a branch begins as nothing; here at 1, as in OLMo 2.
    """
    return Wiring(
        "res_post",
        norm_branch=norm,
        leave=norm,
        equation="x + N(F x)",
        jacobian="I + J_N J_F",
        source="Liu et al. 2022 (Swin Transformer V2), section 3.2, and its code; OLMo et al. 2025",
    )


def sandwich(norm: Layer = LayerNorm()) -> Wiring:
    """Sandwich, or peri-LN: norms before and after the branch; CogView, Gemma 2, as in their code.

    The norm of the embedding that peri-LN may have is not here.
    """
    return Wiring(
        "sandwich",
        norm_in=norm,
        norm_branch=norm,
        leave=norm,
        equation="x + N(F(N x))",
        jacobian="I + J_N J_F J_N",
        source="Ding et al. 2021 (CogView, Sandwich-LN); Kim et al. 2025 (Peri-LN); Gemma Team 2024 (Gemma 2)",
    )


def none(norm: Layer = Identity()) -> Wiring:
    """No norm at all, in the stack or after it."""
    return Wiring("none", equation="x + F x", jacobian="I + J_F", source="He et al. 2016, eq. 1")


def sub_ln(norm: Layer = LayerNorm()) -> Wiring:
    """Sub-LN for N = L decoder-only or encoder-only blocks: pre-norm, a norm in front of each last matrix, weights × √ln(2N).

    The factor is on the feed-forward, value and output projections alone, as DeepNorm's is.
    """
    gamma = LogOfDepth(2, 0.5)
    return Wiring(
        "sub_ln",
        norm_in=norm,
        leave=norm,
        init_scales=tuple((name, gamma) for name in THROUGH),
        inner_layers=(("inner", norm),),
        equation="x + W N(f(N x)), F = W f",
        jacobian="I + W J_N J_f J_N",
        source="Wang et al. 2022 (Foundation Transformers), as in the authors' code",
    )


# A function without a residual path, as an instance of (1): no skip, the function is the branch.
PLAIN = Wiring("plain", skip=Zero(), equation="F x", jacobian="J_F", source="any function")
