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
import numpy as np

from ..model.equation import budget as accounts
from ..model.equation.budget import METERED
from ..model.equation.sublayer import STREAM_ALONE, products, recorded, walk, with_context
from ..model.inputs.batch import shares
from ..model.numerics.precision import common, in_float32, wide
from ..model.parameters.names import named, parameter_names
from . import signal
from .dropout import Dropout, dropped, with_dropout
from .meter import GAIN, meter, metered, metered_parts, norm, squared_modulus


def metered_signal(x, parts, dials):
    """Visit: meters as the dials say; reports the signal of the sublayer."""
    see = lambda part, u: (y := part(u), y)
    metered_x = meter(x, dials["stream"])
    y, seen = recorded(metered_parts(metered_x, parts, dials), metered_x, at=see)
    return y, signal.of_sublayer(x, seen["skip"], seen["write"])


def metered_rms(x, parts, dials):
    """Visit: meters as the dials say; reports the stream's mean square alone."""
    return metered(x, parts, dials)[0], signal.size_of_stream(x)


class Scope(NamedTuple):
    """How much of a backward pass is read: the parts with a meter, the visit at a sublayer, and what is read at the top."""

    parts: tuple[str, ...]
    visit: Callable
    top: Callable


WHOLE = Scope(METERED, metered_signal, signal.of_stream)
STREAM = Scope((), metered_rms, signal.size_of_stream)  # loss, stream and parameter gradients, rms: economy


def dials(model, params, batch, gain: float = GAIN, scope: Scope = WHOLE) -> dict:
    """All dials of the model, in depth order, set to `gain`: per token on the stream, one number at each part."""
    x = jax.eval_shape(model.enter, params, jax.tree.map(lambda a: a[0], batch["inputs"]))
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"the stream is {x.dtype}: one of real floating numbers is read; put meters in a loss of your own"
        )
    size = model.stack.size
    full = lambda *shape: jnp.full(shape, gain, wide(x.dtype))
    tokens = x.shape[-2:-1]
    inside = {"stream": full(size, *tokens), **{part: full(size) for part in scope.parts}}
    return {"stack": inside, "top": full(*tokens), "readout": full()}


def metered_loss(model, params, dials, batch, scope: Scope = WHOLE, kept=products, dropout: Dropout | None = None):
    """Loss of the batch (mean over its targets) and its signal, with a meter behind every dial."""
    visit = with_dropout(scope.visit, dropout.rate) if dropout else scope.visit
    keys = jax.random.split(dropout.key, len(batch["targets"])) if dropout else None

    def example(inputs, targets, key):
        own, x, extra = with_context(model, params, inputs), model.enter(params, inputs), dials["stack"]
        if dropout:
            at_bottom, *inside = jax.random.split(key, len(extra["stream"]) + 1)
            x, extra = dropped(x, dropout.rate, at_bottom), (extra, jnp.stack(inside))
        x, signals = walk(model.stack, own["stack"], x, visit, extra, kept=kept)
        out = model.leave(own, meter(x, dials["top"]))
        return model.loss(own, meter(out, dials["readout"]), targets), (signals, scope.top(x))

    losses, signals = jax.vmap(example)(batch["inputs"], batch["targets"], keys)
    return mean_over_targets(model, losses, batch), jax.tree.map(lambda s: s.mean(0), signals)


def mean_over_targets(model, losses, batch):
    """The loss of a batch from the losses [B] of its examples: the mean over all targets (`model.batch.shares`)."""
    return jnp.mean(shares(model, batch["targets"]).astype(losses.dtype) * losses)


def example_losses(model, params, batch):
    """Losses [B] of the examples, without instruments."""

    def example(inputs, targets):
        own = with_context(model, params, inputs)
        x, _ = walk(model.stack, own["stack"], model.enter(params, inputs))
        return model.loss(own, model.leave(own, x), targets)

    return jax.vmap(example)(batch["inputs"], batch["targets"])


def bare_loss(model, params, batch):
    """Loss of the batch without instruments: what `metered_loss` equals, bit for bit."""
    return mean_over_targets(model, example_losses(model, params, batch), batch)


def heldout_loss(model, params, batch) -> dict:
    """`heldout_loss` of a batch that is not trained on, with its standard error. Cost: one forward pass."""
    losses = example_losses(model, params, batch)
    mean, share = mean_over_targets(model, losses, batch), shares(model, batch["targets"]).astype(losses.dtype)
    about_mean = (
        share * losses - (share - 1) * mean
    )  # of a ratio of sums, to first order: share · (loss − mean), and the mean
    return {"heldout_loss": mean, "heldout_loss_sem": _sem(about_mean)}


def _sem(values):
    """Standard error of a mean over the first axis; NaN for a single value."""
    size = len(values)
    return jnp.std(values, axis=0, ddof=1) / size**0.5 if size > 1 else jnp.full_like(values[0], jnp.nan)


def backward(model, params, batch, gain: float = GAIN, **how):
    """`(gradients, reading)`: the parameters' gradients, and everything that this one backward pass reads.

    `how` is handed to `metered_loss`: the `scope` of what is read, what is `kept` between the passes (see `walk`), `dropout`.

    The reading has `loss`, `stream_gradient` [S+1], `readout_gradient`, `stream_gradient_by_token` [S+1, T],
    `parameter_gradient` [S, P], `outer_gradient`, `leave_gain` and `stream_rms`; in the whole scope `budget` [S, factor],
    `split` [S, term] and the rest of the signal too. Formulas and units are in `results.quantities`.
    """
    value_and_grad = jax.value_and_grad(partial(metered_loss, **how), argnums=(1, 2), has_aux=True)
    set_dials = dials(model, params, batch, gain, how.get("scope", WHOLE))
    (loss, signals), (grads, read) = value_and_grad(model, params, set_dials, batch)
    return grads, {
        "loss": loss,
        **accounts.backward(read, root=partial(norm, gain=gain)),
        "parameter_gradient": parameter_norms(model.stack, grads["stack"]),
        "outer_gradient": outer_norms(grads),
        **accounts.signal(*signals),
    }


def reading(model, params, batch) -> dict:
    """What one backward pass reads (see `backward`), without the gradients themselves."""
    return backward(model, params, batch)[1]


def economy(model, params, batch) -> dict:
    """What one backward pass reads at the least cost: loss, stream and parameter gradients, and the stream's rms."""
    return backward(model, params, batch, scope=STREAM)[1]


def rematerialized(model, params, batch) -> dict:
    """What `reading` reads, with the memory of one stream a block. Cost: at most one more forward pass."""
    return backward(model, params, batch, kept=STREAM_ALONE)[1]


def per_example(model, params, batch) -> dict:
    """Gradients of single examples: their norm `E‖g‖`, and their noise, parameter by parameter.

    That of an example is of its share of the batch's loss, so that their mean is the batch's gradient: where examples have
    different numbers of targets, one with more counts for more.
    `parameter_gradient_per_example` is not the norm of the batch's mean gradient, `‖E g‖`, which `parameter_gradient` is.
    With B examples, `tr Σ = (E‖g‖² − ‖E g‖²) B/(B − 1)` is `gradient_variance`, and `gradient_noise_scale` is
    `tr Σ / |G|²`, `|G|² = ‖E g‖² − tr Σ/B` (McCandlish et al. 2018, eq. 2.9 and appendix A.1), NaN where noise hides |G|².
    Errors are jackknives over examples. Cost: one backward pass of the batch, and one of each example in turn.
    """
    grad = jax.grad(partial(bare_loss, model))
    mean = grad(params, batch)["stack"]

    def one(example_and_share):
        example, share = example_and_share
        own = grad(params, jax.tree.map(lambda a: a[None], example))["stack"]
        own = jax.tree.map(lambda g: share.astype(g.dtype) * g, own)
        norms = parameter_norms(model.stack, own)
        both = parameter_norms(model.stack, jax.tree.map(jnp.add, own, mean))
        return norms, both

    norms, both = jax.lax.map(one, (batch, shares(model, batch["targets"])))
    return _noise(norms, both, parameter_norms(model.stack, mean))


def _noise(norms, both, mean) -> dict:
    """What `per_example` gives, from `‖g_i‖` and `‖g_i + ḡ‖` [B, S, P], and `‖ḡ‖` [S, P]."""
    size, square = len(norms), norms**2
    inner = (both**2 - square - mean[None] ** 2) / 2

    def noise(mean_of_squares, square_of_mean, n):
        excess = jnp.maximum(mean_of_squares - square_of_mean, 0)  # negative by rounding alone
        variance = excess * n / (n - 1) if n > 1 else jnp.full_like(square_of_mean, jnp.nan)
        signal = square_of_mean - variance / n
        return variance, jnp.where(signal > 0, variance / signal, jnp.nan)

    whole = noise(square.mean(0), mean**2, size)
    others = max(size - 1, 1)
    left_out = noise(
        (square.sum(0)[None] - square) / others,
        (size**2 * mean[None] ** 2 - 2 * size * inner + square) / others**2,
        others,
    )
    error = lambda values: ((size - 1) * jnp.var(values, axis=0)) ** 0.5 if size > 2 else jnp.full_like(mean, jnp.nan)
    return {
        "parameter_gradient_per_example": norms.mean(0),
        "parameter_gradient_per_example_sem": _sem(norms),
        "gradient_variance": whole[0],
        "gradient_variance_sem": error(left_out[0]),
        "gradient_noise_scale": whole[1],
        "gradient_noise_scale_sem": error(left_out[1]),
    }


# ---- norms of parameters by name ----------------------------------------------------------------------------


def frobenius(leaf, gain: float = GAIN):
    """`‖W‖_F = √Σ|w|²`, from squares at the meters' gain, so that float32 does not underflow."""
    squares = jnp.sum(squared_modulus(2.0**gain * in_float32(leaf)))
    return norm(squares, gain)


def parameter_norms(stack, grads):
    """`‖g‖_F` [S, P] of every parameter of every sublayer; NaN where a sublayer has none of that name."""
    return by_parameter(stack, grads, frobenius)


def by_parameter(stack, params, of: Callable):
    """`of(leaf)` [S, P] of every parameter of every sublayer; NaN where a sublayer has none of that name.

    A walk over the parameters: what `bind` hands the visit are the sublayer's own.
    """
    names = parameter_names(stack, params)

    def visit(x, own, _):
        found = {name: of(leaf) for name, leaf in named(own).items()}
        return x, jnp.stack([found.get(name, jnp.full_like(x, jnp.nan)) for name in names])

    widest = common(jnp.float32, *jax.tree.leaves(params))
    zero = jnp.zeros((), jnp.finfo(widest).dtype)  # real, as norms of complex parameters are
    return walk(stack, params, zero, visit, bind=lambda layers, own: own)[1] if names else np.zeros((0, 0))


def outer_norms(grads):
    """`‖g‖_F` [outer] of every parameter outside the stack, in the order of `outer_names`."""
    return by_outer(grads, frobenius)


def by_outer(params, of: Callable):
    """`of(leaf)` [outer] of every parameter outside the stack, in the order of `outer_names`."""
    outside = named({k: v for k, v in params.items() if k != "stack"})
    return jnp.stack([of(leaf) for leaf in outside.values()]) if outside else jnp.zeros(0)
