"""What one backward pass reads: loss, stream and parameter gradients, budget, split and signal, all at once.

Every meter of the stack is read by differentiating the loss with respect to its dial, next to the parameters: the
backward pass is the one training does. What it costs beyond is a few reductions a sublayer.

A model is anything with `segments`, `init(key)`, `enter(params, inputs) -> x_0`, `leave(params, x_S) -> out` and
`loss(params, out, targets)`, each for one example; `Transformer` is one.

Axes: a batch is `{"inputs": [B, …], "targets": [B, …]}`; S sublayers, T tokens, P parameter names.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..model import accounts
from ..model.accounts import METERED
from ..model.equation import STREAM_ALONE, decorated, products, recorded, walk
from ..model.names import named, parameter_names
from . import signal
from .meter import GAIN, at_inputs, meter, norm


def dials(model, params, batch, gain: float = GAIN) -> dict:
    """All dials of the model, in depth order, set to `gain`: per token on the stream, one number at each part."""
    x = jax.eval_shape(model.enter, params, jax.tree.map(lambda a: a[0], batch["inputs"]))
    size = sum(segment.repeats * len(segment.block) for segment in model.segments)
    full = lambda *shape: jnp.full(shape, gain, jnp.promote_types(x.dtype, jnp.float32))
    tokens = x.shape[-2:-1]
    inside = {"stream": full(size, *tokens), **{part: full(size) for part in METERED}}
    return {"stack": inside, "top": full(*tokens), "readout": full()}


def metered_signal(x, parts, dials):
    """Visit: meters as the dials say; reports the signal of the sublayer."""
    see = lambda part, u: (y := part(u), y)
    y, seen = recorded(decorated(parts, at_inputs(dials)), meter(x, dials["stream"]), at=see)
    return y, signal.of_sublayer(x, seen["skip"], seen["write"])


def metered_loss(model, params, dials, batch, kept=products):
    """Loss of the batch (mean over examples) and its signal, with a meter behind every dial."""

    def example(inputs, targets):
        x, signals = walk(
            model.segments, params["stack"], model.enter(params, inputs), metered_signal, dials["stack"], kept=kept
        )
        out = model.leave(params, meter(x, dials["top"]))
        return model.loss(params, meter(out, dials["readout"]), targets), (signals, signal.of_stream(x))

    losses, signals = jax.vmap(example)(batch["inputs"], batch["targets"])
    return losses.mean(), jax.tree.map(lambda s: s.mean(0), signals)


def bare_loss(model, params, batch):
    """Loss of the batch without instruments: what `metered_loss` equals, bit for bit."""

    def example(inputs, targets):
        x, _ = walk(model.segments, params["stack"], model.enter(params, inputs))
        return model.loss(params, model.leave(params, x), targets)

    return jax.vmap(example)(batch["inputs"], batch["targets"]).mean()


def backward(model, params, batch, gain: float = GAIN, kept=products):
    """`(gradients, reading)`: the parameters' gradients, and everything that this one backward pass reads.

    `kept` is what is kept between the passes (see `walk`).

    The reading has `loss`, `stream_gradient` [S+1], `readout_gradient`, `stream_gradient_by_token` [S+1, T],
    `parameter_gradient` [S, P], `outer_gradient`, `budget` [S, factor], `leave_gain`, `split` [S, term] and the signal;
    formulas and units are in `results.quantities`.
    """
    value_and_grad = jax.value_and_grad(partial(metered_loss, kept=kept), argnums=(1, 2), has_aux=True)
    (loss, signals), (grads, read) = value_and_grad(model, params, dials(model, params, batch, gain), batch)
    return grads, {
        "loss": loss,
        **accounts.backward(read, root=partial(norm, gain=gain)),
        "parameter_gradient": parameter_norms(model.segments, grads["stack"]),
        "outer_gradient": outer_norms(grads),
        **accounts.signal(*signals),
    }


def reading(model, params, batch) -> dict:
    """What one backward pass reads (see `backward`), without the gradients themselves."""
    return backward(model, params, batch)[1]


def rematerialized(model, params, batch) -> dict:
    """What `reading` reads, with the memory of one stream a block. Cost: at most one more forward pass."""
    return backward(model, params, batch, kept=STREAM_ALONE)[1]


def per_example(model, params, batch) -> dict:
    """`parameter_gradient_per_example`: `E‖g‖` over the examples of the batch, with its standard error.

    It is not the norm of the batch's mean gradient, `‖E g‖`, which `parameter_gradient` is. Cost: one backward pass an
    example, in turn.
    """

    def one(example):
        single = jax.tree.map(lambda a: a[None], example)
        return parameter_norms(model.segments, jax.grad(bare_loss, argnums=1)(model, params, single)["stack"])

    norms = jax.lax.map(one, batch)
    sem = jnp.std(norms, axis=0, ddof=1) / len(norms) ** 0.5 if len(norms) > 1 else jnp.full_like(norms[0], jnp.nan)
    return {"parameter_gradient_per_example": norms.mean(0), "parameter_gradient_per_example_sem": sem}


# ---- norms of parameters by name ----------------------------------------------------------------------------


def frobenius(leaf, gain: float = GAIN):
    """`‖W‖_F`, from squares at the meters' gain, so that float32 does not underflow."""
    return norm(jnp.sum(jnp.square(2.0**gain * leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)))), gain)


def parameter_norms(segments, grads):
    """`‖g‖_F` [S, P] of every parameter of every sublayer; NaN where a sublayer has none of that name.

    A walk over the gradients: what `bind` hands the visit are the sublayer's own.
    """
    names = parameter_names(segments, grads)

    def visit(x, own, _):
        norms = {name: frobenius(leaf) for name, leaf in named(own).items()}
        return x, jnp.stack([norms.get(name, jnp.full_like(x, jnp.nan)) for name in names])

    zero = jnp.zeros((), jnp.result_type(jnp.float32, *jax.tree.leaves(grads)))
    return walk(segments, grads, zero, visit, bind=lambda layers, own: own)[1] if names else np.zeros((0, 0))


def outer_norms(grads):
    """`‖g‖_F` [outer] of every parameter outside the stack, in the order of `outer_names`."""
    outside = named({k: v for k, v in grads.items() if k != "stack"})
    return jnp.stack([frobenius(leaf) for leaf in outside.values()]) if outside else jnp.zeros(0)
