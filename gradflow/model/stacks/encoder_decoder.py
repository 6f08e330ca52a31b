"""Encoder and decoder: two stacks, of which the second reads what the first has made, its memory, through cross-attention.

    memory = leave(x_S) of the encoder on the source

Cross-attention (`branches.cross_attention`) closes over the memory, so a sublayer has one input, as in equation (1): to the
stream of the decoder the memory is a constant, as weights are. Each stack is seen as a model of its own, a *side*, in which the
other is a function of it:

    encoder     x_0 from the source, read out as the memory; its loss is that of the decoder on this memory
    decoder     x_0 from the target; `with_context` puts the memory, made from the source, behind its cross-attention

Both are functions of the same weights and have the same loss and the same gradients of all weights: either trains the whole.
A batch is `{"inputs": {"source": [B, S], "target": [B, T]}, "targets": [B, T]}`, `target` what the decoder reads and `targets`
what it is to say. Padding of either is hidden from both stacks, and has no target (`inputs.batch`).

Axes: S tokens of the source, T of the target; d features.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ...results.arguments import of_class
from ...results.configuration import registered
from ..branches.attention import POSITION_BIAS
from ..branches.cross_attention import MEMORY_TEXTS
from ..equation.sublayer import walk
from ..inputs.context import TEXTS_OF, context_of, of_embedding, own_inputs, tokens_of
from ..inputs.weights import shapes
from ..numerics.precision import in_float32, in_precision_of
from ..numerics.settings import usual_settings
from ..parameters.keys import at, root
from .embedding_readout import Readout, Relative, Sinusoidal
from .stack import Stack
from .transformer import check_precision, in_weight_precision


@registered
@dataclass(frozen=True)
class EncoderDecoder:
    """Two stacks over one embedding, by default also the readout: `(params, {"source", "target"}) -> logits` for one example.

    Its parameters are `{"embedding", "encoder", "decoder", "readout"}`, each side's `{"enter", "stack", "leave"}`. `smoothing` is
    that of the labels in the loss, `precision` that of both streams, as of a `Transformer`. `sides` are the models that
    instruments read, each with a node of its own. A profiling pass is not taken here: of Admin, ω is 1.
    """

    encoder_stack: Stack
    decoder_stack: Stack
    width: int
    embedding: Any = Sinusoidal()
    readout: Readout = Readout()
    smoothing: float = 0.0
    precision: str | None = None

    def __post_init__(self):
        check_precision(self.precision)
        for name, stack in self.stacks.items():
            of_class(f"the {name}'s stack", stack, Stack)
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing is {self.smoothing}: a share from 0 to below 1 is needed")
        shapes(self)  # every layer's own checks, before anything is drawn

    @property
    def stacks(self) -> dict[str, Stack]:
        """Both stacks, by the names of their sides."""
        return {"encoder": self.encoder_stack, "decoder": self.decoder_stack}

    @property
    def encoder(self) -> "Encoder":
        """The encoder as a model of its own."""
        return Encoder(self)

    @property
    def decoder(self) -> "Decoder":
        """The decoder as a model of its own."""
        return Decoder(self)

    @property
    def sides(self) -> "dict[str, Side]":
        """Both, by name."""
        return {"encoder": self.encoder, "decoder": self.decoder}

    def at_depth(self, depth: int) -> "EncoderDecoder":
        """Returns the same model with `depth` blocks in either stack."""
        return dataclasses.replace(
            self,
            encoder_stack=self.encoder_stack.at_depth(depth),
            decoder_stack=self.decoder_stack.at_depth(depth),
        )

    @usual_settings()
    def init(self, key):
        """Parameters, float32."""
        key = root(key)
        params = {
            "embedding": self.embedding.init(at(key, "embedding"), self.width),
            "readout": self.readout.init(at(key, "readout"), self.width, self.embedding.vocabulary),
        }
        for name, stack in self.stacks.items():
            params[name] = stack.init(at(key, name), self.width)
        return in_weight_precision(params, self.precision)

    def logits(self, params, out):
        """Returns the logits from what left the decoder's stream, float32 or better."""
        table, own = in_precision_of(out, (params["embedding"]["token"].embedding[...], params["readout"]))
        logits = self.readout(own, table, out)
        return in_float32(logits)

    def loss(self, params, out, targets):
        """Returns the cross-entropy with smoothed labels, mean over the tokens of one example that have a target; nat."""
        losses = smoothed_cross_entropy(self.logits(params, out), jnp.maximum(targets, 0), self.smoothing)
        return losses.mean(where=targets >= 0)

    def __call__(self, params, inputs):
        """Returns the logits [T, V]."""
        side = self.decoder
        own = side.with_context(side.arranged(params), inputs)
        return self.logits(own, side.run(own, side.enter(own, inputs)))


def smoothed_cross_entropy(logits, targets, smoothing: float):
    """Returns `−Σ_v q_v log p_v` [T] with `q = (1 − ε) δ_target + ε/V` (Szegedy et al. 2016, section 7), ε the `smoothing`.

    >>> import jax.numpy as jnp
    >>> smoothed_cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3]), 0.1).round(4).tolist()  # log 4
    [1.386..., 1.386...]
    """
    log_p = jax.nn.log_softmax(logits)
    own = jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
    return -(1 - smoothing) * own - smoothing * log_p.mean(-1)


@dataclass(frozen=True)
class Side:
    """One stack of an `EncoderDecoder` as a model, with the parameters of the other beside it.

    `{"embedding", "readout", "enter", "stack", "leave", <the other side>: {"enter", "stack", "leave"}}`: readings by parameter
    are of this stack, and those of the other are among the outer ones, stacked over depth. Training knows one stack, this one:
    dropout thins it alone, Muon takes its matrices alone. Without these two, both sides train alike.
    """

    whole: EncoderDecoder
    name: ClassVar[str]
    other: ClassVar[str]
    reads: ClassVar[str]

    @property
    def stack(self) -> Stack:
        """As the whole has it."""
        return self.whole.stacks[self.name]

    @property
    def width(self) -> int:
        """Features of the stream."""
        return self.whole.width

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return self.stack.depth

    @property
    def vocabulary(self) -> int:
        """How many different tokens there are, in the source as in the target."""
        return self.whole.embedding.vocabulary

    @property
    def positions(self) -> int | None:
        """The largest number of tokens of either; None: any."""
        return self.whole.embedding.context

    def at_depth(self, depth: int):
        """Returns the same side where both stacks have `depth` blocks."""
        return type(self)(self.whole.at_depth(depth))

    def init(self, key) -> dict:
        """Returns the parameters of the whole, arranged for this side; the same key gives the same weights to both sides."""
        return self.arranged(self.whole.init(key))

    def arranged(self, params) -> dict:
        """Returns the parameters of the whole, arranged for this side."""
        return {**_ends(params), **params[self.name], self.other: params[self.other]}

    def enter(self, params, inputs):
        """Returns the bottom of the stream, from the tokens that this side reads."""
        own = own_inputs(self, inputs)
        x = self.whole.embedding(params["embedding"], tokens_of(own), **of_embedding(own))
        if self.whole.precision:
            x = x.astype(self.whole.precision)
        return self.stack.enter(params["enter"], x)

    def leave(self, params, x):
        """Returns what is read out, from the top of the stream."""
        return self.stack.leave(params["leave"], x)

    def beside_stream(self, params, inputs) -> dict:
        """Returns what attention reads of an example beside the stream: texts, and biases by distance, where there are any."""
        embedding, beside = self.whole.embedding, context_of(own_inputs(self, inputs))
        if isinstance(embedding, Relative):
            beside[POSITION_BIAS] = embedding.biases(params["embedding"], self.name, len(inputs[self.reads]))
        if TEXTS_OF["source"] in inputs:
            beside[MEMORY_TEXTS] = inputs[TEXTS_OF["source"]]
        return beside

    def in_context(self, params, inputs, **memory) -> dict:
        """Returns the parameters with that, and a decoder's memory, beside those of the layers that ask for it."""
        return self.stack.with_context(params, {**self.beside_stream(params, inputs), **memory})

    def run(self, params, x):
        """Returns what is read out, from the bottom of the stream."""
        return self.leave(params, walk(self.stack, params["stack"], x)[0])


def _ends(params) -> dict:
    """Returns the parameters that both sides share."""
    return {name: params[name] for name in ("embedding", "readout")}


@registered
@dataclass(frozen=True)
class Encoder(Side):
    """The encoder, read out as the decoder's memory."""

    name: ClassVar[str] = "encoder"
    other: ClassVar[str] = "decoder"
    reads: ClassVar[str] = "source"

    def with_context(self, params, inputs):
        """Returns the parameters, and with them the tokens that the decoder reads."""
        return {**self.in_context(params, inputs), "inputs": inputs}

    def loss(self, params, out, targets):
        """Returns the loss of the decoder whose memory is `out`."""
        side, inputs = self.whole.decoder, params["inputs"]
        own = side.in_context({**_ends(params), **params["decoder"]}, inputs, memory=out)
        return self.whole.loss(own, side.run(own, side.enter(own, inputs)), targets)


@registered
@dataclass(frozen=True)
class Decoder(Side):
    """The decoder, behind the memory that the encoder makes."""

    name: ClassVar[str] = "decoder"
    other: ClassVar[str] = "encoder"
    reads: ClassVar[str] = "target"

    def with_context(self, params, inputs):
        """Returns the parameters with the memory behind every cross-attention."""
        side = self.whole.encoder
        other = side.in_context({**_ends(params), **params["encoder"]}, inputs)
        memory = side.run(other, side.enter(other, inputs))
        return self.in_context(params, inputs, memory=memory)

    def loss(self, params, out, targets):
        """Returns the loss of the whole, from what left the stream."""
        return self.whole.loss(params, out, targets)
