"""Modules of Flax and Equinox as they are: each as a loss of its parameters and a batch.

    loss_fn, params = program(module, loss=cross_entropy)             NNX, Equinox
    loss_fn, params = program(module, variables, loss=cross_entropy)  Linen

The libraries are imported where a module of theirs comes in: it can't be there without them.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..instruments.backward.loss import library_of
from ..results.arguments import function, shown


class Loss(NamedTuple):
    """A loss `loss_fn(params, batch)` and its parameters."""

    loss_fn: Callable
    params: Any


def cross_entropy(logits, targets):
    """Returns the mean of −log p(target), over logits [..., vocabulary] and integer targets [...]."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    return -jnp.take_along_axis(log_p, targets[..., None], axis=-1).mean()


def is_module(thing) -> bool:
    """Returns whether a thing is a module of NNX, Linen or Equinox."""
    return library_of(thing) in ("flax.nnx", "flax.linen", "equinox")


def program(module: Any, *given: Any, loss: Callable = cross_entropy) -> tuple[Loss, Any]:
    """Returns a module as a program, and the batch, checked; `given` is the batch, for Linen the variables and the batch.

    Errors: TypeError, one line, for the wrong number of arguments or a batch that is none.
    """
    library = library_of(module)
    function("loss", loss)
    expected: tuple[str, ...] = ("batch",)
    if library == "flax.linen":
        expected = ("variables", "batch")
    if len(given) != len(expected):
        raise TypeError(
            f"{type(module).__name__} is a module of {library}, which has {len(given)} arguments: "
            f"gf.measure(module, {', '.join(expected)})"
        )
    inputs, targets = _batch(given[-1])
    if library == "flax.linen":
        apply, params = _linen(module, given[0])
    elif library == "flax.nnx":
        apply, params = _nnx(module)
    else:
        apply, params = _equinox(module)
    return Loss(_loss_of(apply, loss), params), {"inputs": inputs, "targets": targets}


def drawn(make: Callable, loss: Callable = cross_entropy) -> tuple[Callable, Callable]:
    """Returns `loss_fn(params, batch)` and `init(key)` of the modules, of NNX or Equinox, that `make(key)` returns."""
    function("loss", loss)
    example = function("make", make)(jax.random.key(0))
    parts = {"flax.nnx": _nnx, "equinox": _equinox}
    library = str(library_of(example))
    if library not in parts:
        raise TypeError(f"make(key) returns {shown(example)}: a module of NNX or Equinox is needed")
    apply, _ = parts[library](example)

    def init(key):
        _, params = parts[library](make(key))
        return params

    return _loss_of(apply, loss), init


def _loss_of(apply: Callable, loss: Callable) -> Callable:
    """Returns the loss of what a module makes of a batch's inputs, and its targets."""

    def loss_fn(params, batch):
        return loss(apply(params, batch["inputs"]), batch["targets"])

    return loss_fn


def _batch(batch):
    """Returns inputs and targets: of a mapping its entries, of tokens [B, T + 1] all but the last, and all but the first."""
    if isinstance(batch, Mapping):
        if not {"inputs", "targets"} <= set(batch):
            raise ValueError(f"a batch has {', '.join(map(str, batch)) or 'nothing'}: inputs and targets are needed")
        return batch["inputs"], batch["targets"]
    tokens = jnp.asarray(batch)
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise TypeError(
            f"a batch is {shown(batch)}: {{'inputs': …, 'targets': …}} or whole tokens [batch, tokens + 1] are needed"
        )
    return tokens[:, :-1], tokens[:, 1:]


def _nnx(module):
    from flax import nnx

    graph, params, *rest = nnx.split(module, nnx.Param, ...)

    def apply(params, inputs):
        return nnx.merge(graph, params, *rest)(inputs)

    return apply, params


def _linen(module, variables):
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise TypeError(
            f"the variables are {shown(variables)}: what module.init(key, inputs) returns is needed, with its params"
        )
    rest = {name: collection for name, collection in variables.items() if name != "params"}

    def apply(params: Any, inputs: Any):
        made = module.apply({"params": params, **rest}, inputs, mutable=list(rest))
        return made[0]

    return apply, variables["params"]


def _equinox(module):
    import equinox as eqx

    params, rest = eqx.partition(module, eqx.is_inexact_array)

    def apply(params, inputs):
        model = eqx.combine(params, rest)
        of_examples = jax.vmap(model)
        return of_examples(inputs) if _takes(of_examples, inputs) else model(inputs)

    return apply, params


def _takes(model: Callable, inputs) -> bool:
    """Returns whether a model can be called with these inputs: Equinox's modules, mapped, are of one example."""
    try:
        jax.eval_shape(model, inputs)
    except (TypeError, ValueError, IndexError):
        return False
    return True
