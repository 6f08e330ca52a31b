"""What one backward pass reads: loss, stream and parameter gradients, budget, split and signal, all at once.

Every meter of the stack is read by differentiating the loss with respect to its dial, next to the parameters: the
backward pass is the one training does. What it costs beyond is a few reductions a sublayer; how many, a `Scope` says.

A model is anything with `stack`, `init(key)`, `enter(params, inputs) -> x_0`, `leave(params, x_S) -> out` and
`loss(params, out, targets)`, each for one example; `Transformer` is one. `with_context(params, inputs)`, where it has that, makes
the parameters that one example sees in the stack, in `leave` and in `loss`.

Axes: a batch is `{"inputs": [B, …], "targets": [B, …]}`; S sublayers, T tokens, P parameter names.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ...model.equation import budget as accounts
from ...model.equation.budget import METERED
from ...model.equation.sublayer import STREAM_ALONE, products, recorded, walk, with_context
from ...model.inputs.batch import shares
from ...model.inputs.context import own_inputs, real_tokens
from ...model.numerics.precision import wide
from ...model.parameters.keys import at
from ..meters import signal
from ..meters.dropout import Dropout, dropped, in_attention, with_dropout
from ..meters.meter import GAIN, meter, metered, metered_parts, norm
from ..meters.parameter_norms import outer_norms, parameter_norms
from ..meters.visits import first


def metered_signal(x, parts, dials):
    """Visit: meters as the dials say; reports the signal of the sublayer."""
    metered_x = meter(x, dials["stream"])
    y, outputs = recorded(metered_parts(metered_x, parts, dials), metered_x, at=_output)
    return y, signal.of_sublayer(x, outputs["skip"], outputs["write"], dials.get("real"))


def _output(part, u):
    """Returns a part's output and, as its record, the same."""
    output = part(u)
    return output, output


def metered_rms(x, parts, dials):
    """Visit: meters as the dials say; reports the stream's mean square alone."""
    y, _ = metered(x, parts, dials)
    return y, signal.size_of_stream(x, dials.get("real"))


class Scope(NamedTuple):
    """How much of a backward pass is read: the parts with a meter, the visit at a sublayer, and what is read at the top."""

    parts: tuple[str, ...]
    visit: Callable
    top: Callable


WHOLE = Scope(METERED, metered_signal, signal.of_stream)
STREAM = Scope((), metered_rms, signal.size_of_stream)  # loss, stream and parameter gradients, rms: economy


def dials(model, params, batch, gain: float = GAIN, scope: Scope = WHOLE) -> dict:
    """Returns all dials of the model, in depth order, set to `gain`: per token on the stream, one number at each part."""
    x = jax.eval_shape(model.enter, params, first(batch["inputs"]))
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"the stream is {x.dtype}: one of real floating numbers is read; put meters in a loss of your own"
        )
    size = model.stack.size
    tokens = x.shape[-2:-1]

    def set_dials(*shape: int):
        return jnp.full(shape, gain, wide(x.dtype))

    inside = {"stream": set_dials(size, *tokens)}
    for part in scope.parts:
        inside[part] = set_dials(size)
    return {"stack": inside, "top": set_dials(*tokens), "readout": set_dials()}


def metered_loss(
    model,
    params,
    dials,
    batch,
    scope: Scope = WHOLE,
    kept=products,
    dropout: Dropout | None = None,
):
    """Returns the loss of the batch (mean over its targets) and its signal, with a meter behind every dial."""
    visit = scope.visit
    keys = None
    if dropout:
        visit = with_dropout(visit, dropout.rate)
        keys = jax.random.split(dropout.key, len(batch["targets"]))

    def example(inputs, targets, key):
        used = with_context(model, params, inputs)
        x = model.enter(params, inputs)
        real = real_tokens(own_inputs(model, inputs))
        extra = _with_real(dials["stack"], real)
        if dropout:
            at_bottom, *inside = jax.random.split(key, len(extra["stream"]) + 1)
            x = dropped(x, dropout.rate, at_bottom)
            extra = (extra, jnp.stack(inside))
            if dropout.attention:
                probabilities = at(key, "attention")
                sublayers = in_attention(model.stack, used["stack"], dropout.attention, probabilities)
                used = {**used, "stack": sublayers}
        top, signals = walk(model.stack, used["stack"], x, visit, extra, kept=kept)
        out = model.leave(used, meter(top, dials["top"]))
        loss = model.loss(used, meter(out, dials["readout"]), targets)
        return loss, (signals, scope.top(top, real))

    losses, signals = jax.vmap(example)(batch["inputs"], batch["targets"], keys)
    return mean_over_targets(model, losses, batch), jax.tree.map(lambda s: s.mean(0), signals)


def _with_real(dials, real):
    """Returns the dials of the sublayers, and with each of them which tokens are no padding."""
    if real is None:
        return dials
    size = len(dials["stream"])
    return {**dials, "real": jnp.broadcast_to(real, (size, *real.shape))}


def mean_over_targets(model, losses, batch):
    """Returns the loss of a batch from the losses [B] of its examples: the mean over all targets (`inputs.batch.shares`)."""
    share = shares(model, batch["targets"]).astype(losses.dtype)
    return jnp.mean(share * losses)


def example_losses(model, params, batch):
    """Returns the losses [B] of the examples, without instruments."""

    def example(inputs, targets):
        used = with_context(model, params, inputs)
        top, _ = walk(model.stack, used["stack"], model.enter(params, inputs))
        out = model.leave(used, top)
        return model.loss(used, out, targets)

    return jax.vmap(example)(batch["inputs"], batch["targets"])


def bare_loss(model, params, batch):
    """Returns the loss of the batch without instruments: what `metered_loss` equals, bit for bit."""
    return mean_over_targets(model, example_losses(model, params, batch), batch)


def heldout_loss(model, params, batch) -> dict:
    """Returns `heldout_loss` of a batch that is not trained on, with its standard error. Cost: one forward pass."""
    losses = example_losses(model, params, batch)
    mean, error = mean_and_error(model, losses, batch)
    return {"heldout_loss": mean, "heldout_loss_sem": error}


def mean_and_error(model, losses, batch) -> tuple:
    """Returns the mean over all targets, and its standard error over examples, of losses [B], or of what is like one."""
    mean = mean_over_targets(model, losses, batch)
    share = shares(model, batch["targets"]).astype(losses.dtype)
    # Of a ratio of sums, to first order: share · (loss − mean), and the mean.
    about_mean = share * losses - (share - 1) * mean
    return mean, standard_error(about_mean)


def standard_error(values):
    """Returns the standard error of a mean over the first axis; NaN for a single value."""
    size = len(values)
    if size == 1:
        return jnp.full_like(values[0], jnp.nan)
    return jnp.std(values, axis=0, ddof=1) / size**0.5


def backward(model, params, batch, gain: float = GAIN, **how):
    """Returns `(gradients, reading)`: the parameters' gradients, and everything that this one backward pass reads.

    `how` is handed to `metered_loss`: the `scope` of what is read, what is `kept` between the passes (see `walk`), `dropout`.

    The reading has `loss`, `stream_gradient` [S+1], `readout_gradient`, `stream_gradient_by_token` [S+1, T],
    `parameter_gradient` [S, P], `outer_gradient`, `leave_gain` and `stream_rms`; in the whole scope `budget` [S, factor],
    `split` [S, term] and the rest of the signal too. Formulas and units are in `results.quantities`.
    """
    value_and_grad = jax.value_and_grad(partial(metered_loss, **how), argnums=(1, 2), has_aux=True)
    scope = how.get("scope", WHOLE)
    at_gain = dials(model, params, batch, gain, scope)
    (loss, signals), (grads, squares) = value_and_grad(model, params, at_gain, batch)
    return grads, {
        "loss": loss,
        **accounts.backward(squares, root=partial(norm, gain=gain)),
        "parameter_gradient": parameter_norms(model.stack, grads["stack"]),
        "outer_gradient": outer_norms(grads),
        **accounts.signal(*signals),
    }


def reading(model, params, batch) -> dict:
    """Returns what one backward pass reads (see `backward`), without the gradients themselves."""
    _, reading = backward(model, params, batch)
    return reading


def economy(model, params, batch) -> dict:
    """Returns what one backward pass reads at the least cost: loss, stream and parameter gradients, and the stream's rms."""
    _, reading = backward(model, params, batch, scope=STREAM)
    return reading


def rematerialized(model, params, batch) -> dict:
    """Returns what `reading` reads, with the memory of one stream a block. Cost: at most one more forward pass."""
    _, reading = backward(model, params, batch, kept=STREAM_ALONE)
    return reading
