"""BERT: bidirectional, post-norm, with a norm between embedding and stream and a head in front of the tied readout.

The readout is that of the masked language model; the pooler and the next-sentence classifier are not part of it.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from ...results.configuration import registered
from ..branches.branch import Dense, FeedForward, GatedFeedForward
from ..branches.rotary import Rotary
from ..layers.lanes import Then
from ..layers.layer import Identity
from ..layers.norms import LayerNorm
from ..parameters.depth import LayerNumber
from ..parameters.initializers import Initialization, Normal
from ..stacks.embedding_readout import Embedding, Readout
from ..wirings.placement import Placement, Stage
from ..wirings.wiring import post, pre
from .architecture import Architecture, entering


@registered
@dataclass(frozen=True, kw_only=True)
class Bert(Architecture):
    """Post-LN (Devlin et al. 2019, section 3); every example is of the first segment type.

    `first` is the row of position 0; the head has the activation of the hidden layers, or `head_activation`.

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
    first: int = 0
    eps: float = 1e-12
    activation: str = "gelu"
    head_activation: str | None = None
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
        return Embedding(self.vocabulary, self.context, 0.02 * tables**0.5, self.first, self.types)

    def readout(self):
        """`W N(φ(V out + a)) + b`, W the token table."""
        transform = Dense(activation=self.head_activation or self.activation, weights=self.weights)
        return Readout(bias=True, before=Then((transform, LayerNorm(self.eps))))


@registered
@dataclass(frozen=True, kw_only=True)
class ModernBert(Architecture):
    """Pre-LN without shifts, rotary positions, windows in two of three blocks, a hidden layer gated by GELU.

    The first attention has no norm, since the embedding has one. Known here by its saved weights: no size has a name. How
    theirs were drawn is not here: they keep mean squares. A window reaches to both sides.
    """

    title: ClassVar[str] = "ModernBERT"
    year: ClassVar[int] = 2024
    source: ClassVar[str] = "Warner et al. 2024 (ModernBERT)"

    eps: float = 1e-5
    norm_bias: bool = False
    activation: str = "gelu"
    bias: bool = False
    mlp_bias: bool = False
    rotary: Rotary = Rotary()
    window: int | LayerNumber | None = None
    head_activation: str = "gelu"
    head_bias: bool = False
    readout_bias: bool = True

    def norm(self) -> LayerNorm:
        """LayerNorm."""
        return LayerNorm(self.eps, bias=self.norm_bias)

    def wiring(self):
        """Pre-norm, the first attention without a norm; a norm behind the embedding, and a final one."""
        norm = self.norm()
        usual = entering(pre(norm), norm)
        bare = replace(usual, name="pre_without_norm", norm_in=Identity(), equation="x + F x", jacobian="I + J_F")
        first = Stage((bare, usual), blocks=1)
        return Placement(
            "modernbert",
            (first, Stage((usual,))),
            equation="x + F(N x); in the first block x + F₁ x",
            jacobian="I + J_F J_N; in the first block I + J_F₁",
            source=self.source,
        )

    def attention(self):
        """Every token sees all, or those near it."""
        return self.heads_with(causal=False, rotary=self.rotary, window=self.window, bias=self.bias)

    def mlp(self):
        """Gated by GELU."""
        return GatedFeedForward(self.ratio, self.activation, self.weights, self.mlp_bias)

    def readout(self):
        """`W N(φ(V out)) + b`, W the token table."""
        head = Dense(activation=self.head_activation, weights=self.weights, bias=self.head_bias)
        return Readout(bias=self.readout_bias, before=Then((head, self.norm())))


BERT = {
    "bert-base": Bert(depth=12, width=768, heads=12, hidden=3072),
    "bert-large": Bert(depth=24, width=1024, heads=16, hidden=4096),
}
