"""Experts: how the router of each sublayer spreads the tokens, from one forward pass.

    load_e = share of the choices that fall on expert e, Σ_e load_e = 1;  1/E each where the load is balanced

Read of every branch that is `Routed`; NaN of others.

Axes: S sublayers; T tokens; E experts, of the sublayer that has most.
"""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from ...model.equation.sublayer import bind, recorded, walk
from ...model.inputs.context import own_inputs, real_tokens
from ...model.numerics.precision import in_precision_of
from ..meters.visits import at_bottom, its_input, with_params


@runtime_checkable
class Routed(Protocol):
    """A branch of experts behind a router, such as `gf.experts.Experts`."""

    router: Any  # of so many `experts`

    def gates(self, params, x) -> Any:
        """Returns the weights of every expert [T, E], zero where one is not chosen."""
        ...


def load(model, params, batch) -> dict:
    """Returns `expert_load` [S, E], `load_violation` [S] and `gate_entropy` [S], over all tokens of the batch but padding.

    Each is the mean over examples of that of an example. Cost: a forward pass of each example, and the routers once more.
    """
    size = _most_experts(model)

    def of_example(inputs):
        real = real_tokens(own_inputs(model, inputs))

        def visit(x, layers_and_params, _):
            layers, of_sublayer = layers_and_params
            parts = bind(layers, of_sublayer)
            y, inputs = recorded(parts, x, at=its_input)
            branch = layers["branch"]
            gates = _of_gates(branch, of_sublayer["branch"], inputs["branch"], size, real)
            return y, gates

        used, x = at_bottom(model, params, inputs)
        _, reports = walk(model.stack, used["stack"], x, visit, bind=with_params)
        return reports

    by_example = jax.vmap(of_example)(batch["inputs"])
    means = jax.tree.map(lambda a: a.mean(0), by_example)
    violation = _violation(means["expert_load"])
    return {**means, "load_violation": violation}


def _most_experts(model) -> int:
    """Returns how many experts the sublayer has that has most; 1 where none has any."""
    most = 1
    for sub in model.stack.different:
        if isinstance(sub.branch, Routed):
            most = max(most, sub.branch.router.experts)
    return most


def _of_gates(branch, params, x, size: int, real) -> dict:
    """Returns the load [E] and the mean entropy of the gates over the tokens of one example; NaN where there are none.

    Of `real` tokens [T] alone, where these are said.
    """
    if not isinstance(branch, Routed):
        return {
            "expert_load": jnp.full(size, jnp.nan, x.dtype),
            "gate_entropy": jnp.full((), jnp.nan, x.dtype),
        }
    gates = branch.gates(in_precision_of(x, params), x)
    chosen = gates > 0
    choices = chosen.astype(gates.dtype)
    by_expert = None if real is None else jnp.broadcast_to(real[:, None], choices.shape)
    load = choices.mean(0, where=by_expert) / choices.sum(-1).mean(where=real)
    share = gates / gates.sum(-1, keepdims=True)
    logs = jnp.log(jnp.where(chosen, share, 1.0))
    by_token = jnp.sum(jnp.where(chosen, share * logs, 0.0), -1)
    entropy = -by_token.mean(where=real)
    beyond = (0, size - len(load))
    return {
        "expert_load": jnp.pad(load.astype(x.dtype), beyond, constant_values=jnp.nan),
        "gate_entropy": entropy.astype(x.dtype),
    }


def _violation(load):
    """Returns `max load/mean load − 1` [S]; NaN where there are no experts."""
    is_expert = ~jnp.isnan(load)
    number = jnp.sum(is_expert, -1, dtype=load.dtype)
    counted = jnp.where(is_expert, load, -jnp.inf)
    largest = jnp.max(counted, -1, initial=-jnp.inf)
    return jnp.where(number > 0, number * largest - 1, jnp.nan)
