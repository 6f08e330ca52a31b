"""DeepSeek-V4: near tokens and far entries, experts by hash at the bottom and by a router above, on several lanes."""

from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any, ClassVar

from ...results import description
from ...results.configuration import encode, registered
from ..branches.compressed import CompressedAttention, Compression
from ..branches.experts import Experts, SoftplusRouter
from ..branches.rotary import Rotary
from ..layers.norms import Capped, Clipped, RMSNorm
from ..stacks.stack import Sublayer, runs
from ..stacks.transformer import Transformer
from ..wirings.manifold import mhc_v4
from .architecture import Architecture


@registered
@dataclass(frozen=True, kw_only=True)
class DeepSeekV4(Architecture):
    """Manifold-constrained hyper-connections (`mhc_v4`) around compressed attention and experts.

    `compressions` and `routers` have one value a block, in turn where there are more blocks. Blocks that compress turn by
    `far_rotary`, those that read near tokens alone by `rotary`. `hidden` is that of an expert, what it multiplies is bounded by
    `limit` (`on_gate`, `on_up`). Blocks that follow each other and are alike are one segment, so that a stack whose kinds take
    turns compiles each of its blocks. Nothing was looked up of how matrices were drawn, and no module predicts a second token.
    """

    title: ClassVar[str] = "DeepSeek-V4"
    year: ClassVar[int] = 2026
    source: ClassVar[str] = "DeepSeek-AI 2026 (DeepSeek-V4), as in transformers"

    vocabulary: int = 129_280
    context: int = 1_048_576
    eps: float = 1e-6
    activation: str = "silu"
    head: int | None = 512
    rotary_head: int = 64
    query_rank: int = 1024
    groups: int = 8
    group_rank: int = 1024
    window: int = 128
    rotary: Rotary = Rotary(pairs="neighbours")
    far_rotary: Rotary = Rotary(160_000.0, pairs="neighbours")
    compressions: tuple[Compression | None, ...] = (Compression(128),)
    routers: tuple[SoftplusRouter, ...] = (SoftplusRouter(256, 6, scale=1.5),)
    shared: int = 1
    limit: float = 10.0
    lanes: int = 4

    def norm(self) -> RMSNorm:
        """RMSNorm."""
        return RMSNorm(self.eps)

    def wiring(self):
        """Lanes that are mixed by balanced matrices."""
        return mhc_v4(self.norm(), self.lanes)

    def attention(self, compression: Compression | None = None) -> Any:
        """That of a block with this compression."""
        norm = self.norm()
        return CompressedAttention(
            self.heads,
            self.head or self.width // self.heads,
            self.query_rank,
            self.rotary_head,
            self.groups,
            self.group_rank,
            self.window,
            compression,
            self.far_rotary if compression else self.rotary,
            weights=self.weights,
            query_latent=norm,
            query_norm=replace(norm, scale="none"),
            key_norm=norm,
            entry_norm=norm,
            index_norm=norm,
        )

    def mlp(self, router: SoftplusRouter = SoftplusRouter()) -> Any:
        """The experts of a block with this router."""
        on_gate, on_up = Capped(self.limit), Clipped(self.limit)
        return Experts(router, self.shared, self.ratio, self.activation, self.weights, on_gate=on_gate, on_up=on_up)

    def model(self, precision: str | None = None) -> Transformer:
        """Returns the Transformer, a segment for each run of blocks that are alike."""
        kinds = islice(zip(cycle(self.compressions), cycle(self.routers), strict=False), self.depth)
        stack = runs(self.block(*kind) for kind in kinds)
        return Transformer(stack, self.width, self.embedding(), self.readout(), precision)

    def block(self, compression: Compression | None, router: SoftplusRouter) -> tuple[Sublayer, ...]:
        """Returns the sublayers of a block."""
        wiring = self.wiring()
        attention = Sublayer("attention", wiring, self.attention(compression))
        return attention, Sublayer("experts", wiring, self.mlp(router))

    def resized(self, width: int) -> dict:
        """Ranks keep their share of the width; how many experts there are, and what an index has, stays."""
        share = width / self.width
        ranks = {"query_rank": self.query_rank, "group_rank": self.group_rank}
        return {**super().resized(width), **{name: max(1, round(share * rank)) for name, rank in ranks.items()}}

    def attends(self) -> str:
        """Returns a text that describes the attention of its last block."""
        return description.attention(encode(self.attention(self.compressions[-1])))

    def activates(self) -> str:
        """Returns a text that describes its hidden layers."""
        router = self.routers[-1]
        return f"gated {self.activation}, {router.active} of {router.experts} experts and {self.shared} shared"
