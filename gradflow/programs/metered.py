"""A program with meters behind every position of its stream: what one backward pass reads, without an edit to the program.

    metered = metered(loss_fn, params, batch)
    value, gradients, reading = metered(params, batch)

The loss and its gradients are those of the program as it is written; a meter adds a few reductions.
"""

from functools import partial

import jax
import jax.numpy as jnp

from ..instruments.meters import signal
from ..instruments.meters.meter import GAIN, meter, norm
from ..model.equation import budget as accounts
from ..model.numerics.precision import wide
from .evaluation import Plan, Seen, evaluate
from .positions import READOUT, TOP, in_depth_order, places, plan, readout, top
from .trunk import Trunk, trunk


def dials(of: Trunk, gain: float = GAIN) -> dict:
    """Returns the dials of all taps, set to `gain`: by token on the stream where it has the axes batch, token, feature."""
    found: dict = {}
    for number, (fork, _, repeats) in enumerate(places(of)):
        on_stream = jnp.full((*repeats, *_tokens(fork.below)), gain, wide(fork.below.aval.dtype))
        one = jnp.full(repeats, gain, on_stream.dtype)
        found["fork", number] = {"stream": on_stream, "skip": one, "branch": one}
        found["sum", number] = one
        found["skip", number] = found["branch", number] = None
    found[TOP] = jnp.full(_tokens(top(of)), gain, wide(top(of).aval.dtype))
    found[READOUT] = jnp.full((), gain, wide(readout(of).aval.dtype))
    return found


def _tokens(value) -> tuple[int, ...]:
    """Returns the shape of a dial by token."""
    return value.shape[-2:-1] if len(value.shape) > 2 else ()


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


def backward(of: Trunk, where: Plan, program, arguments, parameters: int, gain: float = GAIN):
    """Returns `(outputs, gradients, reading)` of a program whose first output is the loss."""

    def loss(learned, dials):
        outputs, reports = evaluate(where, tap, program, [*learned, *arguments[parameters:]], dials)
        return outputs[0], (outputs, reports)

    differentiated = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    (_, (outputs, reports)), (gradients, squares) = differentiated(list(arguments[:parameters]), dials(of, gain))
    return outputs, gradients, reading(of, squares, reports, partial(norm, gain=gain))


def reading(of: Trunk, squares: dict, reports: dict, root) -> dict:
    """Returns the quantities of a backward pass from the squares behind its meters, and of the forward pass from its reports."""
    forks = range(len(places(of)))

    def ordered(values) -> jnp.ndarray:
        return in_depth_order(of, list(values))

    stack = {
        "stream": ordered(squares["fork", f]["stream"] for f in forks),
        "skip": ordered(squares["fork", f]["skip"] for f in forks),
        "read": ordered(squares["fork", f]["branch"] for f in forks),
        "norm_out": ordered(squares["sum", f] for f in forks),
    }
    unknown = jnp.full_like(stack["skip"], jnp.nan)
    for part in ("write", "norm_branch", "branch", "norm_in"):
        stack[part] = unknown
    stack["gains"] = jnp.zeros_like(unknown)
    signals = {}
    for name in ("stream_rms", "token_cosine"):
        signals[name] = ordered(reports["fork", f][name] for f in forks)
    for name in ("skip", "branch"):
        signals[f"{name}_rms"] = ordered(reports.get((name, f), jnp.nan) for f in forks)
    return {
        **accounts.backward({"stack": stack, "top": squares[TOP], "readout": squares[READOUT]}, root=root),
        **accounts.signal(signals, reports[TOP]),
    }


def metered(loss_fn, params, batch):
    """Returns `metered(params, batch) -> (value, gradients, reading)` of a loss, for arguments of these shapes."""
    leaves, tree = jax.tree.flatten(params)
    program, shape = jax.make_jaxpr(loss_fn, return_shape=True)(params, batch)
    of = trunk(program, len(leaves))
    where = plan(of)

    def run(params, batch):
        arguments = [*jax.tree.leaves(params), *jax.tree.leaves(batch)]
        outputs, gradients, found = backward(of, where, program, arguments, len(leaves))
        value = jax.tree.unflatten(jax.tree.structure(shape), outputs)
        return value, jax.tree.unflatten(tree, gradients), found

    return run
