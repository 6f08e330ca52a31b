"""DeepSeek-V3: latent attention, and experts behind a router in all blocks but the first."""

from dataclasses import dataclass
from math import log
from typing import Any, ClassVar

from ...results.configuration import registered
from ..branches.branch import GatedFeedForward
from ..branches.experts import Experts, Router, SigmoidRouter
from ..branches.latent import LatentAttention
from ..branches.rotary import Rotary, Yarn
from ..layers.norms import RMSNorm
from ..parameters.initializers import Initialization, Normal
from ..stacks.embedding_readout import Embedding
from ..stacks.transformer import Transformer, staged
from ..wirings.catalogue import placement
from ..wirings.wiring import pre
from .architecture import Architecture


@registered
@dataclass(frozen=True, kw_only=True)
class DeepSeek(Architecture):
    """Pre-RMSNorm (DeepSeek-AI 2024, section 4.2 for the sizes), `dense` blocks below those with experts.

    `head`, `rotary_head` and `value_head` are features of a head, `hidden` those of a dense hidden layer, `expert_hidden` of an
    expert's. Positions are scaled by YaRN, and scores with them, as the weights are published: after the context of 4096
    tokens was extended to 128K with a scale of 40 (section 4.3); `context` is 40 times 4096, as in the weights' file.

    Configuration: deepseek-ai/DeepSeek-V3, inference/configs/config_671B.json and model.py. The module that predicts a
    second token is not part of it, nor are factors at the bottlenecks, which section 4.2 names and the code lacks.
    """

    title: ClassVar[str] = "DeepSeek-V3"
    year: ClassVar[int] = 2024
    source: ClassVar[str] = "DeepSeek-AI 2024 (DeepSeek-V3), sections 2.1 and 4.2, and the published configuration"

    vocabulary: int = 129_280
    context: int = 163_840
    eps: float = 1e-6
    activation: str = "silu"
    head: int | None = 128
    rotary_head: int = 64
    value_head: int = 128
    query_rank: int | None = 1536
    key_value_rank: int = 512
    rotary: Rotary = Rotary(10_000.0, Yarn())
    dense: int = 3
    router: Router = SigmoidRouter(256, 8, 8, 4, 2.5)
    shared: int = 1
    expert_hidden: int = 2048
    sharpness: float = 1.0
    weights: Initialization = Normal(0.006)

    def wiring(self):
        """Pre-norm and a final norm."""
        return pre(RMSNorm(self.eps))

    def attention(self) -> Any:
        """Causal, latent."""
        head = self.head or self.width // self.heads
        return LatentAttention(
            self.heads,
            self.query_rank,
            self.key_value_rank,
            head,
            self.rotary_head,
            self.value_head,
            rotary=self.rotary,
            scale=sharpened(head + self.rotary_head, self.rotary, self.sharpness),
            weights=self.weights,
        )

    def mlp(self):
        """That of a dense block."""
        return GatedFeedForward(self.ratio, self.activation, self.weights)

    def experts(self) -> Experts:
        """Those of the other blocks."""
        return Experts(self.router, self.shared, self.expert_hidden / self.width, self.activation, self.weights)

    def embedding(self):
        """Token rows, 0.006."""
        return Embedding(self.vocabulary, None, 0.006)

    def model(self, precision: str | None = None) -> Transformer:
        """Returns the Transformer; where the depth is no more than `dense`, the last block alone has experts."""
        place, attention = placement(self.wiring()), self.attention()
        dense = min(self.dense, self.depth - 1)
        stack = staged(place, {"attention": attention, "experts": self.experts()}, self.depth - dense)
        if dense:
            stack = staged(place, {"attention": attention, "mlp": self.mlp()}, dense) + stack
        return Transformer(stack, self.width, self.embedding(), self.readout(), precision)

    def resized(self, width: int) -> dict:
        """Ranks and the experts' hidden layer keep their share of the width; how many experts there are stays."""
        sizes = {
            "query_rank": self.query_rank,
            "key_value_rank": self.key_value_rank,
            "expert_hidden": self.expert_hidden,
        }
        resized = super().resized(width)
        for name, size in sizes.items():
            if size:
                size = max(1, round(size * width / self.width))
            resized[name] = size
        return resized

    def activates(self) -> str:
        """Returns a text that describes its hidden layers."""
        chosen = f"{self.router.active} of {self.router.experts} experts and {self.shared} shared"
        return f"{super().activates()}, {chosen}, {self.dense} blocks dense"


def sharpened(features: int, rotary: Rotary, sharpness: float) -> float | None:
    """Returns the scale of the scores of a head of so many features, `m²/√features`, m = 0.1 s ln(factor) + 1; None without YaRN.

    As in deepseek-ai/DeepSeek-V3, inference/model.py, with its `mscale` = 1 for the sharpness s; Peng et al. 2023 have m on
    queries and keys each.
    """
    if not isinstance(rotary.scaling, Yarn):
        return None
    return features**-0.5 * (0.1 * sharpness * log(rotary.scaling.factor) + 1) ** 2


DEEPSEEK = {"deepseek-v3": DeepSeek(depth=61, width=7168, heads=128, hidden=18_432)}
