"""One compiled step of training: forward, backward and update of several seeds, with the readings of the backward pass.

    g = ∂loss/∂W on batch s;   W' = W + rate(s) · direction(g)

The reading is of the weights before the update. A NaN or an infinity in one seed does not affect the others: seeds share a
program, never a number. The first place that was not finite is kept for each.

Seeds go through one program in groups: all at once on an accelerator, one by one on a CPU, whose products are slower in
batches, and there side by side. On a mesh a group has a seed for each device along its axis of seeds.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from ..compiling.jitted import for_few_calls, for_many_calls
from ..instruments.backward import gradients
from ..instruments.meters.dropout import Dropout
from ..instruments.meters.parameter_norms import by_parameter
from ..instruments.seeds import drawn, split_seeds
from ..model.equation.sublayer import STREAM_ALONE
from ..model.numerics.devices import EXAMPLE, SEED, everywhere, kept_weights, place, place_weights, ways
from ..model.numerics.threads import side_by_side
from ..model.parameters.keys import at
from ..model.parameters.names import present
from ..programs import program as programs
from .optimizers import direction_of

# Readings that are part of the backward pass of training, with its options.
INLINE: dict[Any, dict] = {
    gradients.economy: {"scope": gradients.STREAM},
    gradients.reading: {},
    gradients.rematerialized: {"kept": STREAM_ALONE},
}
# Quantities in the order in which a step computes them: the codes of `nonfinite_quantity`.
IN_TURN = ("stream_rms", "loss", "stream_gradient", "parameter_gradient")


@dataclass(frozen=True)
class Step:
    """A step as a value: a model, the direction of its updates, the inline reading, the shares dropped out.

    Equal steps share one program, whatever their learning rates.
    """

    model: Any
    direction: optax.GradientTransformation
    inline: Any = gradients.reading
    dropout: float = 0.0
    attention_dropout: float = 0.0
    eps: float | None = None  # Adam's
    mesh: Mesh | None = None

    def start(self, keys) -> dict:
        """Returns the state of every seed before step 0: weights, the optimizer's state, no place that was not finite."""
        return self.state_of(self._drawn(keys))

    def state_of(self, params) -> dict:
        """Returns the state of weights that no update has changed, with a leading seed axis."""
        return {"params": params, **self._untrained(params)}

    def _drawn(self, keys):
        """Returns fresh weights of every seed."""
        return drawn(self.model, keys)

    @for_few_calls(0)
    def _untrained(self, params) -> dict:
        """The rest of the state of weights that no update has changed."""
        never = jnp.full(jax.tree.leaves(params)[0].shape[:1], -1, jnp.int32)
        first = dict.fromkeys(("nonfinite_step", "nonfinite_depth", "nonfinite_quantity"), never)
        return {"optimizer": jax.vmap(self.direction.init)(params), "first": first}

    @for_many_calls(0)
    def __call__(self, state, batch, keys, rate, i):
        """Returns `(state after the update, reading)`, both with a leading seed axis; batch and keys have one too."""
        over_seeds = jax.vmap(self._step, in_axes=(0, 0, 0, None, None))
        after, reading = over_seeds(state, batch, keys, rate, i)
        return kept_weights(self.mesh, after, SEED), everywhere(self.mesh, reading)

    def groups(self, state) -> list:
        """Returns the state of all seeds as groups of them, which one program takes, on the devices of the mesh."""
        of_seeds = split_seeds(state, ways(self.mesh, SEED))
        return [place_weights(self.mesh, group, SEED) for group in of_seeds]

    def over_groups(self, states, batch, keys, rate, i) -> tuple[list, list]:
        """Returns states after the update, and readings, of groups of seeds; `states` is a list, batch and keys are of all."""
        rate, i = jnp.asarray(rate), jnp.asarray(i)
        at_once = ways(self.mesh, SEED)

        def one_group(state, batch, keys) -> tuple:
            seen = place(self.mesh, batch, SEED, EXAMPLE)
            return self(state, seen, place(self.mesh, keys, SEED), rate, i)

        groups = states, split_seeds(batch, at_once), split_seeds(keys, at_once)
        pairs = side_by_side(self.mesh, one_group, *groups)
        return [after for after, _ in pairs], [reading for _, reading in pairs]

    def _step(self, state, batch, key, rate, i):
        params = state["params"]
        dropout = None
        if self.dropout or self.attention_dropout:
            dropout = Dropout(self.dropout, at(key, "dropout", i), self.attention_dropout)
        grads, reading, there = self._read(params, batch, dropout)
        loss = partial(self._loss, batch=batch)
        direction, optimizer = direction_of(
            self.direction, grads, state["optimizer"], params, reading["loss"], value_fn=loss
        )
        updates = jax.tree.map(lambda u: rate.astype(u.dtype) * u, direction)
        first = _first_nonfinite(state["first"], reading, there, i)
        after = {"params": optax.apply_updates(params, updates), "optimizer": optimizer, "first": first}
        return after, {**reading, **first, "learning_rate": rate}

    def _read(self, params, batch, dropout) -> tuple:
        """Returns gradients, reading, and which parameters [S, P] every sublayer has."""
        grads, reading = gradients.backward(self.model, params, batch, **INLINE[self.inline], dropout=dropout)
        stack = self.model.stack
        if self.eps is not None:
            roots = by_parameter(stack, params["stack"], lambda leaf: jnp.asarray(leaf.size**0.5))
            reading["gradient_in_epsilons"] = reading["parameter_gradient"] / roots / self.eps
        return grads, reading, present(stack, params["stack"])

    def _loss(self, params, batch):
        return gradients.bare_loss(self.model, params, batch)


@dataclass(frozen=True)
class StepOfProgram(Step):
    """The same of a `Program`, whose meters are put into its own loss."""

    def _drawn(self, keys):
        """Returns fresh weights of every seed, drawn as the program's author wrote it."""
        return jax.vmap(self.model.init)(keys)

    def _read(self, params, batch, dropout) -> tuple:
        grads, reading, entries = programs.backward(self.model, params, batch)
        if self.inline is gradients.economy:
            reading = {name: reading[name] for name in programs.ECONOMY if name in reading}
        reading.setdefault("parameter_gradient", jnp.zeros(entries.shape))
        if self.eps is not None:
            reading["gradient_in_epsilons"] = reading["parameter_gradient"] / entries**0.5 / self.eps
        return grads, reading, np.isfinite(entries)

    def _loss(self, params, batch):
        return self.model.loss(params, batch)


def _first_nonfinite(first, reading, there, i):
    """Returns step, depth and quantity of the first value that is not finite, in the order in which a step computes them.

    Depth is a stream position: forward the lowest, backward the highest; the top for the loss; for a parameter's gradient
    that of its sublayer's input. `there` says which parameters [S, P] a sublayer has; the reading of another is NaN.
    """
    bad = {name: ~jnp.isfinite(reading[name]) for name in IN_TURN[:-1]}
    bad["parameter_gradient"] = (there & ~jnp.isfinite(reading["parameter_gradient"])).any(-1)
    depths = {
        "stream_rms": jnp.argmax(bad["stream_rms"]),
        "loss": len(bad["stream_rms"]) - 1,
        "stream_gradient": _highest(bad["stream_gradient"]),
        "parameter_gradient": _highest(bad["parameter_gradient"]),
    }
    any_bad = jnp.stack([bad[name].any() for name in IN_TURN])
    depth_of = jnp.stack([jnp.asarray(depths[name], jnp.int32) for name in IN_TURN])
    which = jnp.argmax(any_bad)
    seen_now = {"nonfinite_step": i, "nonfinite_depth": depth_of[which], "nonfinite_quantity": which}
    is_first = any_bad.any() & (first["nonfinite_step"] < 0)
    return {name: jnp.where(is_first, jnp.asarray(seen_now[name], jnp.int32), first[name]) for name in first}


def _highest(flags):
    """Returns the highest position where a flag is set; the top where none is."""
    return len(flags) - 1 - jnp.argmax(flags[::-1])
