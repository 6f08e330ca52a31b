"""The Transformer around a stack: embedding, stack, final norm, readout.

Axes: tokens [T]; the stream [T, d].
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from ...results.arguments import answering, known, of_class, real, whole
from ...results.configuration import registered
from ...results.fields import field_values
from ..branches.attention import Attention
from ..branches.branch import FeedForward, linear
from ..equation.sublayer import walk
from ..inputs import size
from ..inputs.context import in_context, of_embedding, tokens_of
from ..inputs.weights import shapes
from ..layers.layer import Layer
from ..numerics.precision import in_float32, in_precision_of
from ..numerics.settings import usual_settings
from ..parameters.depth import resolved
from ..parameters.initializers import FanIn, Initialization, initialization
from ..parameters.keys import at, root
from ..wirings.catalogue import placement as chosen
from ..wirings.placement import Placement, wirings_of
from ..wirings.wiring import Wiring
from .embedding_readout import Embedding, Readout
from .stack import Segment, Stack, Sublayer, check_scales

PRECISIONS = ("bfloat16", "float32", "float64")


@registered
@dataclass(frozen=True)
class Transformer:
    """Embedding, a stack of residual sublayers, what leaves the stream (the final norm), and a readout.

    A function `(params, tokens) -> logits` for one example. Its parameters are `{"embedding", "enter", "stack", "leave",
    "readout"}` with `stack` a tuple, one entry a segment, every leaf stacked over the segment's repeats. The readout is a
    matrix of its own, given by how it is drawn, or a `Readout` (tied to the token table, with a bias, …).

    `precision` is that of the stream and of every product with weights; by default that of the weights. In "bfloat16" the
    weights stay float32, and sums (of products, norms, the softmax, the loss) are taken in float32; "float64" draws float64
    weights, which JAX keeps only under `jax_enable_x64`.
    """

    stack: Stack
    width: int
    embedding: Embedding = Embedding()
    readout: Initialization | Readout = FanIn()
    precision: str | None = None

    def __post_init__(self):
        whole("width", self.width)
        check_precision(self.precision)
        of_class("the stack of a Transformer", self.stack, Stack)
        check_scales(self.stack, self.width)
        self.shapes  # noqa: B018  (every layer's own checks, before anything is drawn)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return self.stack.depth

    @property
    def vocabulary(self) -> int:
        """How many different tokens there are."""
        return self.embedding.vocabulary

    @property
    def positions(self) -> int | None:
        """The largest number of tokens; None: any."""
        return self.embedding.context

    @property
    def types(self) -> int:
        """How many types of tokens there are: rows of the embedding's table of types."""
        return self.embedding.types if isinstance(self.embedding, Embedding) else 0

    @property
    def shapes(self):
        """The parameters as shapes and types."""
        return shapes(self)

    @property
    def sublayers(self) -> tuple[Sublayer, ...]:
        """All sublayers in depth order."""
        return self.stack.sublayers

    def at_depth(self, depth: int) -> "Transformer":
        """Returns the same model with `depth` blocks; segments keep their shares of it, or their blocks; none is empty."""
        return dataclasses.replace(self, stack=self.stack.at_depth(depth))

    def as_computed(self) -> "Transformer":
        """Returns the same model without backward rules of its layers' own (`Stack.as_computed`)."""
        return dataclasses.replace(self, stack=self.stack.as_computed())

    @usual_settings()
    def init(self, key):
        """Parameters, float32; the same key gives the same weights to every wiring, and to the shared blocks of any depth."""
        if not isinstance(key, jax.core.Tracer):
            size.refuse("the model", size.SMALLER, weights=size.held(self.shapes))
        key = root(key)
        params = {
            "embedding": self.embedding.init(at(key, "embedding"), self.width),
            **self.stack.init(key, self.width),
            "readout": self._readout(key, resolved(self.readout, self.depth)),
        }
        return in_weight_precision(params, self.precision)

    def _readout(self, key, readout):
        """Returns its parameters: a matrix, or those of a `Readout`."""
        if isinstance(readout, Readout):
            return readout.init(at(key, "readout"), self.width, self.embedding.vocabulary, self.embedding.features)
        return linear(key, readout, "readout", self.width, self.embedding.vocabulary, self.width, False)

    def enter(self, params, inputs):
        """Returns the bottom of the stream, `x_0`, from the tokens of one example."""
        x = self.embedding(params["embedding"], tokens_of(inputs), **of_embedding(inputs))
        if self.precision:
            x = x.astype(self.precision)
        return self.stack.enter(params["enter"], x)

    def with_context(self, params, inputs):
        """Returns the parameters, and with them what an example says, its tokens too, for the layers that ask for it."""
        return self.stack.with_context(params, in_context(inputs))

    def leave(self, params, x):
        """Returns what is read out, from the top of the stream `x_S`: the final norm, where the wiring has one."""
        return self.stack.leave(params["leave"], x)

    def logits(self, params, out):
        """Logits, float32 or better, from what left the stream."""
        readout = in_precision_of(out, params["readout"])
        if isinstance(self.readout, Readout):
            table = in_precision_of(out, params["embedding"]["token"].embedding[...])
            logits = self.readout(readout, table, out)
        else:
            logits = readout(out)
        return in_float32(logits)

    def loss(self, params, out, targets):
        """Returns the cross-entropy of one example, mean over its tokens that have a target, from what left the stream; nat.

        A negative number is no target: that of a token which a masked language model is not asked for. One at least is needed.
        """
        losses = optax.softmax_cross_entropy_with_integer_labels(self.logits(params, out), jnp.maximum(targets, 0))
        return losses.mean(where=targets >= 0)

    def __call__(self, params, inputs: Int[Array, " token"] | Mapping[str, Any]) -> Float[Array, "token vocabulary"]:
        """Returns the logits of an example, from its tokens, or from these and what is said beside them."""
        used = self.with_context(params, inputs)
        x, _ = walk(self.stack, used["stack"], self.enter(used, inputs))
        return self.logits(used, self.leave(used, x))


def in_weight_precision(params, precision: str | None):
    """Returns drawn parameters, float32, in the precision that a model's weights have."""
    if precision != "float64":
        return params
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)


def check_precision(precision: str | None) -> None:
    """Refuses a precision that is none, or that JAX does not keep."""
    if precision is not None:
        known("precision", precision, PRECISIONS)
    if precision == "float64" and not jax.config.values["jax_enable_x64"]:
        raise ValueError("float64 needs jax.config.update('jax_enable_x64', True), or JAX_ENABLE_X64=1, first")


@answering()
def transformer(
    placement: str | Wiring | Placement,
    *,
    depth: int = 12,
    width: int = 64,
    heads: int = 4,
    context: int | None = 64,
    norm: Layer | None = None,
    attention: Any = None,
    mlp: Any = None,
    init: str | Initialization | None = None,
    vocabulary: int = 256,
    embedding_rms: float = 1.0,
    precision: str | None = None,
) -> Transformer:
    """Returns a `Transformer` of `depth` blocks (attention, then feed-forward) in one placement of the norm.

    Parameters
    ----------
    placement : name (see `wirings()`), Wiring or Placement
    heads : number of heads of the default attention (causal); ignored where `attention` is given
    context : largest number of tokens (learned positions), or None for no positions
    norm : the norm in all its places; the wiring's own default is `LayerNorm()`
    attention, mlp : branches; by default causal `Attention(heads)` and `FeedForward()`
    init : name (`INITIALIZATIONS`) or value, for every matrix; None leaves each branch its own (`FanIn()` by default)
    precision : "bfloat16", "float32" or "float64", see `Transformer`

    Errors: ValueError, one line that names the remedy.
    """
    whole("depth", depth)
    whole("width", width)
    whole("heads", heads)
    whole("vocabulary", vocabulary)
    real("embedding_rms", embedding_rms, above=0)
    if context is not None:
        whole("context", context)
    branches = {"attention": attention or Attention(heads), "mlp": mlp or FeedForward()}
    readout: Initialization = FanIn()
    if init is not None:
        readout = initialization(init)
        for kind, branch in branches.items():
            if "weights" not in field_values(branch):
                raise ValueError(f"init is given, but {kind} has no `weights` to be drawn from it: leave init out")
            branches[kind] = dataclasses.replace(branch, weights=readout)
    rows = Embedding(vocabulary, context, embedding_rms)
    stack = staged(chosen(placement, norm), branches, depth)
    return Transformer(stack, width, rows, readout, precision)


def staged(place: Placement, branches: Mapping[str, Any], depth: int) -> Stack:
    """Returns `depth` blocks of a sublayer for each of `branches`, wired as the placement says, without stages of no block."""
    segments = []
    for stage, count in zip(place.stages, place.counts(depth), strict=True):
        if count:
            wirings = wirings_of(stage, len(branches), place.name)
            named = zip(branches, wirings, branches.values(), strict=True)
            block = tuple(Sublayer(kind, wiring, branch) for kind, wiring, branch in named)
            segments.append(Segment(block, count, fixed=stage.blocks is not None and count < depth))
    return Stack(tuple(segments))


@answering(transformer)
def transformers(*placements: str | Wiring | Placement, **shape) -> dict[str, Transformer]:
    """Returns `{name: transformer(one, **shape)}`: models that differ in their wiring alone, paired seed by seed."""
    if not placements:
        raise ValueError("name at least one wiring, for example transformers('pre', 'post')")
    names = [one if isinstance(one, str) else chosen(one).name for one in placements]
    if len(set(names)) < len(names):
        raise ValueError(f"the wirings need different names, not {names}")
    return {name: transformer(one, **shape) for name, one in zip(names, placements, strict=True)}
