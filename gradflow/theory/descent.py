"""The third reading of equation (1): Gram matrices of tokens up the stack, those of the cotangent down.

Forward, the Gram matrix Σ of the real tokens goes up with that of a tangent, K; backward, that of the cotangent of the loss, or
of a probe, comes down with the cotangent's mean along the stream (`mean_cotangent`). They go through the same `sublayer` and
`walk` as arrays do: a part's value acts on Σ, its linear map on K, and the transposed walk on what comes down.

What is read is read by dials, as meters are: an independent tangent of variance ε at a token adds ε to K's diagonal there, so
the derivative of the end with respect to ε is `E‖∂loss/∂x_t‖²`; one that a weight makes adds ε G, and reads the squared
gradient of the weight.

Axes: rows N of a Gram matrix are (lane,) example, token; E examples, T tokens; S sublayers; P parameter names.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..model.equation import budget as accounts
from ..model.equation.budget import METERED
from ..model.equation.sublayer import recorded, walk
from ..model.inputs.weights import shapes
from ..model.layers.layer import Layer
from ..model.parameters.keys import at
from ..model.parameters.names import outer_names, parameter_names
from ..model.stacks.transformer import Transformer
from ..results.quantities import PROBES
from .embedding_readout import embedded, norm_gain_correction, readout
from .features import at_bottom, behind
from .gram import ROOTS_ALONE, Gram, Response, TheoryContext, on_diagonal
from .mean_cotangent import GramPair, passed, shared
from .rows import Rows

MEAN_SQUARES = {"skip": "skip_rms", "write": "branch_rms"}
STREAM = ("loss", "stream_gradient", "readout_gradient", "stream_rms", "token_cosine")


def named(part: str, response: Response) -> dict[str, Gram]:
    """Returns the sources of a part by the full names of their parameters: `query`, `norm_in.scale`."""
    if part == "branch":
        return response.sources
    return {f"{part}.{name}": g for name, g in response.sources.items()}


class Seen(NamedTuple):
    """What is seen of a part where (1) calls it: Σ behind it, and the names of the parameters that make a tangent there."""

    stream: Gram
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class Acting:
    """A part of (1) as it acts on a pair of Gram matrices, with what its dials add to the tangent."""

    part: str
    layer: Layer
    place: TheoryContext
    rows: Rows
    input_dial: jax.Array  # []
    weight_dials: jax.Array  # [P, E, E], of the parameters `names`
    names: list[str]

    def __call__(self, u: GramPair) -> tuple[GramPair, Seen]:
        """Returns the pair behind the part, and what is seen of it."""
        with_dial = on_diagonal(u.tangent, self.input_dial)
        metered = replace(u, tangent=with_dial)
        key = at(self.place.key, self.part)
        place = self.place._replace(key=key)
        fresh = self.part == "branch"
        y, response = passed(self.layer, metered, place, fresh)
        owner = self.layer.params_from(self.part)
        sources = named(owner, response)
        tangent = y.tangent
        for name, g in sources.items():
            dial = self.weight_dials[self.names.index(name)]
            tangent = tangent + self.rows.by_examples(g, dial)
        return replace(y, tangent=tangent), Seen(y.stream, tuple(sources))

    def on_way(self, way: int) -> Callable:
        """Returns the part for one of the two ways up that `shared` gives."""

        def act(ways: tuple[GramPair, GramPair]) -> tuple[GramPair, Seen]:
            return self(ways[way])

        return act


def _as_it_acts(part: Callable, u):
    """Returns the output of a part and, as its record, what it says is seen of it."""
    return part(u)


def visit(x: GramPair, layers, extra, *, place: TheoryContext, rows: Rows, names: list[str]):
    """One sublayer: Σ and K through (1), with dials on the stream, at the inputs of the parts and on the weights `names`.

    Reports mean squares and token cosine, and for each weight 0, or NaN where no part has one of that name.
    """
    key, dials = extra
    here, acting = place._replace(key=key), {}
    for part, layer in layers.items():
        acting[part] = Acting(part, layer, here, rows, dials["parts"][part], dials["parameter"], names)
    parts: dict[str, Callable] = {**acting}
    parts["skip"] = acting["skip"].on_way(0)
    parts["read"] = acting["read"].on_way(1)
    squares = of_stream(x.stream, rows)
    metered = replace(x, tangent=rows.by_token(x.tangent, dials["stream"]))
    y, seen = recorded(parts, shared(metered, place.width), at=_as_it_acts)
    skip, branch = seen["skip"].stream, seen["write"].stream
    y = replace(y, stream=behind(y.stream, skip, branch, layers["norm_out"], here))
    for part, quantity in MEAN_SQUARES.items():
        squares[quantity] = rows.mean(jnp.diag(seen[part].stream))
    present: set[str] = set()
    for of_part in seen.values():
        present.update(of_part.parameters)
    known = jnp.array([0.0 if name in present else jnp.nan for name in names])
    return y, (squares, known)


def of_stream(sigma: Gram, rows: Rows) -> dict:
    """Returns mean square and token cosine at a position of the stream, the latter of lanes that are not empty."""
    size = len(sigma)
    square = jnp.diag(sigma)
    both = jnp.outer(square, square)
    is_there = both > 0
    different = ~np.eye(size, dtype=bool)
    pairs = rows.sequences(size) & different & is_there
    cosine = sigma * jax.lax.rsqrt(jnp.where(is_there, both, 1))
    return {"stream_rms": rows.mean(square), "token_cosine": rows.mean_over_pairs(cosine, pairs)}


def parameters(model: Transformer) -> tuple[list[str], list[str]]:
    """Returns the names of the parameters inside the stack and outside, as they come in a measurement."""
    weights = shapes(model)
    inside = parameter_names(model.stack, weights["stack"])
    return inside, outer_names(weights)


def at_rest(size: int, rows: Rows, inside: list[str], outside: list[str]) -> dict:
    """Returns all dials of a stack of `size` sublayers, at zero."""
    stack = {
        "stream": jnp.zeros((size, rows.tokens)),
        "parts": {part: jnp.zeros(size) for part in METERED},
        "parameter": jnp.zeros((size, len(inside), rows.examples, rows.examples)),
    }
    return {
        "stack": stack,
        "top": jnp.zeros(rows.tokens),
        "readout": jnp.zeros(()),
        "outer": jnp.zeros(len(outside)),
    }


class OnTheWay(NamedTuple):
    """What is seen on the way up: Σ at the top, the sublayers' reports, and of which parameters a gradient is predicted."""

    top: Gram
    sublayers: dict
    known: jax.Array  # [S, P]: 0, or NaN where none is
    outer_known: jax.Array  # [outer]: whether one is


def through(model: Transformer, batch, place: TheoryContext) -> tuple[Callable, dict]:
    """Returns `end`, and the dials at rest: `end(dials)` is K at the top of the stack, Σ and K at the readout, and `OnTheWay`."""
    rows = Rows.of(batch["inputs"])
    place = place._replace(texts=rows.texts)
    size = len(model.sublayers)
    bottom = embedded(model.embedding, batch["inputs"])
    keys = jax.vmap(lambda l: at(place.key, l))(jnp.arange(size))
    no_params = model.stack.structured([()] * len(model.stack.different))
    inside, outside = parameters(model)
    visit_here = partial(visit, place=place, rows=rows, names=inside)

    def layers_alone(layers, _):
        return layers

    def end(dials):
        outer_dials = dict(zip(outside, dials["outer"], strict=True))

        def with_sources(u: GramPair, sources: dict[str, Gram]) -> GramPair:
            tangent = u.tangent
            for name, g in sources.items():
                tangent = tangent + outer_dials[name] * g
            return replace(u, tangent=tangent)

        tables = named("branch", bottom)
        no_tangent = jnp.zeros_like(bottom.value)
        embedding = with_sources(GramPair(at_bottom(bottom.value, place), no_tangent), tables)
        entered, entrance = passed(model.stack.entrance, embedding, place)
        gains = named("enter", entrance)
        x, (squares, known) = walk(
            model.stack,
            no_params,
            with_sources(entered, gains),
            visit_here,
            (keys, dials["stack"]),
            bind=layers_alone,
            kept=ROOTS_ALONE,
        )
        at_top = rows.by_token(x.tangent, dials["top"])
        top = replace(x, tangent=at_top)
        left, exit_ = passed(model.stack.exit, top, place)
        final_gains = named("leave", exit_)
        left = with_sources(left, final_gains)
        at_readout = on_diagonal(left.tangent, dials["readout"])
        out = replace(left, tangent=at_readout)
        predicted = {*tables, *gains, *final_gains}
        outer_known = jnp.array([name in predicted for name in outside])
        return (top.tangent, out), OnTheWay(top.stream, squares, known, outer_known)

    return end, at_rest(size, rows, inside, outside)


def backward(model: Transformer, batch, place: TheoryContext) -> dict:
    """Returns what one backward pass of the loss reads (`instruments.backward.gradients`), as expected over draws of the weights.

    Norms are roots of mean squares. One transposed walk reads them all. `parameter_gradient_per_example` comes with it: the
    dial of a weight has an entry for every pair of examples, which reads `E⟨g_e, g_f⟩`; the diagonal is one example's, the
    sum the batch's.
    """
    rows = Rows.of(batch["inputs"])
    inside, outside = parameters(model)
    end, dials = through(model, batch, place)
    (top, out), pull, seen = jax.vjp(end, dials, has_aux=True)
    final = readout(model, out.stream, batch["targets"], place._replace(texts=rows.texts))
    of_probe = jnp.zeros_like(top)
    (squares,) = pull((of_probe, final["cotangent"]))
    in_stack = squares["stack"]
    at_parts = {"stream": in_stack["stream"], **in_stack["parts"]}
    pairs = in_stack["parameter"] + seen.known[..., None, None]
    outer_squares = jnp.where(seen.outer_known, squares["outer"], jnp.nan)
    outer = dict(zip(outside, outer_squares, strict=True))
    outer["readout"] = final["readout"]
    last = model.stack.sublayers[-1].wiring
    for name, added in norm_gain_correction(last, seen.top, final["along"], place).items():
        if name in outer:
            outer[name] += added.sum()
        elif name in inside:
            column = inside.index(name)
            by_pair = rows.over_examples(added)
            pairs = pairs.at[-1, column].add(by_pair)
    of_example = jnp.diagonal(pairs, axis1=-2, axis2=-1)
    by_example = _root(of_example)
    outer_squares = jnp.stack(list(outer.values()))
    at_top = of_stream(seen.top, rows)
    return {
        "loss": final["loss"],
        **accounts.backward({**squares, "stack": at_parts}),
        "parameter_gradient": _root(pairs.sum((-2, -1))),
        "parameter_gradient_per_example": rows.examples * by_example.mean(-1),
        "outer_gradient": _root(outer_squares),
        **accounts.signal(seen.sublayers, at_top),
    }


def _root(square):
    """Returns `√x`, of what is zero or, to rounding, below."""
    return jnp.sqrt(jnp.maximum(square, 0))


def stream(model: Transformer, batch, place: TheoryContext) -> dict:
    """Returns of `backward` what is said of the stream alone.

    Nothing else is computed, nor compiled, which takes a third less.
    """
    everything = backward(model, batch, place)
    return {name: everything[name] for name in STREAM}


def partial_jacobian(model: Transformer, batch, place: TheoryContext) -> dict:
    """Returns `partial_jacobian` [S+1, probe], expected over draws of the weights and all probes of a kind.

    An isotropic probe has the Gram matrix I at the top of the stack, a token-common one 1 within an example; padding has none.
    """
    end, dials = through(model, batch, place)
    (top, out), pull, _ = jax.vjp(end, dials, has_aux=True)
    rows = Rows.of(batch["inputs"])
    size = len(top)
    real = rows.real(size)
    probes = {"isotropic": jnp.diag(real), "token_common": rows.sequences(size)}
    of_loss = jax.tree.map(jnp.zeros_like, out)

    def gains(probe):
        of_probe = jnp.asarray(probe, top.dtype) / real.sum()
        (squares,) = pull((of_probe, of_loss))
        below = squares["stack"]["stream"].sum(-1)
        at_top = squares["top"].sum()
        return jnp.append(below, at_top)

    by_probe = [gains(probes[name]) for name in PROBES]
    return {"partial_jacobian": jnp.stack(by_probe, axis=-1)}
