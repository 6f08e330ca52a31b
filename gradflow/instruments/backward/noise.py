"""Gradient noise: how much the gradients of single examples scatter about that of their batch, parameter by parameter.

    tr Σ = (E‖g‖² − ‖E g‖²) B/(B − 1),     B_simple = tr Σ/|G|²,     |G|² = ‖E g‖² − tr Σ/B

(McCandlish et al. 2018, eq. 2.9 and appendix A.1.)

Axes: B examples; S sublayers, P parameter names.
"""

from functools import partial

import jax
import jax.numpy as jnp

from ...model.inputs.batch import shares
from ..meters.parameter_norms import parameter_norms
from .gradients import bare_loss, standard_error


def per_example(model, params, batch) -> dict:
    """Returns norms of the gradients of single examples, `E‖g‖`, and their noise, parameter by parameter.

    That of an example is of its share of the batch's loss, so that their mean is the batch's gradient: where examples have
    different numbers of targets, one with more counts for more.
    `parameter_gradient_per_example` is not the norm of the batch's mean gradient, `‖E g‖`, which `parameter_gradient` is.
    `gradient_variance` is `tr Σ`, and `gradient_noise_scale` is `tr Σ/|G|²`, NaN where noise hides |G|². Errors are jackknives
    over examples. Cost: one backward pass of the batch, and one of each example in turn.
    """
    grad = jax.grad(partial(bare_loss, model))
    mean = grad(params, batch)["stack"]

    def of_example(example_and_share):
        example, share = example_and_share
        alone = jax.tree.map(lambda a: a[None], example)
        gradient_alone = grad(params, alone)["stack"]

        def of_batch(g):
            return share.astype(g.dtype) * g

        gradient = jax.tree.map(of_batch, gradient_alone)
        norms = parameter_norms(model.stack, gradient)
        sums = jax.tree.map(jnp.add, gradient, mean)
        return norms, parameter_norms(model.stack, sums)

    share = shares(model, batch["targets"])
    norms, with_mean = jax.lax.map(of_example, (batch, share))
    return _noise(norms, with_mean, parameter_norms(model.stack, mean))


def _noise(norms, with_mean, mean) -> dict:
    """Returns what `per_example` does, from `‖g_i‖` and `‖g_i + ḡ‖` [B, S, P], and `‖ḡ‖` [S, P]."""
    size = len(norms)
    square = norms**2
    square_of_mean = mean**2
    inner = (with_mean**2 - square - square_of_mean[None]) / 2
    variance, scale = _variance_and_scale(square.mean(0), square_of_mean, size)
    others = max(size - 1, 1)
    total = square.sum(0)
    mean_without = (total[None] - square) / others
    square_of_sum = size**2 * square_of_mean[None] - 2 * size * inner + square
    square_without = square_of_sum / others**2
    variances, scales = _variance_and_scale(mean_without, square_without, others)
    return {
        "parameter_gradient_per_example": norms.mean(0),
        "parameter_gradient_per_example_sem": standard_error(norms),
        "gradient_variance": variance,
        "gradient_variance_sem": _jackknife_error(variances),
        "gradient_noise_scale": scale,
        "gradient_noise_scale_sem": _jackknife_error(scales),
    }


def _variance_and_scale(mean_of_squares, square_of_mean, examples: int):
    """Returns `tr Σ` and `tr Σ/|G|²`, from `E‖g‖²` and `‖E g‖²` over so many examples."""
    if examples == 1:
        unknown = jnp.full_like(square_of_mean, jnp.nan)
        return unknown, unknown
    excess = jnp.maximum(mean_of_squares - square_of_mean, 0)  # negative by rounding alone
    variance = excess * examples / (examples - 1)
    signal = square_of_mean - variance / examples
    return variance, jnp.where(signal > 0, variance / signal, jnp.nan)


def _jackknife_error(values):
    """Returns the standard error from the values [B, …] with one example left out; NaN for fewer than three."""
    size = len(values)
    if size <= 2:
        return jnp.full_like(values[0], jnp.nan)
    return ((size - 1) * jnp.var(values, axis=0)) ** 0.5
