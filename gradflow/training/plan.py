"""Plans: what all models of a run share, and what is read of them when. All that can be wrong with it is refused here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from ..instruments.backward import gradients
from ..instruments.backward.updates import UPDATES, OfUpdate
from ..instruments.readings import READINGS
from ..instruments.readings import readings as chosen_readings
from ..instruments.seeds import seed_keys
from ..model.inputs import size
from ..model.inputs.batch import checked, checked_data
from ..results.arguments import known, shown
from ..results.configuration import encode
from .data import Text
from .optimizers import program
from .recipe import Recipe
from .record_schedule import At, Schedule, steps_of
from .step import INLINE, Step

# What is read, from the least that training's own backward pass yields to all there is.
PRESETS: dict[str, tuple] = {
    "economy": ("economy",),
    "standard": ("backward", "update"),
    "full": ("backward", "update", "change", "parameter_gradient_per_example", "partial_jacobian", "spectrum"),
}
TRAINED = 6  # arrays of the size of the weights: weights, two moments, before the update and after it


@dataclass(frozen=True)
class Plan:
    """A run before it is run: data, recipe, one key a seed, steps, those recorded, and what is read.

    `inline` is read of training's own backward pass; `separate` at the steps of each `At`, by passes of its own.
    """

    data: Any
    recipe: Recipe
    keys: Any = field(repr=False)
    steps: int
    kept: tuple[int, ...]
    inline: Callable
    separate: tuple[At, ...]

    @classmethod
    def of(cls, data, recipe: Recipe, key, seeds: int, steps: int, record: Schedule | None, readings) -> "Plan":
        """The plan of a run with these options of `train`.

        Errors: ValueError for a preset, a reading, a step or a number of seeds that there is not, TypeError for what is no data.
        """
        kept, keys = steps_of(record, steps), seed_keys(key, seeds)
        checked_data(data)
        groups = [item if isinstance(item, At) else At(kept, item) for item in _preset(readings)]
        chosen = [At(group.steps, *chosen_readings(group.readings, READINGS | UPDATES)) for group in groups]
        missed = sorted({step for group in chosen for step in group.steps} - set(kept))
        if missed:
            raise ValueError(f"readings are asked for at steps {missed}, but the recorded steps are {kept}")
        every = [reading for group in chosen for reading in group.readings]
        inline: Callable = next((reading for reading in reversed(INLINE) if reading in every), gradients.economy)
        always = {*INLINE, gradients.heldout_loss}  # the loop reads the latter of held-out text, not of the batch
        rest = [At(group.steps, *(r for r in group.readings if r not in always)) for group in chosen]
        return cls(data, recipe, keys, steps, kept, inline, tuple(group for group in rest if group.readings))

    def check(self, models: Mapping) -> None:
        """Refuses what would not fit, and data that a model can't read: a batch, what is held out, all tokens of a text."""
        at_once = 1 if jax.default_backend() == "cpu" else len(self.keys)
        kept: dict[str, Any] = {"copies": TRAINED, "records": len(self.kept), "at_once": at_once, "steps": self.steps}
        size.check(models, self.data, seeds=len(self.keys), **kept)
        of_seeds = checked(self.data.batches(self.keys, 0), models, leading=1)
        checked(self.data.held_out(), models)
        if isinstance(self.data, Text):
            longest = jax.tree.map(lambda a: a[0, :1], of_seeds)
            largest = np.full_like(longest["inputs"], self.data.tokens.max())
            checked({"inputs": largest, "targets": largest}, models)

    @property
    def rates(self) -> np.ndarray:
        """Learning rates of the updates after steps 0 … steps; none follows the last."""
        return np.append(self.recipe.rates(self.steps), np.float32(np.nan))

    def step(self, model) -> Step:
        """What is compiled for a model."""
        return Step(model, self.recipe.direction(), self.inline, self.recipe.dropout, self.recipe.eps)

    def further_at(self, step: int) -> tuple[tuple, tuple]:
        """Readings of the weights at a step, and of the update that follows it: none at the last."""
        due = [reading for group in self.separate if step in group.steps for reading in group.readings]
        updates = tuple(reading for reading in due if isinstance(reading, OfUpdate))
        return tuple(r for r in due if r not in updates), updates if step < self.steps else ()

    def configuration(self, models: Mapping, key) -> dict:
        """What decides the numbers of a run, as plain data."""
        return {
            "models": {name: encode(model) for name, model in models.items()},
            "data": self.data.description(),
            "recipe": encode(self.recipe),
            **self._programs(models),
            "key": str(key),
            "seeds": len(self.keys),
            "steps": self.steps,
            "record": list(self.kept),
            "inline": _name(self.inline),
            "separate": [
                {"steps": list(group.steps), "readings": [*map(_name, group.readings)]} for group in self.separate
            ],
        }

    def _programs(self, models: Mapping) -> dict:
        """What an optax transformation computes for each model; an optimizer that is a value says it by its fields."""
        rule: Any = self.recipe.optimizer
        if not isinstance(rule, optax.GradientTransformation):
            return {}
        shapes = {name: jax.eval_shape(model.init, self.keys[0]) for name, model in models.items()}
        return {"programs": {name: program(rule, params) for name, params in shapes.items()}}


def _name(reading) -> str:
    """What a reading is called, with the options of a `functools.partial`: the same in every process."""
    if isinstance(reading, OfUpdate):
        return _name(reading.function)
    if isinstance(reading, partial):
        options = [*map(repr, reading.args), *(f"{key}={value!r}" for key, value in reading.keywords.items())]
        return f"{_name(reading.func)}({', '.join(options)})"
    return getattr(reading, "__name__", type(reading).__name__)


def _preset(asked: str | Sequence) -> Sequence:
    if isinstance(asked, str):
        return PRESETS.get(asked) or (known("preset or reading", asked, PRESETS, also=READINGS | UPDATES),)
    if not isinstance(asked, Sequence):
        raise ValueError(
            f"readings is {shown(asked)}: a preset ({', '.join(PRESETS)}) or a tuple of readings is needed"
        )
    return asked
