"""Somebody's own model as a value, a loss and what draws its parameters; and what is read of it beside one backward pass.

    mine = gf.Program(loss_fn, init)
    gf.measure({"mine": mine, "pre": gf.transformer("pre")}, data)
    gf.train({"mine": mine}, data, gf.Recipe(lr=1e-3), steps=100)

Axes: S sublayers, P parameter names.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ..instruments.backward.loss import check_loss, check_parameters
from ..results.arguments import function
from ..results.configuration import registered
from .metered import Traced, norms, read, traced
from .modules import cross_entropy, drawn
from .trunk.coordinates import coordinates
from .trunk.parameters import columns, entries, owned
from .trunk.trunk import Trunk


@registered
@dataclass(frozen=True)
class Program:
    """A loss `loss_fn(params, batch) -> scalar`, or `(scalar, …)`, and `init(key) -> params`; stands where a model can.

    Two functions, as `gf.measure(loss_fn, init, batch)` takes them, rather than a class to inherit from: this is what any
    training script has. As one value they have a name beside other models, whose seeds and batches they share; their residual
    stream is found in the loss.

    Both are functions of JAX: `init` is mapped over keys, `loss_fn` differentiated. Parameters are any pytree of floating arrays.

    >>> import jax, jax.numpy as jnp, gradflow as gf
    >>> def loss_fn(params, batch):
    ...     x = params["embedding"][batch["inputs"]]
    ...     for w in params["layers"]:
    ...         x = x + jnp.tanh(x @ w)
    ...     return jnp.mean((x @ params["embedding"].T - jax.nn.one_hot(batch["targets"], 256)) ** 2)
    >>> def init(key):
    ...     return {"embedding": jax.random.normal(key, (256, 4)), "layers": list(jax.random.normal(key, (3, 4, 4)))}
    >>> tree = gf.measure({"mine": gf.Program(loss_fn, init)}, gf.data.text(context=8, batch=2), seeds=2)
    >>> dict(tree["mine"]["stream_gradient"].sizes)
    {'seed': 2, 'depth': 4}
    """

    loss_fn: Callable
    init: Callable

    def __post_init__(self):
        function("loss_fn", self.loss_fn)
        function("init", self.init)

    @classmethod
    def of(cls, make: Callable, loss: Callable = cross_entropy) -> "Program":
        """Returns the program of the modules, of Flax NNX or Equinox, that `make(key)` returns.

        loss : `(outputs, targets) -> scalar`, as for `gf.measure(module, batch)`

        Trained are NNX's `Param` and Equinox's floating arrays; all else is that of `make(jax.random.key(0))`.
        """
        return cls(*drawn(make, loss))

    def loss(self, params, batch):
        """Returns the loss alone, without what else the function may return."""
        return jax.tree.leaves(self.loss_fn(params, batch))[0]


# ---- readings, as those of models: (program, params, batch) -> {quantity: array} -------------------------------

ECONOMY = (
    "loss",
    "stream_gradient",
    "stream_gradient_by_token",
    "readout_gradient",
    "stream_rms",
    "parameter_gradient",
    "outer_gradient",
)


def backward(program: Program, params, batch) -> tuple:
    """Returns gradients and reading of one backward pass, and how many numbers [S, P] each parameter of a sublayer is."""
    of = traced(program.loss_fn, params, batch)
    trunk = _one_trunk(of)
    _, gradients, readings = read(of, params, batch)
    (reading,) = readings.values()
    own = owned(trunk, len(of.names))
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(params)]
    return gradients, reading, entries(trunk, own, columns(own, of.names), shapes)


def _one_trunk(of: Traced) -> Trunk:
    """Returns the only residual stream of a program.

    Errors: ValueError where there are several.
    """
    if len(of.trunks) > 1:
        raise ValueError(
            f"the loss has {len(of.trunks)} residual streams, and a run of training reads one: gf.measure and gf.metered read all"
        )
    return of.trunks[0]


def check(program: Program, key, batch, heldout) -> None:
    """Refuses a program whose loss can't be differentiated, or has no stream or several, on batches of the data.

    Errors: ValueError or TypeError, one line.
    """
    example = jax.eval_shape(program.init, key)
    check_parameters(example)
    for some in (batch, heldout):
        check_loss(program.loss_fn, example, some)
    _one_trunk(traced(program.loss_fn, example, batch))


def places(program: Program, params, batch) -> dict:
    """Returns the coordinates of a program's readings."""
    of = traced(program.loss_fn, params, batch)
    return coordinates(_one_trunk(of), of.names)


def heldout_loss(program: Program, params, batch) -> dict:
    """Returns `heldout_loss`: without a standard error, since a loss doesn't say how it is made of its examples'."""
    return {"heldout_loss": program.loss(params, batch)}


def update_sizes(program: Program, weights, batch) -> dict:
    """Returns `update_norm` and `update_to_weight` [S, P], and those of the parameters outside; NaN where a weight is zero.

    Angles are not read.
    """
    before, after = weights
    of = traced(program.loss_fn, before, batch)
    trunk = _one_trunk(of)
    change = jax.tree.map(jnp.subtract, after, before)
    arrays = {}
    of_both = zip(("", "outer_"), norms(of, trunk, change), norms(of, trunk, before), strict=True)
    for prefix, moved, size in of_both:
        if moved is not None:
            arrays[f"{prefix}update_norm"] = moved
            arrays[f"{prefix}update_to_weight"] = moved / jnp.where(size > 0, size, jnp.nan)
    return arrays
