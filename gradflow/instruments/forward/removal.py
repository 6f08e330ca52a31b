"""Layer removal: how much the loss grows without a layer, which is replaced by its skip path.

    x' = N_out(A x)            equation (1) with the branch at zero, of the sublayers that are removed

What is around the branch stays: the gain of the skip, and the norm on the path. So a pre-norm sublayer becomes the identity, and
a post-norm one its norm, as if its branch had written zeros; of several lanes each is mixed as before. A removed block is all of
its sublayers at once (Gromov et al. 2024, arXiv 2403.17887, remove several of them; He et al. 2024, arXiv 2406.15786, sublayers).

Axes: B examples; S sublayers, L blocks; R removals.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ...model.equation.sublayer import bind_dynamic_gains, decorated, sublayer, walk, with_context
from ..backward.gradients import mean_and_error


def removal(model, params, batch) -> dict:
    """Returns `sublayer_removal` [S] and `block_removal` [L], nat: the loss without each, minus the whole loss.

    With standard errors over examples, of the paired differences. Cost: S + L + 1 forward passes of the batch.
    """
    kept = _kept(model.stack)

    def of_example(inputs, targets):
        used = with_context(model, params, inputs)
        bottom = model.enter(params, inputs)

        def loss(of_sublayers):
            top, _ = walk(model.stack, used["stack"], bottom, without, of_sublayers)
            return model.loss(used, model.leave(used, top), targets)

        return jax.lax.map(loss, kept)

    losses = jax.vmap(of_example)(batch["inputs"], batch["targets"])  # [B, R]
    growth = losses[:, 1:] - losses[:, :1]
    mean, error = jax.vmap(partial(mean_and_error, model, batch=batch), in_axes=1)(growth)
    size = model.stack.size
    return {
        "sublayer_removal": mean[:size],
        "sublayer_removal_sem": error[:size],
        "block_removal": mean[size:],
        "block_removal_sem": error[size:],
    }


def without(x, parts, kept):
    """Visit: the forward pass, with zeros in the place of what the branch writes where it is not `kept`."""

    def instrument(name, part):
        if name != "write":
            return part

        def written(u):
            term = part(u)
            return jnp.where(kept, term, jnp.zeros_like(term))

        return written

    bound = bind_dynamic_gains(parts, x)
    return sublayer(x, **decorated(bound, instrument)), None


def _kept(stack) -> np.ndarray:
    """Returns which sublayers each pass keeps [1 + S + L, S]: all, all but one, all but those of one block."""
    numbers = np.array(stack.layer_numbers)
    blocks = np.arange(1, stack.depth + 1)
    of_blocks = numbers[None] == blocks[:, None]
    removed = [np.zeros((1, stack.size), bool), np.eye(stack.size, dtype=bool), of_blocks]
    return ~np.concatenate(removed)
