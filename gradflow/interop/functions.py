"""Somebody's own layer, a pure function `(params, x) -> x`, as a stack that every instrument reads.

As an instance of equation (1) it has no skip, and the function is the branch: stream gradients, partial Jacobians, the
budget (all fork) and the whole Jacobian of a layer come out of the same code as for a Transformer. What happens inside
the function stays there: for norms and forks apart, give a wiring and a branch.

A Flax NNX module comes in by its two halves, `graph, state = nnx.split(module)`: the layer is
`lambda state, x: nnx.merge(graph, state)(x)`. A Linen or Equinox module likewise, by `module.apply` or `eqx.combine`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..model.stacks.stack import Stack, plain, plain_params


@dataclass(frozen=True)
class FunctionStack:
    """`depth` times `layer(params, x) -> x`, and `objective(params, x, targets) -> scalar` for one example.

    >>> import jax, jax.numpy as jnp, gradflow as gf
    >>> from gradflow.interop.functions import FunctionStack
    >>> stack = FunctionStack(lambda w, x: x + jnp.tanh(x @ w), 3, lambda params, x, y: jnp.mean((x - y) ** 2))
    >>> params = stack.params(jax.random.normal(jax.random.key(0), (2, 3, 8, 8)) / 8)  # 2 seeds, 3 layers
    >>> batch = {"inputs": jnp.ones((4, 5, 8)), "targets": jnp.zeros((4, 5, 8))}
    >>> gf.measure(stack, batch, params=params)["model"]["stream_gradient"].shape
    (2, 4)
    """

    layer: Callable[[Any, Any], Any]
    depth: int
    objective: Callable[[Any, Any, Any], Any]

    @property
    def stack(self) -> Stack:
        """The stack, for `walk`."""
        return plain(self.layer, self.depth)

    def params(self, stacked, **outer) -> dict:
        """Returns parameters from the layer's own, stacked over depth, and those outside the stack by name."""
        return {"stack": plain_params(stacked), **outer}

    def enter(self, params, inputs):
        """Returns the inputs: they are the bottom of the stream."""
        return inputs

    def leave(self, params, x):
        """Nothing lies between the stack and the objective."""
        return x

    def loss(self, params, out, targets):
        """Returns the objective of one example."""
        return self.objective(params, out, targets)
