"""A program with meters behind every position of its stream: what one backward pass reads, without an edit to the program.

    metered = gf.metered(loss_fn, params, batch)
    value, gradients, reading = metered(params, batch)

The loss and its gradients are those of the program as it is written; a meter adds a few reductions.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..instruments.backward.loss import check_loss, check_parameters
from ..instruments.meters import signal
from ..instruments.meters.meter import GAIN, as_sharded, metered_identity, norm, tells_shards_apart
from ..model.equation import budget as accounts
from ..model.numerics.precision import wide
from ..model.parameters.names import named, parameter_count
from .trace.evaluation import Plan, Seen, evaluate
from .trunk.coordinates import coordinates
from .trunk.parameters import columns, gradient_norms, norms_along, outer_leaves, owned
from .trunk.positions import in_depth_order, makers, plan, readout, top
from .trunk.search import trunks
from .trunk.trunk import Trunk


def dials(trunks: list[Trunk], gain: float = GAIN) -> dict:
    """Returns the dials of all taps, set to `gain`: by token on the stream where it has the axes batch, token, feature."""
    found: dict = {}
    for number, of in enumerate(trunks):
        for f, (fork, _, repeats) in enumerate(of.places):
            on_stream = jnp.full((*repeats, *_tokens(of, fork.below)), gain, wide(fork.below.aval.dtype))
            one = jnp.full(repeats, gain, on_stream.dtype)
            found["fork", number, f] = {"stream": on_stream, "skip": one, "branch": one}
            found["sum", number, f] = one
            found["skip", number, f] = found["branch", number, f] = None
        highest = top(of)
        found["top", number] = jnp.full(_tokens(of, highest), gain, wide(highest.aval.dtype))
        found["readout", number] = jnp.full((), gain, wide(readout(of).aval.dtype))
    return found


def _tokens(of: Trunk, value) -> tuple[int, ...]:
    """Returns the shape of a dial by token."""
    dimensions = of.lane_dimensions or len(value.shape)
    return value.shape[-2:-1] if dimensions == 3 else ()


def tap(key, value, dial) -> Seen:
    """Returns a value behind its meters, and its signal."""
    match key[0]:
        case "fork":
            metered = meter(value, dial["stream"])
            return Seen(meter(metered, dial["branch"]), meter(metered, dial["skip"]), signal.of_stream(value))
        case "skip" | "branch":
            return Seen(value, None, signal.mean_square(value))
        case "top":
            return Seen(meter(value, dial), None, signal.of_stream(value))
    return Seen(meter(value, dial))


def meter(value, dial):
    """Returns a value behind a meter; under `shard_map` a dial reads all shards, without its check, or `pmap`, each its own."""
    if jax.sharding.get_abstract_mesh().manual_axes:
        dial = as_sharded(dial, value)
    return metered_identity(value, dial)


def mean_over_shards(value):
    """Returns the mean over the shards of a `shard_map`; elsewhere the value itself."""
    axes = jax.sharding.get_abstract_mesh().manual_axes
    return jax.lax.pmean(value, axes) if axes and tells_shards_apart(axes) else value


def reading(number: int, of: Trunk, squares: dict, reports: dict, root) -> dict:
    """Returns the quantities of a trunk: of the backward pass from the meters, of the forward pass from reports."""
    forks = range(len(of.places))

    def ordered(values) -> jnp.ndarray:
        return in_depth_order(of, list(values))

    stack = {
        "stream": ordered(squares["fork", number, f]["stream"] for f in forks),
        "skip": ordered(squares["fork", number, f]["skip"] for f in forks),
        "read": ordered(squares["fork", number, f]["branch"] for f in forks),
        "norm_out": ordered(squares["sum", number, f] for f in forks),
    }
    unknown = jnp.full_like(stack["skip"], jnp.nan)
    for part in ("write", "norm_branch", "branch", "norm_in"):
        stack[part] = unknown
    stack["gains"] = jnp.zeros_like(unknown)
    signals = {}
    for name in ("stream_rms", "token_cosine"):
        signals[name] = ordered(reports["fork", number, f][name] for f in forks)
    untold = [jnp.full(place.repeats, jnp.nan) for place in of.places]  # several skips; branches in no one sum
    for name in ("skip", "branch"):
        signals[f"{name}_rms"] = ordered(reports.get((name, number, f), untold[f]) for f in forks)
    accounted = {"stack": stack, "top": squares["top", number], "readout": squares["readout", number]}
    return {**accounts.backward(accounted, root=root), **accounts.signal(signals, reports["top", number])}


class Traced(NamedTuple):
    """A loss as a program: its equations, the shape of what it returns, its trunks, where their taps are, names of parameters."""

    program: Any
    returned: Any
    trunks: list[Trunk]
    plan: Plan
    names: list[str]


def traced(loss_fn, params, batch) -> Traced:
    """Returns a loss as a program, and its trunks, for arguments of these shapes.

    Errors: `NoTrunk`.
    """
    program, shape = jax.make_jaxpr(loss_fn, return_shape=True)(params, batch)
    found = trunks(program, len(jax.tree.leaves(params)))
    return Traced(found[0].graph.program, jax.tree.structure(shape), found, plan(found), list(named(params)))


def value_gradients_readings(of: Traced, params, batch):
    """Returns what a loss returns, its gradients, and a reading of each trunk."""

    def loss(params, dials):
        arguments = [*jax.tree.leaves(params), *jax.tree.leaves(batch)]
        outputs, reports = evaluate(of.plan, tap, of.program, arguments, dials)
        return outputs[0], (outputs, reports)

    differentiated = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    (_, (outputs, reports)), (gradients, squares) = differentiated(params, dials(of.trunks))
    reports = jax.tree.map(mean_over_shards, reports)
    readings = []
    for number, trunk in enumerate(of.trunks):
        readings.append(reading(number, trunk, squares, reports, norm))
    return jax.tree.unflatten(of.returned, outputs), gradients, readings


def read(of: Traced, params, batch):
    """Returns what a loss returns, its gradients, and all that one backward pass reads of each trunk: `{node: reading}`."""
    value, gradients, readings = value_gradients_readings(of, params, batch)
    loss = mean_over_shards(jax.tree.leaves(value)[0])
    found = {}
    for name, trunk, reading in zip(node_names(of.trunks), of.trunks, readings, strict=True):
        inside, outside = norms(of, trunk, gradients)
        found[name] = {"loss": loss, **reading}
        if inside is not None:
            found[name]["parameter_gradient"] = inside
        if outside is not None:
            found[name]["outer_gradient"] = outside
    return value, gradients, found


def norms(of: Traced, trunk: Trunk, tree) -> tuple:
    """Returns norms of a tree like the parameters: of sublayers' [S, P], and of all others [outer]; None where there are none."""
    leaves = jax.tree.leaves(tree)
    own = owned(trunk, len(leaves))
    by_name = columns(own, of.names)
    outer = [norms_along(leaves[leaf]) for leaf in outer_leaves(own, len(leaves))]
    inside = gradient_norms(trunk, own, by_name, leaves) if by_name else None
    return inside, jnp.stack(outer) if outer else None


class Metered:
    """A loss with meters: `metered(params, batch) -> (value, gradients, reading)`.

    `coordinates` are those of its readings, by node; `parameters` is how many numbers the weights are.
    """

    def __init__(self, loss_fn: Callable, params, batch):
        check_parameters(params)
        check_loss(loss_fn, params, batch)
        of = traced(loss_fn, params, batch)
        self.loss_fn = loss_fn
        self.parameters = parameter_count(params)
        self.coordinates: dict[str, dict] = {}
        for name, trunk in zip(node_names(of.trunks), of.trunks, strict=True):
            self.coordinates[name] = coordinates(trunk, of.names)

    def __call__(self, params, batch):
        """Returns what the loss returns, its gradients, and the reading; of several streams `{name: reading}`."""
        value, gradients, readings = read(traced(self.loss_fn, params, batch), params, batch)
        if len(readings) == 1:
            (reading,) = readings.values()
            return value, gradients, reading
        return value, gradients, readings


def metered(loss_fn: Callable, params, batch) -> Metered:
    """Returns `metered(params, batch) -> (value, gradients, reading)`: a loss with meters behind every position of its stream.

    `value` is what `loss_fn(params, batch)` returns, the loss or `(loss, …)`, and `gradients` are those of the loss; both are
    those of the program as it is written. `reading` has, for the one residual stream of the program, the quantities of one
    backward pass (`gf.quantities()`: loss, stream_gradient [depth], budget, split, signal, norms of the parameters' gradients);
    of several streams `{name: reading}`. `gf.labelled(history, metered)` labels those of a run.

    It is a pure function: under `jit`, `vmap`, `scan`, in gradient accumulation. Inside `shard_map` it reads, as the gradients
    are, the sum of all shards' losses, and the mean of their signals; with the check off, or inside `pmap`, each shard's own.
    Where arguments have other shapes than those here it finds the stream anew.

    Cost: a few reductions of the stream and of its gradient a sublayer; finding the stream takes less than tracing does.

    Errors: ValueError where there is no residual stream, with what goes past; see `gf.measure`.

    >>> import jax.numpy as jnp, gradflow as gf
    >>> def loss_fn(params, x):
    ...     for w in params:
    ...         x = x + jnp.tanh(x @ w)
    ...     return jnp.mean(x**2)
    >>> params, batch = [0.1 * jnp.eye(4)] * 3, jnp.ones((2, 4))
    >>> step = gf.metered(loss_fn, params, batch)
    >>> value, gradients, reading = step(params, batch)
    >>> reading["stream_gradient"].shape, reading["parameter_gradient"].shape
    ((4,), (3, 1))
    """
    return Metered(loss_fn, params, batch)


def called(loss_fn: Callable) -> str:
    """Returns the name of a loss function; a callable object, or one with arguments bound, has none."""
    written = inspect.unwrap(loss_fn)  # jax.jit wraps
    return written.__name__ if inspect.isroutine(written) else "loss"


def written(loss_fn: Callable) -> dict:
    """Returns a program of which the loss alone is known, as results carry it: by name."""
    return {"type": "Program", "loss_fn": loss_fn}


def node_names(trunks: list[Trunk]) -> list[str]:
    """Returns a name for each trunk: `model` for one; of several the scope that is its own, else `stack_1`, …"""
    if len(trunks) == 1:
        return ["model"]
    found = []
    for number, trunk in enumerate(trunks, start=1):
        scopes = [operation.scope.split("/") for operation, _ in makers(trunk)[1:] if operation is not None]
        found.append(_shared(scopes) or f"stack_{number}")
    if len(set(found)) < len(found):
        return [f"stack_{number}" for number in range(1, len(trunks) + 1)]
    return found


def _shared(scopes: list[list[str]]) -> str:
    """Returns the innermost word that all scopes begin with."""
    shared = ""
    for words in zip(*scopes, strict=False):
        if len(set(words)) > 1:
            break
        shared = words[0]
    return shared
