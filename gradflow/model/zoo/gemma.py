"""Gemma 1, 2 and 3: the open siblings of Gemini, whose own internals are unpublished.

Token rows are multiplied by √d, a norm's gain is 1 + w, the hidden layer is gated by GELU, heads are wider than d/H. Gemma 1 is
pre-norm, 2 and 3 have a norm on both sides of a branch. Configurations: google/gemma_pytorch, gemma/config.py, and
google-deepmind/gemma, gemma/gm/nn/_gemma.py.

Of how the weights were drawn nothing was found; google-deepmind/gemma has 0.01 for every matrix until it loads them.
Here they keep mean squares, and rows enter the stream with rms 1.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from ...results.configuration import registered
from ..branches.branch import GatedFeedForward
from ..branches.rotary import Interpolated, Rotary
from ..layers.layer import Gain
from ..layers.norms import RMSNorm
from ..parameters.depth import ByBlock, LayerNumber
from ..stacks.embedding_readout import Embedding, Readout
from ..wirings.wiring import pre, sandwich
from .architecture import Architecture, entering


@registered
@dataclass(frozen=True, kw_only=True)
class Gemma(Architecture):
    """Pre-RMSNorm (Gemma Team 2024, table 1). The vocabulary is gemma_pytorch's, 128 rows fewer than the table's."""

    title: ClassVar[str] = "Gemma"
    year: ClassVar[int] = 2024
    source: ClassVar[str] = "Gemma Team 2024 (Gemma), section 2 and table 1"

    vocabulary: int = 256_000
    context: int = 8192
    eps: float = 1e-6
    activation: str = "gelu_tanh"
    rotary: Rotary = Rotary()
    bias: bool = False

    def norm(self) -> RMSNorm:
        """RMSNorm with a gain 1 + w."""
        return RMSNorm(self.eps, "one_plus")

    def wiring(self):
        """Pre-norm and a final norm; the embedding times √d."""
        return entering(pre(self.norm()), Gain(self.width**0.5))

    def attention(self):
        """Causal, rotary."""
        return self.heads_with(rotary=self.rotary, bias=self.bias)

    def mlp(self):
        """Gated by GELU."""
        return GatedFeedForward(self.ratio, self.activation, self.weights)

    def embedding(self):
        """Token rows of rms 1/√d."""
        return Embedding(self.vocabulary, None, self.width**-0.5)

    def readout(self):
        """The token table."""
        return Readout()


@registered
@dataclass(frozen=True, kw_only=True)
class Gemma2(Gemma):
    """Norms on both sides of a branch, every second block with a window, scores and logits capped (Gemma Team 2024b, section 2).

    Scores are divided by √`divisor`.
    """

    title: ClassVar[str] = "Gemma 2"
    source: ClassVar[str] = "Gemma Team 2024b (Gemma 2), section 2 and table 1"

    divisor: float = 256.0
    window: int | LayerNumber | None = ByBlock((4096, None))
    score_cap: float | None = 50.0
    logit_cap: float | None = 30.0

    def wiring(self):
        """Norms in front of a branch and behind it, and a final norm; the embedding times √d."""
        return entering(sandwich(self.norm()), Gain(self.width**0.5))

    def attention(self):
        """Causal, rotary, with windows and a cap."""
        scores = {"scale": self.divisor**-0.5, "softcap": self.score_cap}
        return self.heads_with(rotary=self.rotary, window=self.window, bias=self.bias, **scores)

    def readout(self):
        """The token table, its logits capped."""
        return Readout(softcap=self.logit_cap)


LOCAL = 5  # blocks with a window, to one without


def in_turn(local: float, everywhere: float | None) -> ByBlock:
    """Returns a number for the five blocks with a window, and one for the sixth, which sees all."""
    return ByBlock((local,) * LOCAL + (everywhere,))


@registered
@dataclass(frozen=True, kw_only=True)
class Gemma3(Gemma2):
    """A norm on the queries and keys of each head instead of a cap, five blocks with a window to one without (2025, section 2).

    Blocks that see all have a rotation of a larger base, and, but for the smallest, positions that are interpolated. The text
    model alone. The paper counts parameters only (table 1): sizes are those of the code.
    """

    title: ClassVar[str] = "Gemma 3"
    year: ClassVar[int] = 2025
    source: ClassVar[str] = "Gemma Team 2025 (Gemma 3), section 2, and the published code"

    vocabulary: int = 262_144
    context: int = 131_072
    window: int | LayerNumber | None = in_turn(1024, None)
    rotary: Rotary = Rotary(in_turn(1e4, 1e6), Interpolated(in_turn(1.0, 8.0)))
    score_cap: float | None = None
    logit_cap: float | None = None

    def attention(self):
        """With a norm on each head."""
        return replace(super().attention(), query_norm=self.norm(), key_norm=self.norm())


def _sizes(kind: type[Gemma], *rows) -> dict:
    """Returns `{name: kind(…)}` of rows `(name, blocks, width, heads, keys, head, hidden, what else)`."""
    names = ("depth", "width", "heads", "kv_heads", "head", "hidden")
    return {name: kind(**dict(zip(names, sizes, strict=True)), **more) for name, *sizes, more in rows}


GEMMA = _sizes(
    Gemma,
    ("gemma-2b", 18, 2048, 8, 1, 256, 16_384, {}),
    ("gemma-7b", 28, 3072, 16, 16, 256, 24_576, {}),
)
GEMMA |= _sizes(
    Gemma2,
    ("gemma2-2b", 26, 2304, 8, 4, 256, 9216, {}),
    ("gemma2-9b", 42, 3584, 16, 8, 256, 14_336, {}),
    ("gemma2-27b", 46, 4608, 32, 16, 128, 36_864, {"divisor": 4608 / 32}),
)
SHORT = {"context": 32_768, "window": in_turn(512, None), "rotary": Rotary(in_turn(1e4, 1e6))}
GEMMA |= _sizes(
    Gemma3,
    ("gemma3-1b", 26, 1152, 4, 1, 256, 6912, SHORT),
    ("gemma3-4b", 34, 2560, 8, 4, 256, 10_240, {}),
    ("gemma3-12b", 48, 3840, 16, 8, 256, 15_360, {}),
    ("gemma3-27b", 62, 5376, 32, 16, 128, 21_504, {"divisor": 5376 / 32}),
)
