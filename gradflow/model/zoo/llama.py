"""LLaMA 1, 2 and 3, Mistral, Qwen 3 and OLMo 2: RMSNorm, gated SiLU, rotary positions; OLMo 2 norms what a branch writes.

Of how the weights of LLaMA, Mistral and Qwen were drawn nothing was found, and what code there is only loads them: here
they keep mean squares (`FanIn`), and the embedding has rms 1, or 1/√d where it is the readout too: logits then have a mean
square of 1.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ...results.configuration import registered
from ..branches.attention import Joint
from ..branches.branch import GatedFeedForward
from ..branches.rotary import ByWavelength, Rotary
from ..layers.norms import RMSNorm
from ..parameters.depth import LayerNumber
from ..parameters.initializers import FanIn, Initialization, Normal
from ..stacks.embedding_readout import Embedding, Readout
from ..wirings.wiring import pre, res_post
from .architecture import Architecture


@registered
@dataclass(frozen=True, kw_only=True)
class Llama(Architecture):
    """Pre-RMSNorm (Touvron et al. 2023, section 2.2). `readout_weights` None ties the readout to the token table.

    Hidden layers: meta-llama/llama, branch llama_v1, llama/model.py. Its eps is a default that the weights' own files
    replace, 1e-5 at 65B and 1e-6 below: tinygrad/tinygrad, examples/llama.py.
    """

    title: ClassVar[str] = "LLaMA"
    year: ClassVar[int] = 2023
    source: ClassVar[str] = "Touvron et al. 2023, section 2.2 and table 2"

    vocabulary: int = 32_000
    context: int = 2048
    eps: float = 1e-6
    activation: str = "silu"
    rotary: Rotary | None = Rotary()
    window: int | LayerNumber | None = None
    bias: bool | tuple[str, ...] = False
    mlp_bias: bool = False
    readout_weights: Initialization | None = FanIn()

    def norm(self) -> Any:
        """RMSNorm."""
        return RMSNorm(self.eps)

    def wiring(self):
        """Pre-norm and a final norm."""
        return pre(self.norm())

    def attention(self):
        """Causal, rotary."""
        return self.heads_with(rotary=self.rotary, window=self.window, bias=self.bias)

    def mlp(self) -> Any:
        """A gated hidden layer."""
        return GatedFeedForward(self.ratio, self.activation, self.weights, self.mlp_bias)

    def embedding(self):
        """Token rows."""
        return Embedding(self.vocabulary, None, self.width**-0.5 if self.readout_weights is None else 1.0)

    def readout(self):
        """A matrix of its own, or the token table."""
        return Readout() if self.readout_weights is None else self.readout_weights


@registered
@dataclass(frozen=True, kw_only=True)
class Llama2(Llama):
    """LLaMA with twice the context, and shared keys at 70B (Touvron et al. 2023b, section 2.2 and table 1).

    Rotation and eps: meta-llama/llama, llama/model.py; sizes, as in the weights: tinygrad/tinygrad, examples/llama.py.
    """

    title: ClassVar[str] = "Llama 2"
    source: ClassVar[str] = "Touvron et al. 2023b, section 2.2 and table 1"

    context: int = 4096
    eps: float = 1e-5


@registered
@dataclass(frozen=True, kw_only=True)
class Llama3(Llama):
    """Shared keys, a larger vocabulary and base of the rotation (Llama Team 2024, section 3.2 and table 3).

    The vocabulary, 128,000 in the table, and eps: meta-llama/llama-models, models/sku_list.py (until 2025).
    """

    title: ClassVar[str] = "Llama 3"
    year: ClassVar[int] = 2024
    source: ClassVar[str] = "Llama Team 2024, section 3.2 and table 3"

    vocabulary: int = 128_256
    context: int = 8192
    eps: float = 1e-5
    rotary: Rotary = Rotary(500_000.0)


@registered
@dataclass(frozen=True, kw_only=True)
class Mistral(Llama):
    """Llama 2 with shared keys and a sliding window (Jiang et al. 2023, section 2 and table 1).

    A token sees as many as the paper's cache holds, itself among them; its text has one more. The rotation is that of
    mistralai/mistral-inference, first version, mistral/rope.py; eps is from the weights, by secondary sources.
    """

    title: ClassVar[str] = "Mistral"
    source: ClassVar[str] = "Jiang et al. 2023, section 2 and table 1"

    context: int = 8192
    eps: float = 1e-5
    window: int | LayerNumber | None = 4096


@registered
@dataclass(frozen=True, kw_only=True)
class Qwen3(Llama):
    """LLaMA with a norm on the queries and keys of each head (Qwen Team 2025, section 2 and table 1).

    The context is that of the last stage of training (section 3.2, as is the rotation), before YaRN. The vocabulary, of
    151,669 tokens in the paper, widths and eps are those of the weights, by secondary sources.
    """

    title: ClassVar[str] = "Qwen 3"
    year: ClassVar[int] = 2025
    source: ClassVar[str] = "Qwen Team 2025, section 2 and table 1"

    vocabulary: int = 151_936
    context: int = 32_768
    rotary: Rotary = Rotary(1_000_000.0)

    def attention(self):
        """With a norm on each head."""
        norm = RMSNorm(self.eps)
        return replace(super().attention(), query_norm=norm, key_norm=norm)


@registered
@dataclass(frozen=True, kw_only=True)
class Olmo2(Llama):
    """Res-post-RMSNorm, and a norm on all queries, and all keys, together (OLMo et al. 2025, section 2.1 and table 3).

    Configuration: allenai/OLMo, configs/official-1124; for 32B allenai/OLMo-core, src/olmo_core/nn/transformer/config.py.
    Theirs are normals of deviation 0.02 cut off at three of them (section 2.3), here they are whole.
    """

    title: ClassVar[str] = "OLMo 2"
    year: ClassVar[int] = 2024
    source: ClassVar[str] = "OLMo et al. 2025, section 2.1 and table 3"

    vocabulary: int = 100_352
    context: int = 4096
    rotary: Rotary = Rotary(500_000.0)
    weights: Initialization = Normal(0.02)
    readout_weights: Initialization | None = Normal(0.02)

    def wiring(self):
        """A norm on what a branch writes, and a final norm."""
        return res_post(self.norm())

    def attention(self):
        """With norms across heads."""
        norm = RMSNorm(self.eps)
        norms = {"query_norm": Joint(norm, self.heads), "key_norm": Joint(norm, self.kv_heads or self.heads)}
        return replace(super().attention(), **norms)

    def embedding(self):
        """Token rows, 0.02."""
        return Embedding(self.vocabulary, None, 0.02)


def _sizes(kind: type[Llama], *rows, **shared) -> dict:
    """Returns `{name: kind(…)}` of rows `(name, blocks, width, heads, keys, hidden)`."""
    names = ("depth", "width", "heads", "kv_heads", "hidden")
    return {name: kind(**dict(zip(names, sizes, strict=True)), **shared) for name, *sizes in rows}


LONG, TIED = {"context": 131_072, "rotary": Rotary(500_000.0, ByWavelength())}, {"readout_weights": None}
LLAMA = _sizes(
    Llama,
    ("llama-7b", 32, 4096, 32, None, 11_008),
    ("llama-13b", 40, 5120, 40, None, 13_824),
    ("llama-33b", 60, 6656, 52, None, 17_920),
)
LLAMA |= _sizes(Llama, ("llama-65b", 80, 8192, 64, None, 22_016), eps=1e-5)
LLAMA |= _sizes(
    Llama2,
    ("llama2-7b", 32, 4096, 32, None, 11_008),
    ("llama2-13b", 40, 5120, 40, None, 13_824),
    ("llama2-70b", 80, 8192, 64, 8, 28_672),
)
LLAMA |= _sizes(Llama3, ("llama3-8b", 32, 4096, 32, 8, 14_336), ("llama3-70b", 80, 8192, 64, 8, 28_672))
LLAMA |= _sizes(Llama3, ("llama3.1-8b", 32, 4096, 32, 8, 14_336), ("llama3.1-70b", 80, 8192, 64, 8, 28_672), **LONG)
LLAMA |= _sizes(Llama3, ("llama3.1-405b", 126, 16_384, 128, 8, 53_248), **LONG)
MISTRAL = _sizes(Mistral, ("mistral-7b", 32, 4096, 32, 8, 14_336))
QWEN3 = _sizes(Qwen3, ("qwen3-0.6b", 28, 1024, 16, 8, 3072), ("qwen3-1.7b", 28, 2048, 16, 8, 6144), head=128, **TIED)
QWEN3 |= _sizes(Qwen3, ("qwen3-4b", 36, 2560, 32, 8, 9728), head=128, **TIED)
QWEN3 |= _sizes(
    Qwen3,
    ("qwen3-8b", 36, 4096, 32, 8, 12_288),
    ("qwen3-14b", 40, 5120, 40, 8, 17_408),
    ("qwen3-32b", 64, 5120, 64, 8, 25_600),
    head=128,
)
OLMO2 = _sizes(
    Olmo2,
    ("olmo2-7b", 32, 4096, 32, None, 11_008),
    ("olmo2-13b", 40, 5120, 40, None, 13_824),
    ("olmo2-32b", 64, 5120, 40, 8, 27_648),
)
