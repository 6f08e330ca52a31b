"""Profiles predicted before a weight is drawn: `predict`, what it assumes, and what it refuses.

A prediction has the names, dimensions and coordinates of a measurement, without seeds: norms are roots of mean squares over
draws of the weights, and are compared with the root mean square over seeds, never with the geometric mean. Where a stack has
attention, heads are drawn, and every quantity has the Monte Carlo error of that.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import xarray as xr

from ..model.inputs import size
from ..model.inputs.batch import readable, the_batch
from ..model.layers.layer import Layer
from ..model.layers.norms import LayerNorm
from ..model.numerics.settings import usual_settings
from ..model.parameters.initializers import Initialization
from ..model.parameters.keys import at, root
from ..model.parameters.names import coordinates
from ..model.stacks.admin_profiling import profiled
from ..model.stacks.embedding_readout import Embedding
from ..model.stacks.transformer import Transformer
from ..results.arguments import answering, known, whole
from ..results.digest import digest
from ..results.naming import check_names
from ..results.provenance import provenance
from ..results.quantities import by_what_they_yield, listed
from ..results.tree import Readings, described, label
from . import descent
from .gram import TheoryContext, response

READINGS: dict[str, Callable[..., dict]] = {
    "backward": descent.backward,
    "stream": descent.stream,
    "partial_jacobian": descent.partial_jacobian,
}
ASSUMPTIONS = (
    "infinite width: features are independent, tokens far fewer than features",
    "fresh weights: no sublayer knows another's, and a backward pass of the forward pass only how it leans along the stream",
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
    key=0,
    params=None,
) -> xr.DataTree:
    """Profiles at initialization, expected over all draws of the weights, for the real tokens; the schema of `measure`.

    Parameters
    ----------
    models : a `Transformer`, or `{name: Transformer}`
    data : a `Text`, or a batch `{"inputs": [E, T], "targets": [E, T]}`; the batch that `measure` takes with the same key
    quantities : "backward" (stream, parameter and outer gradients, budget, split, signal, loss), "stream" (of these the
        stream's alone), "partial_jacobian", or names of what they yield
    draws : heads drawn for every attention sublayer, in each of the `replicas`, whose scatter is the Monte Carlo error
    params : refused: trained weights have no theory here

    Returns a `DataTree`, one node a model; every variable has its `_sem`; `theory` at the root says what was assumed.

    Cost: O((ET)²) a sublayer, and for attention `8 E² T³ draws replicas` multiplications and as many for the way back.

    Errors: ValueError or NotImplementedError, one line, for what the theory does not cover.
    """
    if params is not None:
        raise ValueError("theory is of initialization and takes no params: measure trained weights")
    draws, replicas = whole("draws", draws), whole("replicas", replicas, least=2)
    origin, chosen = provenance(), readings(quantities)
    models = models if isinstance(models, Mapping) else {"model": models}
    check_names(models)
    for name, model in models.items():
        refuse(name, model)
    size.check_rows(models, readable(data), draws, replicas)
    batch = the_batch(data, models, key)
    models = profiled(models, batch, key)
    keys = jax.vmap(lambda i: at(root(key), "theory", i))(jnp.arange(replicas))
    predicted = {}
    for name, model in models.items():
        arrays = jax.device_get(over_replicas(model, chosen, draws, batch, keys))
        names = coordinates(model, jax.eval_shape(model.init, keys[0]))
        predicted[name] = Readings(arrays, names, model)
    told = {"assumptions": ASSUMPTIONS, "heads drawn": draws * replicas}
    read: dict = {"data": described(data), "key": str(key), "batch_sha256": digest(batch)}
    return label(predicted, provenance=origin, **read, theory=told)


def readings(quantities: str | Sequence[str]) -> tuple[Callable[..., dict], ...]:
    """The functions behind names, of readings or of what they yield."""
    functions = by_what_they_yield(READINGS) | {"parameter_gradient_per_example": descent.backward}
    names = [known("theory of", name, READINGS, also=functions) for name in listed(quantities)]
    return tuple(dict.fromkeys(functions[name] for name in names))


@partial(jax.jit, static_argnums=(0, 1, 2))
def over_replicas(model: Transformer, chosen, draws: int, batch, keys) -> dict:
    """Mean and standard error over replicas of all the readings in `chosen`."""

    def one(key):
        place = TheoryContext(model.width, batch["inputs"].shape[1], draws, key)
        return {name: a for reading in chosen for name, a in reading(model, batch, place).items()}

    each = jax.lax.map(one, keys)
    sem = {f"{name}_sem": a.std(0, ddof=1) / len(keys) ** 0.5 for name, a in each.items()}
    return {name: a.mean(0) for name, a in each.items()} | sem


def inner_layers(layer) -> Iterator:
    """A layer, and all that it is made of."""
    yield layer
    for field in dataclasses.fields(layer):
        held = vars(layer)[field.name]
        for inner in held if isinstance(held, tuple) else (held,):
            if isinstance(inner, Layer):
                yield from inner_layers(inner)


def refuse(name: str, model) -> None:
    """An error in one line where the theory does not cover a model.

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
    placed = [model.stack.entrance, model.stack.exit]
    for sub in model.stack.different:
        placed += sub.layers.values()
    layers = dict.fromkeys(inner for layer in dict.fromkeys(placed) for inner in inner_layers(layer))
    missing = [type(layer).__name__ for layer in layers if response.dispatch(type(layer)) is response.dispatch(object)]
    if missing:
        raise NotImplementedError(
            f"{name}: no theory for {missing[0]}: say what it does to a Gram matrix by gf.gram.response.register, or measure it"
        )
    uncentred = [type(layer).__name__ for layer in layers if not layer.centred]
    if uncentred and any(isinstance(layer, LayerNorm) for layer in layers):
        raise NotImplementedError(
            f"{name}: LayerNorm subtracts a mean that theory does not carry, and {uncentred[0]} has features whose mean is "
            f"not zero: use RMSNorm, or measure it"
        )
