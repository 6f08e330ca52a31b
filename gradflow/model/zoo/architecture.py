"""A published architecture at one size, as a value: what it is made of, where that is published, and the model it builds.

A family is a subclass whose methods give the wiring, the two branches and the ends of its Transformer from the sizes that are
its fields. The values of `zoo` are the published sizes.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from ...results import description
from ...results.arguments import check_options, whole
from ...results.configuration import encode
from ...results.fields import check_fields, field_values, whole_fields
from ..branches.attention import Attention
from ..layers.layer import Identity, Layer
from ..parameters.initializers import FanIn, Initialization
from ..stacks.embedding_readout import Embedding, Readout
from ..stacks.transformer import Transformer, staged
from ..wirings.catalogue import placement
from ..wirings.wiring import Wiring


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The sizes that every family has: blocks, features of stream, head and hidden layer, heads, tokens.

    `head` is d/H where it isn't given, `kv_heads` as many as heads. `weights` is how matrices are drawn.
    """

    title: ClassVar[str]
    year: ClassVar[int]
    source: ClassVar[str]

    depth: int
    width: int
    heads: int
    hidden: int
    vocabulary: int
    context: int
    kv_heads: int | None = None
    head: int | None = None
    weights: Initialization = FanIn()

    def __post_init__(self):
        check_fields(self)
        whole_fields(self, "depth", "width", "heads", "hidden", "vocabulary", "context")

    # ---- what a family says

    def wiring(self) -> Any:
        """The parts of equation (1), and what enters and leaves the stream: a wiring, or a placement."""
        raise NotImplementedError

    def attention(self) -> Attention:
        """The first branch of a block."""
        raise NotImplementedError

    def mlp(self) -> Any:
        """The second branch of a block."""
        raise NotImplementedError

    def branches(self) -> dict[str, Any]:
        """The branches of a block by their kind, in its order."""
        return {"attention": self.attention(), "mlp": self.mlp()}

    def embedding(self) -> Embedding:
        """The tables: by default token rows alone."""
        return Embedding(self.vocabulary, None)

    def readout(self) -> Initialization | Readout:
        """By default a matrix of its own."""
        return self.weights

    # ---- what all have

    @property
    def ratio(self) -> float:
        """Features of the hidden layer over those of the stream."""
        return self.hidden / self.width

    def heads_with(self, **options) -> Attention:
        """Attention of these sizes, the rest as given."""
        sizes: dict[str, Any] = {"kv_heads": self.kv_heads, "head": self.head, "weights": self.weights}
        return Attention(self.heads, **sizes, **options)

    def model(self, precision: str | None = None) -> Transformer:
        """Returns the Transformer. Nothing is drawn until its `init`."""
        stack = staged(placement(self.wiring()), self.branches(), self.depth)
        return Transformer(stack, self.width, self.embedding(), self.readout(), precision)

    def scaled(self, depth: int | None = None, width: int | None = None, **others):
        """Returns the same architecture with so many blocks and features, and `others` of its fields replaced.

        The size of a head and the ratios (hidden layer, queries a key) stay, as far as whole numbers allow: there is at least
        one head, and where the stream is narrower than a head, the head is narrower too. Tokens and windows stay.
        """
        check_options("scaled", others, field_values(self))
        sizes = {} if width is None else self.resized(width)
        if depth is not None:
            sizes["depth"] = depth
        return dataclasses.replace(self, **{**sizes, **others})

    def resized(self, width: int) -> dict:
        """Returns the fields that follow from the width."""
        width = whole("width", width)
        share = width / self.width
        heads = max(1, int(self.heads * share + 1e-9))
        while self.head is None and (width % heads or (width // heads) % 2 > width % 2):  # a rotation needs even heads
            heads -= 1
        groups = max(1, round((self.kv_heads or self.heads) / self.heads * heads))
        while heads % groups:
            groups -= 1
        head = self.head
        if head and self.heads * share < 1:
            head = max(2, 2 * round(head * self.heads * share / 2))
        hidden = max(1, round(self.hidden * share))
        return {
            "width": width,
            "heads": heads,
            "kv_heads": self.kv_heads and groups,
            "head": head,
            "hidden": hidden,
        }

    def attends(self) -> str:
        """Returns a text that describes its attention."""
        return description.attention(encode(self.attention()))

    def activates(self) -> str:
        """Returns a text that describes its hidden layer."""
        return description.activation(encode(self.mlp()))

    def row(self) -> dict:
        """Returns its row of the table of architectures."""
        wiring = self.wiring()
        norm = next(n for n in (wiring.norm_in, wiring.norm_branch, wiring.norm_out) if n != Identity())
        return {
            "model": self.title,
            "year": self.year,
            "placement": wiring.name,
            "norm": type(norm).__name__,
            "attention": self.attends(),
            "activation": self.activates(),
            "blocks": self.depth,
            "width": self.width,
            "source": self.source,
        }


def entering(wiring: Wiring, layer: Layer) -> Wiring:
    """Returns the wiring with `layer` between the embedding and the stream."""
    return dataclasses.replace(wiring, enter=layer)
