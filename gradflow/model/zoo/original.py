"""The original Transformer: encoder and decoder, post-norm, with cross-attention to the encoder's memory.

Its warm-up and its Adam are `Recipe.original`; its label smoothing is in the model's loss. Attention has no biases,
as in the paper's equations. How weights are drawn it does not say, nor the norm's eps: `Xavier` and 1e-6, as in
tensorflow/tensor2tensor (`transformer_base_v1`), whose weights are uniform with that deviation; ours are normal.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from ...results import description
from ...results.configuration import encode, registered
from ..branches.branch import FeedForward
from ..branches.cross_attention import CrossAttention
from ..layers.norms import LayerNorm
from ..parameters.initializers import Initialization, Xavier
from ..stacks.embedding_readout import Sinusoidal
from ..stacks.encoder_decoder import EncoderDecoder
from ..stacks.transformer import staged
from ..wirings.catalogue import placement
from ..wirings.wiring import post
from .architecture import Architecture


@registered
@dataclass(frozen=True, kw_only=True)
class Original(Architecture):
    """Post-LN (Vaswani et al. 2017, section 3.1), as many blocks in the encoder as in the decoder.

    One table for source, target and readout (section 3.4); sinusoidal positions, of which there is no last: `context` is a
    length for data. The vocabulary is that of the shared byte pairs of English and German, about 37,000.
    """

    title: ClassVar[str] = "Transformer"
    year: ClassVar[int] = 2017
    source: ClassVar[str] = "Vaswani et al. 2017, sections 3 and 5, table 3"

    vocabulary: int = 37_000
    context: int = 512
    eps: float = 1e-6
    activation: str = "relu"
    smoothing: float = 0.1
    weights: Initialization = Xavier()

    def wiring(self):
        """Post-norm, nothing after either stack."""
        return post(LayerNorm(self.eps))

    def attention(self):
        """The encoder's: every token sees all."""
        return self.heads_with(causal=False)

    def mlp(self):
        """ReLU, biases (eq. 2)."""
        return FeedForward(self.ratio, self.activation, self.weights)

    def decoder(self) -> dict:
        """The three branches of a decoder block: causal, to the memory, feed-forward."""
        across = CrossAttention(self.heads, kv_heads=self.kv_heads, head=self.head, weights=self.weights)
        return {"attention": self.heads_with(), "cross": across, "mlp": self.mlp()}

    def embedding(self) -> Any:
        """Rows times √d, and sinusoids."""
        return Sinusoidal(self.vocabulary)

    def model(self, precision: str | None = None) -> Any:
        """Returns both stacks."""
        place = placement(self.wiring())
        encoder = staged(place, {"attention": self.attention(), "mlp": self.mlp()}, self.depth)
        decoder = staged(place, self.decoder(), self.depth)
        return EncoderDecoder(
            encoder, decoder, self.width, self.embedding(), smoothing=self.smoothing, precision=precision
        )

    def attends(self) -> str:
        """Of both stacks."""
        decoder = description.attention(encode(self.decoder()["attention"]))
        return f"encoder {super().attends()}; decoder {decoder}, cross-attention"


ORIGINAL = {
    "transformer-base": Original(depth=6, width=512, heads=8, hidden=2048),
    "transformer-big": Original(depth=6, width=1024, heads=16, hidden=4096),
}
