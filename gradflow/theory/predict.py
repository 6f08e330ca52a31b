"""Profiles predicted before a weight is drawn: `predict`, what it assumes, and what it refuses.

A prediction has the names, dimensions and coordinates of a measurement, without seeds: norms are roots of mean squares over
draws of the weights, and are compared with the root mean square over seeds, never with the geometric mean. Where a stack has
attention, heads are drawn, and every quantity has the Monte Carlo error of that.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import xarray as xr
from jax.sharding import Mesh

from ..compiling.ahead import Ahead
from ..compiling.jitted import for_few_calls
from ..model.inputs import size
from ..model.inputs.batch import readable, the_batch
from ..model.inputs.context import context_of, tokens_of
from ..model.inputs.weights import shapes
from ..model.layers.layer import Layer
from ..model.layers.norms import LayerNorm
from ..model.numerics import devices
from ..model.numerics.settings import usual_settings
from ..model.numerics.threads import side_by_side
from ..model.parameters.initializers import Initialization
from ..model.parameters.keys import at, root
from ..model.parameters.names import coordinates, parameter_count
from ..model.stacks.admin_profiling import profiled
from ..model.stacks.embedding_readout import Embedding
from ..model.stacks.transformer import Transformer
from ..progress import Waiting
from ..results.agreement import squared
from ..results.arguments import answering, known, whole
from ..results.digest import digest
from ..results.fields import field_values
from ..results.naming import check_names
from ..results.provenance import provenance
from ..results.quantities import by_what_they_yield, listed
from ..results.resources import Clock
from ..results.tree import Readings, described, label
from . import descent
from .gram import TheoryContext, response

READINGS: dict[str, Callable[..., dict]] = {
    "backward": descent.backward,
    "stream": descent.stream,
    "partial_jacobian": descent.partial_jacobian,
}
# Where the entries of Gram matrices scatter as means over the model's features do, and what is assumed of the width.
SCATTER = {
    "none": "infinite width: features are independent, tokens far fewer than features",
    "place": "infinite width: features are independent, tokens far fewer than features; query and key gradients have the scatter "
    "of the tokens at their own place, not what sublayers further down add to it",
    "stream": "features are independent, and as many as the model has: a replica has Gram matrices of its own",
}
SCATTERED = {"place": "features", "stream": "stream_features"}  # fields of `TheoryContext` that are then the width
ASSUMPTIONS = (
    "fresh weights: sublayers are independent of each other, and the backward pass of the forward pass, except that the loss "
    "gradient has a nonzero mean along the stream",
    "a readout of its own weights",
)


@answering()
@usual_settings()
def predict(
    models: Transformer | Mapping[str, Transformer],
    data,
    *,
    quantities: str | Sequence[str] = ("backward",),
    draws: int = 4,
    replicas: int = 8,
    scatter: str = "place",
    key=0,
    params=None,
    mesh: Mesh | None = None,
) -> xr.DataTree:
    """Returns profiles at initialization, expected over all draws of the weights, for the real tokens; the schema of `measure`.

    Parameters
    ----------
    models : a `Transformer`, or `{name: Transformer}`
    data : a `Text`, or a batch `{"inputs": [E, T], "targets": [E, T]}`, of texts padded or packed too; the batch that
        `measure` takes with the same key
    quantities : "backward" (stream, parameter and outer gradients, budget, split, signal, loss), "stream" (of these the
        stream's alone), "partial_jacobian", or names of what they yield
    draws : heads drawn for every attention sublayer, in each of the `replicas`, whose scatter is the Monte Carlo error
    scatter : where Gram matrices scatter as means over the model's features do: "none", the limit of infinite width; "place", in
        query and key gradients at their own place; "stream", at every sublayer. Of the last a replica is like a seed: take some
        hundred, since the errors are those of as many seeds
    params : refused: trained weights have no theory here
    mesh : devices; replicas are divided along its axis `seed`, examples along `example`; there are no weights to divide

    Returns a `DataTree`, one node a model; every variable has its `_sem`; `theory` at the root says what was assumed.

    Cost: O((ET)²) a sublayer, and for attention `8 E² T³ draws replicas` multiplications and as many for the way back.

    Errors: ValueError or NotImplementedError, one line, for what the theory does not cover.
    """
    if params is not None:
        raise ValueError("theory is of initialization and takes no params: measure trained weights")
    draws = whole("draws", draws)
    replicas = whole("replicas", replicas, least=2)
    known("scatter", scatter, SCATTER)
    mesh = devices.automatic(mesh)
    devices.check_divides(mesh, devices.SEED, replicas, "replicas")
    origin, clock = provenance(), Clock()
    chosen = readings(quantities)
    if not isinstance(models, Mapping):
        models = {"model": models}
    check_names(models)
    for name, model in models.items():
        refuse(name, model)
    size.check_rows(models, readable(data), draws, replicas)
    batch = _known_batch(data, models, key, scatter)
    devices.check_examples(mesh, batch)
    models = profiled(models, batch, key)
    origin_key = root(key)
    keys = jax.vmap(lambda replica: at(origin_key, "theory", replica))(jnp.arange(replicas))
    predicted = _predicted(models, (chosen, draws, scatter), batch, keys, mesh)
    return label(
        predicted,
        provenance={**origin, "resources": clock.used()},
        data=described(data),
        key=str(key),
        batch_sha256=digest(batch),
        theory={
            "assumptions": (SCATTER[scatter], *ASSUMPTIONS),
            "heads drawn": draws * replicas,
            "quantities": listed(quantities),
            "draws": draws,
            "replicas": replicas,
            "scatter": scatter,
        },
        **devices.described(mesh),
    )


def _known_batch(data, models: Mapping[str, Transformer], key, scatter: str):
    """Returns the batch; refuses one that says what theory doesn't know."""
    batch = the_batch(data, models, key)
    said = list(context_of(batch["inputs"]))
    outside = [name for name in ("step", "condition") if name in said]
    if outside:
        raise ValueError(
            f"theory is of step 0 and a condition of zero, and the batch says its {outside[0]}: leave it out"
        )
    if scatter == "stream" and said:
        raise ValueError(
            f"features are drawn for examples of tokens alone, and the batch says {said[0]}: take scatter='place'"
        )
    return batch


def _predicted(models: Mapping[str, Transformer], how: tuple, batch, keys, mesh: Mesh | None) -> dict[str, Readings]:
    """Returns the readings of every model; `how` are the arguments of `over_replicas` between model and batch."""
    placed = devices.place(mesh, batch, devices.EXAMPLE), devices.place(mesh, keys, devices.SEED)
    with Waiting("predict") as bar, Ahead() as ahead:
        for name, model in models.items():
            foresees = partial(ahead.compile, name) if mesh is None else ahead.count
            foresees(over_replicas, model, *how, batch, keys, mesh)
            bar.expect(ahead.seconds)

        def of_model(name: str, model: Transformer) -> Readings:
            ahead.wait(name)
            arrays = jax.device_get(over_replicas(model, *how, *placed, mesh))
            weights = shapes(model)
            return Readings(arrays, coordinates(model, weights), model, parameter_count(weights))

        return dict(zip(models, side_by_side(mesh, of_model, models, models.values()), strict=True))


def readings(quantities: str | Sequence[str]) -> tuple[Callable[..., dict], ...]:
    """Returns the functions behind names, of readings or of what they yield."""
    functions = by_what_they_yield(READINGS)
    functions["parameter_gradient_per_example"] = descent.backward
    chosen = []
    for quantity in listed(quantities):
        name = known("theory of", quantity, READINGS, also=functions)
        chosen.append(functions[name])
    return tuple(dict.fromkeys(chosen))


@for_few_calls(0, 1, 2, 3, 6)
def over_replicas(model: Transformer, chosen, draws: int, scatter: str, batch, keys, mesh: Mesh | None = None) -> dict:
    """Returns mean and standard error over replicas of all the readings in `chosen`; on a mesh all devices take some."""

    def of_replica(key):
        examples, tokens = tokens_of(batch["inputs"]).shape
        at_width: dict[str, Any] = {SCATTERED[scatter]: model.width} if scatter in SCATTERED else {}
        place = TheoryContext(model.width, tokens, draws, key, examples, **at_width)
        arrays = {}
        for reading in chosen:
            arrays.update(reading(model, batch, place))
        return arrays

    statistics = {}
    for name, values in devices.in_turn(of_replica, keys, devices.ways(mesh, devices.SEED)).items():
        average = root_mean_square if squared(name) else mean
        statistics[name], statistics[f"{name}_sem"] = average(values)
    return devices.everywhere(mesh, statistics)


def mean(values) -> tuple:
    """Returns the mean over replicas, and its standard error."""
    return values.mean(0), values.std(0, ddof=1) / len(values) ** 0.5


def root_mean_square(values) -> tuple:
    """Returns the root of the mean square over replicas, and its standard error."""
    largest = jnp.max(values, axis=0)
    unit = jnp.where(largest > 0, largest, 1)  # of numbers whose squares underflow
    square, error = mean((values / unit) ** 2)
    root = jnp.sqrt(square)
    return unit * root, unit * jnp.where(root == 0, 0, error / (2 * root))


def inner_layers(layer) -> Iterator:
    """Yields a layer, and all that it is made of."""
    yield layer
    for value in field_values(layer).values():
        values = value if isinstance(value, tuple) else (value,)
        for inner in values:
            if isinstance(inner, Layer):
                yield from inner_layers(inner)


def refuse(name: str, model) -> None:
    """Refuses, in one line, a model that the theory does not cover.

    LayerNorm subtracts the mean over features, which is zero where features are linear in fresh weights. A layer of a user's
    that ends otherwise says so by `centred = False`.
    """
    covered = f"{name}: theory covers a Transformer with an Embedding and a readout of its own, not"
    if not isinstance(model, Transformer):
        raise ValueError(f"{covered} a {type(model).__name__}: measure it")
    if not isinstance(model.readout, Initialization) or not isinstance(model.embedding, Embedding):
        raise ValueError(
            f"{covered} one with {model.embedding!r} and {model.readout!r} (tied to the embedding, or your own): measure it"
        )
    if model.embedding.features:
        raise NotImplementedError(f"{name}: no theory of a matrix between token rows and the stream: measure it")
    layers = _all_layers(model)
    _check_responses(name, layers)
    _check_centred(name, layers)


def _check_responses(name: str, layers: list) -> None:
    """Refuses a layer that no response is registered for."""
    for layer in layers:
        if response.dispatch(type(layer)) is response.dispatch(object):
            raise NotImplementedError(
                f"{name}: no theory for {type(layer).__name__}: say what it does to a Gram matrix by "
                f"gf.gram.response.register, or measure it"
            )


def _check_centred(name: str, layers: list) -> None:
    """Refuses a LayerNorm beside a layer that has features whose mean is not zero."""
    if not any(isinstance(layer, LayerNorm) for layer in layers):
        return
    for layer in layers:
        if not layer.centred:
            raise NotImplementedError(
                f"{name}: LayerNorm subtracts a mean that theory does not carry, and {type(layer).__name__} has features "
                f"whose mean is not zero: use RMSNorm, or measure it"
            )


def _all_layers(model: Transformer) -> list:
    """Returns the different layers of a model's stack, and those that they are made of, once each."""
    placed = [model.stack.entrance, model.stack.exit]
    for sub in model.stack.different:
        placed += sub.layers.values()
    layers: dict = {}
    for layer in dict.fromkeys(placed):
        layers.update(dict.fromkeys(inner_layers(layer)))
    return list(layers)
