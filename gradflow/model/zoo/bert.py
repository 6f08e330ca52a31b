"""BERT: bidirectional, post-norm, with a norm between embedding and stream and a head in front of the tied readout.

The readout is that of the masked language model; the pooler and the next-sentence classifier are not part of it.
"""

from dataclasses import dataclass
from typing import ClassVar

from ...results.configuration import registered
from ..branches.branch import Dense, FeedForward
from ..layers.lanes import Then
from ..layers.norms import LayerNorm
from ..parameters.initializers import Initialization, Normal
from ..stacks.embedding_readout import Embedding, Readout
from ..wirings.wiring import post
from .architecture import Architecture, entering


@registered
@dataclass(frozen=True, kw_only=True)
class Bert(Architecture):
    """Post-LN (Devlin et al. 2019, section 3); every example is of the first segment type.

    Configuration: google-research/bert, README and modeling.py; rows of the tables as in the weights. Its 0.02 is that
    of normals cut off at two deviations, here they are whole; its norm, TensorFlow's, has eps = 1e-12. GELU is exact as
    in its first release (2018); later ones have the tanh.
    """

    title: ClassVar[str] = "BERT"
    year: ClassVar[int] = 2018
    source: ClassVar[str] = "Devlin et al. 2019, section 3"

    vocabulary: int = 30_522
    context: int = 512
    types: int = 2
    eps: float = 1e-12
    activation: str = "gelu"
    weights: Initialization = Normal(0.02)

    def wiring(self):
        """Post-norm, a norm behind the embedding, none in front of the readout."""
        norm = LayerNorm(self.eps)
        return entering(post(norm), norm)

    def attention(self):
        """Every token sees all."""
        return self.heads_with(causal=False, bias=True)

    def mlp(self):
        """GELU, biases."""
        return FeedForward(self.ratio, self.activation, self.weights)

    def embedding(self):
        """Rows for tokens, positions and segment types, 0.02 each."""
        tables = 3 if self.types else 2
        return Embedding(self.vocabulary, self.context, 0.02 * tables**0.5, types=self.types)

    def readout(self):
        """`W N(φ(V out + a)) + b`, W the token table."""
        transform = Dense(activation=self.activation, weights=self.weights)
        return Readout(bias=True, before=Then((transform, LayerNorm(self.eps))))


BERT = {
    "bert-base": Bert(depth=12, width=768, heads=12, hidden=3072),
    "bert-large": Bert(depth=24, width=1024, heads=16, hidden=4096),
}
