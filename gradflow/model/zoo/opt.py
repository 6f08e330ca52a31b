"""OPT: GPT-3's sizes in the open, pre-norm but for the 350M model, which is post-norm with narrow token rows."""

from dataclasses import dataclass
from typing import ClassVar

from ...results.configuration import registered
from ..branches.branch import Dense, FeedForward
from ..layers.layer import Identity
from ..layers.norms import LayerNorm
from ..parameters.depth import OfDepth
from ..parameters.initializers import Initialization, Normal, Scaled
from ..stacks.embedding_readout import Embedding, Readout
from ..wirings.wiring import post, pre
from .architecture import Architecture

INITIAL = Scaled(Normal(0.006), (("out", OfDepth(2, -0.5)), ("down", OfDepth(2, -0.5))))


@registered
@dataclass(frozen=True, kw_only=True)
class Opt(Architecture):
    """Pre-LN (Zhang et al. 2022, section 2.1 and table 1). Positions are counted from the third row of their table.

    Configuration: facebookresearch/metaseq, metaseq/launcher/opt_job_constants.py and opt_baselines.py, which has the
    initialization of section 2.2; the vocabulary, padded, from huggingface/transformers, configuration_opt.py.
    """

    title: ClassVar[str] = "OPT"
    year: ClassVar[int] = 2022
    source: ClassVar[str] = "Zhang et al. 2022, section 2.1 and table 1"

    vocabulary: int = 50_272
    context: int = 2048
    features: int | None = None
    eps: float = 1e-5
    activation: str = "relu"
    weights: Initialization = INITIAL

    def wiring(self):
        """Pre-norm and a final norm."""
        return pre(LayerNorm(self.eps))

    def attention(self):
        """Causal, with biases."""
        return self.heads_with(bias=True)

    def mlp(self):
        """ReLU, biases."""
        return FeedForward(self.ratio, self.activation, self.weights)

    def embedding(self):
        """Rows for tokens and positions, 0.006 each."""
        return Embedding(self.vocabulary, self.context, 0.006 * 2**0.5, first=2, features=self.features)

    def readout(self):
        """The token table, through a matrix where its rows are narrow."""
        return Readout(before=Dense(self.features, bias=False) if self.features else Identity())

    def resized(self, width: int) -> dict:
        """Narrow rows keep their share of the width."""
        features = self.features and max(1, round(self.features * width / self.width))
        return super().resized(width) | {"features": features}


@registered
@dataclass(frozen=True, kw_only=True)
class OptPost(Opt):
    """The 350M model of OPT: post-LN, nothing after the stack; as its published weights have it, which the paper doesn't say.

    Placement and narrow rows are from secondary sources (its configuration in transformers' form). How the matrices beside
    those rows were drawn is unpublished: they keep mean squares.
    """

    source: ClassVar[str] = "Zhang et al. 2022, table 1; placement from the published weights"

    def wiring(self):
        """Post-norm."""
        return post(LayerNorm(self.eps))


OPT = {
    name: Opt(depth=depth, width=width, heads=heads, hidden=4 * width)
    for name, depth, width, heads in (
        ("opt-125m", 12, 768, 12),
        ("opt-1.3b", 24, 2048, 32),
        ("opt-2.7b", 32, 2560, 32),
        ("opt-6.7b", 32, 4096, 32),
        ("opt-13b", 40, 5120, 40),
        ("opt-30b", 48, 7168, 56),
        ("opt-66b", 64, 9216, 72),
        ("opt-175b", 96, 12_288, 96),
    )
}
OPT["opt-350m"] = OptPost(depth=24, width=1024, heads=16, hidden=4096, features=512)
