"""The third reading of equation (1): Gram matrices of tokens up the stack, those of the cotangent down.

Forward, the Gram matrix Σ of the real tokens goes up with that of a tangent, K; backward, that of the cotangent of the loss, or
of a probe, comes down with how the cotangent leans along the stream (`lean`). They go through the same `sublayer` and `walk`
as arrays do: a part's value acts on Σ, its linear map on K, and the transposed walk on what comes down.

What is read is read by dials, as meters are: an independent tangent of variance ε at a token adds ε to K's diagonal there, so
the derivative of the end with respect to ε is `E‖∂loss/∂x_t‖²`; one that a weight makes adds ε G, and reads the squared
gradient of the weight.

Axes: rows N of a Gram matrix are (lane,) example, token; E examples, T tokens; S sublayers; P parameter names.
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..model.equation import budget as accounts
from ..model.equation.budget import METERED
from ..model.equation.sublayer import STREAM_ALONE, sublayer, walk
from ..model.parameters.keys import at
from ..model.parameters.names import outer_names, parameter_names
from ..model.stacks.transformer import Transformer
from ..results.quantities import PROBES
from .embedding_readout import embedded, leaning, readout
from .gram import Gram, Response, TheoryContext, on_diagonal
from .mean_cotangent import GramPair, passed, shared

MEAN_SQUARES = {"skip": "skip_rms", "write": "branch_rms"}
STREAM = ("loss", "stream_gradient", "readout_gradient", "stream_rms", "token_cosine")


class Rows(NamedTuple):
    """What the rows of a Gram matrix are: tokens of examples, perhaps on several lanes, lanes first."""

    examples: int
    tokens: int

    def by_token(self, k: Gram, dial) -> Gram:
        """`K` with the dial of its token [T] on the diagonal of every row."""
        return on_diagonal(k, jnp.tile(dial, len(k) // self.tokens))

    def by_examples(self, g: Gram, dial) -> Gram:
        """`G` with every entry multiplied by the dial of its two examples [E, E]."""
        return (self.paired(g) * dial[None, :, None, None, :, None]).reshape(g.shape)

    def over_examples(self, g: Gram):
        """Sums [E, E] of `G` over the rows of every pair of examples."""
        return self.paired(g).sum((0, 2, 3, 5))

    def paired(self, g: Gram):
        """`G` with the axes lane, example, token of its two rows apart."""
        row = (-1, self.examples, self.tokens)
        return g.reshape(len(g) // (self.examples * self.tokens), *row[1:], *row)

    def sequences(self, size: int) -> np.ndarray:
        """A mask [N, N] of the rows that belong to the same example and lane."""
        sequence = np.arange(size) // self.tokens
        return sequence[:, None] == sequence[None, :]


def named(part: str, made: Response) -> dict[str, Gram]:
    """The sources of a part by the full names of their parameters: `query`, `norm_in.scale`."""
    return {name if part == "branch" else f"{part}.{name}": g for name, g in made.sources.items()}


def visit(x: GramPair, layers, extra, *, place: TheoryContext, rows: Rows, names: list[str]):
    """One sublayer: Σ and K through (1), with dials on the stream, at the inputs of the parts and on the weights `names`.

    Reports mean squares and token cosine, and for each weight 0, or NaN where no part has one of that name.
    """
    key, dials = extra
    squares, present = of_stream(x.stream, rows), set[str]()

    def acting(part, layer):
        """A part on Gram matrices, with what its dials add at its input and, for its weights, at its output."""

        def act(u: GramPair) -> GramPair:
            here = replace(u, tangent=on_diagonal(u.tangent, dials["parts"][part]))
            y, made = passed(layer, here, place._replace(key=at(key, part)), fresh=part == "branch")
            if part in MEAN_SQUARES:
                squares[MEAN_SQUARES[part]] = jnp.mean(jnp.diag(y.stream))
            own = named(layer.params_from(part), made)
            present.update(own)
            weighted = (rows.by_examples(g, dials["parameter"][names.index(name)]) for name, g in own.items())
            return replace(y, tangent=sum(weighted, y.tangent))

        return act

    parts = {part: acting(part, layer) for part, layer in layers.items()}
    ways = {"skip": lambda x: parts["skip"](x[0]), "read": lambda x: parts["read"](x[1])}
    x = replace(x, tangent=rows.by_token(x.tangent, dials["stream"]))
    x = sublayer(shared(x, place.width), **{**parts, **ways})
    known = jnp.array([0.0 if name in present else jnp.nan for name in names])
    return x, (squares, known)


def of_stream(sigma: Gram, rows: Rows) -> dict:
    """Mean square and token cosine at a position of the stream, the latter of lanes that are not empty."""
    square = jnp.diag(sigma)
    both = jnp.outer(square, square)
    pairs = rows.sequences(len(sigma)) & ~np.eye(len(sigma), dtype=bool) & (both > 0)
    cosine = sigma * jax.lax.rsqrt(jnp.where(both > 0, both, 1))
    mean = jnp.sum(jnp.where(pairs, cosine, 0)) / jnp.where(pairs.any(), pairs.sum(), jnp.nan)
    return {"stream_rms": jnp.mean(square), "token_cosine": mean}


def parameters(model: Transformer) -> tuple[list[str], list[str]]:
    """Names of the parameters inside the stack and outside, as they come in a measurement."""
    weights = jax.eval_shape(model.init, jax.random.key(0))
    return parameter_names(model.stack, weights["stack"]), outer_names(weights)


def at_rest(size: int, rows: Rows, inside: list[str], outside: list[str]) -> dict:
    """All dials of a stack of `size` sublayers, at zero."""
    stack = {
        "stream": jnp.zeros((size, rows.tokens)),
        "parts": {part: jnp.zeros(size) for part in METERED},
        "parameter": jnp.zeros((size, len(inside), rows.examples, rows.examples)),
    }
    return {"stack": stack, "top": jnp.zeros(rows.tokens), "readout": jnp.zeros(()), "outer": jnp.zeros(len(outside))}


def through(model: Transformer, batch, place: TheoryContext):
    """`(end, dials, known)`: `end(dials)` is K at the top of the stack, Σ and K at the readout, and what was seen on the way.

    `known` are the parameters outside the stack that make a tangent: those of which a gradient is predicted.
    """
    rows, size = Rows(*batch["inputs"].shape), len(model.sublayers)
    bottom = embedded(model.embedding, batch["inputs"])
    keys = jax.vmap(lambda l: at(place.key, l))(jnp.arange(size))
    nothing = model.stack.structured([()] * len(model.stack.different))
    inside, outside = parameters(model)
    known: set[str] = set()

    def end(dials):
        outer = dict(zip(outside, dials["outer"], strict=True))

        def moved(u: GramPair, part: str, made: Response) -> GramPair:
            sources = named(part, made)
            known.update(sources)
            return replace(u, tangent=sum((outer[name] * g for name, g in sources.items()), u.tangent))

        x = moved(GramPair(bottom.value, jnp.zeros_like(bottom.value)), "branch", bottom)
        x, enter = passed(model.stack.entrance, x, place)
        x, seen = walk(
            model.stack,
            nothing,
            moved(x, "enter", enter),
            partial(visit, place=place, rows=rows, names=inside),
            (keys, dials["stack"]),
            bind=lambda layers, _: layers,
            kept=STREAM_ALONE,
        )
        top = replace(x, tangent=rows.by_token(x.tangent, dials["top"]))
        out, leave = passed(model.stack.exit, top, place)
        out = moved(out, "leave", leave)
        return (top.tangent, replace(out, tangent=on_diagonal(out.tangent, dials["readout"]))), (top.stream, seen)

    return end, at_rest(size, rows, inside, outside), known


def backward(model: Transformer, batch, place: TheoryContext) -> dict:
    """What one backward pass of the loss reads (`instruments.gradients`), as expected over draws of the weights.

    Norms are roots of mean squares. One transposed walk reads them all. `parameter_gradient_per_example` comes with it: the
    dial of a weight has an entry for every pair of examples, which reads `E⟨g_e, g_f⟩`; the diagonal is one example's, the
    sum the batch's.
    """
    end, dials, made = through(model, batch, place)
    (top, out), pull, (sigma, (seen, known)) = jax.vjp(end, dials, has_aux=True)
    final = readout(model, out.stream, batch["targets"], at(place.key, "readout"))
    (read,) = pull((jnp.zeros_like(top), final["cotangent"]))
    squares = {**read, "stack": {"stream": read["stack"]["stream"], **read["stack"]["parts"]}}
    rows, (inside, outside) = Rows(*batch["inputs"].shape), parameters(model)
    pairs = read["stack"]["parameter"] + known[..., None, None]
    by_name = zip(outside, read["outer"], strict=True)
    outer = {name: square if name in made else jnp.full_like(square, jnp.nan) for name, square in by_name}
    outer["readout"] = final["readout"]
    for name, squared in leaning(model.stack.sublayers[-1].wiring, sigma, final["along"], place).items():
        if name in outer:
            outer[name] += squared.sum()
        elif name in inside:
            pairs = pairs.at[-1, inside.index(name)].add(rows.over_examples(squared))
    root = lambda square: jnp.sqrt(jnp.maximum(square, 0))  # a square that is zero may be so to rounding
    one = root(jnp.diagonal(pairs, axis1=-2, axis2=-1))
    return {
        "loss": final["loss"],
        **accounts.backward(squares),
        "parameter_gradient": root(pairs.sum((-2, -1))),
        "parameter_gradient_per_example": pairs.shape[-1] * one.mean(-1),
        "outer_gradient": root(jnp.stack(list(outer.values()))),
        **accounts.signal(seen, of_stream(sigma, rows)),
    }


def stream(model: Transformer, batch, place: TheoryContext) -> dict:
    """Of `backward` what is said of the stream alone: nothing else is computed, nor compiled, which takes a third less."""
    found = backward(model, batch, place)
    return {name: found[name] for name in STREAM}


def partial_jacobian(model: Transformer, batch, place: TheoryContext) -> dict:
    """`partial_jacobian` [S+1, probe], expected over draws of the weights and all probes of a kind.

    An isotropic probe has the Gram matrix I at the top of the stack, a token-common one 1 within an example.
    """
    end, dials, _ = through(model, batch, place)
    (top, out), pull, _ = jax.vjp(end, dials, has_aux=True)
    sequences = Rows(*batch["inputs"].shape).sequences(len(top))
    probes = {"isotropic": np.eye(len(top)), "token_common": sequences}

    def gains(probe):
        (read,) = pull((jnp.asarray(probe, top.dtype) / len(top), jax.tree.map(jnp.zeros_like, out)))
        return jnp.append(read["stack"]["stream"].sum(-1), read["top"].sum())

    return {"partial_jacobian": jnp.stack([gains(probes[name]) for name in PROBES], axis=-1)}
