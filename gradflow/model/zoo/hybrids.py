"""Decoders most of whose attention is linear: gated delta nets, and every few blocks gated attention; experts with a gated share.

No size of theirs has a name in the zoo. Nothing was looked up of how their matrices were drawn: they keep mean squares, as
LLaMA's do. What each computes is that of huggingface/transformers, with which the tests compare.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ...results.arguments import known
from ...results.configuration import registered
from ...results.fields import field_values
from ..branches.delta_net import GATES, GatedDeltaNet
from ..branches.gated_attention import GatedAttention, IndexedAttention
from ..branches.gated_experts import GatedShareExperts
from ..branches.ngram_memory import NGramMemory
from ..inputs.ngrams import NGrams
from ..layers.layer import Identity
from ..layers.norms import RMSNorm
from ..stacks.stack import Sublayer, runs
from ..stacks.transformer import Transformer
from ..wirings.manifold import gated_residual
from .decoders import Routed

LINEAR, FULL = "linear", "full"


@registered
@dataclass(frozen=True, kw_only=True)
class Qwen3Next(Routed):
    """Pre-RMSNorm with gains of 1 + w; in blocks that are `linear` in `turn` a delta net, in `full` ones gated attention.

    `linear_…` are the sizes of delta nets, `shared_hidden` that of the hidden layer which every token goes through.
    """

    title: ClassVar[str] = "Qwen3-Next"
    year: ClassVar[int] = 2025
    source: ClassVar[str] = "Qwen Team 2025 (Qwen3-Next), as qwen3_next in transformers"

    turn: tuple[str, ...] = (LINEAR, LINEAR, LINEAR, FULL)
    linear_heads: int = 32
    linear_key_heads: int = 16
    linear_head: int = 128
    linear_value_head: int = 128
    taps: int = 4
    gate: str = "silu"
    shared_hidden: int = 512

    def __post_init__(self):
        super().__post_init__()
        for kind in self.turn or ("",):
            known("kind of attention in turn", kind, (LINEAR, FULL))
        known("gate", self.gate, GATES)

    def norm(self):
        """RMSNorm with a gain of 1 + w."""
        return RMSNorm(self.eps, "one_plus")

    def linear_attention(self) -> GatedDeltaNet:
        """That of most blocks."""
        return GatedDeltaNet(
            self.linear_heads,
            self.linear_key_heads,
            self.linear_head,
            self.linear_value_head,
            self.taps,
            self.activation,
            self.gate,
            self.weights,
            read_norm=RMSNorm(self.eps),
        )

    def attention(self) -> GatedAttention:
        """That of the others: gated, with a norm on each head."""
        plain = field_values(super().attention())
        return GatedAttention(**{**plain, "query_norm": self.norm(), "key_norm": self.norm()})

    def mlp(self):
        """Experts, and the one behind a gate."""
        routed = field_values(super().mlp())
        return GatedShareExperts(**{**routed, "shared": 1, "shared_ratio": self.shared_hidden / self.width})

    def block(self, number: int) -> tuple[Sublayer, ...]:
        """Returns the sublayers of the block of that number, from 1."""
        wiring = self.wiring()
        branches: dict[str, Any] = {"linear_attention": self.linear_attention(), "experts": self.mlp()}
        if self.turn[(number - 1) % len(self.turn)] == FULL:
            branches = {"attention": self.attention(), "experts": self.mlp()}
        return tuple(Sublayer(kind, wiring, branch) for kind, branch in branches.items())

    def model(self, precision: str | None = None) -> Transformer:
        """Returns the Transformer: a segment for every run of blocks that are alike."""
        stack = runs(self.block(number) for number in range(1, self.depth + 1))
        return Transformer(stack, self.width, self.embedding(), self.readout(), precision)

    def resized(self, width: int) -> dict:
        """Hidden layers and heads of delta nets keep their share of the width; how many experts there are stays."""
        share = width / self.width
        keys = max(1, round(self.linear_key_heads * share))
        return {
            **super().resized(width),
            "shared_hidden": max(1, round(self.shared_hidden * share)),
            "linear_key_heads": keys,
            "linear_heads": keys * max(1, self.linear_heads // self.linear_key_heads),
        }

    def attends(self) -> str:
        """Returns a text that describes its attention."""
        linear = sum(kind == LINEAR for kind in self.turn)
        return f"{super().attends()}; gated delta nets in {linear} of {len(self.turn)} blocks"


@registered
@dataclass(frozen=True, kw_only=True)
class Qwen4(Qwen3Next):
    """The same on lanes that gates read and share out (`gated_residual`), with an indexer, and memories of n-grams.

    `memories` are the numbers of the blocks, from 1, that begin with a memory, `memory_features` E. `index_…` are the indexer's
    sizes: so many blocks of `index_block` tokens are chosen.
    """

    title: ClassVar[str] = "Qwen4-Exp"
    year: ClassVar[int] = 2026
    source: ClassVar[str] = "Qwen Team 2026, as qwen4_exp in transformers"

    lanes: int = 4
    rank: int = 320
    index_heads: int = 4
    index_head: int = 128
    index_block: int = 16
    index_blocks: int = 128
    memories: tuple[int, ...] = ()
    memory_features: int = 2048
    memory_taps: int = 4
    ngrams: NGrams = field(default_factory=NGrams)

    def wiring(self):
        """Gates on lanes."""
        return gated_residual(self.norm(), self.lanes, self.rank)

    def attention(self) -> IndexedAttention:
        """Gated attention to what the indexer chooses."""
        return IndexedAttention(
            **field_values(super().attention()),
            index_heads=self.index_heads,
            index_head=self.index_head,
            block=self.index_block,
            blocks=self.index_blocks,
            index_query_norm=self.norm(),
            index_key_norm=self.norm(),
        )

    def memory(self, layer: int) -> NGramMemory:
        """The memory of that number, from 0."""
        hashed = replace(self.ngrams, vocabulary=self.vocabulary, layer=layer)
        sizes = (self.lanes, self.memory_features, self.memory_taps)
        return NGramMemory(hashed, *sizes, self.norm(), self.weights)

    def block(self, number: int) -> tuple[Sublayer, ...]:
        """Returns the sublayers of the block of that number, from 1; a memory is added to all lanes as it is."""
        block = super().block(number)
        if number not in self.memories:
            return block
        added = replace(
            self.wiring(),
            name="ngram_memory",
            read=Identity(),
            write=Identity(),
            equation="X + F(X)",
            jacobian="I + J_F",
            source="Cheng et al. 2026 (Engram), as qwen4_exp in transformers",
        )
        return (Sublayer("memory", added, self.memory(self.memories.index(number))), *block)
