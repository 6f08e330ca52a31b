"""GPT-1, GPT-2 and GPT-3: decoders with learned positions and a tied readout, post-norm at first and pre-norm since."""

from dataclasses import dataclass
from typing import ClassVar

from ...results.configuration import registered
from ..branches.branch import FeedForward
from ..branches.rotary import Rotary
from ..layers.norms import LayerNorm
from ..parameters.depth import ByBlock
from ..parameters.initializers import INITIALIZATIONS, FanIn, Initialization, Normal
from ..stacks.embedding_readout import Embedding, Readout
from ..wirings.catalogue import placement
from ..wirings.wiring import post, pre
from .architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class Gpt(Architecture):
    """What the three share. The GELU is the tanh approximation, as in the published code."""

    eps: float = 1e-5
    activation: str = "gelu_tanh"

    def attention(self):
        """Causal, with biases."""
        return self.heads_with(bias=True)

    def mlp(self):
        """GELU, biases."""
        return FeedForward(self.ratio, self.activation, self.weights)

    def embedding(self):
        """Rows for tokens and positions, 0.02 each."""
        return Embedding(self.vocabulary, self.context, 0.02 * 2**0.5)

    def readout(self):
        """The token table."""
        return Readout()


@registered
@dataclass(frozen=True, kw_only=True)
class Gpt1(Gpt):
    """Post-LN (Radford et al. 2018, section 4.1): the original decoder, without cross-attention.

    Configuration: openai/finetune-transformer-lm, train.py; rows of the tables from its model/params_shapes.json.
    """

    title: ClassVar[str] = "GPT-1"
    year: ClassVar[int] = 2018
    source: ClassVar[str] = "Radford et al. 2018, section 4.1"

    vocabulary: int = 40_478
    context: int = 512
    weights: Initialization = Normal(0.02)

    def wiring(self):
        """Post-norm, nothing after the stack."""
        return post(LayerNorm(self.eps))


@registered
@dataclass(frozen=True, kw_only=True)
class Gpt2(Gpt):
    """Pre-LN with a final norm, residual outputs drawn smaller by the root of their number (Radford et al. 2019, section 2.3).

    The paper's parameter counts are too small (openai/gpt-2, README); the weights have 124, 355, 774 and 1558 million.
    The paper gives neither heads nor the 0.02: heads have 64 features (karpathy/nanoGPT, model.py); 0.02, GELU and eps
    are those of openai/gpt-2, src/model.py. There positions are drawn at 0.01, here at 0.02, and no matrix is smaller.
    """

    title: ClassVar[str] = "GPT-2"
    year: ClassVar[int] = 2019
    source: ClassVar[str] = "Radford et al. 2019, section 2.3 and table 2"

    vocabulary: int = 50_257
    context: int = 1024
    weights: Initialization = INITIALIZATIONS["gpt2"]
    scale: float | None = None

    def wiring(self):
        """Pre-norm and a final norm."""
        return pre(LayerNorm(self.eps))

    def attention(self):
        """Causal, with biases."""
        return self.heads_with(bias=True, scale=self.scale)


@registered
@dataclass(frozen=True, kw_only=True)
class Gpt3(Gpt2):
    """GPT-2 with attention that is in turn dense and banded (Brown et al. 2020, section 2.1 and table 2.1).

    The sizes are the table's, odd ones included: the heads of XL are together wider than its stream (it has 1.5 billion
    parameters so, not the table's 1.3), those of 13B narrower. Neither the width of the band nor which block is dense first
    is published: 256 tokens here, which is in the range of the sparse Transformer's (Child et al. 2019), and the lowest.
    """

    title: ClassVar[str] = "GPT-3"
    year: ClassVar[int] = 2020
    source: ClassVar[str] = "Brown et al. 2020, section 2.1 and table 2.1; width of the band unpublished"

    context: int = 2048
    band: int = 256

    def attention(self):
        """Causal, with biases, banded in every second block."""
        return self.heads_with(bias=True, window=ByBlock((None, self.band)))


@registered
@dataclass(frozen=True, kw_only=True)
class GptNeoX(Gpt):
    """GPT-3 with positions of a share of each head's features; attention and feed-forward in parallel, or one after the other.

    Known here by its saved weights: no size has a name. How theirs were drawn is not here; they keep mean squares.
    """

    title: ClassVar[str] = "GPT-NeoX"
    year: ClassVar[int] = 2022
    source: ClassVar[str] = "Black et al. 2022 (GPT-NeoX-20B)"

    activation: str = "gelu"
    rotary: Rotary = Rotary()
    bias: bool = True
    placement: str = "parallel"
    readout_weights: Initialization | None = FanIn()

    def wiring(self):
        """Parallel, or pre-norm."""
        return placement(self.placement, LayerNorm(self.eps))

    def attention(self):
        """Causal, rotary."""
        return self.heads_with(bias=self.bias, rotary=self.rotary)

    def embedding(self):
        """Token rows."""
        return Embedding(self.vocabulary, None)

    def readout(self):
        """A matrix of its own, or the token table."""
        return Readout() if self.readout_weights is None else self.readout_weights


@registered
@dataclass(frozen=True, kw_only=True)
class GptJ(GptNeoX):
    """GPT-J: no biases in attention, one in the readout; the norm of a block is one for both branches.

    Here it is two with the same gain and shift (`parallel`), whose gradients add up to those of theirs.
    """

    title: ClassVar[str] = "GPT-J"
    year: ClassVar[int] = 2021
    source: ClassVar[str] = "Wang and Komatsuzaki 2021 (GPT-J), as in its code"

    activation: str = "gelu_tanh"
    bias: bool = False

    def readout(self):
        """A matrix, its own or the token table, and a bias."""
        return Readout(self.readout_weights, bias=True)


GPT1 = {"gpt1": Gpt1(depth=12, width=768, heads=12, hidden=3072)}
GPT2 = {
    name: Gpt2(depth=depth, width=width, heads=width // 64, hidden=4 * width)
    for name, depth, width in (
        ("gpt2", 12, 768),
        ("gpt2-medium", 24, 1024),
        ("gpt2-large", 36, 1280),
        ("gpt2-xl", 48, 1600),
    )
}
GPT3 = {
    name: Gpt3(depth=depth, width=width, heads=heads, head=head, hidden=4 * width)
    for name, depth, width, heads, head in (
        ("gpt3-small", 12, 768, 12, 64),
        ("gpt3-medium", 24, 1024, 16, 64),
        ("gpt3-large", 24, 1536, 16, 96),
        ("gpt3-xl", 24, 2048, 24, 128),
        ("gpt3-2.7b", 32, 2560, 32, 80),
        ("gpt3-6.7b", 32, 4096, 32, 128),
        ("gpt3-13b", 40, 5140, 40, 128),
        ("gpt3-175b", 96, 12_288, 96, 128),
    )
}
