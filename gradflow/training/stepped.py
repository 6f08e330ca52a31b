"""Data whose batches say their training step, for gains that depend on it."""

from dataclasses import dataclass

import jax.numpy as jnp

from ..model.contracts import Data
from ..model.inputs.context import folded

ALL_IN = 1e9  # a step after the end of every warm-up


@dataclass(frozen=True)
class WithStep:
    """The batches of other data, each example with the step it is for; held-out text is read as after all of training.

    A batch is `{"inputs": {"tokens": [B, T], "step": [B]}, "targets": [B, T]}`.
    """

    data: Data

    def batch(self, key, step: int) -> dict:
        """Returns the batch of a step."""
        return _at_step(self.data.batch(key, step), step)

    def batches(self, keys, step: int) -> dict:
        """Returns one batch a key, stacked."""
        return _at_step(self.data.batches(keys, step), step)

    def held_out(self) -> dict:
        """Returns the held-out examples, at a step where all gains have risen."""
        return _at_step(self.data.held_out(), ALL_IN)

    def description(self) -> dict:
        """Returns the entry about the data in a result."""
        return {**self.data.description(), "step": "said with every batch"}


def _at_step(batch: dict, step: float) -> dict:
    examples = batch["targets"].shape[:-1]
    return folded({**batch, "step": jnp.full(examples, step, jnp.float32)})
