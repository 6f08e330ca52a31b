"""Plans: the data, recipe, keys, steps and readings that all models of a run share; impossible ones are refused here."""

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

# Readings, from the least that training's own backward pass yields to all of them.
PRESETS: dict[str, tuple] = {
    "economy": ("economy",),
    "standard": ("backward", "update"),
    "full": ("backward", "update", "change", "parameter_gradient_per_example", "partial_jacobian", "spectrum"),
}
TRAINED = 6  # arrays of the size of the weights: weights, two moments, before the update and after it


@dataclass(frozen=True)
class Plan:
    """A run before it starts: data, recipe, one key a seed, steps, the recorded steps (`kept`), and the readings.

    `inline` is part of training's own backward pass; `separate` ones take passes of their own, at the steps of each `At`.
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
        """Returns the plan of a run with these options of `train`.

        Errors: ValueError for an unknown preset or reading, an impossible step or number of seeds; TypeError for wrong data.
        """
        kept = steps_of(record, steps)
        keys = seed_keys(key, seeds)
        checked_data(data)
        groups = _groups(_preset(readings), kept)
        _check_recorded(groups, kept)
        every = [reading for group in groups for reading in group.readings]
        inline: Callable = gradients.economy
        for reading in INLINE:  # the last one that is asked for reads all of the others
            if reading in every:
                inline = reading
        separate = []
        for group in groups:
            # The loop itself reads the held-out loss, of held-out text and not of the batch.
            others = [one for one in group.readings if one not in INLINE and one is not gradients.heldout_loss]
            if others:
                separate.append(At(group.steps, *others))
        return cls(data, recipe, keys, steps, kept, inline, tuple(separate))

    def check(self, models: Mapping) -> None:
        """Raises where memory does not suffice, and for data that a model can't read: a batch, the held-out data, any token."""
        seeds = len(self.keys)
        at_once = 1 if jax.default_backend() == "cpu" else seeds
        records = len(self.kept)
        size.check(models, self.data, seeds=seeds, copies=TRAINED, records=records, at_once=at_once, steps=self.steps)
        of_seeds = checked(self.data.batches(self.keys, 0), models, leading=1)
        checked(self.data.held_out(), models)
        if isinstance(self.data, Text):
            largest = np.full_like(of_seeds["inputs"][0, :1], self.data.tokens.max())
            checked({"inputs": largest, "targets": largest}, models)

    @property
    def rates(self) -> np.ndarray:
        """Returns the learning rates of the updates after steps 0 … steps; NaN after the last."""
        return np.append(self.recipe.rates(self.steps), np.float32(np.nan))

    def step(self, model) -> Step:
        """Returns the step that is compiled for a model."""
        return Step(model, self.recipe.direction(), self.inline, self.recipe.dropout, self.recipe.eps)

    def further_at(self, step: int) -> tuple[tuple, tuple]:
        """Returns the separate readings of the weights at a step, and of the update that follows it: none at the last."""
        of_weights, of_updates = [], []
        for group in self.separate:
            if step not in group.steps:
                continue
            for reading in group.readings:
                if isinstance(reading, OfUpdate):
                    of_updates.append(reading)
                else:
                    of_weights.append(reading)
        if step == self.steps:
            of_updates = []
        return tuple(of_weights), tuple(of_updates)

    def configuration(self, models: Mapping, key) -> dict:
        """Returns all that decides the numbers of a run, as plain data."""
        separate = []
        for group in self.separate:
            separate.append({"steps": list(group.steps), "readings": list(map(_name, group.readings))})
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
            "separate": separate,
        }

    def _programs(self, models: Mapping) -> dict:
        """Returns a hash of an optax transformation's program for each model; an optimizer that is a value has its fields."""
        rule: Any = self.recipe.optimizer
        if not isinstance(rule, optax.GradientTransformation):
            return {}
        programs = {}
        for name, model in models.items():
            programs[name] = program(rule, jax.eval_shape(model.init, self.keys[0]))
        return {"programs": programs}


def _groups(asked: Sequence, kept: tuple[int, ...]) -> list[At]:
    """Returns the readings that are asked for by the steps at which they are taken: all recorded ones, unless in an `At`."""
    groups = []
    for item in asked:
        group = item if isinstance(item, At) else At(kept, item)
        groups.append(At(group.steps, *chosen_readings(group.readings, READINGS | UPDATES)))
    return groups


def _check_recorded(groups: list[At], kept: tuple[int, ...]) -> None:
    """Raises where a reading is asked for at a step that is not recorded."""
    asked: set[int] = set()
    for group in groups:
        asked.update(group.steps)
    missed = sorted(asked - set(kept))
    if missed:
        raise ValueError(f"readings are asked for at steps {missed}, but the recorded steps are {kept}")


def _name(reading) -> str:
    """Returns the name of a reading, with the options of a `functools.partial`: the same in every process."""
    if isinstance(reading, OfUpdate):
        return _name(reading.function)
    if isinstance(reading, partial):
        options = list(map(repr, reading.args))
        for key, value in reading.keywords.items():
            options.append(f"{key}={value!r}")
        return f"{_name(reading.func)}({', '.join(options)})"
    return getattr(reading, "__name__", type(reading).__name__)


def _preset(asked: str | Sequence) -> Sequence:
    """Returns the readings of a preset, or the sequence that was asked for."""
    if isinstance(asked, str):
        if asked in PRESETS:
            return PRESETS[asked]
        return (known("preset or reading", asked, PRESETS, also=READINGS | UPDATES),)
    if not isinstance(asked, Sequence):
        presets = ", ".join(PRESETS)
        raise ValueError(f"readings is {shown(asked)}: a preset ({presets}) or a tuple of readings is needed")
    return asked
