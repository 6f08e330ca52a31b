"""What a branch at initialization does to a Gram matrix: the matrices, and what acts between them.

Axes: as in `gram`: rows N are example, token.
"""

import jax.numpy as jnp

from ..model.branches import branch as branches
from ..model.layers import norms
from ..model.layers.layer import Identity
from .gram import Gram, Push, Response, TheoryContext, acts_by_row, response
from .kernels import kernel, mean


def inside(layer, hidden: Gram, average, place: TheoryContext) -> Response:
    """Returns the response of a layer that acts between matrices, on features of the mean `average` [N] that are not Gaussian.

    What LayerNorm subtracts is that mean; a tangent has none.

    Errors: NotImplementedError for a layer that does more to a row than multiply it.
    """
    if not acts_by_row(layer):
        raise NotImplementedError(
            f"no theory for {type(layer).__name__} inside a branch: gains and norms have one; measure it"
        )
    normalizing = layer.norm if isinstance(layer, norms.ScaledNorm) else layer
    if isinstance(normalizing, norms.LayerNorm):
        hidden = hidden - jnp.outer(average, average)
    return response(layer, hidden, place)


def plain_product(layer: branches.GatedFeedForward) -> None:
    """Refuses layers on the factors of a gated network.

    Errors: NotImplementedError.
    """
    for place in ("on_gate", "on_up"):
        own = layer.layer_at(place)
        if own != Identity():
            raise NotImplementedError(f"no theory for {type(own).__name__} in front of a gated product: measure it")


def branch(
    layer,
    sigma: Gram,
    place: TheoryContext,
    hidden: Gram,
    paths: dict[str, Push],
    average=None,
    sources_at_hidden: dict[str, Gram] | None = None,
) -> Response:
    """Returns the response of a layer made of matrices, the last of which reads `hidden`, all others the input.

    `paths` takes the Gram matrix of a tangent at the output of each matrix but the last to `hidden`, whose mean is `average`.
    What acts on `hidden` is the branch's `head_gain` and `inner`. Of gains of heads no gradient is predicted: a norm behind them
    takes what they share, one direction of as many as there are heads. It is NaN, not a guess.
    """
    shapes = layer.matrix_shapes(place.width)
    gains = layer.gains(place.width)
    last = list(shapes)[-1]
    if average is None:
        average = jnp.zeros(len(sigma))
    heads = inside(layer.layer_at("head_gain"), hidden, average, place)
    inner = inside(layer.layer_at("inner"), heads.value, average, place)

    def from_hidden(k: Gram) -> Gram:
        return gains[last] * inner.push(heads.push(k))

    def from_matrix(name: str, k: Gram) -> Gram:
        if name == last:
            return k
        return from_hidden(paths[name](k))

    def push(k: Gram) -> Gram:
        pushed = jnp.zeros_like(k)
        for name in paths:
            pushed = pushed + from_matrix(name, gains[name] * k)
        return pushed

    sources = {}
    for name, (fan_in, *_) in shapes.items():
        input_gram = inner.value if name == last else sigma
        sources[name] = from_matrix(name, fan_in * input_gram)
    for name in layer.with_bias(shapes):
        sources[f"{name}.bias"] = from_matrix(name, jnp.ones_like(sigma))
    for name, g in (sources_at_hidden or {}).items():
        sources[name] = from_hidden(g)
    for name, g in inner.sources.items():
        sources[f"inner.{name}"] = gains[last] * g
    return Response(gains[last] * inner.value, push, sources)


@response.register
def _(layer: branches.FeedForward, sigma: Gram, place: TheoryContext) -> Response:
    variance = layer.gains(place.width)["up"] * sigma
    value, slope = kernel(layer.activation, variance)
    average = mean(layer.activation, jnp.diag(variance))

    def by_up(k: Gram) -> Gram:
        return slope * k

    return branch(layer, sigma, place, value, {"up": by_up}, average)


@response.register
def _(layer: branches.GatedFeedForward, sigma: Gram, place: TheoryContext) -> Response:
    plain_product(layer)
    gains = layer.gains(place.width)
    value, slope = kernel(layer.activation, gains["gate"] * sigma)
    linear = gains["up"] * sigma

    def by_gate(k: Gram) -> Gram:
        return linear * slope * k

    def by_up(k: Gram) -> Gram:
        return value * k

    return branch(layer, sigma, place, value * linear, {"gate": by_gate, "up": by_up})
