"""T5: encoder and decoder in pre-RMSNorm, without biases, whose attention knows distances by trained biases of its scores.

Scores are not scaled; so that they start at a mean square of 1, queries are drawn smaller: google/mesh-tensorflow,
mesh_tensorflow/transformer/attention.py.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from ...results.configuration import registered
from ..branches.attention import Attention
from ..branches.branch import FeedForward, GatedFeedForward
from ..branches.cross_attention import CrossAttention
from ..layers.norms import RMSNorm
from ..parameters.initializers import FanIn, Initialization, Scaled
from ..stacks.embedding_readout import Readout, Relative
from ..stacks.encoder_decoder import EncoderDecoder
from ..stacks.transformer import staged
from ..wirings.catalogue import placement
from ..wirings.wiring import pre
from .architecture import Architecture


@registered
@dataclass(frozen=True, kw_only=True)
class T5(Architecture):
    """Pre-RMSNorm, final norms, ReLU (Raffel et al. 2020, section 2.1); one table for source, target and readout.

    `decoder_depth` is as `depth` where it isn't given. Logits are scaled, by 1/√d, where the table is the readout, unless
    `scaled_logits` says otherwise; `readout_weights` None ties them. There is no last position: `context` is a length for data.
    """

    title: ClassVar[str] = "T5"
    year: ClassVar[int] = 2019
    source: ClassVar[str] = "Raffel et al. 2020, sections 2.1, 3.1.1 and 3.7"

    vocabulary: int = 32_128
    context: int = 512
    eps: float = 1e-6
    activation: str = "relu"
    buckets: int = 32
    farthest: int = 128
    decoder_depth: int | None = None
    readout_weights: Initialization | None = None
    scaled_logits: bool = True

    def wiring(self):
        """Pre-norm and a final norm of either stack."""
        return pre(RMSNorm(self.eps))

    def unscaled(self, kind: type, **options) -> Any:
        """Returns attention of these sizes whose scores are not scaled, and whose queries are drawn smaller for it."""
        head = self.head or self.width // self.heads
        weights = Scaled(self.weights, (("query", head**-0.5),))
        return kind(self.heads, kv_heads=self.kv_heads, head=self.head, weights=weights, scale=1.0, **options)

    def attention(self):
        """The encoder's: every token sees all."""
        return self.unscaled(Attention, causal=False)

    def mlp(self) -> Any:
        """A hidden layer without biases."""
        return FeedForward(self.ratio, self.activation, self.weights, bias=False)

    def decoder(self) -> dict:
        """The three branches of a decoder block: causal, to the memory, feed-forward."""
        causal = dataclasses.replace(self.attention(), causal=True)
        return {"attention": causal, "cross": self.unscaled(CrossAttention), "mlp": self.mlp()}

    def embedding(self) -> Any:
        """Token rows, and biases by distance."""
        return Relative(self.heads, self.vocabulary, self.buckets, self.farthest)

    def readout(self) -> Readout:
        """The token table or a matrix of its own, and a scale."""
        return Readout(self.readout_weights, scale=self.width**-0.5 if self.scaled_logits else None)

    def model(self, precision: str | None = None) -> Any:
        """Returns both stacks."""
        place = placement(self.wiring())
        encoder = staged(place, self.branches(), self.depth)
        decoder = staged(place, self.decoder(), self.decoder_depth or self.depth)
        return EncoderDecoder(encoder, decoder, self.width, self.embedding(), self.readout(), precision=precision)

    def scaled(self, depth: int | None = None, width: int | None = None, **others):
        """Returns the same architecture as `Architecture.scaled` does; a `depth` is that of both stacks."""
        if depth is not None:
            others = {"decoder_depth": None, **others}
        return super().scaled(depth, width, **others)


@registered
@dataclass(frozen=True, kw_only=True)
class T5Gated(T5):
    """T5 1.1: a gated hidden layer, and a readout of its own without a scale (Shazeer 2020, section 3, has the layer).

    google-research/text-to-text-transfer-transformer, released_checkpoints.md.
    """

    title: ClassVar[str] = "T5 1.1"
    year: ClassVar[int] = 2020
    source: ClassVar[str] = "Shazeer 2020; text-to-text-transfer-transformer, released_checkpoints.md"

    activation: str = "gelu_tanh"
    readout_weights: Initialization | None = FanIn()
    scaled_logits: bool = False

    def mlp(self) -> Any:
        """A gated hidden layer without biases."""
        return GatedFeedForward(self.ratio, self.activation, self.weights)


T5S: dict[str, T5] = {
    "t5-small": T5(depth=6, width=512, heads=8, head=64, hidden=2048),
    "t5-base": T5(depth=12, width=768, heads=12, head=64, hidden=3072),
    "t5-large": T5(depth=24, width=1024, heads=16, head=64, hidden=4096),
    "t5-3b": T5(depth=24, width=1024, heads=32, head=128, hidden=16_384),
    "t5-1.1-base": T5Gated(depth=12, width=768, heads=12, head=64, hidden=2048),
}
