"""Decoders that are known here by their saved weights: LLaMA's kin with other norms, placements, multipliers or experts.

No size of theirs has a name in the zoo. Nothing was looked up of how their matrices were drawn: they keep mean squares, as
LLaMA's do. What each computes is that of huggingface/transformers, with which the tests compare; the papers say who they are.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ...results.configuration import registered
from ..branches.branch import FeedForward
from ..branches.experts import Experts, SoftmaxRouter
from ..layers.lanes import Then
from ..layers.layer import Gain, Plus
from ..layers.norms import Capped, Clipped, LayerNorm
from ..parameters.depth import ByBlock, LayerNumber
from ..stacks.embedding_readout import Readout
from ..wirings.multi_lane import parallel
from ..wirings.wiring import pre, sandwich
from .architecture import entering
from .llama import Llama, Mistral, Qwen3


@registered
@dataclass(frozen=True, kw_only=True)
class Olmo(Llama):
    """OLMo 1: LayerNorm without parameters; queries, keys and values are clipped at `clip`, where that is given."""

    title: ClassVar[str] = "OLMo"
    year: ClassVar[int] = 2024
    source: ClassVar[str] = "Groeneveld et al. 2024 (OLMo)"

    eps: float = 1e-5
    clip: float | None = None

    def norm(self):
        """LayerNorm without gain and shift."""
        return LayerNorm(self.eps, "none", bias=False)

    def attention(self):
        """With clipped features."""
        attention = super().attention()
        if self.clip is None:
            return attention
        clipped = Clipped(self.clip)
        return replace(attention, query_norm=clipped, key_norm=clipped, value_norm=clipped)


@dataclass(frozen=True, kw_only=True)
class ScaledLogits(Llama):
    """What multiplies its logits."""

    logit_scale: float = 1.0

    def readout(self):
        """Logits with a scale."""
        return Readout(self.readout_weights, scale=self.logit_scale)


@registered
@dataclass(frozen=True, kw_only=True)
class Granite(ScaledLogits):
    """LLaMA with multipliers of embedding, branches, scores and logits: those of maximal update parametrization, fixed."""

    title: ClassVar[str] = "Granite"
    year: ClassVar[int] = 2024
    source: ClassVar[str] = "Granite Team 2024 (Granite 3.0)"

    embedding_scale: float = 1.0
    branch_scale: float = 1.0
    score_scale: float = 1.0

    def wiring(self):
        """Pre-norm whose branches are multiplied, as is the embedding."""
        scaled = replace(
            pre(self.norm()),
            name="scaled_pre",
            write=Gain(self.branch_scale),
            equation="x + m F(N x)",
            jacobian="I + m J_F J_N",
            source=self.source,
        )
        return entering(scaled, Gain(self.embedding_scale))

    def attention(self):
        """With a scale of the scores of its own."""
        return replace(super().attention(), scale=self.score_scale)


@registered
@dataclass(frozen=True, kw_only=True)
class StarCoder2(Llama):
    """LayerNorm, a hidden layer without gate, biases."""

    title: ClassVar[str] = "StarCoder2"
    year: ClassVar[int] = 2024
    source: ClassVar[str] = "Lozhkov et al. 2024 (StarCoder 2)"

    eps: float = 1e-5
    activation: str = "gelu_tanh"

    def norm(self):
        """LayerNorm."""
        return LayerNorm(self.eps)

    def mlp(self):
        """A hidden layer."""
        return FeedForward(self.ratio, self.activation, self.weights, self.mlp_bias)


@registered
@dataclass(frozen=True, kw_only=True)
class Cohere2(ScaledLogits):
    """Parallel attention and feed-forward behind a LayerNorm without shift; blocks that see all know no positions.

    Theirs is one norm for both; here it is two with the same gain (`parallel`), whose gradients add up to that of theirs.
    """

    title: ClassVar[str] = "Command R7B"
    year: ClassVar[int] = 2024
    source: ClassVar[str] = "Cohere 2025 (Command A)"

    logit_scale: float = 0.0625

    def norm(self):
        """LayerNorm without shift."""
        return LayerNorm(self.eps, bias=False)

    def wiring(self):
        """Parallel."""
        return parallel(self.norm())


@registered
@dataclass(frozen=True, kw_only=True)
class Glm4(Llama):
    """Norms in front of a branch and behind it; half of a head's features know positions."""

    title: ClassVar[str] = "GLM-4"
    year: ClassVar[int] = 2025
    source: ClassVar[str] = "Team GLM 2024 (ChatGLM); norms and positions as in the code of GLM-4-0414"

    def wiring(self):
        """Sandwich."""
        return sandwich(self.norm())


@dataclass(frozen=True, kw_only=True)
class Routed(Llama):
    """What has experts behind a router in every block."""

    router: SoftmaxRouter = SoftmaxRouter()

    def mlp(self):
        """Experts, none of them shared."""
        return Experts(self.router, 0, self.ratio, self.activation, self.weights, self.mlp_bias)

    def branches(self) -> dict[str, Any]:
        """Attention and experts."""
        return {"attention": self.attention(), "experts": self.mlp()}

    def activates(self) -> str:
        """Returns a text that describes its hidden layers."""
        return f"gated {self.activation}, {self.router.active} of {self.router.experts} experts"


@registered
@dataclass(frozen=True, kw_only=True)
class Mixtral(Routed, Mistral):
    """Mistral whose hidden layers are experts, two a token (Jiang et al. 2024)."""

    title: ClassVar[str] = "Mixtral"
    year: ClassVar[int] = 2024
    source: ClassVar[str] = "Jiang et al. 2024 (Mixtral)"

    router: SoftmaxRouter = SoftmaxRouter(8, 2)


@registered
@dataclass(frozen=True, kw_only=True)
class Qwen3Experts(Routed, Qwen3):
    """Qwen 3 whose hidden layers are experts."""

    title: ClassVar[str] = "Qwen 3 MoE"
    source: ClassVar[str] = "Qwen Team 2025, section 2"

    router: SoftmaxRouter = SoftmaxRouter(128, 8)


@registered
@dataclass(frozen=True, kw_only=True)
class GptOss(Routed):
    """Sinks beside the scores, windows in every second block, experts with biases behind a biased router.

    What an expert multiplies is bounded by `limit`: `(clip(W_up x) + 1) ⊙ φ(min(W_gate x, limit))`, φ(u) = u σ(1.702 u)
    (openai/gpt-oss, gpt_oss/torch/model.py, `swiglu`).
    """

    title: ClassVar[str] = "gpt-oss"
    year: ClassVar[int] = 2025
    source: ClassVar[str] = "OpenAI 2025 (gpt-oss model card), section 2, and the published code"

    vocabulary: int = 201_088
    context: int = 131_072
    eps: float = 1e-5
    activation: str = "gelu_sigmoid"
    window: int | LayerNumber | None = ByBlock((128, None))
    bias: bool | tuple[str, ...] = True
    mlp_bias: bool = True
    router: SoftmaxRouter = SoftmaxRouter(128, 4)
    limit: float = 7.0

    def attention(self):
        """With sinks."""
        return replace(super().attention(), sink=0.0)

    def mlp(self):
        """Experts whose factors are bounded."""
        bounded = Clipped(self.limit)
        return replace(super().mlp(), on_gate=Capped(self.limit), on_up=Then((bounded, Plus(1.0))))
