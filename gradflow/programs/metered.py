"""A program with meters behind every position of its stream: what one backward pass reads, without an edit to the program.

    metered = metered(loss_fn, params, batch)
    value, gradients, reading = metered(params, batch)

The loss and its gradients are those of the program as it is written; a meter adds a few reductions.
"""

import jax
import jax.numpy as jnp

from ..instruments.meters import signal
from ..instruments.meters.meter import GAIN, meter, norm
from ..model.equation import budget as accounts
from ..model.numerics.precision import wide
from .evaluation import Seen, evaluate
from .positions import in_depth_order, places, plan, readout, top
from .trunk import Trunk, trunks


def dials(trunks: list[Trunk], gain: float = GAIN) -> dict:
    """Returns the dials of all taps, set to `gain`: by token on the stream where it has the axes batch, token, feature."""
    found: dict = {}
    for number, of in enumerate(trunks):
        for f, (fork, _, repeats) in enumerate(places(of)):
            on_stream = jnp.full((*repeats, *_tokens(fork.below)), gain, wide(fork.below.aval.dtype))
            one = jnp.full(repeats, gain, on_stream.dtype)
            found["fork", number, f] = {"stream": on_stream, "skip": one, "branch": one}
            found["sum", number, f] = one
            found["skip", number, f] = found["branch", number, f] = None
        highest = top(of)
        found["top", number] = jnp.full(_tokens(highest), gain, wide(highest.aval.dtype))
        found["readout", number] = jnp.full((), gain, wide(readout(of).aval.dtype))
    return found


def _tokens(value) -> tuple[int, ...]:
    """Returns the shape of a dial by token."""
    return value.shape[-2:-1] if len(value.shape) == 3 else ()


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


def reading(number: int, of: Trunk, squares: dict, reports: dict, root) -> dict:
    """Returns the quantities of a trunk: of the backward pass from the meters, of the forward pass from reports."""
    forks = range(len(places(of)))

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
    for name in ("skip", "branch"):
        signals[f"{name}_rms"] = ordered(reports.get((name, number, f), jnp.nan) for f in forks)
    accounted = {"stack": stack, "top": squares["top", number], "readout": squares["readout", number]}
    return {**accounts.backward(accounted, root=root), **accounts.signal(signals, reports["top", number])}


class Metered:
    """A loss with meters behind every position of its stream, for arguments of the shapes that it was made with."""

    def __init__(self, loss_fn, params, batch):
        self.program, shape = jax.make_jaxpr(loss_fn, return_shape=True)(params, batch)
        self.parameters = len(jax.tree.leaves(params))
        self.outputs = jax.tree.structure(shape)
        self.trunks = trunks(self.program, self.parameters)
        self.plan = plan(self.trunks)

    def __call__(self, params, batch):
        """Returns `(value, gradients, readings)`: what the loss function returns, its gradients, and a reading of each trunk."""

        def loss(params, dials):
            arguments = [*jax.tree.leaves(params), *jax.tree.leaves(batch)]
            outputs, reports = evaluate(self.plan, tap, self.program, arguments, dials)
            return outputs[0], (outputs, reports)

        differentiated = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        (_, (outputs, reports)), (gradients, squares) = differentiated(params, dials(self.trunks))
        readings = []
        for number, of in enumerate(self.trunks):
            readings.append(reading(number, of, squares, reports, norm))
        return jax.tree.unflatten(self.outputs, outputs), gradients, readings


def metered(loss_fn, params, batch) -> Metered:
    """Returns `metered(params, batch) -> (value, gradients, readings)` of a loss, for arguments of these shapes."""
    return Metered(loss_fn, params, batch)
